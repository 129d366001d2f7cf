"""Turns that a server generated, could not parse, and returned inside of an error.

llama.cpp answers `500 Failed to parse input at pos 395: <text>`, Ollama `500 error parsing tool call: raw='<text>', err=...`. The
dialect parses such a text once, like any other turn (`RemoteModel.generate_turn`). A text without a valid call stays an error
of the server.
"""

from __future__ import annotations

import re
from typing import Any

from pixel_reasoner.strict_json import parse_json

MAX_CHARS = 100_000
"""longer errors are not searched"""

_LLAMA_CPP = re.compile(r"Failed to parse input at pos \d{1,9}: (.+)", re.DOTALL)
_OLLAMA = re.compile(r"error parsing tool call: raw='(.+)', err=", re.DOTALL)


def rejected_turn(body: str) -> str:
    r"""Return the text of a turn in the error of a server; empty if it contains none.

    Args:
        body: the body of the response, or the message of an error event in a stream.

    >>> rejected_turn('{"error": {"code": 500, "message": "Failed to parse input at pos 3: <tool_call>{}</tool_call>"}}')
    '<tool_call>{}</tool_call>'
    >>> rejected_turn("error parsing tool call: raw='{}]', err=invalid")
    '<tool_call>{}]'
    >>> rejected_turn("out of memory")
    ''
    """
    if len(body) > MAX_CHARS:
        return ""
    message = _message(body)
    if found := _LLAMA_CPP.search(message):
        return found[1]
    if found := _OLLAMA.search(message):
        raw = found[1].strip()
        # Ollama takes the object out of a list, so other characters may follow it.
        return f"<tool_call>{raw}" if raw.startswith("{") else raw
    return ""


def _message(body: str) -> str:
    """Return the message in an error reply, or the body if it is not JSON."""
    try:
        value: Any = parse_json(body)
    except ValueError:
        return body
    for key in ("error", "message"):
        if isinstance(value, dict):
            value = value.get(key, value)
    return value if isinstance(value, str) else body
