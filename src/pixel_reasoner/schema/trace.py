"""Trace: the record of one rollout.

Grading, reports, evaluations, SFT examples and RL samples are functions of a `Trace`. It contains no pixels: a
`Picture` records its media item and region, so its pixels can be recomputed. A trace takes kilobytes of memory.

Conventions
    numbers         pictures (and sampled frames) are numbered from 1, results of operations continue the count
    boxes           normalised xyxy in [0, 1] of the *source* picture, origin top left (`Box`)
    *_px, *_s       pixels (width, height), seconds
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer, numbered_lines
from pixel_reasoner.schema import migrate
from pixel_reasoner.schema.geometry import RecordedBox
from pixel_reasoner.schema.picture import (
    MAX_PROMPT_PICTURE_PX as MAX_PROMPT_PICTURE_PX,
    FrameSampling as FrameSampling,
    Picture as Picture,
    PictureRegion as PictureRegion,
    Transform as Transform,
)
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.record import Logprobs, Record, TokenIds, VersionedRecord
from pixel_reasoner.schema.repairs import Repair
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.strategy import StrategyRecord

if TYPE_CHECKING:
    from PIL import Image

    from pixel_reasoner.reports.picture_files import WrittenPicture


class Thought(Record):
    """Reasoning that precedes the reply, for example inside `<think>` tags."""

    thought: str


class Text(Record):
    """Text of the reply outside of thoughts and calls."""

    text: str


class ToolCall(Record):
    """Tool call, with operation names and coordinates of this project."""

    name: str
    arguments: dict[str, Any]


Part = Thought | Text | ToolCall
"""Part of a turn. In JSON the field names distinguish the types."""


class CallErrorKind(StrEnum):
    """Reason for which a call was rejected. Operations of other packages may add their own kinds."""

    MALFORMED_CALL = "malformed_call"
    """the call is not JSON, or not an object with a name and arguments"""
    SEVERAL_CALLS = "several_calls"
    """more calls in one turn than the dialect allows"""
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
    THOUGHT_ONLY = "thought_only"
    """no call: the turn contains only a thought, and the model is asked once to continue"""
    OPERATION_REQUIRED = "operation_required"
    """no call: a control condition asks for an operation before the answer"""
    OPERATION_FAILED = "operation_failed"
    """the operation raised an exception or exceeded its deadline"""


class TextLine(Record):
    """A line of text that an operation read."""

    text: str
    box: RecordedBox
    """in fractions of the picture `Observation.target`"""
    score: FiniteFloat = 1.0
    """confidence, from 0 to 1"""


class Observation(Record):
    """Result of a call: new pictures, a text, or the reason for its rejection."""

    text: str
    pictures: tuple[Picture, ...] = ()
    error: Annotated[CallErrorKind | str | None, Field(union_mode="left_to_right")] = None
    """None when the call was executed"""
    call: NonNegativeInt = 0
    """index of the call in the turn, from 0; 0 when no call could be parsed"""
    lines: tuple[TextLine, ...] = ()
    """text that was read, from top to bottom"""
    target: PositiveInt | None = None
    """number of the picture whose coordinates the boxes of `lines` have"""
    examined: tuple[PictureRegion, ...] = ()
    """regions whose pixels gave a result without pictures, for example text that was read"""


class Turn(Record):
    """One message of the model and the results of its calls."""

    text: str
    """generated text, verbatim, without the end token"""
    parts: tuple[Part, ...] = ()
    """thoughts, texts and calls in order; only calls in traces of schema version 1"""
    observations: tuple[Observation, ...] = ()
    """results of the calls, in order"""
    repairs: tuple[Repair, ...] = ()
    """repaired mistakes in the form and the values of the calls; empty in a strict run"""
    mistake: bool = False
    """whether the call is a deliberate mistake of a synthesized trace; it is excluded from the training loss"""
    scripted: bool = False
    """whether a strategy wrote this turn to show a region; the model did not generate it"""
    token_ids: TokenIds = array("i")
    logprobs: Logprobs = array("f")
    num_prompt_tokens: NonNegativeInt = 0
    num_completion_tokens: NonNegativeInt | None = None
    """number of generated tokens reported by a server that returns no token ids"""
    num_cached_tokens: NonNegativeInt = Field(default=0, exclude=True)
    """number of prompt tokens whose keys and values were cached when the turn began; not written to files, because it
    depends on other requests"""
    generate_s: FiniteFloat = 0.0
    operate_s: FiniteFloat = 0.0

    @property
    def num_new_tokens(self) -> int | None:
        """Number of generated tokens; None if the backend returned neither ids nor a number."""
        return len(self.token_ids) or self.num_completion_tokens

    @property
    def calls(self) -> list[ToolCall]:
        """All calls, in order."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    @property
    def call(self) -> ToolCall | None:
        """The first call; None when the turn contains none."""
        return next(iter(self.calls), None)

    @property
    def observation(self) -> Observation | None:
        """The first result; None when the turn contains none."""
        return next(iter(self.observations), None)

    @property
    def has_executed_call(self) -> bool:
        """Whether at least one operation was executed."""
        return any(one.error is None for one in self.observations)


class Step(Record):
    """One part of a turn in the order in which it was generated, with the result of a call."""

    turn: int
    """number of the turn, from 0"""
    thought: str = ""
    text: str = ""
    call: ToolCall | None = None
    observation: Observation | None = None
    """result of the call, or reason for its rejection"""


class StopReason(StrEnum):
    """Reason for which a rollout stopped."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    """the last turn contains neither a call nor an answer"""
    MAX_TURNS = "max_turns"
    MAX_PICTURES = "max_pictures"
    MAX_NEW_TOKENS = "max_new_tokens"
    """a turn was truncated"""
    MAX_CONTEXT = "max_context"
    """the next turn would not fit into the context"""
    FAILED = "failed"
    """the request failed; `Trace.error` contains the reason"""
    CANCELLED = "cancelled"
    """the request was cancelled"""
    DEADLINE = "deadline"
    """the request exceeded its deadline"""


class Trace(VersionedRecord):
    """Record of one rollout: question, turns, observations, answer and settings."""

    record_name: ClassVar[str] = "trace"

    question: Question
    sample: NonNegativeInt = 0
    """number of the sampled repeat, from 0"""
    exchange: NonNegativeInt = 0
    """number of this question in its conversation, from 0"""
    pictures: tuple[Picture, ...] = ()
    """pictures of the question, before any operation"""
    sampling: tuple[FrameSampling, ...] = ()
    """frames that were sampled from videos and folders"""
    notes: tuple[str, ...] = ()
    """differences between decoded pictures and their files (stretched greyscale, omitted pages), and the votes of a strategy"""
    turns: tuple[Turn, ...] = ()
    stop: StopReason
    answer: str | None = None
    """content of the last `\\boxed{}`; None without one"""
    error: str | None = None
    settings: RunSettings = RunSettings()
    """everything that determines the outcome: model, dialect, budgets, limits, sampling"""
    versions: dict[str, str] = Field(default_factory=dict)
    seconds: FiniteFloat = 0.0
    """time of the answer; of a strategy with all its rollouts"""
    strategy: StrategyRecord | None = None
    """candidates, confidence and cost of a strategy that combined several rollouts"""

    @property
    def steps(self) -> list[Step]:
        r"""Thoughts, texts and calls with their results, in order.

        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> from pixel_reasoner.rollout.ask import ask
        >>> script = ['I look. <tool_call>{"name": "zoom_in"}</tool_call>', r"\boxed{red}"]
        >>> trace = ask(Question(id="1", text="Which colour?", media=()), ScriptedModel(script))
        >>> [step.text or step.observation.error.value for step in trace.steps]
        ['I look.', 'bad_arguments', '\\boxed{red}']
        """
        return [step for number, turn in enumerate(self.turns) for step in _steps(number, turn)]

    def crops(self, *, full_resolution: bool = False) -> list[Image.Image]:
        """Return the images that operations added, at the size in the prompt.

        Args:
            full_resolution: return them at source resolution instead.

        Raises:
            InputError: a media item cannot be opened again.
        """
        from pixel_reasoner import display

        return display.crops(self, full_resolution=full_resolution)

    def show(self) -> Path | None:
        """Display the trace in a notebook. Elsewhere write a page, open it in the browser, and return its path."""
        from pixel_reasoner import display

        return display.show(self)

    def save_strip(self, path: str | Path) -> WrittenPicture:
        r"""Write the steps as one picture for slides: question, boxes on the source, each crop, answer.

        The picture is 1,920 pixels wide; its height follows from the number of steps. Of more than 11 steps the first 6
        and the last 4 are shown. A media item that cannot be opened is replaced by the reason.

        Args:
            path: of the picture; .png, .webp, .jpg or .jpeg.

        Returns:
            `out` (the path), `alt_text` (a description of the steps, which the file contains too) and `notes` (what is not
            shown).

        Raises:
            UsageError: another suffix.
            OutputError: the path cannot be written.

        >>> import tempfile
        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> from pixel_reasoner.rollout.ask import ask
        >>> trace = ask(Question(id="1", text="Which colour?", media=()), ScriptedModel([r"\boxed{red}"]))
        >>> trace.save_strip(Path(tempfile.mkdtemp()) / "strip.png").alt_text
        'Question: Which colour? Answer: red.'
        """
        from pixel_reasoner import display

        return display.save_strip(self, Path(path))

    def save_animation(self, path: str | Path) -> WrittenPicture:
        r"""Write the steps as an animation for chats: each box, the crop that grows out of it, the text, the answer.

        The animation repeats for ever. It is 960 pixels wide, or less if the file would have more than 3 MB. Text is shown
        as long as it takes to read. Steps and media are shown as in `save_strip`.

        Args:
            path: of the animation; .gif or .webp.

        Returns:
            `out`, `alt_text` and `notes`, as `save_strip`.

        Raises:
            UsageError: another suffix.
            OutputError: the path cannot be written.

        >>> import tempfile
        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> from pixel_reasoner.rollout.ask import ask
        >>> trace = ask(Question(id="1", text="Which colour?", media=()), ScriptedModel([r"\boxed{red}"]))
        >>> trace.save_animation(Path(tempfile.mkdtemp()) / "trace.gif").out.name
        'trace.gif'
        """
        from pixel_reasoner import display

        return display.save_animation(self, Path(path))

    def _repr_html_(self) -> str:
        """Return HTML for a notebook."""
        from pixel_reasoner import display

        return display.notebook_html(self)

    @property
    def executed(self) -> list[Observation]:
        """Observations of executed operations, in order."""
        return [one for one in self.observations if one.error is None]

    @property
    def rejected(self) -> list[Observation]:
        """Observations of rejected calls, in order."""
        return [one for one in self.observations if one.error is not None]

    @property
    def observations(self) -> list[Observation]:
        """All observations, in order."""
        return [one for turn in self.turns for one in turn.observations]

    @property
    def all_pictures(self) -> dict[int, Picture]:
        """Every picture in the context of the model, by number."""
        shown = [*self.pictures, *(p for one in self.observations for p in one.pictures)]
        return {picture.number: picture for picture in shown}

    @classmethod
    def migrate(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Convert the fields of an older version to the current version."""
        return migrate.trace_v1(fields) if version == 1 else fields


def _steps(number: int, turn: Turn) -> Iterator[Step]:
    results = {one.call: one for one in turn.observations}
    num_calls = 0
    for part in turn.parts or (Text(text=turn.text),):
        if isinstance(part, ToolCall):
            yield Step(turn=number, call=part, observation=results.pop(num_calls, None))
            num_calls += 1
        elif isinstance(part, Thought):
            yield Step(turn=number, thought=part.thought.strip())
        else:
            yield Step(turn=number, text=part.text.strip())
    for observation in results.values():  # the result of an unparsable call
        yield Step(turn=number, observation=observation)


class Conversation(VersionedRecord):
    """Traces of consecutive questions that share one growing set of pictures."""

    record_name: ClassVar[str] = "conversation"

    exchanges: tuple[Trace, ...]

    @classmethod
    def of(cls, exchanges: Sequence[Trace]) -> Conversation:
        """Return the conversation of consecutive traces, with their `exchange` numbers set."""
        numbered = (
            one.model_copy(update={"exchange": number}) for number, one in enumerate(exchanges)
        )
        return cls(exchanges=tuple(numbered))

    @classmethod
    def migrate(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Convert the fields of an older version to the current version."""
        if version == 1 and isinstance(fields.get("exchanges"), list):
            return {**fields, "exchanges": [migrate.trace_v1(one) for one in fields["exchanges"]]}
        return fields


def save_traces(traces: Iterable[Trace], path: Path) -> int:
    """Write traces as JSONL and return their number. The file appears only when it is complete.

    Args:
        traces: may be a generator.
        path: of the file.

    Raises:
        OutputError: the path cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "traces.jsonl"
    >>> save_traces([Trace(question=Question(id="1", text="?", media=()), stop="no_answer")], path)
    1
    >>> [trace.question.id for trace in load_traces(path)]
    ['1']
    """
    count = 0
    with atomic_writer(path) as file:
        for trace in traces:
            file.write(trace.to_line() + "\n")
            count += 1
    return count


def load_traces(path: Path) -> Iterator[Trace]:
    """Yield the traces of a JSONL file, of this version or an older one.

    Args:
        path: of the file.

    Raises:
        InputError: no such file, or a line that is not a trace (with its number).

    >>> list(load_traces(Path("no.jsonl")))
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.InputError: expected a readable JSONL file; got no.jsonl: No such file or directory. Fix: give a traces.jsonl written by this project
    """
    for number, line in numbered_lines(path, "a traces.jsonl written by this project"):
        try:
            yield Trace.from_line(line)
        except InputError as error:
            raise InputError(
                expected=error.expected, got=f"{path}, line {number}: {error.got}", fix=error.fix
            ) from error
