"""Traces of a lesson: from runs, from own rows, or from a level of PixelWorld. Whatever is skipped is counted and named."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.data.expert import ExpertConfig, Kind, NoTrace, expert_trace
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import InputError
from pixel_reasoner.files import path_exists
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.runs.trace_file import TraceFile
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.jsonl import JsonlSource
from pixel_reasoner.sources.media_folders import data_folders, restricted_row
from pixel_reasoner.sources.rows import SkippedRow, check_rows

WITHOUT = "without"
"""folder of a run with the same questions without operations (`pixel-reasoner eval --compare`)"""
FIRST_VIEW_PX = 512 * 512
"""pixels of the first view of own pictures"""
_RESULT_PX = 768 * 768


class Skipped:
    """Count of skipped traces and rows by reason, and one line each."""

    def __init__(self, on_skipped: Callable[[str, str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._on_skipped = on_skipped

    def add(self, where: str, reason: str, detail: str) -> None:
        """Count one, and pass its line on."""
        self.counts[reason] += 1
        self._on_skipped(f"{where}: {reason}: {detail}", reason)


class Found(NamedTuple):
    """A trace, where it is from, and the trace of the same question without operations."""

    where: str
    trace: Trace
    without: Trace | None = None


def traces_of_runs(
    paths: Sequence[Path], skipped: Skipped, allow_media: Sequence[Path] = ()
) -> Iterator[Found]:
    """Yield the traces of run folders and `traces.jsonl` files. An unreadable file or line is skipped.

    Raises:
        InputError: no path can be read.
    """
    errors: list[InputError] = []
    for path in paths:
        file = TraceFile(path, allow_media, skips_unreadable=True)
        without = _traces_without(path)
        try:
            for number, stored in enumerate(file.scan(), start=1):
                trace = stored.trace
                yield Found(f"{path}, trace {number}", trace, without.get(trace.question.id))
        except InputError as error:
            if len(paths) == 1:
                raise
            errors.append(error)
            skipped.add(str(path), "unreadable_file", error.got)
        else:
            for line in file.unreadable:
                skipped.add(str(path), "unreadable_line", line)
    if errors and len(errors) == len(paths):
        raise errors[0]


def _traces_without(path: Path) -> dict[str, Trace]:
    """Return the traces of a run without operations by question, if they were measured."""
    folder = path / WITHOUT
    if not path_exists(folder / TRACES):
        return {}
    try:
        return {
            one.trace.question.id: one.trace
            for one in TraceFile(folder, skips_unreadable=True).scan()
        }
    except InputError:  # an addition to the lesson, which is complete without it
        return {}


def traces_of_rows(
    data: Path, seed: int, skipped: Skipped, allow_media: Sequence[Path] = ()
) -> Iterator[Found]:
    """Yield expert traces of own rows with evidence. Every third starts at a wrong place, where there is room for one.

    Raises:
        InputError: the data cannot be read.
    """
    source = JsonlSource(data=data)
    folders = [*data_folders(data.absolute()), *allow_media]
    config = ExpertConfig(COMPACT, COMPACT.budgets.at_most(FIRST_VIEW_PX, _RESULT_PX))
    rng = random.Random(f"lesson/rows/{seed}")
    num_traces = 0
    for row in check_rows(source.read(data.parent)):
        if isinstance(row, SkippedRow):
            skipped.add(row.where, row.reason, row.detail)
            continue
        question = restricted_row(row, folders)
        if isinstance(question, SkippedRow):
            skipped.add(question.where, question.reason, question.detail)
            continue
        try:
            trace = _expert_trace(question, num_traces % 3 == 2, rng, config)
        except NoTrace as error:
            skipped.add(f"{data}, {row.id}", error.reason, _explain(error))
        except InputError as error:
            skipped.add(f"{data}, {row.id}", "missing_media", error.got)
        else:
            num_traces += 1
            yield Found(f"{data}, {row.id}", trace)


def _expert_trace(
    question: Question, is_example: bool, rng: random.Random, config: ExpertConfig
) -> Trace:
    """Return an expert trace, as an example of a mistake if it is one and the question has room for it."""
    for kind in (Kind.WRONG_ONCE, Kind.RESELECT) if is_example else ():
        try:
            return expert_trace(question, kind, rng, config)
        except NoTrace:
            continue
    return expert_trace(question, Kind.SINGLE, rng, config)


def _explain(error: NoTrace) -> str:
    if error.reason == "no_evidence":
        return "the row has no boxes, frames or times; add them, or ask a model: pixel-reasoner eval jsonl"
    return str(error)
