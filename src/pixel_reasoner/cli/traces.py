"""Commands `check`, `export` and `import`: traces of a run in this and other formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixel_reasoner.cli.choices import EXPORT_FORMATS, choice_option
from pixel_reasoner.cli.options import (
    AllowMediaOption,
    MediaUrlOption,
    TracesArgument,
    reject_options,
)
from pixel_reasoner.cli.output import print_line, progress_bars, warn
from pixel_reasoner.text import visible

if TYPE_CHECKING:
    from pixel_reasoner.workflows.traces import MaskedTrace


def check(
    source: TracesArgument,
    held_out: Annotated[
        Path | None,
        typer.Option(help="A questions.jsonl whose questions must not occur in the traces."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Also count the tokens of this model."),
    ] = None,
    show_mask: Annotated[
        bool,
        typer.Option(
            "--show-mask", help="Print one trace of each kind with trained tokens marked."
        ),
    ] = False,
    allow_media: AllowMediaOption = None,
    media_url: MediaUrlOption = None,
) -> None:
    """Check traces before training: answers, evidence, calls and pixels. Exit code 1 if anything is wrong.

    Examples:
        pixel-reasoner check runs/synth --model tiny

        pixel-reasoner check runs/synth --show-mask
    """
    from pixel_reasoner import api

    if show_mask:
        reject_options(["--held-out"] if held_out else [], "with --show-mask, which checks nothing")
        for masked in api.masked_traces(source, model or "tiny", allow_media or ()):
            _print_mask(masked)
        return
    with progress_bars() as progress:
        verdict = api.check(
            source,
            held_out=held_out,
            model=model,
            progress=progress,
            allow_media=allow_media or (),
        )
    for name, metric in verdict.metrics.items():
        print_line(f"{name}: {metric}")
    for problem in verdict.named:
        warn(f"{problem.check}: {problem.question}: {problem.detail}")
    if verdict.passed:
        print_line(("ready for training", "green"), f": {verdict.checked} traces")
        return
    problems = ", ".join(f"{name} {n}" for name, n in verdict.problems.items()) or "no trace"
    print_line(("not ready for training", "red"), f": {problems} (of {verdict.checked} traces)")
    raise typer.Exit(1)


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with traces.jsonl, or the file. For verl and questions also questions, as for `train rl`."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    to: Annotated[str, choice_option(EXPORT_FORMATS, "--to", help="The format.")] = "trl",
    allow_media: AllowMediaOption = None,
    media_url: MediaUrlOption = None,
) -> None:
    """Write traces, or questions for RL, in other formats.

    `trl`: a `datasets` folder with messages and inline pictures, for a stock trl.SFTTrainer. `message_list`: the JSON
    format of
    PixelReasoner-SFT-Data, with pictures as files, for traces from `synth --model pixel_reasoner`. `verl`: a Parquet file of
    questions with paths of media, for RL with verl or SkyRL. `questions`: `questions.jsonl` for `eval jsonl` and `train rl`.

    Examples:
        pixel-reasoner export runs/synth --out runs/synth-trl

        pixel-reasoner synth pixelworld --model pixel_reasoner --out runs/synth-7b

        pixel-reasoner export runs/synth-7b --to message_list --out runs/synth-json

        pixel-reasoner export scenes --to verl --out runs/verl
    """
    from pixel_reasoner import api

    num_rows = api.export_traces(source, out, to, allow_media or ())
    print_line(f"{num_rows} rows: {out}")


def import_(
    source: Annotated[Path, typer.Argument(help="A JSON file of PixelReasoner-SFT-Data.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the traces.")],
    allow_media: AllowMediaOption = None,
    media_url: MediaUrlOption = None,
) -> None:
    """Import traces of PixelReasoner-SFT-Data. Every call is executed again; unusable rows are listed.

    Example:
        pixel-reasoner import release/data.json --out runs/released
    """
    from pixel_reasoner import api

    count, dropped = api.import_traces(
        source,
        out,
        lambda row: warn(f"dropped: {row.where}: {row.detail}"),
        allow_media or (),
    )
    print_line(f"{count} traces: {out / 'traces.jsonl'}")
    if dropped:
        print_line("dropped: " + ", ".join(f"{name} {n}" for name, n in dropped.items()))


def _print_mask(masked: MaskedTrace) -> None:
    """Print the tokens of a trace: trained tokens green and between ⟦ ⟧, all others grey."""
    from rich.console import Console
    from rich.text import Text

    text = Text(visible(f"\n{masked.kind}: {masked.question_id}\n"), style="bold")
    for trained, tokens in masked.spans:
        if trained:
            text.append("⟦", style="bold green")
        for token in tokens:
            text.append(visible(token), style="bold green" if trained else "dim not bold")
        if trained:
            text.append("⟧", style="bold green")
    console = Console(highlight=False, soft_wrap=True)
    console.print(text)
    console.print(f"{masked.num_trained} of {masked.num_tokens} tokens are trained")
