"""Logs of the server: one JSON object per line on standard error. Never keys, prompts, pictures or query strings."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any
from uuid import uuid4

from pixel_reasoner.server.asgi import App, Message, Receive, Scope, Send, header, send_error
from pixel_reasoner.server.errors import ApiError, redact
from pixel_reasoner.server.metrics import Metrics

LOGGER = logging.getLogger("pixel_reasoner.server")
_LEVELS = {
    "pixel_reasoner.server": logging.DEBUG,
    "uvicorn.error": logging.WARNING,
    "opentelemetry": logging.WARNING,
}
"""loggers and their lowest levels"""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class JsonFormatter(logging.Formatter):
    """One JSON object per record. Tracebacks contain source lines of this program, and no values."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            cause = error.__cause__ or error
            fields["error"] = type(cause).__name__
            fields["traceback"] = _frames(cause.__traceback__)
        return json.dumps(fields, ensure_ascii=False)


def set_up_logs(level: int = logging.INFO) -> None:
    """Write the logs of the server, and warnings of uvicorn and OpenTelemetry, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, at_least in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(max(level, at_least))


def log(message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line with fields. Fields must not contain text of clients."""
    LOGGER.log(level, message, extra={"fields": fields})


class RequestLogMiddleware:
    """Outermost middleware: request id, one log line and one observation per request, and 500 for bugs."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = header(scope, "x-request-id") or ""
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{uuid4().hex[:24]}"
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            LOGGER.exception("bug", extra={"fields": {"request_id": request_id}})
            if not status:
                await send_error(send_with_id, ApiError(500, "an internal error"))
        finally:
            self._record(scope, status, time.perf_counter() - started, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.observe(self.metrics.http_seconds, seconds, route, str(status))
        log(
            "request",
            logging.DEBUG if route in ("/health", "/ready", "/metrics") else logging.INFO,
            request_id=request_id,
            method=scope["method"] if len(scope["method"]) < 10 else "other",
            route=route,
            status=status,
            seconds=round(seconds, 4),
            client=scope["state"].get("client", ""),
        )


def _frames(traceback: Any) -> list[str]:
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        name = code.co_filename.rpartition("site-packages/")[2].rpartition("/src/")[2]
        frames.append(f"{name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return [redact(one) if one.startswith("/") else one for one in frames[-12:]]
