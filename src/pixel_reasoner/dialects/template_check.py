"""Check that a chat template supports conversations with operations, before the first question.

Some templates omit the system message, or pictures after the first message. The prompt would then lack the tool
definitions or the results of operations. Others delete or repeat the thoughts of earlier turns: then the tokens of a turn
are not those that the model generated, and training would use other tokens than inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image

from pixel_reasoner.dialects.base import Dialect, Message
from pixel_reasoner.dialects.carriage import Carriage
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
    "tool": "results of operations",
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
        for part, changed in _variants(messages, dialect.carriage):
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


def thought_problem(render: Render, dialect: Dialect) -> str | None:
    """Return how a template changes the thoughts of earlier turns of a rollout; None if it keeps them.

    >>> from pixel_reasoner.dialects import get_dialect
    >>> dialect = get_dialect("qwen3_vl")
    >>> thought_problem(str, dialect) is None
    True
    >>> thought_problem(lambda messages: str(messages).replace("<think>I look", "<think>"), dialect)
    'deletes the thoughts of earlier turns'
    >>> thought_problem(lambda messages: str(messages).replace("<think>", "<think></think><think>"), dialect)
    'adds a thought to a turn, or repeats one'
    """
    if not dialect.separates_thoughts:
        return None
    tags = dialect.thought_tags
    words = [f"I look {number}." for number in ("once", "again")]
    messages = _conversation(dialect, words)
    try:
        rendered = str(render(messages))
    except Exception:  # noqa: BLE001 - `assert_template_supports` reports it
        return None
    others = [one for one in messages if one["role"] != "assistant"]
    told = "".join(part.get("text", "") for one in others for part in one["content"])
    count = rendered.count(tags.close) - told.count(tags.close)
    if any(one not in rendered for one in words) or count < len(words):
        return "deletes the thoughts of earlier turns"
    if any(rendered.count(one) > 1 for one in words) or count > len(words):
        return "adds a thought to a turn, or repeats one"
    return None


def assert_template_keeps_thoughts(render: Render, dialect: Dialect, name: str) -> None:
    """Check that the tokens of earlier turns are those that the model generated, before training.

    Raises:
        ModelError: the template deletes or repeats thoughts.
    """
    problem = thought_problem(render, dialect)
    if problem is not None:
        raise ModelError(
            expected="a chat template that keeps the thoughts of earlier turns, for training",
            got=f"{name}, whose template {problem}",
            fix="use the dialect of the family, whose results are in the form that its template keeps, or correct the "
            "template in the folder",
        )


def carried_parts(render: Render, dialect: Dialect) -> dict[str, bool]:
    """Return for each part of a conversation with a call whether the rendered prompt depends on it.

    Raises:
        Exception: of the template, if it rejects the conversation.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> all(carried_parts(str, COMPACT).values())
    True
    """
    messages = _conversation(dialect)
    whole = render(messages)
    carried: dict[str, bool] = {}
    for part, changed in _variants(messages, dialect.carriage):
        carried[part] = carried.get(part, True) and render(changed) != whole
    return carried


def example_conversation(dialect: Dialect) -> list[Message]:
    """Return the messages of a question with a call and its result, with blank pictures."""
    return _conversation(dialect)


def _conversation(dialect: Dialect, words: Sequence[str] = ("",)) -> list[Message]:
    """Return a conversation with a call and its result for each of these words.

    Args:
        dialect: of the conversation.
        words: thoughts of the turns; empty for words without a thought.
    """
    size = dialect.budgets.multiple, dialect.budgets.multiple
    pictures = [Picture(number=1, medium=0, source_px=size, seen_px=size)]
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.0, 0.0, 0.5, 0.5]})
    tags = dialect.thought_tags
    turns = []
    for thought in words:
        text = dialect.write_turn(thought or "I look closer.", call, pictures[:1])
        if thought and tags.close not in dialect.thought_template:
            call_text = dialect.write_call(call, pictures[:1])
            text = f"{tags.wrap(thought)}{dialect.separators[0]}{call_text}"
        result = pictures[0].model_copy(update={"number": len(pictures) + 1, "parent": 1})
        pictures.append(result)
        turns.append(Turn(text=text, observations=(Observation(text="", pictures=(result,)),)))
    return dialect.messages(
        Question(id="", text="What is it?", media=()),
        pictures[:1],
        turns,
        lambda number: Image.new("RGB", size),
    )


def _variants(messages: list[Message], carriage: Carriage) -> Iterator[tuple[str, list[Message]]]:
    """Yield the description of each part, and the conversation without that picture or with another text."""
    for index, message in enumerate(messages):
        follows_turn = any(one["role"] == "assistant" for one in messages[:index])
        changes = list(_changed_messages(message, follows_turn=follows_turn))
        if carriage.words_in_reasoning and carriage.reasoning_field in message:
            other = {**message, carriage.reasoning_field: _OTHER["text"]}
            changes.append((_ROLES["assistant"], other))
        for description, changed in changes:
            yield description, [*messages[:index], changed, *messages[index + 1 :]]


def _changed_messages(message: Message, *, follows_turn: bool) -> Iterator[tuple[str, Message]]:
    """Yield a message with one part changed, and the description of that part."""
    parts, role = message["content"], _ROLES[message["role"]]
    for at, part in enumerate(parts):
        is_image = part["type"] == "image"
        other = [] if is_image and len(parts) > 1 else [_OTHER]
        where = "operation results" if follows_turn else "the question"
        description = f"pictures of {where}" if is_image else role
        yield description, {**message, "content": [*parts[:at], *other, *parts[at + 1 :]]}
    if "tool_calls" in message:
        (call, *others) = message["tool_calls"]
        function = {**call["function"], "arguments": {"label": _OTHER["text"]}}
        yield role, {**message, "tool_calls": [{**call, "function": function}, *others]}
