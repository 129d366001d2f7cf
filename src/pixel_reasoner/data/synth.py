"""Many expert traces in a folder: deterministic, in parallel, and resumable.

    DIR/settings.json    everything that decides the traces
    DIR/traces.jsonl     appears when all is written; until then `traces.jsonl.part`
    DIR/dropped.jsonl    what gave no trace, and why
    DIR/media/           rendered pictures and clips (PixelWorld)
    DIR/summary.json     counts by kind, dropped by reason, traces per second

A run is a sequence of units (a scene, or a row of a data set). A unit's traces depend on it and the settings
alone, and units are written in order: so the bytes are the same with any number of workers, and a run that was killed
goes on after the last unit it noted in `progress.json`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.data.expert import VERSION, ExpertConfig, Kind, NoTrace, expert_trace, kind_of
from pixel_reasoner.data.labeller import Labeller, Labelling
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.files import cannot_write, keep_settings, write_json
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.annotated import scene_seeds
from pixel_reasoner.sources.rows import Row, SkippedRow
from pixel_reasoner.world import VERSION as WORLD_VERSION
from pixel_reasoner.world import Family, make_scene, split_seed, write_media
from pixel_reasoner.world.render import medium_of

PICTURE_SHARES = {Kind.SINGLE: 0.3, Kind.WRONG_ONCE: 0.2, Kind.WRONG_TWICE: 0.2, Kind.TOO_WIDE: 0.3}
VIDEO_SHARES = {Kind.SINGLE: 0.9, Kind.RESELECT: 0.1}
"""the paper's shares (arXiv 2505.15966, table 2)"""
TEXT_SHARE = round(2000 / 7500, 4)
"""the paper's share of traces without an operation"""

Unit = tuple[Family, int] | Row | list[Row]
"""a scene by family and number, a row of a data set, or the rows of a scene"""
_CHUNK = 4
"""units that a worker takes at once"""


class SynthSettings(Record):
    """Everything that decides the traces of a run."""

    source: str
    """`pixelworld` or where the rows come from"""
    count: int
    """traces over all shards"""
    seed: int = 0
    families: tuple[Family, ...] = ()
    shard: tuple[int, int] = (0, 1)
    """which part of how many"""
    per_scene: int = 6
    """traces of one scene"""
    text_share: float = TEXT_SHARE
    refused_share: float = 0.05
    """of the traces with a look"""
    mistakes: bool = True
    """whether some looks go wrong first, as the shares say; else every trace looks once, and rightly"""
    dialect: str = "compact"
    budgets: PixelBudgets
    margin: float = 0.25
    min_side: float = 0.12
    version: int = VERSION
    world_version: int = WORLD_VERSION
    regions: int | None = None
    """of one picture, where a data set has regions and no questions"""
    labelling: Labelling | None = None
    """whose words are in the traces beside those of templates"""

    @property
    def quota(self) -> int:
        """How many traces this shard writes."""
        nth, of = self.shard
        return self.count // of + (nth < self.count % of)

    @property
    def manner(self) -> ExpertConfig:
        """How its traces are written."""
        return ExpertConfig(get_dialect(self.dialect), self.budgets, self.margin, self.min_side)


class Written(NamedTuple):
    """What became of a unit."""

    lines: list[str]
    """traces as lines of JSON"""
    kinds: list[str]
    dropped: list[SkippedRow]


def synthesize(
    settings: SynthSettings,
    units: Iterable[Unit],
    out: Path,
    *,
    workers: int = 1,
    on_traces: Callable[[int], None] = lambda count: None,
    labeller: Labeller | None = None,
) -> dict[str, Any]:
    """Write the traces of a run, or go on with them; returns the summary.

    Args:
        settings: what decides the traces.
        units: all units of this shard, in order; taken as long as traces are wanted.
        out: the folder of the run.
        workers: processes; 1 works in this one.
        on_traces: hears how many traces are written so far.
        labeller: writes what units lack; its calls are counted in the summary.

    Raises:
        EndpointError: the labeller gets no replies any more.
        UsageError: `out` holds a run with other settings.
        OutputError: `out` cannot be written.
    """
    units = iter(units)
    first = list(islice(units, 1))  # a data set that cannot be read leaves no folder behind
    keep_settings(out / "settings.json", settings.model_dump(mode="json"))
    if (out / "traces.jsonl").exists():
        summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        on_traces(summary["count"])
        return summary
    started = time.perf_counter()
    try:
        with _Log(out) as log:
            before = log.count
            on_traces(before)
            rest: Iterable[Unit] = (
                islice(chain(first, units), log.units, None) if before < settings.quota else ()
            )
            if labeller is not None:
                rest = labeller.labelled(rest, partial(_rows, settings=settings, out=out))
            write = partial(write_unit, settings=settings, out=out)
            for written in _in_order(write, rest, workers):
                log.add(written, settings.quota - log.count)
                on_traces(log.count)
                if log.count == settings.quota:
                    break
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(out, error) from error
    seconds = time.perf_counter() - started
    summary = {
        "count": log.count,
        "wanted": settings.quota,
        "kinds": dict(sorted(log.kinds.items())),
        "dropped": dict(sorted(log.reasons.items())),
        "seconds": round(seconds, 2),
        "traces_per_second": round((log.count - before) / seconds, 1),
        "workers": workers,
        "settings": settings.model_dump(mode="json"),
    }
    if labeller is not None:
        summary["labeller"] = labeller.finish()
    write_json(summary, out / "summary.json")
    log.finish()
    return summary


def scene_units(settings: SynthSettings) -> Iterator[Unit]:
    """The scenes of a shard of PixelWorld's training split: family after family, without end."""
    nth, of = settings.shard
    for number in count(nth, of):
        seed = split_seed("train", settings.seed, number)
        for family in settings.families:
            yield family, seed


def write_unit(unit: Unit, settings: SynthSettings, out: Path) -> Written:
    """The traces of one unit. Scenes are rendered into `out`, unless their file is there."""
    rows = _rows(unit, settings, out)
    rows = rows if isinstance(rows, list) else [rows]
    written = _write_traces([row for row in rows if isinstance(row, Question)], settings, out)
    written.dropped[:0] = (row for row in rows if isinstance(row, SkippedRow))
    return written


def _rows(unit: Unit, settings: SynthSettings, out: Path) -> Row | list[Row]:
    """The questions about a scene, which is rendered; rows of a data set as they are."""
    if isinstance(unit, Question | SkippedRow | list):
        return unit
    family, seed = unit
    scene = make_scene(family, seed)
    medium = medium_of(scene)
    if not (out / medium.path).exists():
        write_media(scene, out / medium.path)
    rng = random.Random(f"seeds/{settings.seed}/{scene.id}")
    seeds = scene_seeds(scene, medium, settings.per_scene, settings.text_share, rng)
    return list(seeds)


def _write_traces(questions: list[Question], settings: SynthSettings, out: Path) -> Written:
    """One trace a question; all questions are about the same media."""
    written = Written([], [], [])
    manner = settings.manner
    album: MediaContext | None = None
    for question in questions:
        rng = random.Random(f"synth/{VERSION}/{settings.seed}/{question.id}")
        asked = with_media_root(question, out)
        try:
            album = album or MediaContext(asked, manner.budgets)
            trace = _of_some_kind(asked, settings, rng, album)
        except NoTrace as error:
            written.dropped.append(SkippedRow(question.id, error.reason, str(error)))
            continue
        except InputError as error:
            written.dropped.append(SkippedRow(question.id, "unusable_medium", str(error)))
            continue
        kept = trace.model_copy(update={"question": question})
        written.lines.append(kept.to_line() + "\n")
        written.kinds.append(kind_of(trace))
    return written


def _of_some_kind(
    question: Question, settings: SynthSettings, rng: random.Random, album: MediaContext
) -> Trace:
    """A trace of a kind drawn by the shares; where it cannot be written, a single look."""
    manner = settings.manner
    if question.needs_look is False:
        return expert_trace(question, Kind.TEXT, rng, manner, album)
    if not settings.mistakes:
        return expert_trace(question, Kind.SINGLE, rng, manner, album)
    shares = VIDEO_SHARES if album.num_frames else PICTURE_SHARES
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if rng.random() < settings.refused_share:
        kind = Kind.REFUSED
    try:
        return expert_trace(question, kind, rng, manner, album)
    except NoTrace:
        return expert_trace(question, Kind.SINGLE, rng, manner, album)


# --- writing in order ---


def _in_order(
    write: Callable[[Unit], Written], units: Iterable[Unit], workers: int
) -> Iterator[Written]:
    """What becomes of each unit, in order; never more than a few chunks are under way or waiting."""
    if workers == 1:
        yield from map(write, units)
        return
    waiting: deque[Future[list[Written]]] = deque()
    # Not forked: a progress bar runs in a thread of its own.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _end_with, (os.getpid(),)) as pool:
        try:
            rest = iter(units)
            while chunk := list(islice(rest, _CHUNK)):
                waiting.append(pool.submit(_write_chunk, write, chunk))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _end_with(parent: int) -> None:
    """Let a worker end when the process is gone that it works for: after a kill nobody else tells it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_chunk(write: Callable[[Unit], Written], chunk: list[Unit]) -> list[Written]:
    return [write(unit) for unit in chunk]


class _Log:
    """The growing files of a run, and a note of how far they are whole."""

    def __init__(self, out: Path, note_every: int = 64) -> None:
        self.out = out
        self.note_every = note_every
        self.units = self.count = 0
        self.sizes = [0, 0]
        """bytes of whole units in each file"""
        self.kinds: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.paths = [out / "traces.jsonl.part", out / "dropped.jsonl"]

    def __enter__(self) -> _Log:
        note = self.out / "progress.json"
        if note.exists():
            told = json.loads(note.read_text(encoding="utf-8"))
            self.units, self.count, self.sizes = told["units"], told["count"], told["sizes"]
            self.kinds, self.reasons = Counter(told["kinds"]), Counter(told["reasons"])
        self.files = [path.open("ab") for path in self.paths]
        for file, size in zip(self.files, self.sizes, strict=True):
            if file.tell() < size:
                raise UsageError(
                    expected=f"at least {size} bytes, as progress.json says",
                    got=f"{file.name}: {file.tell()}",
                    fix="delete the folder and begin anew",
                )
            file.truncate(size)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, OSError):  # a full disk takes no note either
            self._note()
        for file in self.files:
            file.close()

    def add(self, written: Written, wanted: int) -> None:
        """Append what became of a unit, at most as many traces as are wanted."""
        told = (one._asdict() for one in written.dropped)
        texts = (
            "".join(written.lines[:wanted]),
            "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in told),
        )
        for number, (file, text) in enumerate(zip(self.files, texts, strict=True)):
            self.sizes[number] += file.write(text.encode())
        self.kinds.update(written.kinds[:wanted])
        self.reasons.update(one.reason for one in written.dropped)
        self.count += len(written.lines[:wanted])
        self.units += 1
        if self.units % self.note_every == 0:
            self._note()

    def finish(self) -> None:
        """The traces get their name; the note is no longer needed."""
        self.paths[0].replace(self.out / "traces.jsonl")
        (self.out / "progress.json").unlink(missing_ok=True)

    def _note(self) -> None:
        for file in self.files:
            file.flush()
        told = {
            "units": self.units,
            "count": self.count,
            "sizes": self.sizes,
            "kinds": dict(self.kinds),
            "reasons": dict(self.reasons),
        }
        write_json(told, self.out / "progress.json")
