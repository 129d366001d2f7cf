"""Synthesis of expert traces from PixelWorld or an annotated data set, from a specification to the summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pixel_reasoner.data.endpoint import Endpoint, LabellerConfig
from pixel_reasoner.data.labeller import Labeller, LabellerSettings, labeller_settings
from pixel_reasoner.data.labels import Analysis
from pixel_reasoner.data.synth import (
    MapUnits,
    SynthSettings,
    Unit,
    scene_units,
    synthesize as write_traces,
)
from pixel_reasoner.data.unit_files import pending_media_dir
from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.endpoint_url import read_key
from pixel_reasoner.rollout.usable import usable_operations
from pixel_reasoner.runs.media_folders import note_media_folders
from pixel_reasoner.schema.media_url import allow_media_urls, check_local
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.sources.base import (
    SOURCES,
    FileSource,
    QuestionSource,
    Source,
    open_source,
    option_names,
)
from pixel_reasoner.sources.media_folders import data_folders, restricted_row
from pixel_reasoner.sources.rows import Row, check_rows
from pixel_reasoner.sources.text import DocumentSettings
from pixel_reasoner.sources.units import SourceUnit
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.world import parse_families, prompt_settings
from pixel_reasoner.workflows.world2 import WORLDS, world2_families

PIXELWORLD = "pixelworld"
REGION_SOURCE = "sa1b"
"""source with regions and no questions"""
TEXT_SOURCE = "text"
"""source of documents and their text"""
_OPTIONS_OF_ROWS = ("box_unit", "box_format", "frame_base", "media_root")


@dataclass(frozen=True, kw_only=True)
class LabellerSpec:
    """OpenAI-compatible servers of a vision model that writes questions or findings. Without `urls` there is no labeller."""

    urls: tuple[str, ...] = ()
    """requests are distributed over them; the key is the environment variable `OPENAI_API_KEY`"""
    model: str | None = None
    analysis: str = Analysis.TEMPLATE
    """writer of findings: `template` or `labeller`"""
    max_calls: int | None = None
    """maximum number of calls, without cached replies; None: no limit"""
    concurrency: int = 8
    timeout_s: float = 60.0
    cache: Path | None = None
    """folder of cached replies, which several runs may share; None: `labels` in the folder of the run"""


@dataclass(frozen=True, kw_only=True)
class SynthSpec:
    """One synthesis run: source, traces and folder."""

    source: str
    """name of a source: pixelworld, jsonl, parquet, visa, star, sa1b, ..."""
    out: Path
    """folder of the traces; an existing one is resumed"""
    data: Path | None = None
    """folder of the data set; not for PixelWorld"""
    families: str = "all"
    """PixelWorld families, separated by commas"""
    world: int = 1
    """version of PixelWorld, 1 or 2"""
    heights: tuple[int, ...] | None = None
    """heights of the evidence in overview pixels (PixelWorld 2); None: all but the held-out one"""
    count: int = 1000
    """number of traces over all shards"""
    per_scene: int = 6
    per_page: int = 6
    """maximum number of questions about a page (text)"""
    ocr: str = "auto"
    """auto: pages without a text layer, if the extra `ocr` is installed; never; always (text)"""
    legible_px: float = 12.0
    """height of a line of text in a picture of the prompt, from which the model can read it (text)"""
    seed: int = 0
    shard: tuple[int, int] = (0, 1)
    """index (from 0) and number of shards"""
    workers: int = 1
    """processes"""
    model: str = "tiny"
    """bundled model, model folder or dialect; it sets the format and pixel budgets of the traces"""
    text_share: float = 0.2667
    """share of traces without an operation (PixelWorld, text)"""
    error_share: float = 0.05
    """share of traces with an operation that start with a rejected call"""
    mistakes: bool = True
    """whether some traces contain a deliberate mistake and its correction"""
    margin: float = 0.25
    """margin of a crop around the evidence, as a share of its width"""
    min_side: float = 0.12
    """smallest side of a crop, as a share of the picture"""
    allow_media: tuple[Path, ...] = ()
    """folders, in addition to the folder of the data, from which rows may name media"""
    regions: int = 3
    """maximum number of regions per picture (sa1b)"""
    box_unit: str | None = None
    """pixel, fraction or permille, for own rows without a unit"""
    box_format: str | None = None
    """xyxy or xywh"""
    frame_base: int | None = None
    """number of the first frame, 0 or 1"""
    media_root: str | None = None
    """URL that relative media paths of own rows are relative to; None: the folder of their file"""
    labeller: LabellerSpec = LabellerSpec()
    operations: tuple[str, ...] = DEFAULT_OPERATIONS
    """names of the enabled operations"""


def synthesize(
    spec: SynthSpec,
    progress: ProgressReporter | None = None,
    *,
    map_units: MapUnits | None = None,
) -> dict[str, Any]:
    """Write or resume a synthesis run and return its summary.

    Args:
        spec: source, number and format of the traces, and their folder.
        progress: receives the number of written traces.
        map_units: writes the traces of units, instead of `workers` processes of this machine.

    Raises:
        UsageError: an unknown name, inconsistent values, or `out` contains a run with other settings.
        InputError: the data set cannot be read.
        EndpointError: the labeller does not answer.
        OutputError: `out` cannot be written.

    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "traces"
    >>> synthesize(SynthSpec(source="pixelworld", out=out, families="attribute", count=2))["count"]
    2
    """
    check_local(spec.data, "--data")
    check_local(spec.out, "--out")
    settings = _settings(spec)
    roots = () if spec.media_root is None else (spec.media_root,)
    with allow_media_urls(*roots):
        return _synthesize(spec, settings, progress or NoProgress(), map_units)


def _synthesize(
    spec: SynthSpec,
    settings: SynthSettings,
    progress: ProgressReporter,
    map_units: MapUnits | None,
) -> dict[str, Any]:
    units = _units(spec, settings)
    opened = _labeller(spec, settings, settings.labelling) if settings.labelling else nullcontext()
    with opened as labeller:
        # The number of rows in files is not known before they are read.
        total = settings.quota if spec.source == PIXELWORLD else None
        update = progress.start("traces", total)
        return write_traces(
            settings,
            units,
            spec.out,
            workers=spec.workers,
            on_traces=lambda count: update(count, labeller.note() if labeller else ""),
            labeller=labeller,
            map_units=map_units,
        )


def _settings(spec: SynthSpec) -> SynthSettings:
    dialect, budgets = prompt_settings(spec.model)
    labeller = spec.labeller
    return SynthSettings(
        source=spec.source if spec.data is None else f"{spec.source} {spec.data}",
        count=spec.count,
        seed=spec.seed,
        families=_families(spec) if spec.source == PIXELWORLD else (),
        world_version=spec.world,
        heights=spec.heights if spec.source == PIXELWORLD else None,
        shard=spec.shard,
        per_scene=spec.per_scene,
        text_share=spec.text_share,
        refused_share=spec.error_share,
        mistakes=spec.mistakes,
        dialect=dialect,
        budgets=budgets,
        margin=spec.margin,
        min_side=spec.min_side,
        regions=spec.regions if spec.source == REGION_SOURCE else None,
        units_of_rows=_units_of_rows(spec) or None,
        documents=_document_settings(spec) if spec.source == TEXT_SOURCE else None,
        operations=usable_operations(dialect, spec.operations),
        labelling=labeller_settings(
            spec.source, labeller.urls, labeller.model, labeller.analysis, labeller.max_calls
        ),
    )


def _families(spec: SynthSpec) -> tuple[str, ...]:
    if spec.world not in WORLDS:
        raise UsageError(expected="--world 1 or 2", got=str(spec.world), fix="name one of these")
    if spec.world == 1:
        if spec.heights is not None:
            raise UsageError(
                expected="--heights with --world 2", got="--world 1", fix="add --world 2"
            )
        return parse_families(spec.families)
    return world2_families(spec.families)


def _units(spec: SynthSpec, settings: SynthSettings) -> Iterable[Unit]:
    if spec.source == PIXELWORLD:
        if stated := _units_of_rows(spec):
            raise UsageError(
                expected="units of rows only with a source of rows",
                got=f"{', '.join(stated)} with {PIXELWORLD}",
                fix="leave the option out",
            )
        return scene_units(settings)
    options: dict[str, Any] = {**_units_of_rows(spec), **_data_option(spec)}
    if spec.source == REGION_SOURCE:
        options["regions"] = spec.regions
    if settings.documents is not None:
        options |= _document_options(settings)
    out = spec.out.absolute()
    source = open_source(spec.source, **options)
    folders = data_folders(spec.data.absolute()) if spec.data else ()
    allowed = (*folders, out, *(folder.absolute() for folder in spec.allow_media))
    note_media_folders(out, allowed)
    index, count = spec.shard
    if isinstance(source, Source) and source.rows_in_workers:
        units = (SourceUnit(source, unit, allowed) for unit in source.units(out))
        return islice(units, index, None, count)
    rows = source.units(out) if isinstance(source, FileSource) else _generated_rows(source, out)
    return islice((_restricted(row, allowed) for row in rows), index, None, count)


def _document_settings(spec: SynthSpec) -> DocumentSettings:
    return DocumentSettings(per_page=spec.per_page, ocr=spec.ocr, legible_px=spec.legible_px)


def _document_options(settings: SynthSettings) -> dict[str, Any]:
    """Return the options of the source `text`."""
    assert settings.documents is not None, "the source is `text`"
    return {
        **settings.documents.model_dump(exclude={"version"}),
        "seed": settings.seed,
        "text_share": settings.text_share,
        "budgets": settings.budgets,
        "margin": settings.margin,
        "min_side": settings.min_side,
    }


def _generated_rows(source: QuestionSource, out: Path) -> Iterator[Row]:
    """Yield the questions of a source without files. Their media are in `out`."""
    rows = source.questions(out)
    return check_rows(
        with_media_root(row, out) if isinstance(row, Question) else row for row in rows
    )


def _data_option(spec: SynthSpec) -> dict[str, Path]:
    """Return the option `data` of a source of files; a generator has none."""
    needs_data = "data" in option_names(SOURCES.get(spec.source))
    if needs_data and spec.data is None:
        raise UsageError(
            expected="--data, the folder of the data set", got="none", fix="add --data DIR"
        )
    if spec.data is not None and not needs_data:
        raise UsageError(
            expected=f"no --data for {spec.source}, which reads no files",
            got=f"--data {spec.data}",
            fix="leave it out",
        )
    return {} if spec.data is None else {"data": spec.data.absolute()}


def _restricted(unit: Unit, folders: Sequence[Path]) -> Unit:
    """Return a unit; if it is a row, its media are restricted to some folders."""
    return restricted_row(unit, folders) if isinstance(unit, Question) else unit


def _units_of_rows(spec: SynthSpec) -> dict[str, Any]:
    """Return the units and the media root of rows that are set in the options."""
    stated = {name: getattr(spec, name) for name in _OPTIONS_OF_ROWS}
    return {name: value for name, value in stated.items() if value is not None}


def _labeller(spec: SynthSpec, settings: SynthSettings, labelling: LabellerSettings) -> Labeller:
    config = LabellerConfig(
        urls=spec.labeller.urls,
        model=labelling.model,
        cache=spec.labeller.cache or spec.out / "labels",
        log=spec.out / "labeller.log",
        api_key=read_key(None),
        calls=labelling.calls,
        concurrency=spec.labeller.concurrency,
        timeout_s=spec.labeller.timeout_s,
    )
    return Labeller(
        Endpoint(config),
        labelling.analysis,
        settings.expert,
        pending_media_dir(spec.out),
        settings.quota,
    )
