"""Pages of untrusted PDF files as RGB pictures, by pypdfium2 (extra `workflows`).

A page is rendered at `RENDER_DPI`, or at less where it would exceed the limits of pixels or memory, so its crops show more
than its overview. Forms are drawn, `CropBox`, `UserUnit` and rotation are applied. PDFium is not thread-safe: one lock
serializes all calls.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import SecretStr

from pixel_reasoner.errors import InputError, install_command
from pixel_reasoner.files import read_secret
from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.limits import check_file
from pixel_reasoner.schema.geometry import MAX_SIDE_PX, Size
from pixel_reasoner.schema.settings import MediaLimits

DOCUMENT_SUFFIXES = frozenset({".pdf"})
RENDER_DPI = 300
MAX_RENDER_PX = 40_000_000
"""pixels of one page; a page of A3 at 300 dpi has 17 million"""
_BYTES_PER_PX = 12
"""memory of the bitmap of PDFium, and its copy as RGB"""
_POINTS_PER_INCH = 72
_EXPECTED = "a whole PDF file"
_FIX = "save it again, or give the pages as pictures"
PASSWORD_VARIABLE = "PDF_PASSWORD"
"""environment variable with the password of protected files"""
MAX_PASSWORD_FILE_BYTES = 1_000_000
Passwords = tuple[SecretStr, ...]
"""tried in order for a protected file; their `repr` shows nothing"""
_lock = threading.RLock()


def read_passwords(path: Path | None) -> Passwords:
    """Return the passwords in a file, one per line, or that of the environment variable; none if neither is given.

    Raises:
        InputError: the file is unreadable or has no password. No message contains a password.
    """
    if path is None:
        text = os.environ.get(PASSWORD_VARIABLE, "")
        return (SecretStr(text),) if text else ()
    expected = "a text file with one password per line"
    text = read_secret(path, MAX_PASSWORD_FILE_BYTES, expected, "check --pdf-password-file")
    lines = text.splitlines()
    if not any(lines):
        raise InputError(
            expected=expected,
            got=f"{path}, which has none",
            fix="write the password there",
        )
    return tuple(SecretStr(line) for line in lines if line)


def is_document(path: Path) -> bool:
    """Return whether a path has the suffix of a PDF."""
    return path.suffix.lower() in DOCUMENT_SUFFIXES


def num_document_pages(path: Path, limits: MediaLimits, passwords: Passwords = ()) -> int:
    """Return the number of pages of a PDF.

    Raises:
        InputError: not a PDF, or one with another password; or pypdfium2 is not installed.
    """
    with _open_document(path, limits, passwords) as document:
        return len(document)


def page_size(
    path: Path, limits: MediaLimits, page: int | None = None, passwords: Passwords = ()
) -> tuple[Size, int]:
    """Return the (width, height) of a rendered page in pixels, and its dots per inch.

    Args:
        path: of the PDF.
        limits: on bytes, pixels and memory.
        page: from 1; None for the first.
        passwords: of protected files.

    Raises:
        InputError: not a PDF, no such page, or one with another password.
    """
    with open_page(path, limits, page, passwords) as opened:
        size, scale = render_size(opened, limits)
        return size, max(1, round(scale * _POINTS_PER_INCH))


def render_page(
    path: Path, limits: MediaLimits, page: int | None = None, passwords: Passwords = ()
) -> Image.Image:
    """Return a page as RGB. For arguments and errors see `page_size`."""
    with open_page(path, limits, page, passwords) as opened:
        size, scale = render_size(opened, limits)
        bitmap = opened.render(scale=scale, may_draw_forms=True)
        image: Image.Image = bitmap.to_pil().convert("RGB")
        # PDFium rounds the sides up by itself; the size must be that of the header.
        return image if image.size == size else image.resize(size)


@contextmanager
def _open_document(path: Path, limits: MediaLimits, passwords: Passwords) -> Iterator[Any]:
    pdfium = _pdfium(path)
    with _lock, as_input_errors(path, _EXPECTED, _FIX):
        check_file(path, _EXPECTED, min(limits.max_bytes, limits.max_picture_bytes), "max_bytes")
        document = _unlocked(pdfium, path, passwords)
        try:
            document.init_forms()  # before pages are opened; without it fields are empty
            yield document
        finally:
            document.close()


def _pdfium(path: Path) -> Any:
    """Return the library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise InputError(
            expected="pypdfium2, which reads PDF files",
            got=f"{path}: it is not installed",
            fix=install_command("workflows"),
        ) from error
    return pypdfium2


def _unlocked(pdfium: Any, path: Path, passwords: Passwords) -> Any:
    """Return an open PDF.

    Raises:
        InputError: none of the passwords opens it. The message contains no password.
    """
    for password in (None, *passwords):
        text = None if password is None else password.get_secret_value()
        try:
            return pdfium.PdfDocument(path, password=text)
        except pdfium.PdfiumError as error:
            if getattr(error, "err_code", None) != pdfium.raw.FPDF_ERR_PASSWORD:
                raise
    if passwords:
        raise InputError(
            expected="the password of the PDF",
            got=f"{path}, which has another one",
            fix="add its password to the file of --pdf-password-file",
        )
    raise InputError(
        expected="a PDF without a password",
        got=f"{path}, which has one",
        fix="save a copy without it, for example with `qpdf --decrypt --password=... OLD NEW`; `survey` has "
        "--pdf-password-file",
    )


@contextmanager
def open_page(
    path: Path, limits: MediaLimits, page: int | None, passwords: Passwords = ()
) -> Iterator[Any]:
    """Context manager of an open page of pypdfium2. The lock of PDFium is held until it is closed. For errors see `page_size`."""
    with _open_document(path, limits, passwords) as document:
        number = page or 1
        if number > len(document):
            raise ValueError(f"no page {number}; it has {len(document)}")
        opened = document[number - 1]
        try:
            yield opened
        finally:
            opened.close()


def render_size(page: Any, limits: MediaLimits) -> tuple[Size, float]:
    """Return the (width, height) in pixels and the pixels per point of a rendered page.

    Raises:
        ValueError: a page without an area.
    """
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"a page of {width:g} x {height:g} points")
    max_px = min(limits.max_px, limits.max_decode_bytes // _BYTES_PER_PX, MAX_RENDER_PX)
    scale = min(
        RENDER_DPI / _POINTS_PER_INCH,
        math.sqrt(max_px / (width * height)),
        MAX_SIDE_PX / max(width, height),
    )
    size = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    return size, scale
