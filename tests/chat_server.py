"""Chat server for tests: HTTP interface of any model of this project, with programmed failures.

with served(model) as server:
    server.url, server.requests        # bodies of the requests, and their headers
    server.program = ["500", "cut"]    # failures of the next requests
    server.num_running                 # requests in progress; ends when the client closes the connection
"""

from __future__ import annotations

import base64
import io
import json
import select
import socket
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
NULL = {"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}
REPLIES = {
    "null": (200, {"choices": [NULL]}),
    "no choices": (200, {"object": "chat.completion"}),
    "too long": (400, {"error": {"message": TOO_LONG}}),
    "blind": (400, {"error": {"message": BLIND}}),
}


class Disconnected(Exception):
    """The client closed the connection."""


class Server(ThreadingHTTPServer):
    """Server that records its requests."""

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
        self.rejects_tool_pictures = False
        self.num_rejected = 0
        self.delay_s = 0.0
        self.event_delay_s = 0.0  # before each event of a stream
        self.reads_calls = False  # parsed from the text, as `transformers serve` does
        self.message = None  # request -> message of the reply, instead of the message of the model
        self.num_running = self.max_running = self.num_aborted = 0
        self.lock = threading.Lock()
        self.count_lock = threading.Lock()

    def handle_error(self, request, client_address) -> None:
        """Print no traceback: clients disconnect."""


def conversation_of(messages: list[dict]) -> list[dict]:
    """Return the messages of a request as a conversation of this project."""
    conversation = []
    for message in messages:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        conversation.append({"role": message["role"], "content": [_part(part) for part in parts]})
    return conversation


def _part(part: dict) -> dict:
    if part["type"] == "text":
        return part
    data = part["image_url"]["url"].partition("base64,")[2]
    return {"type": "image", "image": Image.open(io.BytesIO(base64.b64decode(data)))}


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        """Print nothing."""

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
        with server.count_lock:
            server.num_running += 1
            server.max_running = max(server.max_running, server.num_running)
        try:
            self.wait(server.delay_s)
            self.misbehave(does) if does else self.behave(asked)
        except (Disconnected, ConnectionError):
            self.close_connection = True
            with server.count_lock:
                server.num_aborted += 1
        finally:
            with server.count_lock:
                server.num_running -= 1

    def wait(self, seconds: float) -> None:
        """Wait until the client disconnects, as during generation."""
        deadline = time.monotonic() + seconds
        while (remaining_s := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], remaining_s)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise Disconnected

    def misbehave(self, does: str) -> None:
        if does.isdigit():
            headers = {"Retry_After": "0.2"} if does == "429" else {}
            self.reply(
                int(does),
                json.dumps({"error": f"no, {self.headers.get('Authorization')}"}),
                **headers,
            )
        elif does.startswith("500 "):
            self.reply(500, does.removeprefix("500 "))
        elif does.startswith("stream "):
            self.start_stream()
            self.event(json.loads(does.removeprefix("stream ")))
            self.close_connection = True
        elif does == "html":
            self.reply(200, PAGE, kind="text/html")
        elif does in REPLIES:
            status, reply = REPLIES[does]
            self.reply(status, json.dumps(reply))
        elif does == "never":
            self.wait(60.0)
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
        tools = [one["content"] for one in asked["messages"] if one["role"] == "tool"]
        if self.server.rejects_tool_pictures and any(isinstance(one, list) for one in tools):
            self.server.num_rejected += 1
            self.reply(400, json.dumps({"error": "content of a tool message must be text"}))
            return
        if self.server.message is not None:
            self.send_message(self.server.message(asked), asked)
            return
        with self.server.lock:  # one at a time, as in `transformers serve`
            (turn,) = self.server.model.generate([conversation_of(asked["messages"])], decoding)
        if isinstance(turn, ContextFull):
            self.reply(400, json.dumps({"error": {"message": TOO_LONG}}))
            return
        finish = "length" if turn.truncated else "stop"
        counts = (turn.num_prompt_tokens, len(turn.token_ids))
        usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
        if asked.get("stream"):
            self.start_stream()
            for start in range(0, len(turn.text), 7):
                self.event({"choices": [{"delta": {"content": turn.text[start : start + 7]}}]})
            self.event({"choices": [{"delta": {}, "finish_reason": finish}]})
            self.event({"choices": [], "usage": usage})
            self.close_connection = True  # and no [DONE], as in `transformers serve`
            return
        message = {"role": "assistant", "content": turn.text}
        if self.server.reads_calls and "<tool_call>" in turn.text:
            words, _, rest = turn.text.partition("<tool_call>")
            call = json.loads(rest.partition("</tool_call>")[0])
            function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
            message |= {"content": words.strip(), "tool_calls": [{"function": function}]}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        if asked.get("logprobs"):
            choice["logprobs"] = {"content": [{"logprob": one} for one in turn.logprobs]}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": asked.get("model")}
        usage["total_tokens"] = sum(counts)
        self.reply(200, json.dumps({**reply, "choices": [choice], "usage": usage}))

    def send_message(self, message: dict, asked: dict) -> None:
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        if not asked.get("stream"):
            choice = {"message": {"role": "assistant", **message}, "finish_reason": finish}
            self.reply(200, json.dumps({"choices": [choice]}))
            return
        self.start_stream()
        for name in ("reasoning_content", "content"):
            text = message.get(name) or ""
            for start in range(0, len(text), 3):
                self.event({"choices": [{"delta": {name: text[start : start + 3]}}]})
        for index, call in enumerate(message.get("tool_calls") or ()):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            pieces = [{"name": name}, *({"arguments": letter} for letter in arguments)]
            for piece in pieces:
                calls = [{"index": index, "function": piece}]
                self.event({"choices": [{"delta": {"tool_calls": calls}}]})
        self.event({"choices": [{"delta": {}, "finish_reason": finish}]})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, event: dict) -> None:
        self.wait(self.server.event_delay_s)
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
