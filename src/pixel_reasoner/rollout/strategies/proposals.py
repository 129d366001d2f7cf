"""Proposals: regions that differ from their surroundings, or that contain text, are shown to a rollout each.

The proposals need no model: differences come from the pixels, text from an OCR engine (extra `ocr`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pixel_reasoner.operations._ocr import check_installed
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.rollout.strategies.regions import different_places, text_places
from pixel_reasoner.rollout.strategies.session import StrategySession
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace


def proposals(
    question: Question,
    scheduler: RolloutScheduler,
    config: RolloutConfig,
    source: Literal["difference", "ocr"] = "difference",
    k: Annotated[int, Field(ge=1, le=64)] = 8,
    side: Annotated[float, Field(gt=0, le=1)] = 0.2,
) -> Trace:
    """Return the most probable answer of rollouts that start with one proposed region each, and of one without.

    Args:
        question: text and media. A question with a clip, or without a proposal, is answered by an ordinary rollout.
        scheduler: runs the rollouts.
        config: of the rollouts.
        source: of the proposals: regions that differ from their surroundings, or lines of text.
        k: regions per picture.
        side: least side of a region, as a share of the picture.

    Raises:
        UsageError: the extra `ocr` is not installed.
    """
    options = {"source": source, "k": k, "side": side}
    session = StrategySession(question, scheduler, config, "proposals", options)
    find = different_places
    if source == "ocr":
        check_installed()
        find = text_places
    pictures = session.open_pictures()
    base = session.base
    places = [
        (one.number, box)
        for one in pictures
        if base is not None
        for box in find(base.context, one.number, k, side)
    ]
    if not places:
        return session.answer_plainly()
    return session.answer_best([session.look([]), *(session.look([place]) for place in places)])


STRATEGIES.register("proposals", proposals)
