"""Commands `train tiny`, `train sft` and `train rl`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from pixel_reasoner.cli.help import CommandGroup, HelpCommand
from pixel_reasoner.cli.options import reject_options, with_groups
from pixel_reasoner.cli.output import print_line

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
def train_sft(run: RunArgument) -> None:
    """Warm-start tuning on expert traces, with TRL. Resumes after a kill: run the command again.

    Examples:
        pixel-reasoner train sft run.toml

        accelerate launch -m pixel_reasoner.cli train sft run.toml
    """
    from pixel_reasoner import api

    _print_model(api.train_sft(run))
    _end_process_group()


@app.command("rl", cls=HelpCommand)
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
) -> None:
    """Curiosity-driven RL, with TRL. Resumes after a kill: run the command again.

    With a table [vllm] in the file, vLLM servers generate the rollouts. Start one first, in an environment of its own:
    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --dtype bfloat16 --enable-scale-out --logprobs-mode processed_logprobs (docs/rl.md).

    Examples:
        pixel-reasoner train rl run.toml

        pixel-reasoner train rl run.toml --plan --gpus 32

        accelerate launch -m pixel_reasoner.cli train rl run.toml
    """
    from pixel_reasoner import api

    if not plan:
        given = {"--gpus": gpus != 8, "--gpu-gib": gpu_gib != 80.0, "--like": like is not None}
        reject_options([name for name, is_given in given.items() if is_given], "without --plan")
    if plan:
        for line in api.plan_rl(run, gpus, gpu_gib, like):
            print_line(line)
        return
    _print_model(api.train_rl(run))
    _end_process_group()


def _end_process_group() -> None:
    """End the threads of torchrun's process group: at the end of Python they abort the process now and then."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _print_model(folder: Path) -> None:
    """Print the path of the model, in the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        print_line(f"The model: {folder}")
