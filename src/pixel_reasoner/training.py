"""Training functions of the package. Training libraries are imported when a function is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixel_reasoner.errors import require_extra
from pixel_reasoner.tiny.config import TinyConfig
from pixel_reasoner.train.config import RlRun, SftRun


def train_tiny(config: TinyConfig) -> Path:
    """Train or resume the bundled model and return its folder.

    Raises:
        UsageError: packages that are not installed.
        InputError: no traces.
        ModelError: no such model to start from.
        OutputError: the folder cannot be written.
    """
    with require_extra("local,train", "train"):
        from pixel_reasoner.tiny.train import train
    return train(config)


def train_sft(run: SftRun | Path) -> Path:
    """Tune a model on traces, or resume, and return its folder.

    Args:
        run: settings, or the path of a TOML file; `pixel-reasoner init sft` writes one.

    Raises:
        UsageError: packages that are not installed, or settings that do not fit.
        InputError: a file that cannot be read.
        PreemptedError: a signal or a stop file ended training after a checkpoint.

    >>> train_sft(Path("no.toml"))
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.InputError: expected ...
    """
    run = SftRun.read(run) if isinstance(run, Path) else run
    with require_extra("local,train", "train"):
        from pixel_reasoner.train.sft import train_sft as train
    return train(run)


def train_rl(run: RlRun | Path) -> Path:
    """Train a model by RL, or resume, and return its folder.

    Args:
        run: settings, or the path of a TOML file; `pixel-reasoner init rl` writes one.

    Raises:
        UsageError: packages that are not installed, or settings that do not fit.
        InputError: a file that cannot be read.
        PreemptedError: a signal or a stop file ended training after a checkpoint.

    >>> train_rl(Path("no.toml"))
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.InputError: expected ...
    """
    run = RlRun.read(run) if isinstance(run, Path) else run
    with require_extra("local,train", "train"):
        from pixel_reasoner.train.rl import train_rl as train
    return train(run)


def plan_rl(
    run: RlRun | Path,
    gpus: int = 8,
    gpu_gib: float | None = None,
    like: str | None = None,
    **options: Any,
) -> list[str]:
    """Return batches, tokens, memory, time and cost of an RL run as lines of text. Loads no weights.

    Args:
        run: the run, or the path of its TOML file.
        gpus: number of GPUs that train.
        gpu_gib: memory of each, in GiB; by default that of the GPU.
        like: a model of the same shape, where the model of the run does not exist yet.
        options: `gpu` (a name such as `"H100"`, or `"this"`: measure here), `price` per GPU hour, expected `turns` of a
            rollout and `turn_tokens`.
    """
    from pixel_reasoner.train.plan.estimate import PlanOptions, plan_lines

    run = RlRun.read(run) if isinstance(run, Path) else run
    return plan_lines(run, PlanOptions(gpus=gpus, gpu_gib=gpu_gib, like=like, **options))


def plan_sft(
    run: SftRun | Path,
    gpus: int = 8,
    gpu_gib: float | None = None,
    like: str | None = None,
    **options: Any,
) -> list[str]:
    """Return batches, tokens, memory, time and cost of warm-start tuning as lines of text. Loads no weights.

    Args:
        run: the run, or the path of its TOML file.
        gpus: number of GPUs that train.
        gpu_gib: memory of each, in GiB; by default that of the GPU.
        like: a model of the same shape, where the model of the run does not exist yet.
        options: the same as in `plan_rl`; turns are those of a trace.
    """
    from pixel_reasoner.train.plan.estimate import PlanOptions, plan_lines

    run = SftRun.read(run) if isinstance(run, Path) else run
    return plan_lines(run, PlanOptions(gpus=gpus, gpu_gib=gpu_gib, like=like, **options))
