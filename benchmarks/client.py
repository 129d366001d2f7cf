"""Time per turn of the remote backend, compared with a plain HTTP client that sends the same bytes.

    .venv/bin/python benchmarks/client.py [QUESTIONS] [ROUNDS]

A server in a separate process replies to every request after 0.25 s: first with a call, then with an answer. The backend of a
`RemoteModel` runs 64 conversations about PixelWorld scenes at once: it encodes pictures, writes messages, selects servers and parses
replies. Then 64 threads of a plain client send the recorded bodies. Both alternate.
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
from pixel_reasoner.models.api import Completion, GenerationRequest, Messages
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import ToolCall
from pixel_reasoner.world import render, scenes

QUESTIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 512
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
CONCURRENCY, DELAY_S = 64, 0.25
CALL = COMPACT.write_call(
    ToolCall(name="zoom_in", arguments={"bbox_2d": [0.1, 0.1, 0.4, 0.4], "target_image": 1})
)


def reply(text: str) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100}}).encode()


class Handler(BaseHTTPRequestHandler):
    """Replies after a delay, without parsing the request."""

    protocol_version = "HTTP/1.1"
    call, answer = reply(f"I look.\n{CALL}"), reply(r"\boxed{7}")

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Return no list of models."""
        self.send_error(404)

    def do_POST(self) -> None:
        """Return a call for the first turn, an answer for the second."""
        request = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(DELAY_S)
        data = self.answer if b'"assistant"' in request else self.call
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Accepts all connections at once."""

    request_queue_size = 256
    daemon_threads = True


def serve(port: Any) -> None:
    server = Server(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever()


def conversations(folder: Path) -> list[list[Messages]]:
    """Return both turns of each question."""
    settings = folder_settings(model_folder("tiny"))
    turns = []
    for question in render(scenes("attribute", "train", 0, QUESTIONS), folder):
        rollout = Rollout(with_media_root(question, folder), settings, RolloutConfig())
        first = rollout.messages()
        rollout.take(Completion(f"I look.\n{CALL}"), 0.0)
        turns.append([first, rollout.messages()])
    return turns


def record(model: RemoteModel, bodies: list[bytes]) -> None:
    """Append the body of each request to `bodies`."""
    ask, lock = model.pool.ask, threading.Lock()

    def recorded(body: bytes, *args: Any, **more: Any) -> Any:
        with lock:
            bodies.append(body)
        return ask(body, *args, **more)

    model.pool.ask = recorded  # type: ignore[method-assign]


def ours(url: str, asked: list[list[Messages]], bodies: list[bytes] | None = None) -> float:
    """Return the seconds of the remote backend. Append the request bodies to `bodies`."""
    policy = RetryPolicy(concurrency=CONCURRENCY)
    model = RemoteModel(RemoteConfig("m", (url,), "compact", policy=policy))
    if bodies is not None:
        record(model, bodies)
    backend, sampling = model.open_backend(), SamplingParams()
    started = time.perf_counter()
    sessions = {str(number): turns for number, turns in enumerate(asked)}
    waiting = list(sessions)

    def submit(session: str, turn: int) -> None:
        messages = sessions[session][turn]
        backend.submit(
            GenerationRequest(
                id=f"{session}/{turn}", session=session, messages=messages, sampling=sampling
            )
        )

    for session in waiting[:CONCURRENCY]:
        submit(session, 0)
    del waiting[:CONCURRENCY]
    num_left = 2 * len(asked)
    while num_left:
        for delta in backend.poll(10.0):
            assert isinstance(delta.completion, Completion), delta
            num_left -= 1
            session, _, turn = delta.id.partition("/")
            if turn == "0":
                submit(session, 1)
                continue
            backend.release(session)
            if waiting:
                submit(waiting.pop(0), 0)
    seconds = time.perf_counter() - started
    model.close()
    return seconds


def bare(url: str, bodies: list[bytes]) -> float:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    with (
        httpx2.Client(timeout=60, limits=limits) as client,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):

        def send(body: bytes) -> Any:
            headers = {"Content-Type": "application/json"}
            return client.post(f"{url}/chat/completions", content=body, headers=headers).json()

        started = time.perf_counter()
        assert all(one["choices"] for one in pool.map(send, bodies))
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
        ours(url, asked, bodies)  # warm-up: imports, files in the page cache; records the bodies
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(ROUNDS):
            seconds["ours"].append(ours(url, asked))
            seconds["bare"].append(bare(url, bodies))
    server.terminate()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    size_kb = sum(map(len, bodies)) / len(bodies) / 1000
    print(
        f"{len(bodies)} turns of {size_kb:.0f} kB, {CONCURRENCY} at once, replies after {DELAY_S} s:"
    )
    for name, median in medians.items():
        print(f"  {name}: {median:.2f} s, {median / len(bodies) * 1000:.2f} ms a turn")
    print(f"  ours / bare: {medians['ours'] / medians['bare']:.2f} x")


if __name__ == "__main__":
    main()
