"""Requests to servers that serve the same model: shared out by load, tried again, taken elsewhere when one is down.

retries    lost connections, timeouts, cut replies, 408, 409, 425, 429 (not before its Retry-After), 5xx: with growing, random pauses
rest       a server that cannot be reached gets nothing for a while, longer each time, and is then tried again
refusals   400, 413, 422 and the like end one request: the next one may be fine
the end    401, 402, 403, 404, 405 or a page instead of a reply: this server would refuse every further request. When no server is
           left, or many requests in a row got no reply, the run stops
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pixel_reasoner.errors import EndpointError, InputError, UsageError, packages_of
from pixel_reasoner.files import reason
from pixel_reasoner.models.openai_chat import ServerError

if TYPE_CHECKING:
    from httpx2 import Response

KEY_VARIABLE = "OPENAI_API_KEY"
HOPELESS = frozenset({401, 402, 403, 404, 405})
PASSING = frozenset({408, 409, 425, 429})
MAX_PAUSE_S = 120.0
_FIRST_REST_S = 1.0
_T = TypeVar("_T")


def read_key(path: Path | None) -> str:
    """The key in a file, or in the environment; empty where there is none.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").strip()
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a file that holds a key",
            got=f"{path}: {reason(error)}",
            fix="check --key-file",
        ) from error
    if not key:
        raise InputError(
            expected="a file that holds a key", got=f"{path}, which is empty", fix="write it there"
        )
    return key


class RetryPolicy(NamedTuple):
    """How servers are asked."""

    timeout_s: float = 300.0
    """without a byte of a reply"""
    tries: int = 5
    """of one request"""
    pause_s: float = 0.5
    """before the second try; doubles"""
    patience: int = 10
    """requests in a row that get no reply before the run stops"""
    concurrency: int = 16
    """requests under way at once"""


class RequestFailed(EndpointError):
    """No reply to this request; another one may be fine."""

    why: FailureKind


class FailureKind(StrEnum):
    """FailureKind there is no reply, as a word to count."""

    TIMEOUT = "endpoint_timeout"
    UNREACHABLE = "endpoint_unreachable"
    RATE_LIMITED = "rate_limited"
    ERROR = "endpoint_error"
    REFUSED = "request_refused"


class OptionNames(NamedTuple):
    """What a user sets when something is wrong."""

    endpoint: str = "--endpoint"
    model: str = "--model"
    key: str = f"--key-file or in the environment variable {KEY_VARIABLE}"


DEFAULT_OPTION_NAMES = OptionNames()


class _Endpoint:
    """A server and how it is doing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.under_way = 0
        self.rests_until = 0.0
        self.rest_s = _FIRST_REST_S
        self.error: EndpointError | None = None
        """why it is not asked any more"""


class HttpPool:
    """Servers of one model. Threads may ask at the same time."""

    def __init__(
        self,
        urls: Sequence[str],
        api_key: str,
        manners: RetryPolicy,
        options: OptionNames = DEFAULT_OPTION_NAMES,
    ) -> None:
        """Get ready; nothing is sent yet.

        Raises:
            UsageError: no such address, a key that cannot be sent, or the HTTP client is not installed.
        """
        with packages_of("remote", "ask a server"):
            import httpx2
        self.http = httpx2
        self.manners = manners
        self.options = options
        self.endpoints = [_Endpoint(route(url, options.endpoint)) for url in urls]
        self._key = api_key
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        try:
            self.client = httpx2.Client(
                timeout=self.manners.timeout_s, headers=headers, limits=limits
            )
        except (UnicodeError, ValueError) as error:
            raise UsageError(
                expected="a key of plain letters",
                got="another",
                fix=f"give it again, by {options.key}",
            ) from error
        self._lock = threading.Condition()
        self._over = threading.Event()
        self._in_vain = 0

    def end(self) -> None:
        """Begin no other try; who waits stops waiting."""
        self._over.set()
        with self._lock:
            self._lock.notify_all()

    def close(self) -> None:
        """Ask nothing any more."""
        self.end()
        self.client.close()

    def get(self, path: str) -> Any:
        """The JSON that a server's other route answers with; None if it has none."""
        url = self.endpoints[0].url.removesuffix("/chat/completions") + path
        try:
            response = self.client.get(url)
            return response.json() if response.is_success else None
        except (self.http.RequestError, ValueError):
            return None

    def assert_reachable(self) -> None:
        """Make sure that somebody is at the first address.

        Raises:
            EndpointError: nobody is.
        """
        url = self.endpoints[0].url
        try:
            self.client.get(url.removesuffix("/chat/completions") + "/models")
        except self.http.RequestError as error:
            raise EndpointError(
                expected=f"a server at {url}",
                got=f"{type(error).__name__}: {error}",
                fix=f"start it, or check {self.options.endpoint}",
            ) from error

    def ask(
        self, body: bytes, read: Callable[[Response], _T], begin: Callable[[], None] | None = None
    ) -> _T:
        """What `read` makes of the reply to a request, after as many tries as it takes.

        Args:
            body: JSON.
            read: called with an open, successful response; raises `ServerError` if it is no reply.
            begin: called before each try; what it raises ends the request.

        Raises:
            RequestFailed: no reply to this request.
            EndpointError: no reply can be expected any more.
        """
        why, told, told_s = FailureKind.ERROR, "no try", 0.0
        for nth in range(self.manners.tries):
            endpoint = self._pick()
            try:
                if begin is not None:
                    begin()
                with self.client.stream("POST", endpoint.url, content=body, headers=_JSON) as reply:
                    if reply.is_success and not _is_page(reply):
                        found = read(reply)
                        self._well(endpoint)
                        return found
                    reply.read()
                    why, told = self._failure(endpoint, reply)
                    told_s = retry_after_s(reply)
            except self.http.TimeoutException:
                why, told = FailureKind.TIMEOUT, f"nothing within {self.manners.timeout_s:g} s"
                self._ill(endpoint)
            except self.http.RequestError as error:
                why, told = FailureKind.UNREACHABLE, f"{type(error).__name__}: {error}"
                self._ill(endpoint)
            except ServerError as error:
                why, told = FailureKind.ERROR, str(error)
            finally:
                with self._lock:
                    endpoint.under_way -= 1
                    self._lock.notify_all()
            if nth + 1 < self.manners.tries and self._alone_with(endpoint, told_s):
                pause_s = self.manners.pause_s * 2**nth * random.uniform(0.5, 1)
                self._over.wait(min(max(pause_s, told_s), MAX_PAUSE_S))
        raise self._lose_patience(why, self._without_key(f"{endpoint.url}: {told}"))

    # --- which server is next ---

    def _pick(self) -> _Endpoint:
        """The server with the least to do of those that answer; the one that rests the shortest if none does."""
        with self._lock:
            while True:
                if self._over.is_set():
                    raise EndpointError(expected="a run", got="its end", fix="run it again")
                left = [one for one in self.endpoints if one.error is None]
                if not left:
                    raise self.endpoints[0].error or AssertionError("no servers")
                now = time.monotonic()
                awake = [one for one in left if one.rests_until <= now]
                if awake:
                    chosen = min(awake, key=lambda one: one.under_way)
                    chosen.under_way += 1
                    return chosen
                self._lock.wait(min(one.rests_until for one in left) - now)

    def _alone_with(self, endpoint: _Endpoint, told_s: float) -> bool:
        """Whether to wait before the next try: not if another server can take it at once."""
        now = time.monotonic()
        with self._lock:
            if told_s:
                endpoint.rests_until = max(endpoint.rests_until, now + min(told_s, MAX_PAUSE_S))
            others = [one for one in self.endpoints if one is not endpoint and one.error is None]
            return not any(one.rests_until <= now for one in others)

    def _well(self, endpoint: _Endpoint) -> None:
        with self._lock:
            self._in_vain = 0
            endpoint.rest_s, endpoint.rests_until = _FIRST_REST_S, 0.0

    def _ill(self, endpoint: _Endpoint) -> None:
        """Let a server that cannot be reached rest, if there are others to ask meanwhile."""
        with self._lock:
            now = time.monotonic()
            # Requests that were under way together fail together: that is one failure.
            if len(self.endpoints) > 1 and endpoint.rests_until <= now:
                endpoint.rests_until = now + endpoint.rest_s
                endpoint.rest_s = min(endpoint.rest_s * 2, MAX_PAUSE_S)

    # --- what went wrong ---

    def _failure(self, endpoint: _Endpoint, response: Response) -> tuple[FailureKind, str]:
        """FailureKind a server did not reply. What it would say to every request takes it out.

        Raises:
            RequestFailed: it will not answer this one.
        """
        status = response.status_code
        told = f"{status} {' '.join(response.text.split())[:300]}".strip()
        told = self._without_key(told)
        if _is_page(response) and response.is_success:
            told, status = f"a page (text/html): {told}", 404
        if status in HOPELESS:
            with self._lock:
                endpoint.error = EndpointError(
                    expected=f"{endpoint.url} to answer", got=told, fix=self._fix(status)
                )
            return FailureKind.REFUSED, told
        if status in PASSING or status >= 500:
            return FailureKind.RATE_LIMITED if status == 429 else FailureKind.ERROR, told
        raise _refused(
            FailureKind.REFUSED, f"{endpoint.url} to answer", told, _fix_of_request(told.lower())
        )

    def _fix(self, status: int) -> str:
        if status in (401, 402, 403):
            return f"give a key that may use this model, by {self.options.key}"
        return (
            f"check {self.options.endpoint} (it ends in /v1 with most servers) and {self.options.model}, the name by "
            "which it serves the model"
        )

    def _lose_patience(self, why: FailureKind, told: str) -> EndpointError:
        with self._lock:
            self._in_vain += 1
            enough = self._in_vain >= self.manners.patience
            in_vain = self._in_vain
        if enough:
            return EndpointError(
                expected="a server that answers",
                got=f"no reply to {in_vain} requests in a row; the last time: {told}",
                fix="see to the server, then run the same command to go on",
            )
        return _refused(why, "a reply", f"none in {self.manners.tries} tries: {told}", _SEE)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


_JSON = {"Content-Type": "application/json"}
_SEE = "see to the server; a run goes on with the other questions"


def route(url: str, option: str = "--endpoint") -> str:
    """The address that answers. One with a user or a password is refused: it would end up in messages.

    >>> route("http://localhost:8000/v1/")
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


def retry_after_s(response: Response) -> float:
    """How long the server asks to be left alone: seconds, or a date."""
    told = response.headers.get("retry-after", "").strip()
    if told.replace(".", "", 1).isdigit():
        return float(told)
    try:
        return (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _is_page(response: Response) -> bool:
    return "html" in response.headers.get("content-type", "")


def _refused(why: FailureKind, expected: str, got: str, fix: str) -> RequestFailed:
    error = RequestFailed(expected=expected, got=got, fix=fix)
    error.why = why
    return error


def _fix_of_request(told: str) -> str:
    if "image" in told or "multimodal" in told or "multi-modal" in told:
        return "serve a model that sees pictures (with llama.cpp, give it --mmproj), and let a request hold as many"
    if "tool" in told:
        return "name --protocol text, which needs no tools of the server"
    return "name the server's kind by --server, or leave out what it does not know"
