"""State of one rollout: its images, its turns so far, and why it stopped."""

from __future__ import annotations

import platform
import time
from functools import cache
from importlib import metadata
from typing import Any, Protocol

from pixel_reasoner.dialects import Dialect, get_dialect
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import (
    Completion,
    ContextFull,
    Model,
)
from pixel_reasoner.operations import base as ops
from pixel_reasoner.rollout.perturb import perturb_turn
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import (
    PixelBudgets,
    RolloutConfig,
    RunSettings,
)
from pixel_reasoner.schema.trace import Observation, StopReason, ToolCall, Trace, Turn


class PromptSettings(Protocol):
    """How somebody talks and what it sees: a model, or what a model's folder says of it."""

    @property
    def dialect(self) -> str:
        """The name of its dialect."""

    @property
    def budgets(self) -> PixelBudgets | None:
        """What it sees; None for the dialect's defaults."""


class Rollout:
    """One question on its way: its pictures, its turns so far, and why it stopped."""

    def __init__(
        self,
        question: Question,
        speaker: PromptSettings,
        rules: RolloutConfig,
        album: MediaContext | None = None,
    ) -> None:
        """Open the question's media, or take an album in which nothing has happened yet."""
        self.question = question
        self.rules = rules
        self.dialect: Dialect = get_dialect(speaker.dialect)
        self.started = time.perf_counter()
        budgets = speaker.budgets or self.dialect.budgets
        self.album = album or MediaContext(question, budgets, rules.media)
        self.pictures = tuple(self.album.pictures)
        self.turns: list[Turn] = []
        self.stop: StopReason | None = None
        self.answer: str | None = None
        if len(self.pictures) > rules.limits.max_pictures:
            self.stop = StopReason.MAX_PICTURES

    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, with the pixels the model sees."""
        return self.dialect.messages(
            self.question,
            self.pictures,
            self.turns,
            self.album.view,
            operations=self.rules.operations,
        )

    def take(self, completion: Completion | ContextFull, seconds: float) -> None:
        """Record a turn, execute its call if it has one, and decide whether to go on."""
        if isinstance(completion, ContextFull):
            self.stop = StopReason.MAX_CONTEXT
            return
        started = time.perf_counter()
        if self.rules.perturb and not any(turn.has_executed_call for turn in self.turns):
            text = perturb_turn(completion.text, self.question, self.dialect, self.album.pictures)
            if text != completion.text:
                completion = Completion(text=text, num_prompt_tokens=completion.num_prompt_tokens)
        call, observation = self._act(completion)
        self.turns.append(
            Turn(
                text=completion.text,
                parts=() if call is None else (call,),
                observations=() if observation is None else (observation,),
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                num_prompt_tokens=completion.num_prompt_tokens,
                generate_s=seconds,
                operate_s=time.perf_counter() - started if observation else 0.0,
            )
        )
        if self.stop is None and len(self.turns) == self.rules.limits.max_turns:
            self.stop = StopReason.MAX_TURNS

    def _act(self, completion: Completion) -> tuple[ToolCall | None, Observation | None]:
        if completion.truncated:
            self.stop = StopReason.MAX_NEW_TOKENS
            return None, None
        parsed = self.dialect.parse_completion(
            completion.text, completion.parts, self.album.pictures
        )
        if parsed.answer is not None:
            self.stop, self.answer = StopReason.ANSWERED, parsed.answer
            return None, None
        if not parsed.has_attempted_call or not self.rules.operations:
            self.stop = StopReason.NO_ANSWER
            return None, None
        if parsed.error is not None:
            return parsed.call, Observation(text=parsed.error.message, error=parsed.error.kind)
        called = parsed.executable_calls[0]
        observation = ops.run(called, self.album)
        if len(self.album) > self.rules.limits.max_pictures:
            self.stop = StopReason.MAX_PICTURES
        return called, observation

    def trace(self, settings: RunSettings) -> Trace:
        """The record of a stopped rollout."""
        assert self.stop is not None, "a rollout becomes a trace when it has stopped"
        return Trace(
            question=self.question,
            pictures=self.pictures,
            sampling=self.album.sampling,
            turns=tuple(self.turns),
            stop=self.stop,
            answer=self.answer,
            settings=settings,
            versions=versions(),
            seconds=time.perf_counter() - self.started,
        )


def failed_trace(question: Question, error: Exception, settings: RunSettings) -> Trace:
    """The trace of a question that could not be asked."""
    return Trace(
        question=question,
        stop=StopReason.FAILED,
        error=str(error),
        settings=settings,
        versions=versions(),
    )


def settings_of(model: Model, rules: RolloutConfig) -> RunSettings:
    """Everything that decides a number: model, dialect, budgets, limits, decoding."""
    dialect = get_dialect(model.dialect)
    budgets = model.budgets or dialect.budgets
    return RunSettings(
        **dict(rules),
        model=model.describe(),
        dialect=model.dialect,
        dialect_hash=dialect.fingerprint,
        budgets=budgets,
    )


@cache
def versions() -> dict[str, str]:
    """Versions of what a trace depends on, as far as it is installed."""
    names = ("pixel-reasoner", "pillow", "av", "torch", "transformers")
    found = {name: metadata.version(name) for name in names if _installed(name)}
    return {"python": platform.python_version(), **found}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
