"""The loop: a model looks, thinks, calls an operation, sees the new pixels, and thinks on.

`ask` answers one question, `ask_many` keeps a batch of them moving together: a question whose operation is done goes on
while others are still being thought about, a finished question makes room for the next, and its pictures are opened meanwhile.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import cache, partial
from importlib import metadata
from itertools import islice
from typing import Any, Protocol

from pixel_reasoner import ops
from pixel_reasoner.album import Album
from pixel_reasoner.budget import Budgets
from pixel_reasoner.decode import DecodeLimits
from pixel_reasoner.dialects import Answer, Dialect, Malformed, dialect_named
from pixel_reasoner.disturb import disturbed
from pixel_reasoner.errors import InputError, PixelReasonerError
from pixel_reasoner.models import (
    Completion,
    ContextFull,
    Conversation,
    Decoding,
    Model,
    OnText,
    Turns,
    turns_of,
)
from pixel_reasoner.trace import Observation, OpCall, Question, Record, Stop, Trace, Turn


class Limits(Record):
    """When a rollout ends at the latest."""

    max_turns: int = 6
    """messages of the model"""
    max_pictures: int = 32
    """pictures of the question and results of operations together"""


class Rules(Record):
    """Everything besides the model and the question that decides a rollout."""

    operations: bool = True
    """whether operations are offered; without them a call ends the rollout unanswered"""
    limits: Limits = Limits()
    decoding: Decoding = Decoding()
    decode: DecodeLimits = DecodeLimits()
    disturb: bool = False
    """whether the first look is replaced by one that misses the evidence (see `disturb`)"""


Progress = Callable[["Rollout"], None]
"""called after every turn"""


class Speaker(Protocol):
    """How somebody talks and what it sees: a model, or what a model's folder says of it."""

    @property
    def dialect(self) -> str:
        """The name of its dialect."""

    @property
    def budgets(self) -> Budgets | None:
        """What it sees; None for the dialect's defaults."""


class Rollout:
    """One question on its way: its pictures, its turns so far, and why it stopped."""

    def __init__(
        self, question: Question, speaker: Speaker, rules: Rules, album: Album | None = None
    ) -> None:
        """Open the question's media, or take an album in which nothing has happened yet."""
        self.question = question
        self.rules = rules
        self.dialect: Dialect = dialect_named(speaker.dialect)
        self.started = time.perf_counter()
        budgets = speaker.budgets or self.dialect.budgets
        self.album = album or Album(question, budgets, rules.decode)
        self.pictures = tuple(self.album.pictures)
        self.turns: list[Turn] = []
        self.stop: Stop | None = None
        self.answer: str | None = None
        if len(self.pictures) > rules.limits.max_pictures:
            self.stop = Stop.MAX_PICTURES

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
            self.stop = Stop.MAX_CONTEXT
            return
        started = time.perf_counter()
        if self.rules.disturb and not any(_executed(turn) for turn in self.turns):
            text = disturbed(completion.text, self.question, self.dialect, self.album.pictures)
            if text != completion.text:
                completion = Completion(text=text, num_prompt_tokens=completion.num_prompt_tokens)
        call, observation = self._act(completion)
        self.turns.append(
            Turn(
                text=completion.text,
                call=call,
                observation=observation,
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                num_prompt_tokens=completion.num_prompt_tokens,
                generate_s=seconds,
                operate_s=time.perf_counter() - started if observation else 0.0,
            )
        )
        if self.stop is None and len(self.turns) == self.rules.limits.max_turns:
            self.stop = Stop.MAX_TURNS

    def _act(self, completion: Completion) -> tuple[OpCall | None, Observation | None]:
        if completion.truncated:
            self.stop = Stop.MAX_NEW_TOKENS
            return None, None
        said = self.dialect.parse(completion.text, self.album.pictures)
        if isinstance(said, Answer):
            self.stop, self.answer = Stop.ANSWERED, said.text
            return None, None
        if said is None or not self.rules.operations:
            self.stop = Stop.NO_ANSWER
            return None, None
        if isinstance(said, Malformed):
            return said.call, Observation(text=said.text, refusal=said.refusal)
        observation = ops.run(said, self.album)
        if len(self.album) > self.rules.limits.max_pictures:
            self.stop = Stop.MAX_PICTURES
        return said, observation

    def trace(self, settings: dict[str, Any]) -> Trace:
        """The record of a stopped rollout."""
        assert self.stop is not None, "a rollout becomes a trace when it has stopped"
        return Trace(
            question=self.question,
            pictures=self.pictures,
            turns=tuple(self.turns),
            stop=self.stop,
            answer=self.answer,
            settings=settings,
            versions=versions(),
            seconds=time.perf_counter() - self.started,
        )


def _executed(turn: Turn) -> bool:
    return turn.observation is not None and turn.observation.refusal is None


def ask(
    question: Question,
    model: Model,
    rules: Rules | None = None,
    *,
    on_text: OnText | None = None,
    on_turn: Progress | None = None,
) -> Trace:
    r"""Ask one question.

    Args:
        question: text and media.
        model: anything with `generate`.
        rules: limits, decoding, whether operations are offered.
        on_text: hears the text of each turn while it is generated.
        on_turn: sees the rollout after each turn, its observation included.

    Raises:
        InputError: a picture or video cannot be used.

    >>> import tempfile; from PIL import Image; from pathlib import Path
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from pixel_reasoner.trace import Medium
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (640, 480), "red").save(path)
    >>> question = Question(id="1", text="Which colour?", media=(Medium(kind="image", path=str(path)),))
    >>> ask(question, ScriptedModel([r"\boxed{red}"])).answer
    'red'
    """
    rules = rules or Rules()
    rollout = Rollout(question, model, rules)
    while rollout.stop is None:
        started = time.perf_counter()
        (completion,) = model.generate([rollout.messages()], rules.decoding, on_text)
        rollout.take(completion, time.perf_counter() - started)
        if on_turn is not None:
            on_turn(rollout)
    return rollout.trace(settings_of(model, rules))


def ask_many(
    questions: Iterable[Question],
    model: Model,
    rules: Rules | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Trace]:
    """Ask many questions, `batch_size` at a time; traces come as they finish, in no fixed order.

    A question whose media cannot be used gives a trace with `Stop.FAILED` and the reason; the others go on.
    """
    rules = rules or Rules()
    settings = settings_of(model, rules)
    turns = turns_of(model, rules.decoding)
    waiting, active = enumerate(questions), dict[int, Rollout]()
    with closing(
        _Openings(partial(_begun, model=model, rules=rules, settings=settings))
    ) as opening:
        while True:
            room = batch_size - len(active) - len(opening)
            if room >= turns.room * batch_size or not active:
                opening.add(islice(waiting, room))
            if not (opening or active):
                return
            while opened := opening.opened(_patience_s(turns, active, batch_size)):
                for key, begun in opened:
                    if isinstance(begun, Trace):
                        yield begun
                        continue
                    active[key], conversation = begun
                    turns.add(key, conversation)
            yield from _next_turns(turns, active, settings)


def _patience_s(turns: Turns, active: dict[int, Rollout], batch_size: int) -> float | None:
    """How long pictures are waited for: as long as it takes where nothing else is to be done."""
    if not active:
        return None
    return _PATIENCE_S if len(active) < turns.fill * batch_size else 0.0


_PATIENCE_S = 1.0
"""for the next picture to be open, while others could be thought about"""

_Begun = tuple[Rollout, Conversation] | Trace


class _Openings:
    """Questions whose pictures are being opened, in threads: decoding and scaling are code that others need not wait for."""

    def __init__(self, begin: Callable[[Question], _Begun]) -> None:
        self.begin = begin
        self.pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self.futures: dict[int, Future[_Begun]] = {}
        self.late: set[int] = set()

    def __len__(self) -> int:
        return len(self.futures)

    def add(self, questions: Iterable[tuple[int, Question]]) -> None:
        """Open the pictures of questions, each with its key."""
        self.futures |= {key: self.pool.submit(self.begin, one) for key, one in questions}

    def opened(self, patience_s: float | None) -> list[tuple[int, _Begun]]:
        """Those that are open, or will be within this time. Those that take longer, such as long videos, are not waited for again."""
        worth_waiting = patience_s is None or (patience_s and self.futures.keys() - self.late)
        if worth_waiting and not wait(self.futures.values(), patience_s, FIRST_COMPLETED).done:
            self.late |= self.futures.keys()
        done = [key for key, one in self.futures.items() if one.done()]
        return [(key, self.futures.pop(key).result()) for key in done]

    def close(self) -> None:
        """Forget those that are not open yet."""
        self.pool.shutdown(cancel_futures=True)


def _begun(question: Question, model: Model, rules: Rules, settings: dict[str, Any]) -> _Begun:
    """A rollout and what it opens with, or the trace of one that cannot begin."""
    try:
        rollout = Rollout(question, model, rules)
        if rollout.stop is None:
            return rollout, rollout.messages()
    except InputError as error:
        return failed(question, error, settings)
    return rollout.trace(settings)


def _next_turns(
    turns: Turns, active: dict[int, Rollout], settings: dict[str, Any]
) -> Iterator[Trace]:
    """Take the turns that are finished next; yields the rollouts that stop with them."""
    for key, said, seconds in turns.done() if active else ():
        rollout, error = active[key], None
        if isinstance(said, PixelReasonerError):
            error = said
        else:
            rollout.take(said, seconds)
        if error is None and rollout.stop is None:
            try:  # pixels are decoded on first use
                turns.add(key, rollout.messages())
                continue
            except InputError as unusable:
                error = unusable
        turns.end(key)
        del active[key]
        yield failed(rollout.question, error, settings) if error else rollout.trace(settings)


def failed(question: Question, error: Exception, settings: dict[str, Any]) -> Trace:
    """The trace of a question that could not be asked."""
    return Trace(
        question=question,
        stop=Stop.FAILED,
        error=str(error),
        settings=settings,
        versions=versions(),
    )


def settings_of(model: Model, rules: Rules) -> dict[str, Any]:
    """Everything that decides a number: model, dialect, budgets, limits, decoding."""
    dialect = dialect_named(model.dialect)
    budgets = model.budgets or dialect.budgets
    return {
        "model": model.describe(),
        "dialect": model.dialect,
        "dialect_hash": dialect.fingerprint,
        "budgets": budgets.model_dump(mode="json"),
        **rules.model_dump(mode="json"),
    }


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
