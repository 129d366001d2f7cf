"""Types and helpers of pure ASGI middleware. Starlette's BaseHTTPMiddleware breaks streams and disconnects."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pixel_reasoner.server.errors import ApiError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: str) -> str | None:
    """Return the value of a header of a request; None if it is missing or occurs more than once."""
    wanted = name.lower().encode()
    found = [value for key, value in scope.get("headers", ()) if key == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None


def has_header(scope: Scope, name: str) -> bool:
    """Return whether a request has a header, once or several times."""
    wanted = name.lower().encode()
    return any(key == wanted for key, _ in scope.get("headers", ()))


async def send_error(send: Send, error: ApiError) -> None:
    """Send an error as a whole response."""
    body = json.dumps(error.body(), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    headers |= {name.lower(): value for name, value in error.headers().items()}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
