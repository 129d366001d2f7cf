"""Checks that the processes of a run are one training: same versions, settings and files, and one error for all of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pixel_reasoner
from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.train.config import RlRun, SftRun

_PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "deepspeed")
_SAMPLE_BYTES = 1 << 16
"""bytes at the start and the end of a file that are compared; weights and traces are large"""
_STORE_TIMEOUT = timedelta(seconds=5)


def num_processes() -> int:
    """Return the number of processes that the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_to_fail() -> bool:
    """Return whether no other process of this run has reported an error. The store of torchrun counts them."""
    if num_processes() == 1:
        return True
    try:
        store = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            timeout=_STORE_TIMEOUT,
            wait_for_workers=False,
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return int(store.add(f"pixel_reasoner/errors/{attempt}", 1)) == 1
    except (KeyError, ValueError, RuntimeError):  # no store: two messages are better than none
        return True


def check_processes(run: SftRun | RlRun, args: Any) -> None:
    """Raise an error if the processes of a run differ in package versions, settings or files. Collective.

    Args:
        run: the run.
        args: TRL's configuration of the run.

    Raises:
        UsageError: the first difference, or processes that train alone.
    """
    expected = num_processes()
    if expected == 1:
        return
    if args.world_size != expected:
        raise UsageError(
            expected=f"{expected} processes that train together",
            got=f"a group of {args.world_size} for the trainer: each process would train alone and write the same folder",
            fix="start the run with torchrun, and remove use_cpu under [trl]",
        )
    found: list[Any] = [None] * expected
    torch.distributed.all_gather_object(found, fingerprint(run))
    if difference := find_difference(found):
        name, number, values = difference
        raise UsageError(
            expected=f"the same {name} in all {expected} processes",
            got=f"{values[0]} in process 0 and {values[1]} in process {number}",
            fix="install the same environment and copy the same files to all machines",
        )


def find_difference(
    fingerprints: list[dict[str, str]],
) -> tuple[str, int, tuple[str, str]] | None:
    """Return name, process number and both values of the first entry that differs from process 0; None if all are equal.

    >>> find_difference([{"torch": "2.14"}, {"torch": "2.14"}, {"torch": "2.13"}])
    ('torch', 2, ('2.14', '2.13'))
    >>> find_difference([{"a.jsonl": "1 bytes"}, {}])
    ('a.jsonl', 1, ('1 bytes', 'none'))
    """
    first = fingerprints[0]
    for number, other in enumerate(fingerprints):
        for name in {**first, **other}:
            values = first.get(name, "none"), other.get(name, "none")
            if values[0] != values[1]:
                return name, number, values
    return None


def fingerprint(run: SftRun | RlRun) -> dict[str, str]:
    """Return what must be equal in all processes: versions, settings, and sizes and samples of files."""
    installed = {name: _version(name) for name in _PACKAGES}
    code = hashlib.sha256()
    for path in sorted(Path(pixel_reasoner.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "Python": platform.python_version(),
        **installed,
        "code of pixel_reasoner": code.hexdigest()[:12],
        **{name: json.dumps(value) for name, value in asdict(run).items()},
        **{str(path): _sample(path) for path in _files(run)},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _files(run: SftRun | RlRun) -> Iterator[Path]:
    """Yield files of the model and of the data; media are too many."""
    data = run.questions if isinstance(run, RlRun) else (*run.traces, *run.eval_traces)
    for source in (BUNDLED_MODELS.get(run.model, run.model), *data):
        path = Path(source)
        if path.is_dir():
            yield from sorted(one for one in path.iterdir() if one.is_file())
        elif path.is_file():
            yield path


def _sample(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, size - _SAMPLE_BYTES))
        digest.update(file.read(_SAMPLE_BYTES))
    return f"{size} bytes with hash {digest.hexdigest()[:12]}"
