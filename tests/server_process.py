"""Server with a scripted model in a process of its own, for tests that kill it.

As a script: `python server_process.py STORE [KEY_FILE]` prints the port.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[1]
DELAY_S = 0.002
"""per character of the model"""


class ServerProcess:
    """Running process. Its store survives it.

    Args:
        store: folder.
        key_file: keys of clients; None for none.
    """

    def __init__(self, store: Path, key_file: Path | None = None) -> None:
        command = [sys.executable, __file__, str(store), *([str(key_file)] if key_file else [])]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
        )
        assert self.process.stdout is not None, "it is a pipe"
        line = self.process.stdout.readline()
        assert line, "the server did not start"
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_ready(self, timeout_s: float = 30.0, **options: Any) -> None:
        """Wait until the server answers questions."""
        deadline = time.monotonic() + timeout_s
        while httpx2.get(f"{self.url}/ready", **options).status_code != 200:
            assert time.monotonic() < deadline, "the server is not ready in time"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the process with SIGKILL and wait for its end."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop the process with SIGTERM, and wait for its end."""
        self.process.terminate()
        self.process.wait(timeout=120)


def main(store: Path, key_file: Path | None = None) -> None:
    """Serve until a signal."""
    sys.path[:0] = [str(ROOT)]
    from pixel_reasoner.server.app import create_app
    from pixel_reasoner.server.auth import read_keys
    from pixel_reasoner.server.run import build_server, listen
    from pixel_reasoner.server.settings import ServerSettings
    from pixel_reasoner.server.studio_page import StudioPart
    from pixel_reasoner.server.traces import TracesPart
    from test_scheduler import CLOSER, RED, TickingModel

    class DelayedModel(TickingModel):
        """Model that takes some time for every character."""

        def __init__(self) -> None:
            super().__init__(f"I look closer. {CLOSER}", RED)
            poll = self.backend.poll

            def delayed(*arguments: Any) -> Any:
                time.sleep(DELAY_S)
                return poll(*arguments)

            self.backend.poll = delayed

    settings = ServerSettings(
        port=0,
        store=store,
        max_picture_tokens=10**15,
        allowed_hosts=("models.example.org",),
        drain_timeout_s=5.0,
    )
    keys = () if key_file is None else read_keys(key_file)
    app = create_app(
        settings,
        DelayedModel,
        names=("test",),
        keys=keys,
        parts=[TracesPart(), StudioPart(is_bundled=False)],
    )
    listening = listen(settings)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    asyncio.run(build_server(app).serve([listening]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
