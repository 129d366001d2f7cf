"""Elements and key-value tags of calls: positions and texts of arguments, without types.

No syntax of this kind has escapes. A value therefore ends at the last end tag before the next argument.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pixel_reasoner.dialects.loose_json import MAX_CALL_CHARS

_NAMESPACE = r"(?:\]<\]minimax\[>\[)?"
"""MiniMax-M3 writes this before every tag"""
_PREFIX = r"(?:atem:|steptml:)?"

_ELEMENT = re.compile(
    rf"\s*+{_NAMESPACE}<(?P<prefix>atem:|steptml:)?(?P<element>function|invoke)"
    r"(?:=|\s+name=)[\"']?(?P<name>[\w.-]{1,80})[\"']?\s*>"
)
_ELEMENT_OR_END = re.compile(
    rf"<{_PREFIX}(?:function|invoke)(?:=|\s+name=)|</tool_call>|</atem:function_calls>"
    r"|<｜tool_call_end｜>"
)
_PARAMETER = re.compile(
    rf"\s*+{_NAMESPACE}<{_PREFIX}(parameter|param)(?:=|\s+name=)[\"']?([\w.-]{{1,80}})[\"']?\s*>"
)
_NAMED_TAG = re.compile(r"\s*+\]<\]minimax\[>\[<([A-Za-z_][\w-]{0,80})>")
_OPEN_PARAMETER = re.compile(rf"<{_PREFIX}param|</?p?[a-z]{{0,9}}$|\]<\]minimax\[>\[<[\w-]")
_LAST_NAMESPACE = re.compile(rf"{_NAMESPACE}\s*\Z")
_KEY_VALUE = re.compile(
    r"\s*+<arg_key>([^<]{1,80})</arg_key>\s*+<arg_value>((?:(?!</arg_value>).){0,10000})</arg_value>",
    re.DOTALL,
)


class Element(NamedTuple):
    """One call in elements."""

    name: str
    arguments: dict[str, str]
    end: int
    """index after the call"""
    is_closed: bool
    """whether its end tag is written"""
    is_cut_off: bool
    """whether its last argument has no end"""
    other_text: str
    """text between its arguments, which belongs to none"""


def is_element(text: str, start: int) -> bool:
    """Return whether a call in elements starts at an index, possibly after blanks."""
    return _ELEMENT.match(text, start) is not None


def read_element(text: str, start: int) -> Element | None:
    """Return the call `<function=name>` or `<invoke name="name">` at an index; None if there is none.

    >>> read_element("<function=f><parameter=a>1</parameter></function>", 0)[:3]
    ('f', {'a': '1'}, 49)
    """
    head = _ELEMENT.match(text, start)
    if head is None:
        return None
    end_tag = f"</{head['prefix'] or ''}{head['element']}>"
    limit = _next_element(text, head.end())
    close = text.find(end_tag, head.end(), limit)
    inner = text[head.end() : limit if close < 0 else close]
    arguments, rest, other = _parameters(inner)
    if close >= 0:
        return Element(
            head["name"], arguments, close + len(end_tag), True, False, (other + rest).strip()
        )
    is_cut_off = _OPEN_PARAMETER.search(rest) is not None or not arguments
    end = head.end() + len(inner) - len(rest)
    return Element(head["name"], arguments, end, False, is_cut_off, other.strip())


def read_key_values(text: str, start: int) -> tuple[dict[str, str], int]:
    """Return the arguments between GLM's tags around keys and values, and the index after them.

    >>> read_key_values("<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", 0)
    ({'a': '1'}, 44)
    """
    arguments: dict[str, str] = {}
    while pair := _KEY_VALUE.match(text, start):
        arguments[pair[1].strip()] = _trimmed(pair[2])
        start = pair.end()
    return arguments, start


def _next_element(text: str, start: int) -> int:
    """Return where the next call in elements begins; else the end of the longest call."""
    limit = min(len(text), start + MAX_CALL_CHARS)
    found = _ELEMENT_OR_END.search(text, start, limit)
    return limit if found is None else found.start()


def _trimmed(value: str) -> str:
    """Return a value without the line breaks around it."""
    return value.removeprefix("\n").removesuffix("\n")


def _parameters(inner: str) -> tuple[dict[str, str], str, str]:
    """Return the arguments in elements, the text after the last complete one, and the text between them."""
    heads = list(_PARAMETER.finditer(inner))
    named = [(one, one[1], one[2]) for one in heads]
    if not heads:
        named = [(one, one[1], one[1]) for one in _NAMED_TAG.finditer(inner)]
    arguments: dict[str, str] = {}
    end, other = 0, ""
    for number, (head, tag, name) in enumerate(named):
        stop = named[number + 1][0].start() if number + 1 < len(named) else len(inner)
        part = inner[head.end() : stop]
        closes = list(re.finditer(rf"{_NAMESPACE}</{_PREFIX}{tag}>", part))
        if not closes:
            break
        value = part[: closes[-1].start()]
        # A repeated end tag directly after the first one is ignored; any other belongs to the value.
        value = re.sub(rf"(?:\s*{_NAMESPACE}</{_PREFIX}{tag}>)+\s*\Z", "", value)
        arguments[name] = _trimmed(value)
        other += inner[end : head.start()]
        end = head.end() + closes[-1].end()
    rest = inner[end:]
    return arguments, _LAST_NAMESPACE.sub("", rest) if rest.strip() else rest, other
