"""Single rollout per question, as in `ask`."""

from __future__ import annotations

from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace


def single(question: Question, scheduler: RolloutScheduler, config: RolloutConfig) -> Trace:
    """Return the trace of one rollout."""
    return scheduler.submit(RolloutRequest(question=question, config=config)).result()


STRATEGIES.register("single", single)
