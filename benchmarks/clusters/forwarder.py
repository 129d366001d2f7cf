"""TCP forwarder to a server that is replaced: clients keep one address while the process behind it is killed and started again."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Forwarder:
    """Forwarder from a free port to another one. Clients are disconnected while nothing listens there.

    Args:
        port: port of the server; it may change at any time.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.num_requests = 0
        """number of HTTP requests so far"""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Forwarder:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._copy, args=(source, target, source is client), daemon=True
                ).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                if is_request and content.startswith((b"POST ", b"GET ")):
                    self.num_requests += 1
                target.sendall(content)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
