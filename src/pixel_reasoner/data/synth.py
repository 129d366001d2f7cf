"""Synthesis of expert traces into a folder: deterministic, parallel and resumable.

    DIR/settings.json    all settings that determine the traces
    DIR/traces.jsonl     created when the run is complete; until then `traces.jsonl.part`
    DIR/dropped.jsonl    rows without a trace, with the reason
    DIR/media/           rendered pictures and clips of written units (PixelWorld only)
    DIR/summary.json     counts by kind, dropped rows by reason, traces per second
    DIR/.store/rows.txt  fingerprints of the source rows (`data.source_rows`), not for PixelWorld

A run is a sequence of units of a source (a scene, or a row of a data set). The traces of a unit depend only on the unit and
the settings, and units are written in order. So the bytes do not depend on the number of workers, and a killed run continues
after the last unit of its last checkpoint (`runs.store`).
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from pixel_reasoner.data.expert import (
    VERSION,
    ExpertConfig,
    Kind,
    NoTrace,
    classify_trace,
    expert_trace,
)
from pixel_reasoner.data.hindsight import HindsightSettings, RolloutUnit
from pixel_reasoner.data.labeller import Labeller, LabellerSettings
from pixel_reasoner.data.parallel import map_in_order
from pixel_reasoner.data.row_media import open_row_media
from pixel_reasoner.data.scene_source import Unit as SceneUnit, scene_source
from pixel_reasoner.data.source_rows import ROWS, SourceRows, check_complete
from pixel_reasoner.data.unit_files import (
    DROPPED,
    PARTIAL_TRACES,
    UnitResult,
    pending_media_dir,
    started_progress,
    write_units,
)
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError
from pixel_reasoner.files import (
    numbered_lines,
    output_errors,
    read_json_object,
    write_json,
    write_or_check_settings,
)
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.store import TRACES, RunStore, manifest_path
from pixel_reasoner.schema.question import MediaItem, Question, with_media_root
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudgets
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.pixelworld import PixelWorldSource, world_version
from pixel_reasoner.sources.rows import Row, SkippedRow
from pixel_reasoner.sources.text import DocumentSettings
from pixel_reasoner.sources.units import SourceUnit

PICTURE_SHARES = {Kind.SINGLE: 0.3, Kind.WRONG_ONCE: 0.2, Kind.WRONG_TWICE: 0.2, Kind.TOO_WIDE: 0.3}
VIDEO_SHARES = {Kind.SINGLE: 0.9, Kind.RESELECT: 0.1}
"""shares of the paper (arXiv 2505.15966, table 2)"""
TEXT_SHARE = round(2000 / 7500, 4)
"""share of traces without an operation in the paper"""

Unit = SceneUnit | Row | list[Row] | SourceUnit | RolloutUnit
"""a scene, a row of a data set, the rows of a scene, a unit of a source whose rows workers build, or a recorded rollout"""
_WRONG_OPERATION_SHARE = 0.15
"""share of traces with an operation that is off by default that start with a call that misses the evidence"""
_MAX_EXAMPLES = 3
"""number of reasons with an example in the error of a run without traces"""


class SynthSettings(Record):
    """All settings that determine the traces of a run."""

    source: str
    """`pixelworld`, or name and path of another source"""
    count: int
    """number of traces over all shards"""
    seed: int = 0
    families: tuple[str, ...] = ()
    shard: tuple[int, int] = (0, 1)
    """(index, number of shards)"""
    per_scene: int = 6
    """maximum number of traces per scene"""
    text_share: float = TEXT_SHARE
    refused_share: float = 0.05
    """share of traces with an operation whose first call is rejected"""
    mistakes: bool = True
    """whether some first calls miss the evidence; otherwise every trace has only calls that show it"""
    dialect: str = "compact"
    budgets: PixelBudgets
    margin: float = 0.25
    min_side: float = 0.12
    version: int = VERSION
    world_version: int = Field(default_factory=world_version)
    """version of PixelWorld, 1 or 2"""
    heights: tuple[int, ...] | None = None
    """heights of the evidence in overview pixels (PixelWorld 2); None: all but the held-out one"""
    regions: int | None = None
    """maximum number per picture, for a data set with regions and no questions"""
    units_of_rows: dict[str, Any] | None = None
    """units of boxes and frames of own rows without units; None: those of the source"""
    documents: DocumentSettings | None = None
    """how questions about the text of documents are made; None: another source"""
    labelling: LabellerSettings | None = None
    """labeller that writes findings or questions; None: templates only"""
    hindsight: HindsightSettings | None = None
    """how traces are made from recorded rollouts; None: another source"""
    operations: tuple[str, ...] = DEFAULT_OPERATIONS
    """names of the enabled operations; one that is off by default answers the questions for which it plans a call"""

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize settings that older runs do not have only if they differ from the default."""
        fields: dict[str, Any] = handler(self)
        if self.operations == DEFAULT_OPERATIONS:
            fields.pop("operations", None)
        if self.hindsight is None:
            fields.pop("hindsight", None)
        return fields

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values. Heights are left out if unset: runs of older versions have none."""
        return self.model_dump(mode="json", exclude={"heights"} if self.heights is None else None)

    @property
    def quota(self) -> int:
        """Number of traces of this shard."""
        nth, of = self.shard
        return self.count // of + (nth < self.count % of)

    @property
    def expert(self) -> ExpertConfig:
        """Configuration of the trace writer."""
        return ExpertConfig(
            get_dialect(self.dialect),
            self.budgets,
            self.margin,
            self.min_side,
            self.operations,
            names_pictures=self.documents is not None,
        )


class MapUnits(Protocol):
    """Function that writes units, for example in other processes or on a cluster."""

    def __call__(
        self, units: Iterable[Unit], settings: SynthSettings, folder: Path
    ) -> Generator[UnitResult, None, None]:
        """Yield the result of `write_unit` for each unit, in order, with its media in `folder`."""
        ...


def synthesize(  # noqa: PLR0913 - what, where and how
    settings: SynthSettings,
    units: Iterable[Unit],
    out: Path,
    *,
    workers: int = 1,
    on_traces: Callable[[int], None] = lambda count: None,
    labeller: Labeller | None = None,
    map_units: MapUnits | None = None,
) -> dict[str, Any]:
    """Write or resume a run and return its summary.

    Args:
        settings: settings that determine the traces.
        units: all units of this shard, in order; consumed until there are enough traces.
        out: the folder of the run.
        workers: number of processes; 1 runs in this process.
        on_traces: called with the number of written traces.
        labeller: fills in missing fields of units; its calls are counted in the summary.
        map_units: executes `write_unit`, instead of processes of this machine.

    Raises:
        EndpointError: the labeller does not answer any more.
        UsageError: `out` contains a run with other settings.
        InputError: no row gives a trace; `dropped.jsonl` contains the reasons.
        OutputError: `out` cannot be written, or another process writes to it.
    """
    with output_errors(out), FolderLock(out):
        run = _RunOptions(workers, on_traces, map_units or partial(_map_units, workers=workers))
        return _synthesize(settings, units, out, run, labeller)


def _synthesize(
    settings: SynthSettings,
    units: Iterable[Unit],
    out: Path,
    options: _RunOptions,
    labeller: Labeller | None,
) -> dict[str, Any]:
    """Write or resume a run in a locked folder."""
    units = _check_first_unit(units)
    fields = settings.to_dict()
    write_or_check_settings(out / "settings.json", fields)
    if (out / TRACES).exists():
        summary = read_json_object(
            out / "summary.json", "the summary of the run", "delete the folder"
        )
        check_complete(units, out)
        options.on_traces(summary["count"])
        return summary
    with RunStore(out, _segments(settings), fields) as store:
        run = _Run(settings, store, options)
        summary = run.write(units, labeller)
        is_empty = _is_empty(summary, settings)
        if not is_empty:
            write_json(summary, out / "summary.json")
            store.finish(TRACES)
    if is_empty:
        raise _no_traces(summary, settings, out)
    return summary


def _segments(settings: SynthSettings) -> tuple[str, ...]:
    """Return the files of a run. The settings determine the scenes of PixelWorld, so they have no fingerprints."""
    has_rows = settings.source != PixelWorldSource.name
    return (PARTIAL_TRACES, DROPPED, *([ROWS] if has_rows else []))


def _is_empty(summary: dict[str, Any], settings: SynthSettings) -> bool:
    """Return whether all rows were dropped. A shard may also be empty because there are fewer rows than shards."""
    is_whole = settings.shard == (0, 1)
    return not summary["count"] and (is_whole or bool(summary["dropped"]))


def _no_traces(summary: dict[str, Any], settings: SynthSettings, out: Path) -> InputError:
    """Return the error of a run without traces. Only `dropped.jsonl` is kept, so that corrected rows start a new run."""
    for path in (out / "settings.json", out / PARTIAL_TRACES, out / ROWS, manifest_path(out)):
        path.unlink(missing_ok=True)
    examples: dict[str, SkippedRow] = {}
    for _, line in numbered_lines(out / DROPPED, DROPPED):
        row = SkippedRow(**json.loads(line))
        examples.setdefault(row.reason, row)
    counts = Counter(summary["dropped"]).most_common()
    named = [
        f"{count} {reason}, for example {examples[reason].where}: {examples[reason].detail}"
        for reason, count in counts[:_MAX_EXAMPLES]
    ]
    named += [f"{count} {reason}" for reason, count in counts[_MAX_EXAMPLES:]]
    if not named:
        return InputError(
            expected="rows that give a trace",
            got=f"no rows in {settings.source.partition(' ')[2] or settings.source}",
            fix="add rows to the file; `pixel-reasoner init rows` writes valid ones",
        )
    if settings.hindsight is not None:
        return InputError(
            expected="rollouts that give a trace",
            got=f"none (dropped: {'; '.join(named)})",
            fix=f"give other rollouts; {out / DROPPED} has the reason of each",
        )
    return InputError(
        expected="rows that give a trace",
        got=f"none (dropped: {'; '.join(named)})",
        fix=f"correct the rows listed in {out / DROPPED}, and run the same command again",
    )


def _check_first_unit(units: Iterable[Unit]) -> Iterator[Unit]:
    """Return the units after parsing the first one, so that an unreadable data set leaves no folder."""
    units = iter(units)
    return chain(list(islice(units, 1)), units)


class _RunOptions(NamedTuple):
    """How a run is executed."""

    workers: int
    on_traces: Callable[[int], None]
    map_units: MapUnits


def _map_units(
    units: Iterable[Unit], settings: SynthSettings, folder: Path, *, workers: int
) -> Generator[UnitResult, None, None]:
    return map_in_order(partial(write_unit, settings=settings, folder=folder), units, workers)


class _Run:
    """One process's work on a run, with an open store."""

    def __init__(self, settings: SynthSettings, store: RunStore, options: _RunOptions) -> None:
        self.settings, self.store, self.options = settings, store, options
        self.on_traces = options.on_traces
        self.started = time.perf_counter()
        self.progress = started_progress(store)
        self.count_before = self.progress.count

    def write(self, units: Iterator[Unit], labeller: Labeller | None) -> dict[str, Any]:
        """Write the missing traces and return the summary."""
        settings, quota, folder = (
            self.settings,
            self.settings.quota,
            pending_media_dir(self.store.folder),
        )
        self.on_traces(self.progress.count)
        rows = SourceRows(self.store, self.progress.units)
        rest: Iterable[Unit] = ()
        if self.progress.count < quota:
            rest = rows.after_known(units)
        if labeller is not None:
            rest = labeller.label_units(
                rest, partial(_rows, settings=settings, folder=folder), folder
            )
        try:
            with closing(self.options.map_units(rest, settings, folder)) as results:
                write_units(self.store, self.progress, rows.record(results), quota, self.on_traces)
        finally:
            calls = labeller.finish() if labeller is not None else None  # its threads also render
            shutil.rmtree(folder, ignore_errors=True)
        summary = self._summary(time.perf_counter() - self.started)
        return summary if calls is None else {**summary, "labeller": calls}

    def _summary(self, seconds: float) -> dict[str, Any]:
        progress = self.progress
        return {
            "count": progress.count,
            "wanted": self.settings.quota,
            "kinds": dict(sorted(progress.kinds.items())),
            "dropped": dict(sorted(progress.reasons.items())),
            "seconds": round(seconds, 2),
            "traces_per_second": round((progress.count - self.count_before) / seconds, 1),
            "workers": self.options.workers,
            "settings": self.settings.to_dict(),
        }


# --- units ---


def scene_units(settings: SynthSettings) -> Iterator[Unit]:
    """Yield the scenes of a shard of PixelWorld's training split: all families of a seed in turn, endless."""
    return scene_source(settings).units(Path())


def write_unit(unit: Unit, settings: SynthSettings, folder: Path) -> UnitResult:
    """Return the traces of one unit. Scenes are rendered into a folder, unless their file exists there."""
    rows = _rows(unit, settings, folder)
    rows = rows if isinstance(rows, list) else [rows]
    questions = [row for row in rows if isinstance(row, Question)]
    written = _write_traces(questions, settings, folder)
    written.dropped[:0] = (row for row in rows if isinstance(row, SkippedRow))
    paths = dict.fromkeys(
        media_item.path for question in questions for media_item in question.media
    )
    written.media.extend(path for path in paths if not Path(path).is_absolute())
    return written


def _rows(unit: Unit, settings: SynthSettings, folder: Path) -> Row | list[Row]:
    """Return the rows of a unit. A row of a data set is returned unchanged."""
    if isinstance(unit, SourceUnit):
        return list(unit.rows(folder))
    if isinstance(unit, Question | SkippedRow | list):
        return unit
    scenes: Any = scene_source(settings)
    return list(scenes.rows(unit, folder))


def _write_traces(questions: list[Question], settings: SynthSettings, folder: Path) -> UnitResult:
    """Return one trace per question. Questions about the same media share what is decoded."""
    written = UnitResult([], [], [], [])
    expert = settings.expert
    contexts: dict[tuple[MediaItem, ...], MediaContext] = {}
    for question in questions:
        rng = random.Random(f"synth/{VERSION}/{settings.seed}/{question.id}")
        asked = with_media_root(question, folder)
        try:
            context = contexts.get(question.media)
            if context is None:
                context = open_row_media(question, asked, expert.budgets)
                contexts[question.media] = context
            trace = _trace_of_random_kind(asked, settings, rng, context)
        except NoTrace as error:
            written.dropped.append(SkippedRow(question.id, error.reason, str(error)))
            continue
        except InputError as error:
            written.dropped.append(SkippedRow(question.id, "unusable_medium", str(error)))
            continue
        kept = trace.model_copy(update={"question": question})
        written.lines.append(kept.to_line() + "\n")
        written.kinds.append(classify_trace(trace))
    return written


def _trace_of_random_kind(
    question: Question, settings: SynthSettings, rng: random.Random, context: MediaContext
) -> Trace:
    """Return a trace of a randomly drawn kind, or of kind `single` if the drawn kind is not possible."""
    expert = settings.expert
    if question.needs_look is False:
        return expert_trace(question, Kind.TEXT, rng, expert, context)
    if settings.operations != DEFAULT_OPERATIONS:
        wrong = settings.mistakes and rng.random() < _WRONG_OPERATION_SHARE
        for kind in (*([Kind.OPERATION_WRONG] if wrong else []), Kind.OPERATION):
            with suppress(NoTrace):
                return expert_trace(question, kind, rng, expert, context)
    evidence = question.evidence
    has_places = evidence is not None and bool(evidence.boxes or evidence.frames)
    if question.needs_look is None and question.reasoning and not has_places:
        return expert_trace(question, Kind.TEXT, rng, expert, context)
    if not settings.mistakes:
        return expert_trace(question, Kind.SINGLE, rng, expert, context)
    shares = VIDEO_SHARES if context.num_frames else PICTURE_SHARES
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if rng.random() < settings.refused_share:
        kind = Kind.REFUSED
    try:
        return expert_trace(question, kind, rng, expert, context)
    except NoTrace:
        return expert_trace(question, Kind.SINGLE, rng, expert, context)


def _has_places(question: Question) -> bool:
    """Return whether the default operations can show the evidence."""
    evidence = question.evidence
    return evidence is not None and bool(evidence.boxes or evidence.frames)
