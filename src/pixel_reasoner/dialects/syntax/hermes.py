"""Hermes call syntax: JSON between `<tool_call>` tags, used by most open models, with its system message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixel_reasoner.dialects.syntax.base import (
    CallSyntaxError,
    StreamParser,
    WrittenCall,
    dump_arguments,
    dump_json,
    load_json,
)
from pixel_reasoner.dialects.syntax.tagged import TaggedParser, TagGrammar

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, kw_only=True)
class HermesSyntax:
    r"""One JSON object `{"name", "arguments"}` between tags.

    >>> HERMES.encode([WrittenCall("zoom_in", {"bbox_2d": [0, 0.5, 1, 1]})])
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0.50, 1, 1]}}\n</tool_call>'
    >>> HERMES.parser().feed("I look.<tool")
    [TextDelta(kind=<PartKind.TEXT: 'text'>, text='I look.')]
    """

    open: str = OPEN
    close: str = CLOSE
    shape: str = '{"name": ..., "arguments": {...}}'
    has_names: bool = True

    @property
    def special_tokens(self) -> frozenset[str]:
        """Return the tags. They are special tokens in some tokenizers."""
        return frozenset({self.open, self.close})

    def encode(self, calls: Sequence[WrittenCall], decimals: int = 2) -> str:
        """Return the concatenated text of calls."""
        return "\n".join(self._encode(call, decimals) for call in calls)

    def parser(self, max_calls: int = 1) -> StreamParser:
        """Return a parser that accepts at most this many calls."""
        misplaced = (
            f"a call must end the turn with {self.close}; "
            f"write {self.open}, one JSON object, {self.close}"
        )
        grammar = TagGrammar(self.open, self.close, self._decode, misplaced)
        return TaggedParser(grammar, max_calls)

    def _encode(self, call: WrittenCall, decimals: int) -> str:
        line = f'{{"name": {dump_json(call.name)}, "arguments": {dump_arguments(call, decimals)}}}'
        return f"{self.open}\n{line}\n{self.close}"

    def _decode(self, body: str) -> list[WrittenCall]:
        try:
            value = load_json(body)
        except ValueError as error:
            raise CallSyntaxError(
                f"the call is not valid JSON ({error}); write {self.shape}"
            ) from error
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise CallSyntaxError(f"the call has no name; write {self.shape}")
        arguments = value.get("arguments", {})
        if not isinstance(arguments, dict):
            raise CallSyntaxError(f"arguments is not an object; write {self.shape}")
        return [WrittenCall(value["name"], arguments)]


HERMES = HermesSyntax()


def list_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    """Return a system message with tool definitions in the format of the chat templates of Qwen and many other families.

    >>> print(list_tools([{"type": "function"}], "Be brief.").splitlines()[0])
    Be brief.
    """
    return (
        (f"{system}\n\n" if system else "")
        + list_signatures(tools)
        + "\n\nFor each function call, return a json object with function name and arguments within "
        + f"{OPEN}{CLOSE} XML tags:\n{OPEN}\n"
        + f'{{"name": <function-name>, "arguments": <args-json-object>}}\n{CLOSE}'
    )


def list_signatures(tools: Sequence[dict[str, Any]]) -> str:
    """Return the list of tool definitions that the templates of Qwen and GLM share.

    >>> list_signatures([{"type": "function"}]).splitlines()[-1]
    '</tools>'
    """
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        f"{listed}\n</tools>"
    )
