r"""A dialect: how a model family is offered the operations, how it calls them and how it is answered.

It turns a rollout into chat messages and a generated text into a call, an answer or a complaint. Conversion from the
family's own names and coordinates happens here, once, and nowhere else. The texts are fields, the grammar is shared: a new
dialect is a declaration in a file of its own, and `conformance.assert_valid_dialect` is its test.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pixel_reasoner.dialects.boxes import FRACTIONS, BoxCoordinates
from pixel_reasoner.dialects.detect import NO_MATCH, ModelMatch
from pixel_reasoner.dialects.hermes import TOOL_CALL
from pixel_reasoner.dialects.picture_names import FROM_1, PictureNames
from pixel_reasoner.dialects.syntax import BOXED, Answers, Calls, load
from pixel_reasoner.schema.geometry import Box, BoxError, Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, ToolCall, Turn

Message = dict[str, Any]
"""{"role": ..., "content": [{"type": "text", "text": ...} | {"type": "image", "image": ...}, ...]}"""


class RejectedCall(NamedTuple):
    """A text that tries to call an operation and fails."""

    error: CallErrorKind
    text: str
    call: ToolCall | None = None
    """what it calls, where that can be read"""


class Answer(NamedTuple):
    """What the dialect's last form of an answer holds."""

    text: str


Parsed = ToolCall | RejectedCall | Answer | None
"""None: neither a call nor an answer."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One way of talking."""

    name: str
    models: str = ""
    """whom it is for, in words"""
    speakers: ModelMatch = NO_MATCH
    """which models are known to speak it"""
    budgets: PixelBudgets
    """what a model sees by default; a model folder may say otherwise"""

    # what it says
    system_with: str
    """system message when operations are offered"""
    system_without: str
    """system message of a run without operations; empty for none"""
    system_video: str = ""
    """system message when operations are offered for a video, where that is another one"""
    prefix: str = ""
    """what stands before the question, behind its pictures"""
    suffix_with: str = ""
    """what follows the question when operations are offered"""
    suffix_without: str = ""
    label: Callable[[Picture], str] = lambda picture: ""
    """the words in front of a picture of the question"""
    reply: Callable[[Sequence[Picture], int], list[str]]
    """(new pictures, how many the question came with) -> the words in front of each new picture"""
    after: str = ""
    """the words behind the last of them"""
    complaint: str = "{why}"
    """the words around the reason of a refusal"""

    # the same for servers that list the tools themselves
    tools: Sequence[dict[str, Any]] = ()
    """function schemas; none where the family has no native protocol"""
    system_native: str = ""
    """system message without the listing; empty for none"""

    # how it calls and answers
    calls: Calls = TOOL_CALL
    answers: Answers = BOXED
    thought: str = "{words}"
    """how words before a call or an answer are written"""
    thinks: bool = False
    """whether what stands before the first `</think>` is neither call nor answer"""
    grid: BoxCoordinates = FRACTIONS
    padding: float = 0.0
    """share of the picture that is added on every side of a box"""
    numbering: PictureNames = FROM_1
    names: Mapping[str, str] = field(default_factory=dict)
    """the family's own operation names -> ours, where they differ; the first of several is written"""
    arguments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """our operation -> {the family's own argument: ours; empty for one that is written and not read}, where they differ"""

    @property
    def names_pictures(self) -> bool:
        """Whether a call can name another picture than the first."""
        own = self.arguments.get("zoom_in")
        return own is None or "target_image" in own.values()

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
        said += [*self.reply([image], 1), *self.reply([frame, frame], 1)]
        # Only what differs from most dialects is told: a field that is new here leaves the others' hashes alone.
        usual = Dialect(
            name="", budgets=self.budgets, system_with="", system_without="", reply=self.reply
        )
        said += [
            one for one, other in zip(self._manners, usual._manners, strict=True) if one != other
        ]
        return _hash(said)

    @property
    def _manners(self) -> list[str]:
        return [
            f"video: {self.system_video}",
            f"prefix: {self.prefix}",
            f"after: {self.after}",
            f"calls: {self.calls.open} {self.calls.shape} {self.calls.close}",
            f"answers: {self.answers.write('x')}",
            f"thought: {self.thought}",
            f"grid: {self.grid.words}, clamps: {self.grid.clamps}",
            f"pictures: {self.numbering.name(1, 1)} {self.numbering.name(2, 1)}",
            f"arguments: {json.dumps(dict(self.arguments))}",
        ]

    @property
    def native_fingerprint(self) -> str:
        """A hash of what it says besides, where a server lists the tools itself."""
        return _hash([self.system_native, *(json.dumps(tool) for tool in self.tools)])

    # --- what a model is told ---

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
        system = self._offer(question) if operations else self.system_without
        suffix = self.suffix_with if operations else self.suffix_without
        messages = [_message("system", [_text(system)])] if system else []
        opening = [part for p in pictures for part in (_text(self.label(p)), _image(view, p))]
        messages.append(_message("user", [*opening, _text(self.prefix + question.text + suffix)]))
        for turn in turns:
            messages.append(_message("assistant", [_text(turn.text)]))
            if turn.observation is not None:
                parts = self._answer(turn.observation, len(pictures), view)
                messages.append(_message("user", parts))
        return messages

    def _offer(self, question: Question) -> str:
        """A model that was taught to zoom hears of frames only where there are some."""
        video = any(medium.kind != "image" for medium in question.media)
        return self.system_video if video and self.system_video else self.system_with

    def _answer(self, seen: Observation, shown: int, view: Callable[[int], Any]) -> list[Message]:
        if seen.error is not None:
            return [_text(self.complaint.format(why=self._in_own_words(seen.text)))]
        words = self.reply(seen.pictures, shown)
        parts = [
            part
            for word, picture in zip(words, seen.pictures, strict=True)
            for part in (_text(word), _image(view, picture))
        ]
        return [*parts, _text(self.after)]

    def _in_own_words(self, why: str) -> str:
        """Our names of operations and arguments as the family knows them."""
        if not self.arguments:
            return why
        own = {ours: theirs for theirs, ours in reversed(list(self.names.items()))}
        for named in self.arguments.values():
            own |= {ours: theirs for theirs, ours in named.items() if ours}
        return re.sub(r"\w+", lambda word: own.get(word[0], word[0]), why)

    # --- what a model says ---

    def parse(self, text: str, pictures: Sequence[Picture] = ()) -> Parsed:
        """What a generated turn says: a call, a call that fails, an answer, or None.

        A call counts when it is the last thing in the turn: what a model writes after one, it made up.

        Args:
            text: the whole turn.
            pictures: all that the model has seen. Without them it is told whether this is a call, and a box stays in numbers
                that only a picture would explain.
        """
        _, end, rest = text.partition("</think>")
        said = rest if self.thinks and end else text
        tags = self.calls
        if tags.open not in said:
            answer = self.answers.find(said)
            return None if answer is None else Answer(answer)
        count = said.count(tags.open)
        if count > 1:
            return RejectedCall(
                CallErrorKind.SEVERAL_CALLS,
                f"{count} calls in one turn; call one operation at a time and wait for its result",
            )
        body, close, more = said.partition(tags.open)[2].partition(tags.close)
        if not close or more.strip():
            return RejectedCall(
                CallErrorKind.MALFORMED_CALL,
                f"a call must end the turn with {tags.close}; write {tags.open}, one JSON object, {tags.close}",
            )
        return self._parse_call(body, pictures)

    def _parse_call(self, body: str, pictures: Sequence[Picture]) -> ToolCall | RejectedCall:
        shape = self.calls.shape
        try:
            value = load(body)
        except ValueError as error:
            return RejectedCall(
                CallErrorKind.MALFORMED_CALL, f"the call is not valid JSON ({error}); write {shape}"
            )
        if not self.calls.named:
            if not isinstance(value, dict):
                return RejectedCall(
                    CallErrorKind.MALFORMED_CALL, f"the call is not an object; write {shape}"
                )
            return self._ours(self._meant(value), value, pictures)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return RejectedCall(
                CallErrorKind.MALFORMED_CALL, f"the call has no name; write {shape}"
            )
        arguments = value.get("arguments", {})
        if not isinstance(arguments, dict):
            return RejectedCall(
                CallErrorKind.MALFORMED_CALL, f"arguments is not an object; write {shape}"
            )
        name = value["name"]
        return self._ours(self.names.get(name, name), arguments, pictures)

    def _meant(self, value: dict[str, Any]) -> str:
        """The operation that arguments without a name are for: the first that shares one with them, or the first of all."""
        operations = list(self.arguments)
        fitting = [name for name in operations if any(key in value for key in self.arguments[name])]
        return (fitting or operations)[0]

    def _ours(
        self, operation: str, arguments: dict[str, Any], pictures: Sequence[Picture]
    ) -> ToolCall | RejectedCall:
        """A call in our names and coordinates, or, in the family's own, what is wrong with it."""
        own = self.arguments.get(operation)
        if own is not None:
            unknown = next((name for name in arguments if name not in own), None)
            if unknown is not None:
                why = f"there is no argument {unknown[:40]!r}; use {', '.join(own)}"
                call = ToolCall(name=operation, arguments=arguments)
                return RejectedCall(CallErrorKind.BAD_ARGUMENTS, why, call)
            arguments = {own[name]: value for name, value in arguments.items() if own[name]}
        shown = _num_shown(pictures)
        wrong: tuple[CallErrorKind, str] | None = None
        if "target_image" in arguments:
            named = arguments["target_image"]
            number = self.numbering.number(named, shown)
            arguments = {**arguments, "target_image": number}
            wrong = self._no_such_picture(named, number, pictures)
        if "bbox_2d" in arguments:
            seen_px = _seen_px(arguments.get("target_image", 1), pictures)
            numbers = arguments["bbox_2d"]
            if wrong is None and seen_px and self.grid != FRACTIONS:
                no_box = self.grid.why_not(numbers, seen_px)
                wrong = (CallErrorKind.BAD_BOX, no_box) if no_box else None
            numbers = self.grid.read(numbers, seen_px)
            if self.padding:
                numbers = _padded(numbers, self.padding)
            arguments = {**arguments, "bbox_2d": numbers}
        call = ToolCall(name=operation, arguments=arguments)
        return RejectedCall(*wrong, call) if wrong else call

    def _no_such_picture(
        self, named: Any, number: Any, pictures: Sequence[Picture]
    ) -> tuple[CallErrorKind, str] | None:
        """What an operation would say of a number it does not know, in the family's own names of pictures."""
        if not pictures or self.numbering == FROM_1 or _seen_px(number, pictures):
            return None
        if isinstance(number, bool) or not isinstance(number, int | float) or number % 1:
            return None  # no integer: what is expected is said by the operation
        told = self.numbering.told(len(pictures), _num_shown(pictures))
        return CallErrorKind.NO_SUCH_PICTURE, f"there is no picture {named!s:.40}; {told}"

    # --- what an expert says for it ---

    def write_call(self, call: ToolCall, pictures: Sequence[Picture] = (), about: str = "") -> str:
        """A call as this family writes it. The inverse of `parse`, padding aside.

        Args:
            call: in our names and coordinates.
            pictures: all that the model has seen; needed where numbers are pixels, or names of pictures are words.
            about: what it is to show, for a family that says so.
        """
        number = call.arguments.get("target_image", 1)
        assert self.names_pictures or number == 1, f"{self.name}: a call names no picture"
        values = dict(call.arguments)
        if "bbox_2d" in values:
            # A mistake that names no picture has numbers nevertheless: those it would have in the first one.
            seen_px = _seen_px(number, pictures) or _seen_px(1, pictures)
            assert seen_px or self.grid.per_side, f"{self.name}: pixels of an unknown picture"
            values["bbox_2d"] = self.grid.write(values["bbox_2d"], seen_px)
        own = self.arguments.get(call.name)
        if own is not None:
            values["target_image"] = self.numbering.name(number, _num_shown(pictures))
            values = {
                theirs: values[ours] if ours else about or "the region"
                for theirs, ours in own.items()
                if not ours or ours in values
            }
        name = next((theirs for theirs, ours in self.names.items() if ours == call.name), call.name)
        return self.calls.write(name, values, self.grid.decimals)

    def write_turn(
        self,
        words: str,
        call: ToolCall | None = None,
        pictures: Sequence[Picture] = (),
        *,
        about: str = "",
        answer: str | None = None,
    ) -> str:
        r"""A whole turn: words, and a call or an answer.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.write_turn("It is red.", answer="red")
        'It is red. \\boxed{red}'
        """
        thought = self.thought.format(words=words)
        if call is not None:
            return f"{thought}\n{self.write_call(call, pictures, about)}"
        return thought if answer is None else f"{thought} {self.answers.write(answer)}"

    def words_before_call(self, text: str) -> str:
        """What a turn that ends in a call says before it."""
        words, tag, _ = text.rpartition(self.calls.open)
        return words if tag else text


def _num_shown(pictures: Sequence[Picture]) -> int:
    """How many pictures the question came with."""
    return sum(picture.parent is None for picture in pictures) or 1


def _seen_px(number: Any, pictures: Sequence[Picture]) -> Size | None:
    """The size at which a picture was shown; None where there is no such picture."""
    return next((p.seen_px for p in pictures if p.number == number), None)


def _padded(numbers: Any, padding: float) -> Any:
    """A valid box grown on every side, clamped to the picture; anything else unchanged, to be refused later."""
    try:
        box = Box.of(numbers)
    except (BoxError, TypeError, OverflowError):  # an integer may be too long for a float
        return numbers
    low = [max(0.0, value - padding) for value in box[:2]]
    return low + [min(1.0, value + padding) for value in box[2:]]


def _hash(said: list[str]) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _message(role: str, parts: list[Message]) -> Message:
    return {"role": role, "content": [part for part in parts if part.get("text") != ""]}


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _image(view: Callable[[int], Any], picture: Picture) -> Message:
    return {"type": "image", "image": view(picture.number)}
