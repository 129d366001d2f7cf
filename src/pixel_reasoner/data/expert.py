r"""Expert traces: annotated questions, answered with operations on the evidence.

A trace is generated with the same `Rollout` class as a model's trace, so every operation is executed, and the trace
equals
the record of a rollout with these texts. Kinds of traces and their default shares are those of the paper
(arXiv 2505.15966, table 2), plus one more:

    single       one operation per evidence item, then the answer
    wrong_once   a region without the evidence first, then the right one
    wrong_twice  two regions without the evidence first
    too_wide     a region much larger than the evidence, then a zoom into that crop
    reselect     frames without the evidence first, then the right ones
    refused      a rejected call first (a bad box, frames out of range), then a valid one
    text         an immediate answer, for questions that need no operation
    operation    one call of an operation that is off by default, planned by itself (`OperationSpec.plan`)
    operation_wrong  the same after a call that misses the evidence

Departures from the paper
    1. Texts are templates instead of language model output: they repeat the annotation and add nothing.
    2. A region that is too wide is not a mistake: its call is trained. Wrong and rejected calls are marked
    (`Turn.mistake`)
     and get no loss.
    3. `refused` traces are an addition: models make such calls, and the paper lists "no reaction" to an error as a
    failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from pixel_reasoner.data import wording
from pixel_reasoner.data.regions import (
    STEP,
    ExpertConfig as ExpertConfig,
    NoTrace as NoTrace,
    box_in_crop,
    wider_box,
    zoom_box as zoom_box,
)
from pixel_reasoner.data.trace_writer import VERSION as VERSION, TraceWriter
from pixel_reasoner.data.wording import fill_template
from pixel_reasoner.dialects import Dialect
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.base import PerturbRequest
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES
from pixel_reasoner.operations.zoom import sample_off_target_box
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import ToolCall, Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import is_right

MAX_ZOOMS = 5
"""zooms of a trace whose answer follows in the sixth turn, the usual limit of a rollout"""
_OTHER_PICTURE_SHARE = 0.6
"""share of wrong first zooms into another picture, for questions about several"""


class Kind(StrEnum):
    """Kinds of traces (see the module docstring)."""

    SINGLE = "single"
    WRONG_ONCE = "wrong_once"
    WRONG_TWICE = "wrong_twice"
    TOO_WIDE = "too_wide"
    RESELECT = "reselect"
    REFUSED = "refused"
    TEXT = "text"
    OPERATION = "operation"
    OPERATION_WRONG = "operation_wrong"


def expert_trace(
    question: Question,
    kind: Kind,
    rng: random.Random,
    config: ExpertConfig,
    context: MediaContext | None = None,
) -> Trace:
    """Return one trace of a kind. Its answer and evidence are verified.

    Args:
        question: with evidence, unless the kind is `text`.
        kind: kind of trace.
        rng: selects texts and regions.
        config: dialect, pixel budgets and size of zoomed regions.
        context: opened media of the question, unchanged; None: they are opened.

    Raises:
        NoTrace: this kind of trace is not possible, for example because no off-target region fits.
        InputError: unusable media.
    """
    if not question.answer:
        raise NoTrace("no_answer", "expected an answer")
    writer = TraceWriter(question, rng, config, context)
    _WRITERS[kind](writer)
    trace = writer.finish(kind)
    _verify(trace, kind)
    return trace


# --- kinds of traces ---


def _single(writer: TraceWriter) -> None:
    evidence = writer.evidence
    if len(evidence.search) + len(evidence.boxes) > MAX_ZOOMS:
        raise NoTrace("too_many_regions", f"{len(evidence.search) + len(evidence.boxes)}")
    searched = writer.search()
    words = writer.select_words() if evidence.frames else writer.zoom_words(0)
    writer.zoom_into_evidence(f"{searched} {words}".strip())


def _wrong(writer: TraceWriter, times: int) -> None:
    boxes, image = _boxes_without_search(writer, times), writer.evidence.image
    subject = writer.subject(0)
    words = writer.zoom_words(0)
    tried: list[Box] = []
    for _ in range(times):
        shown, box = _wrong_place(boxes, tried, writer)
        writer.zoom(words, box, shown, mistake=True)
        words = fill_template(writer.rng, wording.NOT_HERE, subject=subject, where=writer.where(0))
    writer.zoom(words, zoom_box(boxes[0], writer.config), image)
    _remaining_evidence(writer)


def _too_wide(writer: TraceWriter) -> None:
    boxes, image = _boxes_without_search(writer, 1), writer.evidence.image
    subject = writer.subject(0)
    close = zoom_box(boxes[0], writer.config)
    wide = wider_box(close, writer.rng)
    observation = writer.zoom(writer.zoom_words(0), wide, image)
    if not observation.pictures:
        raise NoTrace("refused_look", observation.text)
    crop = observation.pictures[0]
    words = fill_template(writer.rng, wording.TOO_WIDE, subject=subject)
    if writer.config.dialect.can_name_pictures:
        writer.zoom(words, box_in_crop(crop.box, close), crop.number)
    else:
        writer.zoom(words, close, image)
    _remaining_evidence(writer)


def _boxes_without_search(writer: TraceWriter, num_more: int) -> tuple[Box, ...]:
    """Return the evidence boxes of a question without a search, if `num_more` further zooms fit into a trace."""
    evidence = writer.evidence
    if not evidence.boxes:
        raise NoTrace("no_box")
    if evidence.search or len(evidence.boxes) + num_more > MAX_ZOOMS:
        raise NoTrace("search_is_long")
    return evidence.boxes


def _remaining_evidence(writer: TraceWriter) -> None:
    """Zoom into the second and later evidence items, or answer."""
    if len(writer.evidence.boxes) == 1:
        writer.answer(writer.finding(-1))
        return
    writer.zoom_into_evidence(f"{writer.finding(0)} {writer.zoom_words(1)}", nth=1)


def _reselect(writer: TraceWriter) -> None:
    frames = writer.evidence.frames
    others = sorted(set(writer.rollout.context.frames) - set(frames))
    if not frames or not others or writer.question.answer_type is AnswerType.SPAN:
        raise NoTrace("no_other_frames")
    subject = writer.subject(0)
    wrong = sorted(writer.rng.sample(others, min(len(others), writer.rng.randint(1, 3))))
    writer.select(writer.select_words(), wrong, mistake=True)
    writer.zoom_into_evidence(fill_template(writer.rng, wording.NOT_IN_THESE, subject=subject))


def _refused(writer: TraceWriter) -> None:
    """Append a rejected call and its correction."""
    evidence, rng = writer.evidence, writer.rng
    if writer.question.answer_type is AnswerType.SPAN:
        raise NoTrace("search_is_long")
    if evidence.boxes:
        _boxes_without_search(writer, 1)
    if evidence.frames:
        words = writer.select_words()
        frames = [*evidence.frames][: MAX_SELECTED_FRAMES - 1]
        frames.append(writer.rollout.context.num_frames + rng.randint(1, 8))
        writer.select(words, frames, mistake=True)
    else:
        words = writer.zoom_words(0)
        x1, y1, x2, y2 = zoom_box(evidence.boxes[0], writer.config)
        image = evidence.image
        bad = rng.choice(_bad_calls(writer.config.dialect))
        if bad == "inverted":
            x1, x2 = x2, x1
        elif bad == "outside":
            x2 = 1 + rng.randint(1, 20) * STEP
        else:
            image = len(writer.rollout.context) + rng.randint(1, 3)
        writer.zoom(words, Box(x1, y1, x2, y2), image, mistake=True)
    observation = writer.rollout.turns[-1].observation
    assert observation is not None, "every call gives an observation"
    assert observation.error is not None, "a bad call is rejected"
    why = observation.text.partition(";")[0]
    writer.zoom_into_evidence(
        fill_template(rng, wording.REPAIR, why=why, subject=writer.subject(0))
    )


def _bad_calls(dialect: Dialect) -> list[str]:
    """Return the kinds of bad zoom calls that the dialect can express and the operation rejects."""
    known = {"outside": not dialect.grid.clamps, "picture": dialect.can_name_pictures}
    return [one for one in ("inverted", "outside", "picture") if known.get(one, True)]


def _text(writer: TraceWriter) -> None:
    question = writer.question
    if question.needs_look:
        raise NoTrace("needs_look")
    finding = question.reasoning or f"the answer is {question.answer[0]}"
    writer.answer(fill_template(writer.rng, wording.AT_ONCE, finding=finding))


def _operation(writer: TraceWriter) -> None:
    spec, call = writer.planned()
    _call_and_answer(writer, call, writer.operation_words(spec))


def _operation_wrong(writer: TraceWriter) -> None:
    """Append a call that misses the evidence, and the right one."""
    spec, call = writer.planned()
    evidence, dialect = writer.question.evidence, writer.config.dialect
    assert evidence is not None, "a planned call has evidence"
    wrong = None
    if spec.perturb is not None:
        request = PerturbRequest(
            evidence=evidence,
            pictures=writer.rollout.context.pictures,
            rng=writer.rng,
            padding=dialect.padding,
            rounding=dialect.grid.slack,
        )
        wrong = spec.perturb(call, request)
    if wrong is None:
        raise NoTrace("no_wrong_call")
    writer.turn(writer.operation_words(spec), wrong, mistake=True)
    subject = (evidence.subjects or ("the part that matters",))[0]
    again = wording.MISSED_TIME if evidence.clip_indices else wording.MISSED
    _call_and_answer(writer, call, fill_template(writer.rng, again, subject=subject))


def _call_and_answer(writer: TraceWriter, call: ToolCall, words: str) -> None:
    observation = writer.turn(words, call)
    assert observation is not None, "every call gives an observation"
    if observation.error is not None:
        raise NoTrace("refused_look", observation.text)
    evidence = writer.question.evidence
    num_findings = len(evidence.findings) if evidence is not None else 0
    if len(set(evidence.findings) if evidence is not None else ()) < 2:
        writer.answer(writer.finding(-1))
        return
    findings = [writer.finding(nth) for nth in range(num_findings)]
    writer.answer(" ".join(findings))


_WRITERS: dict[Kind, Callable[[TraceWriter], None]] = {
    Kind.SINGLE: _single,
    Kind.WRONG_ONCE: lambda writer: _wrong(writer, 1),
    Kind.WRONG_TWICE: lambda writer: _wrong(writer, 2),
    Kind.TOO_WIDE: _too_wide,
    Kind.RESELECT: _reselect,
    Kind.REFUSED: _refused,
    Kind.TEXT: _text,
    Kind.OPERATION: _operation,
    Kind.OPERATION_WRONG: _operation_wrong,
}


# --- regions ---


def _wrong_place(boxes: tuple[Box, ...], tried: list[Box], writer: TraceWriter) -> tuple[int, Box]:
    """Return a picture and a region of it without any evidence: often another picture, if there are several."""
    image = writer.evidence.image
    others = [n for n in range(1, len(writer.question.media) + 1) if n != image]
    if writer.names_pictures and others and writer.rng.random() < _OTHER_PICTURE_SHARE:
        return writer.rng.choice(others), zoom_box(boxes[0], writer.config)
    box = _box_without_evidence(boxes, tried, writer)
    tried.append(box)
    return image, box


def _box_without_evidence(
    evidence_boxes: tuple[Box, ...], tried: list[Box], writer: TraceWriter
) -> Box:
    """Return a region of the usual size without any evidence, also after padding and rounding by the dialect."""
    like, dialect = zoom_box(evidence_boxes[0], writer.config), writer.config.dialect
    seen_px = writer.rollout.context.picture(writer.evidence.image).seen_px
    grown = dialect.padding + dialect.grid.slack(seen_px)
    box = sample_off_target_box(like, evidence_boxes, writer.rng, grown, tried)
    if box is None:
        raise NoTrace("no_room_for_a_wrong_region")
    return box


# --- verification ---


def _verify(trace: Trace, kind: Kind) -> None:
    if not is_right(trace):
        raise NoTrace("answer_does_not_score", f"{trace.answer!r}")
    if kind is not Kind.TEXT and evidence_hit(trace) is False:
        raise NoTrace("evidence_not_shown")
    refused = [turn for turn in trace.turns if turn.observation and turn.observation.error]
    if any(not turn.mistake for turn in refused):
        assert refused[0].observation is not None
        raise NoTrace("refused_look", refused[0].observation.text)


def classify_trace(trace: Trace) -> str:
    """Return the kind of a synthesized trace; empty for any other trace."""
    synthesis = trace.settings.synthesis
    return synthesis.kind if synthesis else ""
