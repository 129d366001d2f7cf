"""Questions of traces or of question files, as rows for an evaluation or for RL: `questions.jsonl` with absolute paths of media."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.sources.media_folders import data_folders, restricted_row
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.sources.rows import Row, SkippedRow

QUESTIONS = "questions.jsonl"


def export_questions(source: Path, out: Path, allow_media: Sequence[Path] = ()) -> int:
    """Write `out/questions.jsonl` and return the number of questions. `eval jsonl` and `train rl` read it.

    Args:
        source: folder or file of traces, whose questions are written once each, or of questions.
        out: folder to write.
        allow_media: further folders of media that the source may name.

    Raises:
        InputError: no question with an answer.
        OutputError: `out` cannot be written.
    """
    count = 0
    dropped: list[SkippedRow] = []
    with FolderLock(out), atomic_writer(out / QUESTIONS) as file:
        for row in source_questions(source, out, allow_media):
            if isinstance(row, SkippedRow):
                dropped.append(row)
                continue
            file.write(with_media_root(row, Path.cwd()).to_line() + "\n")
            count += 1
        if not count:
            raise no_questions(source, dropped)
    return count


def source_questions(source: Path, out: Path, allow_media: Sequence[Path]) -> Iterator[Row]:
    """Yield the questions of a source; media outside of its folder and the allowed ones are rejected."""
    file = source / TRACES if source.is_dir() else source
    if file.name == TRACES and file.exists():
        known: set[str] = set()
        for trace in load_run(source, allow_media):
            if trace.question.id not in known and trace.question.answer:
                known.add(trace.question.id)
                yield trace.question
        return
    folders = [*data_folders(source), out.absolute(), *allow_media]
    for row in read_questions(source, out.absolute()):
        yield restricted_row(row, folders) if isinstance(row, Question) else row


def no_questions(source: Path, dropped: Sequence[SkippedRow]) -> InputError:
    """Return the error of a source without a usable question."""
    return InputError(
        expected="questions with answers",
        got=f"none in {source}" + (f": {dropped[0].detail}" if dropped else ""),
        fix="give a folder with questions.jsonl, own rows, or traces",
    )
