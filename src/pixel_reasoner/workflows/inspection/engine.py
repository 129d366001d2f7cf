"""Inspection of many photos: examined in threads, asked in batches, written row by row. A killed run is resumed.

OUT/rows.jsonl, rows.csv     one row per photo (`verdicts.InspectionRow`)
OUT/traces.jsonl             questions to the model and its answers
OUT/pictures/                numbered pictures of proposals, tiles
OUT/maps/                    maps of scores, where they are asked for or masks exist
OUT/summary.json             counts and metrics
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.inspection.dialogue import Dialogue
from pixel_reasoner.workflows.inspection.examine import PICTURES, Examination, Examined, examine
from pixel_reasoner.workflows.inspection.layouts import read_dataset
from pixel_reasoner.workflows.inspection.library import GoldenLibrary, golden_paths
from pixel_reasoner.workflows.inspection.pictures import opencv
from pixel_reasoner.workflows.inspection.result_rows import ResultRows
from pixel_reasoner.workflows.inspection.samples import Dataset, Sample
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.survey.engine import Task, answer_tasks
from pixel_reasoner.workflows.survey.rows import RowWriter

SPLITS = ("test", "validation", "train", "all")


@dataclass(frozen=True, kw_only=True)
class InspectionRun:
    """What is inspected, and how."""

    data: tuple[Path, ...]
    """folders or files"""
    out: Path
    spec: InspectionSpec = field(default_factory=InspectionSpec)
    reference: Path | None = None
    """folder of golden pictures; None: the good training photos of the data"""
    heat_maps: Path | None = None
    layout: str = "auto"
    split: str = "test"
    """of a data set with splits; `all` for every photo"""
    limit: int | None = None
    """number of photos"""
    config: RolloutConfig = field(default_factory=RolloutConfig)
    samples: int = 1
    """answers per question"""
    batch_size: int = 16
    decoys: float = 0.0
    maps: bool = False
    workers: int = 2
    """threads that examine photos"""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UsageError(
                expected=f"a split: {', '.join(SPLITS)}", got=repr(self.split), fix="name one"
            )
        if not self.data:
            raise UsageError(
                expected="photos to inspect", got="no path", fix="name a folder or a file"
            )


def inspect_photos(
    run: InspectionRun,
    model: GenerationModel | None = None,
    progress: ProgressReporter | None = None,
) -> list[dict[str, Any]]:
    """Inspect photos, or resume a run, and return its rows in the order of the photos.

    Args:
        run: what is inspected, and how.
        model: looks at the proposals and decides; None: the score decides.
        progress: receives the number of photos.

    Raises:
        UsageError: neither references, heat maps nor a model; or `out` contains another run.
        InputError: no photos, or no usable golden pictures.
        OutputError: `out` cannot be written.
    """
    opencv()
    datasets = [read_dataset(path, run.layout) for path in run.data]
    samples = chosen_samples(datasets, run)
    library = _library(datasets, run)
    if library is None and run.heat_maps is None and model is None:
        raise UsageError(
            expected="golden pictures, heat maps or a model",
            got="none of them",
            fix="add --reference DIR, --proposals DIR or --model NAME",
        )
    how = Examination(
        spec=run.spec,
        out=run.out,
        library=library,
        heat_maps=run.heat_maps,
        decoys=run.decoys,
        tile_px=_tile_px(model),
        maps=run.maps or any(one.mask for one in samples),
    )
    results = ResultRows(run.spec, model, run.config)
    with RowWriter(run.out, _settings(run, results), traces=model is not None) as rows:
        (run.out / PICTURES).mkdir(exist_ok=True)
        stream = _Stream(run, samples, how, rows)
        update = (progress or NoProgress()).start("inspecting", len(samples))
        _inspect(run, stream, results, rows, update, model)
        if library is not None:
            results.golden_notes(library, rows.folder)
        rows.complete()
        return list(rows.rows())


def chosen_samples(datasets: Sequence[Dataset], run: InspectionRun) -> list[Sample]:
    """Return the photos of the split, with ids that are unique over all data.

    Raises:
        InputError: the split is empty.
    """
    found: list[Sample] = []
    for dataset, prefix in zip(datasets, _prefixes(datasets), strict=True):
        chosen = [one for one in dataset.samples if run.split in ("all", one.split)]
        found += [_renamed(one, prefix) for one in chosen]
    if not found:
        counts = ", ".join(
            f"{name} {sum(sample.split == name for one in datasets for sample in one.samples)}"
            for name in SPLITS[:3]
        )
        raise InputError(
            expected=f"photos in the split {run.split}",
            got=f"none ({counts})",
            fix="name another --split",
        )
    found = list({one.id: one for one in found}.values())  # a path may be given twice
    # Photos of one golden set follow each other: few sets are in memory.
    found.sort(key=lambda one: (one.category, one.view))
    return found[: run.limit]


def _prefixes(datasets: Sequence[Dataset]) -> list[str]:
    """Return what makes the ids of several folders unique: their names, or their paths below a common folder."""
    roots = [one.root.resolve() for one in datasets]
    different = set(roots)
    if len(different) == 1:
        return [""] * len(roots)
    if len({one.name for one in different}) == len(different):
        return [f"{one.name}/" for one in roots]
    levels = zip(*(one.parts for one in roots), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    return ["".join(f"{part}/" for part in one.parts[shared:]) for one in roots]


def _renamed(sample: Sample, prefix: str) -> Sample:
    if not prefix:
        return sample
    fields = {**sample.__dict__, "id": prefix + sample.id}
    return Sample(**fields)


def _library(datasets: Sequence[Dataset], run: InspectionRun) -> GoldenLibrary | None:
    train = [one for dataset in datasets for one in dataset.of("train", "good")]
    paths = golden_paths(run.reference, train)
    if not paths:
        return None
    library = GoldenLibrary(paths, run.spec)
    if run.reference is not None and len(paths) == 1:
        library.check()
    return library


def _tile_px(model: GenerationModel | None) -> int | None:
    if model is None:
        return None
    budgets = getattr(model, "budgets", None)
    return budgets.picture.max_px if budgets else 1_000_000


def _settings(run: InspectionRun, results: ResultRows) -> dict[str, Any]:
    """Return everything that determines the rows."""
    return {
        "workflow": "inspect",
        "data": [str(one.absolute()) for one in run.data],
        "layout": run.layout,
        "split": run.split,
        "limit": run.limit,
        "reference": str(run.reference.absolute()) if run.reference else None,
        "heat_maps": str(run.heat_maps.absolute()) if run.heat_maps else None,
        "spec": run.spec.model_dump(mode="json"),
        "model": results.model_description,
        "config": run.config.model_dump(mode="json"),
        "samples": run.samples,
        "decoys": run.decoys,
    }


class _Stream:
    """Examined photos in order, computed in threads a few photos ahead. Photos with a row are left out."""

    def __init__(
        self, run: InspectionRun, samples: Sequence[Sample], how: Examination, rows: RowWriter
    ) -> None:
        self.samples = samples
        self._run, self._how, self._rows = run, how, rows
        self._first_of: dict[str, str] = {}
        self.num_done = 0

    def __iter__(self) -> Iterator[tuple[int, Examined, str]]:
        """Yield position, photo, and the id of an earlier photo with the same bytes."""
        pending: deque[tuple[int, Future[Examined]]] = deque()
        with ThreadPoolExecutor(self._run.workers) as pool:
            try:
                for position, sample in enumerate(self.samples):
                    row = self._rows.get(sample.id) if self._rows.is_done(sample.id) else None
                    if row is not None:
                        self._first_of.setdefault(row["audit"]["photo_sha256"], sample.id)
                        self.num_done += 1
                        continue
                    pending.append((position, pool.submit(examine, sample, self._how)))
                    if len(pending) > 2 * self._run.workers:
                        yield self._finished(pending)
                while pending:
                    yield self._finished(pending)
            finally:
                for _, future in pending:
                    future.cancel()

    def _finished(self, pending: deque[tuple[int, Future[Examined]]]) -> tuple[int, Examined, str]:
        position, future = pending.popleft()
        examined = future.result()
        first = examined.sample.id
        if examined.sha256:
            first = self._first_of.setdefault(examined.sha256, first)
        return position, examined, first if first != examined.sample.id else ""


def _inspect(
    run: InspectionRun,
    stream: _Stream,
    results: ResultRows,
    rows: RowWriter,
    update: Callable[..., None],
    model: GenerationModel | None,
) -> None:
    written = 0

    def write(row: dict[str, Any], position: int, traces: Sequence[Any] = ()) -> None:
        nonlocal written
        rows.append(row, traces, position)
        written += 1
        update(stream.num_done + written, row["verdict"])

    if model is None:
        for position, examined, first in stream:
            write(results.without_model(examined, first), position)
        return
    dialogue = Dialogue(run.spec, run.out)

    def tasks() -> Iterable[Task]:
        for position, examined, first in stream:
            early = results.early(examined, first)
            if early is not None:
                write(early, position)
            else:
                yield from dialogue.tasks(examined, position, first)

    for result in answer_tasks(
        tasks(), model, run.config, samples=run.samples, batch_size=run.batch_size
    ):
        complete = dialogue.add(result)
        if complete is not None:
            row = results.with_model(complete, dialogue.decide(complete))
            write(row, complete.position, complete.traces)
