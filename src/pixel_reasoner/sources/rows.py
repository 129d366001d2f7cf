"""Helpers of sources: conversion of rows to questions, and reasons for skipped rows.

A source yields a `Question`, or a `SkippedRow` with a reason to count by. An error in one row affects that row only
(`try_build`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pixel_reasoner.errors import InputError, OutputError, require_extra
from pixel_reasoner.files import reason
from pixel_reasoner.schema.media_url import media_exists
from pixel_reasoner.schema.question import Evidence, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS


class SkippedRow(NamedTuple):
    """Row without a usable question."""

    where: str
    """id of the row, or its position in a file"""
    reason: str
    """kind of the problem, for counts: `missing_file`"""
    detail: str = ""


Row = Question | SkippedRow


class RowError(Exception):
    """Unusable row: the reason as a count key, with the expected and actual value."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def try_build(where: str, build: Callable[[], Question]) -> Row:
    """Return the question of a row, or the reason for skipping it."""
    try:
        return build()
    except OutputError:
        raise
    except RowError as error:
        return SkippedRow(where, error.reason, str(error))
    except OSError as error:  # invalid file name
        return SkippedRow(where, "unusable_medium", reason(error))
    except ValidationError as error:
        first = error.errors()[0]
        return SkippedRow(where, "bad_value", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        return SkippedRow(where, "bad_value", f"{type(error).__name__}: {error}")


def check_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows. A question with a repeated id, or one that cannot be asked, becomes a `SkippedRow`.

    >>> one = Question(id="1", text="?", media=())
    >>> [type(row).__name__ for row in check_rows([one, one])]
    ['Question', 'SkippedRow']
    """
    seen: set[int] = set()
    for row in rows:
        if isinstance(row, SkippedRow):
            yield row
            continue
        key = hash(row.id)
        problem = ("duplicate_id", row.id) if key in seen else _problem(row)
        seen.add(key)
        yield row if problem is None else SkippedRow(row.id, *problem)


def _problem(question: Question) -> tuple[str, str] | None:
    """Return (reason, detail) if a well-formed question cannot be asked."""
    for media_item in question.media:
        if not media_exists(media_item.path):
            return "missing_file", media_item.path
    if question.options and question.answer and not set(question.answer) & set(question.options):
        options = ", ".join(question.options)
        return "answer_not_among_options", f"expected one of {options}; got {question.answer[0]!r}"
    return _evidence_problem(question, question.evidence) if question.evidence else None


def _evidence_problem(question: Question, evidence: Evidence) -> tuple[str, str] | None:
    """Return (reason, detail) if no operation can show the evidence."""
    kinds = [media_item.kind for media_item in question.media]
    frames, last = evidence.frames, DEFAULT_MEDIA_LIMITS.num_frames
    if any(not 1 <= frame <= last for frame in frames):
        return "bad_frame", f"expected numbers of sampled frames from 1 to {last}; got {frames}"
    if frames and len(frames) > (most := _max_selected_frames()):
        return "too_many_frames", f"expected at most {most}; got {len(frames)}"
    if frames and not {"video", "frames"} & set(kinds):
        return "bad_frame", f"expected frames of a video; got media of kind {' '.join(kinds)}"
    if evidence.boxes and set(kinds) == {"image"} and not 1 <= evidence.image <= len(kinds):
        return (
            "bad_image_number",
            f"expected a picture from 1 to {len(kinds)}; got {evidence.image}",
        )
    for name, texts in (("subjects", evidence.subjects), ("findings", evidence.findings)):
        if evidence.boxes and len(texts) not in (0, len(evidence.boxes)):
            return "bad_evidence", f"{name}: expected {len(evidence.boxes)}; got {len(texts)}"
    return None


def _max_selected_frames() -> int:
    from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES  # loads media libraries

    return MAX_SELECTED_FRAMES


def skip_unanswered(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows. A question without a known answer becomes a `SkippedRow`, because its rollouts cannot be rewarded."""
    for row in rows:
        if isinstance(row, Question) and not row.answer:
            yield SkippedRow(row.id, "no_answer", "expected an answer for the reward; got none")
        else:
            yield row


# --- parts of a question ---


def with_options(question: str, options: Mapping[str, str]) -> str:
    r"""Return a question followed by its options, one per line.

    >>> with_options("Which colour?", {"A": "red", "B": "blue"})
    'Which colour?\nA. red\nB. blue'
    """
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items())])


# --- files ---


def data_files(data: Path, pattern: str) -> list[Path]:
    """Return the files of a data set: the given file, or the files of a folder that match a pattern.

    Raises:
        InputError: no file matches.
    """
    files = [data] if data.is_file() else sorted(data.glob(pattern))
    if not files:
        raise InputError(
            expected=f"a file, or a folder with {pattern}",
            got=f"{data}: {'none in it' if data.is_dir() else 'no such file or folder'}",
            fix="give the file or folder of the data set with --data",
        )
    return files


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text contains.

    Raises:
        RowError: the text is not a JSON object.
    """
    try:
        row = json.loads(text, object_pairs_hook=_without_repeated_keys)
        if "\\ud" in text.lower():
            json.dumps(row, ensure_ascii=False).encode()  # fails on a lone surrogate
    except UnicodeEncodeError as error:
        raise RowError("bad_value", f"lone surrogate: {error}") from error
    except json.JSONDecodeError as error:
        # A row is one line, and its number is in the name of the row.
        is_line = "\n" not in text.strip()
        problem = f"{error.msg} at character {error.pos + 1}" if is_line else str(error)
        raise RowError("not_json", problem) from error
    except (ValueError, RecursionError) as error:
        raise RowError("not_json", str(error)) from error
    if not isinstance(row, dict):
        raise RowError("not_json", f"expected an object; got {type(row).__name__}")
    return row


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RowError("duplicate_keys", f"expected each key once; got {repeated!r} several times")
    return row


def json_objects(path: Path, chunk: int = 1 << 16) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON file that is one long list. One object is in memory at a time.

    Raises:
        InputError: the file is not a list of objects.
    """
    decoder, text, end = json.JSONDecoder(), "", False
    try:
        with path.open(encoding="utf-8-sig") as file:
            if file.read(1) != "[":
                raise ValueError("it does not start with [")
            while True:
                text = text.lstrip(" \t\r\n,")
                if text.startswith("]"):
                    return
                try:
                    item, length = decoder.raw_decode(text)
                except ValueError:
                    if end:
                        raise
                    more = file.read(chunk)
                    text, end = text + more, not more
                    continue
                if not isinstance(item, dict):
                    raise ValueError(f"expected objects in the list; got {type(item).__name__}")
                yield item
                text = text[length:]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            expected=f"{path} as a JSON list of objects",
            got=reason(error),
            fix="download the file again",
        ) from error


def parquet_rows(
    path: Path, needed: tuple[str, ...], also: tuple[str, ...] | None = (), at_once: int = 256
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet file. `at_once` rows are in memory.

    Args:
        path: the file.
        needed: required columns.
        also: optional columns; None: all others.
        at_once: rows per batch.

    Raises:
        InputError: not a parquet file, or a required column is missing (the message lists the existing columns).
        UsageError: pyarrow is not installed.
    """
    file = _open_parquet(path)
    found = file.schema_arrow.names
    if missing := [name for name in needed if name not in found]:
        raise InputError(
            expected=f"{path} with {', '.join(needed)}",
            got=f"no {', '.join(missing)} among {', '.join(found)}",
            fix="give the files of this data set",
        )
    wanted = found if also is None else also
    columns = [*needed, *(name for name in wanted if name in found and name not in needed)]
    for batch in file.iter_batches(batch_size=at_once, columns=columns):
        yield from batch.to_pylist()


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns of a parquet file.

    Raises:
        InputError: not a parquet file.
        UsageError: pyarrow is not installed.
    """
    return list(_open_parquet(path).schema_arrow.names)


def _open_parquet(path: Path) -> Any:
    with require_extra("train", "read parquet files"):
        from pyarrow import parquet
    try:
        # A small buffer avoids a second copy in memory of a row group with large pictures.
        file = parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a parquet file", got=f"{path}: {reason(error)}", fix="download it again"
        ) from error
    return file
