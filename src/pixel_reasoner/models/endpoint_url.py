"""Address and key of an endpoint, as a user gives them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason

KEY_VARIABLE = "OPENAI_API_KEY"


def read_key(path: Path | None) -> str:
    """Return the key in a file, or in the environment; empty where there is none.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").strip()
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a file that contains a key",
            got=f"{path}: {reason(error)}",
            fix="check --key-file",
        ) from error
    if not key:
        raise InputError(
            expected="a file that contains a key",
            got=f"{path}, which is empty",
            fix="write the key there",
        )
    return key


def chat_completions_url(url: str, option: str = "--endpoint") -> str:
    """Return the address of the chat completions of an endpoint.

    Raises:
        UsageError: not an HTTP address, or one with a user or a password, which would appear in messages.

    >>> chat_completions_url("http://localhost:8000/v1/")
    'http://localhost:8000/v1/chat/completions'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            expected="the address of a server",
            got=repr(parts.path if parts.password else url),
            fix=f"such as {option} http://localhost:8000/v1",
        )
    if parts.username or parts.password:
        raise UsageError(
            expected="an address without a user and a password",
            got=f"one of {parts.hostname}",
            fix=f"give the key in the environment variable {KEY_VARIABLE}",
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
    return urlunsplit(parts._replace(path=path, fragment=""))
