"""Completeness check of trainer checkpoints: a kill or a full disk can truncate any file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

STATE = "trainer_state.json"
"""the trainer writes this file last"""
_SHARDED = ("pytorch_model_fsdp_0", "optimizer_0")
"""folders with the shards of FSDP2"""
_METADATA = ".metadata"
"""the file of such a folder that is written after all shards"""


def checkpoint_step(folder: Path) -> int:
    """Return the step of a checkpoint, from its name; -1 for another folder.

    >>> checkpoint_step(Path("out/checkpoint-20")), checkpoint_step(Path("out/checkpoint-old"))
    (20, -1)
    """
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number.isascii() and number.isdigit() else -1


def find_checkpoint_problem(folder: Path) -> str | None:
    """Return the problem of a checkpoint, or None. Checks headers and ends of files, never the weights."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
            return f"{STATE} has no global_step"
        for name in _SHARDED:
            if (folder / name).is_dir() and not (folder / name / _METADATA).exists():
                return f"{name} has no {_METADATA}"
        for path in sorted(folder.rglob("*")):
            if path.suffix == ".safetensors":
                with safe_open(path, "pt"):  # compares the header with the file length
                    pass
            elif path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
                return f"{path.name} is truncated"  # torch.save writes a zip file
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        return str(error).splitlines()[0][:200] or type(error).__name__
    return None
