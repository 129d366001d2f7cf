"""Strategies: how the rollouts of one question are combined into one answer.

A strategy is a function of a question, a scheduler and a configuration. It submits as many requests as it likes, may
fork rollouts and continue from them (`RolloutRequest.rollout`), and returns the trace that counts. One file each;
another package adds one by the entry point group `pixel_reasoner.strategies`.
"""

from __future__ import annotations

from typing import Protocol

from pixel_reasoner.plugin_checks import is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace


class Strategy(Protocol):
    """Answers a question by one or several rollouts."""

    def __call__(
        self, question: Question, scheduler: RolloutScheduler, config: RolloutConfig
    ) -> Trace:
        """Return the trace that counts."""
        ...


STRATEGIES = Registry[Strategy](
    "strategy",
    package="pixel_reasoner.rollout.strategies",
    plural="strategies",
    check=is_function("strategy", "question", "scheduler", "config"),
)
strategy = STRATEGIES.decorator
"""decorator that registers a function as a strategy, under its name or `name=`"""
