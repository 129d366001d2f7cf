"""Folder of a training run: lock, settings, and disk errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pixel_reasoner.errors import OutputError, PixelReasonerError, UsageError
from pixel_reasoner.files import check_settings, output_errors, read_json_object, write_json
from pixel_reasoner.reports.training_log import RUN
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.sharding.layout import checkpoint_layout, save_layout

_LENGTHS = ("max_steps", "num_train_epochs")
"""TRL options that may be increased to continue a finished run"""

_CREDENTIALS = ("hub_token", "push_to_hub_token")
"""TRL options that are never written"""


@contextmanager
def training_folder(run: SftRun | RlRun, args: Any) -> Iterator[Path]:
    """Lock a run's folder in its main process, and yield the folder. Different settings are rejected immediately.

    Args:
        run: the run.
        args: TRL's configuration of the run.

    Raises:
        UsageError: the folder contains a run with other settings.
        OutputError: another process writes to the folder, or it cannot be written.
    """
    out = Path(run.out)
    with FolderLock(out) if args.process_index == 0 else nullcontext():
        settings = _settings(run)
        del settings["monitor"]  # may change between starts
        check_settings(out / RUN, settings, lambda before: _continued(before, run))
        with output_errors(out):
            yield out


def save_run_settings(run: SftRun | RlRun) -> None:
    """Write the settings of a run when it is ready to train, so that a failed start leaves no settings.

    Raises:
        OutputError: the folder cannot be written.
    """
    path, settings = Path(run.out) / RUN, _settings(run)
    if not path.exists() or read_json_object(path, "settings", "delete the folder") != settings:
        write_json(settings, path)


def _settings(run: SftRun | RlRun) -> dict[str, Any]:
    """Return the settings of a run as JSON values, without credentials: reports show them."""
    settings = dict(json.loads(json.dumps(asdict(run))))
    for name in _CREDENTIALS:
        settings["trl"].pop(name, None)
    return settings


def _continued(before: dict[str, Any], run: SftRun | RlRun) -> dict[str, Any]:
    """Return the settings of an earlier start, with the length of this run if it is not shorter, and its vLLM servers."""
    trl = dict(before.get("trl", {}))
    if isinstance(before.get("pixelworld"), dict):  # older runs have no version of the world
        before = {**before, "pixelworld": {"world": 1, **before["pixelworld"]}}
    if isinstance(run, RlRun) and before.get("vllm") and run.vllm:
        before = {**before, "vllm": _settings(run)["vllm"]}
    for name in _LENGTHS:
        length = run.trl.get(name)
        if length is None or name not in trl:
            continue
        if length < trl[name]:
            raise UsageError(
                expected=f"{name} of {trl[name]} or more, as the run in {run.out} has",
                got=str(length),
                fix="increase it, or name another out",
            )
        trl[name] = length
    return {**before, "trl": trl}


class CheckpointErrorsMixin:
    """Mixin for trainers: any library error while writing a checkpoint becomes one `OutputError`, and no step follows the last."""

    args: Any
    state: Any
    control: Any

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train for one epoch, unless the checkpoint of the last step was loaded: the base class would take one step more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights, unless a checkpoint of DeepSpeed contains them: ZeRO-3 would gather the whole model."""
        if not (_internal_call and self.is_deepspeed_enabled):  # type: ignore[attr-defined]
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    def _save_rng_state(self, output_dir: str) -> None:
        """Write the random state, and then wait for the files of all processes: the file after these marks a complete checkpoint."""
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        accelerator = self.accelerator  # type: ignore[attr-defined]
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            save_layout(checkpoint_layout(self), Path(output_dir))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint; an incomplete one is removed if the disk is full."""
        try:
            with checkpoint_errors(self.args.output_dir):
                super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]
        except OutputError:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def checkpoint_errors(out: str | Path) -> Iterator[None]:
    """Convert library errors on a full disk to `OutputError`.

    Raises:
        OutputError: the folder has no room.
    """
    try:
        yield
    except PixelReasonerError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OutputError(
            expected="a folder with space for a checkpoint",
            got=f"{out}: {reason}",
            fix="free some space and run the same command again: it resumes from the last complete checkpoint",
        ) from error
