"""Items of a report: a trace as the viewer shows it, with pictures, boxes, calls and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.operations.base import call_as_written
from pixel_reasoner.operations.registry import draw_result
from pixel_reasoner.reports.facets import (
    Reason,
    compute_facets,
    explain,
    facet_value,
    sort_values,
)
from pixel_reasoner.reports.pictures import PictureStore, TracePictures
from pixel_reasoner.reports.schema import (
    BoxFractions,
    BoxKind,
    CallEntry,
    Item,
    ListEntry,
    MaskSegment,
    MediaEntry,
    PartEntry,
    PictureEntry,
    QuestionEntry,
    RegionEntry,
    SourceEntry,
    TraceEntry,
    TurnEntry,
)
from pixel_reasoner.reports.steps import (
    call_in_words,
    result_in_words,
    spaced_name,
    without_tags,
)
from pixel_reasoner.reports.strategies import candidate_entries, strategy_facts
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.repairs import EXPLANATIONS, Repair
from pixel_reasoner.schema.trace import Observation, Picture, Text, Thought, ToolCall, Trace, Turn
from pixel_reasoner.scoring.extraction import extract_trace_answer

MAX_SHOWN_TURNS = 200
"""of a longer trace, the first and the last half of these are shown"""
MAX_SHOWN_CHARS = 100_000
"""longer texts are cut"""
_LIST_CHARS = 160
"""characters of a question in the list"""
_DIGITS = 5


class Asked(NamedTuple):
    """A trace of an item."""

    trace: Trace
    outcome: str
    name: str = ""
    """of its run"""
    facts: Mapping[str, str] = {}
    """further facts, for example terms of the reward"""
    mask: tuple[MaskSegment, ...] = ()
    """training example of the trace with its loss mask"""
    reason: Reason | None = None
    """why it is right or wrong, where no model was asked; None: what `explain` derives from the trace"""
    only_facts: bool = False
    """whether `facts` replace those of the trace, because no model was asked"""
    box_kinds: tuple[BoxKind, ...] = ()
    """of each box of the evidence; empty for annotated evidence"""


def build_item(
    number: int,
    asked: Sequence[Asked],
    store: PictureStore,
    root: Path | None = None,
    facets: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Item, ListEntry]:
    """Return an item and its row in the list.

    Args:
        number: position in the list, from 0.
        asked: traces of one question; the first determines the filters.
        store: receives the pictures.
        root: folder of the run, for messages.
        facets: further filter values.
    """
    first = asked[0]
    question = first.trace.question
    entries = [_trace_entry(one, store, root) for one in asked]
    item = Item(number=number, question=_question(question), traces=tuple(entries))
    thumbnail = ""
    if first.trace.pictures:
        thumbnail = TracePictures(first.trace, store, root).thumbnail(first.trace.pictures[0]).ref
    row = ListEntry(
        id=question.id,
        text=_cut(" ".join(question.text.split()), _LIST_CHARS),
        outcome=first.outcome,
        outcomes=tuple(one.outcome for one in asked) if len(asked) > 1 else (),
        answered=entries[0].answered and _cut(entries[0].answered, _LIST_CHARS),
        thumbnail=thumbnail,
        facets={
            **compute_facets(first.trace, first.outcome),
            **({"reason": (first.reason.label,)} if first.reason else {}),
            **(facets or {}),
        },
        sizes=sort_values(first.trace),
    )
    return item, row


def _question(question: Question) -> QuestionEntry:
    return QuestionEntry(
        id=question.id,
        text=_cut(question.text),
        options=tuple(question.options.items()),
        expected=" or ".join(question.answer),
        category=facet_value(question.category),
    )


def _trace_entry(asked: Asked, store: PictureStore, root: Path | None) -> TraceEntry:
    trace = asked.trace
    pictures = TracePictures(trace, store, root)
    shown, omitted = _shown_turns(trace.turns)
    answered = extract_trace_answer(trace)
    return TraceEntry(
        name=asked.name,
        outcome=asked.outcome,
        answered=None if answered is None else _cut(answered),
        reason=_cut((asked.reason or explain(trace, asked.outcome)).sentence, 1000),
        stop=spaced_name(trace.stop),
        error=_cut(trace.error or ""),
        notes=trace.notes,
        facts=tuple({**({} if asked.only_facts else _facts(trace)), **asked.facts}.items()),
        media=tuple(_media(trace, store, root)),
        sources=tuple(_sources(trace, pictures, asked.box_kinds)),
        pictures=tuple(_pictures(trace, shown, pictures)),
        turns=tuple(_turn(turn, number, pictures) for number, turn in shown),
        omitted_turns=omitted,
        candidates=tuple(candidate_entries(trace, pictures)),
        num_candidates=len(trace.strategy.candidates) if trace.strategy else 0,
        mask=asked.mask,
    )


def _facts(trace: Trace) -> dict[str, str]:
    tokens = [turn.num_new_tokens for turn in trace.turns]
    facts = {"operations": str(len(trace.executed))}
    if trace.rejected:
        facts["rejected calls"] = str(len(trace.rejected))
    if any(tokens):
        facts["new tokens"] = str(sum(one for one in tokens if one))
    if trace.turns and trace.turns[-1].num_prompt_tokens:
        facts["prompt tokens"] = str(trace.turns[-1].num_prompt_tokens)
    if trace.strategy is not None:
        facts |= strategy_facts(trace.strategy)
    facts["seconds"] = f"{trace.seconds:.1f}"
    facts["stop"] = spaced_name(trace.stop)
    return facts


def _shown_turns(turns: Sequence[Turn]) -> tuple[list[tuple[int, Turn]], int]:
    """Return the numbered turns to show, and how many in the middle are left out."""
    numbered = list(enumerate(turns, start=1))
    if len(numbered) <= MAX_SHOWN_TURNS:
        return numbered, 0
    half = MAX_SHOWN_TURNS // 2
    return [*numbered[:half], *numbered[-half:]], len(numbered) - 2 * half


# --- pictures ---


def _media(trace: Trace, store: PictureStore, root: Path | None) -> Iterator[MediaEntry]:
    for medium, group in groupby(trace.pictures, key=lambda picture: picture.medium):
        if medium >= len(trace.question.media):
            continue  # of a damaged file
        item = trace.question.media[medium]
        path = Path(item.path)
        yield MediaEntry(
            kind=item.kind,
            name=_relative_path(path, root),
            pictures=tuple(picture.number for picture in group),
            clip=_clip(trace, medium, path, store) if item.kind == "video" else "",
            start_s=item.start_s or 0.0,
        )


def _clip(trace: Trace, medium: int, path: Path, store: PictureStore) -> str:
    """Return the name of a copy of a video; empty where the trace may not read it, or a browser cannot play it."""
    from pixel_reasoner.errors import InputError
    from pixel_reasoner.media.access import check_access

    if is_url(trace.question.media[medium].path):  # its frames are shown
        return ""

    try:
        check_access(trace.question.media[medium])
    except InputError:
        return ""
    return store.clip(path)


def _relative_path(path: Path, root: Path | None) -> str:
    if root is not None:
        for folder in (root, root.absolute()):
            if path.is_relative_to(folder):
                return str(path.relative_to(folder))
    return path.name


def _sources(
    trace: Trace, pictures: TracePictures, box_kinds: tuple[BoxKind, ...]
) -> Iterator[SourceEntry]:
    """Yield the sources that the page shows: pictures, and frames with crops inside of them."""
    evidence = trace.question.evidence
    used = {
        (one.medium, one.frame)
        for observation in trace.observations
        for picture in observation.pictures
        for one in picture.regions
        if tuple(one.box) != (0, 0, 1, 1)
    }
    for picture in trace.pictures:
        if picture.frame is None or (picture.medium, picture.frame) in used:
            boxes = evidence.boxes if evidence and evidence.image == picture.number else ()
            yield SourceEntry(
                medium=picture.medium,
                frame=picture.frame,
                px=picture.source_px,
                image=pictures.source(picture),
                evidence=tuple(map(_rounded, boxes)),
                box_kinds=box_kinds if boxes else (),
            )


def _pictures(
    trace: Trace, shown: Sequence[tuple[int, Turn]], pictures: TracePictures
) -> Iterator[PictureEntry]:
    evidence = trace.question.evidence
    frames = evidence.frames if evidence else ()
    for picture in trace.pictures:
        yield _picture(picture, 0, pictures, is_evidence=picture.frame in frames)
    for number, turn in shown:
        for observation in turn.observations:
            for picture in observation.pictures:
                yield _picture(picture, number, pictures, is_evidence=picture.frame in frames)


def _picture(
    picture: Picture, turn: int, pictures: TracePictures, *, is_evidence: bool
) -> PictureEntry:
    return PictureEntry(
        number=picture.number,
        turn=turn,
        medium=picture.medium,
        frame=picture.frame,
        time_s=None if picture.time_s is None else round(picture.time_s, 3),
        parent=picture.parent,
        box=_rounded(picture.box),
        source_px=picture.source_px,
        seen_px=picture.seen_px,
        transforms=tuple(
            call_as_written(ToolCall(name=one.name, arguments=one.arguments))
            for one in picture.transforms
        ),
        beside=tuple(
            RegionEntry(medium=one.medium, frame=one.frame, box=_rounded(one.box))
            for one in picture.beside
        ),
        is_evidence=is_evidence,
        view=pictures.view(picture),
    )


def _rounded(box: Box) -> BoxFractions:
    x1, y1, x2, y2 = (round(side, _DIGITS) for side in box)
    return x1, y1, x2, y2


# --- turns ---


def _turn(turn: Turn, number: int, pictures: TracePictures) -> TurnEntry:
    results = {one.call: one for one in turn.observations}
    parts: list[PartEntry] = []
    num_calls = 0
    for part in _parts(turn):
        if isinstance(part, ToolCall):
            entry = _call(part, results.pop(num_calls, None), pictures)
            repairs = tuple(_repair(one) for one in turn.repairs if one.call == num_calls)
            parts.append(PartEntry(call=entry.model_copy(update={"repairs": repairs})))
            num_calls += 1
        elif isinstance(part, Thought):
            if text := without_tags(part.thought):
                parts.append(PartEntry(thought=_cut(text)))
        elif text := without_tags(part.text):
            parts.append(PartEntry(text=_cut(text)))
    parts += [PartEntry(call=_call(None, one, pictures)) for one in results.values()]
    shown = "\n".join(one.thought or one.text or "" for one in parts if one.call is None)
    return TurnEntry(
        number=number,
        parts=tuple(parts),
        is_mistake=turn.mistake,
        is_scripted=turn.scripted,
        raw="" if turn.text.strip() == shown else _cut(turn.text),
        new_tokens=turn.num_new_tokens,
    )


def _parts(turn: Turn) -> Sequence[Thought | Text | ToolCall]:
    """Return the parts of a turn. Traces of schema version 1 have only calls, and the text without them."""
    if any(not isinstance(part, ToolCall) for part in turn.parts):
        return turn.parts
    return (Text(text=turn.text), *turn.parts)


def _call(
    call: ToolCall | None, observation: Observation | None, pictures: TracePictures
) -> CallEntry:
    words = _cut(call_in_words(call, observation))
    if observation is None:
        return CallEntry(words=words)
    numbers = tuple(picture.number for picture in observation.pictures)
    if numbers and not observation.error:
        reply = _cut(observation.text) if observation.text else None
        return CallEntry(words=words, pictures=numbers, reply=reply)
    return CallEntry(
        words=words,
        error=spaced_name(observation.error or ""),
        reply=_cut(result_in_words(observation)),
        pictures=numbers,
        drawings=tuple(map(pictures.drawing, draw_result(call, observation))) if call else (),
    )


def _repair(repair: Repair) -> str:
    """Return what was repaired, and in which argument.

    >>> _repair(Repair(kind="nested_box", call=0, argument="bbox_2d"))
    'bbox_2d: the box was in a list, or was two corners'
    """
    text = EXPLANATIONS.get(repair.kind, spaced_name(repair.kind))  # type: ignore[call-overload]
    return f"{repair.argument}: {text}" if repair.argument else str(text)


def _cut(text: str, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return a text, cut where it is very long.

    >>> _cut("a long text", 6)
    'a lon…'
    """
    if len(text) <= max_chars:
        return text
    if max_chars <= _LIST_CHARS:
        return f"{text[: max_chars - 1]}…"
    return f"{text[:max_chars]} … ({len(text) - max_chars:,} more characters)"
