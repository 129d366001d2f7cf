"""A chat server for tests: HTTP in front of any model of ours, which misbehaves when told to.

with served(model) as server:
    server.url, server.requests        # bodies as they came, with their headers
    server.program = ["500", "cut"]    # what the next requests meet, then it behaves
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from pixel_reasoner.models.api import ContextFull
from pixel_reasoner.schema.settings import SamplingParams

PAGE = "<!DOCTYPE html><html><body>Welcome to nginx!</body></html>"
TOO_LONG = "This model's maximum context length is 1024 tokens. However, you requested 2000."
BLIND = "At most 0 image(s) may be provided in one prompt. image_url is not supported."


class Server(ThreadingHTTPServer):
    """What the test sees."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.program: list[str] = []
        self.always: str | None = None
        self.owned_by = "vllm"
        self.names = ["served"]
        self.delay_s = 0.0
        self.reads_calls = False  # out of the text, as `transformers serve` does
        self.now = self.most_at_once = 0
        self.lock = threading.Lock()


def conversation_of(messages: list[dict]) -> list[dict]:
    """A request's messages as a conversation of ours."""
    told = []
    for message in messages:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        told.append({"role": message["role"], "content": [_part(part) for part in parts]})
    return told


def _part(part: dict) -> dict:
    if part["type"] == "text":
        return part
    data = part["image_url"]["url"].partition("base64,")[2]
    return {"type": "image", "image": Image.open(io.BytesIO(base64.b64decode(data)))}


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        models = [{"id": name, "owned_by": self.server.owned_by} for name in self.server.names]
        self.reply(200, json.dumps({"object": "list", "data": models}))

    def do_POST(self) -> None:
        server = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(asked)
            server.headers.append(dict(self.headers))
            does = server.program.pop(0) if server.program else server.always
            server.now += 1
            server.most_at_once = max(server.most_at_once, server.now)
        time.sleep(server.delay_s)
        try:
            self.misbehave(does) if does else self.behave(asked)
        finally:
            with server.lock:
                server.now -= 1

    def misbehave(self, does: str) -> None:
        if does.isdigit():
            headers = {"Retry_After": "0.2"} if does == "429" else {}
            self.reply(
                int(does),
                json.dumps({"error": f"no, {self.headers.get('Authorization')}"}),
                **headers,
            )
        elif does == "html":
            self.reply(200, PAGE, kind="text/html")
        elif does == "null":
            message = {"role": "assistant", "content": None}
            self.reply(
                200, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})
            )
        elif does == "no choices":
            self.reply(200, json.dumps({"object": "chat.completion"}))
        elif does == "too long":
            self.reply(400, json.dumps({"error": {"message": TOO_LONG}}))
        elif does == "blind":
            self.reply(400, json.dumps({"error": {"message": BLIND}}))
        elif does == "hang":
            time.sleep(3)
            self.close_connection = True
        elif does == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"message": {"content": "The red')
            self.close_connection = True
        elif does == "cut stream":
            self.start_stream()
            self.event({"choices": [{"delta": {"content": "The red"}}]})
            self.close_connection = True
        else:
            raise AssertionError(does)

    def behave(self, asked: dict) -> None:
        decoding = SamplingParams(
            max_new_tokens=asked.get("max_tokens") or asked["max_completion_tokens"],
            temperature=asked["temperature"],
            seed=asked.get("seed", 0),
        )
        with self.server.lock:  # one at a time, as `transformers serve` has it
            (said,) = self.server.model.generate([conversation_of(asked["messages"])], decoding)
        if isinstance(said, ContextFull):
            self.reply(400, json.dumps({"error": {"message": TOO_LONG}}))
            return
        finish = "length" if said.truncated else "stop"
        usage = {"prompt_tokens": said.num_prompt_tokens, "completion_tokens": len(said.token_ids)}
        if asked.get("stream"):
            self.start_stream()
            for start in range(0, len(said.text), 7):
                self.event({"choices": [{"delta": {"content": said.text[start : start + 7]}}]})
            self.event({"choices": [{"delta": {}, "finish_reason": finish}]})
            self.event({"choices": [], "usage": usage})
            self.close_connection = True  # and no [DONE], as `transformers serve` has it
            return
        message = {"role": "assistant", "content": said.text}
        if self.server.reads_calls and "<tool_call>" in said.text:
            words, _, rest = said.text.partition("<tool_call>")
            call = json.loads(rest.partition("</tool_call>")[0])
            function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
            message |= {"content": words.strip(), "tool_calls": [{"function": function}]}
        choice = {"message": message, "finish_reason": finish}
        if asked.get("logprobs"):
            choice["logprobs"] = {"content": [{"logprob": one} for one in said.logprobs]}
        self.reply(200, json.dumps({"choices": [choice], "usage": usage}))

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, event: dict) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def reply(self, status: int, text: str, kind: str = "application/json", **headers) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def served(model) -> Iterator[Server]:
    server = Server(model)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
