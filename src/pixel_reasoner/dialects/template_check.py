"""Check that a chat template supports conversations with operations, before the first question.

Some templates omit the system message, or pictures after the first message. The prompt would then lack the tool
definitions or the results of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from pixel_reasoner.dialects.base import Dialect, Message
from pixel_reasoner.errors import ModelError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Observation, Picture, ToolCall, Turn

Render = Callable[[list[Message]], Any]
"""messages -> text"""

_OTHER = {"type": "text", "text": "other words"}
_ROLES = {
    "system": "the system message with the operations",
    "assistant": "assistant messages",
    "user": "user messages",
}


def assert_template_supports(render: Render, dialect: Dialect, name: str) -> None:
    """Check that the rendered prompt depends on every part of a conversation with a call.

    Raises:
        ModelError: the template rejects the conversation, or its output does not depend on a part.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> assert_template_supports(str, COMPACT, "a model")
    >>> incomplete = lambda messages: str([m for m in messages if m["role"] != "system"])
    >>> assert_template_supports(incomplete, COMPACT, "a model")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.ModelError: expected a chat template that supports a conversation with operations; got a model, whose template leaves out the system message with the operations. Fix: ask with --no-operations, or correct the template in the folder
    """
    messages = _conversation(dialect)
    why = None
    try:
        whole = render(messages)
        for part, changed in _variants(messages):
            if render(changed) == whole:
                why = f"leaves out {part}"
                break
    except Exception as error:  # noqa: BLE001 - a template may raise any exception
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = f"rejects it: {lines[0][:200]}"
    if why is not None:
        raise ModelError(
            expected="a chat template that supports a conversation with operations",
            got=f"{name}, whose template {why}",
            fix="ask with --no-operations, or correct the template in the folder",
        )


def _conversation(dialect: Dialect) -> list[Message]:
    size = dialect.budgets.multiple, dialect.budgets.multiple
    first = Picture(number=1, medium=0, source_px=size, seen_px=size)
    crop = first.model_copy(update={"number": 2, "parent": 1})
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.0, 0.0, 0.5, 0.5]})
    text = dialect.write_turn("I look closer.", call, [first])
    result = Observation(text="", pictures=(crop,))
    return dialect.messages(
        Question(id="", text="What is it?", media=()),
        [first],
        [Turn(text=text, observations=(result,))],
        lambda number: Image.new("RGB", size),
    )


def _variants(messages: list[Message]) -> Iterator[tuple[str, list[Message]]]:
    """Yield the description of each part, and the conversation without that picture or with another text."""
    for index, message in enumerate(messages):
        parts = message["content"]
        for at, part in enumerate(parts):
            other = [] if part["type"] == "image" and len(parts) > 1 else [_OTHER]
            changed = {**message, "content": [*parts[:at], *other, *parts[at + 1 :]]}
            description = _description(message, part, index)
            yield description, [*messages[:index], changed, *messages[index + 1 :]]


def _description(message: Message, part: Message, index: int) -> str:
    if part["type"] == "image":
        return f"pictures of {'operation results' if index > 2 else 'the question'}"
    return _ROLES[message["role"]]
