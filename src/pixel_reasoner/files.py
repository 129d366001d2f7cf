"""Files that are written completely or not at all, and read with errors that name the place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.strict_json import parse_json


def numbered_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines of a text file with their numbers, from 1. `what` names the file to give.

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


class atomic_writer:
    """Text file that appears under its name only when all of it is written.

    >>> import tempfile; folder = Path(tempfile.mkdtemp())
    >>> with atomic_writer(folder / "a.json") as file:
    ...     _ = file.write("{}")
    >>> [p.name for p in folder.iterdir()]
    ['a.json']
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")

    def __enter__(self) -> Any:
        """Open the temporary file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.part.open("w", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        """Rename on success, remove the temporary file otherwise."""
        try:
            self.file.close()
            if kind is None:
                self.part.replace(self.path)
                return
        except OSError as late:
            self.part.unlink(missing_ok=True)
            raise cannot_write(self.path, late) from late
        self.part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise cannot_write(self.path, error) from error


def write_json(value: Any, path: Path) -> None:
    """Write one value as indented JSON, completely or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    with atomic_writer(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json_object(path: Path, expected: str, fix: str) -> dict[str, Any]:
    """Return the object that a JSON file contains.

    Raises:
        InputError: there is none; `expected` and `fix` are those of the message.
    """
    try:
        value = parse_json(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"a JSON {type(value).__name__}, not an object")
        return value
    except (OSError, ValueError) as error:
        raise InputError(expected=expected, got=f"{path}: {reason(error)}", fix=fix) from error


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file, completely or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def keep_settings(
    path: Path,
    settings: dict[str, Any],
    migrate: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields,
) -> None:
    """Write the settings of a new run, or check that a resumed run has the same.

    Args:
        path: the file of settings.
        settings: of this run, as JSON values.
        migrate: returns settings that an older version wrote as this version writes them.

    Raises:
        UsageError: the folder contains a run with other settings.
        InputError: its settings cannot be read.
        OutputError: the place cannot be written.
    """
    if not path.exists():
        write_json(settings, path)
        return
    before = read_json_object(path, "the settings of an earlier run", "delete the folder")
    try:
        before = migrate(before)
    except InputError as error:
        raise InputError(
            expected=error.expected, got=f"{path}: {error.got}", fix=error.fix
        ) from error
    differing = [name for name in settings if before.get(name) != settings[name]]
    if differing:
        name = differing[0]
        raise UsageError(
            expected=f"the settings of the run in {path.parent}: {name} = {json.dumps(before.get(name))}",
            got=json.dumps(settings[name]),
            fix="name another --out, or delete this one",
        )


MAX_NAME_BYTES = 150
"""length of a file name that is made of an external name; file systems allow 255 bytes"""
_DEVICE_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
"""names that Windows reserves, with any suffix"""


def file_name(name: str) -> str:
    """Return the file name for an external name, such as the id of a question.

    The only way to make a path of a name that is not the project's own. Equal names have equal file names, different names
    have different ones. A harmless name stays; of another one the letters stay, with a hash after `~`, which no
    harmless name contains.

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


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error for a place that cannot be written, with the reason of the operating system."""
    return OutputError(
        expected="a place that can be written",
        got=f"{path}: {reason(error)}",
        fix="name another place or free some space; nothing half-written was left behind",
    )


def path_exists(path: Path) -> bool:
    """Return whether a path that a file names exists. `Path.exists` raises an error for a name that is too long.

    >>> path_exists(Path("x" * 5000)), path_exists(Path("/"))
    (False, True)
    """
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def reason(error: Exception) -> str:
    """Return the message of an error; of the operating system's, without its number and path."""
    return getattr(error, "strerror", None) or str(error)
