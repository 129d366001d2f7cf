"""Pages of a report: one self-contained HTML file, or a folder if it would be larger than `MAX_PAGE_BYTES`.

A folder works from `file://` and on any static file server: `index.html`, `parts/` with the items, `pictures/`.
Items and pictures are written to a temporary folder one at a time, so memory does not grow with their number. The page is
assembled after the last one.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import Field

from pixel_reasoner.errors import OutputError
from pixel_reasoner.files import TEMPORARY_PREFIX, atomic_folder, atomic_writer, cannot_write
from pixel_reasoner.reports.entry import Asked, build_item
from pixel_reasoner.reports.facets import EFFECT, FILTERS
from pixel_reasoner.reports.html import frame
from pixel_reasoner.reports.pictures import MAX_SOURCE_PX, PictureStore
from pixel_reasoner.reports.schema import Fact, Item, ListEntry, Report, Section
from pixel_reasoner.reports.steps import outcome_in_words
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Grade, grade_reply

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_PAGE_BYTES = 25_000_000
"""a larger report becomes a folder"""
ITEMS_PER_PART = 50
_WORKERS = 2
"""threads that encode pictures"""
_MAX_VALUES = 4
"""maximum number of shown values of a setting that differs between traces"""
INDEX = "index.html"
_MARK = "report.json"
"""file of a folder by which a later report recognizes that it may replace it"""

T = TypeVar("T")
R = TypeVar("R")


class PageSummary(Record):
    """What was written."""

    traces: int
    unshown: dict[str, int] = Field(default_factory=dict)
    """reason -> number of pictures that could not be shown"""
    out: Path = Path()
    """the page; `index.html` of a folder where the report is large"""


class PageLimits(NamedTuple):
    """Limits of a page."""

    max_page_bytes: int = MAX_PAGE_BYTES
    max_source_px: int = MAX_SOURCE_PX
    """sources with more pixels are scaled down"""


DEFAULT_LIMITS = PageLimits()


class Row(NamedTuple):
    """Traces of one question, and its further filter values."""

    asked: Sequence[Asked]
    facets: Mapping[str, tuple[str, ...]] = {}


def write_report(  # noqa: PLR0913 - contents of a page
    traces: Iterable[Trace],
    out: Path,
    title: str = "Pixel Reasoner traces",
    *,
    sections: Sequence[Section] = (),
    outcomes: Mapping[str, str] | None = None,
    graded: Callable[[Trace], Grade | None] = grade_reply,
    root: Path | None = None,
    limits: PageLimits = DEFAULT_LIMITS,
) -> PageSummary:
    """Write traces as one page, atomically.

    Args:
        traces: traces to show.
        out: path of the page.
        title: title of the page.
        sections: shown above the traces.
        outcomes: question id -> effect of operations on its answer (`reports.pairs`), for a filter.
        graded: function that grades a trace.
        root: folder of the run; paths of missing pictures are relative to it.
        limits: of the page.

    >>> from pixel_reasoner.schema.question import Question
    >>> from pixel_reasoner.schema.trace import StopReason
    >>> question = Question(id="q1", text="How many?", media=())
    >>> page = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_report([Trace(question=question, stop=StopReason.NO_ANSWER)], page).traces
    1
    >>> '"How many?"' in page.read_text(encoding="utf-8")
    True

    Raises:
        OutputError: the file cannot be written.
    """

    def rows() -> Iterator[Row]:
        for trace in traces:
            effect = (outcomes or {}).get(trace.question.id)
            facets = {EFFECT: (effect,)} if effect else {}
            yield Row([Asked(trace, outcome_in_words(graded(trace)))], facets)

    report = Report(title=title, sections=tuple(sections))
    return write_rows(rows(), out, report, root, limits=limits)


def write_rows(  # noqa: PLR0913 - contents of a page
    rows: Iterable[Row],
    out: Path,
    report: Report,
    root: Path | None = None,
    on_item: Callable[[int], None] = lambda number: None,
    *,
    late_warnings: Callable[[], Sequence[str]] = tuple,
    limits: PageLimits = DEFAULT_LIMITS,
    picture_store: Callable[[Path, int], PictureStore] = PictureStore,
) -> PageSummary:
    """Write a report with the traces of `rows`.

    Args:
        rows: one per question; iterated once.
        out: path of an HTML file, or of a folder if it has no suffix.
        report: title and sections; entries, filters and settings of the traces are added.
        root: folder of the run; paths of missing pictures are relative to it.
        on_item: called with the number of items so far.
        late_warnings: returns warnings that are known after the last row.
        limits: of the page.
        picture_store: returns the store for a folder and a limit of pixels.

    Raises:
        OutputError: the path cannot be written.
    """
    out = Path(out)
    with _work_folder(out) as work:
        writer = _Writer(work, root, limits, picture_store)
        for number, (item, row, row_settings) in enumerate(writer.build(rows), start=1):
            writer.add(item, row, row_settings)
            on_item(number)
        warnings = (*report.warnings, *late_warnings())
        return writer.finish(out, report.model_copy(update={"warnings": warnings}))


# --- writing ---


class _Writer:
    """Items and pictures in a temporary folder."""

    def __init__(
        self,
        work: Path,
        root: Path | None,
        limits: PageLimits,
        picture_store: Callable[[Path, int], PictureStore],
    ) -> None:
        (work / "pictures").mkdir()
        self.work, self.root, self.limits = work, root, limits
        self.store = picture_store(work / "pictures", limits.max_source_px)
        self.rows: list[ListEntry] = []
        self.settings: dict[str, Counter[str]] = defaultdict(Counter)
        self.items_path = work / "items.jsonl"
        self.num_bytes = 0

    def build(self, rows: Iterable[Row]) -> Iterator[tuple[Item, ListEntry, list[tuple[str, str]]]]:
        """Yield the items in order. Pictures are encoded in threads."""

        def build(numbered: tuple[int, Row]) -> tuple[Item, ListEntry, list[tuple[str, str]]]:
            number, row = numbered
            item, entry = build_item(number, row.asked, self.store, self.root, row.facets)
            trace = row.asked[0].trace
            settings = {**trace.settings.to_dict(), "versions": trace.versions}
            return item, entry, list(flat_settings(settings))

        return _map_in_order(build, enumerate(rows))

    def add(self, item: Item, row: ListEntry, settings: Iterable[tuple[str, str]]) -> None:
        """Write an item."""
        line = _inert(item.to_json()) + "\n"
        with self.items_path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.num_bytes += len(line.encode())
        self.rows.append(row)
        for name, value in settings:
            self.settings[name][value] += 1

    def finish(self, out: Path, report: Report) -> PageSummary:
        """Write the page or the folder."""
        names = {name for row in self.rows for name in row.facets}
        complete = report.model_copy(
            update={
                "entries": tuple(self.rows),
                "filters": (*(n for n in FILTERS if n in names), *sorted(names - set(FILTERS))),
                "settings": report.settings or tuple(self._settings()),
                "warnings": (*report.warnings, *self._warnings()),
            }
        )
        text = _inert(complete.to_json())
        # Base64 takes 4 bytes for 3.
        size = len(text.encode()) + self.num_bytes + self.store.num_bytes * 4 // 3
        is_folder = not out.suffix or size > self.limits.max_page_bytes
        if is_folder:
            written = self._write_folder(out.with_suffix(""), complete, text)
            if out.suffix:
                out.unlink(missing_ok=True)  # of an earlier, smaller report
        else:
            written = self._write_page(out, complete, text)
        return PageSummary(traces=len(self.rows), unshown=dict(self.store.unshown), out=written)

    def _write_page(self, out: Path, report: Report, text: str) -> Path:
        with atomic_writer(out) as page:
            page.writelines(_frame(report, text, self._blocks(), is_folder=False))
        return out

    def _blocks(self) -> Iterator[Markup]:
        """Yield script elements with the items, then with the pictures."""
        from markupsafe import Markup

        for number, line in enumerate(self._lines()):
            yield Markup(f'<script type="application/json" id="item-{number}">{line}</script>')
        for path in sorted(self.store.folder.iterdir()):
            data = base64.b64encode(path.read_bytes()).decode()
            yield Markup(f'<script type="text/plain" id="file-{path.name}">{data}</script>')

    def _write_folder(self, out: Path, report: Report, text: str) -> Path:
        _check_replaceable(out)
        with atomic_folder(out) as folder:
            shutil.move(self.store.folder, folder / "pictures")
            (folder / "parts").mkdir()
            for number, part in enumerate(_batches(self._lines(), ITEMS_PER_PART)):
                script = f"pixelReasonerPart({number}, [{','.join(part)}]);\n"
                (folder / "parts" / f"{number}.js").write_text(script, encoding="utf-8")
            with (folder / INDEX).open("w", encoding="utf-8") as page:
                page.writelines(_frame(report, text, iter(()), is_folder=True))
            mark = {"format_version": report.format_version, "traces": len(self.rows)}
            (folder / _MARK).write_text(json.dumps(mark), encoding="utf-8")
        return out / INDEX

    def _lines(self) -> Iterator[str]:
        if self.items_path.exists():
            with self.items_path.open(encoding="utf-8") as file:
                for line in file:
                    yield line.rstrip("\n")

    def _settings(self) -> Iterator[Fact]:
        """Yield the values of each setting of the traces, with counts if they differ."""
        for name, values in sorted(self.settings.items()):
            shown = [
                value if count == len(self.rows) else f"{value} ({count})"
                for value, count in values.most_common(_MAX_VALUES)
            ]
            shown += ["…"] if len(values) > _MAX_VALUES else []
            yield Fact(name=name, value=", ".join(shown))

    def _warnings(self) -> Iterator[str]:
        if total := sum(self.store.unshown.values()):
            reasons = self.store.unshown.most_common(3)
            more = len(self.store.unshown) - len(reasons)
            listed = "; ".join(f"{count} × {why}" for why, count in reasons)
            yield f"Pictures not shown: {total}. {listed}{f'; and {more} other reasons' * (more > 0)}"


def _frame(
    report: Report, text: str, blocks: Iterator[Markup], *, is_folder: bool
) -> Iterator[str]:
    from markupsafe import Markup

    has_charts = any(section.type == "charts" for section in report.sections)
    return frame(report.title, Markup(text), blocks, has_charts=has_charts, is_folder=is_folder)


def _inert(text: str) -> str:
    """Return JSON that is the same value, and cannot end the script element that contains it."""
    return text.replace("<", "\\u003c")


def _batches(lines: Iterator[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _map_in_order(function: Callable[[T], R], values: Iterable[T]) -> Iterator[R]:
    """Yield the results of a function in order, computed in threads a few values ahead."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        pending = deque[Any]()
        try:
            for value in values:
                pending.append(pool.submit(function, value))
                if len(pending) > 2 * _WORKERS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    name = ""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as name:
            yield Path(name)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        if name:  # Ctrl-C may have interrupted the removal
            shutil.rmtree(name, ignore_errors=True)


def is_report_folder(folder: Path) -> bool:
    """Return whether a folder contains a report, which a later report may replace."""
    return (folder / _MARK).is_file()


def _check_replaceable(folder: Path) -> None:
    """Raise an error unless a folder can be replaced.

    Raises:
        OutputError: it contains something else than a report.
    """
    if folder.exists() and not is_report_folder(folder):
        raise OutputError(
            expected=f"a new folder, or a report: the page is too large for one file, {folder}",
            got="a file or folder with something else",
            fix="choose another --out, or show fewer traces with --limit",
        )


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings with dotted names.

    >>> list(flat_settings({"model": "tiny", "budgets": {"crop": 4096}}))
    [('model', 'tiny'), ('budgets.crop', '4096')]
    """
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat_settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, default=str)
