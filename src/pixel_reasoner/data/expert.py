r"""One expert trace: an annotated question, answered by looking where the evidence is.

The expert goes through the same loop as a model (`rollout.Rollout`), so every operation is really executed and a
trace is what a rollout of these words would have recorded. Kinds of traces and their default shares are
those of the paper (arXiv 2505.15966, table 2), and one more:

    single       look at the evidence, answer
    wrong_once   a region without the evidence first, then the right one
    wrong_twice  two such regions first
    too_wide     a region that holds the evidence and much besides, then a zoom into that crop
    reselect     frames without the evidence first, then the right ones
    refused      a call that is refused first (a bad box, frames out of range), then a valid one
    text         an answer at once, for questions that need no look

Departures from the paper
    1. Words come from templates, not from a language model: they say what the annotation says, and nothing else.
    2. A region that is too wide is no mistake: its call is trained. Wrong and refused calls are marked
       (`Turn.mistake`) and get no loss.
    3. `refused` traces are ours: models make such calls, and the paper names "no reaction" to a refusal as a failure.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from pixel_reasoner.data import wording
from pixel_reasoner.data.wording import say
from pixel_reasoner.dialects import Dialect
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES
from pixel_reasoner.operations.zoom import sample_off_target_box
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Evidence, Question
from pixel_reasoner.schema.settings import PixelBudgets, RolloutConfig, RunSettings, SynthesisInfo
from pixel_reasoner.schema.trace import Observation, ToolCall, Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import is_right

VERSION = 2
"""Raised whenever the same question and seed would give another trace."""
_STEP = 0.01
"""boxes are written with two decimals"""


class Kind(StrEnum):
    """What happens in a trace (see the module)."""

    SINGLE = "single"
    WRONG_ONCE = "wrong_once"
    WRONG_TWICE = "wrong_twice"
    TOO_WIDE = "too_wide"
    RESELECT = "reselect"
    REFUSED = "refused"
    TEXT = "text"


class ExpertConfig(NamedTuple):
    """How traces are written: for which model, and what a look is."""

    dialect: Dialect
    budgets: PixelBudgets
    margin: float = 0.25
    """what a look shows around the evidence, on every side, in widths and heights of the evidence"""
    min_side: float = 0.12
    """a look is at least this wide and high, share of the picture"""

    @property
    def model(self) -> ScriptedModel:
        """Whom the loop takes the expert for."""
        return ScriptedModel([""], dialect=self.dialect.name, budgets=self.budgets)


class NoTrace(Exception):
    """No trace of the wanted kind can be made of a question; `reason` is a word to count by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def expert_trace(
    question: Question,
    kind: Kind,
    rng: random.Random,
    manner: ExpertConfig,
    album: MediaContext | None = None,
) -> Trace:
    """Write one trace and make sure that it teaches what it should.

    Args:
        question: with evidence, unless the kind is `text`.
        kind: what happens in the trace.
        rng: chooses words and regions.
        manner: dialect, budgets and size of a look.
        album: of the question's media, if it is open already; it stays as it is.

    Raises:
        NoTrace: no such trace, such as no room for a wrong region.
        InputError: a medium that cannot be used.
    """
    expert = _Expert(question, rng, manner, album)
    _WRITERS[kind](expert)
    trace = expert.finish(kind)
    _verify(trace, kind)
    return trace


def look_box(clue: Box, manner: ExpertConfig) -> Box:
    """The region to zoom into: the evidence with a margin, moved into the picture, on whole hundredths.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> look_box(Box(0.0, 0.5, 0.1, 0.6), ExpertConfig(COMPACT, COMPACT.budgets))
    Box(x1=0.0, y1=0.48, x2=0.15, y2=0.63)
    """
    sides = []
    for low, high in ((clue.x1, clue.x2), (clue.y1, clue.y2)):
        side = _up(max((high - low) * (1 + 2 * manner.margin), manner.min_side))
        # The nearest hundredth, so that all looks at clues of one size are of one size; or outwards, if it cuts the clue.
        start = round(min(max((low + high - side) / 2, 0.0), 1 - side), 2)
        end = round(start + side, 2)
        sides.append((min(start, _down(low)), max(end, _up(high))))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


class _Expert:
    """Speaks turn by turn; remembers which turns were mistakes."""

    def __init__(
        self,
        question: Question,
        rng: random.Random,
        manner: ExpertConfig,
        album: MediaContext | None,
    ) -> None:
        self.question = question
        self.rng = rng
        self.manner = manner
        self.rollout = Rollout(question, manner.model, RolloutConfig(), album and album.fresh())
        self.mistakes: set[int] = set()
        self.opening: tuple[str, ...] = (
            wording.WHOLE_VIDEO if self.rollout.context.num_frames else wording.WHOLE_PICTURE
        )

    @property
    def evidence(self) -> Evidence:
        evidence = self.question.evidence
        if evidence is None or not (evidence.boxes or evidence.frames):
            raise NoTrace("no_evidence")
        return evidence

    def subject(self, nth: int) -> str:
        subjects = self.evidence.subjects
        return subjects[nth] if nth < len(subjects) else "the part that matters"

    def turn(
        self,
        words: str,
        call: ToolCall | None = None,
        *,
        mistake: bool = False,
        about: str = "",
        answer: str | None = None,
    ) -> Observation | None:
        """Say something, and call an operation or answer; returns what came back."""
        if self.opening:
            words = f"{say(self.rng, self.opening)} {words}"
            self.opening = ()
        pictures = self.rollout.context.pictures
        text = self.manner.dialect.write_turn(words, call, pictures, about=about, answer=answer)
        if mistake:
            self.mistakes.add(len(self.rollout.turns))
        self.rollout.take(Completion(text), 0.0)
        return self.rollout.turns[-1].observation

    def answer(self, words: str) -> None:
        self.turn(words, answer=self.question.answer[0])

    def zoom(
        self, words: str, box: Box, image: int, *, nth: int = 0, mistake: bool = False
    ) -> Observation:
        """Zoom in, looking for the nth subject."""
        if image != 1 and not self.manner.dialect.names_pictures:
            raise NoTrace("picture_without_a_name")
        arguments = {"bbox_2d": [round(x, 2) for x in box], "target_image": image}
        call = ToolCall(name="zoom_in", arguments=arguments)
        seen = self.turn(words, call, mistake=mistake, about=self.subject(nth))
        assert seen is not None, "a call is answered"
        return seen

    def select(self, words: str, frames: list[int], *, mistake: bool = False) -> None:
        call = ToolCall(name="select_frames", arguments={"target_frames": frames})
        self.turn(words, call, mistake=mistake)

    def look_at_clues(self, words: str, nth: int = 0) -> None:
        """The looks from the `nth` clue on, the first with these words, each followed by what it shows; the answer."""
        evidence = self.evidence
        if evidence.frames:
            self.select(words, list(evidence.frames))
        for n, clue in enumerate(evidence.boxes[nth:], start=nth):
            if n > nth:
                words = f"{self.finding(n - 1)} {self.zoom_words(n)}"
            self.zoom(words, look_box(clue, self.manner), evidence.image, nth=n)
        self.answer(self.finding(-1))

    def zoom_words(self, nth: int) -> str:
        return say(self.rng, wording.ZOOM, subject=self.subject(nth), where=self.where(nth))

    def where(self, nth: int) -> str:
        return wording.place_of(self.evidence.boxes[nth])

    def select_words(self) -> str:
        return say(self.rng, wording.SELECT, subject=self.subject(0))

    def finding(self, nth: int) -> str:
        findings = self.evidence.findings or (f"it shows {self.question.answer[0]}",)
        return say(self.rng, wording.FOUND, finding=findings[nth])

    def finish(self, kind: Kind) -> Trace:
        """The trace, without times: the same seed gives the same bytes."""
        assert self.rollout.stop is not None, "an expert answers"
        settings = RunSettings(
            synthesis=SynthesisInfo(version=VERSION, kind=str(kind)),
            dialect=self.manner.dialect.name,
            budgets=self.manner.budgets,
        )
        trace = self.rollout.trace(settings)
        turns = tuple(
            turn.model_copy(update={"operate_s": 0.0, "mistake": number in self.mistakes})
            for number, turn in enumerate(trace.turns)
        )
        return trace.model_copy(update={"turns": turns, "seconds": 0.0})


# --- the kinds ---


def _single(expert: _Expert) -> None:
    expert.look_at_clues(expert.select_words() if expert.evidence.frames else expert.zoom_words(0))


def _wrong(expert: _Expert, times: int) -> None:
    boxes, image = expert.evidence.boxes, expert.evidence.image
    if not boxes:
        raise NoTrace("no_box")
    subject = expert.subject(0)
    words = expert.zoom_words(0)
    tried: list[Box] = []
    for _ in range(times):
        box = _elsewhere(boxes, tried, expert)
        tried.append(box)
        expert.zoom(words, box, image, mistake=True)
        words = say(expert.rng, wording.NOT_HERE, subject=subject, where=expert.where(0))
    expert.zoom(words, look_box(boxes[0], expert.manner), image)
    _rest(expert)


def _too_wide(expert: _Expert) -> None:
    boxes, image = expert.evidence.boxes, expert.evidence.image
    if not boxes:
        raise NoTrace("no_box")
    subject = expert.subject(0)
    close = look_box(boxes[0], expert.manner)
    wide = _around(close, expert.rng)
    seen = expert.zoom(expert.zoom_words(0), wide, image)
    if not seen.pictures:
        raise NoTrace("refused_look", seen.text)
    crop = seen.pictures[0]
    words = say(expert.rng, wording.TOO_WIDE, subject=subject)
    if expert.manner.dialect.names_pictures:
        expert.zoom(words, _seen_from(crop.box, close), crop.number)
    else:
        expert.zoom(words, close, image)
    _rest(expert)


def _rest(expert: _Expert) -> None:
    """The second clue and those after it, or the answer."""
    if len(expert.evidence.boxes) == 1:
        expert.answer(expert.finding(-1))
        return
    expert.look_at_clues(f"{expert.finding(0)} {expert.zoom_words(1)}", nth=1)


def _reselect(expert: _Expert) -> None:
    frames = expert.evidence.frames
    others = sorted(set(expert.rollout.context.frames) - set(frames))
    if not frames or not others:
        raise NoTrace("no_other_frames")
    subject = expert.subject(0)
    wrong = sorted(expert.rng.sample(others, min(len(others), expert.rng.randint(1, 3))))
    expert.select(expert.select_words(), wrong, mistake=True)
    expert.look_at_clues(say(expert.rng, wording.NOT_IN_THESE, subject=subject))


def _refused(expert: _Expert) -> None:
    """A call that is refused, and its repair."""
    evidence, rng = expert.evidence, expert.rng
    if evidence.frames:
        words = expert.select_words()
        frames = [*evidence.frames][: MAX_SELECTED_FRAMES - 1]
        frames.append(expert.rollout.context.num_frames + rng.randint(1, 8))
        expert.select(words, frames, mistake=True)
    else:
        words = expert.zoom_words(0)
        x1, y1, x2, y2 = look_box(evidence.boxes[0], expert.manner)
        image = evidence.image
        bad = rng.choice(_mistakes(expert.manner.dialect))
        if bad == "inverted":
            x1, x2 = x2, x1
        elif bad == "outside":
            x2 = 1 + rng.randint(1, 20) * _STEP
        else:
            image = len(expert.rollout.context) + rng.randint(1, 3)
        expert.zoom(words, Box(x1, y1, x2, y2), image, mistake=True)
    observation = expert.rollout.turns[-1].observation
    assert observation is not None, "a call is answered"
    assert observation.error is not None, "a bad call is refused"
    why = observation.text.partition(";")[0]
    expert.look_at_clues(say(rng, wording.REPAIR, why=why, subject=expert.subject(0)))


def _mistakes(dialect: Dialect) -> list[str]:
    """What is wrong with a call to zoom in that is refused: what the dialect lets a model say, and refuses."""
    known = {"outside": not dialect.grid.clamps, "picture": dialect.names_pictures}
    return [one for one in ("inverted", "outside", "picture") if known.get(one, True)]


def _text(expert: _Expert) -> None:
    question = expert.question
    if question.needs_look:
        raise NoTrace("needs_look")
    finding = question.reasoning or f"the answer is {question.answer[0]}"
    expert.answer(say(expert.rng, wording.AT_ONCE, finding=finding))


_WRITERS: dict[Kind, Callable[[_Expert], None]] = {
    Kind.SINGLE: _single,
    Kind.WRONG_ONCE: lambda expert: _wrong(expert, 1),
    Kind.WRONG_TWICE: lambda expert: _wrong(expert, 2),
    Kind.TOO_WIDE: _too_wide,
    Kind.RESELECT: _reselect,
    Kind.REFUSED: _refused,
    Kind.TEXT: _text,
}


# --- regions ---


def _elsewhere(clues: tuple[Box, ...], tried: list[Box], expert: _Expert) -> Box:
    """A region as large as a look that shows nothing of the evidence, even after the dialect's padding and rounding."""
    like, dialect = look_box(clues[0], expert.manner), expert.manner.dialect
    seen_px = expert.rollout.context.picture(expert.evidence.image).seen_px
    grown = dialect.padding + dialect.grid.slack(seen_px)
    box = sample_off_target_box(like, clues, expert.rng, grown, tried)
    if box is None:
        raise NoTrace("no_room_for_a_wrong_region")
    return box


def _around(close: Box, rng: random.Random) -> Box:
    """A region two to three times as wide and high, that holds another and is not the whole picture."""
    sides = []
    for low, high in ((close.x1, close.x2), (close.y1, close.y2)):
        side = min((high - low) * rng.uniform(2, 3), 0.9)
        if side < 1.5 * (high - low):
            raise NoTrace("no_room_for_a_wider_region")
        start = rng.uniform(max(0.0, high - side), min(low, 1 - side))
        sides.append((_down(start), _up(start + side)))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


def _seen_from(outer: Box, box: Box) -> Box:
    """A box of the picture in coordinates of a crop that holds it, rounded outwards. The inverse of `Box.within`."""
    x1, y1, x2, y2 = box.relative_to(outer)
    return Box(max(0.0, _down(x1)), max(0.0, _down(y1)), min(1.0, _up(x2)), min(1.0, _up(y2)))


def _down(value: float) -> float:
    return round(math.floor(value / _STEP + 1e-6) * _STEP, 2)


def _up(value: float) -> float:
    return round(min(1.0, math.ceil(value / _STEP - 1e-6) * _STEP), 2)


# --- verification ---


def _verify(trace: Trace, kind: Kind) -> None:
    if not is_right(trace):
        raise NoTrace("answer_does_not_score", f"{trace.answer!r}")
    if kind is not Kind.TEXT and evidence_hit(trace) is not True:
        raise NoTrace("evidence_not_shown")
    refused = [turn for turn in trace.turns if turn.observation and turn.observation.error]
    if any(not turn.mistake for turn in refused):
        assert refused[0].observation is not None
        raise NoTrace("refused_look", refused[0].observation.text)


def kind_of(trace: Trace) -> str:
    """The kind that a synthesized trace was written as; empty for any other trace."""
    synthesis = trace.settings.synthesis
    return synthesis.kind if synthesis else ""
