"""State of one rollout: media, turns so far, and stop reason.

A turn has two steps, so that operations can run concurrently with generation:

    begin_turn(completion)   parse the completion: calls to execute, an answer, or neither
    finish_turn()            execute the calls, and record the turn with its observations

`take` runs both. `fork` returns an independent copy, for example for another continuation. `next_exchange` continues the
conversation with another question.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, Protocol

from pixel_reasoner.dialects import CallError, Dialect, get_dialect
from pixel_reasoner.dialects.parsed_turn import ParsedTurn
from pixel_reasoner.dialects.render import Exchange
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import Completion, ContextFull, GenerationModel, Messages
from pixel_reasoner.operations.registry import OperationSet
from pixel_reasoner.rollout.controls import (
    add_tiles,
    controlled_operations,
    operation_request,
)
from pixel_reasoner.rollout.hooks import TurnHook, build_hooks
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.repairs import Repair, RepairKind
from pixel_reasoner.schema.settings import FIXED, PixelBudgets, RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    StopReason,
    Text,
    ToolCall,
    Trace,
    Turn,
)

ZOOM = "zoom_in"
"""operation that shows a region"""
SCRIPTED_WORDS = "Let me look closer at a part of the picture."
"""turn before a region that a strategy shows to a model without operations"""


class PromptSettings(Protocol):
    """Dialect and pixel budgets of a model or a model folder."""

    @property
    def dialect(self) -> str:
        """Name of the dialect."""

    @property
    def budgets(self) -> PixelBudgets | None:
        """Pixel budgets; None for the defaults of the dialect."""


@dataclass
class _PendingTurn:
    """Parsed turn with calls to execute."""

    completion: Completion
    parsed: ParsedTurn
    generate_s: float
    calls: list[ToolCall] = field(default_factory=list)
    """calls to execute"""
    observations: list[Observation] = field(default_factory=list)
    """errors found by the parser"""
    started: float = field(default_factory=time.perf_counter)


class Rollout:
    """State of one question in progress.

    Args:
        question: text and media.
        prompt: dialect and budgets.
        config: operations, limits, sampling.
        context: open media of the question without results of operations; by default they are opened here.
        hooks: interventions after each generation, in addition to the hooks of the configuration.

    Raises:
        InputError: an unusable media item.
        UsageError: the configuration names an unknown operation, one whose packages are missing, or one that the dialect
            cannot express.
    """

    def __init__(
        self,
        question: Question,
        prompt: PromptSettings,
        config: RolloutConfig,
        context: MediaContext | None = None,
        hooks: Sequence[TurnHook] = (),
    ) -> None:
        self.question = question
        self.config = config
        self.dialect: Dialect = get_dialect(prompt.dialect)
        self.hooks = (*build_hooks(config), *hooks)
        self.operations = controlled_operations(prompt.dialect, config, question)
        self.started = time.perf_counter()
        self.budgets = prompt.budgets or self.dialect.budgets
        self.context = context or MediaContext(question, self.budgets, config.media)
        add_tiles(self.context, config)
        self.history: tuple[Exchange, ...] = ()
        self.pictures: tuple[Picture, ...] = tuple(self.context.pictures)
        """pictures in the context before the first turn of this exchange"""
        self.turns: list[Turn] = []
        self.stop: StopReason | None = None
        self.answer: str | None = None
        self.pending: _PendingTurn | None = None
        self._check_num_pictures()

    # --- input of the model ---

    def messages(self) -> Messages:
        """Return the conversation so far as chat messages with pixels."""
        return self.dialect.messages(
            self.question,
            self.new_pictures,
            self.turns,
            self.context.view,
            operations=self.config.operations,
            history=self.history,
        )

    def tools(self) -> tuple[dict[str, Any], ...]:
        """Return the tool definitions of the enabled operations, for native tool calls."""
        if not self.config.operations or not self.dialect.tools:
            return ()
        has_video = any(medium.kind != "image" for medium in self.question.media)
        return tuple(self.dialect.tool_definitions(self.config.operations, has_video=has_video))

    @property
    def new_pictures(self) -> tuple[Picture, ...]:
        """Pictures that the question of this exchange added."""
        return self.pictures[self._num_earlier_pictures :]

    @property
    def _num_earlier_pictures(self) -> int:
        return max((one.num_pictures for one in self.history), default=0)

    # --- output of the model ---

    def take(self, completion: Completion | ContextFull, seconds: float = 0.0) -> None:
        """Record a turn, execute its calls, and decide whether the rollout continues."""
        self.begin_turn(completion, seconds)
        self.finish_turn()

    def begin_turn(self, completion: Completion | ContextFull, seconds: float = 0.0) -> None:
        """Parse a turn. `pending` contains the calls that `finish_turn` will execute."""
        assert self.stop is None, "a rollout that stopped takes no turn"
        assert self.pending is None, "the turn before is not finished"
        if isinstance(completion, ContextFull):
            self.stop = StopReason.MAX_CONTEXT
            return
        for hook in self.hooks:
            completion = hook.after_generation(self, completion)
        parsed = self.dialect.parse_completion(
            completion.text,
            completion.parts,
            self.context.pictures,
            strict=self.config.strict,
        )
        if completion.was_rejected and parsed.executable_calls:
            number = parsed.calls.index(parsed.executable_calls[0])
            repair = Repair(kind=RepairKind.REJECTED_BY_SERVER, call=number)
            parsed = parsed.model_copy(update={"repairs": (repair, *parsed.repairs)})
        self.pending = pending = _PendingTurn(completion, parsed, seconds)
        if completion.truncated:
            self.stop = StopReason.MAX_NEW_TOKENS
        elif parsed.has_only_thought and not self._has_continued_thought:
            pending.observations = [_as_observation(one) for one in parsed.errors]
        elif not (parsed.has_attempted_call and self.config.operations):
            answered = parsed.answer is not None and not parsed.has_attempted_call
            if answered and (request := operation_request(self)):
                pending.observations = [request]
                return
            self.stop = StopReason.ANSWERED if answered else StopReason.NO_ANSWER
            self.answer = parsed.answer if answered else None
        else:
            pending.calls = list(parsed.executable_calls)
            pending.observations = [_as_observation(one) for one in parsed.errors]

    @property
    def _has_continued_thought(self) -> bool:
        """Whether the model was already asked to continue after a turn that contained only a thought."""
        results = (one for turn in self.turns for one in turn.observations)
        return any(one.error == CallErrorKind.THOUGHT_ONLY for one in results)

    def finish_turn(self) -> None:
        """Execute the calls of the pending turn and record the turn."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        all_calls = pending.parsed.calls
        for call in pending.calls:
            number = next(n for n, one in enumerate(all_calls) if one is call)
            observation = self.operations.run(call, self.context)
            pending.observations.append(observation.model_copy(update={"call": number}))
        pending.observations.sort(key=lambda one: one.call)
        self.turns.append(self._turn(pending))
        if self.stop is None:
            self._check_num_pictures()
        if self.stop is None and self._num_generated == self.config.limits.max_turns:
            self.stop = StopReason.MAX_TURNS

    @property
    def _num_generated(self) -> int:
        return sum(not turn.scripted for turn in self.turns)

    def _turn(self, pending: _PendingTurn) -> Turn:
        completion = pending.completion
        operate_s = time.perf_counter() - pending.started if pending.observations else 0.0
        is_cut_off = completion.truncated
        return Turn(
            text=completion.text,
            parts=() if is_cut_off else pending.parsed.parts,
            observations=tuple(pending.observations),
            repairs=() if is_cut_off else _executed_repairs(pending),
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            num_prompt_tokens=completion.num_prompt_tokens,
            num_completion_tokens=completion.num_new_tokens,
            num_cached_tokens=completion.num_cached_tokens,
            generate_s=pending.generate_s,
            operate_s=operate_s,
        )

    def show_region(self, number: int, box: Box) -> Observation:
        """Zoom into a region of a picture in a turn that the model did not generate, and return the result.

        With operations the turn is a call in the format of the model, without operations it is a sentence.
        """
        assert self.stop is None, "a rollout that stopped takes no turn"
        started = time.perf_counter()
        bbox = [round(side, 3) for side in box]
        call = ToolCall(name=ZOOM, arguments={"bbox_2d": bbox, "target_image": number})
        words = SCRIPTED_WORDS
        if self.config.operations:
            words = self.dialect.write_call(call, self.context.pictures).strip()
        observation = OperationSet.of([ZOOM]).run(call, self.context)
        turn = Turn(
            text=words,
            parts=(call,) if self.config.operations else (Text(text=words), call),
            observations=(observation,),
            scripted=True,
            operate_s=time.perf_counter() - started,
        )
        self.turns.append(turn)
        self._check_num_pictures()
        return observation

    def add_regions(self, regions: Sequence[tuple[int, Box]]) -> None:
        """Add regions of pictures to the pictures of the question, before the first turn."""
        assert not self.turns, "pictures of the question precede the first turn"
        for number, box in regions:
            self.context.add_crop(number, box)
        self.pictures = tuple(self.context.pictures)
        self._check_num_pictures()

    def _check_num_pictures(self) -> None:
        if len(self.context) > self.config.limits.max_pictures:
            self.stop = StopReason.MAX_PICTURES

    # --- copies and continuations ---

    def fork(self) -> Rollout:
        """Return an independent copy."""
        assert self.pending is None, "a turn in progress cannot be forked"
        forked = copy(self)
        forked.context = self.context.fork()
        forked.turns = list(self.turns)
        return forked

    def next_exchange(self, question: Question, config: RolloutConfig | None = None) -> Rollout:
        """Return a rollout that continues this conversation with another question, about the same and additional media.

        Raises:
            InputError: an unusable media item of the new question.
        """
        assert self.stop is not None, "the exchange before has to stop first"
        following = copy(self)
        following.config = config or self.config
        following.hooks = (*build_hooks(following.config), *_configured_hooks(self))
        following.operations = controlled_operations(self.dialect.name, following.config, question)
        following.started = time.perf_counter()
        exchange = Exchange(self.question, self.new_pictures, tuple(self.turns), len(self.context))
        following.history = (*self.history, exchange)
        following.context = self.context.extend(question.media)
        media = (*self.context.question.media, *question.media)
        following.question = question.model_copy(update={"media": media})
        following.pictures = tuple(following.context.pictures)
        following.turns, following.stop, following.answer = [], None, None
        following._check_num_pictures()
        return following

    # --- trace ---

    def trace(self, settings: RunSettings, *, seconds: float | None = None) -> Trace:
        """Return the trace of a stopped rollout."""
        assert self.stop is not None, "a rollout becomes a trace when it has stopped"
        if self.config.budget != FIXED:
            settings = settings.model_copy(update={"budgets": self.context.budgets})
        return Trace(
            question=self.question,
            exchange=len(self.history),
            pictures=self.pictures,
            sampling=self.context.sampling,
            notes=self.context.notes,
            turns=tuple(self.turns),
            stop=self.stop,
            answer=self.answer,
            settings=settings,
            versions=versions(),
            seconds=time.perf_counter() - self.started if seconds is None else seconds,
        )


def _as_observation(error: CallError) -> Observation:
    return Observation(text=error.message, error=error.kind, call=error.call or 0)


def _executed_repairs(pending: _PendingTurn) -> tuple[Repair, ...]:
    """Return the repairs of calls that were not rejected."""
    rejected = {one.call for one in pending.observations if one.error is not None}
    return tuple(one for one in pending.parsed.repairs if one.call not in rejected)


def _configured_hooks(rollout: Rollout) -> tuple[TurnHook, ...]:
    return rollout.hooks[len(build_hooks(rollout.config)) :]


def failed_trace(
    question: Question,
    error: BaseException,
    settings: RunSettings,
    stop: StopReason = StopReason.FAILED,
) -> Trace:
    """Return the trace of a failed request."""
    return Trace(
        question=question, stop=stop, error=str(error), settings=settings, versions=versions()
    )


def collect_settings(model: GenerationModel, config: RolloutConfig) -> RunSettings:
    """Return everything that determines an outcome: model, dialect, budgets, operations, limits, sampling."""
    dialect = get_dialect(model.dialect)
    return RunSettings(
        **dict(config),
        model=model.describe(),
        dialect=model.dialect,
        dialect_hash=dialect.fingerprint,
        budgets=model.budgets or dialect.budgets,
    )


@cache
def versions() -> dict[str, str]:
    """Return the versions of installed packages that affect a trace."""
    names = ("pixel-reasoner", "pillow", "av", "torch", "transformers")
    found = {name: version for name in names if (version := _version(name))}
    return {"python": platform.python_version(), **found}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
