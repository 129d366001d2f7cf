"""Tiling: the picture and all its tiles in one prompt, as models with dynamic resolution divide large pictures.

Source of the idea: LLaVA-NeXT (AnyRes) and InternVL (dynamic tiling); here the tiles are separate pictures of the
prompt, so that it works with any model that accepts several pictures.
"""

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


def tiling(
    question: Question,
    scheduler: RolloutScheduler,
    config: RolloutConfig,
    tiles: Annotated[int, Field(ge=2, le=8)] = 2,
) -> Trace:
    """Return the trace of one rollout that sees every picture and `tiles` x `tiles` tiles of it.

    Args:
        question: text and media. A question with a clip is answered by an ordinary rollout.
        scheduler: runs the rollout.
        config: of the rollout; its limit on pictures includes the tiles.
        tiles: tiles in each row and column.
    """
    session = StrategySession(question, scheduler, config, "tiling", {"tiles": tiles})
    pictures = session.open_pictures()
    if not pictures:
        return session.answer_plainly()
    places = [(one.number, box) for one in pictures for box in grid(1 / tiles)]
    return session.answer_best([session.prompt(places)])


STRATEGIES.register("tiling", tiling)
