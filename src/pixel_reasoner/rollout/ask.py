"""The loop: a model looks, thinks, calls an operation, sees the new pixels, and thinks on.

`ask` answers one question, `ask_many` keeps a batch of them moving together: a question whose operation is done goes on
while others are still being thought about, a finished question makes room for the next, and its pictures are opened meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from itertools import islice

from pixel_reasoner.errors import InputError, PixelReasonerError
from pixel_reasoner.models.api import (
    Messages,
    Model,
    OnText,
    Turns,
    open_session,
)
from pixel_reasoner.rollout.state import (
    Rollout,
    failed_trace,
    settings_of,
)
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import (
    RolloutConfig,
    RunSettings,
)
from pixel_reasoner.schema.trace import Trace

Progress = Callable[["Rollout"], None]
"""called after every turn"""


def ask(
    question: Question,
    model: Model,
    rules: RolloutConfig | None = None,
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
    >>> from pixel_reasoner.schema.question import MediaItem
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (640, 480), "red").save(path)
    >>> question = Question(id="1", text="Which colour?", media=(MediaItem(kind="image", path=str(path)),))
    >>> ask(question, ScriptedModel([r"\boxed{red}"])).answer
    'red'
    """
    rules = rules or RolloutConfig()
    rollout = Rollout(question, model, rules)
    while rollout.stop is None:
        started = time.perf_counter()
        (completion,) = model.generate([rollout.messages()], rules.sampling, on_text)
        rollout.take(completion, time.perf_counter() - started)
        if on_turn is not None:
            on_turn(rollout)
    return rollout.trace(settings_of(model, rules))


def ask_many(
    questions: Iterable[Question],
    model: Model,
    rules: RolloutConfig | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Trace]:
    """Ask many questions, `batch_size` at a time; traces come as they finish, in no fixed order.

    A question whose media cannot be used gives a trace with `StopReason.FAILED` and the reason; the others go on.
    """
    rules = rules or RolloutConfig()
    settings = settings_of(model, rules)
    turns = open_session(model, rules.sampling)
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

_Begun = tuple[Rollout, Messages] | Trace


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


def _begun(question: Question, model: Model, rules: RolloutConfig, settings: RunSettings) -> _Begun:
    """A rollout and what it opens with, or the trace of one that cannot begin."""
    try:
        rollout = Rollout(question, model, rules)
        if rollout.stop is None:
            return rollout, rollout.messages()
    except InputError as error:
        return failed_trace(question, error, settings)
    return rollout.trace(settings)


def _next_turns(turns: Turns, active: dict[int, Rollout], settings: RunSettings) -> Iterator[Trace]:
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
        yield failed_trace(rollout.question, error, settings) if error else rollout.trace(settings)
