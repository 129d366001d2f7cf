"""Results of executed cluster paths: one JSON file per part, with machine, versions and date.

python -m clusters.record          print the table of all parts
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.files import write_json

FOLDER = Path(__file__).parents[2] / "dev" / "clusters"


class Result(NamedTuple):
    """One measured figure of an executed path."""

    path: str
    """what was executed, for example "FSDP2, LoRA, SFT, 2 processes" """
    measure: str
    """what was measured, for example "largest difference of 20 losses to one process" """
    value: str
    """measured value, with its unit"""
    floor: str = ""
    """required value; empty if there is none"""
    passed: bool = True


def save(part: str, results: Sequence[Result], packages: Sequence[str], *, seconds: float) -> None:
    """Print the results of a part and write them to `dev/clusters/<part>.json`.

    Args:
        part: name of the module, for example `sharded`.
        results: measured figures.
        packages: names of packages whose versions matter; `name==version` for one of another environment.
        seconds: duration of the whole part.
    """
    value = {
        "part": part,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": dict(map(_version, packages)),
        "seconds": round(seconds),
        "results": [one._asdict() for one in results],
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(value, FOLDER / f"{part}.json")
    print_table(part, results)


def load(part: str) -> list[Result]:
    """Return the recorded results of a part."""
    value = json.loads((FOLDER / f"{part}.json").read_text(encoding="utf-8"))
    return [Result(**one) for one in value["results"]]


def _version(package: str) -> tuple[str, str]:
    name, _, version = package.partition("==")
    return name, version or importlib.metadata.version(name)


def print_table(part: str, results: Sequence[Result]) -> None:
    """Print one line per result."""
    print(f"== {part}")
    for one in results:
        floor = f" (floor {one.floor})" if one.floor else ""
        print(
            f"{'ok    ' if one.passed else 'FAILED'} {one.path}: {one.measure}: {one.value}{floor}"
        )


def main() -> None:
    for path in sorted(FOLDER.glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        title = f"{value['part']}, {value['date']}, {value['machine']}, {value['seconds']} s"
        print_table(title, load(path.stem))


if __name__ == "__main__":
    main()
