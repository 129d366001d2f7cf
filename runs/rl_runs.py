"""Run files and commands that the experiments with RL share."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOOL = Path(sys.executable).with_name("pixel-reasoner")
Options = Mapping[str, Any]
"""options of a run of `train rl`, with tables as mappings"""


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
