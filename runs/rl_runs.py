"""Run files and commands that the experiments with RL share."""

from __future__ import annotations

import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOOL = Path(sys.executable).with_name("pixel-reasoner")
Options = Mapping[str, Any]
"""options of a run of `train rl`, with tables as mappings"""
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t for a 95 % interval, by the number of seeds"""


def merged(base: Options, changes: Options) -> dict[str, Any]:
    """Return a copy of options with changes, table by table.

    >>> merged({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}})
    {'a': 1, 'b': {'c': 4, 'd': 3}}
    """
    both = {**base, **changes}
    for name, value in both.items():
        if isinstance(value, Mapping):
            both[name] = merged(base.get(name, {}), changes.get(name, {}))
    return both


def as_toml(options: Options) -> str:
    """Return options as TOML, plain values first.

    >>> as_toml({"b": {"c": "x"}, "a": True}).split()
    ['a', '=', 'true', '[b]', 'c', '=', '"x"']
    """
    lines = [f"{k} = {json.dumps(v)}" for k, v in options.items() if not isinstance(v, Mapping)]
    for name, table in options.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", as_toml(table).rstrip()]
    return "\n".join(lines) + "\n"


def call(folder: Path, *arguments: str, threads: int | None = None) -> None:
    """Run a command of the package. Its output goes to `log.txt` next to its results.

    Args:
        folder: folder of the log.
        arguments: command and options.
        threads: number of threads; None: as many as cores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    started = time.monotonic()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"$ pixel-reasoner {shlex.join(arguments)}\n")
        log.flush()
        done = subprocess.run(
            [TOOL, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
        log.write(f"# {time.monotonic() - started:.0f} s\n")
    if done.returncode:
        sys.exit(f"pixel-reasoner {shlex.join(arguments)} failed: see {folder / 'log.txt'}")


def is_complete(model: Path) -> bool:
    """Return whether a model folder was written to its last file."""
    return (model / "pixel_reasoner.json").exists()


def share_folder(link: Path, target: Path) -> None:
    """Link a folder of media that several runs read, so that it is written once."""
    target.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(os.path.relpath(target, link.parent))


def half_interval(means: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean over seeds (Student's t); 0 for one seed.

    >>> round(half_interval([0.4, 0.5, 0.6]), 3), half_interval([0.5])
    (0.248, 0.0)
    """
    if len(means) < 2:
        return 0.0
    return T_95[len(means)] * statistics.stdev(means) / math.sqrt(len(means))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
