"""The record: everything that happened while one question was answered.

A `Trace` is the only thing that crosses a module border. Grading, reports, evaluations, SFT examples and RL
samples are functions of it. It holds no pixels: a `Picture` says which medium it comes from and which
region of it was shown, so it can be recomputed, and a buffer of rollouts costs kilobytes per rollout.

Conventions
    numbers         pictures (and sampled frames) are numbered from 1, results of operations continue the count
    boxes           normalised xyxy in [0, 1] of the *source* picture, origin top left (`Box`)
    *_px, *_s       pixels (width, height), seconds
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer, numbered_lines

Size = tuple[int, int]
"""(width, height) in pixels."""


class BoxError(ValueError):
    """Four numbers that are not a box. The text is written for a model: what was wrong, what is allowed."""


class Box(NamedTuple):
    """A region of a picture: normalised x1, y1, x2, y2 in [0, 1], origin top left.

    `Box.of` is the one checked way to make a box from outside numbers.

    >>> Box.of([0.25, 0.5, 0.75, 1.0]).area
    0.25
    >>> Box.of([0.5, 0.5, 0.25, 0.75])
    Traceback (most recent call last):
        ...
    pixel_reasoner.trace.BoxError: box is inverted: x1=0.5 must be less than x2=0.25; give [x1, y1, x2, y2]
    """

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def of(
        cls,
        numbers: Iterable[float],
        per: tuple[float, float] = (1, 1),
        unit: str = "normalised ",
    ) -> Self:
        """A checked box.

        Args:
            numbers: x1, y1, x2, y2.
            per: how many units of these numbers make up the picture's width and height.
            unit: the word for them in what a model is told.

        Raises:
            BoxError: not four finite numbers, outside the picture, inverted or empty.

        >>> Box.of([160, 0, 640, 240], per=(640, 480))
        Box(x1=0.25, y1=0.0, x2=1.0, y2=0.5)
        """
        values = list(numbers)
        if len(values) != 4:
            raise BoxError(f"box needs 4 numbers [x1, y1, x2, y2], got {len(values)}")
        sides = (*per, *per)
        for name, value, side in zip(cls._fields, values, sides, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BoxError(f"box {name}={value!r} is not a number; give [x1, y1, x2, y2]")
            if not math.isfinite(value):
                raise BoxError(
                    f"box {name}={value} is not a finite number; give numbers in [0, {side:g}]"
                )
            if not 0 <= value <= side:
                raise BoxError(
                    f"box {name}={value:g} is outside [0, {side:g}]; give {unit}[x1, y1, x2, y2]"
                )
        for low, high, first, second in (
            ("x1", "x2", values[0], values[2]),
            ("y1", "y2", values[1], values[3]),
        ):
            if first == second:
                raise BoxError(
                    f"box is empty: {low}={first:g} equals {high}; give [x1, y1, x2, y2]"
                )
            if first > second:
                raise BoxError(
                    f"box is inverted: {low}={first:g} must be less than {high}={second:g}; "
                    "give [x1, y1, x2, y2]"
                )
        return cls(*(float(value) / side for value, side in zip(values, sides, strict=True)))

    @property
    def area(self) -> float:
        """Share of the picture, in [0, 1]."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def intersection(self, other: Box) -> float:
        """Area shared with another box of the same picture.

        >>> WHOLE.intersection(Box(0.5, 0.5, 1, 1))
        0.25
        """
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(0.0, width) * max(0.0, height)

    def within(self, outer: Box) -> Box:
        """This box, given in coordinates of the region `outer`, in coordinates of the whole picture.

        >>> Box(0.5, 0.5, 1, 1).within(Box(0.5, 0, 1, 0.5))
        Box(x1=0.75, y1=0.25, x2=1.0, y2=0.5)
        """
        width, height = outer.x2 - outer.x1, outer.y2 - outer.y1
        return Box(
            outer.x1 + self.x1 * width,
            outer.y1 + self.y1 * height,
            min(1.0, outer.x1 + self.x2 * width),
            min(1.0, outer.y1 + self.y2 * height),
        )


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


class Record(BaseModel):
    """Base of all records: immutable, unknown keys are errors."""

    # A model may write NaN as a coordinate, and a logprob may be -inf: both must come back as they were.
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants"
    )


def _packed(typecode: str) -> BeforeValidator:
    """A list of numbers becomes a C array: 4 bytes a token instead of some 60 as Python objects."""
    return BeforeValidator(
        lambda values: values if isinstance(values, array) else array(typecode, values)
    )


_AS_LIST = PlainSerializer(list, return_type=list)

if TYPE_CHECKING:  # before Python 3.12 an array cannot be subscripted when it runs
    TokenIds = array[int]
    Logprobs = array[float]
else:
    TokenIds = Annotated[array, _packed("i"), _AS_LIST]
    Logprobs = Annotated[array, _packed("f"), _AS_LIST]


class Medium(Record):
    """One thing the user brought: a picture file, a video file or a folder of frames."""

    kind: Literal["image", "video", "frames"]
    path: str
    start_s: float = 0.0
    """where the part of a video that is asked about begins"""
    end_s: float | None = None
    """where it ends; None at the end of the video"""
    fps: float | None = None
    """frames a second of a folder of frames, by which its part is found; None: all of it"""


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

    boxes: tuple[Box, ...] = ()
    image: int = 1
    """the number of the picture the boxes lie on"""
    frames: tuple[int, ...] = ()
    """numbers of the sampled frames that show it"""
    subjects: tuple[str, ...] = ()
    """what each box (or all the frames together) shows, as the question calls it: `the red circle`"""
    findings: tuple[str, ...] = ()
    """what can be seen there, in words: `the red circle carries R`; as many as subjects"""


class Question(Record):
    """A question about media, with the expected answer where it is known."""

    id: str
    text: str
    media: tuple[Medium, ...]
    answer: tuple[str, ...] = ()
    """accepted answers; empty when unknown"""
    answer_type: AnswerType = AnswerType.TEXT
    options: dict[str, str] = {}
    """letter -> text, for `AnswerType.CHOICE`"""
    category: str = ""
    """the kind of question, such as `overview/count`"""
    labels: dict[str, str] = {}
    """what figures are also told apart by: `cycle`, `domain`, ..."""
    group: str = ""
    """questions of one group are not independent of each other; empty: those about the same media"""
    needs_look: bool | None = None
    """whether it can be answered from the overview alone; None when unknown"""
    evidence: Evidence | None = None
    reasoning: str = ""
    """how the overview leads to the answer, in words, where no look is needed"""


class Picture(Record):
    """A reference to pixels: which medium, which frame, which region, and at what size it was shown."""

    number: int
    medium: int
    """index into `Question.media`, from 0"""
    frame: int | None = None
    """number among the sampled frames, from 1"""
    time_s: float | None = None
    box: Box = WHOLE
    """the region of the full-resolution source"""
    source_px: Size
    """size of that region in source pixels"""
    seen_px: Size
    """size of the copy that the model saw"""
    parent: int | None = None
    """number of the picture that an operation was called on"""


class OpCall(Record):
    """A call of an operation as the model wrote it, in the project's own names and coordinates."""

    name: str
    arguments: dict[str, Any]


class Refusal(StrEnum):
    """Why an operation was not executed. Each is answered with an `Observation` that explains it."""

    MALFORMED_CALL = "malformed_call"
    """the call is not JSON, or not an object with a name and arguments"""
    SEVERAL_CALLS = "several_calls"
    UNKNOWN_OPERATION = "unknown_operation"
    BAD_ARGUMENTS = "bad_arguments"
    """missing, unknown or mistyped arguments"""
    BAD_BOX = "bad_box"
    """inverted, empty, not finite, outside [0, 1]"""
    BOX_TOO_SMALL = "box_too_small"
    NO_SUCH_PICTURE = "no_such_picture"
    BAD_FRAMES = "bad_frames"
    """none, too many, duplicate or out-of-range frames"""
    NOT_A_VIDEO = "not_a_video"


class Observation(Record):
    """What came back from a call: new pictures, or the reason why not."""

    text: str
    pictures: tuple[Picture, ...] = ()
    refusal: Refusal | None = None


class Turn(Record):
    """One message of the model and, if it called an operation, what came back."""

    text: str
    """exactly what was generated, without the end token"""
    call: OpCall | None = None
    observation: Observation | None = None
    mistake: bool = False
    """a deliberate mistake of a synthesized trace: the call gets no training loss"""
    token_ids: TokenIds = array("i")
    logprobs: Logprobs = array("f")
    num_prompt_tokens: int = 0
    generate_s: float = 0.0
    operate_s: float = 0.0


class Stop(StrEnum):
    """Why a rollout ended."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    """the last turn holds neither a call nor an answer"""
    MAX_TURNS = "max_turns"
    MAX_PICTURES = "max_pictures"
    MAX_NEW_TOKENS = "max_new_tokens"
    """a turn was cut off"""
    MAX_CONTEXT = "max_context"
    """the next turn would not fit into the context"""
    FAILED = "failed"
    """the question could not be asked at all; `Trace.error` says why"""


class Trace(Record):
    """One question and all that happened until it stopped."""

    question: Question
    sample: int = 0
    """which of several sampled repeats, from 0"""
    pictures: tuple[Picture, ...] = ()
    """what the model was shown at first"""
    turns: tuple[Turn, ...] = ()
    stop: Stop
    answer: str | None = None
    """the content of the last `\\boxed{}`; None when there is none"""
    error: str | None = None
    settings: dict[str, Any] = {}
    """everything that decides the outcome: model, dialect, budgets, limits, decoding"""
    versions: dict[str, str] = {}
    seconds: float = 0.0

    @property
    def executed(self) -> list[Observation]:
        """Observations of executed operations, in order."""
        return [seen for seen in self.observations if seen.refusal is None]

    @property
    def refused(self) -> list[Observation]:
        """Observations that say why a call was not executed."""
        return [seen for seen in self.observations if seen.refusal is not None]

    @property
    def observations(self) -> list[Observation]:
        """All observations, in order."""
        return [turn.observation for turn in self.turns if turn.observation is not None]

    @property
    def all_pictures(self) -> dict[int, Picture]:
        """Every picture the model has seen, by number."""
        shown = [*self.pictures, *(p for seen in self.observations for p in seen.pictures)]
        return {picture.number: picture for picture in shown}

    def to_line(self) -> str:
        """One line of JSON. Defaults are left out."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_line(cls, line: str) -> Trace:
        """The trace a line of JSON describes.

        Raises:
            InputError: not a trace.
        """
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                expected="one trace as JSON per line",
                got=f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}",
                fix="give a traces.jsonl written by this project",
            ) from error


def save_traces(traces: Iterable[Trace], path: Path) -> int:
    """Write traces as JSONL; the file appears only when it is complete. Returns how many.

    Raises:
        OutputError: the place cannot be written.
    """
    count = 0
    with atomic_writer(path) as file:
        for trace in traces:
            file.write(trace.to_line() + "\n")
            count += 1
    return count


def load_traces(path: Path) -> Iterator[Trace]:
    """Traces of a JSONL file, one at a time.

    Raises:
        InputError: no such file, or a line that is not a trace (named by its number).
    """
    for number, line in numbered_lines(path, "a traces.jsonl written by this project"):
        try:
            yield Trace.from_line(line)
        except InputError as error:
            raise InputError(
                expected=error.expected, got=f"{path}, line {number}: {error.got}", fix=error.fix
            ) from error


def load_questions(path: Path) -> Iterator[Question]:
    """Questions of a JSONL file. Relative media paths are relative to the file's folder.

    Raises:
        InputError: no such file, or a line that is not a question (named by its number).
    """
    for number, line in numbered_lines(path, "a questions.jsonl, as `world render` writes it"):
        try:
            question = Question.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                expected="one question as JSON per line",
                got=f"{path}, line {number}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                fix="give a questions.jsonl, as `pixel-reasoner world render` writes it",
            ) from error
        yield anchored(question, path.parent)


def anchored(question: Question, folder: Path) -> Question:
    """The question with relative media paths taken as relative to a folder."""
    media = tuple(m.model_copy(update={"path": str(folder / m.path)}) for m in question.media)
    return question.model_copy(update={"media": media})
