"""One trace as a card (`card.html`): the question, its pictures, and each turn with its calls and results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from pixel_reasoner.reports.figure import Figure, Mark, TracePictures, color
from pixel_reasoner.reports.steps import (
    call_in_words,
    calls_and_results,
    message_texts,
    outcome_in_words,
    returned_pictures,
    size_in_words,
    spaced_name,
    time_in_words,
)
from pixel_reasoner.reports.templates import render_parts
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Observation, Picture, ToolCall, Trace, Turn
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.grading import Grade, grade_reply
from pixel_reasoner.text import visible

Facets = dict[str, list[str]]
"""filter name -> values of a trace. The name is an HTML attribute name: lower-case words joined by `-`"""

OUTCOMES = ("right", "wrong", "unparsed", "ungraded")
_NEED_LABELS = {True: "needs an operation", False: "overview suffices", None: "unknown"}


def card(trace: Trace, number: int, facets: Facets, unshown: Counter[str]) -> Iterator[str]:
    """Yield the HTML of one trace, in parts.

    Args:
        trace: trace to show.
        number: its number on the page, from 1.
        facets: filter values of the trace.
        unshown: counts pictures that cannot be shown, by reason.
    """
    shown = _CardPictures(trace, TracePictures(trace, unshown), number)
    return render_parts(
        "card.html",
        trace=trace,
        question=trace.question,
        number=number,
        facets=facets,
        outcome=facets["outcome"][0],
        facts=_facts(trace),
        answered=extract_trace_answer(trace),
        expected=" or ".join(trace.question.answer),
        stop=spaced_name(trace.stop),
        media=list(shown.media()),
        turns=[_step(turn, index, shown) for index, turn in enumerate(trace.turns, start=1)],
    )


def compute_facets(trace: Trace, graded: Callable[[Trace], Grade | None] = grade_reply) -> Facets:
    """Return the filter values of a trace.

    >>> from pixel_reasoner.schema.trace import StopReason
    >>> question = Question(id="q1", text="How many?", media=(), category="count")
    >>> found = compute_facets(Trace(question=question, stop=StopReason.NO_ANSWER))
    >>> found["stop"], found["operations"], found["category"]
    (['no answer'], ['0'], ['count'])
    """
    return {
        "outcome": [outcome_in_words(graded(trace))],
        "stop": [spaced_name(trace.stop)],
        "operations": _operations(trace),
        "category": [facet_value(trace.question.category or "none")],
        "need": [_NEED_LABELS[trace.question.needs_look]],
    }


def facet_value(text: str) -> str:
    r"""Return a filter value: one line of visible text, because newlines separate values.

    >>> facet_value("a\nb")
    'a␊b'
    """
    return visible(text).replace("\n", "␊")


def _operations(trace: Trace) -> list[str]:
    executed = len(trace.executed)
    return ["2+" if executed >= 2 else str(executed), *(["refused"] if trace.rejected else [])]


def _facts(trace: Trace) -> list[str]:
    """Return the facts above the question: id, category, stop reason, calls and time."""
    question = trace.question
    calls = f"{len(trace.executed)} operations" if len(trace.executed) != 1 else "1 operation"
    if trace.rejected:
        calls += f", {len(trace.rejected)} rejected"
    facts = [
        question.id,
        question.category,
        spaced_name(trace.stop),
        calls,
        f"{trace.seconds:.1f} s",
    ]
    if question.needs_look is not None:
        facts.insert(2, _NEED_LABELS[question.needs_look])
    return [fact for fact in facts if fact]


# --- turns ---


class _Call(NamedTuple):
    """Call of the model, and its result as text."""

    words: str
    is_mistake: bool
    error: str = ""
    """error of a rejected call"""
    reply: str | None = None
    """result as text, if it is not pictures"""


class _Step(NamedTuple):
    """One message of the model, with its calls and results."""

    number: int
    link: str
    kind: str
    """CSS class"""
    texts: list[str]
    calls: list[_Call]
    raw: str
    """generated text, if the page shows it in another form"""
    results: Callable[[], Iterator[Mapping[str, Any]]]


def _step(turn: Turn, index: int, shown: _CardPictures) -> _Step:
    texts = message_texts(turn)
    is_refused = bool(turn.observations) and not turn.has_executed_call
    return _Step(
        number=index,
        link=shown.link(index),
        kind="refused" if is_refused else color(index),
        texts=texts,
        calls=[_call(call, result, turn) for call, result in calls_and_results(turn)],
        raw=turn.text if turn.text.strip() != "\n".join(texts) else "",
        results=partial(shown.results, turn, index),
    )


def _call(call: ToolCall | None, observation: Observation | None, turn: Turn) -> _Call:
    words = call_in_words(call, observation)
    if observation is None or (observation.pictures and not observation.error):
        return _Call(words, turn.mistake)
    return _Call(words, turn.mistake, spaced_name(observation.error or ""), observation.text)


# --- pictures of the question, and pictures that operations returned ---


class _CardPictures:
    """Pictures of a trace in its card. The template opens them lazily."""

    def __init__(self, trace: Trace, pictures: TracePictures, number: int) -> None:
        self.trace, self.pictures, self.number = trace, pictures, number

    def link(self, turn: int) -> str:
        """Return the id of a turn on the page."""
        return f"t{self.number}-{turn}"

    def media(self) -> Iterator[Mapping[str, Any]]:
        """Yield each media item: pictures next to their sources, or a video as a row of frames."""
        for _, of_item in groupby(self.trace.pictures, key=lambda picture: picture.medium):
            group = list(of_item)
            if group[0].frame is None:
                yield {"pairs": partial(map, self._pair, group)}
            else:
                yield self._strip(group)

    def _pair(self, picture: Picture) -> Mapping[str, Any]:
        """Return a picture as the model received it, and its source with the boxes of later crops."""
        name = f"Picture {picture.number}"
        crops = self._marks(self._find_crops(picture), WHOLE)
        evidence = _evidence_marks(self.trace.question, picture)
        shape = _shape(picture.source_px)
        view = self.pictures.view(picture.number, f"{name} as the model received it")
        source = self.pictures.source(picture.number, f"{name} at full resolution")
        return {
            "name": name,
            "view": Figure(view, kind=shape),
            "source": Figure(source, [*crops, *evidence], shape),
            "seen_px": size_in_words(picture.seen_px),
            "source_px": size_in_words(picture.source_px),
            "has_crops": bool(crops),
            "has_evidence": bool(evidence),
        }

    def _strip(self, group: list[Picture]) -> Mapping[str, Any]:
        """Return the sampled frames of a video. Selected frames and evidence frames are marked."""
        evidence = self.trace.question.evidence
        return {
            "frames": partial(map, self._frame, group),
            "count": len(group),
            "seen_px": size_in_words(group[0].seen_px),
            "has_crops": any(self._find_crops(picture) for picture in group),
            "has_evidence": bool(evidence and evidence.frames),
        }

    def _frame(self, picture: Picture) -> Mapping[str, Any]:
        crops = self._find_crops(picture)
        chosen = [turn for turn, crop in crops if crop.box == WHOLE]
        boxes = self._marks([(turn, crop) for turn, crop in crops if crop.box != WHOLE], WHOLE)
        evidence = self.trace.question.evidence.frames if self.trace.question.evidence else ()
        kinds = [f"selected {color(chosen[0])}"] if chosen else []
        kinds += ["evidence"] if picture.frame in evidence else []
        view = self.pictures.view(picture.number, f"Frame {picture.frame} as the model received it")
        link = self.link(chosen[0]) if chosen else ""
        return {
            "view": Figure(view, boxes, " ".join(kinds), link),
            "number": picture.frame,
            "time": time_in_words(picture),
        }

    def results(self, turn: Turn, index: int) -> Iterator[Mapping[str, Any]]:
        """Yield the pictures that the operations of a turn returned, with the boxes of later crops."""
        for picture in (one for result in turn.observations for one in result.pictures):
            name = f"Picture {picture.number}"
            later = returned_pictures(self.trace)
            crops = [(n, crop) for n, crop in later if crop.parent == picture.number]
            view = self.pictures.view(picture.number, f"{name} as the model received it")
            marks, shape = self._marks(crops, picture.box), _shape(picture.seen_px)
            yield {
                "name": name,
                "view": Figure(view, marks, shape, self.link(index)),
                "frame": picture.frame,
                "time": time_in_words(picture),
                "source_px": size_in_words(picture.source_px),
                "seen_px": size_in_words(picture.seen_px),
            }

    def _find_crops(self, at: Picture) -> list[tuple[int, Picture]]:
        """Return all later pictures with the same source as a picture of the question, including crops of crops."""
        return [
            (turn, picture)
            for turn, picture in returned_pictures(self.trace)
            if (picture.medium, picture.frame) == (at.medium, at.frame)
        ]

    def _marks(self, crops: Iterable[tuple[int, Picture]], shown: Box) -> list[Mark]:
        return [
            Mark(crop.box.relative_to(shown), str(crop.number), turn, self.link(turn))
            for turn, crop in crops
        ]


def _evidence_marks(question: Question, picture: Picture) -> list[Mark]:
    evidence = question.evidence
    if evidence is None or evidence.image != picture.number:
        return []
    return [Mark(box) for box in evidence.boxes]


def _shape(size: Size) -> str:
    """Return the CSS class of pictures that would be too large or too small at the default width."""
    width, height = size
    return "tall" if height > 1.6 * width else "wide" if width > 2 * height else ""
