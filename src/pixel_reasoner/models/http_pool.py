"""Requests to servers of the same model: load balancing, retries, failover, cancellation.

retried     lost connections, timeouts, incomplete replies, 408, 409, 425, 429 (not before its Retry-After), 5xx: after random
            pauses that double
backoff     a server that cannot be reached gets no request for a while, longer each time, then it is tried again
refused     400, 413, 422 and similar end one request; the next one may succeed
fatal       401, 402, 403, 404, 405, or an HTML page instead of a reply: every later request to this server would fail too.
            `EndpointError` when no server is left, or when too many requests in a row got no reply
cancelled   the connection is closed, so the server stops generating. Not counted as a failure of the server
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pixel_reasoner.errors import CancelledError, EndpointError, UsageError, packages_of
from pixel_reasoner.models.endpoint_url import chat_completions_url
from pixel_reasoner.models.http_connection import CancelToken, Connection, is_html, retry_after_s
from pixel_reasoner.models.http_errors import (
    DEFAULT_NAMES,
    FATAL_STATUSES,
    RETRYABLE_STATUSES,
    FailureKind,
    MessageNames,
    TryFailed,
    fix_of_fatal,
    fix_of_refusal,
    request_failed,
)
from pixel_reasoner.models.openai_reply import ServerError, shorten

if TYPE_CHECKING:
    from httpx2 import Response

MAX_PAUSE_S = 120.0
_FIRST_BACKOFF_S = 1.0
_T = TypeVar("_T")


class RetryPolicy(NamedTuple):
    """Timeouts, retries and concurrency of requests."""

    timeout_s: float = 300.0
    """time without a byte of the reply"""
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


class _Endpoint:
    """One server, its idle connections and its state."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.num_active = 0
        self.last_used_s = 0.0
        self.idle: list[Connection] = []
        self.backoff_until = 0.0
        self.backoff_s = _FIRST_BACKOFF_S
        self.error: EndpointError | None = None
        """why it gets no request any more"""


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
        self.endpoints = [_Endpoint(chat_completions_url(url, names.endpoint)) for url in urls]
        self._key = api_key
        self._client = self._new_client()
        self._condition = threading.Condition()
        self._tokens: set[CancelToken] = set()
        self._is_stopped = False
        self._stop_error: EndpointError | None = None
        self._num_consecutive_failures = 0

    def _new_client(self) -> Any:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            return self.http.Client(
                timeout=self.policy.timeout_s, headers=headers, verify=_ssl_context()
            )
        except (UnicodeError, ValueError) as error:
            raise UsageError(
                expected="a key of ASCII characters",
                got="other characters",
                fix=f"give the key again, by {self.names.key}",
            ) from error

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
        with self._condition:
            self._stop_error = self._stop_error or error
            self._is_stopped = True
            self._condition.notify_all()

    def assert_open(self) -> None:
        """Raise an error if no further try may start.

        Raises:
            EndpointError: `stop` was called.
        """
        if self._is_stopped:
            raise self._stop_error or EndpointError(
                expected="a run that goes on", got="one that ended", fix="run it again"
            )

    def cancel_all(self) -> None:
        """Abort all requests in progress."""
        with self._condition:
            tokens = list(self._tokens)
        for token in tokens:
            token.cancel()

    def close(self) -> None:
        """Abort all requests and close all connections."""
        self.stop()
        self.cancel_all()
        with self._condition:
            idle = [connection for one in self.endpoints for connection in one.idle]
            for one in self.endpoints:
                one.idle = []
        for connection in idle:
            connection.close()
        self._client.close()

    # --- requests ---

    def get(self, path: str) -> Any:
        """Return the JSON of another route of the first server; None if there is none."""
        try:
            response = self._client.get(self._base_url + path)
            return response.json() if response.is_success else None
        except (self.http.RequestError, ValueError):
            return None

    def assert_reachable(self) -> None:
        """Connect to the first server.

        Raises:
            EndpointError: it cannot be reached.
        """
        try:
            self._client.get(f"{self._base_url}/models")
        except self.http.RequestError as error:
            raise EndpointError(
                expected=f"a server at {self.endpoints[0].url}",
                got=f"{type(error).__name__}: {error}",
                fix=f"start it, or check {self.names.endpoint}",
            ) from error

    @property
    def _base_url(self) -> str:
        return self.endpoints[0].url.removesuffix("/chat/completions")

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
        with self._registered(token or CancelToken()) as cancel:
            for number in range(self.policy.max_tries):
                endpoint = self._pick(cancel)
                try:
                    return self._try(endpoint, body, read, begin, cancel)
                except TryFailed as failed:
                    failure = failed
                if number + 1 < self.policy.max_tries:
                    self._pause(endpoint, number, failure.retry_after_s, cancel)
        text = self._without_key(f"{endpoint.url}: {failure.text}")
        self._count_failure(text)
        raise request_failed(
            failure.kind, "a reply", f"none in {self.policy.max_tries} tries: {text}", _SEE_SERVER
        )

    @contextmanager
    def _registered(self, token: CancelToken) -> Iterator[CancelToken]:
        token.on_cancel(self._wake)
        with self._condition:
            self._tokens.add(token)
        try:
            yield token
        finally:
            token.on_cancel(None)
            with self._condition:
                self._tokens.discard(token)

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _try(
        self,
        endpoint: _Endpoint,
        body: bytes,
        read: Callable[[Response], _T],
        begin: Callable[[], None] | None,
        token: CancelToken,
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
            with self._connection(endpoint, token) as connection:
                found = self._exchange(connection, endpoint, body, read, token)
            self._count_success(endpoint)
            return found
        except (self.http.RequestError, ServerError) as error:
            if token.is_cancelled:  # the server is not to blame
                raise _cancelled() from error
            if isinstance(error, ServerError):
                raise TryFailed(FailureKind.ERROR, str(error)) from error
            self._back_off(endpoint)
            if isinstance(error, self.http.TimeoutException):
                text = f"nothing within {self.policy.timeout_s:g} s"
                raise TryFailed(FailureKind.TIMEOUT, text) from error
            text = f"{type(error).__name__}: {error}"
            raise TryFailed(FailureKind.UNREACHABLE, text) from error
        finally:
            with self._condition:
                endpoint.num_active -= 1
                self._condition.notify_all()

    def _exchange(
        self,
        connection: Connection,
        endpoint: _Endpoint,
        body: bytes,
        read: Callable[[Response], _T],
        token: CancelToken,
    ) -> _T:
        with connection.post(endpoint.url, body, token) as response:
            if response.is_success and not is_html(response):
                return read(response)
            response.read()
            raise self._failure(endpoint, response)

    @contextmanager
    def _connection(self, endpoint: _Endpoint, token: CancelToken) -> Iterator[Connection]:
        """Lend a connection that no other request uses."""
        with self._condition:
            connection = endpoint.idle.pop() if endpoint.idle else None
        connection = connection or Connection(self._new_client())
        try:
            yield connection
        finally:
            with self._condition:
                is_kept = not (token.is_cancelled or self._is_stopped)
                if is_kept:
                    endpoint.idle.append(connection)
            if not is_kept:
                connection.close()

    # --- selection of a server ---

    def _pick(self, token: CancelToken) -> _Endpoint:
        """Return the available server with the fewest requests, of several the least recently used; wait for a backoff to end."""
        with self._condition:
            while True:
                if token.is_cancelled:
                    raise _cancelled()
                self.assert_open()
                usable = [one for one in self.endpoints if one.error is None]
                if not usable:
                    raise self.endpoints[0].error or AssertionError("no servers")
                now = time.monotonic()
                available = [one for one in usable if one.backoff_until <= now]
                if available:
                    chosen = min(available, key=lambda one: (one.num_active, one.last_used_s))
                    chosen.num_active += 1
                    chosen.last_used_s = now
                    return chosen
                self._condition.wait(min(one.backoff_until for one in usable) - now)

    def _pause(
        self, endpoint: _Endpoint, number: int, retry_after_s: float, token: CancelToken
    ) -> None:
        """Wait before the next try, unless another server is available."""
        now = time.monotonic()
        pause_s = self.policy.first_pause_s * 2**number * random.uniform(0.5, 1)
        with self._condition:
            if retry_after_s:
                until = now + min(retry_after_s, MAX_PAUSE_S)
                endpoint.backoff_until = max(endpoint.backoff_until, until)
            others = [one for one in self.endpoints if one is not endpoint and one.error is None]
            if any(one.backoff_until <= now for one in others):
                return
            self._condition.wait_for(
                lambda: self._is_stopped or token.is_cancelled,
                min(max(pause_s, retry_after_s), MAX_PAUSE_S),
            )

    def _count_success(self, endpoint: _Endpoint) -> None:
        with self._condition:
            self._num_consecutive_failures = 0
            endpoint.backoff_s, endpoint.backoff_until = _FIRST_BACKOFF_S, 0.0

    def _back_off(self, endpoint: _Endpoint) -> None:
        """Send nothing to a server that cannot be reached for a while, if there are others."""
        with self._condition:
            now = time.monotonic()
            # Requests that were in progress together fail together: that is one failure.
            if len(self.endpoints) > 1 and endpoint.backoff_until <= now:
                endpoint.backoff_until = now + endpoint.backoff_s
                endpoint.backoff_s = min(endpoint.backoff_s * 2, MAX_PAUSE_S)

    # --- failures ---

    def _failure(self, endpoint: _Endpoint, response: Response) -> Exception:
        """Return the error of a response that is not a reply. A fatal one takes the server out."""
        status = response.status_code
        text = self._without_key(f"{status} {shorten(response.text, 300)}".strip())
        if is_html(response) and response.is_success:
            text, status = f"a page (text/html): {text}", 404
        if status in FATAL_STATUSES:
            with self._condition:
                endpoint.error = EndpointError(
                    expected=f"{endpoint.url} to answer",
                    got=text,
                    fix=fix_of_fatal(status, self.names),
                )
            return TryFailed(FailureKind.REFUSED, text, retry_after_s(response))
        if status in RETRYABLE_STATUSES or status >= 500:
            kind = FailureKind.RATE_LIMITED if status == 429 else FailureKind.ERROR
            return TryFailed(kind, text, retry_after_s(response))
        if self.policy.counts_refusals:
            self._count_failure(text)
        expected, fix = f"{endpoint.url} to answer", fix_of_refusal(text.lower())
        return request_failed(FailureKind.REFUSED, expected, text, fix)

    def _count_failure(self, text: str) -> None:
        """Count a request without a reply.

        Raises:
            EndpointError: there were too many in a row.
        """
        with self._condition:
            self._num_consecutive_failures += 1
            number = self._num_consecutive_failures
        if number >= self.policy.max_consecutive_failures:
            raise EndpointError(
                expected=f"{self.names.server} that answers",
                got=f"no reply to {number} {self.names.requests} in a row; the last time: {text}",
                fix="check the server, then run the same command to go on",
            )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


_SEE_SERVER = "check the server; a run goes on with the other questions"


@cache
def _ssl_context() -> ssl.SSLContext:
    """TLS settings of all connections: reading the certificates takes 50 ms."""
    from httpx2 import create_ssl_context

    return create_ssl_context()


def _cancelled() -> CancelledError:
    return CancelledError(
        expected="a request that is wanted", got="a cancelled one", fix="submit it again"
    )
