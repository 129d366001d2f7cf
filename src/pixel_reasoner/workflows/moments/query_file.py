"""TOML file with descriptions."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason

_KEYS = ("text",)


def read_queries(path: Path) -> list[str]:
    r"""Return the descriptions of a TOML file: `[[query]]` tables with the key `text`.

    Raises:
        InputError: no readable TOML file.
        UsageError: no descriptions, or unknown keys.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "queries.toml"
    >>> _ = path.write_text('[[query]]\ntext = "a red car"')
    >>> read_queries(path)
    ['a red car']
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            expected="a TOML file with descriptions",
            got=f"{path}: {reason(error)}",
            fix='for example [[query]] text = "a red car enters"',
        ) from error
    _check_keys(path, content, ("query",))
    tables = content.get("query", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise _invalid(path, "`query`, which is no list of tables")
    texts = []
    for table in tables:
        _check_keys(path, table, _KEYS)
        if not isinstance(table.get("text"), str):
            raise _invalid(path, f"a query without text: {table}")
        texts.append(table["text"])
    return texts


def _check_keys(path: Path, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise UsageError(
                expected=f"the keys {', '.join(known)} in {path}",
                got=repr(key),
                fix=f"did you mean {near[0]!r}?" if near else "remove it",
            )


def _invalid(path: Path, got: str) -> UsageError:
    return UsageError(
        expected=f'[[query]] tables with text = "..." in {path}', got=got, fix="correct the file"
    )
