"""Strategies: combination of several rollouts of one question into one answer.

A strategy is a function of a question, a scheduler and a configuration. It submits any number of requests, may fork
rollouts and continue them (`RolloutRequest.rollout`), and returns the selected trace. Each strategy has its own file.
Other packages register strategies in the entry point group `pixel_reasoner.strategies`.
"""

from __future__ import annotations

from typing import Protocol

from pixel_reasoner.errors import PluginError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.plugin_checks import described, is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.rollout.scheduler import RolloutScheduler, scheduler_of
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
strategy = STRATEGIES.decorator
"""decorator that registers a function as a strategy, under its name or `name=`"""


def ask_by_strategy(
    name: str, question: Question, model: GenerationModel, config: RolloutConfig | None = None
) -> Trace:
    r"""Answer one question by the strategy of a name.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: a strategy that cannot be used, or that returns something else than a trace.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> question = Question(id="1", text="Which colour?", media=())
    >>> ask_by_strategy("majority_vote", question, ScriptedModel([r"\boxed{red}"])).answer
    'red'
    """
    run = STRATEGIES.get(name)
    trace = run(question, scheduler_of(model), config or RolloutConfig())
    if not isinstance(trace, Trace):
        raise PluginError(
            expected=f"a Trace from the strategy {name!r}",
            got=f"{described(trace)}, from {described(run)}",
            fix="return the trace that counts",
        )
    return trace
