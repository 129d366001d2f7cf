"""One trace as a card: the question, its pictures, and each turn with its calls and results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html import escape
from itertools import groupby

from pixel_reasoner.operations.base import call_as_written
from pixel_reasoner.operations.registry import describe_call
from pixel_reasoner.report.figure import Mark, TracePictures, color, figure
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Observation, Picture, Thought, ToolCall, Trace, Turn
from pixel_reasoner.scoring.extraction import answer_of
from pixel_reasoner.scoring.grading import Grade, Outcome, grade_reply

Facets = dict[str, list[str]]
"""name of a filter -> values of a trace"""

SIGNS = {"right": "✓", "wrong": "✗", "unparsed": "?", "ungraded": "–"}
_WORDS = {Outcome.CORRECT: "right", Outcome.WRONG: "wrong", Outcome.UNPARSED: "unparsed"}
_KEY_LOOKED = '<span class="key">where it looked</span>'
_KEY_EVIDENCE = '<span class="key dashed">where the answer is</span>'
_NEEDS_LOOK = {True: "needs a look", False: "overview suffices", None: "unknown"}


def card(trace: Trace, number: int, facets: Facets, unshown: Counter[str]) -> Iterator[str]:
    """Yield the HTML of one trace, in pieces.

    Args:
        trace: what is shown.
        number: its number on the page, from 1.
        facets: its values by filter.
        unshown: counts pictures that cannot be shown, by reason.
    """
    pictures = TracePictures(trace, unshown)
    data = " ".join(f'data-{name}="{escape(chr(10).join(of))}"' for name, of in facets.items())
    yield f'<article class="trace" id="t{number}" tabindex="-1" aria-labelledby="t{number}-q" {data}>\n'
    yield _heading(trace, number, facets)
    for _, of_medium in groupby(trace.pictures, key=lambda picture: picture.medium):
        group = list(of_medium)
        show = _pairs if group[0].frame is None else _strip
        yield show(group, trace, pictures, number)
    if trace.turns:
        turns = enumerate(trace.turns, start=1)
        yield '<ol class="turns">\n'
        yield from (_turn(turn, index, trace, pictures, number) for index, turn in turns)
        yield _end(trace, facets["outcome"][0])
        yield "</ol>\n"
    yield "</article>\n"


def facets_of(trace: Trace, graded: Callable[[Trace], Grade | None] = grade_reply) -> Facets:
    """Return the values of a trace for the filters of the page.

    >>> from pixel_reasoner.schema.trace import StopReason
    >>> question = Question(id="q1", text="How many?", media=(), category="count")
    >>> found = facets_of(Trace(question=question, stop=StopReason.NO_ANSWER))
    >>> found["stop"], found["operations"], found["category"]
    (['no answer'], ['0'], ['count'])
    """
    return {
        "outcome": [_outcome(graded(trace))],
        "stop": [_words(trace.stop)],
        "operations": _operations(trace),
        "category": [trace.question.category or "none"],
        "look": [_NEEDS_LOOK[trace.question.needs_look]],
    }


def _outcome(grade: Grade | None) -> str:
    return _WORDS[grade.outcome] if grade else "ungraded"


def _operations(trace: Trace) -> list[str]:
    executed = len(trace.executed)
    return ["2+" if executed >= 2 else str(executed), *(["refused"] if trace.rejected else [])]


def _words(name: str) -> str:
    """Return the name of an enum member as words."""
    return name.replace("_", " ")


def _heading(trace: Trace, number: int, facets: Facets) -> str:
    """Return the question, its answers and metadata."""
    question = trace.question
    calls = f"{len(trace.executed)} operations" if len(trace.executed) != 1 else "1 operation"
    if trace.rejected:
        calls += f", {len(trace.rejected)} refused"
    facts = [question.id, question.category, _words(trace.stop), calls, f"{trace.seconds:.1f} s"]
    if question.needs_look is not None:
        facts.insert(2, _NEEDS_LOOK[question.needs_look])
    meta = "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact)
    options = "".join(
        f"<li><b>{escape(letter)}</b> {escape(text)}</li>"
        for letter, text in question.options.items()
    )
    error = f'<p class="error"><b>Failed.</b> {escape(trace.error)}</p>' if trace.error else ""
    return "\n".join(
        [
            f'<p class="meta"><span class="number">{number}</span>{meta}</p>',
            f'<h2 id="t{number}-q">{escape(question.text)}</h2>',
            f'<ol class="options">{options}</ol>' if options else "",
            _verdict(answer_of(trace), question, facets["outcome"][0]),
            error,
            "",
        ]
    )


def _verdict(answer: str | None, question: Question, outcome: str) -> str:
    none = '<span class="none">{}</span>'
    given = none.format("no answer") if answer is None else escape(answer)
    expected = escape(" or ".join(question.answer)) or none.format("not known")
    return (
        f'<dl class="verdict"><div><dt class="mark {outcome}">{SIGNS[outcome]} {outcome}</dt></div>'
        f"<div><dt>answered</dt><dd>{given}</dd></div><div><dt>expected</dt><dd>{expected}</dd></div></dl>"
    )


def _turn(turn: Turn, index: int, trace: Trace, pictures: TracePictures, number: int) -> str:
    """Return one message of the model, its calls and their results."""
    link = f"t{number}-{index}"
    words = [f'<p class="thought">{escape(text)}</p>' for text in _texts(turn)]
    for call, observation in _calls_and_results(turn):
        words += _call(call, observation, turn, trace)
    if turn.text.strip() != "\n".join(_texts(turn)):
        words.append(
            f"<details><summary>as written</summary><pre>{escape(turn.text)}</pre></details>"
        )
    results = "".join(
        _result(picture, trace, pictures, number, link)
        for observation in turn.observations
        for picture in observation.pictures
    )
    is_refused = bool(turn.observations) and not turn.has_executed_call
    kind = "refused" if is_refused else color(index)
    return (
        f'<li class="turn {kind}" id="{link}" data-link="{link}">'
        f'<span class="dot" aria-hidden="true">{index}</span><div class="words">{"".join(words)}</div>'
        + (f'<div class="results">{results}</div>' if results else "")
        + "</li>\n"
    )


def _texts(turn: Turn) -> list[str]:
    """Return the thoughts and words of a turn, without calls and tags.

    >>> from pixel_reasoner.schema.trace import Text, Thought
    >>> parts = Thought(thought="It is small."), Text(text="I zoom in.")
    >>> _texts(Turn(text="<think>It is small.</think>I zoom in.", parts=parts))
    ['It is small.', 'I zoom in.']
    """
    texts = [
        part.thought if isinstance(part, Thought) else part.text
        for part in turn.parts
        if not isinstance(part, ToolCall)
    ] or [turn.text]
    return [text for one in texts if (text := _tags().sub("", one).strip())]


@cache
def _tags() -> re.Pattern[str]:
    """Return a pattern of calls and tags in the text of a turn."""
    from pixel_reasoner.dialects import CALL_TAGS  # loads Pillow and PyAV

    calls = "|".join(rf"{re.escape(tag)}.*?(?:{re.escape(end)}|\Z)" for tag, end in CALL_TAGS)
    return re.compile(rf"{calls}|</?(?:think|answer)>", re.DOTALL)


def _calls_and_results(turn: Turn) -> Iterator[tuple[ToolCall | None, Observation | None]]:
    """Yield each result with its call, None where the call could not be read; then calls without a result."""
    calls = dict(enumerate(turn.calls))
    for observation in turn.observations:
        yield calls.pop(observation.call, None), observation
    for call in calls.values():
        yield call, None


def _call(
    call: ToolCall | None, observation: Observation | None, turn: Turn, trace: Trace
) -> Iterator[str]:
    mistake = '<span class="mistake">a deliberate mistake</span>' if turn.mistake else ""
    yield f'<p class="call">{escape(_call_in_words(call, observation))}{mistake}</p>'
    if observation and observation.error:
        reason = f"<b>Refused, {_words(observation.error)}.</b> {escape(observation.text)}"
        yield f'<p class="refusal">{reason}</p>'
    elif observation and not observation.pictures:
        yield f'<p class="reply">{escape(observation.text)}</p>'


def _end(trace: Trace, outcome: str) -> str:
    """Return the end of the rollout, as the last step of the timeline."""
    if trace.answer is None:
        end = f'<span class="none">No answer: {_words(trace.stop)}</span>'
    else:
        end = f"Answer <b>{escape(trace.answer)}</b>"
    return (
        f'<li class="turn end {outcome}"><span class="dot" aria-hidden="true">{SIGNS[outcome]}</span>'
        f'<p class="words">{end}</p></li>\n'
    )


def _call_in_words(call: ToolCall | None, observation: Observation | None) -> str:
    """Return an executed call in words, and a rejected one as the model wrote it."""
    if call is None:
        return "a call that could not be read"
    is_executed = observation is not None and observation.pictures
    return describe_call(call) if is_executed else call_as_written(call)


# ---- pictures of the question, and pictures that operations returned


def _pairs(group: list[Picture], trace: Trace, pictures: TracePictures, number: int) -> str:
    """Return each picture as the model received it, next to its source with the boxes of later crops."""
    return "".join(_pair(picture, trace, pictures, number) for picture in group)


def _pair(picture: Picture, trace: Trace, pictures: TracePictures, number: int) -> str:
    name = f"Picture {picture.number}"
    seen = pictures.view(picture.number, f"{name} as the model saw it")
    source = pictures.source(picture.number, f"{name} at full resolution")
    crops = _marks(_crops_of(trace, picture), WHOLE, number)
    evidence = _evidence_marks(trace.question, picture)
    keys = [_KEY_LOOKED] * bool(crops) + [_KEY_EVIDENCE] * bool(evidence)
    left = f"<b>{name}</b> as the model saw it, {_size(picture.seen_px)} px"
    right = " · ".join([f"<b>Source</b>, {_size(picture.source_px)} px", *keys])
    shape = _shape(picture.source_px)
    return (
        f'<div class="pair">{figure(seen, left, kind=shape)}'
        f"{figure(source, right, [*crops, *evidence], shape)}</div>\n"
    )


def _strip(group: list[Picture], trace: Trace, pictures: TracePictures, number: int) -> str:
    """Return the sampled frames of a video in a row. Selected ones and those with evidence are marked."""
    frames = "".join(_frame_item(picture, trace, pictures, number) for picture in group)
    evidence = bool(trace.question.evidence and trace.question.evidence.frames)
    selected = any(_crops_of(trace, picture) for picture in group)
    keys = [
        f"{len(group)} frames as the model saw them, {_size(group[0].seen_px)} px each",
        *[_KEY_LOOKED] * selected,
        *[_KEY_EVIDENCE] * evidence,
    ]
    return f'<ol class="strip">{frames}</ol><p class="legend">{" · ".join(keys)}</p>\n'


def _frame_item(picture: Picture, trace: Trace, pictures: TracePictures, number: int) -> str:
    crops = _crops_of(trace, picture)
    chosen = [turn for turn, crop in crops if crop.box == WHOLE]
    boxes = _marks([(turn, crop) for turn, crop in crops if crop.box != WHOLE], WHOLE, number)
    evidence = trace.question.evidence.frames if trace.question.evidence else ()
    kinds = [f"selected {color(chosen[0])}"] if chosen else []
    kinds += ["evidence"] if picture.frame in evidence else []
    img = pictures.view(picture.number, f"Frame {picture.frame} as the model saw it")
    caption = f"<b>{picture.frame}</b> {_time(picture)}"
    link = f"t{number}-{chosen[0]}" if chosen else ""
    return f"<li>{figure(img, caption, boxes, ' '.join(kinds), link)}</li>"


def _result(picture: Picture, trace: Trace, pictures: TracePictures, number: int, link: str) -> str:
    """Return a picture that an operation returned, with the boxes of later crops of it."""
    name = f"Picture {picture.number}"
    crops = [
        (turn, crop) for turn, crop in _returned_pictures(trace) if crop.parent == picture.number
    ]
    frame = f", frame {picture.frame} {_time(picture)}" if picture.frame is not None else ""
    caption = f"<b>{name}</b>{frame}<br>{_size(picture.source_px)} → {_size(picture.seen_px)} px"
    img = pictures.view(picture.number, f"{name} as the model saw it")
    return figure(img, caption, _marks(crops, picture.box, number), _shape(picture.seen_px), link)


def _returned_pictures(trace: Trace) -> list[tuple[int, Picture]]:
    """Return every picture that an operation returned, with the number of its turn."""
    return [
        (index, picture)
        for index, turn in enumerate(trace.turns, start=1)
        for observation in turn.observations
        for picture in observation.pictures
    ]


def _crops_of(trace: Trace, at: Picture) -> list[tuple[int, Picture]]:
    """Return all later pictures of the same source as a picture of the question, crops of crops included."""
    return [
        (turn, picture)
        for turn, picture in _returned_pictures(trace)
        if (picture.medium, picture.frame) == (at.medium, at.frame)
    ]


def _marks(crops: Iterable[tuple[int, Picture]], shown: Box, number: int) -> list[Mark]:
    return [
        Mark(crop.box.relative_to(shown), str(crop.number), turn, f"t{number}-{turn}")
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


def _size(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


def _time(picture: Picture) -> str:
    """Return the time of a frame in minutes and seconds.

    >>> _time(Picture(number=1, medium=0, time_s=63.25, source_px=(1, 1), seen_px=(1, 1)))
    '1:03.2'
    """
    if picture.time_s is None:
        return ""
    return f"{int(picture.time_s // 60)}:{picture.time_s % 60:04.1f}"
