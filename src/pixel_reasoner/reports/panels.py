"""Panels of one trace, for a strip and an animation: what the model received, and what it wrote next.

The first panel contains the pictures of the question. Each call gives one panel with its result. The last panel contains
the answer. A text belongs to the panel that it follows: the model saw the pictures of that panel and wrote the text.

Of a long trace the first and the last steps are shown. This module contains no pixels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pixel_reasoner.data.wording import describe_place
from pixel_reasoner.reports.steps import (
    call_in_words,
    calls_and_results,
    message_texts,
    outcome_in_words,
    result_in_words,
    size_in_words,
    spaced_name,
)
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.schema.trace import Observation, Picture, StopReason, ToolCall, Trace
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.grading import grade_reply
from pixel_reasoner.text import visible

NUM_FIRST_STEPS, NUM_LAST_STEPS = 6, 4
"""shown steps of a longer trace"""
MAX_TEXT_CHARS = 600
"""longer texts are shortened before they are measured"""
MAX_ALT_CHARS = 160
"""characters of each text in the alt text"""
_MAX_MARKS = 2
"""combining marks above one letter; more would cover other lines"""
# The box is drawn, so its numbers are left out.
_COORDINATES = re.compile(r", box [-\d.]+ [-\d.]+ – [-\d.]+ [-\d.]+$")


_STOP_REASONS = {
    StopReason.ANSWERED: "the answer is empty",
    StopReason.NO_ANSWER: "the last message contains none",
    StopReason.MAX_TURNS: "the maximum number of turns is reached",
    StopReason.MAX_PICTURES: "the maximum number of pictures is reached",
    StopReason.MAX_NEW_TOKENS: "the last message is truncated",
    StopReason.MAX_CONTEXT: "the context is full",
    StopReason.FAILED: "the request failed",
    StopReason.CANCELLED: "the request was cancelled",
    StopReason.DEADLINE: "the request exceeded its deadline",
}


class PanelKind(StrEnum):
    """Content of a panel."""

    OVERVIEW = "overview"
    """pictures of the question"""
    STEP = "step"
    """call and its result"""
    OMITTED = "omitted"
    """steps that are left out"""
    ANSWER = "answer"


class Panel(NamedTuple):
    """One panel."""

    kind: PanelKind
    number: int = 0
    """number of the step, from 1; of omitted steps, how many they are"""
    call: str = ""
    """call in words"""
    pictures: tuple[Picture, ...] = ()
    problem: str = ""
    """reason of a rejection"""
    text: str = ""
    """text that the model wrote next"""
    reply: str = ""
    """result that is text"""


class Answer(NamedTuple):
    """Answer of a trace, in words."""

    text: str
    """empty if there is none"""
    outcome: str
    """`right`, `wrong`, `unparsed` or `ungraded`"""
    expected: str
    """empty when unknown"""
    stop: str
    """why there is no answer; empty if there is one"""


class Storyboard(NamedTuple):
    """Panels of a trace in order, without the answer, and the answer."""

    question: str
    panels: list[Panel]
    answer: Answer

    @property
    def crops(self) -> list[tuple[int, Picture]]:
        """Shown pictures that operations returned, with the number of their step."""
        return [
            (one.number, picture)
            for one in self.panels
            if one.kind is PanelKind.STEP
            for picture in one.pictures
        ]


def storyboard(trace: Trace) -> Storyboard:
    """Return the panels of a trace.

    >>> from pixel_reasoner.schema.question import Question
    >>> question = Question(id="q1", text="How many?", media=())
    >>> [panel.kind.value for panel in storyboard(Trace(question=question, stop="max_turns")).panels]
    ['overview']
    """
    panels = [Panel(PanelKind.OVERVIEW, pictures=trace.pictures)]
    for turn in trace.turns:
        said = " ".join(message_texts(turn))
        panels[-1] = panels[-1]._replace(text=f"{panels[-1].text} {said}".strip())
        for call, result in calls_and_results(turn):
            panels.append(_step(len(panels), call, result))
    answer = _answer(trace)
    panels[-1] = panels[-1]._replace(text=_without_box(panels[-1].text, trace.answer))
    shown = [one._replace(text=one_line(one.text)) for one in _shorten(panels)]
    return Storyboard(one_line(trace.question.text), shown, answer)


def one_line(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    r"""Return an untrusted text as one line of visible characters, shortened.

    >>> one_line("a\n\tb\u202e"), one_line("abcdef", 4)
    ('a b⟨U+202E⟩', 'abc…')
    """
    words = " ".join(visible(" ".join(text[: 4 * max_chars].split())).split())
    kept, marks = [], 0
    for character in words:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MAX_MARKS:
            kept.append(character)
    if len(kept) <= max_chars and len(text) <= 4 * max_chars:
        return "".join(kept)
    return "".join(kept[: max_chars - 1]).rstrip() + "…"


def _step(number: int, call: ToolCall | None, result: Observation | None) -> Panel:
    words = one_line(_COORDINATES.sub("", call_in_words(call, result)))
    if result is None:
        return Panel(PanelKind.STEP, number, words, problem="no result")
    problem = ""
    if result.error is not None:
        problem = f"{spaced_name(result.error)}: {result.text}"
    elif not (result.pictures or result.text):
        problem = "no picture"
    is_text = result.error is None and not result.pictures
    reply = one_line(result_in_words(result)) if is_text and not problem else ""
    return Panel(PanelKind.STEP, number, words, result.pictures, one_line(problem), reply=reply)


def _without_box(text: str, answer: str | None) -> str:
    r"""Return the last text without `\boxed{}`: the answer has its own panel.

    >>> _without_box(r"I see it. \boxed{6}", "6"), _without_box(r"It is \boxed{red}.", "red")
    ('I see it.', 'It is red.')
    """
    if answer is None:
        return text
    box = rf"\boxed{{{answer}}}"
    return text.removesuffix(box).replace(box, answer).rstrip()


def _shorten(panels: list[Panel]) -> list[Panel]:
    """Return the overview, the first and the last steps, and one panel for those between them."""
    num_omitted = len(panels) - 1 - NUM_FIRST_STEPS - NUM_LAST_STEPS
    if num_omitted <= 1:
        return panels
    omitted = Panel(PanelKind.OMITTED, num_omitted, text=panels[-NUM_LAST_STEPS - 1].text)
    return [*panels[: NUM_FIRST_STEPS + 1], omitted, *panels[-NUM_LAST_STEPS:]]


def _answer(trace: Trace) -> Answer:
    text = (extract_trace_answer(trace) or "").strip()
    option = trace.question.options.get(text.strip("()."), "")
    if option and option != text:
        text = f"{text}: {option}"
    stop = ""
    if not text:
        stop = one_line(trace.error or "") or _STOP_REASONS[trace.stop]
    expected = one_line(" or ".join(trace.question.answer), MAX_ALT_CHARS)
    return Answer(one_line(text), outcome_in_words(grade_reply(trace)), expected, stop)


# --- alt text ---


def alt_text(trace: Trace) -> str:
    """Return a description of a trace for people who cannot see its picture: one paragraph.

    It contains the question, each shown step with its box, and the answer.

    >>> from pixel_reasoner.schema.question import Question
    >>> question = Question(id="q1", text="How many?", media=(), answer=("3",))
    >>> alt_text(Trace(question=question, stop="answered", answer="2"))
    'Question: How many? Answer: 2. It is wrong; expected: 3.'
    """
    return " ".join(_sentences(trace, storyboard(trace)))


def _sentences(trace: Trace, board: Storyboard) -> Iterator[str]:
    yield _sentence(f"Question: {_short(board.question)}")
    if trace.pictures:
        yield _pictures_sentence(trace.pictures)
    for panel in board.panels:
        if panel.kind is PanelKind.OMITTED:
            yield f"{panel.number:,} steps are left out."
        elif panel.kind is PanelKind.STEP:
            yield _step_sentence(panel)
        if panel.text:
            yield f"The model writes: “{_short(panel.text)}”"
    yield answer_sentence(board.answer)


def answer_sentence(answer: Answer) -> str:
    """Return the answer, whether it is right, and the expected answer."""
    parts = [
        _sentence(f"Answer: {_short(answer.text)}" if answer.text else f"No answer: {answer.stop}")
    ]
    if answer.outcome in ("right", "wrong"):
        parts.append(f"It is {answer.outcome}; expected: {answer.expected}.")
    elif answer.expected:
        parts.append(f"Expected: {answer.expected}.")
    return " ".join(parts)


def _pictures_sentence(pictures: tuple[Picture, ...]) -> str:
    first, size = pictures[0], size_in_words(pictures[0].source_px)
    if first.frame is not None:
        return f"The video has {len(pictures)} sampled frames of {size} pixels."
    if len(pictures) > 1:
        return f"There are {len(pictures)} pictures; the first has {size} pixels."
    return f"The picture has {size} pixels."


def _step_sentence(panel: Panel) -> str:
    if panel.problem or panel.reply:
        said = panel.problem or panel.reply
        return _sentence(f"Step {panel.number}: {_short(panel.call)}: {_short(said)}")
    places = [place for one in panel.pictures if (place := _place(one))]
    return _sentence(f"Step {panel.number}: {', '.join([_short(panel.call), *places[:1]])}")


def _place(picture: Picture) -> str:
    if picture.box == WHOLE:
        return ""
    x1, y1, x2, y2 = (round(100 * value) for value in picture.box)
    frame = f"of frame {picture.frame} " if picture.frame is not None else ""
    return (
        f"the box in the {describe_place(picture.box)} {frame}"
        f"({x1}–{x2} % from the left, {y1}–{y2} % from the top)"
    )


def _short(text: str) -> str:
    return one_line(text, MAX_ALT_CHARS)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."
