"""Media of a batch, one unit at a time: files, folders, globs, zip files, tables, pages of documents, parts of clips.

A medium that cannot be used is a unit with an error: one row, and the rest goes on. Headers of pictures are not read here: a
broken picture fails when its question is asked.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import path_exists
from pixel_reasoner.media.access import check_access
from pixel_reasoner.media.documents import DOCUMENT_SUFFIXES, is_document
from pixel_reasoner.media.folders import natural_key
from pixel_reasoner.media.images import OPTIONAL_SUFFIXES, PICTURE_SUFFIXES
from pixel_reasoner.media.remote_media import local_item, object_names
from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.schema.media_url import check_url, is_url, join_media
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.survey.archives import zip_members
from pixel_reasoner.workflows.survey.dividing import IN_THIS_PROCESS, FileDivider
from pixel_reasoner.workflows.survey.media_tables import TABLE_SUFFIXES, table_rows
from pixel_reasoner.workflows.survey.shots import Window, clip_windows

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"})
ZIP_SUFFIXES = frozenset({".zip"})
MEDIA_SUFFIXES = PICTURE_SUFFIXES | OPTIONAL_SUFFIXES | VIDEO_SUFFIXES
_PAGED_SUFFIXES = frozenset({".tif", ".tiff"})


@dataclass(frozen=True)
class MediaUnit:
    """What one set of questions is asked about: a picture, a page, a clip, a part of a clip."""

    id: str
    """unique and the same in each run: the path as given, with `#page=3` or `#t=10,20`; or the id of a table row"""
    items: tuple[MediaItem, ...] = ()
    path: str = ""
    """path as given; `a.zip/b.png` for a file in a zip file"""
    page: int | None = None
    """page of a document or TIFF, from 1"""
    window: Window | None = None
    """start and end of the part of a clip in seconds from its start"""
    data: Mapping[str, Any] = field(default_factory=dict)
    """other columns of the row of a table"""
    error: str | None = None
    """why it cannot be used"""


@dataclass(frozen=True, kw_only=True)
class UnitOptions:
    """How media are divided into units.

    Raises:
        UsageError: values that do not fit.
    """

    every_s: Fraction | None = None
    """length of the windows of a clip; None: no windows"""
    shots: bool = False
    """whether each shot of a clip is one unit"""
    column: str | None = None
    """column of tables with the path; None: the first of `media_tables.PATH_COLUMNS` that exists"""
    max_pages: int = 1_000
    """pages of one document; of a longer one the rest is one row with an error"""
    allow_media: tuple[Path, ...] = ()
    """folders, besides that of a table, from which its rows may name media"""
    store: MediaStore | None = None
    """receives the files of zip files"""
    skip: tuple[Path, ...] = ()
    """folders that are left out, such as the output"""
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS
    divider: FileDivider = IN_THIS_PROCESS
    """reads the pages and shots of a file, in this process or in workers"""

    def __post_init__(self) -> None:
        if self.every_s is not None and self.every_s <= 0:
            raise UsageError(
                expected="a length of windows above 0 s",
                got=f"{float(self.every_s):g} s",
                fix="for example 10s",
            )
        if self.every_s is not None and self.shots:
            raise UsageError(
                expected="windows or shots",
                got="both --every and --shots",
                fix="leave out one of them",
            )
        if self.max_pages < 1:
            raise UsageError(
                expected="at least one page", got=str(self.max_pages), fix="raise --max-pages"
            )


def read_units(
    sources: Iterable[str | Path], options: UnitOptions | None = None
) -> Iterator[MediaUnit]:
    """Yield the units of all sources in a fixed order: as given, and files of a folder by name, numbers by value.

    Args:
        sources: pictures, clips, documents, folders, globs such as `shots/**/*.jpg`, zip files, and tables (CSV, TSV, JSONL,
            Parquet) with a column of paths.
        options: how media are divided.

    A duplicate of a unit is a unit with an error.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a10.png", "a9.png", "notes.txt"):
    ...     _ = (folder / name).write_text("")
    >>> [Path(unit.id).name for unit in read_units([folder, folder / "no.png"])]
    ['a9.png', 'a10.png', 'no.png']
    """
    chosen = options or UnitOptions()
    return unique_units(unit for source in sources for unit in _source_units(str(source), chosen))


def unique_units(units: Iterable[MediaUnit]) -> Iterator[MediaUnit]:
    """Yield units. One with the id of an earlier one gets another id and an error. Keeps eight bytes or so per unit."""
    seen: dict[int, int] = {}
    for unit in units:
        key = hash(unit.id)
        count = seen[key] = seen.get(key, 0) + 1
        if count == 1:
            yield unit
        else:
            error = f"expected unique ids; got {unit.id!r} for the {_ordinal(count)} time"
            yield replace(unit, id=f"{unit.id}#duplicate={count}", error=error)


def check_sources(sources: Sequence[str | Path]) -> None:
    """Raise an error for a source that does not exist, before a model is loaded.

    Raises:
        UsageError: no sources.
        InputError: a path that does not exist, or a glob without a match.
    """
    if not sources:
        raise UsageError(
            expected="pictures, clips, documents, folders, zip files or tables",
            got="none",
            fix="name at least one",
        )
    for source in map(str, sources):
        if is_url(source):
            check_url(source)
        elif not path_exists(Path(source)) and not (_is_glob(source) and any(_matches(source))):
            raise InputError(
                expected="an existing file or folder, or a glob that matches some",
                got=source,
                fix="check the path",
            )


def count_units(sources: Iterable[str | Path], options: UnitOptions) -> int | None:
    """Return the number of units of files and folders; None if files must be opened to count them.

    >>> count_units(["/"], UnitOptions(skip=tuple(Path("/").iterdir()))), count_units(["*.png"], UnitOptions())
    (0, None)
    """
    total = 0
    has_parts = options.shots or options.every_s is not None
    for source in map(str, sources):
        if is_url(source) or not path_exists(Path(source)):  # a glob
            return None
        names = media_files(source, options.skip) if Path(source).is_dir() else iter([source])
        for name in names:
            suffix = Path(name).suffix.lower()
            is_one = suffix in PICTURE_SUFFIXES | OPTIONAL_SUFFIXES | VIDEO_SUFFIXES
            is_divided = suffix in _PAGED_SUFFIXES | DOCUMENT_SUFFIXES
            if not is_one or is_divided or (has_parts and suffix in VIDEO_SUFFIXES):
                return None
            total += 1
    return total


def file_units(name: str, options: UnitOptions, path: Path | None = None) -> Iterator[MediaUnit]:
    """Yield the units of one file: itself, its pages, or the parts of a clip.

    Args:
        name: path as given, for ids and messages.
        options: how it is divided.
        path: of the file, if it is stored elsewhere.
    """
    path = path or Path(name)
    suffix = path.suffix.lower()
    try:
        if suffix in VIDEO_SUFFIXES:
            yield from _clip_units(name, path, options)
        elif is_document(path) or suffix in _PAGED_SUFFIXES:
            yield from _page_units(name, path, options)
        else:
            yield MediaUnit(name, (_item(path, "image"),), name)
    except InputError as error:
        yield failed_unit(name, error)


def failed_unit(name: str, error: Exception | str) -> MediaUnit:
    """Return the unit of a source that cannot be used."""
    return MediaUnit(name, path=name, error=str(error))


# --- sources ---


def _source_units(source: str, options: UnitOptions) -> Iterator[MediaUnit]:
    path = Path(source)
    if is_url(source):
        yield from _url_units(source, options)
    elif not path_exists(path) and _is_glob(source):
        names = [name for name in _matches(source) if Path(name).is_dir() or _is_source(name)]
        if not names:
            yield failed_unit(source, f"expected a glob that matches media; got none for {source}")
        for name in sorted(names, key=natural_key):
            if not Path(name).is_dir():
                yield from _path_units(name, options)
    else:
        yield from _path_units(source, options)


def _url_units(source: str, options: UnitOptions) -> Iterator[MediaUnit]:
    """Yield the units of one object, or of all objects below a URL that ends with a slash."""
    try:
        if not source.endswith("/"):
            yield from _object_units(source, (source,), options)
            return
        found = [name for name in object_names(source) if _has_media_suffix(name)]
        if not found:
            raise InputError(
                expected="pictures, clips or documents below the URL",
                got=f"none in {source}",
                fix="check the URL",
            )
    except InputError as error:
        yield failed_unit(source, error)
        return
    for name in sorted(found, key=natural_key):
        yield from _object_units(name, (source,), options)


def _object_units(
    url: str, allowed: Sequence[Path | str], options: UnitOptions
) -> Iterator[MediaUnit]:
    """Yield the units of an object. Only one that is divided is read here."""
    suffix = Path(url).suffix.lower()
    kind: Literal["image", "video"] = "video" if suffix in VIDEO_SUFFIXES else "image"
    item = MediaItem(kind=kind, path=url).restricted(allowed)
    has_parts = kind == "video" and (options.shots or options.every_s is not None)
    try:
        check_access(item)
        if suffix in ZIP_SUFFIXES | TABLE_SUFFIXES:
            raise InputError(
                expected="the URL of a picture, a clip or a document, or a prefix that ends with /",
                got=url,
                fix="copy zip files and tables to this machine; rows of a table may name URLs",
            )
        if not has_parts and suffix not in _PAGED_SUFFIXES | DOCUMENT_SUFFIXES:
            yield MediaUnit(url, (item,), url)
            return
        with local_item(item, options.limits) as here:
            units = list(file_units(url, options, Path(here.path)))
    except InputError as error:
        yield failed_unit(url, error)
        return
    for unit in units:
        items = tuple(one.model_copy(update={"path": url}) for one in unit.items)
        yield replace(unit, items=tuple(one.restricted(allowed) for one in items))


def _has_media_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in MEDIA_SUFFIXES


def _path_units(source: str, options: UnitOptions) -> Iterator[MediaUnit]:
    path = Path(source)
    suffix = path.suffix.lower()
    if not path_exists(path):
        yield failed_unit(source, f"expected an existing file; got {source}")
    elif path.is_dir():
        yield from _folder_units(source, options)
    elif suffix in ZIP_SUFFIXES:
        yield from _zip_units(source, options)
    elif suffix in TABLE_SUFFIXES:
        yield from _table_units(source, options)
    else:
        yield from file_units(source, options)


def _folder_units(source: str, options: UnitOptions) -> Iterator[MediaUnit]:
    is_empty = True
    for name in media_files(source, options.skip):
        is_empty = False
        yield from file_units(name, options)
    if is_empty:
        yield failed_unit(
            source, f"expected a folder with pictures, clips or documents; got none in {source}"
        )


def media_files(folder: str, skip: Sequence[Path] = ()) -> Iterator[str]:
    """Yield the paths of the media below a folder, in natural order, without hidden files and links to folders."""
    skipped = {path.resolve() for path in skip}
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in sorted(folders, key=natural_key)
            if not name.startswith(".") and (Path(parent) / name).resolve() not in skipped
        ]
        for name in sorted(names, key=natural_key):
            if not name.startswith(".") and Path(name).suffix.lower() in MEDIA_SUFFIXES:
                yield str(Path(parent) / name)


def _zip_units(source: str, options: UnitOptions) -> Iterator[MediaUnit]:
    store = options.store
    assert store is not None, "files of a zip file need a store"
    is_empty = True
    try:
        for member in zip_members(Path(source), MEDIA_SUFFIXES, store, options.limits):
            is_empty = False
            name = f"{source}/{member.name}"
            if member.path is None:
                yield failed_unit(name, member.error)
            else:
                yield from file_units(name, options, member.path)
    except InputError as error:
        yield failed_unit(source, error)
        return
    if is_empty:
        yield failed_unit(
            source, f"expected a zip file with pictures, clips or documents; got none in {source}"
        )


def _table_units(source: str, options: UnitOptions) -> Iterator[MediaUnit]:
    folder = Path(source).parent
    try:
        for row in table_rows(Path(source), options.column):
            if row.error is not None:
                yield MediaUnit(row.id, path=row.path, data=row.data, error=row.error)
                continue
            name = join_media(folder, row.path)
            for unit in _row_units(name, (folder, *options.allow_media), options):
                part = unit.id.removeprefix(name)
                yield replace(unit, id=f"{row.id}{part}", data=row.data)
    except InputError as error:
        yield failed_unit(source, error)


def _row_units(name: str, allowed: Sequence[Path], options: UnitOptions) -> Iterator[MediaUnit]:
    """Yield the units of a medium that a table names. The table may be untrusted: only media in allowed folders are opened."""
    path = Path(name)
    if is_url(name):
        yield from _object_units(name, allowed, options)
        return
    try:
        check_access(_item(path, "image").restricted(allowed))
    except InputError as error:
        yield failed_unit(name, error)
        return
    if not path_exists(path) or path.is_dir():
        what = "a folder" if path_exists(path) else "which does not exist"
        yield failed_unit(name, f"expected a picture, a clip or a document; got {name}, {what}")
    else:
        for unit in file_units(name, options):
            yield replace(unit, items=tuple(item.restricted(allowed) for item in unit.items))


# --- parts of files ---


def _page_units(name: str, path: Path, options: UnitOptions) -> Iterator[MediaUnit]:
    pages = options.divider.pages(path, options.limits)
    if len(pages) == 1 and not is_document(path):
        yield MediaUnit(name, (_item(path, "image"),), name)
        return
    for page in pages[: options.max_pages]:
        yield MediaUnit(f"{name}#page={page}", (_item(path, "image", page=page),), name, page=page)
    if len(pages) > options.max_pages:
        first, last = pages[options.max_pages], pages[-1]
        error = (
            f"expected at most {options.max_pages:,} pages; got {len(pages):,} in {name}. Fix: raise --max-pages to ask "
            f"pages {first:,} to {last:,}"
        )
        yield MediaUnit(f"{name}#page={first}-{last}", path=name, error=error)


def _clip_units(name: str, path: Path, options: UnitOptions) -> Iterator[MediaUnit]:
    if options.every_s is None and not options.shots:
        yield MediaUnit(name, (_item(path, "video"),), name)
        return
    if options.shots:
        windows: Iterable[Window] = options.divider.shots(path, options.limits)
    else:
        assert options.every_s is not None, "checked above"
        windows = clip_windows(options.divider.duration_s(path, options.limits), options.every_s)
    for start, end in windows:
        item = _item(path, "video", start_s=float(start), end_s=float(end))
        yield MediaUnit(
            f"{name}#t={_seconds(start)},{_seconds(end)}", (item,), name, window=(start, end)
        )


def _item(path: Path, kind: str, **fields: Any) -> MediaItem:
    return MediaItem(kind=kind, path=str(path.absolute()), **fields)


def _seconds(value: Fraction) -> str:
    return f"{float(value):.3f}".rstrip("0").rstrip(".")


def _is_glob(source: str) -> bool:
    return glob.has_magic(source)


def _matches(source: str) -> Iterator[str]:
    return glob.iglob(source, recursive=True)  # noqa: PTH207 - a Path has no absolute globs


def _is_source(name: str) -> bool:
    return Path(name).suffix.lower() in MEDIA_SUFFIXES | ZIP_SUFFIXES | TABLE_SUFFIXES


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
