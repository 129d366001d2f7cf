"""Text of documents: questions about the text layer of PDF files, and about scans and photos by OCR (extra `ocr`).

`data` is a PDF, a picture, or a folder with subfolders. A unit is a group of consecutive pages of one file, so that any process
can read any unit. What cannot be used is skipped with its reason: a password, a broken file, an empty or dark page, no text.

The questions (`sources.documents`) are about words that occur once on the page and that are visible on it. Whether a question
needs an operation depends on the height of its text in the overview of the model.

Not covered
    handwriting, mathematics, and the meaning of a text: a labeller can ask about those.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pixel_reasoner.errors import InputError, UsageError, install_command
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, PixelBudgets
from pixel_reasoner.sources.base import SOURCES, Source
from pixel_reasoner.sources.rows import Row, SkippedRow

if TYPE_CHECKING:
    from pixel_reasoner.media.page_text import PageText
    from pixel_reasoner.sources.documents.legibility import Legibility
    from pixel_reasoner.sources.documents.questions import OpenPage

VERSION = 1
"""incremented when a page and seed give other questions"""
PAGES_PER_UNIT = 4
"""pages that are read together, and the pictures of a question about several pages"""
OCR_MODES = ("auto", "never", "always")
DEFAULT_PER_PAGE = 6
_MIN_LAYER_WORDS = 5
"""words of a text layer; with fewer, the page is a scan with a stamp or a number"""
_MIN_CONTRAST = 24
"""of the grey values of a page with anything on it"""
_MAX_DARK = 48
"""brightest grey value of a page that is too dark"""
_MAX_UNREADABLE = 0.3
"""share of words with unknown characters, above which the text layer is no text"""


class DocumentSettings(Record):
    """Settings of questions about the text of documents, in the settings of a synthesis."""

    version: int = VERSION
    per_page: int = DEFAULT_PER_PAGE
    ocr: str = "auto"
    legible_px: float = 12.0


class PageGroup(NamedTuple):
    """Consecutive pages of a file."""

    name: str
    """of the file, relative to the folder"""
    pages: tuple[int | None, ...]
    """numbers from 1; None for a picture with one page"""
    num_bytes: int
    """of the file, so that a run notices another version of it"""


class PageError(Exception):
    """Page that cannot be used. `reason` is a short name for counts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class TextSource(Source):
    """Questions about the text of PDF files and pictures."""

    name: ClassVar[str] = "text"
    summary: ClassVar[str] = (
        "own PDF files and pictures: questions about their text, without a labeller"
    )
    rows_in_workers: ClassVar[bool] = True

    data: Path
    """a file, or a folder with subfolders"""
    seed: NonNegativeInt = 0
    """random seed of the questions"""
    per_page: PositiveInt = DEFAULT_PER_PAGE
    """maximum number of questions about a page"""
    ocr: Annotated[str, Field(pattern="^(auto|never|always)$")] = "auto"
    """auto: pages without a text layer, if the extra is installed"""
    legible_px: PositiveFloat = 12.0
    """height of a line of text in a picture of the prompt, from which a model can read it"""
    text_share: Annotated[float, Field(ge=0, le=1)] = 0.2667
    """share of questions that the overview answers"""
    budgets: PixelBudgets | None = None
    """pixel budgets of the model; None: those of the dialect `compact`"""
    margin: float = 0.25
    min_side: float = 0.12

    def units(self, folder: Path) -> Iterator[PageGroup | SkippedRow]:
        """Yield groups of pages, in the order of file names.

        Raises:
            InputError: no PDF and no picture.
            UsageError: `ocr` is "always", and the extra is not installed.
        """
        del folder
        from pixel_reasoner.sources.documents.recognition import is_ocr_installed

        if self.ocr == "always" and not is_ocr_installed():
            raise UsageError(
                expected="the packages of the extra ocr",
                got="not installed",
                fix=install_command("ocr"),
            )
        is_empty = True
        for path in _document_files(self.data):
            is_empty = False
            yield from _page_groups(path, path.relative_to(_root(self.data)).as_posix())
        if is_empty:
            raise InputError(
                expected="PDF files or pictures",
                got=f"{self.data}: {'none in it' if self.data.is_dir() else 'no such file or folder'}",
                fix="give a file or folder with --data",
            )

    def rows(self, unit: PageGroup | SkippedRow, folder: Path) -> Iterator[Row]:
        """Yield the questions about some pages, page by page, then about all of them."""
        del folder
        from pixel_reasoner.sources.documents.questions import (
            Mixture,
            find_page_questions,
            page_questions,
        )

        if isinstance(unit, SkippedRow):
            yield unit
            return
        legibility, opened = self._legibility(), []
        for number in unit.pages:
            one = self._open(unit, number)
            if isinstance(one, SkippedRow):
                yield one
                continue
            opened.append(one)
            mixture = Mixture(self.per_page, self.text_share)
            questions = page_questions(one, legibility, mixture, self._rng(one.name))
            yield from questions
            if not questions:
                detail = (
                    f"{len(one.page.lines)} lines, and none that is unique, legible and long enough"
                )
                yield SkippedRow(one.name, "no_question", detail)
        if len(opened) > 1:
            rng = self._rng(f"{unit.name}/{unit.pages}")
            count = max(1, self.per_page // 3)
            yield from find_page_questions(opened, legibility, count, rng)

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"text/{VERSION}/{self.seed}/{name}")

    def _legibility(self) -> Legibility:
        from pixel_reasoner.dialects import COMPACT
        from pixel_reasoner.sources.documents.legibility import Legibility

        budgets = self.budgets or COMPACT.budgets
        return Legibility(budgets, self.legible_px, self.margin, self.min_side)

    def _open(self, unit: PageGroup, number: int | None) -> OpenPage | SkippedRow:
        from pixel_reasoner.sources.documents.candidates import Page
        from pixel_reasoner.sources.documents.questions import OpenPage

        path = _root(self.data) / unit.name
        name = unit.name if number is None else f"{unit.name}#page={number}"
        try:
            text = page_text(path, number, self.ocr)
        except PageError as error:
            return SkippedRow(name, error.reason, str(error))
        except InputError as error:
            return SkippedRow(name, "unusable_medium", f"{error.got}; {error.fix}")
        media = MediaItem(kind="image", path=str(path), page=number)
        return OpenPage(name, unit.name, media, Page(text))


SOURCES.register(TextSource.name, TextSource)


def _root(data: Path) -> Path:
    return data if data.is_dir() else data.parent


def _document_files(data: Path) -> Iterator[Path]:
    """Yield the PDF files and pictures of a folder, sorted, or the one file. Hidden files are left out."""
    from pixel_reasoner.media.images import OPTIONAL_SUFFIXES, PICTURE_SUFFIXES

    if data.is_file():
        yield data
        return
    suffixes = PICTURE_SUFFIXES | OPTIONAL_SUFFIXES
    for parent, folders, names in os.walk(data):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                yield Path(parent, name)


def _page_groups(path: Path, name: str) -> Iterator[PageGroup | SkippedRow]:
    """Yield the groups of pages of a file, or the reason why it has none."""
    from pixel_reasoner.media.documents import is_document
    from pixel_reasoner.media.images import picture_pages

    try:
        pages: list[int | None] = list(picture_pages(path, DEFAULT_MEDIA_LIMITS))
        num_bytes = path.stat().st_size
    except InputError as error:
        reason = "password" if "password" in error.expected else "unusable_medium"
        yield SkippedRow(name, reason, f"{error.got}; {error.fix}")
        return
    except OSError as error:
        yield SkippedRow(name, "missing_file", str(error))
        return
    if pages == [1] and not is_document(path):
        pages = [None]
    for start in range(0, len(pages), PAGES_PER_UNIT):
        yield PageGroup(name, tuple(pages[start : start + PAGES_PER_UNIT]), num_bytes)


def page_text(path: Path, page: int | None, ocr: str = "auto") -> PageText:
    """Return the text of a page: its text layer, or else by OCR.

    Args:
        path: of a PDF or picture.
        page: from 1; None for the first.
        ocr: auto, never or always.

    Raises:
        PageError: an empty or dark page, no text, or OCR is needed and not installed.
        InputError: an unusable file.
    """
    from pixel_reasoner.media.documents import is_document
    from pixel_reasoner.media.images import open_image
    from pixel_reasoner.media.text_layer import text_layer
    from pixel_reasoner.sources.documents import recognition

    layer = text_layer(path, DEFAULT_MEDIA_LIMITS, page) if is_document(path) else None
    if layer is not None and ocr != "always" and _is_text(layer):
        return layer
    if layer is None:
        picture = open_image(path, DEFAULT_MEDIA_LIMITS, page)
        preview = recognition.preview(picture)
    else:
        picture, preview = None, layer.preview
    _check_visible(preview)
    if ocr == "never" or not recognition.is_ocr_installed():
        if layer is not None and layer.words:
            return layer
        why = "switched off" if ocr == "never" else f"not installed: {install_command('ocr')}"
        raise PageError("no_text_layer", f"no text layer, and OCR is {why}")
    picture = picture or open_image(path, DEFAULT_MEDIA_LIMITS, page)
    found = recognition.recognized_text(picture)
    if not found.words:
        raise PageError("no_text", "OCR finds no text")
    return found


def _is_text(layer: PageText) -> bool:
    """Return whether a text layer has enough words, with known characters."""
    unreadable = sum("\ufffd" in word.text or min(word.text) < " " for word in layer.words)
    return len(layer.words) >= _MIN_LAYER_WORDS and unreadable <= _MAX_UNREADABLE * len(layer.words)


def _check_visible(preview: Any) -> None:
    import numpy as np

    pixels = np.asarray(preview)
    low, high = (float(value) for value in np.percentile(pixels, (0.1, 99.9)))
    if high < _MAX_DARK:
        raise PageError("dark_page", f"the brightest grey value is {high:.0f} of 255")
    if high - low < _MIN_CONTRAST:
        raise PageError("blank_page", "nothing is visible")
