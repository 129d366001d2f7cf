"""Messages for servers: native tool calls, or conversations as text.

Natively, operations are `tools` and calls are `tool_calls`. The result of a call is a `tool` message with the text and a
user message with the pictures, because many servers drop pictures from `tool` messages. Dialects whose chat templates need
messages of other roles or keys (`dialects.carriage`) are converted to the messages that all servers accept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pixel_reasoner.dialects import carriage
from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.syntax.base import CallSyntax, WrittenCall
from pixel_reasoner.dialects.syntax.hermes import HERMES
from pixel_reasoner.models.api import Messages
from pixel_reasoner.models.openai_reply import THINK_CLOSE, THINK_OPEN, split_reasoning

_SEE_NEXT = "See the next message."
Typed = Callable[[WrittenCall], WrittenCall]
"""types the values of a call whose syntax writes only texts"""


class NativeCall(NamedTuple):
    """Tool call with names of the model family."""

    name: Any
    arguments: Any


def split_calls(
    text: str, syntax: CallSyntax = HERMES, typed: Typed = lambda call: call
) -> tuple[str, list[NativeCall]]:
    """Split a turn into the text before its calls and the calls.

    Returns:
        The whole text and no calls if a call cannot be parsed.

    >>> split_calls('I look. <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>')
    ('I look. ', [NativeCall(name='f', arguments={'a': 1})])
    """
    words, calls = carriage.split_calls(text, syntax)
    return words, [NativeCall(one.name, one.arguments) for one in map(typed, calls)]


def native_request(
    dialect: Dialect,
    conversation: Messages,
    reasoning_field: str = "",
    tools: Sequence[dict[str, Any]] = (),
    *,
    pictures_in_tool: bool = False,
) -> tuple[Messages, list[dict[str, Any]]]:
    """Return messages with `tool_calls`, and the tool definitions of the conversation.

    Args:
        dialect: dialect of the conversation.
        conversation: chat messages, with or without operations in the system message.
        reasoning_field: field for the reasoning of earlier turns; if empty, reasoning is part of the content.
        tools: definitions of the enabled operations; by default the default operations in the system message.
        pictures_in_tool: whether `tool` messages contain pictures; otherwise a user message follows with them.
    """
    opening, definitions = conversation[:1], list(tools)
    is_system = conversation[0]["role"] == "system"
    if is_system and not definitions:
        definitions = _listed_tools(dialect, join_text(conversation[0]))
    if is_system and definitions:
        system = dialect.native_system
        opening = [{"role": "system", "content": system}] if system else []
    messages = as_text_messages(dialect, [*opening, *conversation[1:]])
    native = as_native_messages(
        messages, dialect.syntax, reasoning_field, dialect.typed, pictures_in_tool=pictures_in_tool
    )
    return native, definitions


def as_text_messages(
    dialect: Dialect, conversation: Messages, reasoning_field: str = ""
) -> Messages:
    r"""Return messages in which turns are texts and results are user messages, as in most dialects.

    Args:
        dialect: dialect of the conversation.
        conversation: in the roles and keys of its chat template.
        reasoning_field: field for the reasoning of earlier turns; if empty, reasoning is part of the content.

    >>> from pixel_reasoner.dialects import get_dialect
    >>> turn = {"role": "assistant", "content": [], "reasoning_content": "Small."}
    >>> as_text_messages(get_dialect("qwen3_8"), [turn])[0]["content"]
    [{'type': 'text', 'text': '<think>\nSmall.\n</think>\n\n'}]
    """
    messages: Messages = []
    for message in conversation:
        if message["role"] == "tool":
            message = {"role": "user", "content": message["content"]}
        if message["role"] == "user" and messages and messages[-1]["role"] == "user":
            parts = [*messages[-1]["content"], {"type": "text", "text": "\n"}, *message["content"]]
            messages[-1] = {"role": "user", "content": parts}
            continue
        messages.append(_as_text_turn(dialect, message, reasoning_field))
    return messages


def _as_text_turn(
    dialect: Dialect, message: dict[str, Any], reasoning_field: str
) -> dict[str, Any]:
    """Return a turn whose calls, and its thought if the server has no field for it, are in its text."""
    field = dialect.carriage.reasoning_field
    calls = [
        WrittenCall(one["function"]["name"], one["function"]["arguments"])
        for one in message.get("tool_calls", ())
    ]
    thought = message.get(field, "") if field else ""
    if not calls and not thought:
        return message
    text = join_text(message) + (dialect.encode(*calls) if calls else "")
    if thought and not reasoning_field:
        text = f"{THINK_OPEN}{thought}{THINK_CLOSE}{text}"
    turn = {"role": "assistant", "content": [{"type": "text", "text": text}] if text else []}
    return turn | ({reasoning_field: thought} if thought and reasoning_field else {})


def _listed_tools(dialect: Dialect, system: str) -> list[dict[str, Any]]:
    """Return the default operations in a system message."""
    if not system or system not in (dialect.system_with_operations, dialect.system_with_video):
        return []
    if (
        system == dialect.system_with_operations
    ):  # some families list the frame tool only for videos
        return dialect.tool_definitions(has_video=False)
    return list(dialect.tools)


def as_native_messages(
    conversation: Messages,
    syntax: CallSyntax = HERMES,
    reasoning_field: str = "",
    typed: Typed = lambda call: call,
    *,
    pictures_in_tool: bool = False,
) -> Messages:
    """Convert calls in text to `tool_calls`, and their results to `tool` messages.

    The user messages after a turn are the results of its calls, in order. If there are fewer messages than calls, the first
    message is the result of several calls.

    >>> text = 'I look. <tool_call>{"name": "zoom_in", "arguments": {"target_image": 1}}</tool_call>'
    >>> turns = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    >>> turns.append({"role": "user", "content": [{"type": "text", "text": "Image 2:"}]})
    >>> [(m["role"], m["content"]) for m in as_native_messages(turns)]
    [('assistant', 'I look. '), ('tool', 'Image 2:')]
    >>> as_native_messages(turns)[0]["tool_calls"][0]["function"]
    {'name': 'zoom_in', 'arguments': '{"target_image": 1}'}
    """
    messages: Messages = []
    number = 0
    while number < len(conversation):
        message = conversation[number]
        number += 1
        if message["role"] != "assistant":
            messages.append(message)
            continue
        native = _assistant_message(message, number - 1, syntax, reasoning_field, typed)
        messages.append(native)
        ids = [call["id"] for call in native.get("tool_calls", ())]
        results = _user_messages(conversation[number:], len(ids))
        messages += _result_messages(results, ids, pictures_in_tool=pictures_in_tool)
        number += len(results)
    return messages


def join_text(message: dict[str, Any]) -> str:
    """Return all text of a message."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def has_picture(message: dict[str, Any]) -> bool:
    """Return whether a message contains a picture."""
    content = message["content"]
    return not isinstance(content, str) and any(part["type"] == "image" for part in content)


def _assistant_message(
    message: dict[str, Any], number: int, syntax: CallSyntax, reasoning_field: str, typed: Typed
) -> dict[str, Any]:
    """Return a turn with separate fields for its calls and, if supported, its reasoning."""
    text = join_text(message)
    reasoning, rest = split_reasoning(text)
    words, calls = split_calls(rest, syntax, typed)
    fields: dict[str, Any] = {}
    if calls:
        fields["tool_calls"] = [
            _tool_call(call, f"call_{number}" if nth == 0 else f"call_{number}_{nth}")
            for nth, call in enumerate(calls)
        ]
    if reasoning and reasoning_field:
        return {"role": "assistant", "content": words, reasoning_field: reasoning, **fields}
    if not calls:
        return message
    return {"role": "assistant", "content": text[: len(text) - len(rest)] + words, **fields}


def _tool_call(call: NativeCall, id: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return {"id": id, "type": "function", "function": function}


def _user_messages(following: Messages, max_messages: int) -> Messages:
    """Return the user messages at the start, at most `max_messages`."""
    found: Messages = []
    for message in following[:max_messages]:
        if message["role"] != "user":
            break
        found.append(message)
    return found


def _result_messages(
    results: Sequence[dict[str, Any]], ids: Sequence[str], *, pictures_in_tool: bool
) -> Messages:
    """Return the results of the calls of one turn: `tool` messages with text, then a user message with pictures."""
    tools: Messages = []
    pictures: Messages = []
    num_first = len(ids) - len(results) + 1
    for nth, result in enumerate(results):
        answered = ids[:num_first] if nth == 0 else [ids[num_first + nth - 1]]
        words, parts = join_text(result).strip(), result["content"]
        if has_picture(result) and pictures_in_tool:
            tools += [{"role": "tool", "tool_call_id": id, "content": parts} for id in answered]
            continue
        if has_picture(result):
            words = words or _SEE_NEXT
            pictures.append(result)
        tools += [{"role": "tool", "tool_call_id": id, "content": words} for id in answered]
    return [*tools, *pictures]
