"""Run `ask`, `probe` and `eval` against a server with each mode of `misbehaviour`.

    python -m attacks.servers --count 400 --seed 0

Each run executes a command line in a worker process, every 20th in a new process. Checks: no traceback, exit code 0 or 2, at most
500 MB, at most 5 s more than the timeout, no part of the key in the output or in a file of the run.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import random
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))
from attacks.misbehaviour import CHAT, MODELS, RequestInfo, good, send

MAX_MB = 500
SLACK_S = 5.0
MAX_BODY_BYTES = 50 * 2**20
NUM_PROBE_REQUESTS = 10
_MODEL_LIST = send({"data": [{"id": "served", "owned_by": "vllm"}]})


class Task(NamedTuple):
    """One command against one mode."""

    number: int
    mode: str
    command: str
    num_good: int
    """replies before the server misbehaves"""
    key: str
    key_in: str
    """environment, file or address"""

    @property
    def path(self) -> str:
        """Return the server path of this run."""
        return f"{self.number}-{self.num_good}/{quote(self.mode, safe='')}"


class Result(NamedTuple):
    """Result of a run."""

    task: Task
    code: int
    output: str
    seconds: float
    peak_mb: float
    leaks: tuple[str, ...] = ()


class Handler(socketserver.StreamRequestHandler):
    """Handler of one request per connection."""

    def handle(self) -> None:
        """Read a request and send the response."""
        with suppress(OSError, ValueError):
            line = self.rfile.readline(65_537).decode("latin-1").split()
            headers = {}
            while field := self.rfile.readline(65_537).decode("latin-1").strip():
                name, _, value = field.partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(min(int(headers.get("content-length", 0)), MAX_BODY_BYTES))
            self.reply(line[1], headers, body)

    def reply(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Send the response of the mode in the path of the address."""
        path, _, query = path.partition("?")
        run, mode = path.split("/")[1:3]
        mode = re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), mode)
        key = headers.get("authorization", "").removeprefix("Bearer ") or query.partition("=")[2]
        request = RequestInfo(key, b'"stream": true' in body[:2000], body.count(b"data:image"))
        if path.endswith("/models"):
            chosen = MODELS.get(mode, _MODEL_LIST)
        else:
            with self.server.lock:
                self.server.counts[run] += 1
                is_good = self.server.counts[run] <= int(run.partition("-")[2])
            chosen = good if is_good else CHAT.get(mode, good)
        for piece in chosen(request):
            self.wfile.write(piece)


class Server(socketserver.ThreadingTCPServer):
    """Misbehaving server. The path selects the mode: /RUN-NUM_GOOD/MODE/v1."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, request, client_address) -> None:
        """Print nothing: clients close connections."""


@contextmanager
def served() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def tasks(count: int, seed: int) -> Iterator[Task]:
    """Yield runs: all modes in random order, with random commands."""
    rng = random.Random(seed)
    modes: list[str] = []
    for number in range(count):
        modes = modes or rng.sample([*CHAT, *MODELS], len(CHAT) + len(MODELS))
        key = "sk-" + "".join(rng.choices("abcdefghijkmnpqrstuvwxyz23456789+/_-", k=40))
        yield Task(
            number,
            modes.pop(),
            rng.choice(["ask", "ask", "ask --json", "probe", "eval", "eval"]),
            rng.choice([0, 3, NUM_PROBE_REQUESTS, NUM_PROBE_REQUESTS]),
            key,
            rng.choice(["environment", "file", "address"]),
        )


def arguments(task: Task, port: int, folder: Path, timeout_s: float) -> list[str]:
    """Write the files of a run and return its command line."""
    from PIL import Image

    picture = folder / "a.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    url = f"http://127.0.0.1:{port}/{task.path}/v1"
    if task.key_in == "address":
        url += f"?key={quote(task.key, safe='')}"
    server = ["--model", "served", "--endpoint", url, "--timeout-s", str(timeout_s)]
    if task.key_in == "file":
        (folder / "key").write_text(f" {task.key}\n")
        server += ["--key-file", str(folder / "key")]
    if task.command == "probe":
        return ["probe", *server]
    if task.command.startswith("ask"):
        command = ["ask", "Which colour?", "--image", str(picture), *task.command.split()[1:]]
        return [*command, "--report", str(folder / "out.html"), "--max-turns", "2", *server]
    rows = folder / "data"
    rows.mkdir()
    media = [{"type": "image", "path": str(picture)}]
    lines = [
        {"id": f"{n}", "media": media, "question": "Which colour?", "answer": "red"}
        for n in range(3)
    ]
    (rows / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = ["--out", str(folder / "run"), "--max-turns", "2"]
    return ["eval", "jsonl", "--data", str(rows), *out, *server]


def environment(task: Task, folder: Path) -> dict[str, str]:
    key = task.key if task.key_in == "environment" else ""
    return {"OPENAI_API_KEY": key, "XDG_CACHE_HOME": str(folder / "cache"), "NO_COLOR": "1"}


def run(task: Task, port: int, timeout_s: float) -> Result:
    """Run a command in this process."""
    from pixel_reasoner.cli import main

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(environment(task, folder))
        sys.argv = ["pixel-reasoner", *arguments(task, port, folder, timeout_s)]
        output, code = io.StringIO(), 0
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        started = time.perf_counter()
        with redirect_stdout(output), redirect_stderr(output):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
        seconds = time.perf_counter() - started
        status = Path("/proc/self/status").read_text()
        peak_mb = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        return Result(
            task, code, output.getvalue(), seconds, peak_mb, leaks(task, output.getvalue(), folder)
        )


def run_as_process(task: Task, port: int, timeout_s: float) -> Result:
    """Run a command in a new process. The start-up time is not counted."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+") as file:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "pixel_reasoner.cli",
            *arguments(task, port, folder, timeout_s),
        ]
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **environment(task, folder)}
        )
        _, status, usage = os.wait4(process.pid, 0)
        file.seek(0)
        output = file.read()
        code = os.waitstatus_to_exitcode(status)
        return Result(task, code, output, 0.0, usage.ru_maxrss / 1024, leaks(task, output, folder))


def leaks(task: Task, output: str, folder: Path) -> tuple[str, ...]:
    """Return the places that contain a part of the key."""
    texts = {"output": output}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "key":
            texts[path.name] = path.read_bytes().decode("utf-8", "replace")
    return tuple(name for name, text in texts.items() if has_key(text, task.key))


def has_key(text: str, key: str) -> bool:
    """Return whether a text contains 8 consecutive characters of a key or of one of its encodings."""
    forms = [(key, 8), ("".join(f"%{ord(one):02x}" for one in key), 24), (quote(key, safe=""), 10)]
    for start in range(3):  # base64 depends on the offset
        forms.append((base64.b64encode(key[start:].encode()).decode().rstrip("=")[:-1], 12))
    return any(
        form[place : place + size] in text
        for form, size in forms
        for place in range(len(form) - size + 1)
    )


def failures(result: Result, max_s: float) -> list[str]:
    """Return the violations of a run."""
    found = {
        "traceback": "Traceback" in result.output or "Error in sys" in result.output,
        "exit code": result.code not in (0, 2),
        "memory": result.peak_mb > MAX_MB,
        "time": result.seconds > max_s,
        "key": bool(result.leaks),
        "lines": result.output.count("error: expected") != (result.code == 2),
    }
    return [name for name, is_so in found.items() if is_so]


def warm_up(port: int) -> None:
    """Import everything, so that runs do not include the import time."""
    run(Task(-1, "none", "ask", 99, "sk-0123456789", "environment"), port, 60.0)


def attack(
    count: int, seed: int, timeout_s: float = 2.0, slack_s: float = SLACK_S, jobs: int = 1
) -> tuple[list[Result], Counter[str]]:
    """Return all results, and the number of failures by kind."""
    context = multiprocessing.get_context("spawn")
    counts: Counter[str] = Counter()
    results = []
    with (
        served() as server,
        ProcessPoolExecutor(jobs, context, warm_up, (server.server_address[1],)) as executor,
    ):
        port = server.server_address[1]
        started = [
            executor.submit(run_as_process if task.number % 20 == 7 else run, task, port, timeout_s)
            for task in tasks(count, seed)
        ]
        for future in started:
            result = future.result(timeout=600)
            found = failures(result, timeout_s + slack_s)
            counts.update(found)
            results.append(result)
            if found:
                print(
                    f"{found} {result.task} exit {result.code}, {result.seconds:.1f} s, {result.peak_mb:.0f} MB, "
                    f"{result.leaks}\n{result.output[-1500:]}",
                    flush=True,
                )
    return results, counts


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=2.0)
    parser.add_argument("--slack-s", type=float, default=SLACK_S, help="more on a busy machine")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(argv)
    results, counts = attack(given.count, given.seed, given.timeout_s, given.slack_s, given.jobs)
    slowest = max(results, key=lambda one: one.seconds)
    largest = max(results, key=lambda one: one.peak_mb)
    print(
        f"servers: {len(results)} runs, {len({one.task.mode for one in results})} modes of {len(CHAT) + len(MODELS)}, "
        f"{sum(one.code == 0 for one in results)} ended well, {sum(one.code == 2 for one in results)} with an error, "
        f"failures: {dict(counts) or 'none'}; slowest {slowest.seconds:.1f} s ({slowest.task.mode}, timeout "
        f"{given.timeout_s:g} s); largest {largest.peak_mb:.0f} MB ({largest.task.mode}); "
        f"load {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores"
    )
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main())
