"""Requests to servers of the same model: load balancing, retries, failover, cancellation.

retried     lost connections, timeouts, incomplete replies, 408, 409, 425, 429 (not before its Retry-After), 5xx: after random
            pauses that double
backoff     a server that cannot be reached gets no request for a while, longer each time, then it is tried again
refused     400, 413, 422 and similar end one request; the next one may succeed
time        a try ends after `RetryPolicy.timeout_s`, a request after that time for each server, whatever a server sends
fatal       401, 402, 403, 404, 405, or an HTML page instead of a reply: every later request to this server would fail too.
            `EndpointError` when no server is left, or when too many requests in a row got no reply
cancelled   the connection is closed, so the server stops generating. Not counted as a failure of the server
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pixel_reasoner.errors import EndpointError, packages_of
from pixel_reasoner.models.endpoint_url import chat_completions_url, secrets_of_url
from pixel_reasoner.models.http_balancer import Balancer, Endpoint, RequestState, cancelled
from pixel_reasoner.models.http_body import read_beginning
from pixel_reasoner.models.http_client import assert_valid_url, new_client
from pixel_reasoner.models.http_connection import (
    CancelToken,
    Connection,
    HttpRequest,
    is_html,
    retry_after_s,
)
from pixel_reasoner.models.http_errors import (
    DEFAULT_NAMES,
    FATAL_STATUSES,
    RETRYABLE_STATUSES,
    FailureKind,
    MessageNames,
    TryFailed,
    fix_of_failure,
    fix_of_fatal,
    fix_of_refusal,
    request_failed,
    timed_out,
)
from pixel_reasoner.models.openai_schema import InvalidReplyError, ServerError, shorten
from pixel_reasoner.models.redaction import Redactor

if TYPE_CHECKING:
    from httpx2 import Response

MAX_CHECK_S = 30.0
"""time of a request for the list of models, which no model has to be loaded for"""
_T = TypeVar("_T")


class RetryPolicy(NamedTuple):
    """Timeouts, retries and concurrency of requests."""

    timeout_s: float = 300.0
    """time of one try, until the last byte of its reply"""
    request_timeout_s: float | None = None
    """time of a request with its retries; None: `timeout_s` for each server"""
    max_tries: int = 5
    """tries of one request"""
    first_pause_s: float = 0.5
    """pause before the second try; doubles"""
    max_consecutive_failures: int = 10
    """requests in a row without a reply, after which no reply is expected any more"""
    counts_refusals: bool = False
    """whether a refused request is one of these failures"""
    concurrency: int = 16
    """requests in progress at once"""


class HttpPool:
    """Servers of one model. Several threads may call it at the same time."""

    def __init__(
        self,
        urls: Sequence[str],
        api_key: str,
        policy: RetryPolicy,
        names: MessageNames = DEFAULT_NAMES,
    ) -> None:
        """Prepare the pool; nothing is sent.

        Raises:
            UsageError: an invalid address, a key that cannot be sent, or the HTTP client is not installed.
        """
        with packages_of("remote", "ask a server"):
            import httpx2
        self.http = httpx2
        self.policy = policy
        self.names = names
        self.endpoints = [Endpoint(chat_completions_url(url, names.endpoint)) for url in urls]
        for endpoint in self.endpoints:
            assert_valid_url(endpoint.url, names.endpoint)
        self._key = api_key
        self.redact = Redactor([api_key, *(one for url in urls for one in secrets_of_url(url))])
        for endpoint in self.endpoints:
            endpoint.shown = self.redact(endpoint.shown)
        new_client(api_key, names).close()  # what is wrong with it is an error before any request
        self.balancer = Balancer(self.endpoints, policy.first_pause_s)
        self._lock = threading.Lock()
        self._tokens: set[CancelToken] = set()
        self._num_consecutive_failures = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last request got no reply."""
        return self._num_consecutive_failures > 0

    # --- the end ---

    def stop(self, error: EndpointError | None = None) -> None:
        """Start no further try, and end all pauses. Requests in progress continue.

        Args:
            error: raised by requests that are stopped.
        """
        self.balancer.stop(error)

    def cancel_all(self) -> None:
        """Abort all requests in progress."""
        with self._lock:
            tokens = list(self._tokens)
        for token in tokens:
            token.cancel()

    def close(self) -> None:
        """Abort all requests and close all connections."""
        self.stop()
        self.cancel_all()
        with self._lock:
            idle = [connection for one in self.endpoints for connection in one.idle]
            for one in self.endpoints:
                one.idle = []
        for connection in idle:
            connection.close()

    # --- requests ---

    def get(self, path: str, read: Callable[[Response], _T]) -> _T | None:
        """Return what `read` makes of another route of the first server.

        Returns:
            None if there is no such route, or nothing that can be read.

        Raises:
            EndpointError: the server cannot be reached.
        """
        endpoint, token = self.endpoints[0], CancelToken()
        base, _, query = endpoint.url.partition("?")
        url = base.removesuffix("/chat/completions") + path + (query and f"?{query}")
        # Two of these precede a request: together they take no longer than one.
        limit_s = min(self.policy.timeout_s / 2, MAX_CHECK_S)
        try:
            with (
                self._connection(endpoint, token) as connection,
                connection.send(HttpRequest(url), token, limit_s) as response,
            ):
                return read(response) if response.is_success else None
        except (ServerError, self.http.DecodingError):
            return None
        except (self.http.RequestError, TryFailed) as error:
            text = error.text if isinstance(error, TryFailed) else _text_of(error)
            raise EndpointError(
                expected=f"a server at {endpoint.shown}",
                got=self.redact(text),
                fix=f"start it, or check {self.names.endpoint}",
            ) from error

    def ask(
        self,
        body: bytes,
        read: Callable[[Response], _T],
        begin: Callable[[], None] | None = None,
        token: CancelToken | None = None,
    ) -> _T:
        """Send a request, with retries, and return what `read` makes of the reply.

        Args:
            body: JSON.
            read: called with an open, successful response; raises `ServerError` if it is not a valid reply.
            begin: called before each try; an exception of it ends the request.
            token: cancels the request from another thread.

        Raises:
            RequestFailed: no reply to this request.
            EndpointError: no reply can be expected any more.
            CancelledError: the request was cancelled.
        """
        limit_s = self.policy.request_timeout_s or self.policy.timeout_s * len(self.endpoints)
        failure = timed_out(limit_s)
        num_tries = 0
        endpoint = self.endpoints[0]
        with self._registered(token or CancelToken(), limit_s) as request:
            while num_tries < self.policy.max_tries:
                if num_tries:
                    self.balancer.pause(endpoint, num_tries - 1, failure.retry_after_s, request)
                picked = self.balancer.pick(request)
                if picked is None:
                    break
                endpoint = picked
                num_tries += 1
                try:
                    return self._try(endpoint, body, read, begin, request)
                except TryFailed as failed:
                    failure = failed
        text = self.redact(f"{endpoint.shown}: {failure.text}")
        self._count_failure(text)
        raise request_failed(
            failure.kind,
            "a reply",
            f"none in {num_tries} {'try' if num_tries == 1 else 'tries'}: {text}",
            fix_of_failure(failure.kind, self.names),
        )

    @contextmanager
    def _registered(self, token: CancelToken, limit_s: float) -> Iterator[RequestState]:
        token.on_cancel(self.balancer.wake)
        with self._lock:
            self._tokens.add(token)
        try:
            yield RequestState(token, time.monotonic() + limit_s)
        finally:
            token.on_cancel(None)
            with self._lock:
                self._tokens.discard(token)

    def _try(
        self,
        endpoint: Endpoint,
        body: bytes,
        read: Callable[[Response], _T],
        begin: Callable[[], None] | None,
        request: RequestState,
    ) -> _T:
        """Send a request once.

        Raises:
            TryFailed: it may be sent again.
            RequestFailed: the server refuses it.
            CancelledError: it was cancelled.
        """
        try:
            if begin is not None:
                begin()
            found = self._exchange(endpoint, body, read, request)
            self._num_consecutive_failures = 0
            self.balancer.count_success(endpoint)
            return found
        except (self.http.RequestError, ServerError, TryFailed) as error:
            if request.token.is_cancelled:  # the server is not to blame
                raise cancelled() from error
            failed = error if isinstance(error, TryFailed) else self._failed(error)
            if failed.kind in (FailureKind.TIMEOUT, FailureKind.UNREACHABLE):
                self.balancer.back_off(endpoint)
            raise failed from error
        finally:
            self.balancer.release(endpoint)

    def _exchange(
        self, endpoint: Endpoint, body: bytes, read: Callable[[Response], _T], request: RequestState
    ) -> _T:
        limit_s = max(0.001, min(self.policy.timeout_s, request.deadline - time.monotonic()))
        with (
            self._connection(endpoint, request.token) as connection,
            connection.send(HttpRequest(endpoint.url, body), request.token, limit_s) as response,
        ):
            if response.is_success and not is_html(response):
                return read(response)
            raise self._failure(endpoint, response, read_beginning(response))

    def _failed(self, error: Exception) -> TryFailed:
        """Return why a try failed that got no valid reply."""
        if isinstance(error, InvalidReplyError):
            return TryFailed(FailureKind.INVALID, f"invalid reply: {error}")
        if isinstance(error, ServerError):
            return TryFailed(FailureKind.ERROR, str(error))
        return TryFailed(FailureKind.UNREACHABLE, _text_of(error))

    @contextmanager
    def _connection(self, endpoint: Endpoint, token: CancelToken) -> Iterator[Connection]:
        """Lend a connection that no other request uses."""
        with self._lock:
            connection = endpoint.idle.pop() if endpoint.idle else None
        connection = connection or Connection(new_client(self._key, self.names))
        try:
            yield connection
        finally:
            with self._lock:
                is_kept = not (token.is_cancelled or self.balancer.is_stopped)
                if is_kept:
                    endpoint.idle.append(connection)
            if not is_kept:
                connection.close()

    # --- failures ---

    def _failure(self, endpoint: Endpoint, response: Response, body: str) -> Exception:
        """Return the error of a response that is not a reply. A fatal one takes the server out."""
        status = response.status_code
        text = f"{status} {shorten(self.redact(body), 300)}".strip()
        pause_s = retry_after_s(response.headers.get("retry-after", ""))
        if is_html(response) and response.is_success:
            text, status = f"a page (text/html): {text}", 404
        if status in FATAL_STATUSES:
            endpoint.error = EndpointError(
                expected=f"{endpoint.shown} to answer",
                got=text,
                fix=fix_of_fatal(status, self.names),
            )
            return TryFailed(FailureKind.REFUSED, text, pause_s)
        if status in RETRYABLE_STATUSES or status >= 500:
            kind = FailureKind.RATE_LIMITED if status == 429 else FailureKind.ERROR
            return TryFailed(kind, text, pause_s)
        if self.policy.counts_refusals:
            self._count_failure(text)
        expected, fix = f"{endpoint.shown} to answer", fix_of_refusal(text.lower())
        return request_failed(FailureKind.REFUSED, expected, text, fix)

    def _count_failure(self, text: str) -> None:
        """Count a request without a reply.

        Raises:
            EndpointError: there were too many in a row.
        """
        with self._lock:
            self._num_consecutive_failures += 1
            number = self._num_consecutive_failures
        if number >= self.policy.max_consecutive_failures:
            raise EndpointError(
                expected=f"{self.names.server} that answers",
                got=f"no reply to {number} {self.names.requests} in a row; the last time: {text}",
                fix="check the server, then run the same command to go on",
            )


def _text_of(error: Exception) -> str:
    """Return what happened to a connection."""
    return shorten(f"{type(error).__name__}: {error}").rstrip(". ")
