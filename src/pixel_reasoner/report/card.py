"""One trace as a card: the question, what the model was shown, and each step with what came back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import escape
from itertools import groupby

from pixel_reasoner.dialects import CALL_TAGS
from pixel_reasoner.operations.base import call_as_written
from pixel_reasoner.operations.registry import describe_call
from pixel_reasoner.report.figure import Mark, Shots, color, figure
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture, Trace, Turn
from pixel_reasoner.scoring.extraction import answer_of
from pixel_reasoner.scoring.grading import Grade, Outcome, grade_reply

Facets = dict[str, list[str]]
"""name of a filter -> the values that a trace has there"""

SIGNS = {"right": "✓", "wrong": "✗", "unparsed": "?", "ungraded": "–"}
_CALLS = "|".join(rf"{re.escape(tag)}.*?(?:{re.escape(end)}|\Z)" for tag, end in CALL_TAGS)
_MACHINE_TEXT = re.compile(rf"{_CALLS}|</?(?:think|answer)>", re.DOTALL)
_WORDS = {Outcome.CORRECT: "right", Outcome.WRONG: "wrong", Outcome.UNPARSED: "unparsed"}
_KEY_LOOKED = '<span class="key">where it looked</span>'
_KEY_EVIDENCE = '<span class="key dashed">where the answer is</span>'
_LOOKS = {True: "needs a look", False: "overview suffices", None: "unknown"}


def card(trace: Trace, number: int, facets: Facets, unshown: Counter[str]) -> Iterator[str]:
    """One trace, in pieces.

    Args:
        trace: what is shown.
        number: its place on the page, from 1.
        facets: its values by filter.
        unshown: where pictures that cannot be shown are counted, by reason.
    """
    shots = Shots(trace, unshown)
    data = " ".join(f'data-{name}="{escape(chr(10).join(of))}"' for name, of in facets.items())
    yield f'<article class="trace" id="t{number}" tabindex="-1" aria-labelledby="t{number}-q" {data}>\n'
    yield _heading(trace, number, facets)
    for _, of_medium in groupby(trace.pictures, key=lambda picture: picture.medium):
        pictures = list(of_medium)
        show = _pairs if pictures[0].frame is None else _strip
        yield show(pictures, trace, shots, number)
    if trace.turns:
        turns = enumerate(trace.turns, start=1)
        yield '<ol class="turns">\n'
        yield from (_turn(turn, index, trace, shots, number) for index, turn in turns)
        yield _end(trace, facets["outcome"][0])
        yield "</ol>\n"
    yield "</article>\n"


def facets_of(trace: Trace, graded: Callable[[Trace], Grade | None] = grade_reply) -> Facets:
    """What a trace can be filtered by.

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
        "look": [_LOOKS[trace.question.needs_look]],
    }


def _outcome(grade: Grade | None) -> str:
    return _WORDS[grade.outcome] if grade else "ungraded"


def _operations(trace: Trace) -> list[str]:
    executed = len(trace.executed)
    return ["2+" if executed >= 2 else str(executed), *(["refused"] if trace.rejected else [])]


def _words(name: str) -> str:
    """A name of an enum as a person writes it."""
    return name.replace("_", " ")


def _heading(trace: Trace, number: int, facets: Facets) -> str:
    """The question, the answers, and how it went."""
    question = trace.question
    calls = f"{len(trace.executed)} operations" if len(trace.executed) != 1 else "1 operation"
    if trace.rejected:
        calls += f", {len(trace.rejected)} refused"
    facts = [question.id, question.category, _words(trace.stop), calls, f"{trace.seconds:.1f} s"]
    if question.needs_look is not None:
        facts.insert(2, _LOOKS[question.needs_look])
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


def _turn(turn: Turn, index: int, trace: Trace, shots: Shots, number: int) -> str:
    """One message of the model and what came back."""
    link, seen = f"t{number}-{index}", turn.observation
    thought = _MACHINE_TEXT.sub("", turn.text).strip()
    words = [f'<p class="thought">{escape(thought)}</p>'] if thought else []
    if turn.call or seen:
        mistake = '<span class="mistake">a deliberate mistake</span>' if turn.mistake else ""
        words.append(f'<p class="call">{escape(_call_in_words(turn))}{mistake}</p>')
    if seen and seen.error:
        why = f"<b>Refused, {_words(seen.error)}.</b> {escape(seen.text)}"
        words.append(f'<p class="refusal">{why}</p>')
    elif seen and not seen.pictures:
        words.append(f'<p class="reply">{escape(seen.text)}</p>')
    if turn.text.strip() != thought:
        words.append(
            f"<details><summary>as written</summary><pre>{escape(turn.text)}</pre></details>"
        )
    results = "".join(
        _result(picture, trace, shots, number, link) for picture in (seen.pictures if seen else ())
    )
    kind = "refused" if seen and seen.error else color(index)
    return (
        f'<li class="turn {kind}" id="{link}" data-link="{link}">'
        f'<span class="dot" aria-hidden="true">{index}</span><div class="words">{"".join(words)}</div>'
        + (f'<div class="results">{results}</div>' if results else "")
        + "</li>\n"
    )


def _end(trace: Trace, outcome: str) -> str:
    """How it ended, as the last step of the timeline."""
    if trace.answer is None:
        end = f'<span class="none">No answer: {_words(trace.stop)}</span>'
    else:
        end = f"Answer <b>{escape(trace.answer)}</b>"
    return (
        f'<li class="turn end {outcome}"><span class="dot" aria-hidden="true">{SIGNS[outcome]}</span>'
        f'<p class="words">{end}</p></li>\n'
    )


def _call_in_words(turn: Turn) -> str:
    """What a turn asked for: in words where it was done, as the model put it where it was refused."""
    if turn.call is None:
        return "a call that could not be read"
    is_done = turn.observation is not None and turn.observation.pictures
    return describe_call(turn.call) if is_done else call_as_written(turn.call)


# ---- what the model was shown first, and what came back


def _pairs(pictures: list[Picture], trace: Trace, shots: Shots, number: int) -> str:
    """Each picture as the model saw it, beside its source with the boxes it looked into."""
    return "".join(_pair(picture, trace, shots, number) for picture in pictures)


def _pair(picture: Picture, trace: Trace, shots: Shots, number: int) -> str:
    name = f"Picture {picture.number}"
    seen = shots.view(picture.number, f"{name} as the model saw it")
    source = shots.source(picture.number, f"{name} at full resolution")
    looks = _marks(_looks(trace, picture), WHOLE, number)
    evidence = _evidence_marks(trace.question, picture)
    keys = [_KEY_LOOKED] * bool(looks) + [_KEY_EVIDENCE] * bool(evidence)
    left = f"<b>{name}</b> as the model saw it, {_size(picture.seen_px)} px"
    right = " · ".join([f"<b>Source</b>, {_size(picture.source_px)} px", *keys])
    shape = _shape(picture.source_px)
    return (
        f'<div class="pair">{figure(seen, left, kind=shape)}'
        f"{figure(source, right, [*looks, *evidence], shape)}</div>\n"
    )


def _strip(pictures: list[Picture], trace: Trace, shots: Shots, number: int) -> str:
    """The sampled frames of a video in a row, selected and telling ones marked."""
    frames = "".join(_frame_item(picture, trace, shots, number) for picture in pictures)
    evidence = bool(trace.question.evidence and trace.question.evidence.frames)
    selected = any(_looks(trace, picture) for picture in pictures)
    keys = [
        f"{len(pictures)} frames as the model saw them, {_size(pictures[0].seen_px)} px each",
        *[_KEY_LOOKED] * selected,
        *[_KEY_EVIDENCE] * evidence,
    ]
    return f'<ol class="strip">{frames}</ol><p class="legend">{" · ".join(keys)}</p>\n'


def _frame_item(picture: Picture, trace: Trace, shots: Shots, number: int) -> str:
    looks = _looks(trace, picture)
    chosen = [turn for turn, look in looks if look.box == WHOLE]
    boxes = _marks([(turn, look) for turn, look in looks if look.box != WHOLE], WHOLE, number)
    evidence = trace.question.evidence.frames if trace.question.evidence else ()
    kinds = [f"selected {color(chosen[0])}"] if chosen else []
    kinds += ["evidence"] if picture.frame in evidence else []
    img = shots.view(picture.number, f"Frame {picture.frame} as the model saw it")
    caption = f"<b>{picture.frame}</b> {_time(picture)}"
    link = f"t{number}-{chosen[0]}" if chosen else ""
    return f"<li>{figure(img, caption, boxes, ' '.join(kinds), link)}</li>"


def _result(picture: Picture, trace: Trace, shots: Shots, number: int, link: str) -> str:
    """A picture that came back, with the boxes of later looks into it."""
    name = f"Picture {picture.number}"
    looks = [(turn, look) for turn, look in _came_back(trace) if look.parent == picture.number]
    frame = f", frame {picture.frame} {_time(picture)}" if picture.frame is not None else ""
    caption = f"<b>{name}</b>{frame}<br>{_size(picture.source_px)} → {_size(picture.seen_px)} px"
    img = shots.view(picture.number, f"{name} as the model saw it")
    return figure(img, caption, _marks(looks, picture.box, number), _shape(picture.seen_px), link)


def _came_back(trace: Trace) -> list[tuple[int, Picture]]:
    """Every picture that an operation returned, with the number of its turn."""
    return [
        (index, picture)
        for index, turn in enumerate(trace.turns, start=1)
        if turn.observation
        for picture in turn.observation.pictures
    ]


def _looks(trace: Trace, at: Picture) -> list[tuple[int, Picture]]:
    """Later looks at what a first picture shows, into its crops too."""
    return [
        (turn, picture)
        for turn, picture in _came_back(trace)
        if (picture.medium, picture.frame) == (at.medium, at.frame)
    ]


def _marks(looks: Iterable[tuple[int, Picture]], shown: Box, number: int) -> list[Mark]:
    return [
        Mark(look.box.relative_to(shown), str(look.number), turn, f"t{number}-{turn}")
        for turn, look in looks
    ]


def _evidence_marks(question: Question, picture: Picture) -> list[Mark]:
    evidence = question.evidence
    if evidence is None or evidence.image != picture.number:
        return []
    return [Mark(box) for box in evidence.boxes]


def _shape(size: Size) -> str:
    """A class for pictures that would be too large or too small at the usual width."""
    width, height = size
    return "tall" if height > 1.6 * width else "wide" if width > 2 * height else ""


def _size(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


def _time(picture: Picture) -> str:
    """When a frame is shown, in minutes and seconds.

    >>> _time(Picture(number=1, medium=0, time_s=63.25, source_px=(1, 1), seen_px=(1, 1)))
    '1:03.2'
    """
    if picture.time_s is None:
        return ""
    return f"{int(picture.time_s // 60)}:{picture.time_s % 60:04.1f}"
