"""Traces of a run: check, display of the loss mask, export and import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.data.check import Verdict, check_traces
from pixel_reasoner.data.encode import encode, mask_spans
from pixel_reasoner.data.expert import classify_trace
from pixel_reasoner.data.formats import export_message_list, export_trl, import_message_list
from pixel_reasoner.data.question_rows import export_questions
from pixel_reasoner.data.verl_rows import export_verl
from pixel_reasoner.errors import InputError, UsageError, require_extra
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.media_folders import note_media_folders
from pixel_reasoner.schema.question import load_questions
from pixel_reasoner.schema.trace import Trace, save_traces
from pixel_reasoner.sources.media_folders import data_folders
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter

WRITERS: dict[str, Callable[[Path, Path, Sequence[Path]], int]] = {
    "trl": export_trl,
    "message_list": export_message_list,
    "verl": export_verl,
    "questions": export_questions,
}
"""export format -> function that writes it and returns the number of rows"""


class MaskedTrace(NamedTuple):
    """One trace as tokens of a model."""

    kind: str
    """kind of the trace"""
    question_id: str
    spans: list[tuple[bool, list[str]]]
    """runs of tokens, without image tokens: (whether the loss covers them, text)"""
    num_tokens: int
    num_trained: int


def check(
    source: Path,
    *,
    held_out: Path | None = None,
    model: str | None = None,
    progress: ProgressReporter | None = None,
    allow_media: Sequence[Path] = (),
) -> Verdict:
    """Check the traces of a run folder or file.

    Args:
        source: the folder or file.
        held_out: file of questions that must not be in the traces.
        model: model for token counts; None: no counts.
        progress: shows the number of traces.
        allow_media: folders, in addition to the folder of the traces, from which they may name media
        (`runs.folder.load_run`).

    Raises:
        InputError: a file that cannot be read.
        ModelError: no such model.
    """
    ids = frozenset(q.id for q in load_questions(held_out)) if held_out else frozenset()
    count_tokens = _token_counter(model) if model is not None else None
    update = (progress or NoProgress()).start("checking", None)
    num_traces = 0

    def on_trace() -> None:
        nonlocal num_traces
        num_traces += 1
        update(num_traces)

    return check_traces(
        load_run(source, allow_media), held_out=ids, count_tokens=count_tokens, on_trace=on_trace
    )


def masked_traces(
    source: Path, model: str, allow_media: Sequence[Path] = ()
) -> Iterator[MaskedTrace]:
    """Yield the first trace of each kind as tokens of a model, with the loss mask. `allow_media` is the same as for `check`.

    Raises:
        InputError: a file that cannot be read.
        ModelError: no such model.
    """
    processor = _processor(model)
    kinds: set[str] = set()
    for trace in load_run(source, allow_media):
        kind = classify_trace(trace) or "trace"
        if kind not in kinds:
            kinds.add(kind)
            yield _masked(trace, kind, processor)


def _masked(trace: Trace, kind: str, processor: Any) -> MaskedTrace:
    encoded = encode(trace, processor)
    spans = mask_spans(encoded, processor)
    return MaskedTrace(kind, trace.question.id, spans, len(encoded.token_ids), sum(encoded.trained))


def export_traces(
    source: Path, out: Path, to: str = "trl", allow_media: Sequence[Path] = ()
) -> int:
    """Write traces in another format and return the number of rows. `allow_media` is the same as for `check`.

    Raises:
        UsageError: an unknown format.
        InputError: traces that cannot be read.
        OutputError: `out` cannot be written.
    """
    if to not in WRITERS:
        raise UsageError(expected=f"--to {' or '.join(WRITERS)}", got=to, fix="name one of these")
    return WRITERS[to](source, out, allow_media)


def import_traces(
    source: Path,
    out: Path,
    on_dropped: Callable[[SkippedRow], None] = lambda row: None,
    allow_media: Sequence[Path] = (),
) -> tuple[int, dict[str, int]]:
    """Convert PixelReasoner-SFT-Data to `traces.jsonl`. Every call is executed again.

    Its pictures are loaded only from below its own folder and `allow_media`.

    Returns:
        Number of traces, and number of dropped rows by reason.

    Raises:
        InputError: a file that cannot be read, or without any usable row.
        OutputError: `out` cannot be written.
    """
    dropped: Counter[str] = Counter()

    def traces() -> Iterator[Trace]:
        is_empty = True
        for row in import_message_list(source.absolute(), allow_media):
            if isinstance(row, SkippedRow):
                dropped[row.reason] += 1
                on_dropped(row)
            else:
                is_empty = False
                yield row
        if is_empty:
            counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            raise InputError(
                expected="rows whose calls can be executed again",
                got=f"none in {source} (dropped: {counts or 'nothing, there are no rows'})",
                fix="give a file of PixelReasoner-SFT-Data with its pictures next to it",
            )

    with FolderLock(out):
        note_media_folders(out, [*data_folders(source.absolute()), *allow_media])
        return save_traces(traces(), out / "traces.jsonl"), dict(dropped)


def _token_counter(model: str) -> Callable[[Trace], int]:
    processor = _processor(model)
    return lambda trace: len(encode(trace, processor).token_ids)


def _processor(model: str) -> Any:
    with require_extra("local", "run a model"):
        from pixel_reasoner.models.local import load_processor
    return load_processor(str(local_model(model)))
