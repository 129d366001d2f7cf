"""Labeller: a vision model behind an endpoint that completes annotations, between the source and the trace writer.

    a region without a question (SA-1B)     question, four options, the answer, and a finding
    a question with evidence, on request    a finding per crop of the evidence (`Analysis.LABELLER`)

The labeller receives the region as `zoom_in` returns it. If the region does not support an answer, it replies "not
valid",
and the row is dropped. Rows are labelled concurrently and returned in order, each as a question or a `SkippedRow`.

Differences from the paper (arXiv 2505.15966, appendix E.2)
    1. The labeller does not write trajectories: it returns findings, and templates write the traces.
    2. The four options are shuffled, because models place the right option at B too often.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar

from pixel_reasoner.data.endpoint import Endpoint, LabelQuestion
from pixel_reasoner.data.expert import ExpertConfig, zoom_box
from pixel_reasoner.data.labels import Analysis, Task, findings_task, region_task
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.remote_media import remote_version
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import (
    Evidence,
    MediaItem,
    Question,
    with_media_root,
)
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.sources.rows import Row, RowError, SkippedRow

VERSION = 1
"""incremented when the prompt or pictures of a row change, or when a reply is parsed differently"""
LABELLER_BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=448**2, max_px=1024**2),
    crop=PixelBudget(min_px=448**2, max_px=768**2),
    frame=PixelBudget(min_px=224**2, max_px=448**2),
    selected_frame=PixelBudget(min_px=224**2, max_px=448**2),
    multiple=1,
)
"""pixel budgets of the pictures in labeller requests"""

REGIONS_ONLY = "sa1b"
"""source whose rows have no question"""
_MAX_HELD_ROWS = 1000
_Unit = TypeVar("_Unit")


class LabellerSettings(Record):
    """Labeller settings that influence the traces of a run."""

    model: str
    analysis: Analysis = Analysis.TEMPLATE
    calls: int | None = None
    """maximum number of calls; None: no limit"""
    version: int = VERSION


def labeller_settings(
    source: str, urls: Sequence[str], model: str | None, analysis: str, calls: int | None
) -> LabellerSettings | None:
    """Return the labeller settings of a run; None without a labeller.

    Raises:
        UsageError: a missing option, or a labeller without a task.
    """
    if analysis not in [*Analysis]:
        raise UsageError(
            expected=f"--analysis {' or '.join(Analysis)}", got=analysis, fix="name one of these"
        )
    needs_labeller = source == REGIONS_ONLY or analysis == Analysis.LABELLER
    if not urls and not needs_labeller:
        return None
    if not urls or not model:
        why = (
            "SA-1B has regions and no questions"
            if source == REGIONS_ONLY
            else f"--analysis {analysis} needs a labeller"
        )
        raise UsageError(
            expected=f"--labeller URL and --labeller-model NAME: {why}",
            got="no model" if urls else "none",
            fix="for example --labeller http://localhost:8000/v1 --labeller-model Qwen/Qwen3-VL-8B-Instruct",
        )
    if not needs_labeller:
        raise UsageError(
            expected="a task for the labeller",
            got=f"{source}, which has questions and answers, and --analysis {analysis}",
            fix="add --analysis labeller, or leave --labeller out",
        )
    return LabellerSettings(model=model, analysis=Analysis(analysis), calls=calls)


class View(NamedTuple):
    """One picture in a labeller request."""

    kind: Literal["picture", "crop", "frame"]
    number: int
    box: Box | None = None


class Labeller:
    """Concurrent labelling of rows through an endpoint.

    Context manager: on exit, no call starts, and running calls finish.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        analysis: Analysis,
        config: ExpertConfig,
        folder: Path,
        wanted: int,
    ) -> None:
        """Start the threads. Sends no request.

        Args:
            endpoint: client of the labeller.
            analysis: whether questions with an answer are labelled too.
            config: margin of a crop around the evidence.
            folder: root of relative media paths.
            wanted: number of traces of the run. After the budget is spent, at most this number of rows counts as not
            asked.
        """
        self.endpoint = endpoint
        self.analysis = analysis
        self.config = config
        self.folder = folder
        self.wanted = wanted
        self._pool = ThreadPoolExecutor(endpoint.config.concurrency, "labeller")

    def __enter__(self) -> Self:
        """Return the labeller itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish and close the connections."""
        self.finish()
        self.endpoint.pool.close()

    def note(self) -> str:
        """Return call counts for a progress bar."""
        counts = self.endpoint.counts()
        return f"{counts['calls']} calls, {counts['cached']} answers from the cache"

    def finish(self) -> dict[str, int]:
        """Start no further call, cache the replies of running calls, and return the call counts."""
        self.endpoint.stop()
        self._pool.shutdown(cancel_futures=True)
        return self.endpoint.counts()

    def label_units(
        self,
        units: Iterable[_Unit],
        rows_of: Callable[[_Unit], Row | list[Row]],
        folder: Path | None = None,
    ) -> Iterator[Row | list[Row]]:
        """Yield one result per unit, in order. After the budget is spent, rows with cached replies are still yielded.

        Args:
            units: consumed lazily.
            rows_of: returns the row or rows of a unit; called in a thread.
            folder: root of relative media paths; default: the labeller's.

        Raises:
            EndpointError: the servers do not answer any more.
        """
        units = iter(units)
        waiting: deque[Future[Row | list[Row]]] = deque()
        size = self.endpoint.config.concurrency
        not_asked = 0
        # A row without a reply is skipped only after a later row gets one. If none does, the run stops and skips no
        # row.
        held: list[Row | list[Row]] = []
        while not_asked < self.wanted:
            for unit in islice(units, 2 * size - len(waiting)):
                waiting.append(self._pool.submit(self._unit, unit, rows_of, folder or self.folder))
            if not waiting:
                break
            done = waiting.popleft().result()
            rows = done if isinstance(done, list) else [done]
            not_asked += sum(isinstance(r, SkippedRow) and r.reason == "not_asked" for r in rows)
            held.append(done)
            if self.endpoint.is_answering or len(held) == _MAX_HELD_ROWS:
                yield from held
                held = []
        yield from held

    def _unit(
        self, unit: _Unit, rows_of: Callable[[_Unit], Row | list[Row]], folder: Path
    ) -> Row | list[Row]:
        rows = rows_of(unit)
        if isinstance(rows, list):
            return [self.label(row, folder) for row in rows]
        return self.label(rows, folder)

    def label(self, row: Row, folder: Path | None = None) -> Row:
        """Return a row with its missing fields filled in, or the row itself if none is missing.

        Raises:
            EndpointError: the servers do not answer any more.
        """
        if isinstance(row, SkippedRow) or not self._needs_label(row):
            return row
        assert row.evidence is not None, "labels describe evidence"
        views = list(_views(row, row.evidence, self.config))
        text, read = self._task(row, row.evidence)
        question = with_media_root(row, folder or self.folder)
        try:
            key = _key(self.endpoint.config.model, text, question.media, views)
            pictures = partial(_jpegs, question, views)
            fields = self.endpoint.ask(LabelQuestion(key, text, pictures), read)
        except RowError as error:
            return SkippedRow(row.id, error.reason, str(error))
        except InputError as error:
            return SkippedRow(row.id, "unusable_medium", str(error))
        if fields is None:
            return SkippedRow(row.id, "not_valid", "the labeller found nothing to ask about")
        return row.model_copy(update=fields)

    def _needs_label(self, row: Question) -> bool:
        evidence = row.evidence
        if evidence is None or row.needs_look is False:
            return False
        if not row.text:
            return bool(evidence.boxes)
        shown = evidence.boxes or evidence.frames
        return self.analysis is Analysis.LABELLER and bool(row.answer and shown)

    def _task(self, row: Question, evidence: Evidence) -> Task:
        if row.text:
            return findings_task(row, evidence)
        region = zoom_box(evidence.boxes[0], self.config)
        return region_task(row, evidence, region, self.analysis)


# --- pictures ---


def _views(row: Question, evidence: Evidence, config: ExpertConfig) -> Iterator[View]:
    if not row.text:
        yield View("picture", evidence.image)
    for frame in evidence.frames:
        yield View("frame", frame)
    for clue in evidence.boxes:
        yield View("crop", evidence.image, zoom_box(clue, config))


def _key(model: str, text: str, media: tuple[MediaItem, ...], views: list[View]) -> str:
    """Return the cache key of a request. It hashes files instead of pixels, so a cache hit needs no decoding."""
    asked = {
        "version": VERSION,
        "model": model,
        "text": text,
        "media": [
            [_item_digest(m), m.kind, m.start_s, m.end_s, *([m.page] if m.page else [])]
            for m in media
        ],
        "views": views,
        "seen": LABELLER_BUDGETS.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _item_digest(item: MediaItem) -> str:
    return remote_version(item) if is_url(item.path) else _digest(Path(item.path))


def _digest(path: Path) -> str:
    if path.is_dir():
        files = [[one.name, _digest(one)] for one in sorted(path.iterdir()) if one.is_file()]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RowError("missing_file", str(path)) from error


def _jpegs(question: Question, views: list[View]) -> Iterator[bytes]:
    context = MediaContext(question, LABELLER_BUDGETS)
    originals = len(context)
    for view in views:
        if view.kind == "frame":
            if view.number not in context.frames:
                raise RowError(
                    "bad_frame", f"expected 1 to {context.num_frames}; got {view.number}"
                )
            number = context.add_frames([view.number])[0].number
        else:
            if not 1 <= view.number <= originals:
                raise RowError("bad_image_number", f"expected 1 to {originals}; got {view.number}")
            number = context.add_crop(view.number, view.box).number if view.box else view.number
        file = io.BytesIO()
        context.view(number).save(file, "JPEG", quality=95, subsampling=0)
        yield file.getvalue()
