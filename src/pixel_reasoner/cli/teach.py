"""Command `teach`: lessons from traces, own rows or generated exercises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.choices import LESSON_FORMATS, completing
from pixel_reasoner.cli.options import (
    AllowMediaOption,
    MediaUrlOption,
    given_options,
    reject_options,
    with_groups,
)
from pixel_reasoner.cli.output import print_line, progress_bars, warn

if TYPE_CHECKING:
    from pixel_reasoner.api import WrittenLesson

MAX_SKIPPED_LINES = 3
"""skipped traces and rows that are printed for each reason"""


@dataclass(frozen=True)
class SourceOptions:
    """Options for lessons that are not made from traces."""

    panel: ClassVar[str] = "Instead of traces"

    data: Annotated[
        Path | None,
        typer.Option(
            help="Own rows with evidence: a JSONL file, or a folder of such files (see init rows)."
        ),
    ] = None
    pixelworld: Annotated[bool, typer.Option("--pixelworld", help="Generated exercises.")] = False
    level: Annotated[
        int | None,
        typer.Option(
            metavar="1..5", help="Difficulty of generated exercises; 1 is the easiest [default: 1]"
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(min=0, help="Another seed gives other exercises of the same level.")
    ] = 0


@with_groups
def teach(
    traces: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of runs with traces, or traces.jsonl files."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder of the lesson.")] = Path(
        "lesson"
    ),
    title: Annotated[str, typer.Option(help="Title of the lesson.")] = "",
    count: Annotated[int, typer.Option(min=1, max=100, help="Maximum number of questions.")] = 6,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME",
            autocompletion=completing(lambda: LESSON_FORMATS),
            help=f"Write only this: {', '.join(LESSON_FORMATS)}. May be repeated [default: all]",
        ),
    ] = None,
    source: SourceOptions = SourceOptions(),
    allow_media: AllowMediaOption = None,
    media_url: MediaUrlOption = None,
) -> None:
    """Write a lesson: predict where to look, reveal where the model looked, explain in own words.

    OUT/learners contains the lesson as one offline page, a handout and a notebook; none of them shows an answer
    before the reveal. OUT/teacher contains notes with the answer key, slides, H5P packages, and each question as a picture and an animation.

    Examples:
        pixel-reasoner teach --pixelworld --level 2 --out lesson

        pixel-reasoner teach runs/demo --out lesson --title "Where would you look?"

        pixel-reasoner teach --data my_rows.jsonl --format html --format pptx --out lesson
    """
    if not source.pixelworld:
        reject_options(given_options(source, ["level"]), "without --pixelworld")
    from pixel_reasoner import api

    spec = api.LessonSpec(
        out=out,
        traces=tuple(traces or ()),
        data=source.data,
        level=(1 if source.level is None else source.level) if source.pixelworld else None,
        count=count,
        seed=source.seed,
        title=title,
        formats=tuple(formats or ()),
        allow_media=tuple(allow_media or ()),
    )
    lines = _SkippedLines()
    try:
        with progress_bars() as progress:
            written = api.make_lesson(spec, progress, lines.add)
    finally:
        lines.print()
    _print_written(written, has_level=source.pixelworld)


class _SkippedLines:
    """Lines about skipped traces and rows, of which the first of each reason are printed after the progress bar."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()

    def add(self, line: str, reason: str) -> None:
        """Note one."""
        self.counts[reason] += 1
        if self.counts[reason] <= MAX_SKIPPED_LINES:
            self.lines.append(line)

    def print(self) -> None:
        """Print the lines, and the counts."""
        for line in self.lines:
            warn(f"skipped: {line}")
        if self.counts:
            counts = ", ".join(f"{number} {reason}" for reason, number in self.counts.items())
            warn(f"skipped in all: {counts}")


def _print_written(written: WrittenLesson, *, has_level: bool) -> None:
    steps = written.lesson.steps
    mistakes = sum(step.has_mistake for step in steps)
    worked = f", {mistakes} with a mistake and its correction" if mistakes else ""
    print_line(f"{len(steps)} question{'' if len(steps) == 1 else 's'}{worked}: {written.out}")
    if has_level:  # otherwise it repeats the line above
        print_line(written.lesson.about)
    for name, reason in written.missing.items():
        warn(f"not written: {name}: {reason}")
    if "html" in written.files:
        print_line(f"Open {written.out / 'learners' / 'lesson.html'} in a browser.")
    if "notes" in written.files:
        print_line(f"Answers: {written.out / 'teacher' / 'notes.html'}")
