"""HTTP connection that another thread can abort.

`httpx2` cannot cancel a synchronous request. Therefore each request has a separate client with one connection, so that its
socket is known and not shared with other requests.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.models.http_errors import timeout_error
from pixel_reasoner.models.http_timer import TIMER
from pixel_reasoner.models.openai_schema import ServerError

if TYPE_CHECKING:
    from httpx2 import Client, Response

_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}
_NEW_STREAM_EVENTS = ("connect_tcp.complete", "start_tls.complete")


class CancelToken:
    """Token that cancels one request, from any thread at any time.

    >>> token = CancelToken()
    >>> token.cancel()
    >>> token.is_cancelled
    True
    """

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._stream: Any = None
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Abort the request: shut down its socket and end its pauses between attempts."""
        with self._lock:
            self.is_cancelled = True
            wake = self._wake
            _shut_down(self._stream)
        if wake is not None:
            wake()

    def attach(self, stream: Any) -> None:
        """Set the network stream of the request, or None."""
        with self._lock:
            self._stream = stream
            if self.is_cancelled:
                _shut_down(stream)

    def on_cancel(self, wake: Callable[[], None] | None) -> None:
        """Set the function that ends the pauses of the request."""
        with self._lock:
            self._wake = wake


class HttpRequest(NamedTuple):
    """HTTP request, sent again at each attempt."""

    url: str
    body: bytes | None = None
    """JSON body of a POST; None for a GET"""


class Connection:
    """Client with at most one connection to one server. It supports one request at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._stream: Any = None
        self._tokens: tuple[CancelToken, ...] = ()

    @contextmanager
    def send(self, request: HttpRequest, token: CancelToken, limit_s: float) -> Iterator[Response]:
        """Send a request and yield its response before the body is read.

        Args:
            request: the request.
            token: cancels the request from another thread.
            limit_s: total time limit, because `httpx2` only limits the time between two bytes.

        Raises:
            httpx2.RequestError: the connection failed, or the token was cancelled.
            TryFailed: timeout.
        """
        import httpx2

        limit = CancelToken()
        self._tokens = (token, limit)
        self._attach(self._stream)
        try:
            with (
                TIMER.limit(limit_s, limit.cancel),
                self._open(request, limit_s) as response,
            ):
                yield response
        except (httpx2.RequestError, ServerError) as error:
            is_late = limit.is_cancelled or isinstance(error, httpx2.TimeoutException)
            if is_late and not token.is_cancelled:
                raise timeout_error(limit_s) from error
            raise
        finally:
            self._attach(None)  # do not affect the next request on this connection

    def _open(self, request: HttpRequest, limit_s: float) -> Any:
        return self.client.stream(
            "GET" if request.body is None else "POST",
            request.url,
            content=request.body,
            headers=_HEADERS,
            timeout=limit_s,
            extensions={"trace": self._trace},
        )

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Store the stream of a new connection. Called by `httpcore2` in the thread of the request."""
        if event.endswith(_NEW_STREAM_EVENTS):
            self._stream = info["return_value"]
            self._attach(self._stream)

    def _attach(self, stream: Any) -> None:
        for token in self._tokens:
            token.attach(stream)


def _shut_down(stream: Any) -> None:
    """Shut down the socket of a stream. Unlike closing it, this wakes the thread that uses it."""
    sock = None if stream is None else stream.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            # SSLSocket.shutdown would remove the TLS object, which the other thread uses.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def is_html(response: Response) -> bool:
    """Return whether a response is a web page."""
    return "html" in response.headers.get("content-type", "")


def retry_after_s(value: str) -> float:
    """Return the seconds of a Retry-After header, which contains seconds or a date; 0 for anything else.

    >>> [retry_after_s(value) for value in ("1.5", "²", "-1", "nan", "")]
    [1.5, 0.0, 0.0, 0.0, 0.0]
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
