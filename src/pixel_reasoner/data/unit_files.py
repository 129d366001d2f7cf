"""Files of a synthesis run: traces, dropped rows and media of its units, appended in order to the store of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.data.progress import Progress
from pixel_reasoner.files import TEMPORARY_PREFIX, cannot_write, read_json_object
from pixel_reasoner.runs.store import TRACES, RunStore
from pixel_reasoner.sources.base import MEDIA
from pixel_reasoner.sources.rows import SkippedRow

_CHECKPOINT_EVERY = 64
"""units between two checkpoints"""
PARTIAL_TRACES = f"{TRACES}.part"
_PENDING_MEDIA = f"{MEDIA}/{TEMPORARY_PREFIX}ahead"
"""folder of media of units that are not yet written: workers run ahead, and a kill must leave no unused media in the
run"""
DROPPED = "dropped.jsonl"


class UnitResult(NamedTuple):
    """Result of a unit."""

    lines: list[str]
    """traces as JSON lines"""
    kinds: list[str]
    dropped: list[SkippedRow]
    media: list[str]
    """relative media paths of the unit"""

    def at_most(self, count: int) -> UnitResult:
        """Return the result with at most `count` traces."""
        return self._replace(lines=self.lines[:count], kinds=self.kinds[:count])


def pending_media_dir(out: Path) -> Path:
    """Return the media root of a unit until it is written. `append_unit` then moves its media into the run."""
    return out / _PENDING_MEDIA


def started_progress(store: RunStore) -> Progress:
    """Return the progress of the last checkpoint. Without one, the run starts with empty files."""
    if store.progress is None:
        note = store.folder / "progress.json"  # of a run started by an older version
        old = read_json_object(note, "progress", "delete the folder") if note.exists() else {}
        sizes = dict.fromkeys(store.segments, 0) | dict(
            zip((PARTIAL_TRACES, DROPPED), old.get("sizes", (0, 0)), strict=False)
        )
        store.checkpoint(Progress(old).as_dict(), sizes)
        note.unlink(missing_ok=True)
    return Progress(store.progress)


def write_units(
    store: RunStore,
    progress: Progress,
    results: Iterable[UnitResult],
    quota: int,
    on_traces: Callable[[int], None],
) -> None:
    """Append the results of units until the run has enough traces."""
    sizes = store.sizes()
    try:
        for written in results:
            append_unit(store, written := written.at_most(quota - progress.count))
            progress.add(written)
            sizes = store.sizes()
            if progress.units % _CHECKPOINT_EVERY == 0:
                store.checkpoint(progress.as_dict())
            on_traces(progress.count)
            if progress.count == quota:
                break
    except OSError:  # a full disk cannot store a checkpoint either
        raise
    except BaseException:
        store.checkpoint(progress.as_dict(), sizes)
        raise


def append_unit(store: RunStore, written: UnitResult) -> None:
    """Move the media of a unit into the run, then append its traces and dropped rows.

    Raises:
        OutputError: the disk is full or gone.
    """
    for path in written.media:
        _move(pending_media_dir(store.folder) / path, store.folder / path)
    rows = (json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in written.dropped)
    store.segments[PARTIAL_TRACES].append("".join(written.lines).encode())
    store.segments[DROPPED].append("".join(rows).encode())


def _move(path: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    except FileNotFoundError:
        return  # media that the source did not write
    except OSError as error:
        raise cannot_write(target, error) from error
