"""Question about media, with the expected answer and the evidence if known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, PrivateAttr

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.schema.geometry import RecordedBox, RecordedPoint, RecordedSegment
from pixel_reasoner.schema.media_url import allowed_media_urls, join_media
from pixel_reasoner.schema.record import Record, VersionedRecord


class MediaItem(Record):
    """Media file of a question: a picture, a video or a folder of frames."""

    kind: Literal["image", "video", "frames"]
    path: str
    """path of a file or folder, or URL of an object (`schema.media_url`)"""
    start_s: FiniteFloat = 0.0
    """start of the relevant part of a video, in seconds"""
    end_s: FiniteFloat | None = None
    """end of the relevant part, in seconds; None for the end of the video"""
    fps: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """frame rate of a folder of frames, in frames per second; with None all frames are used"""
    page: PositiveInt | None = None
    """page of a TIFF picture or a PDF, from 1; None for the first"""
    region: RecordedBox | None = None
    """part of the picture or of each frame that the question is about; the model receives nothing else. None for all of it"""
    _allowed_folders: tuple[str, ...] | None = PrivateAttr(default=None)

    @property
    def allowed_folders(self) -> tuple[str, ...] | None:
        """Folders and URL prefixes that may contain the file (`media.access`); None for any folder. Never serialized."""
        return self._allowed_folders

    def restricted(self, folders: Iterable[Path | str]) -> MediaItem:
        """Return this media item with access restricted to some folders, and to the URL prefixes that are allowed now."""
        restricted = self.model_copy()
        restricted._allowed_folders = (*map(str, folders), *allowed_media_urls())
        return restricted

    def __eq__(self, other: object) -> bool:
        """Compare all fields except the allowed folders."""
        return isinstance(other, MediaItem) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))


class AnswerType(StrEnum):
    """Comparison method for answers (see `grading`)."""

    TEXT = "text"
    """same words, ignoring case and surrounding punctuation"""
    NUMBER = "number"
    """same value; units must agree if both have one"""
    INTEGER = "integer"
    """a count"""
    CHOICE = "choice"
    """letter of an option"""
    LIST = "list"
    """same items in any order"""
    ANLS = "anls"
    """average normalised Levenshtein similarity (InfographicsVQA); correct above 0.5"""
    RELAXED = "relaxed"
    """a number within 5 %, or the same text (ChartQA)"""
    POINT = "point"
    """a position `x, y` in fractions, right inside the evidence; or none (`scoring.places`)"""
    BOXES = "boxes"
    """any number of boxes in fractions, scored by F1 at IoU 0.3; or none"""
    SPAN = "span"
    """first and last frame, scored by the IoU of the spans; or none"""


class SearchStep(Record):
    """Region that a search visits before the evidence, because it looks the same in the overview."""

    box: RecordedBox
    subject: str
    """as in `Evidence.subjects`"""
    finding: str
    """as in `Evidence.findings`"""


class Evidence(Record):
    """Location of the evidence: boxes, points or lengths on one picture, or frames of a video."""

    boxes: tuple[RecordedBox, ...] = ()
    image: PositiveInt = 1
    """number of the picture with the boxes"""
    frames: tuple[int, ...] = ()
    """numbers of the sampled frames with the evidence"""
    clip_indices: tuple[NonNegativeInt, ...] = ()
    """positions in the clip, from 0, of frames with the evidence that are not sampled"""
    points: tuple[RecordedPoint, ...] = ()
    """centres of all objects that are counted, in fractions of the picture"""
    segments: tuple[RecordedSegment, ...] = ()
    """lengths to measure: ends in fractions of the picture"""
    subjects: tuple[str, ...] = ()
    """object in each box (or in all frames together), in the words of the question: `the red circle`"""
    findings: tuple[str, ...] = ()
    """observation at each subject: `the red circle carries R`; same length as `subjects`"""
    search: tuple[SearchStep, ...] = ()
    """regions on the same picture that a search in reading order visits first; they are not evidence"""


class Question(VersionedRecord):
    """Question about media, with the expected answer if known."""

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
    """kind of question, such as `overview/count`"""
    labels: dict[str, str] = Field(default_factory=dict)
    """further labels for grouping metrics: `cycle`, `domain`, ..."""
    group: str = ""
    """cluster of dependent questions, for statistics; by default questions with the same media are one cluster"""
    needs_look: bool | None = None
    """whether the answer requires an operation, because the overview does not show it; None when unknown"""
    evidence: Evidence | None = None
    reasoning: str = ""
    """reasoning from the overview to the answer, for questions that need no operation"""


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


def with_media_root(question: Question, folder: Path | str) -> Question:
    """Return the question with relative media paths resolved against a folder or a URL."""
    media = tuple(m.model_copy(update={"path": join_media(folder, m.path)}) for m in question.media)
    return question.model_copy(update={"media": media})


def restrict_media(question: Question, folders: Iterable[Path | str]) -> Question:
    """Return the question with media access restricted to some folders and URL prefixes."""
    allowed = tuple(folders)
    media = tuple(medium.restricted(allowed) for medium in question.media)
    return question.model_copy(update={"media": media})
