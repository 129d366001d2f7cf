"""Validation of the address and the API key of an endpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, unquote_plus, urlsplit, urlunsplit

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import read_secret

KEY_VARIABLE = "OPENAI_API_KEY"
MAX_KEY_BYTES = 16_384
_KEY = re.compile(r"[!#-&(-~]*")
"""printable ASCII without spaces and quotes, as allowed in headers"""
_PUBLIC_PARAMETERS = ("api-version",)
"""query parameters without secrets"""


def read_key(path: Path | None) -> str:
    """Return the key in a file or in the environment; empty if there is none. Surrounding white space is ignored.

    Raises:
        InputError: the file is unreadable, empty, or does not contain a key. No message contains a key.
    """
    if path is None:
        return checked_key(os.environ.get(KEY_VARIABLE, ""), f"the variable {KEY_VARIABLE}")
    expected = "a file that contains a key"
    key = read_secret(path, MAX_KEY_BYTES + 1, expected, "check --key-file")
    if not key.strip():
        raise InputError(
            expected=expected,
            got=f"{path}, which is empty",
            fix="write the key there",
        )
    return checked_key(key, str(path))


def checked_key(text: str, place: str) -> str:
    """Return a key without surrounding white space.

    Args:
        text: the key.
        place: where it was given, for the message.

    Raises:
        InputError: it is not allowed in a header, contains white space, or has quotes.
    """
    key = text.strip()
    if len(key) > MAX_KEY_BYTES:
        found = f"more than {MAX_KEY_BYTES:,} bytes"
    elif _KEY.fullmatch(key):
        return key
    elif any(one in key for one in "\"'"):
        found = "quotes"
    elif any(one.isspace() for one in key):
        found = "white space inside it"
    elif key.isascii():
        found = "control characters"
    else:
        found = "characters that are not ASCII"
    raise InputError(
        expected="a key of printable ASCII characters",
        got=f"{found} in {place}",
        fix="write only the key there, without quotes, on one line",
    )


def chat_completions_url(url: str, option: str = "--endpoint") -> str:
    """Return the URL of the chat completions of an endpoint.

    Raises:
        UsageError: not an HTTP URL, or a URL with a user or a password, which would appear in messages.

    >>> chat_completions_url("http://localhost:8000/v1/")
    'http://localhost:8000/v1/chat/completions'
    """
    try:
        if not url.isprintable() or " " in url:
            raise ValueError("spaces or control characters")
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                expected="a URL without a user and a password",
                got=f"one of {_shown(url)}",
                fix=f"give the key in the environment variable {KEY_VARIABLE}",
            )
        _check_host(parts.scheme, parts.hostname, parts.port)
    except ValueError as error:  # UsageError is one
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            expected="the address of a server",
            got=f"{_shown(url)!r}: {_reason(error)}",
            fix=f"such as {option} http://localhost:8000/v1",
        ) from None
    path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
    return urlunsplit(parts._replace(path=path, fragment=""))


def _check_host(scheme: str, host: str | None, port: int | None) -> None:
    """Raise a `ValueError` if a connection is impossible."""
    if scheme not in ("http", "https"):
        raise ValueError("it does not begin with http:// or https://")
    if not host:
        raise ValueError("no host name")
    if port == 0:
        raise ValueError("port 0")
    host.encode("idna")  # same encoding as in the name lookup of the system


def _reason(error: ValueError) -> str:
    """Return the problem with a URL, without parts of it, which messages of the standard library repeat."""
    if isinstance(error, UnicodeError):
        return "an invalid host name"
    if "port" in str(error).lower():
        return "a port outside of 1 to 65535"
    if "IPv6" in str(error) or "IPv4" in str(error) or "netloc" in str(error):
        return "an invalid host name"
    return str(error)


def _shown(url: str) -> str:
    """Return an invalid URL for a message, without possible user, password, or key in its query.

    >>> _shown("http://me:secret@host/v1?key=secret")
    'http://host/v1'
    """
    scheme = re.match("[a-zA-Z]{0,9}://", url)
    rest = url.rpartition("://")[2].rpartition("@")[2]
    shown = (scheme[0] if scheme else "") + re.split("[?#]", rest, maxsplit=1)[0]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)[:200]


def secrets_of_url(url: str) -> list[str]:
    """Return the query values of a URL, raw and decoded, because one of them may be a key.

    >>> secrets_of_url("https://host/v1?api-version=2024-10-21&key=0123456789")
    ['0123456789']
    """
    fields = [field.partition("=") for field in urlsplit(url).query.split("&")]
    values = [value for name, _, value in fields if name not in _PUBLIC_PARAMETERS]
    decoded = [read(value) for value in values for read in (unquote, unquote_plus)]
    return sorted({*values, *decoded} - {""})
