"""Strategies: combination of several rollouts of one question into one answer.

A strategy is a function of a question, a scheduler and a configuration. It submits any number of requests, may fork
rollouts and continue them (`RolloutRequest.rollout`), and returns the selected trace. Each strategy has its own file.
Other packages register strategies in the entry point group `pixel_reasoner.strategies`.
"""

from __future__ import annotations

from typing import Protocol

from pixel_reasoner.registry import Registry
from pixel_reasoner.rollout.scheduler import RolloutScheduler
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
    "strategy", package="pixel_reasoner.rollout.strategies", plural="strategies"
)
