"""Call syntaxes with lists in Python: `[name(argument=value)]`, between the marks of LFM2 or alone on a line (Llama 4)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixel_reasoner.dialects.decoders import Form, Reader
from pixel_reasoner.dialects.syntax.base import (
    MAX_TURN_CHARS,
    CallSyntaxError,
    RawTurn,
    StreamParser,
    TextDelta,
    WrittenCall,
    assert_expressible,
    dump_values,
    several_calls_message,
    too_long_message,
)
from pixel_reasoner.dialects.syntax.native import (
    NativeSyntax,
    decode_strictly,
    list_tools_in_own_words,
)
from pixel_reasoner.schema.events import PartKind

_CONSTANTS = {"true": "True", "false": "False", "null": "None"}
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})


def write_list(calls: Sequence[WrittenCall], decimals: int) -> str:
    """Return calls as a list in Python. Lists and objects are JSON, as the chat template of LFM2 renders them.

    >>> print(write_list([WrittenCall("f", {"a": [0.5, 1], "b": "a sign", "c": True})], 2))
    [f(a=[0.50, 1], b='a sign', c=True)]
    """
    written = []
    for call in calls:
        values = []
        for name, text in dump_values(call, decimals).items():
            value = call.arguments[name]
            is_text = isinstance(value, str)
            literal = f"'{value.translate(_ESCAPES)}'" if is_text else _CONSTANTS.get(text, text)
            values.append(f"{name}={literal}")
        written.append(f"{call.name}({', '.join(values)})")
    return f"[{', '.join(written)}]"


_LFM_OPEN, _LFM_CLOSE = "<|tool_call_start|>", "<|tool_call_end|>"

LFM = NativeSyntax(
    name="lfm",
    open=_LFM_OPEN,
    close=_LFM_CLOSE,
    shape=f"{_LFM_OPEN}[name(argument=value)]{_LFM_CLOSE}",
    forms=frozenset({Form.PYTHON}),
    write=lambda calls, decimals: f"{_LFM_OPEN}{write_list(calls, decimals)}{_LFM_CLOSE}",
    reserved=(_LFM_CLOSE,),
    special_tokens=frozenset({_LFM_OPEN, _LFM_CLOSE}),
)


def list_lfm_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    r"""Return the system message that the chat template of LFM2 renders: the system text, then the tools.

    >>> list_lfm_tools([{"type": "function"}], "Be brief.")
    'Be brief.\nList of tools: [{"type": "function"}]'
    """
    listed = ", ".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    before = f"{system}\n" if system else ""
    return f"{before}List of tools: [{listed}]"


# --- without marks ---

_START_MARK, _END_MARK = "<|python_start|>", "<|python_end|>"
_CALL_LINE = re.compile(r"^[ \t]{0,20}(?:<\|python_start\|>)?\[[A-Za-z_]\w{0,80}\(", re.MULTILINE)
_MAY_START_CALL = re.compile(
    r"[ \t]{0,20}(?:<\|python_start\|>)?(?:\[(?:[A-Za-z_]\w{0,80})?)?|[ \t]{0,20}<[|a-z_]{0,14}"
)


@dataclass(frozen=True, kw_only=True)
class PythonLines:
    r"""A list of calls at the start of a line, until the end of the turn. `open` and `close` are empty: there are no marks.

    >>> syntax = PythonLines()
    >>> parser = syntax.parser()
    >>> parser.feed("I look.\n[zoom_in(target_image=1)]")[0]
    TextDelta(kind=<PartKind.TEXT: 'text'>, text='I look.\n')
    >>> parser.finish().parts[1].arguments
    {'target_image': 1}
    """

    open: str = ""
    close: str = ""
    shape: str = "[name(argument=value)]"
    has_names: bool = True
    forms: frozenset[Form] = frozenset({Form.PYTHON})
    opens_body: str = ""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Return the marks that Llama 4 may write around a list."""
        return frozenset({_START_MARK, _END_MARK})

    def encode(self, calls: Sequence[WrittenCall], decimals: int = 2) -> str:
        """Return the text of calls."""
        for call in calls:
            assert_expressible("python", call, (_END_MARK,))
        return write_list(calls, decimals) if calls else ""

    def parser(self, max_calls: int = 1) -> StreamParser:
        """Return a parser that accepts at most this many calls."""
        return PythonLineParser(Reader(self.shape, True, forms=self.forms), max_calls)


PYTHON_LINES = PythonLines()
list_tools = list_tools_in_own_words(PYTHON_LINES.shape)


def find_call_line(text: str) -> int:
    r"""Return the index of the first line that starts with a call; -1 without one.

    >>> find_call_line("I look [closely].\n[zoom_in(a=1)]"), find_call_line("See [1].")
    (18, -1)
    """
    found = _CALL_LINE.search(text)
    return found.start() if found else -1


class PythonLineParser:
    """Streaming parser of one turn. Each character is scanned once, except a possible start of a call of 120 characters."""

    def __init__(self, reader: Reader, max_calls: int = 1) -> None:
        self.num_scanned = 0
        self._reader = reader
        self._max_calls = max_calls
        self._num_chars = 0
        self._text: list[str] = []
        self._body: list[str] = []
        self._held = ""
        """start of a line that may start a call"""
        self._is_line_start = True
        """whether the next character, or the held text, starts a line"""

    def feed(self, delta: str) -> list[TextDelta]:
        """Parse more text and return the text deltas whose part is certain."""
        self._num_chars += len(delta)
        if not delta or self._num_chars > MAX_TURN_CHARS:
            return []
        if self._body:
            self._body.append(delta)
            return [TextDelta(PartKind.CALL, delta)]
        text = self._held + delta
        self.num_scanned += len(text)
        self._held = ""
        start = self._find_call(text)
        if start >= 0:
            self._body.append(text[start:])
            call = TextDelta(PartKind.CALL, text[start:])
            return [*self._take(text[:start]), call]
        line = text.rfind("\n") + 1
        may_start = (line > 0 or self._is_line_start) and _MAY_START_CALL.fullmatch(text, line)
        if may_start:
            self._held = text[line:]
            text = text[:line]
        deltas = self._take(text)
        self._is_line_start = bool(may_start)
        return deltas

    def finish(self) -> RawTurn:
        """Return the text and the calls, or the reason for which the turn is rejected."""
        self._take(self._held)
        self._held = ""
        if self._num_chars > MAX_TURN_CHARS:
            return RawTurn(problem=too_long_message())
        if not self._body:
            return RawTurn(parts=("".join(self._text),))
        body = "".join(self._body).strip()
        body = body.removeprefix(_START_MARK).removesuffix(_END_MARK)
        try:
            calls = decode_strictly(self._reader, body)
        except CallSyntaxError as error:
            return RawTurn(problem=str(error), num_calls=1)
        if len(calls) > self._max_calls:
            problem = several_calls_message(len(calls), self._max_calls)
            return RawTurn(problem=problem, num_calls=len(calls))
        return RawTurn(parts=("".join(self._text), *calls), num_calls=len(calls))

    def _find_call(self, text: str) -> int:
        position = 0 if self._is_line_start else text.find("\n") + 1
        if not self._is_line_start and position == 0:
            return -1
        found = _CALL_LINE.search(text, position)
        return found.start() if found else -1

    def _take(self, text: str) -> list[TextDelta]:
        if text:
            self._text.append(text)
        return [TextDelta(PartKind.TEXT, text)] if text else []
