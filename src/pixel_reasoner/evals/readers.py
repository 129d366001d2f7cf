"""Helpers of benchmark readers: file layouts, media and options."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import path_exists, reason
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.cells import (
    LETTERS,
    is_missing,
    parse_letter,
    parse_text,
    strip_placeholders,
)
from pixel_reasoner.sources.rows import RowError, SkippedRow, with_options

SHORT = "\nAnswer the question using a single word or phrase."


# --- media ---


def find_media_file(folder: Path, name: str, *below: str) -> Path:
    """Return the path of a file that a row names, in the folder or in one of some folders below it.

    Raises:
        RowError: no such file.
    """
    for place in ("", *below):
        path = folder / place / name
        if path_exists(path):
            return path
    places = ", ".join(str(Path(place) / name) for place in ("", *below))
    raise RowError("missing_file", f"none of {places} below {folder}")


def image(path: Path) -> MediaItem:
    """Return the media item of a picture file."""
    return MediaItem(kind="image", path=str(path))


# --- files ---


def files_below(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of a benchmark that match the first pattern with any match.

    Raises:
        InputError: no match; the message lists the folder's files, and names the parent or child folder that contains
        them.
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
                got=f"{folder} without any; they are in {place}",
                fix=f"give --data {place}",
            )
    there = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    raise InputError(
        expected=f"a folder with {wanted}",
        got=f"{folder} with {shown or 'nothing in it'}",
        fix="give the folder of the official files; `pixel-reasoner eval --list` names them",
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def json_rows(path: Path, *keys: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON file: a list of objects, or an object with the list under one of the keys.

    Raises:
        InputError: the file has other content.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
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
    """Yield the rows of a TSV with a header, one in memory at a time, with any cell length. Broken rows become `SkippedRow`.

    Raises:
        InputError: no such file, a repeated column, or a missing required column (the message lists the existing
        columns).
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            header = next(reader, [])
            _check_header(path, header, needed)
            for number in count(1):
                first_line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    detail = f"lines {first_line} to {reader.line_num}: {error}"
                    yield SkippedRow(f"{path.name}, row {number}", "broken_row", detail)
                    continue
                if cells and len(cells) != len(header):
                    detail = f"expected {len(header)} cells; got {len(cells)}"
                    yield SkippedRow(f"{path.name}, row {number}", "broken_row", detail)
                elif cells:
                    yield dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            expected="a readable TSV", got=f"{path}: {reason(error)}", fix="download it again"
        ) from error


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if missing or len(set(header)) < len(header):
        problem = f"no {', '.join(missing)}" if missing else f"{', '.join(repeated)} twice"
        raise InputError(
            expected=f"{path} with the columns {', '.join(needed)}, each once",
            got=f"{problem} among {', '.join(header) or 'nothing'}",
            fix="give the files of this benchmark",
        )


# --- questions ---


def columns(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of a row with one column each, from A on, without empty ones.

    Raises:
        RowError: an option after a missing column.

    >>> columns({"A": "red", "B": "blue", "C": None, "question": "?"})
    {'A': 'red', 'B': 'blue'}
    """
    letters = list(takewhile(row.__contains__, LETTERS))
    later = [one for one in LETTERS[len(letters) :] if not _is_empty(row.get(one))]
    if letters and later:
        detail = f"expected columns A, B, ... without a gap; got {later[0]} after {letters[-1]}"
        raise RowError("bad_options", detail)
    return {
        letter: parse_text(row[letter], letter).strip()
        for letter in letters
        if not _is_empty(row[letter])
    }


def _is_empty(value: Any) -> bool:
    """Return whether a cell is missing; pandas writes `nan`."""
    return is_missing(value) or value == "nan"


def choice(
    text: Any, options: Mapping[str, str], answer: Any, given: Literal["letter", "text"] = "letter"
) -> dict[str, Any]:
    """Return the fields of a multiple-choice `Question`.

    Args:
        text: the question.
        options: letter -> text.
        answer: letter or text of an option.
        given: how to interpret an answer that is both a letter and the text of another option.

    Raises:
        RowError: fewer than two options, or the answer is not among them.
    """
    if len(options) < 2:
        raise RowError("no_options", f"expected two options or more; got {dict(options)}")
    letter = parse_letter(answer, options, given)
    return {
        "text": with_options(parse_text(text, "question").strip(), options),
        "answer": (letter,),
        "answer_type": "choice",
        "options": dict(options),
    }


def question(**fields: Any) -> Question:
    """Return the question with these fields; pydantic validates them.

    Raises:
        RowError: placeholders of pictures in the text do not match the media.
    """
    text = strip_placeholders(fields["text"], len(fields["media"]))
    return Question.model_validate(fields | {"text": text})


@cache
def index_files(folder: Path) -> dict[str, Path]:
    """Return every file below a folder by name; the first one of equal names."""
    return {path.name: path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()}
