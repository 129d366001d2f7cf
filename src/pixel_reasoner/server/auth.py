"""Keys of clients. If any are set, every route needs one, except /health and those that a part of the server opens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.server.asgi import App, Receive, Scope, Send, header, send_error
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.settings import ServerSettings

OPEN_PATHS = frozenset({"/health"})
MIN_KEY_CHARS = 16
MAX_KEY_CHARS = 512
ANYONE = "anyone"
"""name of all clients of a server without keys"""


class Key(NamedTuple):
    """Digest of a key and the name of its client. The key itself is not kept."""

    digest: bytes
    client: str


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file: one per line, optionally with the name of the client before it: `alice: KEY`.

    Empty lines and lines that start with # are ignored.

    Raises:
        InputError: an unreadable file.
        UsageError: no key, a short key, or a name that occurs twice.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a readable file of keys", got=f"{path}: {reason(error)}", fix="check the path"
        ) from error
    keys = [
        _key(line.strip(), number, path)
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not keys:
        raise UsageError(
            expected="at least one key", got=f"{path} without any", fix="write one key per line"
        )
    names = [key.client for key in keys]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(
            expected="different names", got=f"{path}: {twice!r} twice", fix="rename one"
        )
    return tuple(keys)


def _key(line: str, number: int, path: Path) -> Key:
    name, colon, key = line.rpartition(":")
    key = key.strip()
    if not MIN_KEY_CHARS <= len(key) <= MAX_KEY_CHARS or not key.isascii() or " " in key:
        raise UsageError(
            expected=f"a key of {MIN_KEY_CHARS} to {MAX_KEY_CHARS} ASCII characters without spaces",
            got=f"another one in line {number} of {path}",
            fix="for example: openssl rand -hex 24",
        )
    digest = hashlib.sha256(key.encode()).digest()
    return Key(digest, name.strip() if colon else f"key-{number}")


def check_exposure(settings: ServerSettings, keys: tuple[Key, ...]) -> None:
    """Raise an error if other machines could use the server without a key.

    Raises:
        UsageError: an address other than loopback, no keys, and no --no-auth.
    """
    if settings.is_loopback or keys or settings.no_auth:
        return
    raise UsageError(
        expected="--key-file with a --host that other machines reach",
        got=f"--host {settings.host} without keys",
        fix="add --key-file FILE, or --no-auth if everybody in this network may use the server",
    )


class AuthMiddleware:
    """Refuse requests without a valid key, and store the name of the client in `scope["state"]["client"]`.

    Args:
        app: the application.
        keys: of clients.
        open_paths: paths that need no key; one that ends with `/*` includes everything below it.
    """

    def __init__(self, app: App, keys: tuple[Key, ...], open_paths: Set[str] = OPEN_PATHS) -> None:
        self.app = app
        self.keys = keys
        self.open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = self._client(header(scope, "authorization") or "")
        if client is None and not self._is_open(scope["path"]):
            await send_error(
                send, ApiError(401, "a valid key is needed: Authorization: Bearer KEY")
            )
            return
        scope.setdefault("state", {})["client"] = client or ANYONE
        await self.app(scope, receive, send)

    def _client(self, authorization: str) -> str | None:
        if not self.keys:
            return ANYONE
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("latin-1")).digest()
        found = None
        for one in self.keys:  # all of them, so that the time does not depend on the position
            if hmac.compare_digest(one.digest, digest):
                found = one.client
        return found if scheme.lower() == "bearer" else None

    def _is_open(self, path: str) -> bool:
        return path in self.open_paths or f"{path.rpartition('/')[0]}/*" in self.open_paths
