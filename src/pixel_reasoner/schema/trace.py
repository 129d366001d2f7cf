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

from array import array
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer, numbered_lines
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import (
    Question,
)
from pixel_reasoner.schema.record import Logprobs, Record, TokenIds


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


class ToolCall(Record):
    """A call of an operation as the model wrote it, in the project's own names and coordinates."""

    name: str
    arguments: dict[str, Any]


class CallErrorKind(StrEnum):
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
    refusal: CallErrorKind | None = None


class Turn(Record):
    """One message of the model and, if it called an operation, what came back."""

    text: str
    """exactly what was generated, without the end token"""
    call: ToolCall | None = None
    observation: Observation | None = None
    mistake: bool = False
    """a deliberate mistake of a synthesized trace: the call gets no training loss"""
    token_ids: TokenIds = array("i")
    logprobs: Logprobs = array("f")
    num_prompt_tokens: int = 0
    generate_s: float = 0.0
    operate_s: float = 0.0


class StopReason(StrEnum):
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
    stop: StopReason
    answer: str | None = None
    """the content of the last `\\boxed{}`; None when there is none"""
    error: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """everything that decides the outcome: model, dialect, budgets, limits, decoding"""
    versions: dict[str, str] = Field(default_factory=dict)
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
