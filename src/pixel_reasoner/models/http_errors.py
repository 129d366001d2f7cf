"""Failures of requests to servers: kinds, exceptions and fixes."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.models.endpoint_url import KEY_VARIABLE

FATAL_STATUSES = frozenset({401, 402, 403, 404, 405})
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


class FailureKind(StrEnum):
    """Kind of failure of a request, for statistics."""

    TIMEOUT = "endpoint_timeout"
    UNREACHABLE = "endpoint_unreachable"
    RATE_LIMITED = "rate_limited"
    ERROR = "endpoint_error"
    INVALID = "invalid_reply"
    REJECTED = "request_refused"


class RequestFailed(EndpointError):
    """Failure of one request. Other requests may succeed."""

    kind: FailureKind = FailureKind.ERROR
    rejected_turn: str = ""
    """turn that the server generated but could not parse; empty for none"""


class MessageNames(NamedTuple):
    """Names of options and of the server in error messages."""

    endpoint: str = "--endpoint"
    model: str = "--model"
    key: str = f"--key-file or in the environment variable {KEY_VARIABLE}"
    timeout: str = "--timeout-s"
    server: str = "a server"
    requests: str = "requests"


DEFAULT_NAMES = MessageNames()


class TryFailed(Exception):
    """Failure of one attempt. The next attempt may succeed."""

    def __init__(
        self, kind: FailureKind, text: str, retry_after_s: float = 0.0, rejected_turn: str = ""
    ) -> None:
        super().__init__(text)
        self.kind, self.text, self.retry_after_s = kind, text, retry_after_s
        self.rejected_turn = rejected_turn


def timeout_error(limit_s: float) -> TryFailed:
    """Return the error for a timeout of one attempt."""
    return TryFailed(FailureKind.TIMEOUT, f"no complete reply within {limit_s:.3g} s")


def request_failed(kind: FailureKind, expected: str, got: str, fix: str) -> RequestFailed:
    """Return the error for a failed request."""
    error = RequestFailed(expected=expected, got=got, fix=fix)
    error.kind = kind
    return error


def fix_for_failure(kind: FailureKind, names: MessageNames) -> str:
    """Return the fix after all attempts of a request failed."""
    more = f", or raise {names.timeout}" if kind is FailureKind.TIMEOUT else ""
    return f"check the server{more}; the run continues with the other questions"


def fix_for_fatal_status(status: int, names: MessageNames) -> str:
    """Return the fix for a status of `FATAL_STATUSES`."""
    if status in (401, 402, 403):
        return f"give a key that may use this model, by {names.key}"
    return f"check {names.endpoint} (it ends in /v1 with most servers) and {names.model}, the name of the model on the server"


def fix_for_rejection(text: str) -> str:
    """Return the fix for a rejected request, from the lower-case text of its response."""
    if "image" in text or "multimodal" in text or "multi-modal" in text:
        return (
            "serve a model with image input (llama.cpp: --mmproj), and let a request hold as many"
        )
    if "tool" in text:
        return "use --protocol text, which requires no tool support"
    return "set --server to the kind of the server, or omit unsupported options"
