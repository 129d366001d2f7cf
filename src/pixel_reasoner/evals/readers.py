"""Helpers of benchmark readers: files in the layouts that benchmarks use, pictures inside them, and options of choices."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import json
import re
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import path_exists, reason, write_bytes
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.rows import RowError, SkippedRow, with_options

LETTERS = string.ascii_uppercase
SHORT = "\nAnswer the question using a single word or phrase."


# --- media ---


def saved(content: bytes, media: Path) -> MediaItem:
    """Write a picture of a benchmark's own file, named by its content, and return it as a medium.

    Raises:
        RowError: not a picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            suffix = (image.format or "").lower()
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        if not isinstance(error, Image.DecompressionBombError):
            raise RowError("not_a_picture", f"{len(content)} bytes that are no picture") from error
        suffix = "img"
    path = media / f"{hashlib.sha256(content).hexdigest()[:20]}.{suffix}"
    if not path.exists():
        write_bytes(content, path)
    return MediaItem(kind="image", path=str(path))


def saved_base64(text: Any, media: Path) -> MediaItem:
    """Write a picture that is given as base64, with or without `data:image/...;base64,`, and return it as a medium.

    Raises:
        RowError: not base64, or not a picture.
    """
    if not isinstance(text, str) or not text.strip():
        raise RowError("missing_picture", "no picture in the row")
    try:
        content = base64.b64decode(text.rpartition("base64,")[2].strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("not_a_picture", f"no base64: {error}") from error
    return saved(content, media)


def saved_cell(cell: Any, media: Path) -> MediaItem:
    """Write a picture of a cell of a hub data set (bytes with a path, bytes, or base64) and return it as a medium.

    Raises:
        RowError: not a picture.
    """
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(content, bytes):
        return saved(content, media)
    return saved_base64(content, media)


def found(folder: Path, name: str, *below: str) -> Path:
    """Return a file that a row names, in the folder or in one of some folders below it.

    Raises:
        RowError: it is in none of them.
    """
    for place in ("", *below):
        path = folder / place / name
        if path_exists(path):
            return path
    places = ", ".join(str(Path(place) / name) for place in ("", *below))
    raise RowError("missing_file", f"none of {places} below {folder}")


def image(path: Path) -> MediaItem:
    """Return a picture file as a medium."""
    return MediaItem(kind="image", path=str(path))


# --- files ---


def files_below(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of a benchmark: those that match the first pattern that any file matches.

    Raises:
        InputError: there are none; the message lists what is there instead, and names the folder one level deeper or higher that has them.
    """
    if folder.is_file():
        return [folder]
    for pattern in patterns:
        if files := sorted(folder.glob(pattern)):
            return files
    wanted = " or ".join(patterns)
    if not folder.is_dir():
        raise InputError(
            expected=f"a folder with {wanted}",
            got=f"{folder}: no such folder",
            fix="give --data DIR",
        )
    for place in (folder.parent, *_folders(folder)):
        if any(any(place.glob(pattern)) for pattern in patterns):
            raise InputError(
                expected=f"a folder with {wanted}",
                got=f"{folder}, which has none; {place} has",
                fix=f"give --data {place}",
            )
    there = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    raise InputError(
        expected=f"a folder with {wanted}",
        got=f"{folder} with {shown or 'nothing in it'}",
        fix="give the folder that holds the official files; `pixel-reasoner eval --list` names them",
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def json_rows(path: Path, *keys: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON file: a list of objects, or an object that contains the list under one of some keys.

    Raises:
        InputError: the file contains something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a JSON file", got=f"{path}: {reason(error)}", fix="download it again"
        ) from error
    if isinstance(content, dict):
        held = next((content[key] for key in keys if key in content), None)
        if held is None:
            raise InputError(
                expected=f"{path} with {' or '.join(keys) or 'a list'}",
                got=f"the keys {', '.join(content)}",
                fix="give the official file",
            )
        content = held
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError(
            expected=f"{path} as a list of objects",
            got=type(content).__name__,
            fix="give the official file",
        )
    return content


def tsv_rows(path: Path, needed: Sequence[str]) -> Iterator[dict[str, str] | SkippedRow]:
    """Yield the rows of a TSV with a header, one in memory at a time, of any cell length; broken rows as `SkippedRow`.

    Raises:
        InputError: no such file, or a required column is missing (the message lists those it has).
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            if missing := [name for name in needed if name not in header]:
                raise InputError(
                    expected=f"{path} with the columns {', '.join(needed)}",
                    got=f"no {', '.join(missing)} among {', '.join(header) or 'nothing'}",
                    fix="give the files of this benchmark",
                )
            for number, cells in enumerate(reader, start=1):
                if not cells:
                    continue
                if len(cells) != len(header):
                    detail = f"expected {len(header)} cells; got {len(cells)}"
                    yield SkippedRow(f"{path.name}, row {number}", "broken_row", detail)
                    continue
                yield dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            expected="a readable TSV", got=f"{path}: {reason(error)}", fix="download it again"
        ) from error


# --- questions ---


def lettered(options: Iterable[Any]) -> dict[str, str]:
    """Return options by letter; `(A) red` and `A. red` lose their letter.

    >>> lettered(["(A) red", "(B) blue"]), lettered(["red", "A. blue"])
    ({'A': 'red', 'B': 'blue'}, {'A': 'red', 'B': 'A. blue'})
    """
    texts = [str(option).strip() for option in options]
    marked = [re.match(rf"\(?{LETTERS[n]}[).:]\s*", text) for n, text in enumerate(texts)]
    if texts and all(marked):
        texts = [text[mark.end() :] for text, mark in zip(texts, marked, strict=True) if mark]
    return dict(zip(LETTERS, texts, strict=False))


def columns(row: Mapping[str, Any], letters: str = LETTERS[:8]) -> dict[str, str]:
    """Return options that have one column each, without empty ones.

    >>> columns({"A": "red", "B": "blue", "C": None, "question": "?"})
    {'A': 'red', 'B': 'blue'}
    """
    return {
        letter: str(row[letter]).strip()
        for letter in letters
        if row.get(letter) not in (None, "", "nan") and row[letter] == row[letter]
    }


def letter_of(answer: Any, options: Mapping[str, str]) -> str:
    """Return the letter of an accepted answer that is a letter, `(B)` or the text of an option.

    Raises:
        RowError: the answer is not among the options.
    """
    text = str(answer).strip()
    letter = text.strip("().: ").upper()
    if letter in options:
        return letter
    for name, option in options.items():
        if option.strip().lower() == text.lower():
            return name
    raise RowError(
        "answer_not_among_options", f"expected one of {', '.join(options)}; got {text!r}"
    )


def choice(text: str, options: Mapping[str, str], answer: Any) -> dict[str, Any]:
    """Return the fields of a multiple-choice `Question`."""
    if len(options) < 2:
        raise RowError("no_options", f"expected two options or more; got {dict(options)}")
    return {
        "text": with_options(text.strip(), options),
        "answer": (letter_of(answer, options),),
        "answer_type": "choice",
        "options": dict(options),
    }


def question(**fields: Any) -> Question:
    """Return the question with these fields; pydantic rejects wrong ones."""
    return Question.model_validate(fields)


@cache
def names_below(folder: Path) -> dict[str, Path]:
    """Return every file below a folder by its name, the first of several."""
    return {path.name: path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()}
