"""Conversion of decoder exceptions to `InputError`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason

DECODER_EXCEPTIONS = (
    *(OSError, EOFError, MemoryError, SyntaxError, ValueError, TypeError, LookupError),
    *(
        RuntimeError,
        AssertionError,
        ArithmeticError,
        AttributeError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ),
    av.error.FFmpegError,
    Warning,  # raised if the caller turns warnings into errors
)
"""Exceptions of Pillow and PyAV for invalid files."""


@contextmanager
def as_input_errors(path: Path, expected: str, fix: str) -> Iterator[None]:
    """Convert decoder exceptions to an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except DECODER_EXCEPTIONS as error:
        raise InputError(expected=expected, got=f"{path}: {_reason(error)}", fix=fix) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of these formats"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, av.error.FFmpegError):
        return f"not a video of these formats, or an incomplete file ({reason(error)})"
    return reason(error) or type(error).__name__
