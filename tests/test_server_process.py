"""The command `serve` as a process: start, keys, logs, SIGTERM, Ctrl-C; and its OpenAPI document."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx2
import pytest

from chat_server import served
from cli_fixture import assert_refused
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.traces import TracesPart
from server_fixture import KEY, chat, serving, wait_until
from test_scheduler import CLOSER, RED


class Process:
    """Running command."""

    def __init__(self, arguments) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pixel_reasoner.cli",
                "serve",
                "--port",
                "0",
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        )
        self.line = self.process.stdout.readline()
        found = re.search(r"http://\S+:\d+", self.line)
        assert found, self.line + self.process.stderr.read()
        self.url = found[0]
        self.port = int(self.url.rpartition(":")[2])

    def wait_ready(self, headers, timeout_s: float = 60.0) -> None:
        def is_ready() -> bool:
            reply = httpx2.get(f"{self.url}/ready", headers=headers, timeout=timeout_s)
            return reply.status_code == 200

        wait_until(is_ready, timeout_s)

    def stop(self, number: int) -> tuple[int, str]:
        """Return the exit code and standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err


@contextmanager
def running(*arguments):
    one = Process(arguments)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.mark.medium
def test_sigterm_answers_what_is_in_progress_and_exits_0(photo, tmp_path):
    (tmp_path / "keys.txt").write_text(f"alice: {KEY}\n")
    headers = {"Authorization": f"Bearer {KEY}"}
    with served(ScriptedModel([CLOSER, RED])) as upstream:
        arguments = ["--model", "served", "--endpoint", upstream.url, "--dialect", "compact"]
        with running(*arguments, "--key-file", tmp_path / "keys.txt") as one:
            assert one.line.startswith("Serving served at http://127.0.0.1:")
            one.wait_ready(headers)
            assert httpx2.get(f"{one.url}/v1/models").status_code == 401
            upstream.delay_s = 1.0
            body = chat("SECRET question", photo, stream=True) | {"model": "served"}
            url = f"{one.url}/v1/chat/completions"
            with httpx2.stream("POST", url, json=body, headers=headers, timeout=30) as reply:
                lines = reply.iter_lines()
                assert "assistant" in next(lines)
                one.process.send_signal(signal.SIGTERM)
                rest = "".join(lines)
            assert "[DONE]" in rest
            assert "boxed{red}" in rest
            _, err = one.process.communicate(timeout=120)
            assert one.process.returncode == 0, err
    logs = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    (request,) = [log for log in logs if log.get("route") == "/v1/chat/completions"]
    assert request["client"] == "alice"
    assert request["request_id"].startswith("req-")
    assert {"ready", "draining"} <= {log["message"] for log in logs}
    for secret in (KEY, "SECRET", "iVBOR"):
        assert secret not in err


@pytest.mark.medium
def test_ctrl_c_is_exit_code_130(scripted):
    with served(scripted(RED)) as upstream:
        arguments = ["--model", "served", "--endpoint", upstream.url, "--dialect", "compact"]
        with running(*arguments) as one:
            one.wait_ready({})
            code, err = one.stop(signal.SIGINT)
            assert code == 130, err
            assert "Traceback" not in err


@pytest.mark.medium
def test_a_model_that_cannot_be_loaded_ends_the_server_with_one_message():
    with running("--model", "x", "--endpoint", "http://127.0.0.1:9/v1", "--timeout-s", "1") as one:
        out, err = one.process.communicate(timeout=60)
    assert one.process.returncode == 2, out + err
    assert "error: expected" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.extras
def test_the_bundled_model_is_ready_soon():
    started = time.monotonic()
    with running() as one:
        one.wait_ready({})
        seconds = time.monotonic() - started
        assert seconds < 60  # benchmarks/serve.py measures it
        code, err = one.stop(signal.SIGTERM)
        assert code == 0, err
        assert "only supports PixelWorld" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--key-file"),
        (["--key-file", "no.txt"], "no.txt"),
        (["--allow-media-host", "*.example.org"], "exact name"),
        (["--endpoint-key-file", "x"], "--endpoint-key-file"),
        (["--host", "256.1.1.1", "--no-auth"], "--host"),
    ],
)
def test_unusable_options_are_refused_before_the_model_is_loaded(arguments, words, run):
    result = run("serve", *arguments)
    assert_refused(result, words)


def test_a_port_in_use_is_one_message(run):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert_refused(run("serve", "--port", other.getsockname()[1]), "a free port", "--port")


def test_a_missing_package_is_one_message_with_the_install_command(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert_refused(run("serve"), "fastapi is not installed", ".[serve]")


# --- the OpenAPI document ---


def test_the_document_describes_every_error(photo):
    with serving(ScriptedModel([RED]), parts=[TracesPart()]) as server:
        document = server.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            if path != "/health":
                assert {"200", "401", "403"} <= set(operation["responses"]), (method, path)
    body = document["paths"]["/v1/chat/completions"]["post"]
    assert {"400", "404", "413", "415", "429", "503", "504"} <= set(body["responses"])
    assert "text/event-stream" in body["responses"]["200"]["content"]
    assert "ChatRequest" in document["components"]["schemas"]


@pytest.mark.slow
def test_generated_requests_get_documented_responses():
    """A hundred cases; `python -m attacks.api` sends 5,000."""
    pytest.importorskip("schemathesis")
    from attacks.api import send_cases

    with serving(ScriptedModel([CLOSER, RED]), parts=[TracesPart()]) as server:
        result = send_cases(server.url, num_cases=120, seed=1)
    assert result.num_cases >= 100
    assert result.failures == []


def test_studio_and_mcp_are_parts_of_the_server_and_need_the_key(tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text(KEY)
    process = Process(["--key-file", keys, "--store", tmp_path / "store"])
    try:
        assert process.process.stdout.readline().strip() == f"Studio at {process.url}/"
        headers = {"Authorization": f"Bearer {KEY}"}
        process.wait_ready(headers)
        page = httpx2.get(process.url)
        assert page.status_code == 200
        assert KEY not in page.text
        for path in ("/v1/studio", "/v1/traces", "/v1/samples/x/media"):
            assert httpx2.get(process.url + path).status_code == 401
        assert httpx2.post(f"{process.url}/mcp", json={}).status_code == 401
        assert httpx2.get(f"{process.url}/v1/studio", headers=headers).json()["is_bundled"]
        found = httpx2.post(f"{process.url}/mcp", json={}, headers=headers)
        assert found.status_code not in (401, 404)
    finally:
        code, err = process.stop(signal.SIGTERM)
    assert code == 0, err
    assert "only supports PixelWorld" in err


def test_studio_can_be_left_out(scripted):
    with served(scripted(RED)) as upstream:
        arguments = ["--model", "served", "--endpoint", upstream.url, "--dialect", "compact"]
        with running(*arguments, "--no-studio") as one:
            one.wait_ready({})
            assert httpx2.get(one.url).status_code == 404
            assert httpx2.get(f"{one.url}/v1/traces").status_code == 200
