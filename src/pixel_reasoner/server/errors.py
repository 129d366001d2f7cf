"""Errors as responses: OpenAI's error object, without paths of this machine and without object reprs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pixel_reasoner.errors import (
    CancelledError,
    DeadlineError,
    EndpointError,
    InputError,
    PixelReasonerError,
    QueueFullError,
    UsageError,
)
from pixel_reasoner.models.http_errors import FailureKind, RequestFailed

MAX_MESSAGE_CHARS = 1000
RETRY_STATUSES = frozenset({429, 503})
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][\w.+@~-]+){2,}[/\\]?")
_REPR = re.compile(r"<[\w.]+ (?:object )?at 0x[0-9a-fA-F]+>|0x[0-9a-fA-F]{6,}")
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
CODES = {
    400: "invalid_value",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "service_unavailable",
    504: "timeout",
}


class ApiError(Exception):
    """Error that a client receives.

    Args:
        status: of HTTP.
        message: field, value and limit.
        param: name of the field of the request.
        code: for programs; by default the code of the status.
        retry_after_s: seconds after which a retry may succeed.

    >>> ApiError(400, "n: 9 is more than 8", param="n").body()["error"]["param"]
    'n'
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = redact(message)
        self.param = param
        self.code = code or CODES.get(status)
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": TYPES.get(self.status, "server_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        """Return headers that tell clients whether to retry."""
        headers = {"x-should-retry": "true" if self.status in RETRY_STATUSES else "false"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def redact(text: str, names: Mapping[str, str] | None = None) -> str:
    """Return a message without paths and object reprs, on one line.

    Args:
        text: the message.
        names: path -> what to write instead.

    >>> redact("got /srv/store/ab/abc.png: truncated, <_io.BytesIO object at 0x7f00aa>")
    'got the file: truncated, an object'
    """
    for path, name in (names or {}).items():
        text = text.replace(path, name)
    text = " ".join(_REPR.sub("an object", _PATH.sub("the file", text)).split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def api_error(error: BaseException, names: Mapping[str, str] | None = None) -> ApiError:
    """Return the response for an error of the package or a bug.

    Args:
        error: any exception.
        names: path of a media item -> its name for the client.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestFailed):
        return _upstream_error(error)
    if isinstance(error, EndpointError):
        return _unavailable("the model server does not answer; it is tried again", 5.0)
    if isinstance(error, DeadlineError):
        return ApiError(504, "the request exceeded the time limit of the server")
    if isinstance(error, CancelledError):
        return _unavailable("the request was cancelled because the server stops", 5.0)
    if isinstance(error, QueueFullError):
        return ApiError(429, "too many requests wait", retry_after_s=5.0)
    if isinstance(error, InputError):
        text = redact(f"expected {error.expected}; got {error.got}", names)
        return ApiError(400, text, param="messages", code="invalid_image")
    if isinstance(error, UsageError):
        return ApiError(400, f"expected {error.expected}; got {error.got}", param="pixel_reasoner")
    if isinstance(error, PixelReasonerError):
        return _unavailable(f"expected {error.expected}; got {error.got}", 5.0)
    return ApiError(500, "an internal error; the log of the server contains its cause")


def _upstream_error(error: RequestFailed) -> ApiError:
    if error.kind is FailureKind.TIMEOUT:
        return ApiError(504, "the model server did not reply in time")
    if error.kind is FailureKind.RATE_LIMITED:
        return ApiError(429, "the model server limits requests", retry_after_s=10.0)
    if error.kind is FailureKind.REJECTED:
        return ApiError(
            400, f"the model server rejected the request: {error.got}", code="upstream_rejected"
        )
    return _unavailable("the model server gave no usable reply", 5.0)


def _unavailable(message: str, retry_after_s: float) -> ApiError:
    return ApiError(503, message, retry_after_s=retry_after_s)
