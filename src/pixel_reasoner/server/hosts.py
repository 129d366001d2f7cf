"""Checks of the Host and Origin headers of every request, against DNS rebinding and requests of foreign web pages."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from pixel_reasoner.server.asgi import App, Receive, Scope, Send, has_header, header, send_error
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.settings import LOOPBACK_NAMES, ServerSettings

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


def host_name(value: str) -> str | None:
    """Return the name of a Host header in lower case, without port and brackets; None if it is invalid.

    >>> host_name("LocalHost:8008"), host_name("[::1]:8008"), host_name("a@b"), host_name("")
    ('localhost', '::1', None, None)
    """
    found = _HOST.fullmatch(value)
    return found["name"].strip("[]").lower().removesuffix(".") if found else None


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class HostMiddleware:
    """Refuse requests to other names (403) and requests of pages of other origins (403).

    An IP address in the Host header cannot be the result of a rebinding: the browser took it from the address of the
    page. With keys, any name is accepted unless `allowed_hosts` is set, because a foreign page has no key.
    """

    def __init__(self, app: App, settings: ServerSettings, has_keys: bool) -> None:
        self.app = app
        names = {*LOOPBACK_NAMES, settings.host.lower(), *map(str.lower, settings.allowed_hosts)}
        self.names = frozenset(names)
        self.accepts_ip = not settings.is_loopback
        self.accepts_any = has_keys and not settings.is_loopback and not settings.allowed_hosts
        self.origins = frozenset(one.lower().rstrip("/") for one in settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] in ("http", "websocket"):
            error = self.error(scope)
            if error is not None and scope["type"] == "http":
                await send_error(send, error)
                return
            if error is not None:
                await send({"type": "websocket.close", "code": 1008})
                return
        await self.app(scope, receive, send)

    def error(self, scope: Scope) -> ApiError | None:
        """Return the reason to refuse a request; None if it is accepted."""
        host = header(scope, "host")
        name = host_name(host) if host is not None else None
        if host is None or name is None or not self._accepts(name):
            return ApiError(
                403,
                "the Host header names another server; start the server with --allow-host NAME to accept it",
                param="Host",
                code="invalid_host",
            )
        if has_header(scope, "origin"):
            origin = (header(scope, "origin") or "").lower()
            if origin not in self.origins and not _is_same_origin(origin, host):
                return ApiError(
                    403,
                    "the Origin header names another site; start the server with --allow-origin ORIGIN to accept it",
                    param="Origin",
                    code="invalid_origin",
                )
        return None

    def _accepts(self, name: str) -> bool:
        return name in self.names or self.accepts_any or (self.accepts_ip and _is_ip(name))


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    has_rest = bool(parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in ("http", "https") and not has_rest and parts.netloc == host.lower()
