"""Commands `world render`, `world parts` and `world moments`: PixelWorld files. `cli.world_sets` has two more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixel_reasoner.cli.choices import ALL_WORLD_FAMILIES, FAMILIES, SPLITS, choice_option
from pixel_reasoner.cli.help import CommandGroup, HelpCommand
from pixel_reasoner.cli.output import print_line, progress_bars
from pixel_reasoner.cli.world_options import HeightsOption, TwinsOption, WorldVersionOption
from pixel_reasoner.cli.world_sets import probe, verify
from pixel_reasoner.errors import UsageError

READABLE_FROM_PX = 4
"""minimum height of a legible character, in pixels"""

_OTHER_COMMANDS = {
    "parts": "use `pixel-reasoner world parts`, or add --world 2",
    "moments": "use `pixel-reasoner world moments`, or add --world 2",
}
"""families with a command of their own"""

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="PixelWorld: pictures and clips with known evidence.",
)


app.command(cls=HelpCommand)(verify)
app.command(cls=HelpCommand)(probe)


@app.command(cls=HelpCommand)
def render(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for files and questions.jsonl.")],
    family: Annotated[
        str,
        choice_option(ALL_WORLD_FAMILIES, "--family", "-f", help="Which scenes."),
    ] = "attribute",
    world: WorldVersionOption = 1,
    heights: HeightsOption = None,
    twins: TwinsOption = True,
    split: Annotated[str, choice_option(SPLITS, "--split", help="Split of scene seeds.")] = "test",
    seed: Annotated[int, typer.Option(help="Number of the first scene within the split.")] = 0,
    count: Annotated[int, typer.Option(help="Number of questions.")] = 10,
    size_px: Annotated[
        int | None, typer.Option(help="Side of the canvas [default: the size of the family]")
    ] = None,
    detail_px: Annotated[
        int | None,
        typer.Option(help="Height of the decisive character [default: the size of the family]"),
    ] = None,
    check_readable: Annotated[
        bool,
        typer.Option("--check-readable", help="Print the height of the character in the overview."),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="Model whose overview --check-readable measures, and for which --world 2 is drawn: `tiny`, a model"
            " folder or a dialect."
        ),
    ] = "tiny",
    lmms_task: Annotated[
        bool,
        typer.Option("--lmms-task", help="Also write a task of lmms-eval into the folder lmms."),
    ] = False,
) -> None:
    """Write picture and video files, and questions.jsonl with answers and evidence.

    Examples:
        pixel-reasoner world render --family attribute --count 20 --out scenes

        pixel-reasoner world render --size-px 8192 --detail-px 24 --count 5 --check-readable --out large

        pixel-reasoner world render --world 2 --family where --count 12 --out heights
    """
    from pixel_reasoner import api
    from pixel_reasoner.workflows.world2 import parse_heights

    _check_family(family, world)
    sizes = (family, split, seed, count, size_px, detail_px)
    spec = api.WorldSpec(*sizes, world, parse_heights(heights), twins, model)
    with progress_bars() as progress:
        path = api.render_world(spec, out, progress)
    if check_readable and world == 1:
        _print_readable(api.detail_px_in_overview(spec, model), model)
    print_line(f"{count} questions: {path}")
    if lmms_task:
        _write_lmms_task(path, family, world)


def _write_lmms_task(path: Path, family: str, world: int) -> None:
    from pixel_reasoner.integrations.lmms_tasks import write_lmms_task
    from pixel_reasoner.schema.question import load_questions

    name = f"pixelworld{world}_{family}"
    task = write_lmms_task(load_questions(path), path.parent, name)
    print_line(f"Task of lmms-eval: --include_path {task} --tasks {name}")


def _check_family(family: str, world: int) -> None:
    if world == 1 and family in _OTHER_COMMANDS:
        raise UsageError(
            expected=f"--family {', '.join(FAMILIES)}",
            got=repr(family),
            fix=_OTHER_COMMANDS[family],
        )


def _print_readable(height: float, model: str) -> None:
    verdict = (
        "unreadable"
        if height < READABLE_FROM_PX
        else "may be legible: choose a smaller detail or a larger canvas"
    )
    print_line(f"The character is {height:.1f} px high in the overview of {model}: {verdict}.")


_Kinds = Annotated[str, typer.Option(help="`all`, or some of plate,board,connector,gear,label.")]
_Conditions = Annotated[
    str,
    typer.Option(help="`all`, or some of steady,shifted,rotated,relit,misaligned,wrong_part."),
]
_Defects = Annotated[
    str, typer.Option(help="`all`, or some of scratch,dent,hole,misprint,missing_piece.")
]
_Validation = Annotated[
    int, typer.Option(help="Parts of each kind in the validation split; half have a defect.")
]
_Test = Annotated[
    int, typer.Option(help="Parts of each kind in the test split; half have a defect.")
]


@app.command(cls=HelpCommand)
def parts(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for photographs and masks.")],
    kinds: _Kinds = "all",
    width_px: Annotated[
        int, typer.Option(help="Width of the photographs, up to 4000 (12 megapixels).")
    ] = 2048,
    references: Annotated[int, typer.Option(help="Good parts of each kind in train/good.")] = 8,
    validation: _Validation = 10,
    test: _Test = 20,
    unaligned: Annotated[
        int, typer.Option(help="Photographs of each kind that cannot be aligned.")
    ] = 4,
    views: Annotated[int, typer.Option(help="Photographs of each part, 1 to 3 cameras.")] = 1,
    conditions: _Conditions = "all",
    defects: _Defects = "all",
    min_defect: Annotated[
        float, typer.Option(help="Size of the smallest defect, in pixels of the overview.")
    ] = 1.0,
    max_defect: Annotated[
        float, typer.Option(help="Size of the largest defect, in pixels of the overview.")
    ] = 40.0,
    seed: Annotated[int, typer.Option(help="Number of the first part within each split.")] = 0,
) -> None:
    """Write photographs of industrial parts with known defects, in the layout of MVTec AD.

    Every kind is a folder with good references (train/good), a validation split, a test split, masks and photographs that
    cannot be aligned. parts.jsonl contains the box, class, severity and size of each defect, the position and the light.

    Examples:
        pixel-reasoner world parts --out parts

        pixel-reasoner world parts --kinds gear --width-px 4000 --test 40 --out gears

        pixel-reasoner world parts --conditions steady --max-defect 4 --views 3 --out small-defects
    """
    from pixel_reasoner import api

    spec = api.PartsSpec(
        kinds,
        width_px,
        references,
        validation,
        test,
        unaligned,
        views,
        conditions,
        defects,
        min_defect,
        max_defect,
        seed,
    )
    with progress_bars() as progress:
        path = api.render_parts(spec, out, progress)
    print_line(f"Photographs and masks: {path}")


@app.command(cls=HelpCommand)
def moments(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clips and moments.jsonl.")],
    count: Annotated[int, typer.Option(help="Number of clips.")] = 5,
    duration_s: Annotated[
        float, typer.Option("--duration-s", help="Length of each clip in seconds.")
    ] = 120.0,
    rates: Annotated[
        str,
        typer.Option(help="`all`, or some of 23.976,25,29.97,60,variable; clips take turns."),
    ] = "all",
    split: Annotated[str, choice_option(SPLITS, "--split", help="Split of seeds.")] = "test",
    seed: Annotated[int, typer.Option(help="Number of the first clip within the split.")] = 0,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Only mp4 from time 0, without rotation and time code. Without it clips take turns.",
        ),
    ] = False,
) -> None:
    """Write clips with events at exact times: video with sound, and moments.jsonl.

    moments.jsonl contains the shots, the descriptions to search for with their spans (frames, PTS, seconds), the start of
    each beep, and for every frame the box of a face or a number plate. Every frame contains its number as a row of black
    and white cells.

    Examples:
        pixel-reasoner world moments --out clips

        pixel-reasoner world moments --count 1 --duration-s 30 --rates variable --plain --out short
    """
    from pixel_reasoner import api

    spec = api.MomentsSpec(count, duration_s, rates, split, seed, plain)
    with progress_bars() as progress:
        path = api.render_moments(spec, out, progress)
    print_line(f"{count} {'clip' if count == 1 else 'clips'}: {path}")
