"""A task: a benchmark that can be read from a folder, and what its readers share.

A reader yields a `RowDraft` a row, which becomes a `Question` if the row is asked, or a `SkippedRow` that says why a row cannot be used.
One row is in memory at a time: pictures that lie inside a benchmark's own files are written to a folder of media under the name
of their content, so that a question holds references and never pixels, and a picture that four rows share is there once.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import json
import random
import re
import string
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason, write_bytes
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.rows import RowError, SkippedRow, try_build, with_options


class RowDraft(NamedTuple):
    """A row that was read, but not yet looked into."""

    where: str
    build: Callable[[], Question]
    """raises `RowError`, or what `data.rows.built` names, where the row cannot be used"""


Reader = Callable[[Path, Path], Iterator[RowDraft | SkippedRow]]
"""(folder of the benchmark, folder for extracted pictures) -> its rows"""

LETTERS = string.ascii_uppercase
SHORT = "\nAnswer the question using a single word or phrase."


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark."""

    name: str
    measures: str
    files: str
    """the official files, below the folder that `--data` names"""
    rows: str
    """how many there are, as published"""
    metric: str
    read: Reader
    categories: tuple[str, ...] = ()
    """those that are known; others are noted"""
    needs: str = ""
    """what cannot be had with the files alone"""
    hub: str = ""
    """where it is published: a data set of the Hugging Face hub, or an address"""


def read_drafts(
    path: Path, rows: Iterable[dict[str, Any] | SkippedRow], build: Callable[[Any], Question]
) -> Iterator[RowDraft | SkippedRow]:
    """The rows of a file as drafts, named by the file and their number; broken ones as they came."""
    for number, row in enumerate(rows, start=1):
        if isinstance(row, SkippedRow):
            yield row
        else:
            yield RowDraft(f"{path.name}, row {number}", partial(build, row))


class Selection(NamedTuple):
    """What of a benchmark is asked, and what became of the rest."""

    questions: list[Question]
    dropped: list[SkippedRow]
    """rows that cannot be used"""
    noted: list[SkippedRow]
    """rows that are asked though something is odd about them"""
    read: int
    """how many rows there are"""


def select(
    task: Benchmark, data: Path, media: Path, limit: int | None = None, seed: int = 0
) -> Selection:
    """The questions of a benchmark, in its own order.

    Args:
        task: the benchmark.
        data: its folder.
        media: where pictures go that lie inside its files.
        limit: ask that many rows at most, drawn at random. They are drawn before they are looked into: one that cannot be used is not
            made up for.
        seed: of the draw.

    Raises:
        InputError: not this benchmark's files.
    """
    chosen = None
    if limit is not None:
        total = sum(1 for _ in task.read(data, media))
        chosen = set(random.Random(f"limit/{seed}").sample(range(total), min(limit, total)))
    questions, dropped, noted = dict[str, Question](), list[SkippedRow](), list[SkippedRow]()
    number = -1
    for number, draft in enumerate(task.read(data, media)):
        if chosen is not None and number not in chosen:
            continue
        row = draft if isinstance(draft, SkippedRow) else try_build(draft.where, draft.build)
        if isinstance(row, SkippedRow):
            dropped.append(row)
        elif row.id in questions:
            dropped.append(SkippedRow(row.id, "duplicate_id", "another row has this id"))
        elif not any(answer.strip() for answer in row.answer):
            dropped.append(SkippedRow(row.id, "no_answer", "expected an answer"))
        elif missing := [m.path for m in row.media if not Path(m.path).exists()]:
            dropped.append(SkippedRow(row.id, "missing_file", missing[0]))
        else:
            questions[row.id] = row
            noted += _odd(row, task)
    return Selection(list(questions.values()), dropped, noted, number + 1)


def _odd(row: Question, task: Benchmark) -> Iterator[SkippedRow]:
    if len({option.strip().lower() for option in row.options.values()}) < len(row.options):
        yield SkippedRow(row.id, "repeated_options", str(row.options))
    if task.categories and row.category not in task.categories:
        yield SkippedRow(row.id, "unknown_category", row.category or "none")


NAMED = 20
"""rows of a kind that a summary names"""


def row_counts(selection: Selection) -> dict[str, Any]:
    """What became of a benchmark's rows, for a summary: how many were read, and the dropped and the odd ones by reason."""
    told: dict[str, Any] = {"read": selection.read, "selected": len(selection.questions)}
    for title, rows in (("dropped", selection.dropped), ("noted", selection.noted)):
        reasons: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            reasons[row.reason].append(f"{row.where}: {row.detail}" if row.detail else row.where)
        told[title] = {
            why: {"count": len(named), "rows": named[:NAMED]} for why, named in reasons.items()
        }
    return told


# --- media ---


def saved(content: bytes, media: Path) -> MediaItem:
    """A picture of a benchmark's own file as a medium: written once, under the name of its content.

    Raises:
        RowError: no picture.
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
    """A picture written as base64, with or without `data:image/...;base64,`.

    Raises:
        RowError: no base64, or no picture.
    """
    if not isinstance(text, str) or not text.strip():
        raise RowError("missing_picture", "no picture in the row")
    try:
        content = base64.b64decode(text.rpartition("base64,")[2].strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("not_a_picture", f"no base64: {error}") from error
    return saved(content, media)


def saved_cell(cell: Any, media: Path) -> MediaItem:
    """A picture as data sets of the hub have it: bytes with a path, or bytes, or base64.

    Raises:
        RowError: no picture.
    """
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(content, bytes):
        return saved(content, media)
    return saved_base64(content, media)


def found(folder: Path, name: str, *below: str) -> Path:
    """A file that a row names, in the folder or in one of the places below it.

    Raises:
        RowError: it is nowhere.
    """
    for place in ("", *below):
        path = folder / place / name
        if path.exists():
            return path
    told = ", ".join(str(Path(place) / name) for place in ("", *below))
    raise RowError("missing_file", f"none of {told} below {folder}")


def image(path: Path) -> MediaItem:
    """A picture file as a medium."""
    return MediaItem(kind="image", path=str(path))


# --- files ---


def files_below(folder: Path, *patterns: str) -> list[Path]:
    """The files of a benchmark: those that match the first pattern that any file matches.

    Raises:
        InputError: there are none; tells what is there instead, and whether they lie one level deeper or higher.
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
    """The rows of a JSON file: a list of objects, or an object that has the list under one of some keys.

    Raises:
        InputError: something else.
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
    """The rows of a TSV with a header, one at a time however long its cells are; broken rows as `SkippedRow`.

    Raises:
        InputError: no such file, or no needed column (those it has are named).
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
                    told = f"expected {len(header)} cells; got {len(cells)}"
                    yield SkippedRow(f"{path.name}, row {number}", "broken_row", told)
                    continue
                yield dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            expected="a readable TSV", got=f"{path}: {reason(error)}", fix="download it again"
        ) from error


# --- questions ---


def lettered(options: Iterable[Any]) -> dict[str, str]:
    """Options by letter; `(A) red` and `A. red` lose the letter they have.

    >>> lettered(["(A) red", "(B) blue"]), lettered(["red", "A. blue"])
    ({'A': 'red', 'B': 'blue'}, {'A': 'red', 'B': 'A. blue'})
    """
    texts = [str(option).strip() for option in options]
    marked = [re.match(rf"\(?{LETTERS[n]}[).:]\s*", text) for n, text in enumerate(texts)]
    if texts and all(marked):
        texts = [text[mark.end() :] for text, mark in zip(texts, marked, strict=True) if mark]
    return dict(zip(LETTERS, texts, strict=False))


def columns(row: Mapping[str, Any], letters: str = LETTERS[:8]) -> dict[str, str]:
    """Options that have a column each, as far as they are filled.

    >>> columns({"A": "red", "B": "blue", "C": None, "question": "?"})
    {'A': 'red', 'B': 'blue'}
    """
    return {
        letter: str(row[letter]).strip()
        for letter in letters
        if row.get(letter) not in (None, "", "nan") and row[letter] == row[letter]
    }


def letter_of(answer: Any, options: Mapping[str, str]) -> str:
    """The letter of a choice's accepted answer, written as a letter, as `(B)` or as the option's text.

    Raises:
        RowError: it is none of the options.
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
    """The fields of a multiple-choice `Question`."""
    if len(options) < 2:
        raise RowError("no_options", f"expected two options or more; got {dict(options)}")
    return {
        "text": with_options(text.strip(), options),
        "answer": (letter_of(answer, options),),
        "answer_type": "choice",
        "options": dict(options),
    }


def question(**fields: Any) -> Question:
    """A question of a row; pydantic says what does not fit."""
    return Question.model_validate(fields)


@cache
def names_below(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its name, the first of several."""
    return {path.name: path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()}
