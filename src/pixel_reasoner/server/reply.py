"""Replies: the answer, the thoughts, the steps and the usage of a finished rollout."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.schema.trace import (
    Observation,
    Picture,
    StopReason,
    Text,
    Thought,
    ToolCall,
    Trace,
    Turn,
)
from pixel_reasoner.scoring.confidence import trace_confidence
from pixel_reasoner.server.settings import ReasoningField

SEPARATOR = "\n\n"
MAX_STEPS_BYTES = 24_000
"""size of the steps in a reply, so that they fit into one line of a stream"""
_MAX_STEP_CHARS = 1000
_LENGTH = frozenset(
    {
        StopReason.MAX_NEW_TOKENS,
        StopReason.MAX_TURNS,
        StopReason.MAX_CONTEXT,
        StopReason.MAX_PICTURES,
    }
)


class TurnTexts(NamedTuple):
    """Texts of a turn by their place in a reply."""

    reasoning: str
    content: str


class Usage(NamedTuple):
    """Numbers of tokens and operations of a rollout."""

    prompt_tokens: int = 0
    """tokens of the question, of results of operations and of instructions"""
    completion_tokens: int = 0
    picture_tokens: int = 0
    num_operations: int = 0
    cached_tokens: int = 0
    """prompt tokens whose keys and values were cached when the rollout began"""

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's usage object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "image_tokens": self.picture_tokens,
            },
            "pixel_reasoner": {"operations": self.num_operations},
        }


class Reply(NamedTuple):
    """Reply to a client."""

    content: str
    reasoning: str
    finish_reason: str
    trace: Trace


def build_reply(trace: Trace, stop: Sequence[str]) -> Reply:
    """Return the reply of a finished rollout."""
    settings = trace.settings
    texts = [
        turn_texts(turn, settings.dialect, has_operations=bool(settings.operations))
        for turn in trace.turns
    ]
    reasoning = SEPARATOR.join(one.reasoning for one in texts if one.reasoning)
    content = SEPARATOR.join(one.content for one in texts if one.content)
    content, is_stopped = cut_at_stop(content, stop)
    finish = "stop" if is_stopped or trace.stop not in _LENGTH else "length"
    return Reply(content, reasoning, finish, trace)


def turn_texts(turn: Turn, dialect: str, *, has_operations: bool = True) -> TurnTexts:
    """Return the texts of a turn. Text of a turn with calls is reasoning, if operations are enabled; other text is content.

    >>> turn_texts(Turn(text="It is red.", parts=(Text(text="It is red."),)), "compact")
    TurnTexts(reasoning='', content='It is red.')
    """
    parts = turn.parts
    if not parts and turn.text:  # a truncated turn
        parts = get_dialect(dialect).parse(turn.text).parts
    has_calls = bool(turn.observations) or any(isinstance(one, ToolCall) for one in parts)
    reasoning: list[str] = []
    content: list[str] = []
    results = {one.call: one for one in turn.observations}
    num_calls = 0
    for part in parts:
        if isinstance(part, ToolCall):
            reasoning.append(_call_line(part, results.get(num_calls)))
            num_calls += 1
        elif isinstance(part, Thought):
            reasoning.append(part.thought.strip())
        elif isinstance(part, Text):
            (reasoning if has_calls and has_operations else content).append(part.text.strip())
    if has_calls and not num_calls:
        reasoning += [f"[{one.text}]" for one in turn.observations]
    return TurnTexts(_joined(reasoning), _joined(content))


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text)


def _call_line(call: ToolCall, observation: Observation | None) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    if observation is None:
        return f"[{call.name} {arguments}]"
    numbers = ", ".join(str(picture.number) for picture in observation.pictures)
    result = f"picture {numbers}" if numbers else observation.text
    return f"[{call.name} {arguments}: {result}]"


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return a text up to the first stop string, and whether there was one.

    >>> cut_at_stop("a b END c", ["END", "b"])
    ('a ', True)
    """
    found = [at for at in (text.find(word) for word in stop) if at >= 0]
    return (text[: min(found)], True) if found else (text, False)


def with_reasoning(reply: Reply, field: ReasoningField) -> dict[str, Any]:
    """Return the fields of a message: content, and the thoughts where clients expect them."""
    content, reasoning = reply.content, reply.reasoning
    if not reasoning:
        return {"content": content}
    if field is ReasoningField.INLINE:
        return {"content": SEPARATOR.join(one for one in (reasoning, content) if one)}
    names = (
        [field.value] if field is not ReasoningField.BOTH else ["reasoning_content", "reasoning"]
    )
    return {"content": content} | dict.fromkeys(names, reasoning)


def count_usage(trace: Trace, budgets: PixelBudgets) -> Usage:
    """Return the usage of a rollout. Picture tokens are computed from the sizes of pictures in the prompt."""
    if trace.strategy is not None:
        cost = trace.strategy.usage
        return Usage(
            prompt_tokens=cost.prompt_tokens,
            completion_tokens=cost.new_tokens,
            picture_tokens=cost.visual_tokens,
            num_operations=len(trace.executed),
        )
    turns = trace.turns
    new = [turn.num_new_tokens or 0 for turn in turns]
    last = next((turn.num_prompt_tokens for turn in reversed(turns) if turn.num_prompt_tokens), 0)
    px = sum(math.prod(one.seen_px) for one in trace.all_pictures.values())
    num_prompt = max(0, last - sum(new[:-1]))
    return Usage(
        prompt_tokens=num_prompt,
        completion_tokens=sum(new),
        picture_tokens=px // budgets.multiple**2,
        num_operations=len(trace.executed),
        # Later turns always reuse the turns before them, which a client does not see.
        cached_tokens=min(turns[0].num_cached_tokens, num_prompt) if turns else 0,
    )


def extra_object(trace_id: str, trace: Trace, *, steps: bool) -> dict[str, Any]:
    """Return the object `pixel_reasoner` of a message: answer, steps and pictures.

    Steps beyond `MAX_STEPS_BYTES` are left out, and `truncated` is true.
    """
    extra: dict[str, Any] = {
        "trace_id": trace_id,
        "answer": trace.answer,
        "stop": trace.stop.value,
        "num_operations": len(trace.executed),
    }
    if trace.strategy is not None:
        extra["strategy"] = trace.strategy.name
        extra["num_rollouts"] = trace.strategy.usage.num_rollouts
        confidence = trace_confidence(trace)
        extra["confidence"] = None if confidence is None else round(confidence, 4)
    if not steps:
        return extra
    listed = [
        *({"picture": _picture(one)} for one in trace.pictures),
        *({"step": _step(one.model_dump(mode="json"), one.observation)} for one in trace.steps),
    ]
    size, kept = 0, []
    for one in listed:
        size += len(json.dumps(one, ensure_ascii=False).encode("utf-8", "replace"))
        if size > MAX_STEPS_BYTES:
            extra["truncated"] = True
            break
        kept.append(one)
    extra["pictures"] = [one["picture"] for one in kept if "picture" in one]
    extra["steps"] = [one["step"] for one in kept if "step" in one]
    return extra


def _step(fields: dict[str, Any], observation: Observation | None) -> dict[str, Any]:
    step = {"turn": fields["turn"]}
    step |= {name: fields[name][:_MAX_STEP_CHARS] for name in ("thought", "text") if fields[name]}
    if fields["call"] is not None:
        step["call"] = fields["call"]
    if observation is not None:
        step["result"] = {
            "text": observation.text[:_MAX_STEP_CHARS],
            "error": fields["observation"]["error"],
            "pictures": [_picture(one) for one in observation.pictures],
        }
    return step


def _picture(picture: Picture) -> dict[str, Any]:
    fields = {
        "number": picture.number,
        "parent": picture.parent,
        "box": [round(float(side), 6) for side in picture.box],
        "source_px": list(picture.source_px),
        "seen_px": list(picture.seen_px),
        "time_s": picture.time_s,
    }
    return {name: value for name, value in fields.items() if value is not None}
