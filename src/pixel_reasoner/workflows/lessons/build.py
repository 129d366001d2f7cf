"""One trace becomes one step of a lesson."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from pixel_reasoner.data.wording import describe_place
from pixel_reasoner.errors import InputError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.reports.panels import one_line, storyboard
from pixel_reasoner.reports.steps import call_in_words, calls_and_results, message_texts
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import Evidence
from pixel_reasoner.schema.trace import Observation, Picture, ToolCall, Trace, Turn
from pixel_reasoner.scoring.evidence import HIT_SHARE
from pixel_reasoner.workflows.lessons.images import encode, enlarged_region
from pixel_reasoner.workflows.lessons.lesson import (
    LessonPicture,
    LessonStep,
    Look,
    Reveal,
    Verdict,
)

MAX_LOOKS = 12
"""looks of a longer trace are left out"""
MAX_PICTURES = 32
"""question pictures of a step; a learner has to choose among them"""
_PROMPTS = (
    "Why did it help to look there?",
    "What can you see now that you could not see before?",
    "How would you explain to a friend where to look, and why?",
)
_MISTAKE_PROMPT = "What went wrong at first, and what corrected it?"


class NoStep(Exception):
    """A trace gives no step. `reason` is a short name for counts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class StepContent(NamedTuple):
    """A step with its pictures."""

    step: LessonStep
    pictures: dict[str, bytes]
    """ref -> PNG or JPEG file"""


def build_step(trace: Trace, number: int, without: Trace | None = None) -> StepContent:
    """Return the step of a trace.

    Args:
        trace: with an executed operation; its media are opened again.
        number: of the step, from 1.
        without: trace of the same question without operations.

    Raises:
        NoStep: the trace has no picture, no executed operation, or no answer; or its media cannot be opened.
    """
    if not trace.pictures:
        raise NoStep("no_picture", "the question has no picture")
    if not any(one.pictures for one in trace.executed):
        raise NoStep(
            "no_operation",
            "the model looked nowhere: it answered at once, or every call was rejected",
        )
    if len(trace.pictures) > MAX_PICTURES:
        raise NoStep("many_pictures", f"{len(trace.pictures)} pictures; at most {MAX_PICTURES}")
    board = storyboard(trace)
    if not (board.answer.text or board.answer.expected):
        raise NoStep("no_answer", f"neither an answer nor an expected one: {board.answer.stop}")
    try:
        return _StepBuilder(trace, number).build(without)
    except InputError as error:
        raise NoStep("missing_media", error.got) from error


class _StepBuilder:
    """Builder of one step. Collects encoded pictures under neutral names."""

    def __init__(self, trace: Trace, number: int) -> None:
        self.trace, self.number = trace, number
        self.context = MediaContext.of_trace(trace)
        self.pictures: dict[str, bytes] = {}
        self.evidence = trace.question.evidence or Evidence()

    def build(self, without: Trace | None) -> StepContent:
        """Return the step."""
        first_views = tuple(self._first_view(one) for one in self.trace.pictures)
        reveal = self._reveal(without)
        has_mistake = bool(reveal.wrong_looks) or reveal.is_right is False
        prompt = _MISTAKE_PROMPT if has_mistake else _PROMPTS[(self.number - 1) % len(_PROMPTS)]
        step = LessonStep(
            number=self.number,
            question=one_line(self.trace.question.text),
            options={one_line(k): one_line(v) for k, v in self.trace.question.options.items()},
            pictures=first_views,
            is_clip=self.trace.pictures[0].frame is not None,
            has_mistake=has_mistake,
            prompt=prompt,
            reveal=reveal,
        )
        return StepContent(step, self.pictures)

    # --- pictures ---

    def _add(self, image: Image.Image, alt: str) -> LessonPicture:
        content = encode(image)
        ref = f"q{self.number}-{len(self.pictures) + 1}"
        self.pictures[ref] = content
        return LessonPicture(ref=ref, px=image.size, alt=alt)

    def _first_view(self, picture: Picture) -> LessonPicture:
        total, size = len(self.trace.pictures), "{} × {} pixels".format(*picture.seen_px)
        if picture.frame is not None:
            alt = f"Frame {picture.frame} of {total}, {size}"
        elif total > 1:
            alt = f"Picture {picture.number} of {total}, {size}"
        else:
            alt = f"The picture of question {self.number}, as the model first receives it: {size}"
        return self._add(self.context.view(picture.number), alt)

    def _image_number(self, picture: Picture) -> int:
        """Return the number of the question's picture that a picture is a region of."""
        key = (picture.medium, picture.frame)
        keys = [(one.medium, one.frame) for one in self.trace.pictures]
        return keys.index(key) + 1 if key in keys else 1

    # --- looks ---

    def _reveal(self, without: Trace | None) -> Reveal:
        looks, conclusion = self._looks()
        answer = storyboard(self.trace).answer
        other = storyboard(without).answer if without is not None else None
        before, after = self._before_and_after(looks)
        boxes = self.evidence.boxes
        frames = self._numbers_of_frames(self.evidence.frames)
        right = [look for look in looks if look.verdict is not Verdict.WRONG]
        if not boxes and not frames and right:  # without annotation the model's own places
            boxes = tuple(look.box for look in right[-1:] if look.box and not look.frames)
            frames = right[-1].frames
        image = (
            self.evidence.image if self.evidence.boxes else next((o.image for o in right[-1:]), 1)
        )
        return Reveal(
            looks=tuple(looks[:MAX_LOOKS]),
            conclusion=conclusion,
            answer=answer.text,
            is_right=_is_right(answer.outcome),
            expected=answer.expected,
            targets=boxes,
            target_image=min(image, len(self.trace.pictures)),
            target_frames=frames,
            findings=tuple(map(one_line, self.evidence.findings)),
            before=before,
            after=after,
            answer_without=other.text if other else "",
            is_right_without=_is_right(other.outcome) if other else None,
        )

    def _looks(self) -> tuple[list[Look], str]:
        """Return all looks, and the text after the last one."""
        looks: list[Look] = []
        words = ""
        for turn in self.trace.turns:
            words = one_line(f"{words} {' '.join(message_texts(turn))}".strip())
            for call, result in calls_and_results(turn):
                looks.append(self._look(len(looks) + 1, words, turn, call, result))
                words = ""
        answer = self.trace.answer
        if answer is not None:
            words = words.replace(rf"\boxed{{{answer}}}", answer).removesuffix(f". {answer}")
        return looks, words.strip()

    def _look(
        self, number: int, words: str, turn: Turn, call: ToolCall | None, result: Observation | None
    ) -> Look:
        action = self._action(call, result)
        if result is None or result.error is not None or not result.pictures:
            problem = one_line(result.text if result else "the call has no result")
            return Look(
                number=number, action=action, words=words, verdict=Verdict.WRONG, problem=problem
            )
        first = result.pictures[0]
        frames = self._numbers_of_frames([p.frame for p in result.pictures if p.frame])
        is_selection = first.box == WHOLE and bool(frames)
        place = _place_in_words(first.box)
        shown = tuple(
            self._add(self.context.view(one.number), _alt_of_look(number, one, place))
            for one in result.pictures[:8]
        )
        return Look(
            number=number,
            action=action,
            place="" if is_selection else place,
            words=words,
            box=None if is_selection or first.box == WHOLE else first.box,
            image=self._image_number(first),
            frames=frames if is_selection else (),
            pictures=shown,
            verdict=self._verdict(result.pictures, turn),
        )

    def _action(self, call: ToolCall | None, result: Observation | None) -> str:
        """Return a call in words for learners: `Zoom in`, `Zoom in further`, `Look at frames 3, 4`."""
        words = one_line(call_in_words(call, result).partition(", box ")[0])
        if call is not None and call.name == "zoom_in" and result and result.pictures:
            parent = result.pictures[0].parent or 1
            if parent > len(self.trace.pictures):
                words = "zoom in further"
            elif len(self.trace.pictures) == 1:
                words = "zoom in"
        return words[:1].upper() + words[1:]

    def _verdict(self, pictures: Sequence[Picture], turn: Turn) -> Verdict:
        evidence = self.evidence
        if evidence.boxes:
            image = self.trace.pictures[min(evidence.image, len(self.trace.pictures)) - 1]
            shows = any(
                (one.medium, one.frame) == (image.medium, image.frame)
                and one.box.intersection(box) >= HIT_SHARE * box.area
                for one in pictures
                for box in evidence.boxes
            )
        elif evidence.frames:
            shows = any(one.frame in evidence.frames for one in pictures)
        else:
            return Verdict.WRONG if turn.mistake else Verdict.UNKNOWN
        return Verdict.RIGHT if shows else Verdict.WRONG

    def _numbers_of_frames(self, frames: Sequence[int | None]) -> tuple[int, ...]:
        """Return the positions of frames among the question's pictures, from 1."""
        numbers = {one.frame: at for at, one in enumerate(self.trace.pictures, start=1)}
        return tuple(dict.fromkeys(numbers[one] for one in frames if one in numbers))

    def _before_and_after(
        self, looks: Sequence[Look]
    ) -> tuple[LessonPicture | None, LessonPicture | None]:
        """Return the place of the last useful look in the first view, and as the model received it."""
        useful = [look for look in looks if look.pictures and look.verdict is not Verdict.WRONG]
        if not useful:
            return None, None
        look = useful[0] if len(useful) == 1 else useful[-1]
        after = look.pictures[0]
        number = look.frames[0] if look.frames else look.image
        view = self.context.view(self.trace.pictures[number - 1].number)
        region = look.box or WHOLE
        before = enlarged_region(view, region, after.px)
        width, height = (
            max(1, round(side * share))
            for side, share in zip(
                view.size, (region.x2 - region.x1, region.y2 - region.y1), strict=True
            )
        )
        alt = f"The same place in the first view, enlarged from {width} × {height} pixels"
        return self._add(before, alt), after


def _is_right(outcome: str) -> bool | None:
    return {"right": True, "wrong": False, "unparsed": False}.get(outcome)


def _place_in_words(box: Box) -> str:
    """Return a place and its size.

    >>> _place_in_words(Box(0.1, 0.7, 0.3, 0.9)), _place_in_words(WHOLE)
    ('lower left, 4 % of the picture', 'the whole picture')
    """
    if box == WHOLE:
        return "the whole picture"
    percent = 100 * box.area
    size = f"{percent:.0f} %" if percent >= 1 else "less than 1 %"
    place = describe_place(box).replace("middle centre", "centre")
    return f"{place}, {size} of the picture"


def _alt_of_look(number: int, picture: Picture, place: str) -> str:
    if picture.box == WHOLE and picture.frame is not None:
        return f"Look {number}: frame {picture.frame}, enlarged"
    return f"Look {number}, enlarged: {place}"
