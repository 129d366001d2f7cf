"""Interface of question sources: own rows, public data sets and PixelWorld.

A source is a record of options, so it can be written to settings and sent to other processes:

    source = open_source("sa1b", data=Path("sa1b"), regions=3)
    for row in source.questions(Path("runs/mine")):
        ...                        # a Question, or a SkippedRow that names the reason

Adding a source touches one file: a class with the decorator `source`, in this package or named by an entry point of
another one (group `pixel_reasoner.sources`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError

from pixel_reasoner.errors import UsageError
from pixel_reasoner.plugin_checks import is_class, is_named
from pixel_reasoner.registry import Registry
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.record import Record
from pixel_reasoner.sources.rows import Row, check_rows

MEDIA = "media"
"""folder of pictures that a source writes, inside the folder of a run"""


@runtime_checkable
class QuestionSource(Protocol):
    """Source of annotated questions.

    A source is a sequence of *units*: small picklable values in a fixed order. `rows` converts a unit to questions,
    which may be
    expensive (a scene is rendered). The result depends on the unit alone, so any process can convert any unit.

    A source writes files only below `folder/media`. Relative media paths of its questions are relative to `folder`.
    """

    name: ClassVar[str]
    """name in `SOURCES` and on the command line"""
    summary: ClassVar[str]
    """content of the source, in one line"""

    def units(self, folder: Path) -> Iterator[Any]:
        """Yield the units in order."""

    def rows(self, unit: Any, folder: Path) -> Iterator[Row]:
        """Yield the questions of a unit, or the reasons for skipped rows."""

    def questions(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all units."""

    def describe(self) -> dict[str, Any]:
        """Return name and options as JSON values, for settings."""


class Source(Record):
    """Base class of sources. The fields are the options."""

    name: ClassVar[str]
    summary: ClassVar[str]
    rows_in_workers: ClassVar[bool] = False
    """whether `rows` is expensive, so that synthesis calls it in its workers; ids of rows must then be unique by themselves"""

    def units(self, folder: Path) -> Iterator[Any]:
        """Yield the units in order."""
        raise NotImplementedError

    def rows(self, unit: Any, folder: Path) -> Iterator[Row]:
        """Yield the rows of a unit."""
        raise NotImplementedError

    def questions(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all units."""
        for unit in self.units(folder):
            yield from self.rows(unit, folder)

    def describe(self) -> dict[str, Any]:
        """Return name and options as JSON values."""
        return {"name": self.name, **self.model_dump(mode="json")}


class FileSource(Source):
    """Base class of file sources. Each row is a unit."""

    data: Path
    """folder or file of the data set"""

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of the data set. Pictures embedded in its files are written below `folder/media`."""
        raise NotImplementedError

    def units(self, folder: Path) -> Iterator[Row]:
        """Yield the rows. An unusable row becomes a `SkippedRow`."""
        return check_rows(self.read(folder))

    def rows(self, unit: Row, folder: Path) -> Iterator[Row]:
        """Yield the unit itself, because it is a row."""
        del folder
        yield unit


def _check_source(name: str, item: Any) -> None:
    is_of_files = isinstance(item, type) and issubclass(item, FileSource)
    base, methods = (FileSource, ("read",)) if is_of_files else (Source, ("units", "rows"))
    is_class("source", base, ("name", "summary"), methods)(name, item)
    is_named("source", name, item.name)


SOURCES = Registry[type[QuestionSource]](
    "source", package="pixel_reasoner.sources", check=_check_source
)
"""sources by name"""
_Kind = TypeVar("_Kind", bound=type)


def source(kind: _Kind) -> _Kind:
    """Register a class as a source, under its `name`; a decorator.

    Args:
        kind: class of `Source` with `units` and `rows`, or of `FileSource` with `read`.

    Raises:
        PluginError: the name is taken, or a method or attribute is missing.

    >>> @source
    ... class Sums(Source):
    ...     name = "sums"
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.PluginError: expected the source 'sums' as a class with name, summary, units(), rows(); got the class Sums of pixel_reasoner.sources.base without summary, units(), rows(). Fix: add summary
    """
    SOURCES.register(getattr(kind, "name", kind.__name__), kind)
    return kind


def open_source(name: str, **options: Any) -> QuestionSource:
    """Return a source with options.

    Raises:
        UnknownNameError: no such source; the nearest names are listed.
        UsageError: an option is missing, unknown or of another type.

    >>> open_source("sa1b", data=Path("photos"), region=3)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected options of the source sa1b: data, regions; got region: Extra inputs are not permitted. Fix: correct this option
    """
    kind = SOURCES.get(name)
    try:
        return kind(**options)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            expected=f"options of the source {name}: {', '.join(option_names(kind))}",
            got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            fix="correct this option",
        ) from error


def option_names(kind: type[QuestionSource]) -> list[str]:
    """Return the names of the options of a source.

    >>> option_names(SOURCES.get("sa1b"))
    ['data', 'regions']
    """
    return list(getattr(kind, "model_fields", ()))


class QuestionStream(Iterable[Question]):
    """Re-iterable stream of questions. Each iteration parses the files again, so memory stays constant.

    >>> stream = QuestionStream(lambda: (Question(id=str(n), text="?", media=()) for n in range(2)))
    >>> len(list(stream)), len(list(stream))
    (2, 2)
    """

    def __init__(self, read: Callable[[], Iterator[Question]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Question]:
        """Return an iterator from the first question on."""
        return self._read()
