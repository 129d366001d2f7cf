"""Repairs of malformed calls: the form of a call in a turn. `argument_repairs` repairs its values.

A turn is repaired only if the parser of its dialect rejects it or finds no call, and only where one meaning is certain.
Everything else returns to the model as an error: units, order of corners, and the rest of a truncated call are never
guessed. The rules and their reasons are in docs/dialects.md; `tests/malformed_calls.py` lists the cases.

1. Closed thoughts contain no calls. A complete call ends a thought without an end tag.
2. The first valid call is executed; the others are left out, and the next prompt contains their number.
3. The content decides the syntax. Outside of tags, a call must name one of the operations.
"""

from __future__ import annotations

import re
from functools import cache, partial
from typing import NamedTuple

from pixel_reasoner.dialects.decoders import Body, FoundCall, NoCall, Reader
from pixel_reasoner.dialects.loose_json import MAX_CALL_CHARS
from pixel_reasoner.dialects.syntax.base import CallSyntaxError
from pixel_reasoner.dialects.thoughts import ThoughtTags
from pixel_reasoner.schema.repairs import RepairKind

MAX_CALLS = 32
"""Maximum number of calls in a turn that are decoded. A turn with more is not repaired."""

_HERMES = "<tool_call>", "</tool_call>"
_WRAPPERS = re.compile(
    r"<\|tool_calls_section_(?:begin|end)\|>|\]<\]minimax\[>\[|</?(?:atem:)?function_calls>"
)
"""marks around all calls of other families"""
_FENCE = re.compile(r"```[\w-]{0,20}[ \t]*\n?")


class TurnFormat(NamedTuple):
    """Format of the calls of a dialect."""

    reader: Reader
    open: str
    close: str
    max_calls: int
    thought_tags: ThoughtTags | None
    """None if thoughts are not separated"""
    opens_body: str = ""
    """end of `open` that belongs to the text of the calls"""


class RepairedTurn(NamedTuple):
    """Turn with the calls that were found. `calls` is empty if the turn contains none, or none that is valid."""

    before: str
    """text before the first call"""
    calls: tuple[FoundCall, ...] = ()
    after: str = ""
    """text after the first call, without other calls"""
    thoughts: tuple[str, ...] = ()
    kinds: tuple[RepairKind, ...] = ()
    """repairs of the form"""
    num_left_out: int = 0
    """calls that are not executed"""
    problem: str = ""
    """reason for which no call is valid; empty if the turn contains none"""


class _Candidate(NamedTuple):
    """Text that may be a call."""

    start: int
    end: int
    body: Body | None = None
    problem: str = ""
    is_quoted: bool = False


def repair_turn(content: str, turn_format: TurnFormat) -> RepairedTurn | None:
    """Return the repaired turn; None if it contains neither calls nor later thoughts.

    Args:
        content: text after the first closed thought.
        turn_format: format of the dialect.
    """
    thoughts: list[str] = []
    kinds: list[RepairKind] = []
    tags = turn_format.thought_tags
    if tags is not None and tags.open in content:
        content, thoughts = _without_thoughts(content, tags)
        opener = turn_format.open
        if any((opener and opener in one) or _HERMES[0] in one for one in thoughts):
            kinds.append(RepairKind.CALL_IN_THOUGHT)
    found = _candidates(content, turn_format)
    if found is None:
        return None
    quoted = [one for one in found if one.is_quoted]
    found = [one for one in found if not one.is_quoted]
    if not found:
        if not quoted and not kinds:
            return None
        kinds += [RepairKind.QUOTED_CALL] if quoted else []
        return RepairedTurn(content, thoughts=tuple(thoughts), kinds=tuple(kinds))
    return _composed(content, found, thoughts, kinds, turn_format)


def _without_thoughts(content: str, tags: ThoughtTags) -> tuple[str, list[str]]:
    """Return content without closed thoughts, and these thoughts."""
    pattern = _later_thought(tags)
    thoughts = [one.removeprefix(tags.open) for one in pattern.findall(content)]
    rest = pattern.sub("", content) if thoughts else content
    return rest, [one.removesuffix(tags.close) for one in thoughts]


@cache
def _later_thought(tags: ThoughtTags) -> re.Pattern[str]:
    """Return a pattern that finds closed thoughts."""
    first, last = re.escape(tags.open), re.escape(tags.close)
    # Not possessive: Python before 3.11.5 then matches beyond the assertion (python/cpython#106052).
    return re.compile(rf"{first}(?:(?!{first}|{last}).)*{last}", re.DOTALL)


def _composed(
    content: str,
    found: list[_Candidate],
    thoughts: list[str],
    kinds: list[RepairKind],
    turn_format: TurnFormat,
) -> RepairedTurn:
    """Return the turn with its first valid calls."""
    valid = [one for one in found if one.body is not None]
    if not valid:
        problem = found[0].problem
        return RepairedTurn(content, thoughts=tuple(thoughts), problem=problem)
    calls = [call for one in valid for call in (one.body.calls if one.body else ())]
    first = valid[0]
    kinds += first.body.kinds if first.body else ()
    num_calls = len(calls) + len(found) - len(valid)
    left_out = num_calls - min(len(calls), turn_format.max_calls)
    kinds += [RepairKind.SEVERAL_CALLS] if left_out else []
    before, after = content[: found[0].start], []
    for one, following in zip(found, [*found[1:], None], strict=True):
        after.append(content[one.end : following.start if following else len(content)])
    rest = _without_marks("".join(after), turn_format, kinds)
    kinds += [RepairKind.TEXT_AFTER_CALL] if rest.strip() else []
    before = _WRAPPERS.sub("", before)
    tags = turn_format.thought_tags
    if tags is not None and tags.open in before:
        before, _, thought = before.partition(tags.open)
        thoughts = [*thoughts, thought]
        kinds.append(RepairKind.UNCLOSED_THOUGHT)
    return RepairedTurn(
        before,
        tuple(calls[: turn_format.max_calls]),
        rest if rest.strip() else "",
        tuple(one for one in thoughts if one.strip()),
        tuple(dict.fromkeys(kinds)),
        left_out,
    )


def _without_marks(text: str, turn_format: TurnFormat, kinds: list[RepairKind]) -> str:
    """Return the text after a call without marks of calls that have no meaning there."""
    text = _WRAPPERS.sub("", text)
    close = turn_format.close or _HERMES[1]
    start = text.lstrip()
    if RepairKind.NEIGHBOUR_SYNTAX in kinds:
        return start.removeprefix(close) if start.startswith(close) else text
    is_truncated = 1 < len(start.rstrip()) < len(close) and close.startswith(start.rstrip())
    if start.startswith(close) or is_truncated:
        kinds.append(RepairKind.END_TAG)
        return "" if is_truncated else start.removeprefix(close)
    return text


# --- candidates ---


@cache
def _pattern(open: str) -> re.Pattern[str]:
    """Return a pattern that finds the start of calls in all syntaxes, the own one first."""
    own = f"{re.escape(open)}|" if open else ""
    return re.compile(
        rf"(?P<own>{own}<tool_call>)"
        r"|(?P<named>\[TOOL_CALLS\]|<\|tool_call_begin\|>)"
        r"|(?P<gemma><\|tool_call>)"
        r"|(?P<python><\|tool_call_start\|>)"
        r"|(?P<json>functools(?=\[)|<\|action_start\|>\s*<\|plugin\|>)"
        r"|^[ \t]*+(?:(?P<element>(?=<(?:atem:)?(?:function|invoke)(?:=| name=)))"
        r"|(?P<fence>(?=```))|(?P<line>(?=\[\w+\(|\{)))"
        r"|<(?:atem:)?function_calls>\s*(?P<wrapped>(?=<(?:atem:)?invoke name=))",
        re.MULTILINE,
    )


_ENDS = {
    "named": ("<|tool_call_end|>",),
    "gemma": ("<tool_call|>",),
    "python": ("<|tool_call_end|>",),
    "json": ("<|action_end|>",),
}
_FINAL = frozenset({"line", "fence"})
"""forms without tags: they are calls only at the end of the turn"""


def _candidates(content: str, turn_format: TurnFormat) -> list[_Candidate] | None:
    """Return the texts that may be calls, in order; None if there are too many."""
    found: list[_Candidate] = []
    pattern, position, count = _pattern(turn_format.open), 0, 0
    while match := pattern.search(content, position):
        count += 1
        if count > 2 * MAX_CALLS or len(found) > MAX_CALLS:
            return None
        kind = match.lastgroup or ""
        candidate = _candidate(content, match, kind, turn_format)
        if candidate is None:
            position = max(match.end(), position + 1)
            continue
        found.append(candidate)
        position = max(candidate.end, match.end(), position + 1)
    return found


def _candidate(
    content: str, match: re.Match[str], kind: str, turn_format: TurnFormat
) -> _Candidate | None:
    """Return the candidate at the start of a call; None if it is certainly none."""
    start, reader = match.start(), turn_format.reader
    try:
        if kind == "own":
            body = _tagged(content, match, turn_format)
        elif kind == "fence":
            return _fenced(content, match.end(), turn_format)
        else:
            body = _neighbour_body(content, match.end(), kind, turn_format)
    except NoCall:
        return None
    except CallSyntaxError as error:
        if kind in _FINAL or (kind != "own" and not _names_operation(content, match.end(), reader)):
            return None
        return _Candidate(start, _end_of_rejected(content, match, turn_format), problem=str(error))
    if kind in _FINAL and content[body.end :].strip():
        return None
    if kind == "own" and content[start - 1 : start] == "`" and content.startswith("`", body.end):
        return _Candidate(start, body.end, is_quoted=True)
    return _Candidate(start, body.end, body)


def _neighbour_body(content: str, start: int, kind: str, turn_format: TurnFormat) -> Body:
    """Decode a call of another family, whose operation must be known."""
    reader = turn_format.reader
    if kind == "gemma":
        body = reader.gemma(content, start)
    elif kind in ("element", "wrapped"):
        body = reader.elements(content, start)
        close = content[body.end : body.end + 40].lstrip()
        if close.startswith(_HERMES[1]):
            body = body._replace(end=content.index(_HERMES[1], body.end) + len(_HERMES[1]))
    else:
        body = _after_mark(content, start, kind, reader)
    if not all(call.written.name in reader.names for call in body.calls):
        raise NoCall
    is_own_line = kind == "line" and not turn_format.open and not body.kinds
    end, kinds = body.end, body.kinds
    kinds += () if is_own_line else (RepairKind.NEIGHBOUR_SYNTAX,)
    for tag in _ENDS.get(kind, ()):
        begin = _skip(content, end)
        if content.startswith(tag, begin):
            end = begin + len(tag)
        elif kind == "gemma":
            kinds = (*kinds, RepairKind.END_TAG)
    return body._replace(end=end, kinds=kinds)


def _after_mark(content: str, start: int, kind: str, reader: Reader) -> Body:
    """Decode a call after the mark of another family, or a call without tags."""
    begin = _skip(content, start)
    if kind == "named" and not content.startswith(("[", "{"), begin):
        return reader.named_json(content, begin)
    if kind not in ("json", "named") and content.startswith("[", begin):
        return reader.python(content, begin)
    if content.startswith(("[", "{"), begin):
        return reader.json_body(content, begin, is_named=True)
    raise NoCall


def _names_operation(content: str, start: int, reader: Reader) -> bool:
    """Return whether a rejected call of another family names one of the operations near its start."""
    words = re.findall(r"[A-Za-z_][\w-]*", content[start : start + 200])[:4]
    return any(word in reader.names for word in words)


def _tagged(content: str, match: re.Match[str], turn_format: TurnFormat) -> Body:
    """Decode a call between tags."""
    reader = turn_format.reader
    is_own = match[0] == turn_format.open
    start = match.end() - (len(turn_format.opens_body) if is_own else 0)
    close = (turn_format.close if is_own else _HERMES[1]) or ""
    position = _skip(content, start)
    if close and content.startswith(close, position):
        raise reader.error("the call is empty")
    fence = _FENCE.match(content, position)
    kinds: tuple[RepairKind, ...] = ()
    if fence is not None:
        position, kinds = _skip(content, fence.end()), (RepairKind.CODE_FENCE,)
    decode = reader.any_body if is_own or reader.has_names else partial(_named, reader)
    body = decode(content, position)
    if not is_own and RepairKind.NEIGHBOUR_SYNTAX not in body.kinds:
        body = body._replace(kinds=(*body.kinds, RepairKind.NEIGHBOUR_SYNTAX))
    end = _skip(content, body.end)
    if fence is not None and content.startswith("```", end):
        end = _skip(content, end + 3)
    kinds = (*body.kinds, *kinds)
    if not body.calls:
        raise reader.error("the call is empty")
    if wrapper := _WRAPPERS.match(content, end):
        end = _skip(content, wrapper.end())
    if close and content.startswith(close, end):
        has_tag_inside = close in content[start:end]
        kinds += (RepairKind.END_TAG,) if has_tag_inside else ()
        return body._replace(end=end + len(close), kinds=kinds)
    if close:
        _check_rest(content, end, close, turn_format)
        kinds += (RepairKind.END_TAG,)
    return body._replace(end=body.end, kinds=kinds)


def _named(reader: Reader, content: str, position: int) -> Body:
    """Decode the named form of a call, in a family whose calls have no names."""
    body = reader._replace(has_names=True).any_body(content, position)
    if not all(call.written.name in reader.names for call in body.calls):
        raise reader.error("the call names no operation")
    return body._replace(kinds=(*body.kinds, RepairKind.NEIGHBOUR_SYNTAX))


def _check_rest(content: str, end: int, close: str, turn_format: TurnFormat) -> None:
    """Check that nothing lies between a complete call and its end tag.

    Raises:
        CallSyntaxError: other text does, so the value is not what the model meant.
    """
    window = content[end : end + MAX_CALL_CHARS]
    following = window.find(turn_format.open) if turn_format.open else -1
    at = window.find(close)
    if at >= 0 and (following < 0 or at < following):
        raise turn_format.reader.error("the call is not valid JSON (text after the object)")


def _fenced(content: str, start: int, turn_format: TurnFormat) -> _Candidate | None:
    """Return the call that fills a code fence. If other text follows the fence, the call is quoted."""
    fence = _FENCE.match(content, start)
    close = content.find("```", fence.end() if fence else start + 3, start + MAX_CALL_CHARS)
    if fence is None or close < 0:
        return None
    inner = content[fence.end() : close].strip()
    reader = turn_format.reader
    tag = next((one for one in (turn_format.open, _HERMES[0]) if one and inner.startswith(one)), "")
    try:
        if tag:
            match = _pattern(turn_format.open).match(inner)
            assert match is not None, "the text starts with the tag"
            body = _tagged(inner, match, turn_format)
        else:
            body = reader.any_body(inner, 0)
            kinds = (*body.kinds, RepairKind.NEIGHBOUR_SYNTAX)
            body = body._replace(kinds=kinds)
    except (CallSyntaxError, NoCall):
        return None
    named = all(call.written.name in reader.names for call in body.calls)
    if not (tag or named) or inner[body.end :].strip():
        return None
    end = close + 3
    if content[end:].strip():
        return _Candidate(start, end, is_quoted=True) if tag else None
    kinds = (*body.kinds, RepairKind.CODE_FENCE)
    return _Candidate(start, end, body._replace(end=end, kinds=kinds))


def _end_of_rejected(content: str, match: re.Match[str], turn_format: TurnFormat) -> int:
    """Return the index after a rejected call. Nothing inside of it is a call."""
    close = turn_format.close if match[0] == turn_format.open else _HERMES[1]
    at = content.find(close, match.end(), match.end() + MAX_CALL_CHARS) if close else -1
    return match.end() if at < 0 else at + len(close)


def _skip(content: str, position: int) -> int:
    """Return the index of the next character that is not white space."""
    found = _BLANKS.match(content, position)
    return found.end() if found else position


_BLANKS = re.compile(r"\s*+")
