"""Resuming a DeepSpeed checkpoint with another number of processes. FSDP2 needs nothing: its checkpoints have no size.

DeepSpeed reads a checkpoint of another size only from a universal checkpoint, which a script of DeepSpeed writes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from pixel_reasoner.errors import OutputError
from pixel_reasoner.train import distributed
from pixel_reasoner.train.sharding.layout import read_layout

_LATEST = "latest_universal"
"""DeepSpeed writes this file last"""
_OF_SCHEDULER = ("params", "lr", "initial_lr")
"""options of a parameter group that a checkpoint restores"""


def prepare_resharding(trainer: Any, checkpoint: Path) -> None:
    """Make a DeepSpeed trainer load a checkpoint of another number of processes. Collective.

    Raises:
        OutputError: the checkpoint cannot be converted.
    """
    if not trainer.is_deepspeed_enabled:
        return
    layout = read_layout(checkpoint)
    if layout is None or layout.processes == trainer.accelerator.num_processes:
        return
    if distributed.is_main_process(trainer):
        convert_checkpoint(checkpoint, is_zero2=layout.sharding == "zero2")
    trainer.accelerator.wait_for_everyone()
    plugin = trainer.accelerator.state.deepspeed_plugin
    for config in (plugin.deepspeed_config, plugin.hf_ds_config.config):
        config["checkpoint"] = {**config.get("checkpoint", {}), "load_universal": True}
    _fix_optimizer_states()


def convert_checkpoint(checkpoint: Path, *, is_zero2: bool) -> None:
    """Write a universal checkpoint next to the shards, unless an earlier start has.

    Raises:
        OutputError: the script of DeepSpeed fails, for example on a full disk.
    """
    if (checkpoint / _LATEST).exists():
        return
    source = checkpoint / (checkpoint / "latest").read_text(encoding="utf-8").strip()
    target = source.with_name(f"{source.name}_universal")
    shutil.rmtree(target, ignore_errors=True)  # of a killed conversion
    workers = str(max(1, min(4, (os.cpu_count() or 1) // 2)))
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(source), "--output_folder", str(target)]
    command += ["--num_extract_workers", workers, "--num_merge_workers", workers]
    command += ["--inject_missing_state"] * is_zero2
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise OutputError(
            expected="a checkpoint that DeepSpeed can convert to another number of processes",
            got=f"{checkpoint}: {lines[-1][:300]}",
            fix="free some space, or start with the number of processes that wrote it",
        )


def _fix_optimizer_states() -> None:
    """Correct how ZeRO-3 of DeepSpeed 0.19.8 loads a universal checkpoint.

    All groups of parameters get one tensor with the number of steps, so that Adam counts a step once per group. And all groups
    get the options of the first, so that norms and biases get weight decay.
    """
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3

    name = "load_hp_checkpoint_state_from_checkpoint_dir_stage3"
    load = getattr(DeepSpeedZeroOptimizer_Stage3, name)
    if hasattr(load, "__wrapped__"):
        return

    def load_and_separate(self: Any, checkpoint_dir: str) -> None:
        groups = self.optimizer.param_groups
        options = [
            {key: value for key, value in group.items() if key not in _OF_SCHEDULER}
            for group in groups
        ]
        load(self, checkpoint_dir)
        for group, before in zip(groups, options, strict=True):
            group.update(before)
        for state in self.optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].clone()

    load_and_separate.__wrapped__ = load  # type: ignore[attr-defined]
    setattr(DeepSpeedZeroOptimizer_Stage3, name, load_and_separate)
