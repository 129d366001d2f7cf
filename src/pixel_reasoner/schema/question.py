"""A question about media, with the expected answer and the evidence where they are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat, PositiveInt, PrivateAttr

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.schema.geometry import RecordedBox
from pixel_reasoner.schema.record import Record, VersionedRecord


class MediaItem(Record):
    """One thing the user brought: a picture file, a video file or a folder of frames."""

    kind: Literal["image", "video", "frames"]
    path: str
    start_s: FiniteFloat = 0.0
    """where the part of a video that is asked about begins"""
    end_s: FiniteFloat | None = None
    """where it ends; None at the end of the video"""
    fps: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """frames a second of a folder of frames, by which its part is found; None: all of it"""
    page: PositiveInt | None = None
    """page of a TIFF picture, from 1; None: the first"""
    _allowed_folders: tuple[str, ...] | None = PrivateAttr(default=None)

    @property
    def allowed_folders(self) -> tuple[str, ...] | None:
        """Folders below which it may be read (`media.access`); None: anywhere. It is never written to a file."""
        return self._allowed_folders

    def restricted(self, folders: Iterable[Path]) -> MediaItem:
        """Return this medium, to be read only below some folders."""
        restricted = self.model_copy()
        restricted._allowed_folders = tuple(map(str, folders))
        return restricted

    def __eq__(self, other: object) -> bool:
        """Whether it is the same medium, wherever it may be read."""
        return isinstance(other, MediaItem) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))


class AnswerType(StrEnum):
    """How an answer is compared (see `grading`)."""

    TEXT = "text"
    """the same words, case and surrounding punctuation aside"""
    NUMBER = "number"
    """the same value; a unit that both name is the same"""
    INTEGER = "integer"
    """a count"""
    CHOICE = "choice"
    """the letter of an option"""
    LIST = "list"
    """the same items in any order"""
    ANLS = "anls"
    """average normalised Levenshtein similarity (InfographicsVQA), right where more than half is alike"""
    RELAXED = "relaxed"
    """a number within 5 %, or the same text (ChartQA)"""


class Evidence(Record):
    """Where the answer can be seen: boxes on one picture, or sampled frames of a video."""

    boxes: tuple[RecordedBox, ...] = ()
    image: PositiveInt = 1
    """the number of the picture the boxes lie on"""
    frames: tuple[int, ...] = ()
    """numbers of the sampled frames that show it"""
    subjects: tuple[str, ...] = ()
    """what each box (or all the frames together) shows, as the question calls it: `the red circle`"""
    findings: tuple[str, ...] = ()
    """what can be seen there, in words: `the red circle carries R`; as many as subjects"""


class Question(VersionedRecord):
    """A question about media, with the expected answer where it is known."""

    record_name: ClassVar[str] = "question"

    id: str
    text: str
    media: tuple[MediaItem, ...]
    answer: tuple[str, ...] = ()
    """accepted answers; empty when unknown"""
    answer_type: AnswerType = AnswerType.TEXT
    options: dict[str, str] = Field(default_factory=dict)
    """letter -> text, for `AnswerType.CHOICE`"""
    category: str = ""
    """the kind of question, such as `overview/count`"""
    labels: dict[str, str] = Field(default_factory=dict)
    """what figures are also told apart by: `cycle`, `domain`, ..."""
    group: str = ""
    """questions of one group are not independent of each other; empty: those about the same media"""
    needs_look: bool | None = None
    """whether it can be answered from the overview alone; None when unknown"""
    evidence: Evidence | None = None
    reasoning: str = ""
    """how the overview leads to the answer, in words, where no look is needed"""


def load_questions(path: Path) -> Iterator[Question]:
    """Yield the questions of a JSONL file. Relative media paths are relative to the folder of the file.

    Raises:
        InputError: no such file, or a line that is not a question (with its number).
    """
    what = "a questions.jsonl, as `pixel-reasoner world render` writes it"
    for number, line in numbered_lines(path, what):
        try:
            question = Question.from_line(line)
        except InputError as error:
            raise InputError(
                expected=error.expected,
                got=f"{path}, line {number}: {error.got}",
                fix=f"give {what}",
            ) from error
        yield with_media_root(question, path.parent)


def with_media_root(question: Question, folder: Path) -> Question:
    """The question with relative media paths taken as relative to a folder."""
    media = tuple(m.model_copy(update={"path": str(folder / m.path)}) for m in question.media)
    return question.model_copy(update={"media": media})


def restrict_media(question: Question, folders: Iterable[Path]) -> Question:
    """Return a question whose media are read only below some folders."""
    allowed = tuple(folders)
    media = tuple(medium.restricted(allowed) for medium in question.media)
    return question.model_copy(update={"media": media})
