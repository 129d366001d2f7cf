"""What our client costs a turn, next to a bare HTTP client that sends the same bytes.

    .venv/bin/python benchmarks/client.py [QUESTIONS]

A server in a process of its own answers every request after a quarter of a second, with a look first and then an answer. Conversations
about PixelWorld scenes, their pictures in memory, go through `RemoteModel.session`, 64 at once: pictures are encoded, messages written,
requests shared out, replies read. Then 64 threads of a bare client send the recorded bodies, turn about.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.models.api import Completion, Messages
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import ToolCall
from pixel_reasoner.world import render, scenes

QUESTIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 512
AT_ONCE, DELAY_S, ROUNDS = 64, 0.25, 5
LOOK = COMPACT.write_call(
    ToolCall(name="zoom_in", arguments={"bbox_2d": [0.1, 0.1, 0.4, 0.4], "target_image": 1})
)


def reply(text: str) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100}}).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers after a while, without reading what it was asked."""

    protocol_version = "HTTP/1.1"
    look, answer = reply(f"I look.\n{LOOK}"), reply(r"\boxed{7}")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """No list of models."""
        self.send_error(404)

    def do_POST(self) -> None:
        """A look for a first turn, an answer for a second."""
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(DELAY_S)
        said = self.answer if b'"assistant"' in asked else self.look
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


class Server(ThreadingHTTPServer):
    """Takes all connections at once."""

    request_queue_size = 256
    daemon_threads = True


def serve(port: Any) -> None:
    server = Server(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever()


def conversations(folder: Path) -> list[list[Messages]]:
    """Both turns of each question."""
    speaker = folder_settings(model_folder("tiny"))
    told = []
    for question in render(scenes("attribute", "train", 0, QUESTIONS), folder):
        rollout = Rollout(with_media_root(question, folder), speaker, RolloutConfig())
        first = rollout.messages()
        rollout.take(Completion(f"I look.\n{LOOK}"), 0.0)
        told.append([first, rollout.messages()])
    return told


def ours(url: str, asked: list[list[Messages]], bodies: list[bytes] | None = None) -> float:
    policy = RetryPolicy(concurrency=AT_ONCE)
    model = RemoteModel(RemoteConfig("m", (url,), "compact", policy=policy))
    if bodies is not None:
        real, lock = model.pool.ask, threading.Lock()

        def recorded(body: bytes, read: Any) -> Any:
            with lock:
                bodies.append(body)
            return real(body, read)

        model.pool.ask = recorded  # type: ignore[method-assign]
    started = time.perf_counter()
    session = model.session(SamplingParams())
    waiting, left = list(enumerate(asked)), 2 * len(asked)
    for key, turns in waiting[:AT_ONCE]:
        session.add(key, turns[0])
    del waiting[:AT_ONCE]
    second = set[int]()
    while left:
        for key, said, _ in session.done():
            assert isinstance(said, Completion)
            left -= 1
            if key not in second:
                second.add(key)
                session.add(key, asked[key][1])
                continue
            session.end(key)
            if waiting:
                key, turns = waiting.pop(0)
                session.add(key, turns[0])
    seconds = time.perf_counter() - started
    model.close()
    return seconds


def bare(url: str, bodies: list[bytes]) -> float:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    with httpx2.Client(timeout=60, limits=limits) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def send(body: bytes) -> Any:
            headers = {"Content-Type": "application/json"}
            return client.post(f"{url}/chat/completions", content=body, headers=headers).json()

        started = time.perf_counter()
        assert all(told["choices"] for told in pool.map(send, bodies))
        return time.perf_counter() - started


def main() -> None:
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port.value}/v1"
    with tempfile.TemporaryDirectory() as name:
        asked, bodies = conversations(Path(name)), list[bytes]()
        ours(url, asked, bodies)  # a first time: imports, files in the page cache, and what is sent
        seconds = {"ours": [], "bare": []}
        for _ in range(ROUNDS):
            seconds["ours"].append(ours(url, asked))
            seconds["bare"].append(bare(url, bodies))
    server.terminate()
    medians = {who: statistics.median(all_of) for who, all_of in seconds.items()}
    size_kb = sum(map(len, bodies)) / len(bodies) / 1000
    print(f"{len(bodies)} turns of {size_kb:.0f} kB, {AT_ONCE} at once, replies after {DELAY_S} s:")
    for who, median in medians.items():
        print(f"  {who}: {median:.2f} s, {median / len(bodies) * 1000:.2f} ms a turn")
    print(f"  ours / bare: {medians['ours'] / medians['bare']:.2f} x")


if __name__ == "__main__":
    main()
