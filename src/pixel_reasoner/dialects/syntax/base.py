"""Protocol of a call syntax, and the limits of its parser.

A syntax encodes calls as text and parses generated text, in the family's own names and coordinates. The dialect
converts names and coordinates afterwards (`dialects.arguments`).

A parser reads a turn in pieces of any size. Its result does not depend on where the text was split. Its work is
proportional to the length of the text, and its memory is bounded by `MAX_TURN_CHARS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from pixel_reasoner.schema.events import PartKind
from pixel_reasoner.strict_json import parse_json

MAX_TURN_CHARS = 1_000_000
"""Longest turn that is parsed, about 250,000 tokens. A longer one is rejected as malformed."""

MAX_BRACKETS = 50
"""A call has three or four. JSON that nests deeply cannot be written to a record, or not read back."""

OPERATION_KEY = "operation"
"""Key of the operation's name, in a syntax without names, for operations that the family does not have."""


class TextDelta(NamedTuple):
    """New text of one part, without tags."""

    kind: PartKind
    text: str


class WrittenCall(NamedTuple):
    """A call in the family's own names and coordinates."""

    name: str | None
    """None in a syntax without names: the arguments imply the operation"""
    arguments: dict[str, Any]
    rounded: tuple[str, ...] | None = None
    """arguments whose numbers are written with the decimals of the family's boxes; None: all of them"""


class RawTurn(NamedTuple):
    """Parsed text of a turn, before names and coordinates are converted."""

    parts: tuple[str | WrittenCall, ...] = ()
    """text and calls in their order; empty when the turn is rejected"""
    problem: str = ""
    """why the turn is rejected as a whole, written for the model; empty when it is not"""
    num_calls: int = 0
    """calls that the turn contains or tries to make"""


class CallSyntaxError(Exception):
    """Text of a call that cannot be decoded. The message is written for the model."""


class StreamParser(Protocol):
    """Parser of one turn."""

    num_scanned: int
    """characters that were looked at so far; a measure of work"""

    def feed(self, delta: str) -> list[TextDelta]:
        """Read more text and return what is known to belong to a part."""
        ...

    def finish(self) -> RawTurn:
        """Return the result. Nothing may be fed afterwards."""
        ...


class CallSyntax(Protocol):
    """A codec of calls."""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Tags that some tokenizers treat as special tokens: decoding must keep them."""
        ...

    @property
    def open(self) -> str:
        """Text that starts a call."""
        ...

    @property
    def close(self) -> str:
        """Text that ends a call; empty when the end of the turn does."""
        ...

    @property
    def shape(self) -> str:
        """Form of a call, for error messages to the model."""
        ...

    @property
    def has_names(self) -> bool:
        """Whether calls contain the name of the operation."""
        ...

    def encode(self, calls: Sequence[WrittenCall], decimals: int = 2) -> str:
        """Return the text of calls.

        Args:
            calls: in the family's names and coordinates.
            decimals: of numbers that are not whole, in the arguments that are rounded.
        """
        ...

    def parser(self, max_calls: int = 1) -> StreamParser:
        """Return a parser that accepts at most this many calls."""
        ...


dump_json = json.JSONEncoder(ensure_ascii=False).encode
"""JSON value -> its text. `json.dumps` makes a new encoder for every call with other than its default options."""


def load_json(body: str) -> Any:
    """Return the JSON value of a call. Its numbers may be nan or infinite: a box or operation that has them is rejected.

    Raises:
        ValueError: not JSON, or JSON that no record can hold.
    """
    if body.count("[") + body.count("{") > MAX_BRACKETS:
        raise ValueError("too many brackets")
    return parse_json(body, MAX_BRACKETS, is_finite=False)


def dump_arguments(call: WrittenCall, decimals: int) -> str:
    """Return the arguments of a call as a JSON object.

    >>> dump_arguments(WrittenCall("f", {"bbox_2d": [0.25, 1, 0.5], "degrees": 1.5}, ("bbox_2d",)), 2)
    '{"bbox_2d": [0.25, 1, 0.50], "degrees": 1.5}'
    """
    written = []
    for name, value in call.arguments.items():
        text = dump_json(value)
        if call.rounded is None or name in call.rounded:
            text = _rounded(text, decimals)
        written.append(f"{dump_json(name)}: {text}")
    return "{" + ", ".join(written) + "}"


def _rounded(text: str, decimals: int) -> str:
    """Return JSON whose numbers that are not whole have this many decimals."""
    # json has no number format: numbers are rewritten afterwards, except inside quotes.
    return re.sub(
        r'"(?:[^"\\]|\\.)*"|\d+\.\d+',
        lambda match: match[0] if match[0].startswith('"') else f"{float(match[0]):.{decimals}f}",
        text,
    )


def several_calls_message(count: int, max_calls: int) -> str:
    """Return the error message of a turn with more calls than are allowed."""
    if max_calls == 1:
        return f"{count} calls in one turn; call one operation at a time and wait for its result"
    return (
        f"{count} calls in one turn; call at most {max_calls} operations and wait for their results"
    )


def too_long_message() -> str:
    """Return the error message of a turn that is longer than the limit."""
    return (
        f"the turn is longer than {MAX_TURN_CHARS} characters; "
        "write less, and end with one call or the answer"
    )


def held_back(text: str, tags: Sequence[str]) -> int:
    """Return the length of the longest end of a text that may be the start of a tag.

    >>> held_back("I look. <tool", ["<tool_call>"]), held_back("a < b", ["<tool_call>"])
    (5, 0)
    """
    longest = min(len(text), max((len(tag) for tag in tags), default=1) - 1)
    if all(text.find(tag[0], len(text) - longest) < 0 for tag in tags):
        return 0
    for length in range(longest, 0, -1):
        end = text[-length:]
        if any(len(tag) > length and tag.startswith(end) for tag in tags):
            return length
    return 0
