"""Merge of the shards of one evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.compare import diff_settings
from pixel_reasoner.evals.run import provenance, with_digest
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.files import atomic_writer, write_json
from pixel_reasoner.runs.fingerprint import QuestionDigest
from pixel_reasoner.runs.folder import SETTINGS, SUMMARY, load_run, run_settings
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.media_folders import note_media_folders, noted_media_folders
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Scorer


def merge(runs: Sequence[Path], out: Path, scorer: Scorer = Scorer.TYPED) -> dict[str, Any]:
    """Merge the shards of one run in the order of its questions, and return the summary.

    Raises:
        UsageError: the folders are not shards of one run, or shards are missing.
        OutputError: `out` cannot be written.
    """
    shards, settings = _checked_shards(runs)
    samples = int(settings["task"].get("samples", 1))
    note_media_folders(
        out, {one for shard in shards for one in (shard, *noted_media_folders(shard))}
    )
    digest = QuestionDigest()
    with FolderLock(out):
        with atomic_writer(out / TRACES) as file:
            traces = _written(_interleaved(shards, samples, out), file)
            metrics = summarize(with_digest(traces, digest), None, scorer)
        write_json(settings, out / SETTINGS)
        summary = {**metrics, **provenance(digest, settings, scorer)}
        write_json(summary, out / SUMMARY)
    return summary


def _checked_shards(runs: Sequence[Path]) -> tuple[list[Path], dict[str, Any]]:
    """Return the folders in shard order, and their common settings."""
    shards: dict[int, Path] = {}
    common: dict[str, Any] = {}
    for run in runs:
        settings = run_settings(run)
        task = settings["task"] = dict(settings.get("task", {}))
        shard = task.pop("shard", "1/1")
        settings["of"] = int(shard.partition("/")[2])
        if common and (names := diff_settings(common, settings)):
            name, (one, other) = next(iter(names.items()))
            raise UsageError(
                expected=f"shards of one run: {name} = {json.dumps(one)}",
                got=f"{json.dumps(other)} in {run}",
                fix="name the folders of one run's shards",
            )
        common = settings
        shards[int(shard.partition("/")[0])] = run
    of = common.pop("of")
    if missing := sorted(set(range(1, of + 1)) - set(shards)):
        raise UsageError(
            expected=f"all {of} shards",
            got=f"no {', '.join(f'{number}/{of}' for number in missing)}",
            fix="run them, or name their folders too",
        )
    return [shards[number] for number in sorted(shards)], common


def _interleaved(shards: Sequence[Path], samples: int, out: Path) -> Iterator[Trace]:
    """Yield the traces sample by sample, cycling through the shards: question n is in shard n modulo their number.

    Media inside a shard are named relative to `out`, so that all folders can be moved together.
    """
    for sample in range(samples):
        parts = [_of_sample(shard.absolute(), sample, out.absolute()) for shard in shards]
        for row in zip_longest(*parts):
            yield from (trace for trace in row if trace is not None)


def _of_sample(shard: Path, sample: int, out: Path) -> Iterator[Trace]:
    for trace in load_run(shard):
        if trace.sample == sample:
            media = tuple(_relative(media_item, shard, out) for media_item in trace.question.media)
            question = trace.question.model_copy(update={"media": media})
            yield trace.model_copy(update={"question": question})


def _relative(media_item: MediaItem, shard: Path, out: Path) -> MediaItem:
    if not Path(media_item.path).is_relative_to(shard):
        return media_item
    return media_item.model_copy(update={"path": os.path.relpath(media_item.path, out)})


def _written(traces: Iterator[Trace], file: Any) -> Iterator[Trace]:
    for trace in traces:
        file.write(trace.to_line() + "\n")
        yield trace
