"""Writer of expert traces: turns with words, calls and the answer, in the loop of a model."""

from __future__ import annotations

import random

from pixel_reasoner.data import wording
from pixel_reasoner.data.regions import ExpertConfig, NoTrace, zoom_box
from pixel_reasoner.data.wording import fill_template
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import Completion
from pixel_reasoner.operations.base import OperationSpec, PlanRequest
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Evidence, Question
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings, SynthesisInfo
from pixel_reasoner.schema.trace import Observation, ToolCall, Trace

VERSION = 2
"""incremented when a question and seed give another trace"""


class TraceWriter:
    """Writer of one trace. Records which turns are mistakes."""

    def __init__(
        self,
        question: Question,
        rng: random.Random,
        config: ExpertConfig,
        context: MediaContext | None,
    ) -> None:
        self.question = question
        self.rng = rng
        self.config = config
        self.rollout = Rollout(
            question,
            config.model,
            RolloutConfig(strict=True, operations=config.operations),
            context and context.fresh(),
        )
        self.mistakes: set[int] = set()
        self.first_words: tuple[str, ...] = (
            wording.WHOLE_VIDEO if self.rollout.context.num_frames else wording.WHOLE_PICTURE
        )

    @property
    def evidence(self) -> Evidence:
        """Places of the evidence.

        Raises:
            NoTrace: the question has none.
        """
        evidence = self.question.evidence
        if evidence is None or not (evidence.boxes or evidence.frames):
            raise NoTrace("no_evidence")
        return evidence

    def planned(self) -> tuple[OperationSpec, ToolCall]:
        """Return the first enabled operation that plans a call for the question, and this call."""
        request = PlanRequest(
            pictures=self.rollout.context.pictures,
            sampling=self.rollout.context.sampling,
            zoom_box=lambda box: zoom_box(box, self.config),
        )
        for spec in self.rollout.operations:
            call = spec.plan(self.question, request) if spec.plan is not None else None
            if call is not None:
                return spec, call
        raise NoTrace("no_operation")

    def subject(self, nth: int) -> str:
        """Return the name of the nth evidence item."""
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
        """Append a turn with a call or an answer, and return the observation."""
        if self.first_words:
            words = f"{fill_template(self.rng, self.first_words)} {words}"
            self.first_words = ()
        pictures = self.rollout.context.pictures
        text = self.config.dialect.write_turn(words, call, pictures, about=about, answer=answer)
        if mistake:
            self.mistakes.add(len(self.rollout.turns))
        self.rollout.take(Completion(text), 0.0)
        return self.rollout.turns[-1].observation

    def answer(self, words: str) -> None:
        """Append the last turn."""
        self.turn(words, answer=self.question.answer[0])

    def zoom(
        self, words: str, box: Box, image: int, *, nth: int = 0, mistake: bool = False
    ) -> Observation:
        """Append a zoom into a region that shows the nth subject."""
        if image != 1 and not self.config.dialect.can_name_pictures:
            raise NoTrace("picture_without_a_name")
        arguments = {"bbox_2d": [round(x, 2) for x in box], "target_image": image}
        call = ToolCall(name="zoom_in", arguments=arguments)
        observation = self.turn(words, call, mistake=mistake, about=self.subject(nth))
        assert observation is not None, "every call gives an observation"
        return observation

    def select(self, words: str, frames: list[int], *, mistake: bool = False) -> None:
        """Append a selection of frames."""
        call = ToolCall(name="select_frames", arguments={"target_frames": frames})
        self.turn(words, call, mistake=mistake)

    def zoom_into_evidence(self, words: str, nth: int = 0) -> None:
        """Zoom into each evidence item from the `nth` on, report the finding, and answer. `words` start the first turn."""
        evidence = self.evidence
        if self.question.answer_type is AnswerType.SPAN:
            words = self.select_all_frames(words)
        elif evidence.frames:
            self.select(words, list(evidence.frames))
        for n, evidence_box in enumerate(evidence.boxes[nth:], start=nth):
            if n > nth:
                words = f"{self.finding(n - 1)} {self.zoom_words(n)}"
            self.zoom(words, zoom_box(evidence_box, self.config), evidence.image, nth=n)
        self.answer(self.finding(-1))

    def select_all_frames(self, words: str) -> str:
        """Look at all frames in turns, because the ends of a span are unknown. Returns no words: they are said."""
        frames = sorted(self.rollout.context.frames)
        for start in range(0, len(frames), MAX_SELECTED_FRAMES):
            if start:
                words = fill_template(self.rng, wording.SELECT_REST)
            self.select(words, frames[start : start + MAX_SELECTED_FRAMES])
        return ""

    def search(self) -> str:
        """Zoom into the regions that a search visits first. Returns the words before the next zoom."""
        words = ""
        for step in self.evidence.search:
            where = wording.describe_place(step.box)
            next_zoom = fill_template(self.rng, wording.ZOOM, subject=step.subject, where=where)
            box = zoom_box(step.box, self.config)
            self.zoom(f"{words} {next_zoom}".strip(), box, self.evidence.image)
            words = fill_template(self.rng, wording.FOUND, finding=step.finding)
        return words

    def zoom_words(self, nth: int) -> str:
        """Return the words before a zoom into the nth evidence item."""
        return fill_template(
            self.rng, wording.ZOOM, subject=self.subject(nth), where=self.where(nth)
        )

    def where(self, nth: int) -> str:
        """Return the place of the nth evidence item in words."""
        place = wording.describe_place(self.evidence.boxes[nth])
        return f"{place} of picture {self.evidence.image}" if self.names_pictures else place

    @property
    def names_pictures(self) -> bool:
        """Whether the question has several pictures, and the words name the right one."""
        return self.config.names_pictures and len(self.question.media) > 1

    def select_words(self) -> str:
        """Return the words before a selection of frames."""
        return fill_template(self.rng, wording.SELECT, subject=self.subject(0))

    def operation_words(self, spec: OperationSpec) -> str:
        """Return the words before a call of an operation that is off by default."""
        evidence = self.question.evidence
        assert evidence is not None, "a planned call has evidence"
        subjects = evidence.subjects or ("the part that matters",)
        where = wording.describe_place(evidence.boxes[0]) if evidence.boxes else "picture"
        return fill_template(
            self.rng, spec.synthesis, subject=subjects[0], other=subjects[-1], where=where
        )

    def finding(self, nth: int) -> str:
        """Return what the nth evidence item shows, as a sentence."""
        evidence = self.question.evidence
        findings = (evidence and evidence.findings) or (f"it shows {self.question.answer[0]}",)
        return fill_template(self.rng, wording.FOUND, finding=findings[nth])

    def finish(self, kind: str) -> Trace:
        """Return the trace without times, so that the same seed gives the same bytes."""
        assert self.rollout.stop is not None, "the last turn of a trace answers"
        settings = RunSettings(
            operations=self.config.operations,
            synthesis=SynthesisInfo(version=VERSION, kind=str(kind)),
            dialect=self.config.dialect.name,
            budgets=self.config.budgets,
        )
        trace = self.rollout.trace(settings)
        turns = tuple(
            turn.model_copy(update={"operate_s": 0.0, "mistake": number in self.mistakes})
            for number, turn in enumerate(trace.turns)
        )
        return trace.model_copy(update={"turns": turns, "seconds": 0.0})
