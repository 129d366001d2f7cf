"""Cost of the HTTP server, each measure next to the same work without HTTP, in one run.

    .venv/bin/python benchmarks/serve.py [throughput] [uploads] [latency] [connections] [start]

throughput   64 clients with the bundled model, relative to `ask_many` with 64 questions in progress in this process
uploads      64 clients upload a picture of 1,024 x 1,024 pixels each, create a trace and read its events to the end, relative to `ask_many` with the
             same questions and traces written to a file
latency      median of one request at a time, scripted model: HTTP minus in-process; request to first event with the bundled model
connections  10,000 requests over 1,000 open connections, scripted model: lost requests, memory above idle
start        from the command to /ready

Server and clients are processes of their own. Rounds of both kinds alternate; medians are printed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import save_traces
from pixel_reasoner.world import render, scenes

MEASURES = ("throughput", "uploads", "latency", "connections", "start")
NUM_CLIENTS, NUM_QUESTIONS, ROUNDS = 64, 128, 3
NUM_SERIAL = 100
NUM_CONNECTIONS, NUM_REQUESTS = 1000, 10_000
SERVER = """
import sys
from collections import deque
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.server.app import create_app
from pixel_reasoner.server.run import listen, serve
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.server.traces import TracesPart
settings = ServerSettings(port=0, max_waiting=4000, max_per_key=10_000, max_picture_tokens=10**12)
def load():
    if sys.argv[1] == "tiny":
        return ModelSpec("tiny").load()
    budgets = folder_settings(model_folder("tiny")).budgets
    model = ScriptedModel([r"It is red. \\boxed{red}"], budgets=budgets)
    model.conversations = deque(maxlen=0)  # which it records for tests
    return model
listening = listen(settings)
print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
serve(create_app(settings, load, names=("model",), parts=[TracesPart()]), listening, lambda: None)
"""


class Server(NamedTuple):
    """Running server process."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        """Port of its address."""
        return int(self.url.rpartition(":")[2])

    def memory_mb(self) -> float:
        """Resident memory of the server and its decoding processes."""
        return sum(_resident_mb(pid) for pid in (self.process.pid, *self.children()))

    def children(self) -> list[int]:
        """Processes that any of its threads started."""
        found = []
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):  # the thread ended
                found += [int(pid) for pid in path.read_text().split()]
        return found


def _resident_mb(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def running(kind: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    server = Server(process.stdout.readline().strip(), process)
    try:
        wait_ready(server.url)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def wait_ready(url: str) -> None:
    for _ in range(3000):
        try:
            urllib.request.urlopen(f"{url}/ready").close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise SystemExit(f"{url} is not ready")


def body(question: Question, *, stream: bool = False) -> bytes:
    """Return a request with the picture of a question as a data URL."""
    content: list[dict[str, object]] = [{"type": "text", "text": question.text}]
    for item in question.media:
        data = base64.b64encode(Path(item.path).read_bytes()).decode()
        url = f"data:image/png;base64,{data}"
        content.insert(0, {"type": "image_url", "image_url": {"url": url}})
    fields = {
        "messages": [{"role": "user", "content": content}],
        "stream": stream,
        "max_tokens": 256,
    }
    return json.dumps(fields).encode()


# --- client ---


class Connection:
    """HTTP connection that is kept open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open(self) -> Connection:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=2**20
        )
        return self

    async def send(
        self,
        content: bytes,
        path: str = "/v1/chat/completions",
        content_type: str = "application/json",
    ) -> None:
        """Send a request."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self.writer.write(head.encode() + content)
        await self.writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        """Return the status and the content of a response with a length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, head
        return int(head[9:12]), await self.reader.readexactly(int(length[1]))


async def clients(port: int, bodies: Sequence[bytes], num_clients: int) -> list[int]:
    """Send requests from several clients and return the statuses."""
    left = iter(bodies)
    statuses: list[int] = []

    async def client() -> None:
        connection = await Connection(port).open()
        for content in left:
            await connection.send(content)
            statuses.append((await connection.receive())[0])
        connection.writer.close()

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return statuses


async def trace_clients(port: int, asked: Sequence[tuple[str, str]]) -> list[int]:
    """Upload pictures, create traces and read their events from several clients. Returns the statuses of the jobs.

    Args:
        port: of the server.
        asked: question and path of its picture.
    """
    left = iter(asked)
    statuses: list[int] = []

    async def client() -> None:
        connection = await Connection(port).open()
        for text, path in left:
            statuses.append(await _trace(connection, text, Path(path).read_bytes()))
        connection.writer.close()

    await asyncio.gather(*(client() for _ in range(NUM_CLIENTS)))
    return statuses


async def _trace(connection: Connection, text: str, picture: bytes) -> int:
    """Return 200 if the trace finished with an answer, otherwise the status of the failed request."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    await connection.send(
        head + picture + b"\r\n--x--\r\n", "/v1/files", "multipart/form-data; boundary=x"
    )
    status, content = await connection.receive()
    if status != 200:
        return status
    asked = {"question": text, "media": [{"kind": "image", "url": json.loads(content)["id"]}]}
    await connection.send(json.dumps(asked).encode(), "/v1/traces")
    status, content = await connection.receive()
    if status != 200:
        return status
    events = await Connection(connection.port).open()
    path = f"/v1/traces/{json.loads(content)['id']}/events"
    events.writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{connection.port}\r\nConnection: close\r\n\r\n".encode()
    )
    received = await events.reader.read()
    events.writer.close()
    return 200 if b"event: finished" in received else 0


def client_seconds(port: int, bodies: Sequence[bytes]) -> float:
    """Return the seconds of all requests, sent by another process."""
    return _in_another_process("--client", port, [one.decode() for one in bodies])


def _in_another_process(what: str, port: int, sent: Sequence[object]) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(sent, file)
        file.flush()
        command = [sys.executable, __file__, what, str(port), file.name]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(found.stdout)


def run_client(what: str, port: int, path: str) -> None:
    sent = json.loads(Path(path).read_text())
    started = time.perf_counter()
    if what == "--client":
        statuses = asyncio.run(clients(port, [one.encode() for one in sent], NUM_CLIENTS))
    else:
        statuses = asyncio.run(trace_clients(port, sent))
    seconds = time.perf_counter() - started
    assert statuses == [200] * len(sent), statuses
    print(seconds)


# --- measures ---


def questions(folder: Path, count: int) -> list[Question]:
    return [
        with_media_root(one, folder)
        for one in render(scenes("attribute", "test", 0, count), folder)
    ]


def throughput(folder: Path) -> None:
    asked = questions(folder, NUM_QUESTIONS)
    bodies = [body(one) for one in asked]
    _compare("throughput", folder, asked, 0.9, lambda port: client_seconds(port, bodies))


def uploads(folder: Path) -> None:
    asked = questions(folder, NUM_QUESTIONS)
    sent = [(one.text, one.media[0].path) for one in asked]
    _compare(
        "uploads", folder, asked, 0.8, lambda port: _in_another_process("--traces", port, sent)
    )


def _compare(
    name: str,
    folder: Path,
    asked: Sequence[Question],
    floor: float,
    seconds_over_http: Callable[[int], float],
) -> None:
    """Print answers per second over HTTP and in process. Rounds alternate, the first is a warm-up."""
    model: GenerationModel = ModelSpec("tiny").load()
    config = RolloutConfig(sampling=SamplingParams(max_new_tokens=256))
    inside, outside = [], []
    with running("tiny") as server:
        for number in range(ROUNDS + 1):
            started = time.perf_counter()
            traces = list(ask_many(asked, model, config, batch_size=NUM_CLIENTS))
            save_traces(traces, folder / "traces.jsonl")
            seconds = time.perf_counter() - started
            assert len(traces) == len(asked)
            http = seconds_over_http(server.port)
            if number:
                inside.append(len(asked) / seconds)
                outside.append(len(asked) / http)
    ratio = statistics.median(outside) / statistics.median(inside)
    print(
        f"{name}: {statistics.median(outside):.1f} answers/s over HTTP, {statistics.median(inside):.1f} in process: "
        f"{ratio:.2f}x (floor {floor:.2f}x); rounds {_shown(outside)} and {_shown(inside)}"
    )


def latency(folder: Path) -> None:
    asked = questions(folder, 32)
    budgets = folder_settings(model_folder("tiny")).budgets
    model = ScriptedModel([r"It is red. \boxed{red}"], budgets=budgets)
    model.conversations = deque(maxlen=0)  # type: ignore[assignment]
    get_scheduler(model).start()
    with running("scripted") as server:
        http, inside = asyncio.run(_serial(server.port, asked, model))
    added = statistics.median(http) - statistics.median(inside)
    print(
        f"latency: {1e3 * statistics.median(http):.1f} ms over HTTP, {1e3 * statistics.median(inside):.1f} ms in process: "
        f"{1e3 * added:.1f} ms added (floor 5 ms)"
    )
    with running("tiny") as server:
        first = asyncio.run(_first_events(server.port, asked))
    print(f"first event: {1e3 * statistics.median(first):.1f} ms, idle server (floor 60 ms)")


async def _serial(
    port: int, asked: Sequence[Question], model: GenerationModel
) -> tuple[list[float], list[float]]:
    connection = await Connection(port).open()
    http, inside = [], []
    for number in range(NUM_SERIAL + 10):
        question = asked[number % len(asked)]
        content = body(question)
        started = time.perf_counter()
        await connection.send(content)
        status, _ = await connection.receive()
        middle = time.perf_counter()
        ask(question, model)
        if number >= 10:
            http.append(middle - started)
            inside.append(time.perf_counter() - middle)
        assert status == 200
    return http, inside


async def _first_events(port: int, asked: Sequence[Question]) -> list[float]:
    seconds = []
    for number in range(30):
        connection = await Connection(port).open()
        content = body(asked[number % len(asked)], stream=True)
        started = time.perf_counter()
        await connection.send(content)
        await connection.reader.readuntil(b"data: ")
        seconds.append(time.perf_counter() - started)
        await connection.reader.readuntil(b"[DONE]")
        connection.writer.close()
    return seconds[5:]


def connections(folder: Path) -> None:
    _raise_file_limit()
    contents = [body(one) for one in questions(folder, 64)]
    with running("scripted") as server:
        asyncio.run(clients(server.port, contents[:8], 1))  # start the decoding processes
        idle = server.memory_mb()
        started = time.perf_counter()
        statuses, peak = asyncio.run(_many(server, contents))
        seconds = time.perf_counter() - started
    lost = NUM_REQUESTS - statuses.count(200)
    print(
        f"connections: {NUM_REQUESTS} requests over {NUM_CONNECTIONS} connections in {seconds:.0f} s, {lost} lost, "
        f"{peak - idle:.0f} MB above idle ({idle:.0f} MB) (floor: none, 500 MB)"
    )


async def _many(server: Server, contents: Sequence[bytes]) -> tuple[list[int], float]:
    opened = [await Connection(server.port).open() for _ in range(NUM_CONNECTIONS)]
    statuses: list[int] = []
    peak = 0.0

    async def client(number: int, connection: Connection) -> None:
        for step in range(NUM_REQUESTS // NUM_CONNECTIONS):
            await connection.send(contents[(number + step) % len(contents)])
            statuses.append((await connection.receive())[0])

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, server.memory_mb())
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client(*one) for one in enumerate(opened)), return_exceptions=True)
    watching.cancel()
    return statuses, peak


def start(folder: Path) -> None:
    del folder
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pixel_reasoner.cli", "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found is not None
        wait_ready(found[0])
        seconds.append(time.perf_counter() - started)
        process.terminate()
        process.wait(60)
    print(f"start: {statistics.median(seconds[1:]):.1f} s to /ready (floor 8 s)")


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{one:.1f}" for one in values)


def main() -> None:
    if sys.argv[1:2] in (["--client"], ["--traces"]):
        run_client(sys.argv[1], int(sys.argv[2]), sys.argv[3])
        return
    for name in sys.argv[1:] or MEASURES:
        with tempfile.TemporaryDirectory() as folder:
            globals()[name](Path(folder))


if __name__ == "__main__":
    main()
