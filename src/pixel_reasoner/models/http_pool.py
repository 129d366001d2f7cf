"""HTTP client pool for the servers of one model: load balancing, retries, failover, cancellation.

retried     lost connections, timeouts, incomplete replies, 408, 409, 425, 429 (not before its Retry-After), 5xx: after random
            pauses that double
backoff     an unreachable server gets no requests for a while, longer each time, then it is tried again
rejected    400, 413, 422 and similar end one request; the next one may succeed
time        an attempt ends after `RetryPolicy.timeout_s`, a request after that time for each server
fatal       401, 402, 403, 404, 405, or an HTML page instead of a reply: every later request to this server would fail too.
            `EndpointError` when no server is left, or after too many consecutive requests without a reply
cancelled   the connection is closed, so the server stops generating. Not counted as a failure of the server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pixel_reasoner.errors import EndpointError, require_extra
from pixel_reasoner.models.endpoint_url import chat_completions_url, secrets_of_url
from pixel_reasoner.models.http_balancer import Balancer, Endpoint, RequestState, cancelled_error
from pixel_reasoner.models.http_body import read_beginning
from pixel_reasoner.models.http_client import NewTransport, assert_valid_url, new_client
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
    fix_for_failure,
    fix_for_fatal_status,
    fix_for_rejection,
    request_failed,
    timeout_error,
)
from pixel_reasoner.models.openai_schema import InvalidReplyError, ServerError, shorten
from pixel_reasoner.models.redaction import Redactor
from pixel_reasoner.models.rejected_turns import rejected_turn

if TYPE_CHECKING:
    from httpx2 import Response

MAX_CHECK_S = 30.0
"""timeout of a request for the list of models, which does not wait for loading a model"""
_T = TypeVar("_T")


class RetryPolicy(NamedTuple):
    """Timeouts, retries and concurrency of requests."""

    timeout_s: float = 300.0
    """timeout of one attempt, until the last byte of its reply"""
    request_timeout_s: float | None = None
    """timeout of a request including retries; None for `timeout_s` times the number of servers"""
    max_tries: int = 5
    """maximum attempts of one request"""
    first_pause_s: float = 0.5
    """pause before the second attempt; doubles each time"""
    max_consecutive_failures: int = 10
    """number of consecutive requests without a reply that ends the run"""
    counts_rejected: bool = False
    """whether a rejected request counts as such a failure"""
    concurrency: int = 16
    """maximum number of concurrent requests"""


class HttpPool:
    """HTTP client pool for the servers of one model. Thread-safe."""

    def __init__(
        self,
        urls: Sequence[str],
        api_key: str,
        policy: RetryPolicy,
        names: MessageNames = DEFAULT_NAMES,
        new_transport: NewTransport | None = None,
    ) -> None:
        """Create the pool. Sends nothing.

        Args:
            urls: addresses of the servers.
            api_key: sent with each request.
            policy: timeouts and retries.
            names: of options and of the server in messages.
            new_transport: opens connections; None for the proxies of the environment, or none.

        Raises:
            UsageError: an invalid address or key, or the HTTP client is not installed.
        """
        with require_extra("remote", "ask a server"):
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
        self.new_transport = new_transport
        new_client(
            api_key, names, new_transport
        ).close()  # raise configuration errors before any request
        self.balancer = Balancer(self.endpoints, policy.first_pause_s)
        self._lock = threading.Lock()
        self._tokens: set[CancelToken] = set()
        self._num_consecutive_failures = 0

    def recover(self) -> None:
        """Use servers again that were excluded after an error, and count failures from zero. For long-running services."""
        with self._lock:
            self._num_consecutive_failures = 0
            for endpoint in self.endpoints:
                endpoint.error = None

    @property
    def is_failing(self) -> bool:
        """Whether the last request failed."""
        return self._num_consecutive_failures > 0

    # --- shutdown ---

    def stop(self, error: EndpointError | None = None) -> None:
        """Cancel pending retries and wake all waiters. Requests in progress continue.

        Args:
            error: exception for stopped requests.
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

    def get(self, path: str, parse: Callable[[Response], _T]) -> _T | None:
        """Send a GET request for another route of the first server and return the result of `parse`.

        Returns:
            None if the route does not exist or the response is invalid.

        Raises:
            EndpointError: the server cannot be reached.
        """
        endpoint, token = self.endpoints[0], CancelToken()
        base, _, query = endpoint.url.partition("?")
        url = base.removesuffix("/chat/completions") + path + (query and f"?{query}")
        # Two such requests precede the first one: together they take at most its timeout.
        limit_s = min(self.policy.timeout_s / 2, MAX_CHECK_S)
        try:
            with (
                self._connection(endpoint, token) as connection,
                connection.send(HttpRequest(url), token, limit_s) as response,
            ):
                return parse(response) if response.is_success else None
        except (ServerError, self.http.DecodingError):
            return None
        except (self.http.RequestError, TryFailed) as error:
            text = error.text if isinstance(error, TryFailed) else _error_text(error)
            raise EndpointError(
                expected=f"a server at {endpoint.shown}",
                got=self.redact(text),
                fix=f"start it, or check {self.names.endpoint}",
            ) from error

    def ask(
        self,
        body: bytes,
        parse: Callable[[Response], _T],
        begin: Callable[[], None] | None = None,
        token: CancelToken | None = None,
    ) -> _T:
        """Send a request, with retries, and return the result of `parse`.

        Args:
            body: JSON.
            parse: parses an open, successful response; raises `ServerError` for an invalid reply.
            begin: called before each attempt; an exception ends the request.
            token: cancels the request from another thread.

        Raises:
            RequestFailed: no reply to this request.
            EndpointError: all servers fail.
            CancelledError: the request was cancelled.
        """
        limit_s = self.policy.request_timeout_s or self.policy.timeout_s * len(self.endpoints)
        failure = timeout_error(limit_s)
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
                    return self._try(endpoint, body, parse, begin, request)
                except TryFailed as failed:
                    failure = failed
                    if failed.rejected_turn:  # the same prompt would give the same turn
                        break
        text = self.redact(f"{endpoint.shown}: {failure.text}")
        if not failure.rejected_turn:
            self._count_failure(text)
        error = request_failed(
            failure.kind,
            "a reply",
            f"none in {num_tries} {'try' if num_tries == 1 else 'tries'}: {text}",
            fix_for_failure(failure.kind, self.names),
        )
        error.rejected_turn = failure.rejected_turn
        raise error

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
        parse: Callable[[Response], _T],
        begin: Callable[[], None] | None,
        request: RequestState,
    ) -> _T:
        """Send a request once.

        Raises:
            TryFailed: the attempt failed; it may be repeated.
            RequestFailed: the server rejects the request.
            CancelledError: the request was cancelled.
        """
        try:
            if begin is not None:
                begin()
            found = self._exchange(endpoint, body, parse, request)
            self._num_consecutive_failures = 0
            self.balancer.count_success(endpoint)
            return found
        except (self.http.RequestError, ServerError, TryFailed) as error:
            if request.token.is_cancelled:  # not a failure of the server
                raise cancelled_error() from error
            failed = error if isinstance(error, TryFailed) else self._failed(error)
            if failed.kind in (FailureKind.TIMEOUT, FailureKind.UNREACHABLE):
                self.balancer.back_off(endpoint)
            raise failed from error
        finally:
            self.balancer.release(endpoint)

    def _exchange(
        self,
        endpoint: Endpoint,
        body: bytes,
        parse: Callable[[Response], _T],
        request: RequestState,
    ) -> _T:
        limit_s = max(0.001, min(self.policy.timeout_s, request.deadline - time.monotonic()))
        with (
            self._connection(endpoint, request.token) as connection,
            connection.send(HttpRequest(endpoint.url, body), request.token, limit_s) as response,
        ):
            if response.is_success and not is_html(response):
                return parse(response)
            raise self._failure(endpoint, response, read_beginning(response))

    def _failed(self, error: Exception) -> TryFailed:
        """Convert the exception of a failed attempt to `TryFailed`."""
        if isinstance(error, InvalidReplyError):
            return TryFailed(FailureKind.INVALID, f"invalid reply: {error}")
        if isinstance(error, ServerError):
            return TryFailed(FailureKind.ERROR, str(error), rejected_turn=error.rejected_turn)
        return TryFailed(FailureKind.UNREACHABLE, _error_text(error))

    @contextmanager
    def _connection(self, endpoint: Endpoint, token: CancelToken) -> Iterator[Connection]:
        """Yield a connection for exclusive use."""
        with self._lock:
            connection = endpoint.idle.pop() if endpoint.idle else None
        if connection is None:
            connection = Connection(new_client(self._key, self.names, self.new_transport))
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
        """Return the exception for an error response. A fatal error excludes the server."""
        status = response.status_code
        text = f"{status} {shorten(self.redact(body), 300)}".strip()
        pause_s = retry_after_s(response.headers.get("retry-after", ""))
        if is_html(response) and response.is_success:
            text, status = f"a page (text/html): {text}", 404
        if status in FATAL_STATUSES:
            endpoint.error = EndpointError(
                expected=f"{endpoint.shown} to answer",
                got=text,
                fix=fix_for_fatal_status(status, self.names),
            )
            return TryFailed(FailureKind.REJECTED, text, pause_s)
        if status in RETRYABLE_STATUSES or status >= 500:
            kind = FailureKind.RATE_LIMITED if status == 429 else FailureKind.ERROR
            return TryFailed(kind, text, pause_s, self.redact(rejected_turn(body)))
        if self.policy.counts_rejected:
            self._count_failure(text)
        expected, fix = f"{endpoint.shown} to answer", fix_for_rejection(text.lower())
        return request_failed(FailureKind.REJECTED, expected, text, fix)

    def _count_failure(self, text: str) -> None:
        """Count a request without a reply.

        Raises:
            EndpointError: too many consecutive failures.
        """
        with self._lock:
            self._num_consecutive_failures += 1
            number = self._num_consecutive_failures
        if number >= self.policy.max_consecutive_failures:
            raise EndpointError(
                expected=f"{self.names.server} that answers",
                got=f"no reply to {number} {self.names.requests} in a row; the last time: {text}",
                fix="check the server, then run the same command to continue",
            )


def _error_text(error: Exception) -> str:
    """Return a short description of a connection error."""
    return shorten(f"{type(error).__name__}: {error}").rstrip(". ")
