"""What a chat template does with a conversation: found by rendering, never by searching its source.

facts = read_template(render)        # render(messages, tools=..., add_generation_prompt=...) -> text
facts.syntax                         # "function_xml"
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

from pixel_reasoner.dialects.carriage import Message, split_calls
from pixel_reasoner.dialects.syntax.base import CallSyntax, WrittenCall
from pixel_reasoner.dialects.syntax.catalogue import CALL_SYNTAXES
from pixel_reasoner.dialects.thoughts import (
    GEMMA_CHANNEL,
    KIMI_VL_TAGS,
    MISTRAL_TAGS,
    MUSE_CHANNEL,
    THINK_TAGS,
    ThoughtTags,
)
from pixel_reasoner.errors import ModelError, one_line

THOUGHT_TAGS: dict[str, ThoughtTags] = {
    "THINK_TAGS": THINK_TAGS,
    "GEMMA_CHANNEL": GEMMA_CHANNEL,
    "MISTRAL_TAGS": MISTRAL_TAGS,
    "KIMI_VL_TAGS": KIMI_VL_TAGS,
    "MUSE_CHANNEL": MUSE_CHANNEL,
}
"""marks of thoughts by the name of their constant"""
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "A tool",
        "parameters": {
            "type": "object",
            "properties": {
                "label": {"type": "string", "description": "a name"},
                "numbers": {"type": "array", "items": {"type": "number"}, "description": "numbers"},
            },
            "required": ["label", "numbers"],
        },
    },
}
_ARGUMENTS: dict[str, Any] = {"label": "alphalabel", "numbers": [10, 20]}
_SYSTEM, _USER, _WORDS, _THOUGHT, _RESULT = (
    "alphasystem",
    "alphauser",
    "alphawords",
    "alphathought",
    "alpharesult",
)
_MAX_ENDS = 60
"""places at which a call without a closing mark may end"""


class RenderTemplate(Protocol):
    """Function that renders a chat template."""

    def __call__(self, messages: list[Message], **options: Any) -> str:
        """Return the text of messages. Options are variables of the template: `tools`, `add_generation_prompt`."""
        ...


@dataclass(frozen=True, kw_only=True)
class TemplateFacts:
    """What a template does."""

    has_system_role: bool
    """whether it accepts a system message and renders it"""
    lists_tools: bool
    """whether it renders `tools=`"""
    syntax: str | None
    """name in `CALL_SYNTAXES` of the calls that it renders; None if it renders none, or in an unknown syntax"""
    call_text: str
    """a call as it is rendered, of an unknown syntax; else empty"""
    thought_tags: str | None
    """name in `THOUGHT_TAGS` of the marks around a thought; None if it renders no thought"""
    reasoning_field: str
    """key of a thought that it renders: `reasoning_content`, `reasoning` or empty"""
    opens_thought: bool
    """whether a turn of the model starts within a thought"""
    image_text: str
    """text in place of a picture; empty if it leaves pictures out"""
    trims: bool
    """whether it removes blanks at the ends of texts"""
    writes_blank: bool
    """whether it writes a blank before the text of a turn"""
    moves_words: bool = False
    """whether it writes words next to a call after its result"""


def read_template(render: RenderTemplate) -> TemplateFacts:
    """Return what a template does.

    Raises:
        ModelError: it cannot render a question, so that it is no template of a model for chats.

    >>> facts = read_template(lambda messages, **options: str(messages) + str(options.get("tools", "")))
    >>> facts.has_system_role, facts.lists_tools, facts.syntax
    (True, True, None)
    """
    question = [_message("user", _USER)]
    try:
        plain = render(question)
    except Exception as error:
        raise ModelError(
            expected="a chat template that renders a question",
            got=f"one that raises {type(error).__name__}: {one_line(error, 200)}",
            fix="correct the template, or use a folder of a model for chats",
        ) from error
    if _USER not in plain:
        raise ModelError(
            expected="a chat template that renders the text of a question",
            got="one that leaves it out",
            fix="correct the template, or use a folder of a model for chats",
        )
    syntax, call_text = _call_syntax(render)
    tags, key = _thoughts(render)
    prompt = _try(render, question, add_generation_prompt=True) or plain
    opened = _opened(prompt.removeprefix(plain))
    return TemplateFacts(
        has_system_role=_SYSTEM in (_try(render, [_message("system", _SYSTEM), *question]) or ""),
        lists_tools="probe_tool" in (_try(render, question, tools=[_TOOL]) or ""),
        syntax=syntax,
        call_text=call_text,
        thought_tags=tags or opened,
        reasoning_field=key,
        opens_thought=opened is not None,
        image_text=_image_text(render),
        trims=_trims(render),
        writes_blank=_writes_blank(render),
        moves_words=_moves_words(render),
    )


def _message(role: str, text: str, **more: Any) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}], **more}


def _try(render: RenderTemplate, messages: list[Message], **options: Any) -> str | None:
    """Return the text, or None if the template rejects the messages."""
    try:
        return render(messages, **options)
    except Exception:  # noqa: BLE001 - a template may raise any exception
        return None


# --- calls ---


def _call_syntax(render: RenderTemplate) -> tuple[str | None, str]:
    """Return the name of the syntax of calls, or else a call in an unknown one."""
    unknown = ""
    for turn in _turns_with_call():
        text = _try(render, turn, tools=[_TOOL])
        if text is None or "alphalabel" not in text:
            continue
        start = text.rfind(_USER) + len(_USER)
        end = text.find(_RESULT, start)
        turn_text = text[start : end if end > 0 else len(text)]
        found = [
            name for name, known in CALL_SYNTAXES.items() if _has_call(turn_text, known.syntax)
        ]
        if found:
            return _exact(found, turn_text), ""
        if "probe_tool" in turn_text:
            unknown = unknown or turn_text.strip()
    return None, unknown


_CALL_IDS = ("call00001", "functions.probe_tool:0")
"""nine letters or digits, as Mistral requires; name and number, as Kimi writes them in the call"""


def _turns_with_call(**more: Any) -> Iterator[list[Message]]:
    """Yield a conversation with a call, in the forms that templates accept. `more` are keys of the turn with the call."""
    forms = product((_ARGUMENTS, json.dumps(_ARGUMENTS)), _CALL_IDS)
    for arguments, number in forms:
        result = {"name": "probe_tool", "tool_call_id": number}
        function = {"name": "probe_tool", "arguments": arguments}
        call = {"type": "function", "id": number, "function": function}
        contents: tuple[Any, ...] = ([], "", None)
        for content in contents:
            said = {"role": "assistant", "content": content, "tool_calls": [call]} | more
            question = _message("user", _USER)
            yield [question, said, _message("tool", _RESULT, **result)]
            yield [question, said, {"role": "tool", "content": _RESULT, **result}]
            yield [question, said]


def _has_call(text: str, syntax: CallSyntax) -> bool:
    """Return whether a text has exactly the rendered call in a syntax."""
    start = text.find(syntax.open)
    if start < 0:
        return False
    for end in _ends(text, start, syntax):
        _, calls = split_calls(text[start:end], syntax)
        if len(calls) == 1 and _is_the_call(calls[0]):
            return True
    return False


def _ends(text: str, start: int, syntax: CallSyntax) -> Iterator[int]:
    """Yield places where the call may end, from the last one."""
    if syntax.close:
        at = text.rfind(syntax.close)
        if at > start:
            yield at + len(syntax.close)
        return
    places = [match.end() for match in re.finditer(r"[\]})>]", text[start:])]
    for place in sorted(places, reverse=True)[:_MAX_ENDS]:
        yield start + place


def _is_the_call(call: WrittenCall) -> bool:
    name = (call.name or "").removeprefix("functions.").partition(":")[0]
    values = {key: str(value) for key, value in call.arguments.items()}
    return name == "probe_tool" and values == {key: str(value) for key, value in _ARGUMENTS.items()}


def _exact(names: list[str], text: str) -> str:
    """Return the syntax that writes the call as the template does; by default the first."""
    call = WrittenCall("probe_tool", _ARGUMENTS)
    for name in names:
        if CALL_SYNTAXES[name].syntax.encode([call]).strip() in text:
            return name
    return names[0]


# --- thoughts ---


def _thoughts(render: RenderTemplate) -> tuple[str | None, str]:
    """Return the name of the marks around a thought, and the key of a message that becomes one."""
    question = _message("user", _USER)
    for key in ("reasoning_content", "reasoning"):
        said = _message("assistant", _WORDS, **{key: _THOUGHT})
        for messages in ([question, said], [question, said, question]):
            for options in ({}, {"enable_thinking": True}):
                text = _try(render, messages, **options) or ""
                if _THOUGHT in text:
                    return _tags_around(text), key
        for messages in _turns_with_call(**{key: _THOUGHT}):
            text = _try(render, messages, tools=[_TOOL], enable_thinking=True) or ""
            if _THOUGHT in text:
                return _tags_around(text), key
    return None, ""


def _tags_around(text: str) -> str | None:
    """Return the name of the marks around the thought in a text."""
    before, _, after = text.partition(_THOUGHT)
    for name, tags in THOUGHT_TAGS.items():
        opens = before.rstrip().endswith(tags.open.rstrip())
        if opens and after.lstrip().startswith(tags.close):
            return name
    return None


def _opened(prompt: str) -> str | None:
    """Return the name of the marks of a thought that the prompt for a turn opens and does not close."""
    for name, tags in THOUGHT_TAGS.items():
        if prompt.rstrip().endswith(tags.open.rstrip()):
            return name
    return None


# --- text and pictures ---


def _image_text(render: RenderTemplate) -> str:
    """Return the text that a template writes for a picture."""
    text = {"type": "text", "text": _USER}
    with_image = _try(render, [{"role": "user", "content": [{"type": "image"}, text]}])
    without = _try(render, [{"role": "user", "content": [text]}])
    if with_image is None or without is None or with_image == without:
        return ""
    start = _num_common(with_image, without)
    end = _num_common(with_image[start:][::-1], without[start:][::-1])
    return with_image[start : len(with_image) - end].strip()


def _num_common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _trims(render: RenderTemplate) -> bool:
    parts = [{"type": "text", "text": f"{_USER} "}, {"type": "text", "text": f"\n {_WORDS}"}]
    text = _try(render, [{"role": "user", "content": parts}]) or ""
    return _USER in text and f"{_USER} \n {_WORDS}" not in text


def _writes_blank(render: RenderTemplate) -> bool:
    text = _try(render, [_message("user", _USER), _message("assistant", _WORDS)]) or ""
    before = text.partition(_WORDS)[0]
    prompt = _try(render, [_message("user", _USER)], add_generation_prompt=True) or ""
    return before == f"{prompt} "


def _moves_words(render: RenderTemplate) -> bool:
    for messages in _turns_with_call(content=[{"type": "text", "text": _WORDS}]):
        text = _try(render, messages, tools=[_TOOL]) or ""
        if _WORDS in text and _RESULT in text:
            return text.index(_WORDS) > text.index(_RESULT)
    return False
