"""Atomic writes, and reads whose errors name the file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from pixel_reasoner.errors import InputError, OutputError, PixelReasonerError, UsageError
from pixel_reasoner.strict_json import parse_json

STRIP_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
"""of a trace as one picture (`reports.strip`)"""
ANIMATION_SUFFIXES = (".gif", ".webp")
"""of a trace as an animation (`reports.animation`)"""
TEMPORARY_PREFIX = ".pixel-reasoner-"
"""name prefix of incomplete files and folders"""


def numbered_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines of a text file with their numbers, from 1. `what` describes the required file, for the message.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:  # with or without a byte-order mark
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a readable JSONL file", got=f"{path}: {reason(error)}", fix=f"give {what}"
        ) from error


@contextmanager
def atomic_path(path: Path, *errors: type[Exception]) -> Iterator[Path]:
    """Yield a temporary path for the writer of a library. The file is renamed to `path` when it is complete.

    Args:
        path: of the complete file; an existing file is replaced.
        errors: exceptions that the library raises on a full disk, in addition to `OSError`.

    Raises:
        OutputError: the path cannot be written.
    """
    path = Path(path)
    part = temporary_path(path)
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except PixelReasonerError:
        raise
    except caught as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def atomic_writer(path: Path) -> Iterator[TextIO]:
    """Yield a text file that appears at `path` only when it is complete.

    Raises:
        OutputError: the path cannot be written.

    >>> import tempfile; folder = Path(tempfile.mkdtemp())
    >>> with atomic_writer(folder / "a.json") as file:
    ...     _ = file.write("{}")
    >>> [p.name for p in folder.iterdir()]
    ['a.json']
    """
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        yield file


def write_json(value: Any, path: Path) -> None:
    """Write one value as indented JSON, atomically.

    Raises:
        OutputError: the path cannot be written.
    """
    with atomic_writer(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json_object(path: Path, expected: str, fix: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        InputError: no readable JSON object; the message contains `expected` and `fix`.
    """
    try:
        value = parse_json(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"a JSON {type(value).__name__}, not an object")
        return value
    except (OSError, ValueError) as error:
        raise InputError(expected=expected, got=f"{path}: {reason(error)}", fix=fix) from error


def read_secret(path: Path, max_bytes: int, expected: str, fix: str) -> str:
    """Return the first `max_bytes` of a text file with keys or passwords, without a byte-order mark.

    Raises:
        InputError: it is unreadable or not UTF-8. No message contains its text.
    """
    try:
        with path.open("rb") as file:
            return file.read(max_bytes).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeError) else reason(error)
        raise InputError(expected=expected, got=f"{path}: {why}", fix=fix) from None


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file atomically.

    Raises:
        OutputError: the path cannot be written.
    """
    with atomic_path(path) as part:
        part.write_bytes(content)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` when it is complete. It replaces an existing folder as a whole.

    Raises:
        OutputError: the path cannot be written.

    >>> import tempfile; out = Path(tempfile.mkdtemp()) / "model"
    >>> with atomic_folder(out) as folder:
    ...     _ = (folder / "config.json").write_text("{}")
    >>> [p.name for p in out.iterdir()], [p.name for p in out.parent.iterdir()]
    (['config.json'], ['model'])
    """
    part, earlier = temporary_path(path), temporary_path(path)
    try:
        with output_errors(path):
            part.mkdir(parents=True)
            yield part
            if path.exists():
                path.rename(earlier)
            part.rename(path)
    finally:
        for left in (part, earlier):
            shutil.rmtree(left, ignore_errors=True)


def temporary_path(path: Path) -> Path:
    """Return a unique temporary path in the folder of `path`."""
    # torch.save rejects a name that starts with a dot and has no suffix.
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid4().hex}{path.suffix}")


def remove_temporary(folder: Path) -> None:
    """Remove temporary files of killed writers from a folder. No other process may be writing to it.

    Raises:
        OSError: a file cannot be removed.
    """
    for parent, folders, names in os.walk(folder):
        for name in (name for name in names if name.startswith(TEMPORARY_PREFIX)):
            (Path(parent) / name).unlink(missing_ok=True)
        for name in [name for name in folders if name.startswith(TEMPORARY_PREFIX)]:
            shutil.rmtree(Path(parent) / name)
            folders.remove(name)


def write_or_check_settings(
    path: Path,
    settings: dict[str, Any],
    migrate: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields,
) -> None:
    """Write the settings of a new run, or check that a resumed run has the same settings.

    For arguments and further errors see `check_settings`.

    Raises:
        OutputError: the path cannot be written.
    """
    if path.exists():
        check_settings(path, settings, migrate)
    else:
        write_json(settings, path)


def check_settings(
    path: Path,
    settings: Mapping[str, Any],
    migrate: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields,
) -> None:
    """Check that the run in a folder, if any, has these settings. Writes nothing.

    Args:
        path: settings file.
        settings: all or some settings of this run, as JSON values.
        migrate: converts settings of an older version to the current version.

    Raises:
        UsageError: the folder contains a run with other settings.
        InputError: its settings cannot be read.
    """
    if not path.exists():
        return
    before = read_json_object(path, "the settings of an earlier run", "delete the folder")
    try:
        before = migrate(before)
    except InputError as error:
        raise InputError(
            expected=error.expected, got=f"{path}: {error.got}", fix=error.fix
        ) from error
    recorded = {name: before.get(name) for name in settings}
    for name, (earlier, now) in diff_settings(recorded, dict(settings)).items():
        first, one, other = _first_difference(name, earlier, now)
        raise UsageError(
            expected=f"the settings of the run in {path.parent}: {first} = {_short_json(one)}",
            got=_short_json(other),
            fix="use another --out, or delete this folder",
        )


def _first_difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Return the dotted name and both values of the first difference below lists of objects.

    An object of a list is named by its id, or by its position from 1.

    >>> _first_difference("survey", [{"id": "n", "text": "How many?"}], [{"id": "n", "text": "Any?"}])
    ('survey.n.text', 'How many?', 'Any?')
    """
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(key for key in {**one, **other} if one.get(key) != other.get(key))
        return _first_difference(f"{name}.{key}", one.get(key), other.get(key))
    if not (isinstance(one, list) and isinstance(other, list)):
        return name, one, other
    if not any(isinstance(value, dict) for value in (*one, *other)):
        return name, one, other
    pairs = enumerate(zip_longest(one, other), start=1)
    number, (before, now) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    ids = [value.get("id") for value in (before, now) if isinstance(value, dict)]
    label = ids[0] if len(ids) == 2 and ids[0] == ids[1] and ids[0] is not None else number
    return _first_difference(f"{name}.{label}", before, now)


def _short_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def diff_settings(one: Any, other: Any, name: str = "") -> dict[str, list[Any]]:
    """Return the settings in which two runs differ, by dotted name.

    >>> diff_settings({"limits": {"max_turns": 6}, "dialect": "a"}, {"limits": {"max_turns": 4}, "dialect": "a"})
    {'limits.max_turns': [6, 4]}
    """
    if isinstance(one, dict) and isinstance(other, dict):
        found: dict[str, list[Any]] = {}
        for key in {**one, **other}:
            below = f"{name}.{key}" if name else str(key)
            found |= diff_settings(one.get(key), other.get(key), below)
        return found
    return {} if one == other else {name: [one, other]}


MAX_SHOWN_CHARS = 200
"""length of a setting in a message"""
MAX_NAME_BYTES = 150
"""length of a file name derived from an external name; file systems allow 255 bytes"""
_DEVICE_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
"""names reserved by Windows, with any suffix"""


def file_name(name: str) -> str:
    """Return the file name for an external name, such as the id of a question.

    All external names that become paths pass through this function. The mapping is injective. A safe name is returned
    unchanged. Any other name becomes its safe characters, `~`, and a hash; no safe name contains `~`.

    >>> file_name("attribute-7.b"), file_name("../../etc/passwd")
    ('attribute-7.b', 'etc-passwd~3754d6cb3a38e118')
    """
    if _is_harmless(name):
        return name
    words = "".join(c if _is_plain(c) else " " for c in name).split()
    stem = "-".join(words).strip(".-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{stem[: MAX_NAME_BYTES // 5]}~{digest}"


def _is_harmless(name: str) -> bool:
    return (
        all(map(_is_plain, name))
        and name != ""
        and name.strip(".") == name
        and len(name.encode()) <= MAX_NAME_BYTES
        and unicodedata.is_normalized("NFC", name)  # some file systems normalise names
        and name.partition(".")[0].casefold() not in _DEVICE_NAMES
    )


def _is_plain(character: str) -> bool:
    return character.isalnum() or character in "._-"


def cannot_write(path: Path, error: Exception) -> OutputError:
    """Return the error for a path that cannot be written, with the reason given by the operating system."""
    return OutputError(
        expected="a writable path",
        got=f"{path}: {reason(error)}",
        fix="use another path or free some space; no partial output remains",
    )


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Convert errors of the operating system in the block to `OutputError`.

    Raises:
        OutputError: the path cannot be written.
    """
    try:
        yield
    except PixelReasonerError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def check_suffix(path: Path, suffixes: Sequence[str], what: str) -> None:
    """Raise an error unless a path has one of some suffixes.

    Args:
        path: of a file to write.
        suffixes: allowed suffixes in lower case, with the dot.
        what: kind of file, for the message.

    Raises:
        UsageError: another suffix.

    >>> check_suffix(Path("a.bmp"), [".png", ".webp"], "a picture")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a picture with the suffix .png or .webp; got a.bmp. Fix: for example a.png
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            expected=f"{what} with the suffix {' or '.join(suffixes)}",
            got=str(path),
            fix=f"for example {path.with_suffix(suffixes[0]) if path.name else f'out{suffixes[0]}'}",
        )


def path_exists(path: Path) -> bool:
    """Return whether a path from a file exists. `Path.exists` raises an error if a name is too long.

    >>> path_exists(Path("x" * 5000)), path_exists(Path("/"))
    (False, True)
    """
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def reason(error: Exception) -> str:
    """Return the message of an error. For an `OSError`, without its number and path."""
    return getattr(error, "strerror", None) or str(error)
