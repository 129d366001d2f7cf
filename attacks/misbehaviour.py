"""Responses of misbehaving servers. A mode is a function that takes the request and yields the bytes of a response."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple
from urllib.parse import quote

ENDLESS_S = 60.0
"""time limit of an endless response, if the client does not close the connection"""
ANSWER = r"It is red. \boxed{red}"
CALL = {"id": "a", "index": 0, "function": {"name": "zoom_in", "arguments": "{}"}}


class RequestInfo(NamedTuple):
    """Fields of a request that a mode uses."""

    key: str
    is_stream: bool
    num_pictures: int


Mode = Callable[[RequestInfo], Iterator[bytes]]


def head(status: int = 200, kind: str = "application/json", *lines: str) -> bytes:
    fields = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close", *lines]
    return "\r\n".join([*fields, "", ""]).encode("latin-1", "replace")


def as_json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def send(body: Any, *, status: int = 200, kind: str = "application/json", lines=()) -> Mode:
    return lambda request: iter([head(status, kind, *lines), as_json(body)])


def good(request: RequestInfo, message: dict | None = None, **fields: Any) -> Iterator[bytes]:
    """Yield a valid reply, as one body or as a stream, with this message and these fields."""
    message = {"content": ANSWER} if message is None else message
    usage = {"prompt_tokens": 10 + 40 * request.num_pictures, "completion_tokens": 9}
    choice = {"finish_reason": "stop", "logprobs": {"content": [{"logprob": -0.5}]}}
    if not request.is_stream:
        yield head()
        reply = {"choices": [{"message": message, **choice}], "usage": usage, **fields}
        yield as_json(reply)
        return
    yield head(200, "text/event-stream")
    yield from _event({"choices": [{"delta": message}], "error": None})
    yield from _event({"choices": [{"delta": {}, **choice}], "usage": usage, **fields})
    yield b"data: [DONE]\n\n"


def _event(value: Any) -> Iterator[bytes]:
    yield b"data: " + as_json(value) + b"\n\n"


def message(**fields: Any) -> Mode:
    return lambda request: good(request, fields)


def call(**fields: Any) -> Mode:
    return message(content="", tool_calls=[{**CALL, **fields}])


def function(**fields: Any) -> Mode:
    return call(function={**CALL["function"], **fields})


def reply(**fields: Any) -> Mode:
    return lambda request: good(request, None, **fields)


def deep(sign: bytes, close: bytes, count: int = 10_000) -> bytes:
    return sign * count + close * count


def raw(text: bytes) -> Mode:
    """Send raw bytes as the content of a reply, for example escapes that `json` does not write."""
    whole = b'{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}]}' % text
    event = b'data: {"choices": [{"delta": {"content": "%s"}, "finish_reason": "stop"}]}\n\n' % text

    def mode(request: RequestInfo) -> Iterator[bytes]:
        yield head(200, "text/event-stream" if request.is_stream else "application/json")
        yield event if request.is_stream else whole

    return mode


def endless(
    start: bytes, piece: bytes, *lines: str, pause_s: float = 0.0, event: bytes = b""
) -> Mode:
    """Send a piece repeatedly until the client closes the connection."""

    def mode(request: RequestInfo) -> Iterator[bytes]:
        yield head(
            200, "text/event-stream" if request.is_stream and event else "application/json", *lines
        )
        yield start
        until = time.monotonic() + ENDLESS_S
        while time.monotonic() < until:
            yield event if request.is_stream and event else piece
            time.sleep(pause_s)

    return mode


def slow_head(request: RequestInfo) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 X\r\nX-A: "
    for _ in range(int(ENDLESS_S * 5)):
        yield b"a"
        time.sleep(0.2)


def informational(request: RequestInfo) -> Iterator[bytes]:
    for _ in range(int(ENDLESS_S * 50)):
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        time.sleep(0.02)


def silent(request: RequestInfo) -> Iterator[bytes]:
    time.sleep(ENDLESS_S)
    yield b""


@cache
def zeros(num_times: int) -> bytes:
    """Return 48 MiB of zeros, compressed `num_times` times."""
    packer = zlib.compressobj(9, wbits=31)
    data = b"".join(packer.compress(bytes(2**20)) for _ in range(48)) + packer.flush()
    for _ in range(num_times - 1):
        data = gzip.compress(data)
    return data


def bomb(num_times: int = 1) -> Mode:
    encodings = ", ".join(["gzip"] * num_times)
    return lambda request: send(zeros(num_times), lines=[f"Content-Encoding: {encodings}"])(request)


def empty_blocks(request: RequestInfo) -> Iterator[bytes]:
    """Yield compressed data without content, endlessly."""
    yield head(200, "application/json", "Content-Encoding: gzip") + gzip.compress(b"")[:10]
    until = time.monotonic() + ENDLESS_S
    while time.monotonic() < until:
        yield b"\x00\x00\x00\xff\xff" * 2000


def echo(form: Callable[[str], str], status: int = 200) -> Mode:
    """Repeat the key: in the content of a reply, or in an error."""

    def mode(request: RequestInfo) -> Iterator[bytes]:
        if status == 200:
            return good(request, {"content": f"{form(request.key)} {ANSWER}"})
        return iter([head(status), as_json({"error": {"message": form(request.key)}})])

    return mode


def echo_in_pieces(request: RequestInfo) -> Iterator[bytes]:
    if not request.is_stream:
        yield from good(request, {"content": request.key})
        return
    yield head(200, "text/event-stream")
    for letter in request.key:
        yield from _event({"choices": [{"delta": {"content": letter}}]})
    yield from _event({"choices": [{"delta": {"content": ANSWER}, "finish_reason": "stop"}]})


def echo_everywhere(request: RequestInfo) -> Iterator[bytes]:
    key = request.key
    arguments = json.dumps({"label": key, "target_image": key})
    calls = [{**CALL, "id": key, "function": {"name": key, "arguments": arguments}}]
    return good(request, {"content": key, "reasoning": key, "tool_calls": calls}, id=key)


def _base64(key: str) -> str:
    return base64.b64encode(f"Bearer {key}".encode()).decode()


def _percent(key: str) -> str:
    return "".join(f"%{ord(one):02x}" for one in key)


FIELDS: dict[str, Mode] = {
    "function is text": call(function="zoom_in"),
    "function is null": call(function=None),
    "name is a number": function(name=3),
    "name is a list": function(name=["zoom_in"]),
    "name is empty": function(name=""),
    "arguments are a list": function(arguments=[1, 2]),
    "arguments are an object": function(arguments={"target_image": 1}),
    "arguments are a number": function(arguments=7),
    "arguments are nested": function(arguments="[" * 10_000),
    "arguments are nested objects": function(arguments='{"a":' * 10_000),
    "arguments with half a surrogate": function(
        arguments='{"label": "\\ud83d", "target_image": 1}'
    ),
    "a call in the text with half a surrogate": message(
        content='<tool_call>\n{"name": "zoom_in", "arguments": {"label": "\\ud83d"}}\n</tool_call>'
    ),
    "index is text": call(index="one"),
    "index is negative": call(index=-1),
    "index is null": call(index=None),
    "index is huge": call(index=10**9),
    "index is huge beyond 64 bits": call(index=10**30),
    "calls are text": message(tool_calls="zoom_in"),
    "calls are numbers": message(tool_calls=[1, 2]),
    "calls are null": message(content=ANSWER, tool_calls=[None]),
    "a thousand calls": message(
        tool_calls=[{**CALL, "id": str(n), "index": None} for n in range(1000)]
    ),
    "content is a number": message(content=5),
    "content is an object": message(content={"text": "red"}),
    "content has an image": message(content=[{"type": "image_url", "image_url": {"url": "x"}}]),
    "content has thinking": message(
        content=[
            {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
            {"type": "text", "text": ANSWER},
        ]
    ),
    "content is a list of text": message(content=["red"]),
    "content is 10 MB": message(content="red " * 2_500_000),
    "reasoning is a list": message(content=ANSWER, reasoning_content=["Hm."]),
    "message is text": lambda request: good(request, "red"),
    "message is a number": lambda request: good(request, 5),
    "message is a list": lambda request: good(request, ["red"]),
    "half a surrogate": raw(rb"\ud83d red"),
    "surrogates in the wrong order": raw(rb"\ude00\ud83d"),
    "NUL and escapes": raw(rb"\u0000\u001b[2J\u202e red"),
    "invalid UTF-8": raw(b"\xff\xfe\xc0 red"),
    "control characters": raw(b"a\x01\x02"),
    "usage is a list": reply(usage=[1]),
    "usage counts are text": reply(usage={"prompt_tokens": "many"}),
    "usage is negative": reply(usage={"prompt_tokens": -1}),
    "usage is huge": reply(usage={"prompt_tokens": 10**40}),
    "choices are an object": reply(choices={"0": 1}),
    "choices are empty": reply(choices=[]),
    "choices are null": reply(choices=None),
    "choice is text": reply(choices=["red"]),
    "finish reason is a number": reply(choices=[{"message": {}, "delta": {}, "finish_reason": 1}]),
    "error instead of a choice": reply(error={"message": "no"}, choices=None),
    "error is null": reply(error=None),
    **{
        f"logprobs: {name}": reply(
            choices=[
                {
                    "message": {"content": ANSWER},
                    "delta": {},
                    "finish_reason": "stop",
                    "logprobs": value,
                }
            ]
        )
        for name, value in {
            "null": {"content": [{"logprob": None}, {"logprob": -1}]},
            "missing": {"content": [{}]},
            "text": {"content": [{"logprob": "x"}]},
            "not finite": {"content": [{"logprob": float("nan")}]},
            "a list": [1],
            "numbers": {"content": [1]},
            "too large": {"content": [{"logprob": -1e300}]},
        }.items()
    },
}
BODIES: dict[str, Mode] = {
    "reply is nested": send(deep(b"[", b"]")),
    "objects are nested": send(deep(b'{"choices":', b"}")),
    "not JSON": send(b"<not json>"),
    "empty": send(b""),
    "a list": send([1]),
    "null": send(None),
    "a long number": send(b'{"choices": ' + b"9" * 100_000 + b"}"),
    "UTF-16": send('{"choices": []}'.encode("utf-16")),
    "a page": send(b"<html>nginx</html>", kind="text/html"),
    "unknown charset": send({"a": 1}, kind="application/json; charset=klingon"),
    "charset hex": send(b"no", status=500, kind="text/plain; charset=hex"),
    "event stream that is none": send({"a": 1}, kind="text/event-stream"),
    "events that are no objects": send(b"data: 5\n\ndata: [1]\n\n", kind="text/event-stream"),
    "nested event": send(b"data: " + deep(b"[", b"]") + b"\n\n", kind="text/event-stream"),
    "strange Retry-After": send(b"no", status=429, lines=["Retry-After: \xb2"]),
    "endless Retry-After": send(b"no", status=503, lines=["Retry-After: 1e300"]),
    "Retry-After of a date": send(
        b"no", status=429, lines=["Retry-After: Mon, 31 Dec 99999 23:59:59 -0000"]
    ),
    "strange status": send(b"no", status=799),
    "refused": send(b"\x1b[2J no", status=400),
    "redirect to nowhere": send(b"", status=302, lines=["Location: http://[::1:99999/\xff"]),
    "strange cookie": send(b"no", status=500, lines=["Set-Cookie: a=\xff; expires=99; domain=.."]),
    "unknown encoding": send({"a": 1}, lines=["Content-Encoding: rot13"]),
    "broken gzip": send(b"not gzip", lines=["Content-Encoding: gzip"]),
    "gzip bomb": bomb(),
    "gzip of a gzip bomb": bomb(3),
    "gzip of nothing without end": empty_blocks,
    "length too long": send(b'{"choices": [', lines=["Content-Length: 5000"]),
    "length is text": send(b"{}", lines=["Content-Length: many"]),
    "two lengths": send(b"{}", lines=["Content-Length: 2", "Content-Length: 3"]),
    "broken chunks": send(b"zz\r\nred\r\n", lines=["Transfer-Encoding: chunked"]),
    "huge header": send(b"{}", lines=["X-A: " + "a" * 300_000]),
    "header without a colon": lambda request: iter([b"HTTP/1.1 200 X\r\nnonsense\r\n\r\n{}"]),
    "no HTTP": lambda request: iter([b"SSH-2.0-OpenSSH\r\n" + bytes(1000)]),
    "closed at once": lambda request: iter(()),
    "silent": silent,
    "slow header": slow_head,
    "informational without end": informational,
    "slow body": endless(b'{"a": "', b"a", pause_s=0.2, event=b": wait\n"),
    "body without end": endless(b'{"a": "', b"a" * 65_536),
    "values without end": endless(b'{"choices": [', b"{}," * 20_000),
    "lists without end": endless(b'{"choices": [', b"[[1]]," * 10_000),
    "events without end": endless(
        b"", b"{},", event=b'data: {"choices": [{"delta": {"content": "red "}}]}\n\n' * 500
    ),
    "log-probabilities without end": endless(
        b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [',
        b'{"logprob": -1},' * 5_000,
        event=b'data: {"choices": [{"logprobs": {"content": ['
        + b'{"logprob":-1},' * 5_000
        + b"{}]}}]}\n\n",
    ),
    "one event without end": endless(b"data: ", b"a" * 65_536, event=b"a" * 65_536),
    "empty lines without end": endless(b"", b"\n" * 65_536, event=b"\n" * 65_536),
}
ECHOES: dict[str, Mode] = {
    f"echo {where}: {name}": echo(form, status)
    for (where, status), (name, form) in itertools.product(
        {"in a reply": 200, "in 401": 401, "in 400": 400, "in 500": 500}.items(),
        {
            "whole": str,
            "cut off": lambda key: key[:15],
            "the end": lambda key: key[-12:],
            "base64": _base64,
            "percent": _percent,
            "quoted": partial(quote, safe=""),
        }.items(),
    )
} | {"echo in pieces": echo_in_pieces, "echo everywhere": echo_everywhere}
CHAT = {**FIELDS, **BODIES, **ECHOES}
"""what the server does instead of a reply"""
MODELS: dict[str, Mode] = {
    **{f"models: {name}": mode for name, mode in BODIES.items()},
    "models: data is text": send({"data": "served"}),
    "models: names are numbers": send({"data": [{"id": 5}]}),
    "models: owners are lists": send({"data": [{"id": "served", "owned_by": ["vllm"]}]}),
    "models: a name is the key": lambda request: send(
        {"data": [{"id": request.key, "owned_by": "vllm"}]}
    )(request),
    "models: strange names": send({"data": [{"id": "\x1b[2J\u202e", "owned_by": "vllm"}]}),
    "models: half a surrogate": send(b'{"data": [{"id": "\\ud800", "owned_by": "vllm"}]}'),
    "models: refused with the key": lambda request: send({"error": request.key}, status=401)(
        request
    ),
}
"""what the server does instead of a list of models"""
