"""Commands `train tiny`, `train sft` and `train rl`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.help import CommandGroup, HelpCommand
from pixel_reasoner.cli.options import reject_options, with_groups
from pixel_reasoner.cli.output import print_line, progress_bars, warn
from pixel_reasoner.cli.ray import RayTrainOptions, ray_cluster
from pixel_reasoner.errors import PreemptedError

if TYPE_CHECKING:
    from pixel_reasoner.api import RlRun, SftRun

PREEMPTED_CODE = 75
"""exit code of a training that was stopped after a checkpoint: EX_TEMPFAIL of sysexits.h, try again"""
app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Train models.")

RunArgument = Annotated[Path, typer.Argument(help="TOML file of the run.")]


@dataclass(frozen=True)
class ReuseOptions:
    """Options for the initial model, and the share of answers without operations."""

    panel: ClassVar[str] = "Start"

    tower: Annotated[
        str,
        typer.Option(
            help="Reuse the vision tower of `tiny` or a model folder, and train only the language model."
        ),
    ] = ""
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="Instead of --tower: also continue from the language model of this model.",
        ),
    ] = ""
    words: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of examples that answer without an operation, by a guess if one is needed: for ablations.",
        ),
    ] = 0.0


@app.command("tiny", cls=HelpCommand)
@with_groups
def train_tiny(
    traces: Annotated[
        Path,
        typer.Option("--traces", help="Folder of `synth pixelworld`, written for `--model tiny`."),
    ] = Path("runs/tiny/synth"),
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Checkpoints, logs and the model.")
    ] = Path("runs/tiny"),
    reuse: ReuseOptions = ReuseOptions(),
    steps: Annotated[
        int, typer.Option(min=1, help="Number of steps of the last stage (language model).")
    ] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    scale: Annotated[
        float,
        typer.Option(min=0.0, help="Share of scenes and steps: 0.01 tests the whole pipeline."),
    ] = 1.0,
    batch_share: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of the examples per step and measurement."),
    ] = 1.0,
    install: Annotated[
        bool,
        typer.Option("--install", help="Replace the installed bundled model by the result."),
    ] = False,
) -> None:
    """Train the bundled model from scratch. Every stage resumes after a kill: run the command again.

    Examples:
        pixel-reasoner synth pixelworld --count 2000 --out runs/tiny/synth

        pixel-reasoner train tiny --traces runs/tiny/synth --out runs/tiny

        pixel-reasoner train tiny --traces runs/few/synth --tower tiny --steps 200 --out runs/few
    """
    from pixel_reasoner import api

    spec = api.TinyConfig(
        traces=traces,
        out=out,
        tower=reuse.tower,
        start=reuse.start,
        words=reuse.words,
        steps=steps,
        seed=seed,
        scale=scale,
        batch_share=batch_share,
        install=install,
    )
    print_line(f"The model: {api.train_tiny(spec)}")


@app.command("sft", cls=HelpCommand)
@with_groups
def train_sft(run: RunArgument, cluster: RayTrainOptions = RayTrainOptions()) -> None:
    """Warm-start tuning on expert traces, with TRL. Resumes after a kill: run the command again.

    SIGTERM, SIGUSR1 or a file `stop` in the folder of the run: a checkpoint after the current step, and exit code 75.

    Examples:
        pixel-reasoner train sft run.toml

        torchrun --nproc_per_node gpu -m pixel_reasoner.cli train sft run.toml

        pixel-reasoner train sft run.toml --ray 10.0.0.1:6379 --ray-workers 16
    """
    from pixel_reasoner import api

    cluster.check()
    if cluster.ray is not None:
        with _exit_code_when_preempted():
            _train_on_ray(api.SftRun.read(run), cluster)
        return
    with _exit_code_when_preempted():
        _print_model(api.train_sft(run))
    _end_process_group()


@app.command("rl", cls=HelpCommand)
@with_groups
def train_rl(
    run: RunArgument,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print batches, tokens and memory without loading anything."),
    ] = False,
    gpus: Annotated[int, typer.Option(help="For --plan: number of training GPUs.")] = 8,
    gpu_gib: Annotated[float, typer.Option(help="For --plan: memory per GPU, in GiB.")] = 80.0,
    like: Annotated[
        str | None,
        typer.Option(
            help="For --plan: a model of the same shape, if the model of the run does not exist yet."
        ),
    ] = None,
    cluster: RayTrainOptions = RayTrainOptions(),
) -> None:
    """Curiosity-driven RL, with TRL. Resumes after a kill: run the command again.

    SIGTERM, SIGUSR1 or a file `stop` in the folder of the run: a checkpoint after the current policy sync, and exit code 75.

    With a table [vllm] in the file, vLLM servers generate the rollouts. Start one first, in an environment of its own:
    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --dtype bfloat16 --enable-scale-out --logprobs-mode processed_logprobs (docs/rl.md).

    Examples:
        pixel-reasoner train rl run.toml

        pixel-reasoner train rl run.toml --plan --gpus 32

        torchrun --nproc_per_node gpu -m pixel_reasoner.cli train rl run.toml

        pixel-reasoner train rl run.toml --ray 10.0.0.1:6379 --ray-workers 16
    """
    from pixel_reasoner import api

    cluster.check()
    if not plan:
        given = {"--gpus": gpus != 8, "--gpu-gib": gpu_gib != 80.0, "--like": like is not None}
        reject_options([name for name, is_given in given.items() if is_given], "without --plan")
    if plan:
        for line in api.plan_rl(run, gpus, gpu_gib, like):
            print_line(line)
        return
    if cluster.ray is not None:
        with _exit_code_when_preempted():
            _train_on_ray(api.RlRun.read(run), cluster)
        return
    with _exit_code_when_preempted():
        _print_model(api.train_rl(run))
    _end_process_group()


@contextmanager
def _exit_code_when_preempted() -> Iterator[None]:
    """Convert `PreemptedError` to one line, in the first of several processes, and an exit code of its own."""
    try:
        yield
    except PreemptedError as error:
        if os.environ.get("RANK", "0") == "0":
            warn(f"stopped by {error.got}: {error.fix}")
        _end_process_group()
        raise typer.Exit(PREEMPTED_CODE) from None


def _train_on_ray(run: SftRun | RlRun, cluster: RayTrainOptions) -> None:
    """Train in workers on a cluster, and print the path of the model."""
    with ray_cluster(cluster) as options:
        from pixel_reasoner.integrations.ray_train import train_on_ray

        with progress_bars() as progress:
            folder = train_on_ray(run, options, progress=progress)
    print_line(f"The model: {folder}")


def _end_process_group() -> None:
    """End the threads of torchrun's process group: at the end of Python they abort the process now and then.

    Without the barrier, gloo aborts a process that still waits for another.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _print_model(folder: Path) -> None:
    """Print the path of the model, in the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        print_line(f"The model: {folder}")
