"""Report of training data: kinds of traces, deliberate mistakes, dropped rows, duplicates, and every trace with its loss mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.data.encode import encode, mask_spans
from pixel_reasoner.errors import InputError, ModelError, UsageError, require_extra
from pixel_reasoner.files import read_json_object
from pixel_reasoner.reports.data_numbers import (
    NO_MISTAKE,
    DataNumbers,
    KeyReader,
    category_of,
    kind_of,
    mistakes_of,
)
from pixel_reasoner.reports.data_sections import data_sections
from pixel_reasoner.reports.dropped import DroppedRows, read_dropped
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.page import PageSummary, Row, flat_settings, write_rows
from pixel_reasoner.reports.schema import Fact, MaskSegment, Report, TextSection
from pixel_reasoner.reports.steps import outcome_in_words
from pixel_reasoner.runs.folder import SETTINGS, SUMMARY, load_run
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.trace import Trace, load_traces
from pixel_reasoner.scoring.grading import grade_trace

MAX_MASKED = 200
"""number of traces whose loss mask is shown: a mask needs the pixels and the tokenizer"""
_PIXELWORLD = "pixelworld"
_MASK_TITLE = "Loss mask"

MaskOf = Callable[[Trace], tuple[MaskSegment, ...]]


class WrittenData(NamedTuple):
    """Result of writing the report of training data."""

    page: PageSummary
    is_shortened: bool
    """whether there are more traces than the limit"""


class DataFolder(NamedTuple):
    """What is known of training data besides its traces."""

    settings: dict[str, Any]
    summary: dict[str, Any]
    dropped: DroppedRows

    @classmethod
    def read(cls, source: Path) -> DataFolder:
        """Return what the folder of the traces contains; a file of traces may be alone.

        Raises:
            InputError: a file that cannot be read.
        """
        folder = source if source.is_dir() else source.parent
        if source.is_file() and source.name != TRACES:
            return cls({}, {}, DroppedRows())
        settings, summary = (
            read_json_object(folder / name, "a file of `pixel-reasoner synth`", "delete it")
            if (folder / name).exists()
            else {}
            for name in (SETTINGS, SUMMARY)
        )
        return cls(settings, summary, read_dropped(folder))


def is_synthesized(source: Path) -> bool:
    """Return whether a folder or a file contains synthesized traces: the first one decides."""
    path = source / TRACES if source.is_dir() else source
    if not path.is_file():
        return False
    try:
        first = next(load_traces(path), None)
    except InputError:
        return False
    return first is not None and first.settings.synthesis is not None


def write_data_report(
    source: Path,
    out: Path,
    *,
    limit: int | None = None,
    allow_media: Sequence[Path] = (),
    masks: str | None = None,
    refresh_s: float = 0.0,
) -> WrittenData:
    """Write the report of synthesized traces. The traces are read twice: for the numbers and for the page.

    Args:
        source: folder of `pixel-reasoner synth`, or a file of its traces.
        out: the page.
        limit: maximum number of traces on the page, None for all; the numbers are those of all traces.
        allow_media: further folders whose media may be shown (`runs.folder.load_run`).
        masks: model whose tokens show the loss mask of the first `MAX_MASKED` traces; None: no masks.
        refresh_s: the page loads itself again after this time; 0: never.

    Raises:
        InputError: a file that cannot be read.
        ModelError: no such model.
        OutputError: the file cannot be written.
    """
    keys, numbers = KeyReader(), DataNumbers()
    for trace in load_run(source, allow_media):
        numbers.add(trace, keys.key(trace))
    mask_of, mask_text = _mask_reader(masks)
    folder = DataFolder.read(source)
    report = data_report(source.absolute().name, folder, numbers, limit)
    report = report.model_copy(
        update={"sections": (*report.sections, mask_text), "refresh_s": refresh_s}
    )
    traces = islice(load_run(source, allow_media), limit)
    rows = data_rows(traces, folder, numbers, keys, mask_of)
    page = write_rows(rows, out, report, source if source.is_dir() else source.parent)
    return WrittenData(page, limit is not None and numbers.count > limit)


def data_report(name: str, folder: DataFolder, numbers: DataNumbers, limit: int | None) -> Report:
    """Return the report of training data, without its traces."""
    warnings = []
    if limit is not None and numbers.count > limit:
        warnings.append(
            f"The numbers are those of all {numbers.count:,} traces. The tab of traces contains the first {limit:,}; "
            "increase --limit to show more."
        )
    return Report(
        kind="data",
        title=f"Training data {name}",
        facts=tuple(_facts(folder, numbers)),
        settings=tuple(Fact(name=n, value=v) for n, v in sorted(flat_settings(folder.settings))),
        sections=tuple(data_sections(numbers, folder.dropped)),
        warnings=tuple(warnings),
    )


def data_rows(
    traces: Iterator[Trace],
    folder: DataFolder,
    numbers: DataNumbers,
    keys: KeyReader,
    mask_of: MaskOf | None = None,
) -> Iterator[Row]:
    """Yield the traces with their filters, the first ones with their loss mask."""
    has_families = folder.settings.get("source") == _PIXELWORLD
    for number, trace in enumerate(traces):
        facets = {
            "kind": (kind_of(trace),),
            "mistake": tuple(dict.fromkeys(mistakes_of(trace))) or (NO_MISTAKE,),
            "category": (category_of(trace),),
            "duplicate": numbers.duplicates.kinds(keys.key(trace)),
        }
        if has_families:
            facets["family"] = (trace.question.id.partition("-")[0],)
        asked = Asked(trace, outcome_in_words(grade_trace(trace)), facts={"kind": kind_of(trace)})
        if mask_of is not None and number < MAX_MASKED:
            asked = _with_mask(asked, mask_of)
        yield Row([asked], facets)


# --- header ---


def _facts(folder: DataFolder, numbers: DataNumbers) -> Iterator[Fact]:
    settings, summary = folder.settings, folder.summary
    yield Fact(name="traces", value=f"{numbers.count:,}")
    values = {
        "source": settings.get("source"),
        "seed": settings.get("seed"),
        "dialect": settings.get("dialect"),
        "traces per second": summary.get("traces_per_second"),
        "version of the writer": settings.get("version"),
        "program": ", ".join(sorted(numbers.versions)),
    }
    explanations = {
        "dialect": "Prompt format of the model that can be trained on them.",
        "version of the writer": "Another version writes other traces for the same seed.",
        "program": "Version of pixel-reasoner.",
    }
    for name, value in values.items():
        if value is not None:
            yield Fact(name=name, value=str(value), explanation=explanations.get(name, ""))


# --- loss masks ---


def _mask_reader(model: str | None) -> tuple[MaskOf | None, TextSection]:
    """Return a function that computes masks with the tokens of a model, and a text about it. The extra may be missing."""
    if model is None:
        text = (
            "The option --masks MODEL, for example --masks tiny, shows which part of each training example the loss covers, as "
            "tokens of a model."
        )
        return None, TextSection(title=_MASK_TITLE, text=text)
    try:
        processor = load_mask_processor(model)
    except UsageError as error:
        text = f"The masks cannot be shown: {error.got}. To install it, {error.fix}."
        return None, TextSection(title=_MASK_TITLE, text=text, is_warning=True)
    text = (
        f"The first {MAX_MASKED} traces show the training example as {model} reads it. The loss covers the marked part: "
        "messages of the model, without the calls of deliberate mistakes, and never results of operations."
    )
    return (lambda trace: mask_segments(trace, processor)), TextSection(
        title=_MASK_TITLE, text=text
    )


def load_mask_processor(model: str) -> Any:
    """Return the processor of a model.

    Raises:
        UsageError: the packages of the extra `local` are not installed.
        ModelError: no such model.
    """
    with require_extra("local", "show loss masks"):
        from pixel_reasoner.models.hub import local_model
        from pixel_reasoner.models.local import load_processor
    return load_processor(str(local_model(model)))


def mask_segments(trace: Trace, processor: Any) -> tuple[MaskSegment, ...]:
    """Return the training example of a trace: its texts without picture tokens, and which of them the loss covers.

    Raises:
        InputError: unusable media, or pictures of another size than the model's.
        ModelError: a chat template that does not mark the messages of the model.
    """
    spans = mask_spans(encode(trace, processor), processor)
    return merge_segments([(is_trained, "".join(tokens)) for is_trained, tokens in spans])


def merge_segments(spans: Sequence[tuple[bool, str]]) -> tuple[MaskSegment, ...]:
    """Return segments in which neighbours differ and none is empty.

    >>> [one.text for one in merge_segments([(True, "a"), (False, ""), (True, "b"), (False, "c")])]
    ['ab', 'c']
    """
    filled = (span for span in spans if span[1])
    return tuple(
        MaskSegment(text="".join(text for _, text in group), is_trained=is_trained)
        for is_trained, group in groupby(filled, key=lambda span: span[0])
    )


def _with_mask(asked: Asked, mask_of: MaskOf) -> Asked:
    try:
        return asked._replace(mask=mask_of(asked.trace))
    except (InputError, ModelError) as error:
        note = f"not shown: {error.got}"
        return asked._replace(facts={**asked.facts, "loss mask": note})
