"""Questions of MCP clients: progress while they are answered, a hard time limit, cancellation.

A cancelled request, a client that went away, and an exceeded time limit all cancel the rollout, so its place in the batch
is free for others at the next step. Finished traces are kept under an id for the resource `trace://{id}`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from uuid import uuid4

import anyio
import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from pixel_reasoner.errors import (
    CancelledError,
    DeadlineError,
    InputError,
    PixelReasonerError,
    PluginError,
    QueueFullError,
    UsageError,
)
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.model import Model
from pixel_reasoner.operations.registry import describe_call
from pixel_reasoner.rollout.ask import decode_with
from pixel_reasoner.rollout.options import with_options
from pixel_reasoner.rollout.request import RolloutHandle
from pixel_reasoner.schema.events import CallParsed, Event, Observed, TurnStarted
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Step, Trace
from pixel_reasoner.server.mcp_caller import LOCAL_CALLER, Caller, Gate
from pixel_reasoner.server.mcp_media import DEFAULT_OPTIONS, Lease, MediaLibrary, OpenedMedia, View
from pixel_reasoner.text import visible

MAX_TURNS = 32
MAX_MEDIA = 16
"""media of one question"""
MAX_QUESTION_CHARS = 20_000
MAX_TRACES = 256
"""traces that are kept"""
_GRACE_S = 2.0
"""time in addition to the limit in which the scheduler can end a rollout itself, and so return its turns"""
_MAX_STEP_CHARS = 4000
_MIN_RESULTS = 16
"""pictures that operations may add, whatever the number of pictures of the question"""

logger = logging.getLogger(__name__)

Report = Callable[[float, float, str], Awaitable[None]]
"""(progress, total, message) -> sends a progress notification"""


class AskStep(BaseModel):
    """One part of the reasoning: a text, or an operation with its result."""

    turn: int
    """number of the message of the model, from 1"""
    text: str = ""
    operation: str | None = None
    arguments: dict[str, Any] | None = None
    media: str | None = Field(None, description="Handle of the media that the operation shows.")
    frame: int | None = None
    box: list[float] | None = Field(
        None, description="Region [x1, y1, x2, y2] as fractions of the whole picture or frame."
    )
    source_size: Size | None = Field(None, description="Width and height of the region in pixels.")
    picture: str | None = Field(
        None, description="Handle of this region for zoom_in; also the resource picture://HANDLE."
    )
    error: str | None = Field(None, description="Why the operation was rejected.")


class AskResult(BaseModel):
    """Answer to a question, with the steps that led to it."""

    answer: str | None = Field(description="The answer; null if the model gave none.")
    stop: str = Field(description="Why the reasoning ended: answered, max_turns, no_answer, ...")
    steps: list[AskStep]
    trace_id: str = Field(description="Id of the whole record: the resource trace://ID.")
    seconds: float
    model: str
    note: str = Field("", description="What this model can and cannot do.")


class Asked(BaseModel):
    """Arguments of a question, except its media."""

    question: str
    operations: list[str] | None = None
    max_turns: int
    time_limit_s: float


class AnswerModel(Protocol):
    """The model that answers questions; loaded when it is first needed."""

    @property
    def note(self) -> str:
        """What it can and cannot do; may be empty."""

    def get(self) -> Model:
        """Return the loaded model."""


class LazyModel:
    """Model that is loaded by the first question, so that a server starts at once. All methods are thread-safe.

    Args:
        load: loads it.
        note: what it can and cannot do.
        decoder: decodes the media of its questions; None for its own.
    """

    def __init__(
        self, load: Callable[[], Model], note: str = "", decoder: MediaDecoder | None = None
    ) -> None:
        self.note = note
        self._load = load
        self._decoder = decoder
        self._model: Model | None = None
        self._lock = Lock()

    def get(self) -> Model:
        """Return the model.

        Raises:
            PixelReasonerError: it cannot be loaded.
        """
        with self._lock:
            if self._model is None:
                self._model = self._load()
                if self._decoder is not None:
                    decode_with(self._model.generation_model, self._decoder)
            return self._model

    def close(self) -> None:
        """Close the model if it was loaded."""
        if self._model is not None:
            self._model.close()


class Asker:
    """Answers questions of clients about open media."""

    def __init__(
        self,
        library: MediaLibrary,
        model: AnswerModel,
        *,
        config: RolloutConfig | None = None,
        max_running: int = 16,
        gate: Gate | None = None,
    ) -> None:
        """Create it without loading the model.

        Args:
            library: media by handle.
            model: answers.
            config: defaults of the questions; without it the defaults of the model.
            max_running: questions in progress at once; a further one is refused.
            gate: admission and accounting of the server; by default none.
        """
        self.library = library
        self.model = model
        self.config = config
        self.max_running = max_running
        self.gate = gate or Gate()
        self.num_running = 0
        self._traces: OrderedDict[str, tuple[str, Trace]] = OrderedDict()
        """id -> owner and trace"""
        self._lock = Lock()

    async def ask(
        self, asked: Asked, references: Sequence[str], report: Report, caller: Caller = LOCAL_CALLER
    ) -> AskResult:
        """Answer a question. Cancelling the task cancels the question.

        Args:
            asked: the question.
            references: handles, paths and data: URLs of its media.
            report: sends progress; the numbers rise.
            caller: the client.

        Raises:
            ToolError: there is no answer; the message is for the calling model.
        """
        if self.num_running >= self.max_running:
            raise ToolError(f"{self.max_running} questions are in progress; ask again later")
        self.num_running += 1
        try:
            with (
                self.gate.admit(caller),
                anyio.move_on_after(asked.time_limit_s + _GRACE_S),
            ):
                return await self._ask(asked, references, report, caller)
        finally:
            self.num_running -= 1
        raise ToolError(_too_slow(asked))

    def trace(self, trace_id: str, owner: str = "") -> str | None:
        """Return a finished trace as JSON, with handles instead of paths; None if its owner has no such trace."""
        with self._lock:
            known_owner, trace = self._traces.get(trace_id, ("", None))
        return None if trace is None or known_owner != owner else trace.to_line()

    async def _ask(
        self, asked: Asked, references: Sequence[str], report: Report, caller: Caller
    ) -> AskResult:
        with self.library.lease(caller.owner) as lease:
            media = await _in_thread(partial(self._media, references, lease))
            model = await _in_thread(partial(_loaded, self.model))
            items, num_frames = tuple(one.item for one in media), _num_frames(media)
            question = Question(id=uuid4().hex[:12], text=asked.question, media=items)
            with self.gate.admit_media(caller, items, num_frames):
                handle = self._submit(model, question, asked, num_frames)
                try:
                    await _follow(handle, asked.max_turns, report)
                finally:
                    handle.cancel()
                trace = await handle.aresult()
        trace_id = self._keep(trace, media, caller.owner)
        if handle.error is not None:
            raise ToolError(self._sentence(handle.error, asked, media, trace_id))
        self.gate.ended(trace)
        return self._result(trace, trace_id, media, model.name)

    def _media(self, references: Iterable[str], lease: Lease) -> list[OpenedMedia]:
        """Open the media of a question. A region of a picture becomes a separate picture."""
        views = [self.library.open(one, lease=lease) for one in references]
        return [view.media if view.is_whole else self._cut_out(view, lease) for view in views]

    def _cut_out(self, view: View, lease: Lease) -> OpenedMedia:
        context = self.library.context(view.media)
        number = context.frames[view.frame] if view.frame is not None else 1
        with self.library.errors(view.media):
            picture = context.add_region(number, view.box)
            pixels = context.pixels(picture.number)
        buffer = BytesIO()
        pixels.save(buffer, "PNG", compress_level=1)
        return self.library.add(buffer.getvalue(), f"a region of {view.media.name}", lease)

    def _submit(
        self, model: Model, question: Question, asked: Asked, num_frames: int
    ) -> RolloutHandle:
        base = self.config or model.config
        limits = self.library.limits.model_copy(update={"num_frames": num_frames})
        base = base.model_copy(update={"media": limits})
        num_pictures = sum(1 if one.kind == "image" else num_frames for one in question.media)
        options: dict[str, Any] = {
            "max_turns": asked.max_turns,
            "max_pictures": max(base.limits.max_pictures, num_pictures + _MIN_RESULTS),
        }
        if asked.operations is not None:
            options["operations"] = asked.operations
        try:
            config = with_options(base, options)
            return model.submit(question, config, deadline_s=asked.time_limit_s, stream=True)
        except QueueFullError as error:
            raise ToolError("too many questions are in progress; ask again later") from error
        except PluginError:
            raise
        except UsageError as error:
            raise ToolError(f"expected {error.expected}; got {error.got}; {error.fix}") from error

    def _keep(self, trace: Trace, media: Sequence[OpenedMedia], owner: str) -> str:
        """Keep a trace with handles instead of paths. Returns its id."""
        items = tuple(
            one.item.model_copy(update={"path": f"{one.handle} ({one.name})"}) for one in media
        )
        info = trace.settings.model
        info = info.model_copy(update={"name": _short_name(info.name)})
        changed = {
            "question": trace.question.model_copy(update={"media": items}),
            "settings": trace.settings.model_copy(update={"model": info}),
            "error": "the question failed" if trace.error else None,  # may contain a path
        }
        trace_id = f"t-{uuid4().hex[:16]}"
        with self._lock:
            self._traces[trace_id] = owner, trace.model_copy(update=changed)
            while len(self._traces) > MAX_TRACES:
                self._traces.popitem(last=False)
        return trace_id

    def _sentence(
        self,
        error: BaseException,
        asked: Asked,
        media: Sequence[OpenedMedia],
        trace_id: str,
    ) -> str:
        """Return why there is no answer, without paths and addresses of this machine."""
        if isinstance(error, DeadlineError):
            return f"{_too_slow(asked)}. The steps so far are the resource trace://{trace_id}"
        if isinstance(error, InputError) and media:
            named = next((one for one in media if one.item.path in error.got), media[0])
            return self.library.describe_error(error, named)
        if isinstance(error, CancelledError):
            return "the server is shutting down"
        return _model_failed(error)

    def _result(
        self, trace: Trace, trace_id: str, media: Sequence[OpenedMedia], model: str
    ) -> AskResult:
        first_frames = _first_frames(trace)
        steps = [one for step in trace.steps for one in self._steps(step, media, first_frames)]
        return AskResult(
            answer=trace.answer,
            stop=trace.stop.value,
            steps=steps,
            trace_id=trace_id,
            seconds=round(trace.seconds, 3),
            model=_short_name(model),
            note=self.model.note,
        )

    def _steps(
        self, step: Step, media: Sequence[OpenedMedia], first_frames: Mapping[int, int]
    ) -> list[AskStep]:
        """Return the steps of a result: one per picture of an operation that returned several."""
        text = step.thought or step.text
        if len(text) > _MAX_STEP_CHARS:
            text = text[:_MAX_STEP_CHARS] + "…"
        if step.call is None and step.observation is None:
            return [AskStep(turn=step.turn + 1, text=text)]
        call, observation = step.call, step.observation
        first = AskStep(
            turn=step.turn + 1,
            text=text,
            operation=call.name if call else None,
            arguments=call.arguments if call else None,
        )
        if observation is None:
            return [first]
        if observation.error is not None:
            return [first.model_copy(update={"error": observation.text})]
        regions: list[AskStep] = []
        for picture in observation.pictures:
            frame = picture.frame
            if frame is not None:
                frame += 1 - first_frames[picture.medium]
            view = View(media[picture.medium], frame, picture.box)
            shows_region = picture.is_plain_region
            region = {
                "media": view.media.handle,
                "frame": frame,
                "box": [round(value, 4) for value in picture.box],
                "source_size": picture.source_px,
                "picture": self.library.add_region(view) if shows_region else None,
            }
            regions.append(first.model_copy(update=region))
        return regions or [first]


def _num_frames(media: Sequence[OpenedMedia]) -> int:
    """Return the number of frames that are sampled from each clip.

    Raises:
        ToolError: clips that were opened with different numbers.
    """
    numbers = {one.options.num_frames for one in media if one.item.kind != "image"}
    if len(numbers) > 1:
        raise ToolError("the clips were opened with different num_frames; open them with the same")
    return numbers.pop() if numbers else DEFAULT_OPTIONS.num_frames


def _first_frames(trace: Trace) -> dict[int, int]:
    """Return the number of the first frame of each clip: frames of a question are numbered across its clips."""
    first, firsts = 1, dict[int, int]()
    for sampling in trace.sampling:
        firsts[sampling.medium] = first
        first += len(sampling.indices)
    return firsts


def _short_name(model: str) -> str:
    """Return the name of a model; of a folder, only its last part.

    >>> _short_name("/home/me/models/mine"), _short_name("Qwen/Qwen2.5-VL-7B-Instruct")
    ('mine', 'Qwen/Qwen2.5-VL-7B-Instruct')
    """
    return Path(model).name if Path(model).is_absolute() else model


async def _follow(handle: RolloutHandle, max_turns: int, report: Report) -> None:
    """Wait for the end of a question, and report its turns and operations."""
    last = -1.0
    async with aclosing(handle.aevents()) as events:
        async for event in events:
            found = _progress(event)
            if found is not None and found[0] > last:
                last = found[0]
                await report(last, float(max_turns), found[1])
    if handle.error is None:
        await report(float(max_turns), float(max_turns), "done")


def _progress(event: Event) -> tuple[float, str] | None:
    """Return (completed turns, message) of an event; within a turn the number rises by parts of one."""
    if isinstance(event, TurnStarted):
        return event.turn + 0.01, f"turn {event.turn + 1}"
    if isinstance(event, CallParsed):
        return event.turn + 0.5, visible(f"turn {event.turn + 1}: {describe_call(event.call)}")[
            :300
        ]
    if isinstance(event, Observed):
        done = "rejected" if event.observation.error else "done"
        return event.turn + 0.9, f"turn {event.turn + 1}: operation {done}"
    return None


def _loaded(model: AnswerModel) -> Model:
    """Return the loaded model.

    Raises:
        ToolError: it cannot be loaded.
    """
    try:
        return model.get()
    except PixelReasonerError as error:
        raise ToolError(_model_failed(error)) from error


def _model_failed(error: BaseException) -> str:
    """Log an error of the model, and return a sentence without addresses and paths of this machine."""
    logger.error("the model failed: %s", error)
    return (
        f"the model of this server cannot answer ({type(error).__name__}); its log contains the reason. "
        "Look at the picture with zoom_in yourself, or ask again later"
    )


def _too_slow(asked: Asked) -> str:
    return (
        f"there is no answer within {asked.time_limit_s:g} s; raise time_limit_s, lower max_turns, "
        "or ask a simpler question"
    )


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
