"""Conversations with operations as `tools` and calls as `tool_calls`.

Results of calls are a `tool` message of words and a user message with the pictures: many servers drop pictures from `tool`
messages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.hermes import TOOL_CALL
from pixel_reasoner.dialects.syntax import Calls
from pixel_reasoner.models.api import Messages
from pixel_reasoner.models.openai_reply import split_reasoning

_SEE_NEXT = "See the next message."


class NativeCall(NamedTuple):
    """Call of an operation by the name that the model uses."""

    name: Any
    arguments: Any


def split_calls(text: str, syntax: Calls = TOOL_CALL) -> tuple[str, list[NativeCall]]:
    """Return the words before the calls of a turn, and its calls.

    The only function here that depends on the call syntax of a dialect.

    Returns:
        The whole text and no calls, if one of the calls cannot be read.

    >>> split_calls('I look. <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>')
    ('I look. ', [NativeCall(name='f', arguments={'a': 1})])
    """
    words, _, rest = text.partition(syntax.open)
    calls = []
    for piece in rest.split(syntax.open) if words != text else ():
        try:
            call = json.loads(piece.partition(syntax.close)[0])
            calls.append(NativeCall(call["name"], call.get("arguments", {})))
        except (ValueError, TypeError, KeyError, AttributeError):
            return text, []
    return words, calls


def native_request(
    dialect: Dialect, conversation: Messages, reasoning_field: str = ""
) -> tuple[Messages, list[dict[str, Any]]]:
    """Return messages with `tool_calls`, and the tool definitions that the system message of the dialect contains.

    Args:
        dialect: it wrote the conversation.
        conversation: its system message lists operations, or not.
        reasoning_field: field for the reasoning of earlier turns; empty: it stays in the content.
    """
    opening, tools = conversation[:1], list[dict[str, Any]]()
    system = text_of(conversation[0])
    offers = {dialect.system_with, dialect.system_video} - {""}
    if conversation[0]["role"] == "system" and system in offers:
        tools = list(dialect.tools)
        if dialect.system_video and system == dialect.system_with:
            # This dialect offers frames for videos only.
            frames = {own for own, ours in dialect.names.items() if ours == "select_frames"}
            frames.add("select_frames")
            tools = [tool for tool in tools if tool["function"]["name"] not in frames]
        opening = [{"role": "system", "content": dialect.system_native}]
        opening = opening if dialect.system_native else []
    messages = [*opening, *conversation[1:]]
    return as_native_messages(messages, dialect.calls, reasoning_field), tools


def as_native_messages(
    conversation: Messages, syntax: Calls = TOOL_CALL, reasoning_field: str = ""
) -> Messages:
    """Return a conversation of texts as messages with `tool_calls`, and their results as `tool` messages.

    The user messages after a turn are the results of its calls, in order. If there are fewer messages than calls, the first
    one is the result of several calls.

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
        native = _assistant_message(message, number - 1, syntax, reasoning_field)
        messages.append(native)
        ids = [call["id"] for call in native.get("tool_calls", ())]
        results = _user_messages(conversation[number:], len(ids))
        messages += _result_messages(results, ids)
        number += len(results)
    return messages


def text_of(message: dict[str, Any]) -> str:
    """Return all text of a message."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _assistant_message(
    message: dict[str, Any], number: int, syntax: Calls, reasoning_field: str
) -> dict[str, Any]:
    """Return a turn with its calls, and its reasoning if there is a field for it, in fields of their own."""
    text = text_of(message)
    reasoning, rest = split_reasoning(text)
    words, calls = split_calls(rest, syntax)
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
    """Return the user messages that come next, at most so many."""
    found: Messages = []
    for message in following[:max_messages]:
        if message["role"] != "user":
            break
        found.append(message)
    return found


def _result_messages(results: Sequence[dict[str, Any]], ids: Sequence[str]) -> Messages:
    """Return the results of the calls of one turn: words by the tools, then pictures by the user."""
    tools: Messages = []
    pictures: Messages = []
    num_first = len(ids) - len(results) + 1
    for nth, result in enumerate(results):
        answered = ids[:num_first] if nth == 0 else [ids[num_first + nth - 1]]
        words, parts = text_of(result).strip(), result["content"]
        if not isinstance(parts, str) and any(part["type"] == "image" for part in parts):
            words = words or _SEE_NEXT
            pictures.append(result)
        tools += [{"role": "tool", "tool_call_id": id, "content": words} for id in answered]
    return [*tools, *pictures]
