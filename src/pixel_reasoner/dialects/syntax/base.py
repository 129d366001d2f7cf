"""Protocol of a call syntax, and limits of its parser.

A syntax encodes calls as text and parses generated text, with names and coordinates of the family. The dialect converts
names and coordinates afterwards (`dialects.arguments`).

A parser accepts a turn in pieces of any size. The result does not depend on the pieces. Its time is linear in the length
of the text, and its memory is bounded by `MAX_TURN_CHARS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.events import PartKind
from pixel_reasoner.strict_json import parse_json

MAX_TURN_CHARS = 1_000_000
"""Maximum length of a turn, about 250,000 tokens. Longer turns are rejected as malformed."""

MAX_BRACKETS = 50
"""Maximum number of brackets in a call; usual calls have three or four. Records do not support deeply nested JSON."""

OPERATION_KEY = "operation"
"""Key of the operation name, in a syntax without names, for operations that are new to the family."""


class TextDelta(NamedTuple):
    """New text of one part, without tags."""

    kind: PartKind
    text: str


class WrittenCall(NamedTuple):
    """Call with names and coordinates of the family."""

    name: str | None
    """None in a syntax without names, where the arguments imply the operation"""
    arguments: dict[str, Any]
    rounded: tuple[str, ...] | None = None
    """arguments whose numbers are rounded to the decimals of boxes; None for all arguments"""
    is_text: bool = False
    """whether the values are texts without types, which the schema of the operation types (`dialects.value_types`)"""


class RawTurn(NamedTuple):
    """Parsed text of a turn, before names and coordinates are converted."""

    parts: tuple[str | WrittenCall, ...] = ()
    """text and calls in order; empty if the turn is rejected"""
    problem: str = ""
    """reason for which the whole turn is rejected, addressed to the model; otherwise empty"""
    num_calls: int = 0
    """number of calls in the turn, valid or not"""


class CallSyntaxError(Exception):
    """Undecodable text of a call. The message addresses the model."""


class StreamParser(Protocol):
    """Streaming parser of one turn."""

    num_scanned: int
    """number of scanned characters, as a measure of work"""

    def feed(self, delta: str) -> list[TextDelta]:
        """Parse more text and return the text deltas whose part is certain."""
        ...

    def finish(self) -> RawTurn:
        """Return the result. Do not call `feed` afterwards."""
        ...


class CallSyntax(Protocol):
    """Codec of calls."""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Tags that decoding must keep, because some tokenizers treat them as special tokens."""
        ...

    @property
    def open(self) -> str:
        """Text that starts a call."""
        ...

    @property
    def close(self) -> str:
        """Text that ends a call; empty if calls end with the turn."""
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
            calls: with names and coordinates of the family.
            decimals: of non-integer numbers in rounded arguments.
        """
        ...

    def parser(self, max_calls: int = 1) -> StreamParser:
        """Return a parser that accepts at most this many calls."""
        ...


dump_json = json.JSONEncoder(ensure_ascii=False).encode
"""JSON value -> text. Faster than `json.dumps`, which creates an encoder per call for non-default options."""


def load_json(body: str) -> Any:
    """Parse the JSON of a call. Numbers may be nan or infinite; the validation of boxes and operations rejects them.

    Raises:
        ValueError: invalid JSON, or JSON that a record cannot contain.
    """
    if body.count("[") + body.count("{") > MAX_BRACKETS:
        raise ValueError("too many brackets")
    return parse_json(body, MAX_BRACKETS, is_finite=False)


def dump_arguments(call: WrittenCall, decimals: int) -> str:
    """Return the arguments of a call as a JSON object.

    >>> dump_arguments(WrittenCall("f", {"bbox_2d": [0.25, 1, 0.5], "degrees": 1.5}, ("bbox_2d",)), 2)
    '{"bbox_2d": [0.25, 1, 0.50], "degrees": 1.5}'
    """
    values = dump_values(call, decimals).items()
    return "{" + ", ".join(f"{dump_json(name)}: {text}" for name, text in values) + "}"


def dump_values(call: WrittenCall, decimals: int) -> dict[str, str]:
    """Return the values of the arguments of a call as JSON.

    >>> dump_values(WrittenCall("f", {"bbox_2d": [0.25, 1], "label": "a"}), 2)
    {'bbox_2d': '[0.25, 1]', 'label': '"a"'}
    """
    written = {}
    for name, value in call.arguments.items():
        text = dump_json(value)
        if call.rounded is None or name in call.rounded:
            text = _rounded(text, decimals)
        written[name] = text
    return written


def dump_texts(call: WrittenCall, decimals: int) -> dict[str, str]:
    """Return the values of the arguments as texts without types: strings verbatim, everything else as JSON.

    >>> dump_texts(WrittenCall("f", {"bbox_2d": [0.25, 1], "label": "a"}), 2)
    {'bbox_2d': '[0.25, 1]', 'label': 'a'}
    """
    values = call.arguments
    return {
        name: values[name] if isinstance(values[name], str) else text
        for name, text in dump_values(call, decimals).items()
    }


def assert_expressible(syntax: str, call: WrittenCall, marks: Sequence[str]) -> None:
    """Check that no text of a call contains a mark of its syntax, which has no escapes.

    Raises:
        UsageError: it contains one.

    >>> assert_expressible("xml", WrittenCall("f", {"label": "a sign"}), ["</parameter>"])
    """
    texts = dump_json([call.name, call.arguments])
    for mark in marks:
        if dump_json(mark)[1:-1] in texts:
            raise UsageError(
                expected=f"a call that the syntax {syntax} can express, which has no escapes",
                got=f"{call.name} with a text that contains {mark}",
                fix="leave these characters out, or use a dialect with calls in JSON, such as --dialect plain",
            )


def _rounded(text: str, decimals: int) -> str:
    """Return JSON with non-integer numbers rounded to this many decimals."""
    # The json module has no number format, so numbers outside of quotes are rewritten afterwards.
    return re.sub(
        r'"(?:[^"\\]|\\.)*"|\d+\.\d+',
        lambda match: match[0] if match[0].startswith('"') else f"{float(match[0]):.{decimals}f}",
        text,
    )


def several_calls_message(count: int, max_calls: int) -> str:
    """Return the error message for a turn with too many calls."""
    if max_calls == 1:
        return f"{count} calls in one turn; call one operation at a time and wait for its result"
    return (
        f"{count} calls in one turn; call at most {max_calls} operations and wait for their results"
    )


def left_out_message(count: int, max_calls: int) -> str:
    """Return the message about calls of a turn that were not executed."""
    which = (
        "1 more call of this turn was" if count == 1 else f"{count} more calls of this turn were"
    )
    most = "one operation" if max_calls == 1 else f"at most {max_calls} operations"
    return f"{which} not executed; call {most} at a time and wait for the result"


def too_long_message() -> str:
    """Return the error message for a turn that is too long."""
    return (
        f"the turn is longer than {MAX_TURN_CHARS} characters; "
        "write less, and end with one call or the answer"
    )


def num_partial_tag_chars(text: str, tags: Sequence[str]) -> int:
    """Return the length of the longest suffix of a text that is a prefix of a tag.

    >>> num_partial_tag_chars("I look. <tool", ["<tool_call>"]), num_partial_tag_chars("a < b", ["<tool_call>"])
    (5, 0)
    """
    pattern = _partial_tag(tuple(tags))
    found = pattern and pattern.search(text, max(0, len(text) - max(map(len, tags)) + 1))
    return len(text) - found.start() if found else 0


@cache
def _partial_tag(tags: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return the pattern of the start of a tag at the end of a text: `<(?:a(?:b)?)?` for `<ab>`."""
    starts = []
    for tag in tags:
        pattern = ""
        for character in reversed(tag[:-1]):
            pattern = re.escape(character) + (f"(?:{pattern})?" if pattern else "")
        starts += [pattern] if pattern else []
    return re.compile(f"(?:{'|'.join(starts)})\\Z") if starts else None
