"""Best of k crops: each tile of a picture is shown to a rollout of its own, and the most probable answer is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.rollout.strategies.regions import grid
from pixel_reasoner.rollout.strategies.session import StrategySession
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace


def best_of_crops(
    question: Question,
    scheduler: RolloutScheduler,
    config: RolloutConfig,
    tiles: Annotated[int, Field(ge=2, le=8)] = 3,
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.2,
) -> Trace:
    """Return the most probable answer of rollouts that start with one tile each, and of one without.

    There are `tiles` x `tiles` tiles per picture. Without log-probabilities the most frequent answer wins.

    Args:
        question: text and media. A question with a clip is answered by an ordinary rollout.
        scheduler: runs the rollouts.
        config: of the rollouts.
        tiles: tiles in each row and column.
        overlap: share of a tile that its neighbour repeats.
    """
    options = {"tiles": tiles, "overlap": overlap}
    session = StrategySession(question, scheduler, config, "best_of_crops", options)
    pictures = session.open_pictures()
    if not pictures:
        return session.answer_plainly()
    side = 1 / (tiles - (tiles - 1) * overlap)
    places = [(one.number, box) for one in pictures for box in grid(side, overlap)]
    return session.answer_best([session.look([]), *(session.look([place]) for place in places)])


STRATEGIES.register("best_of_crops", best_of_crops)
