"""Commands `train tiny`, `train sft` and `train rl`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.help import CommandGroup, HelpCommand
from pixel_reasoner.cli.options import MediaUrlOption, reject_options, with_groups
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


@dataclass(frozen=True)
class SizeOptions:
    """Options for the size of the model and of its training."""

    panel: ClassVar[str] = "Size"

    size: Annotated[
        str,
        typer.Option(
            help="s, m or l: 5.7 (bundled), 17 or 55 million parameters; m and l are for a GPU."
        ),
    ] = "s"
    call_weight: Annotated[
        float, typer.Option(min=0.0, help="Weight of the tokens of calls in the loss.")
    ] = 1.0
    steps: Annotated[
        int, typer.Option(min=1, help="Number of steps of the last stage (language model).")
    ] = 4000
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0
    scale: Annotated[
        float,
        typer.Option(min=0.0, help="Share of scenes and steps: 0.01 tests the whole pipeline."),
    ] = 1.0
    batch_share: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of the examples per step and measurement."),
    ] = 1.0


@app.command("tiny", cls=HelpCommand)
@with_groups
def train_tiny(
    traces: Annotated[
        list[Path] | None,
        typer.Option(
            "--traces",
            help="Folder of `synth pixelworld`, written for `--model tiny`. May be repeated: one of each world.  "
            "[default: runs/tiny/synth]",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Checkpoints, logs and the model.")
    ] = Path("runs/tiny"),
    reuse: ReuseOptions = ReuseOptions(),
    sizes: SizeOptions = SizeOptions(),
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
        traces=tuple(traces or [Path("runs/tiny/synth")]),
        out=out,
        tower=reuse.tower,
        start=reuse.start,
        words=reuse.words,
        size=sizes.size,
        call_weight=sizes.call_weight,
        steps=sizes.steps,
        seed=sizes.seed,
        scale=sizes.scale,
        batch_share=sizes.batch_share,
        install=install,
    )
    print_line(f"The model: {api.train_tiny(spec)}")


@dataclass(frozen=True)
class PlanningOptions:
    """Options of a plan instead of a run."""

    panel: ClassVar[str] = "Plan"

    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print batches, memory, time and cost; train nothing."),
    ] = False
    gpus: Annotated[
        int, typer.Option(help="For --plan: number of GPUs that train; with --gpu this, processes.")
    ] = 8
    gpu: Annotated[
        str,
        typer.Option(
            help="For --plan: name of the GPU, such as H100; `this` measures layers of the model on this machine."
        ),
    ] = "H100"
    gpu_gib: Annotated[
        float | None,
        typer.Option(help="For --plan: memory per GPU, in GiB.  [default: that of the GPU]"),
    ] = None
    like: Annotated[
        str | None,
        typer.Option(
            help="For --plan: a model of the same shape, if the model of the run does not exist yet."
        ),
    ] = None
    price: Annotated[float, typer.Option(help="For --plan: price of a GPU hour.")] = 0.0
    turns: Annotated[
        float, typer.Option(help="For --plan: expected number of turns of a rollout or trace.")
    ] = 2.0
    turn_tokens: Annotated[
        int, typer.Option(help="For --plan: expected number of tokens of a turn.")
    ] = 100

    picture_tokens: Annotated[
        int,
        typer.Option(
            help="For --plan: expected visual tokens of a question.  [default: the most that the model allows]",
            show_default=False,
        ),
    ] = 0

    def print_plan(self, plan: Callable[..., list[str]], run: Path) -> bool:
        """Print the plan of a run, and return whether it was wanted. Options of a plan need --plan."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        if not values.pop("plan"):
            defaults = {one.name: one.default for one in fields(self)}
            given = [name for name, value in values.items() if value != defaults[name]]
            reject_options([f"--{name.replace('_', '-')}" for name in given], "without --plan")
            return False
        for line in plan(run, **values):
            print_line(line)
        return True


@app.command("sft", cls=HelpCommand)
@with_groups
def train_sft(
    run: RunArgument,
    planning: PlanningOptions = PlanningOptions(),
    cluster: RayTrainOptions = RayTrainOptions(),
    media_url: MediaUrlOption = None,
) -> None:
    """Warm-start tuning on expert traces, with TRL. Resumes after a kill: run the command again.

    SIGTERM, SIGUSR1 or a file `stop` in the folder of the run: a checkpoint after the current step, and exit code 75.

    Examples:
        pixel-reasoner train sft run.toml

        pixel-reasoner train sft run.toml --plan --gpu this --gpus 1

        torchrun --nproc_per_node gpu -m pixel_reasoner.cli train sft run.toml

        pixel-reasoner train sft run.toml --ray 10.0.0.1:6379 --ray-workers 16
    """
    from pixel_reasoner import api

    cluster.check()
    if planning.print_plan(api.plan_sft, run):
        return
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
    planning: PlanningOptions = PlanningOptions(),
    cluster: RayTrainOptions = RayTrainOptions(),
    media_url: MediaUrlOption = None,
) -> None:
    """Curiosity-driven RL, with TRL. Resumes after a kill: run the command again.

    SIGTERM, SIGUSR1 or a file `stop` in the folder of the run: a checkpoint after the current policy sync, and exit code 75.

    With a table [vllm] in the file, vLLM servers generate the rollouts. Start one first, in an environment of its own:
    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --dtype bfloat16 --enable-scale-out --logprobs-mode processed_logprobs (docs/rl.md).

    Examples:
        pixel-reasoner train rl run.toml

        pixel-reasoner train rl run.toml --plan --gpus 32 --gpu H100 --price 2.5

        torchrun --nproc_per_node gpu -m pixel_reasoner.cli train rl run.toml

        pixel-reasoner train rl run.toml --ray 10.0.0.1:6379 --ray-workers 16
    """
    from pixel_reasoner import api

    cluster.check()
    if planning.print_plan(api.plan_rl, run):
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
