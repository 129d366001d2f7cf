"""Why a request to a server failed: kinds, errors and how to fix them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.models.endpoint_url import KEY_VARIABLE

FATAL_STATUSES = frozenset({401, 402, 403, 404, 405})
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


class FailureKind(StrEnum):
    """Why a request got no reply, as a name to count."""

    TIMEOUT = "endpoint_timeout"
    UNREACHABLE = "endpoint_unreachable"
    RATE_LIMITED = "rate_limited"
    ERROR = "endpoint_error"
    INVALID = "invalid_reply"
    REFUSED = "request_refused"


class RequestFailed(EndpointError):
    """One request got no reply; others may succeed."""

    kind: FailureKind = FailureKind.ERROR


class MessageNames(NamedTuple):
    """Names in error messages: the options that a user has to change, and what is asked."""

    endpoint: str = "--endpoint"
    model: str = "--model"
    key: str = f"--key-file or in the environment variable {KEY_VARIABLE}"
    timeout: str = "--timeout-s"
    server: str = "a server"
    requests: str = "requests"


DEFAULT_NAMES = MessageNames()


class TryFailed(Exception):
    """One try got no reply; the next one may."""

    def __init__(self, kind: FailureKind, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.kind, self.text, self.retry_after_s = kind, text, retry_after_s


def timed_out(limit_s: float) -> TryFailed:
    """Return the error of a try that took too long."""
    return TryFailed(FailureKind.TIMEOUT, f"no complete reply within {limit_s:.3g} s")


def request_failed(kind: FailureKind, expected: str, got: str, fix: str) -> RequestFailed:
    """Return the error of a request."""
    error = RequestFailed(expected=expected, got=got, fix=fix)
    error.kind = kind
    return error


def fix_of_failure(kind: FailureKind, names: MessageNames) -> str:
    """Return what a user has to do after all tries of a request failed."""
    more = f", or raise {names.timeout}" if kind is FailureKind.TIMEOUT else ""
    return f"check the server{more}; a run goes on with the other questions"


def fix_of_fatal(status: int, names: MessageNames) -> str:
    """Return what a user has to change after a status of `FATAL_STATUSES`."""
    if status in (401, 402, 403):
        return f"give a key that may use this model, by {names.key}"
    return f"check {names.endpoint} (it ends in /v1 with most servers) and {names.model}, the name by which it serves the model"


def fix_of_refusal(text: str) -> str:
    """Return what a user has to change after a refused request with this text, in lower case."""
    if "image" in text or "multimodal" in text or "multi-modal" in text:
        return "serve a model that sees pictures (with llama.cpp, give it --mmproj), and let a request hold as many"
    if "tool" in text:
        return "name --protocol text, which needs no tools of the server"
    return "name the server's kind by --server, or leave out what it does not know"
