"""Real HTTP server of any model on a free port, in a thread of the tests.

with serving(model, max_waiting=1) as server:
    server.post("/v1/chat/completions", chat("Which colour?", photo))
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2

from doc_blocks import ROOT, blocks
from pixel_reasoner.media.worker_pool import WorkerLimits, WorkerPoolDecoder
from pixel_reasoner.server.app import create_app
from pixel_reasoner.server.run import build_server, listen
from pixel_reasoner.server.settings import ServerSettings

KEY = "a-key-of-a-client-0123456789"
FAST = {
    "drain_timeout_s": 3.0,
    "decode_limits": WorkerLimits(timeout_s=10.0, cpu_s=10.0),
    "max_picture_tokens": 10**15,  # models of tests do not scale pictures
}


class SharedDecoder(WorkerPoolDecoder):
    """Decoder of all servers of a test process: starting its workers takes longer than most tests."""

    def close(self) -> None:
        """Do nothing: the workers end with the test process."""


shared_decoder = cache(SharedDecoder)


class Serving:
    """Running server."""

    def __init__(self, app, port: int) -> None:
        self.app = app
        self.services = app.state.services
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        # Loading certificates takes longer than most requests of a test.
        self.client = httpx2.Client(base_url=self.url, timeout=60.0, verify=False)
        self.server = None

    def delete(self, path: str, **options: Any):
        return self.client.delete(path, **options)

    def get(self, path: str, **options: Any):
        return self.client.get(path, **options)

    def post(self, path: str, body: Any, **options: Any):
        return self.client.post(path, json=body, **options)

    def chat(self, *arguments: Any, **fields: Any) -> dict:
        """Return the reply to a question."""
        reply = self.post("/v1/chat/completions", chat(*arguments, **fields))
        assert reply.status_code == 200, reply.text
        return reply.json()

    def chunks(self, *arguments: Any, **fields: Any) -> list[dict]:
        """Return the chunks of a stream, without the last [DONE]."""
        body = chat(*arguments, stream=True, **fields)
        with self.client.stream("POST", "/v1/chat/completions", json=body) as reply:
            assert reply.status_code == 200, reply.read()
            lines = [line for line in reply.iter_lines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line[6:]) for line in lines[:-1]]

    @property
    def num_unfinished(self) -> int:
        return self.services.engine.scheduler.num_unfinished


@contextmanager
def serving(
    model, *, keys=(), parts=(), fetcher=None, names=("test",), **settings: Any
) -> Iterator[Serving]:
    found = ServerSettings(port=0, **(FAST | settings))
    load = model if callable(model) and not hasattr(model, "dialect") else lambda: model
    with patch("pixel_reasoner.server.services.WorkerPoolDecoder", shared_decoder):
        app = create_app(found, load, names=names, keys=keys, parts=parts, fetcher=fetcher)
    listening = listen(found)
    server = build_server(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    one = Serving(app, listening.getsockname()[1])
    one.server = server
    try:
        wait_until(lambda: server.started and app.state.services.loaded is not None)
        yield one
    finally:
        one.client.close()
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"


def wait_until(is_true, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def data_url(path: Path | bytes, kind: str = "image/png") -> str:
    content = path if isinstance(path, bytes) else path.read_bytes()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(path: Path | bytes) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(path)}}


def user(text: str, *pictures: Path | bytes) -> dict:
    return {"role": "user", "content": [*map(picture, pictures), {"type": "text", "text": text}]}


def documented(name: str, url: str, question: str) -> str:
    """Return an example of docs/serve.md that asks another question, of a server with the key `KEY`."""
    (block,) = [one for one in blocks(ROOT / "docs" / "serve.md") if one.file == name]
    text = block.text.replace("http://127.0.0.1:8008", url)
    text = text.replace("Which letter is on the red triangle?", question)
    return re.sub(r"\bnone\b", KEY, text)


def chat(text: str, *pictures: Path | bytes, **fields: Any) -> dict:
    return {"model": "test", "messages": [user(text, *pictures)]} | fields
