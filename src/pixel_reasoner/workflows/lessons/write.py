"""A lesson as one folder: files for learners, which show no answer before the reveal, and files for the teacher.

    OUT/learners/lesson.html       the lesson, one file
    OUT/learners/handout.html      to print, without answers
    OUT/learners/lesson.ipynb      notebook
    OUT/teacher/notes.html         how to run the lesson, and the answer key
    OUT/teacher/slides.pptx        slides; answers are in the notes
    OUT/teacher/h5p/               packages to upload to Moodle, WordPress or Lumi
    OUT/teacher/strips/            each question as one picture
    OUT/teacher/animations/        each question as an animation

The folder appears when it is complete. An existing folder is never changed: a teacher may have edited its files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.files import atomic_folder, cannot_write
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.lessons.build import NoStep, StepContent, build_step
from pixel_reasoner.workflows.lessons.gather import (
    Found,
    Skipped,
    traces_of_rows,
    traces_of_runs,
)
from pixel_reasoner.workflows.lessons.h5p import write_packages
from pixel_reasoner.workflows.lessons.images import Illustrations
from pixel_reasoner.workflows.lessons.lesson import Lesson, LessonContent
from pixel_reasoner.workflows.lessons.levels import level_of, level_traces
from pixel_reasoner.workflows.lessons.notebook import write_notebook
from pixel_reasoner.workflows.lessons.page import write_page
from pixel_reasoner.workflows.lessons.papers import write_handout, write_notes
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter, Update

FORMATS = ("html", "handout", "notebook", "h5p", "notes", "pptx", "strip", "gif")
OPTIONAL = ("pptx",)
"""formats that need an extra"""
MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class LessonSpec:
    """What a lesson is made from, and its folder. Exactly one of `traces`, `data` and `level` is given."""

    out: Path
    """new folder"""
    traces: tuple[Path, ...] = ()
    """run folders and `traces.jsonl` files"""
    data: Path | None = None
    """own rows with evidence, in a JSONL file or a folder of such files"""
    level: int | None = None
    """exercises of PixelWorld, from 1 (easiest) to 5"""
    count: int = 6
    """largest number of questions"""
    seed: int = 0
    """of PixelWorld exercises, and of the mistakes in traces of own rows"""
    title: str = ""
    """empty: a general title"""
    formats: tuple[str, ...] = ()
    """names of `FORMATS`; empty: all whose packages are installed"""
    allow_media: tuple[Path, ...] = ()
    """folders, in addition to those of the traces and rows, from which they may name media"""


class WrittenLesson(NamedTuple):
    """A written lesson."""

    out: Path
    lesson: Lesson
    files: dict[str, int]
    """format -> number of files"""
    skipped: dict[str, int]
    """reason -> number of traces and rows that gave no question"""
    missing: dict[str, str]
    """format that was not written -> reason"""


def make_lesson(
    spec: LessonSpec,
    progress: ProgressReporter | None = None,
    on_skipped: Callable[[str, str], None] = lambda line, reason: None,
) -> WrittenLesson:
    """Write a lesson.

    Args:
        spec: source, size and folder.
        progress: receives the number of questions.
        on_skipped: receives one line for each trace or row that gives no question, and its reason.

    Raises:
        UsageError: values that do not fit, or a format whose packages are not installed.
        InputError: nothing gives a question.
        OutputError: the folder exists already, or cannot be written.

    >>> folder = Path(tempfile.mkdtemp()) / "lesson"
    >>> written = make_lesson(LessonSpec(out=folder, level=1, count=2, formats=("html",)))
    >>> len(written.lesson.steps), written.files
    (2, {'html': 1})
    """
    _check(spec)
    update: Update | None = None
    skipped = Skipped(on_skipped)
    with _work_folder(spec.out) as work:
        steps: list[StepContent] = []
        traces: list[Trace] = []
        for found in _traces(spec, skipped, work):
            try:
                steps.append(build_step(found.trace, len(steps) + 1, found.without))
            except NoStep as error:
                skipped.add(found.where, error.reason, error.detail)
                continue
            traces.append(found.trace)
            # Not earlier: an error shows no progress bar.
            update = update or (progress or NoProgress()).start("questions", spec.count)
            update(len(steps))
            if len(steps) == spec.count:
                break
        if not steps:
            raise _no_steps(skipped)
        content = _content(spec, steps)
        with atomic_folder(spec.out) as folder:
            files, missing = _write_formats(content, traces, spec.formats, folder)
    return WrittenLesson(spec.out, content.lesson, files, dict(skipped.counts), missing)


def generated_lesson(level: int, seed: int, num_steps: int) -> LessonContent:
    """Return a lesson of a PixelWorld level without writing files.

    Raises:
        UsageError: a level or a seed out of range.
    """
    with tempfile.TemporaryDirectory() as folder:
        traces = level_traces(level, seed, Path(folder))
        steps = [
            build_step(trace, number)
            for number, trace in zip(range(1, num_steps + 1), traces, strict=False)
        ]
        return _content(LessonSpec(out=Path(folder), level=level), steps)


# --- checks ---


def _check(spec: LessonSpec) -> None:
    given = [bool(spec.traces), spec.data is not None, spec.level is not None]
    if sum(given) != 1:
        raise UsageError(
            expected="one source of a lesson: traces, --data, or --pixelworld",
            got="none" if not any(given) else "several",
            fix="for example pixel-reasoner teach --pixelworld --level 2 --out lesson",
        )
    if spec.level is not None:
        level_of(spec.level)
    if not 1 <= spec.count <= MAX_STEPS:
        raise UsageError(
            expected=f"1 to {MAX_STEPS} questions", got=str(spec.count), fix="make several lessons"
        )
    for name in spec.formats:
        if name not in FORMATS:
            raise UsageError(
                expected=f"formats: {', '.join(FORMATS)}", got=name, fix="name some of these"
            )
    for name in {*spec.formats} & {*OPTIONAL}:
        _import_optional(name)
    if spec.out.exists() and (not spec.out.is_dir() or any(spec.out.iterdir())):
        raise OutputError(
            expected="a new folder for the lesson",
            got=f"{spec.out}, which exists already",
            fix="choose another --out; a lesson that you may have edited is never replaced",
        )


def _import_optional(name: str) -> None:
    """Raise a `UsageError` if the packages of a format are not installed."""
    from pixel_reasoner.errors import require_extra

    with require_extra("workflows", f"write {name}"):
        import pptx  # noqa: F401


def _no_steps(skipped: Skipped) -> InputError:
    counts = ", ".join(f"{number} {reason}" for reason, number in skipped.counts.most_common())
    return InputError(
        expected="at least one trace with a picture and an executed operation",
        got=f"none (skipped: {counts or 'nothing, there are no traces'})",
        fix="give traces of a model with operations, or rows with boxes, frames or times",
    )


# --- content ---


def _traces(spec: LessonSpec, skipped: Skipped, work: Path) -> Iterator[Found]:
    if spec.level is not None:
        for number, trace in enumerate(level_traces(spec.level, spec.seed, work), start=1):
            yield Found(f"exercise {number}", trace)
    elif spec.data is not None:
        yield from traces_of_rows(spec.data, spec.seed, skipped, spec.allow_media)
    else:
        yield from traces_of_runs(spec.traces, skipped, spec.allow_media)


def _content(spec: LessonSpec, steps: Sequence[StepContent]) -> LessonContent:
    if spec.level is not None:
        about = level_of(spec.level).describe(spec.level)
    else:
        num_mistakes = sum(one.step.has_mistake for one in steps)
        about = f"{len(steps)} question{'' if len(steps) == 1 else 's'}"
        about += f", {num_mistakes} of them with a mistake of the model." if num_mistakes else "."
    lesson = Lesson(
        title=spec.title.strip() or "Where would you look?",
        about=about,
        steps=tuple(one.step for one in steps),
    )
    return LessonContent(lesson, {k: v for one in steps for k, v in one.pictures.items()})


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """Provide a temporary folder for generated media."""
    try:
        with tempfile.TemporaryDirectory(prefix="pixel-reasoner-") as folder:
            yield Path(folder)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(out, error) from error


# --- files ---


def _write_formats(
    content: LessonContent, traces: Sequence[Trace], names: Sequence[str], folder: Path
) -> tuple[dict[str, int], dict[str, str]]:
    """Write all formats, and return the number of files of each, and the reasons for missing ones."""
    files: dict[str, int] = {}
    missing: dict[str, str] = {}
    shown = Illustrations(content)
    for name in FORMATS:
        if names and name not in names:
            continue
        try:
            files[name] = _write_format(name, shown, traces, folder)
        except (
            UsageError
        ) as error:  # the packages are not installed, and nobody asked for this format
            if names:
                raise
            missing[name] = str(error)
    return files, missing


def _write_format(name: str, shown: Illustrations, traces: Sequence[Trace], folder: Path) -> int:
    """Write one format and return its number of files."""
    learners, teacher = folder / "learners", folder / "teacher"
    match name:
        case "html":
            write_page(LessonContent(shown.lesson, shown.pictures), learners / "lesson.html")
        case "handout":
            write_handout(shown, learners / "handout.html")
        case "notebook":
            write_notebook(shown, learners / "lesson.ipynb")
        case "h5p":
            return len(write_packages(shown, teacher / "h5p"))
        case "notes":
            write_notes(shown, teacher / "notes.html")
        case "pptx":
            from pixel_reasoner.workflows.lessons.slides import write_slides

            write_slides(shown, teacher / "slides.pptx")
        case _:
            return _write_pictures(name, traces, teacher)
    return 1


def _write_pictures(name: str, traces: Sequence[Trace], teacher: Path) -> int:
    from pixel_reasoner.reports.animation import write_animation
    from pixel_reasoner.reports.strip import write_strip

    for number, trace in zip(count(1), traces, strict=False):
        if name == "strip":
            write_strip(trace, teacher / "strips" / f"question-{number}.png")
        else:
            write_animation(trace, teacher / "animations" / f"question-{number}.gif")
    return len(traces)
