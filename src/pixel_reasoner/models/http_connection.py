"""HTTP connection to one server that another thread can abort.

`httpx2` cannot cancel a synchronous request. The pool therefore gives each request a client of its own with one connection:
the socket that a cancelled request uses is known, and no other request uses it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from httpx2 import Client, Response

_HEADERS = {"Content-Type": "application/json"}
_NEW_STREAM_EVENTS = ("connect_tcp.complete", "start_tls.complete")


class CancelToken:
    """Cancels one request, from any thread and at any moment.

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
        """Abort the request: shut its socket down, and end its pauses between tries."""
        with self._lock:
            self.is_cancelled = True
            wake = self._wake
            _shut_down(self._stream)
        if wake is not None:
            wake()

    def attach(self, stream: Any) -> None:
        """Set the network stream that the request uses; None when it uses none."""
        with self._lock:
            self._stream = stream
            if self.is_cancelled:
                _shut_down(stream)

    def on_cancel(self, wake: Callable[[], None] | None) -> None:
        """Set the function that ends the pauses of the request."""
        with self._lock:
            self._wake = wake


class Connection:
    """Client with at most one connection to one server. One request at a time may use it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._stream: Any = None
        self._token = CancelToken()

    @contextmanager
    def post(self, url: str, body: bytes, token: CancelToken) -> Iterator[Response]:
        """Send a request, and yield its response while the body has not been read.

        Raises:
            httpx2.RequestError: the connection failed, or the token was cancelled.
        """
        self._token = token
        token.attach(self._stream)
        extensions = {"trace": self._trace}
        try:
            with self.client.stream(
                "POST", url, content=body, headers=_HEADERS, extensions=extensions
            ) as response:
                yield response
        finally:
            token.attach(None)  # the next request on this connection is not affected

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Note the stream of a new connection. Called by `httpcore2` in the thread of the request."""
        if event.endswith(_NEW_STREAM_EVENTS):
            self._stream = info["return_value"]
            self._token.attach(self._stream)


def _shut_down(stream: Any) -> None:
    """Wake the thread that reads from a stream or writes to it; closing the socket would not."""
    sock = None if stream is None else stream.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            # SSLSocket.shutdown removes its TLS object, which the other thread uses.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def is_html(response: Response) -> bool:
    """Return whether a response is a web page."""
    return "html" in response.headers.get("content-type", "")


def retry_after_s(response: Response) -> float:
    """Return the seconds of a Retry-After header, which contains seconds or a date; 0 without one."""
    value = response.headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
