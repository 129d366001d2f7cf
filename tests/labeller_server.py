"""Server with the OpenAI protocol whose replies depend on the colours of pictures, with programmed failures.

python tests/labeller_server.py          prints its port

POST /v1/chat/completions   reply that depends on the middle pixel of the last picture
POST /program               {"<colour>" or "*": ["500", "429", ...], "delay_s": 0.1}: failures of the next requests, by colour
GET /log                    {"calls": [...], "most_at_once": n}
"""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import ClassVar

from PIL import Image

LEVELS = (20, 128, 236)
COLOURS = {
    f"colour {n}": rgb
    for n, rgb in enumerate(c for c in product(LEVELS, repeat=3) if c != (128, 128, 128))
}
GREY = (128, 128, 128)
KEY = "the-right-key"
HANGS_S = 2.0
"""longer than the timeout of a test"""
HEADERS = {"429": {"Retry-After": "0.3"}}


class State:
    """State that all threads share."""

    lock = threading.Lock()
    program: ClassVar[dict] = {}
    calls: ClassVar[list] = []
    now = most_at_once = 0


def colour_of(picture: Image.Image) -> str:
    pixel = picture.getpixel((picture.width // 2, picture.height // 2))
    known = {**COLOURS, "grey": GREY}
    return min(
        known, key=lambda name: sum((a - b) ** 2 for a, b in zip(known[name], pixel, strict=True))
    )


def reply_about(colour: str, asked: str) -> dict:
    if "right answer is" in asked:
        number = max(1, asked.count('"..."'))
        return {"valid": True, "findings": [f"The middle shows {colour}."] * number}
    names = [name for name in COLOURS if name != colour][:3]
    return {
        "valid": True,
        "subject": f"The {colour} card",
        "question": f"What does the {colour} card carry?",
        "options": dict(zip("ABCD", [names[0], colour, *names[1:]], strict=True)),
        "answer": "B",
        "finding": f"The {colour} card carries {colour}.",
    }


def unusual_replies(reply: dict) -> dict[str, str | None]:
    """Return replies with status 200 that cannot be used, and some unusual ones that can."""
    return {
        "empty": "",
        "null": None,
        "not json": "I think it is a card.",
        "cut off": json.dumps(reply)[:40],
        "missing": json.dumps({k: v for k, v in reply.items() if k not in ("options", "findings")}),
        "no verdict": json.dumps({k: v for k, v in reply.items() if k != "valid"}),
        "three options": json.dumps(reply | {"options": {"A": "x", "B": "y", "C": "z"}}),
        "same options": json.dumps(reply | {"options": dict.fromkeys("ABCD", "same")}),
        "not among": json.dumps(reply | {"answer": "E"}),
        "special": json.dumps(
            reply | {"subject": "a <tool_call> of it", "findings": ["\\boxed{1}"]}
        ),
        "not valid": json.dumps({"valid": False}),
        "Not valid.": "Not valid.",
        "fenced": f"<think>{{what}} is it?</think>\n```json\n{json.dumps(reply)}\n```",
        "in words": json.dumps(reply | {"answer": reply.get("options", {}).get("B", "")}),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/program":
            with State.lock:
                State.program, State.calls, State.most_at_once = body, [], 0
            self.reply(200, "{}")
        elif self.path == "/v1/chat/completions":
            with State.lock:
                State.now += 1
                State.most_at_once = max(State.most_at_once, State.now)
            try:
                self.complete(body)
            finally:
                with State.lock:
                    State.now -= 1
        else:
            self.reply(404, "no such route")

    def do_GET(self) -> None:
        with State.lock:
            log = {"calls": State.calls, "most_at_once": State.most_at_once}
        self.reply(200, json.dumps(log))

    def complete(self, body: dict) -> None:
        (message,) = body["messages"]
        text, *parts = message["content"]
        pictures = [
            Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
            for part in parts
        ]
        colour = colour_of(pictures[-1])
        with State.lock:
            rest = State.program.get(colour, State.program.get("*", []))
            do = rest.pop(0) if rest and rest[0] != "always" else (rest[1] if rest else "answer")
            call = {"colour": colour, "do": do, "at_s": time.monotonic(), "role": message["role"]}
            call |= {"model": body["model"], "keys": sorted(body), "text": text["text"]}
            call |= {"sizes": [picture.size for picture in pictures]}
            State.calls.append(call)
        time.sleep(State.program.get("delay_s", 0))
        self.act(do, reply_about(colour, text["text"]))

    def act(self, do: str, reply: dict) -> None:
        if do == "timeout":
            time.sleep(HANGS_S)
            self.close_connection = True
        elif do == "hang up":
            self.close_connection = True
        elif do == "key" and self.headers.get("Authorization") != f"Bearer {KEY}":
            self.reply(401, '{"error": {"message": "no such key"}}')
        elif do.isdigit():
            self.reply(int(do), f"told to say {do}", HEADERS.get(do, {}))
        elif do == "no completion":
            self.reply(200, "<html>hello</html>")
        else:
            content = unusual_replies(reply).get(do, json.dumps(reply))
            choice = {"index": 0, "message": {"role": "assistant", "content": content}}
            self.reply(200, json.dumps({"object": "chat.completion", "choices": [choice]}))

    def reply(self, status: int, text: str, headers: dict | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # ignore disconnected clients
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
