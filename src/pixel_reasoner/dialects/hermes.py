r"""Calls as JSON between `<tool_call>` tags, answers in `\boxed{}`: the form most open models were taught.

A dialect says how a model family is offered the operations, how it calls them and how it is answered. It turns
a rollout into chat messages and a generated text into a call, an answer or a complaint. Conversion from the
family's own names and coordinates happens here, once, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pixel_reasoner.answers import boxed
from pixel_reasoner.budget import Budgets
from pixel_reasoner.trace import (
    Box,
    BoxError,
    Observation,
    OpCall,
    Picture,
    Question,
    Refusal,
    Turn,
)

Message = dict[str, Any]
"""{"role": ..., "content": [{"type": "text", "text": ...} | {"type": "image", "image": ...}, ...]}"""

OPEN, CLOSE = "<tool_call>", "</tool_call>"

MAX_BRACKETS = 50
"""A call has three or four. JSON that nests deeply cannot be written to a record, or not read back."""


class Malformed(NamedTuple):
    """A text that tries to call an operation and fails."""

    refusal: Refusal
    text: str


class Answer(NamedTuple):
    r"""The content of the last balanced `\boxed{}`."""

    text: str


Parsed = OpCall | Malformed | Answer | None
"""None: neither a call nor an answer."""


@dataclass(frozen=True, kw_only=True)
class HermesDialect:
    """One way of talking. The texts are fields, the grammar is shared."""

    name: str
    budgets: Budgets
    """what a model sees by default; a model folder may say otherwise"""
    system_with: str
    """system message when operations are offered"""
    system_without: str
    """system message of a run without operations; empty for none"""
    suffix_with: str = ""
    """what follows the question when operations are offered"""
    suffix_without: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """the family's own operation names -> ours, where they differ; the first of several is written"""
    padding: float = 0.0
    """share of the picture that is added on every side of a box"""
    label: Callable[[Picture], str]
    """the words in front of a picture of the question"""
    reply: Callable[[Sequence[Picture]], list[str]]
    """the words in front of each picture that an operation returned"""
    complaint: str = "{why}"
    """the words around the reason of a refusal"""

    @property
    def fingerprint(self) -> str:
        """A hash of all that it says to a model: two runs in one dialect were told the same only if this is the same.

        >>> from pixel_reasoner.dialects import COMPACT, PIXEL_REASONER
        >>> COMPACT.fingerprint == COMPACT.fingerprint != PIXEL_REASONER.fingerprint
        True
        """
        image = Picture(number=2, medium=0, source_px=(640, 480), seen_px=(320, 256))
        frame = image.model_copy(update={"number": 3, "frame": 1, "time_s": 0.5})
        said = [self.name, self.system_with, self.system_without]
        said += [self.suffix_with, self.suffix_without, str(self.padding), self.complaint]
        said += [*self.names, self.label(image), self.label(frame)]
        said += [*self.reply([image]), *self.reply([frame, frame])]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def messages(
        self,
        question: Question,
        pictures: Sequence[Picture],
        turns: Sequence[Turn],
        view: Callable[[int], Any],
        *,
        operations: bool = True,
    ) -> list[Message]:
        """The conversation so far, ready for a chat template.

        Args:
            question: what was asked.
            pictures: what is shown first.
            turns: what happened since.
            view: picture number -> what goes into the message, usually the pixels.
            operations: whether operations are offered.
        """
        system = self.system_with if operations else self.system_without
        suffix = self.suffix_with if operations else self.suffix_without
        messages = [_message("system", [_text(system)])] if system else []
        opening = [part for p in pictures for part in (_text(self.label(p)), _image(view, p))]
        messages.append(_message("user", [*opening, _text(question.text + suffix)]))
        for turn in turns:
            messages.append(_message("assistant", [_text(turn.text)]))
            if turn.observation is not None:
                messages.append(_message("user", self._answer(turn.observation, view)))
        return messages

    def _answer(self, seen: Observation, view: Callable[[int], Any]) -> list[Message]:
        if seen.refusal is not None:
            return [_text(self.complaint.format(why=seen.text))]
        words = self.reply(seen.pictures)
        return [
            part
            for word, picture in zip(words, seen.pictures, strict=True)
            for part in (_text(word), _image(view, picture))
        ]

    def parse(self, text: str) -> Parsed:
        """What a generated turn says: a call, a call that fails, an answer, or None.

        A call counts when it is the last thing in the turn: what a model writes after one, it made up.
        """
        if OPEN not in text:
            answer = boxed(text)
            return None if answer is None else Answer(answer)
        calls = text.count(OPEN)
        if calls > 1:
            return Malformed(
                Refusal.SEVERAL_CALLS,
                f"{calls} calls in one turn; call one operation at a time and wait for its result",
            )
        body, close, rest = text.partition(OPEN)[2].partition(CLOSE)
        if not close or rest.strip():
            return Malformed(
                Refusal.MALFORMED_CALL,
                f"a call must end the turn with {CLOSE}; write {OPEN}, one JSON object, {CLOSE}",
            )
        return self._parse_call(body)

    def _parse_call(self, body: str) -> OpCall | Malformed:
        shape = '{"name": ..., "arguments": {...}}'
        try:
            value = _load(body)
        except ValueError as error:
            return Malformed(
                Refusal.MALFORMED_CALL, f"the call is not valid JSON ({error}); write {shape}"
            )
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return Malformed(Refusal.MALFORMED_CALL, f"the call has no name; write {shape}")
        arguments = value.get("arguments", {})
        if not isinstance(arguments, dict):
            return Malformed(Refusal.MALFORMED_CALL, f"arguments is not an object; write {shape}")
        if self.padding and "bbox_2d" in arguments:
            arguments = {**arguments, "bbox_2d": _padded(arguments["bbox_2d"], self.padding)}
        name = value["name"]
        return OpCall(name=self.names.get(name, name), arguments=arguments)

    def write_call(self, call: OpCall) -> str:
        """A call as this family writes it; boxes with two decimals. The inverse of `parse`, padding aside."""
        own = (theirs for theirs, ours in self.names.items() if ours == call.name)
        value = {"name": next(own, call.name), "arguments": call.arguments}
        # json has no number format: write floats with two decimals after the fact.
        line = re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.2f}", json.dumps(value))
        return f"{OPEN}\n{line}\n{CLOSE}"


def _load(body: str) -> Any:
    """The JSON value of a call.

    Raises:
        ValueError: not JSON, or JSON that no record can hold.
    """
    if body.count("[") + body.count("{") > MAX_BRACKETS:
        raise ValueError("too many brackets")
    value = json.loads(body)
    # Half a surrogate pair is legal in JSON and in no file.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _padded(numbers: Any, padding: float) -> Any:
    """A valid box grown on every side, clamped to the picture; anything else unchanged, to be refused later."""
    try:
        box = Box.of(numbers)
    except (BoxError, TypeError, OverflowError):  # an integer may be too long for a float
        return numbers
    low = [max(0.0, value - padding) for value in box[:2]]
    return low + [min(1.0, value + padding) for value in box[2:]]


def _message(role: str, parts: list[Message]) -> Message:
    return {"role": role, "content": [part for part in parts if part.get("text") != ""]}


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _image(view: Callable[[int], Any], picture: Picture) -> Message:
    return {"type": "image", "image": view(picture.number)}
