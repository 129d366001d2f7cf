"""Strategies: combination of several rollouts of one question into one answer.

A strategy is a function of a question, a scheduler and a configuration. It submits any number of requests, may fork
rollouts and continue them (`RolloutRequest.rollout`), and returns the selected trace. Each strategy has its own file.
Other packages register strategies in the entry point group `pixel_reasoner.strategies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol

from pixel_reasoner.errors import PluginError, UsageError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.plugin_checks import described, is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.scheduler import RolloutScheduler, get_scheduler
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace


class Strategy(Protocol):
    """Function that answers a question with one or several rollouts."""

    def __call__(
        self, question: Question, scheduler: RolloutScheduler, config: RolloutConfig
    ) -> Trace:
        """Return the selected trace."""
        ...


STRATEGIES = Registry[Strategy](
    "strategy",
    package="pixel_reasoner.rollout.strategies",
    plural="strategies",
    check=is_function("strategy", "question", "scheduler", "config"),
)
SINGLE = "single"
"""name of the default: one rollout, whose text can be streamed"""
_SAMPLED = frozenset({"majority_vote"})
"""strategies that compare rollouts, which are all equal at temperature 0"""
strategy = STRATEGIES.decorator
"""decorator that registers a function as a strategy, under its name or `name=`"""


def check_strategy(name: str, config: RolloutConfig | None = None) -> None:
    """Check that a strategy can be used with a configuration, before a model is loaded.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: a strategy that cannot be used.
        UsageError: it needs a temperature above 0.

    >>> check_strategy("majority_vote", RolloutConfig())
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a temperature above 0 for the strategy majority_vote; got temperature 0, at which all rollouts are equal. Fix: set --temperature above 0, for example 0.7
    """
    STRATEGIES.get(name)
    if name in _SAMPLED and config is not None and config.sampling.temperature == 0:
        raise UsageError(
            expected=f"a temperature above 0 for the strategy {name}",
            got="temperature 0, at which all rollouts are equal",
            fix="set --temperature above 0, for example 0.7",
        )


def ask_by_strategy(
    name: str, question: Question, model: GenerationModel, config: RolloutConfig | None = None
) -> Trace:
    r"""Answer one question by the strategy of a name.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: a strategy that cannot be used, or that returns something else than a trace.
        UsageError: it needs a temperature above 0.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from pixel_reasoner.schema.settings import SamplingParams
    >>> sampled = RolloutConfig(sampling=SamplingParams(temperature=0.7))
    >>> question = Question(id="1", text="Which colour?", media=())
    >>> trace = ask_by_strategy("majority_vote", question, ScriptedModel([r"\boxed{red}"]), sampled)
    >>> trace.answer, trace.notes
    ('red', ('majority vote: red 5',))
    """
    config = config or RolloutConfig()
    check_strategy(name, config)
    run = STRATEGIES.get(name)
    trace = run(question, get_scheduler(model), config)
    if not isinstance(trace, Trace):
        raise PluginError(
            expected=f"a Trace from the strategy {name!r}",
            got=f"{described(trace)}, from {described(run)}",
            fix="return the trace that counts",
        )
    return trace


def ask_many_by_strategy(
    name: str,
    questions: Iterable[Question],
    model: GenerationModel,
    config: RolloutConfig | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Trace]:
    r"""Yield the traces of many questions as they finish, in no fixed order, with `batch_size` questions in progress.

    If the iteration is stopped early, all requests of the model are cancelled.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: the strategy cannot be used, or returns something else than a trace.
        UsageError: it needs a temperature above 0.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from pixel_reasoner.schema.settings import SamplingParams
    >>> sampled = RolloutConfig(sampling=SamplingParams(temperature=0.7))
    >>> questions = [Question(id=id, text="Which colour?", media=()) for id in "ab"]
    >>> traces = ask_many_by_strategy("majority_vote", questions, ScriptedModel([r"\boxed{red}"]), sampled)
    >>> sorted((trace.question.id, trace.answer) for trace in traces)
    [('a', 'red'), ('b', 'red')]
    """
    check_strategy(name, config or RolloutConfig())
    if name == SINGLE:
        yield from ask_many(questions, model, config, batch_size=batch_size)
        return
    waiting, active = iter(questions), set[Future[Trace]]()
    batch_size *= get_scheduler(model).num_copies
    # A strategy blocks until its rollouts end, so each question in progress has a thread.
    pool = ThreadPoolExecutor(batch_size, thread_name_prefix="strategy")
    try:
        while True:
            for question in islice(waiting, batch_size - len(active)):
                active.add(pool.submit(ask_by_strategy, name, question, model, config))
            if not active:
                return
            done, active = wait(active, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        if active:
            get_scheduler(model).close()
        pool.shutdown(cancel_futures=True)
