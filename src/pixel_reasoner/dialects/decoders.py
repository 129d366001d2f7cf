"""Decoders of calls in the syntaxes of all families, chosen by content.

Each decoder returns the calls from a position on and the index after them, or raises: `CallSyntaxError` for a call that
cannot be decoded, `NoCall` for text that is none. Values of XML are texts; the schema of the operation types them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from pixel_reasoner.dialects.loose_json import (
    MAX_CALL_CHARS,
    CutOffError,
    Decoded,
    decode_json,
    value_end,
)
from pixel_reasoner.dialects.markup import is_element, read_element, read_key_values
from pixel_reasoner.dialects.syntax.base import CallSyntaxError, WrittenCall
from pixel_reasoner.schema.repairs import RepairKind


class NoCall(Exception):
    """Text that is no call."""


class Form(StrEnum):
    """Form of the text of a call between its marks."""

    JSON = "json"
    """an object with name and arguments"""
    PARAMETERS = "parameters"
    """an object whose arguments have the key `parameters`"""
    LIST = "list"
    """a list of objects"""
    ELEMENTS = "elements"
    """`<function=name>` or `<invoke name="name">`, with one element per argument"""
    KEY_VALUES = "key_values"
    """a name, and tags around keys and values"""
    PYTHON = "python"
    """`name(key=value)`, alone or in a list"""
    GEMMA = "gemma"
    """`call:name{key:value}`"""
    NAMED = "named"
    """a name, a mark, and an object of arguments"""


_Forms = tuple[Form, ...]


class FoundCall(NamedTuple):
    """Call with names and coordinates of the family."""

    written: WrittenCall
    kinds: tuple[RepairKind, ...] = ()


class Body(NamedTuple):
    """Decoded calls, and the index after them."""

    calls: tuple[FoundCall, ...]
    end: int
    kinds: tuple[RepairKind, ...] = ()


class Reader(NamedTuple):
    """What the decoders know about the format of a dialect."""

    shape: str
    has_names: bool
    names: frozenset[str] = frozenset()
    """names of the operations"""
    forms: frozenset[Form] = frozenset({Form.JSON})
    """forms of the dialect; any other one is a neighbour syntax"""

    def error(self, why: str) -> CallSyntaxError:
        """Return the error for a call, with the form of a valid one."""
        return CallSyntaxError(f"{why}; write {self.shape}")

    def cut_off(self) -> CallSyntaxError:
        """Return the error for an incomplete call."""
        return self.error("the call was cut off, and its rest is not guessed")

    # --- JSON ---

    def json_values(self, text: str, start: int) -> tuple[list[Decoded], int]:
        """Return consecutive JSON values, and the index after them."""
        values: list[Decoded] = []
        position = start
        while True:
            try:
                end = value_end(text, position)
                values.append(decode_json(text[position:end]))
            except CutOffError as error:
                raise self.cut_off() from error
            except ValueError as error:
                raise self.error(f"the call is not valid JSON ({error})") from error
            following = _AND_BLANKS.match(text, end)
            assert following is not None, "the pattern matches the empty text"
            if not text.startswith("{", following.end()) or len(values) > _MAX_VALUES:
                return values, end
            position = following.end()

    def json_body(self, text: str, start: int, *, is_named: bool | None = None) -> Body:
        """Decode objects or lists of objects, with or without names."""
        values, end = self.json_values(text, start)
        calls = [call for value in values for call in self._from_json(value, is_named)]
        return Body(tuple(calls), end)

    def _from_json(self, decoded: Decoded, is_named: bool | None) -> list[FoundCall]:
        value, kinds = decoded
        for _ in range(2):
            if not isinstance(value, str):
                break
            value, more = self._decoded_string(value, "the call")
            kinds += (RepairKind.ARGUMENTS_AS_STRING, *more)
        if isinstance(value, list):
            if not value:
                raise self.error("the list of calls is empty")
            kinds += self._foreign(Form.LIST)
            return [self._from_object(one, kinds, is_named) for one in value]
        kinds += self._foreign(Form.JSON, Form.PARAMETERS)
        return [self._from_object(value, kinds, is_named)]

    def _from_object(
        self, value: Any, kinds: tuple[RepairKind, ...], is_named: bool | None
    ) -> FoundCall:
        if not isinstance(value, dict):
            raise self.error("the call is not an object")
        if not (self.has_names if is_named is None else is_named):
            return FoundCall(WrittenCall(None, value), kinds)
        if isinstance(value.get("function"), dict) and "name" not in value:
            value, kinds = value["function"], (*kinds, RepairKind.NEIGHBOUR_SYNTAX)
        name = value.get("name")
        if not isinstance(name, str):
            raise self.error("the call has no name")
        arguments = value.get("arguments")
        if "arguments" not in value and "parameters" in value:
            arguments, kinds = value["parameters"], (*kinds, *self._foreign(Form.PARAMETERS))
        for _ in range(2):
            if isinstance(arguments, str) and arguments.strip():
                arguments, more = self._decoded_string(arguments, "arguments")
                kinds += (RepairKind.ARGUMENTS_AS_STRING, *more)
        if arguments is None or arguments == "":
            arguments = {}
        if not isinstance(arguments, dict):
            raise self.error("arguments is not an object")
        return FoundCall(WrittenCall(name, arguments), kinds)

    def _decoded_string(self, text: str, what: str) -> Decoded:
        try:
            return decode_json(text.strip())
        except ValueError as error:
            raise self.error(f"{what} is not an object but a text") from error

    def _foreign(self, *forms: Form) -> tuple[RepairKind, ...]:
        """Return the repair for a form of another family; empty if one of the forms belongs to the dialect."""
        return () if self.forms.intersection(forms) else (RepairKind.NEIGHBOUR_SYNTAX,)

    # --- tags around each argument ---

    def elements(self, text: str, start: int) -> Body:
        """Decode `<function=name>` or `<invoke name="name">` with one element per argument."""
        calls: list[FoundCall] = []
        kinds: tuple[RepairKind, ...] = ()
        position = start
        while len(calls) <= _MAX_VALUES and (found := read_element(text, position)):
            if found.is_cut_off:
                raise self.cut_off()
            if found.other_text:
                raise self.error(f"text between the arguments: {found.other_text[:40]!r}")
            if not found.is_closed:
                kinds = (RepairKind.END_TAG,)
            calls.append(FoundCall(WrittenCall(found.name, dict(found.arguments), is_text=True)))
            position = found.end
        if not calls:
            raise NoCall
        return Body(tuple(calls), position, kinds)

    def key_values(self, text: str, start: int) -> Body:
        """Decode a name, and GLM's tags around keys and values."""
        head = _NAME.match(text, start)
        if head is None:
            raise NoCall
        arguments, position = read_key_values(text, head.end())
        if text.startswith("<arg_", _skip_blanks(text, position)):
            raise self.cut_off()
        written = WrittenCall(head[0], dict(arguments), is_text=True)
        return Body((FoundCall(written),), position)

    # --- Python, Gemma, Mistral, Kimi ---

    def python(self, text: str, start: int) -> Body:
        """Decode `name(key=value, ...)`, alone or in a list. Positional arguments have no certain name."""
        position = start + 1 if text.startswith("[", start) else start
        calls: list[FoundCall] = []
        while len(calls) <= _MAX_VALUES and (head := _CALLEE.match(text, position)):
            try:
                end = value_end(text, head.end() - 1)
                arguments = _keyword_arguments(text[head.end() : end - 1])
            except CutOffError as error:
                raise self.cut_off() from error
            except ValueError as error:
                raise self.error(
                    f"the arguments of {head[1]} are not keywords ({error})"
                ) from error
            calls.append(FoundCall(WrittenCall(head[1], arguments)))
            following = _AND_BLANKS.match(text, end)
            assert following is not None, "the pattern matches the empty text"
            position = following.end()
        if not calls:
            raise NoCall
        if text.startswith("[", start):
            if not text.startswith("]", position):
                raise self.cut_off()
            position += 1
        return Body(tuple(calls), position)

    def gemma(self, text: str, start: int) -> Body:
        """Decode `call:name{key:value}` with bare keys and strings between `<|"|>`."""
        head = _GEMMA.match(text, start)
        if head is None:
            raise NoCall
        stop = text.find("<tool_call|>", head.end(), head.end() + MAX_CALL_CHARS)
        written = text[head.end() - 1 : stop if stop >= 0 else head.end() + MAX_CALL_CHARS]
        strings: list[str] = []

        def keep(match: re.Match[str]) -> str:
            strings.append(match[1])
            return f'"\ue000{len(strings) - 1}"'

        plain = _GEMMA_STRING.sub(keep, written)
        try:
            end = value_end(plain, 0)
            value = decode_json(_quoted_keys(plain[:end])).value
        except CutOffError as error:
            raise self.cut_off() from error
        except ValueError as error:
            raise self.error(f"the arguments are not an object ({error})") from error
        value = _restored(value, strings)
        if not isinstance(value, dict):
            raise self.error("arguments is not an object")
        # The marks change the length of the text: the end is that of the whole call.
        used = len(_GEMMA_MARK.sub(lambda match: _marked_text(match, strings), plain[:end]))
        return Body((FoundCall(WrittenCall(head[1], value)),), head.end() - 1 + used)

    def named_json(self, text: str, start: int) -> Body:
        """Decode a name, a mark, and a JSON object: `name[ARGS]{...}`, `functions.name:0<|...|>{...}`."""
        head = _NAMED.match(text, start)
        if head is None:
            raise NoCall
        values, end = self.json_values(text, head.end())
        value = {"name": head[1], "arguments": values[0].value}
        call = self._from_object(value, values[0].kinds, True)
        return Body((call,), end)

    def marked(self, text: str, start: int) -> Body:
        """Decode calls that each have marks of their own within a section, as in Kimi and Step3."""
        calls: list[FoundCall] = []
        kinds: tuple[RepairKind, ...] = ()
        position = start
        while len(calls) <= _MAX_VALUES and (head := _CALL_MARK.match(text, position)):
            has_elements = is_element(text, head.end())
            body = (self.elements if has_elements else self.named_json)(text, head.end())
            calls += body.calls
            kinds += body.kinds
            end = _END_MARK.match(text, body.end)
            if end is None:
                kinds += (RepairKind.END_TAG,)
            position = body.end if end is None else end.end()
        if not calls:
            raise NoCall
        return Body(tuple(calls), position, kinds)

    # --- content between tags ---

    def any_body(self, text: str, start: int) -> Body:
        """Decode a call in the syntax of its first characters."""
        if text.startswith(("{", '"', "“"), start):
            return self.json_body(text, start)
        decode, *forms = self._decoder_at(text, start)
        try:
            body = decode(text, start)
        except NoCall as error:
            raise self._unknown_form() from error
        if decode == self.json_body:
            return body
        return body._replace(kinds=(*body.kinds, *self._foreign(*forms)))

    def _decoder_at(self, text: str, start: int) -> tuple[Callable[[str, int], Body], *_Forms]:
        """Return the decoder for text at an index, and its forms."""
        if text.startswith("[", start):
            if _CALLEE.match(text, start + 1):
                return self.python, Form.PYTHON
            return self.json_body, Form.LIST
        if is_element(text, start):
            return self.elements, Form.ELEMENTS
        if _CALL_MARK.match(text, start):
            return self.marked, Form.NAMED, Form.ELEMENTS
        if text.startswith("call:", start):
            return self.gemma, Form.GEMMA
        return self._named_decoder_at(text, start)

    def _named_decoder_at(
        self, text: str, start: int
    ) -> tuple[Callable[[str, int], Body], *_Forms]:
        """Return the decoder for a call that starts with the name of its operation, and its forms."""
        head = _NAME.match(text, start)
        if head is None:
            raise self._unknown_form()
        if text.startswith("(", head.end()):
            return self.python, Form.PYTHON
        if text.startswith("<arg_key>", _skip_blanks(text, head.end())):
            return self.key_values, Form.KEY_VALUES
        mark = _NAMED.match(text, start)
        if mark is not None and (mark[2] or Form.NAMED in self.forms):
            return self.named_json, Form.NAMED
        rest = text[head.end() : head.end() + 80].lstrip()
        is_name = head[0] in self.names or Form.KEY_VALUES in self.forms
        if is_name and (not rest or rest.startswith("</")):
            return self.key_values, Form.KEY_VALUES
        raise self._unknown_form()

    def _unknown_form(self) -> CallSyntaxError:
        return self.error("the call is not valid JSON, nor another known form")


_MAX_VALUES = 16
"""calls in one tag that are decoded; the others are not executed anyway"""
_AND_BLANKS = re.compile(r"[\s,;]*+")
_BLANKS = re.compile(r"\s*+")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,80}")
_CALLEE = re.compile(r"\s*+([A-Za-z_]\w{0,80})\(")
_GEMMA = re.compile(r"\s*+call:([\w.-]{1,80})\s*\{")
_GEMMA_STRING = re.compile(r'<\|"\|>((?:(?!<\|"\|>).)*)<\|"\|>', re.DOTALL)
_GEMMA_MARK = re.compile(r'"\ue000(\d+)"')
_BARE_KEY = re.compile(
    r"""("(?:[^"\\]++|\\.)*+"|'(?:[^'\\]++|\\.)*+')|([{,]\s*+)([A-Za-z_]\w*)(?=\s*+:)"""
)
_NAMED = re.compile(
    r"\s*+(?:functions\.)?([A-Za-z_][\w-]{0,80})(?::\d{1,6})?\s*(\[ARGS\]|<\|tool_call_argument_begin\|>)?\s*(?=\{)"
)
_CALL_MARK = re.compile(
    r"\s*+(?:<\|tool_call_begin\|>|<｜tool_call_begin｜>(?:function)?(?:<｜tool_sep｜>)?)"
)
_END_MARK = re.compile(r"\s*+(?:<\|tool_call_end\|>|<｜tool_call_end｜>)")
_KEYWORD = re.compile(r"\s*+([A-Za-z_]\w{0,80})\s*+=\s*+")


def _skip_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return found.end() if found else position


def _keyword_arguments(text: str) -> dict[str, Any]:
    """Return the keyword arguments of a call in Python.

    Raises:
        ValueError: a positional argument, or a value that is no literal.
    """
    arguments: dict[str, Any] = {}
    position = 0
    while text[position:].strip(" \n\t,"):
        head = _KEYWORD.match(text, position)
        if head is None:
            raise ValueError("a value without a name")
        end = _argument_end(text, head.end())
        arguments[head[1]] = decode_json(text[head.end() : end].strip()).value
        position = end + 1
    return arguments


def _argument_end(text: str, start: int) -> int:
    """Return the index of the comma after an argument, or the end of the text."""
    if start < len(text) and text[start] in "[{(\"'":
        start = value_end(text, start)
    comma = text.find(",", start)
    return len(text) if comma < 0 else comma


def _quoted_keys(text: str) -> str:
    """Return an object with quotes around bare keys."""
    return _BARE_KEY.sub(lambda match: match[1] or f'{match[2]}"{match[3]}"', text)


def _marked_text(match: re.Match[str], strings: list[str]) -> str:
    """Return the original text of a replaced string of Gemma."""
    number = int(match[1])
    return f'<|"|>{strings[number]}<|"|>' if number < len(strings) else match[0]


def _restored(value: Any, strings: list[str]) -> Any:
    """Return a value with the strings of Gemma."""
    if isinstance(value, list):
        return [_restored(one, strings) for one in value]
    if isinstance(value, dict):
        return {_restored(key, strings): _restored(one, strings) for key, one in value.items()}
    if isinstance(value, str) and value.startswith("\ue000") and value[1:].isdigit():
        number = int(value[1:])
        return strings[number] if number < len(strings) else value
    return value
