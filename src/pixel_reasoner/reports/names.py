"""Names of runs: short and different."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run_name(path: Path) -> str:
    """Return the name of a run or of a file of traces.

    >>> run_name(Path("runs/vstar")), run_name(Path("runs/vstar/without"))
    ('vstar', 'without')
    """
    return path.name or path.absolute().name or str(path)


def run_names(paths: Sequence[Path]) -> list[str]:
    """Return a different name for each run: the last parts of its path, as few as possible.

    >>> run_names([Path("runs/a"), Path("runs/b")]), run_names([Path("a/without"), Path("b/without")])
    (['a', 'b'], ['a/without', 'b/without'])
    >>> run_names([Path("a"), Path("a")])
    ['a (1)', 'a (2)']
    """
    parts = [path.absolute().parts for path in paths]
    longest = max((len(one) for one in parts), default=0)
    names: list[str] = []
    for length in range(1, longest + 1):
        names = ["/".join(one[-length:]).replace("//", "/") for one in parts]
        if len(set(names)) == len(set(parts)):
            break
    return _numbered(names)


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names with a number where the same path is given twice."""
    return [
        f"{name} ({names[: index + 1].count(name)})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]
