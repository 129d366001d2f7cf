"""Adaptive pixel budgets: sizes of pictures in the prompt from the media, the limits of the model and the rollout.

    fixed       the budgets of the model folder or the dialect
    adaptive    within them: the pictures of a question fit into their share of the context; nothing is enlarged more than
                `MAX_UPSCALE` times; frames of one call that hardly differ from each other are shown once
    N           adaptive, and the pictures of a question have at most N visual tokens

A model whose smallest and largest budget are equal supports one size only, which is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import (
    FIXED,
    AdaptiveBudget,
    BudgetPolicy,
    PixelBudget,
    PixelBudgets,
    RolloutConfig,
    SamplingParams,
)

MAX_UPSCALE = 2.0
"""largest enlargement of a picture or region, per side: more adds tokens but no detail"""
MIN_FRAME_DIFFERENCE = 0.04
"""mean difference of two frames below which they are similar, as a share of the range of a pixel"""
TEXT_TOKENS = 768
"""tokens that are kept free for instructions and the question"""
TURN_TEXT_TOKENS = 128
"""tokens that are kept free for the text of each turn but the last"""
_STEP = 0.9
"""factor per side between two tried sizes"""

CountTokens = Callable[[Size], int]
"""(width, height) of a picture in the prompt -> its visual tokens"""


@runtime_checkable
class SupportsTokenCounts(Protocol):
    """Model that knows its context limit and counts visual tokens without pixels."""

    def context_limit(self, sampling: SamplingParams) -> int:
        """Return the maximum number of tokens of a conversation."""
        ...

    def num_image_tokens(self, size: Size) -> int:
        """Return the number of visual tokens of a picture of this (width, height)."""
        ...


def parse_budget(text: str) -> BudgetPolicy:
    """Return the policy of `--budget`.

    Raises:
        UsageError: neither fixed, adaptive, nor a positive number of tokens.

    >>> parse_budget("adaptive"), parse_budget("512")
    ('adaptive', 512)
    >>> parse_budget("small")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected --budget fixed, adaptive, or a number of visual tokens of at least 1; got 'small'. Fix: for example --budget adaptive
    """
    if text in (FIXED, "adaptive"):
        return text  # type: ignore[return-value]
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(
            expected="--budget fixed, adaptive, or a number of visual tokens of at least 1",
            got=repr(text),
            fix="for example --budget adaptive",
        )
    return int(text)


def open_context(
    cache: MediaCache,
    question: Question,
    budgets: PixelBudgets,
    config: RolloutConfig,
    model: object = None,
) -> MediaContext:
    """Open the media of a question with the budgets that the configuration asks for.

    Args:
        cache: of open media.
        question: with media.
        budgets: of the model.
        config: of the rollout.
        model: counts tokens, if it can.

    Raises:
        InputError: an unusable media item.
    """
    context = cache.open(question, budgets, config.media)
    if config.budget == FIXED:
        return context
    adapted = adapt_budgets(budgets, config, context, model)
    return MediaContext(question, adapted, media=context.media)


def adapt_budgets(
    budgets: PixelBudgets, config: RolloutConfig, context: MediaContext, model: object = None
) -> PixelBudgets:
    """Return budgets whose maxima fit the pictures of a question into their share of the context.

    Args:
        budgets: of the model.
        config: of the rollout.
        context: open media of the question.
        model: counts tokens, if it can; else a token is a square of `budgets.multiple` pixels.
    """
    count: CountTokens = lambda size: math.prod(size) // budgets.multiple**2  # noqa: E731 - a default of one line
    max_tokens = config.sampling.max_context_tokens
    if isinstance(model, SupportsTokenCounts):
        count, max_tokens = model.num_image_tokens, model.context_limit(config.sampling)
    adaptive = budgets.model_copy(
        update={
            "adaptive": AdaptiveBudget(
                max_upscale=MAX_UPSCALE, min_frame_difference=MIN_FRAME_DIFFERENCE
            )
        }
    )
    room = prompt_room(adaptive, config, max_tokens, count)
    if isinstance(config.budget, int):
        room = min(room, config.budget)
    stills = [one.source_px for one in context.pictures if one.frame is None]
    frames = [one.source_px for one in context.pictures if one.frame is not None]
    share = 1.0
    while True:
        sized = adaptive.model_copy(
            update={
                "picture": scaled_budget(adaptive.picture, share, adaptive.multiple),
                "frame": scaled_budget(adaptive.frame, share, adaptive.multiple),
            }
        )
        total = _total(stills, sized, sized.picture, count) + _total(
            frames, sized, sized.frame, count
        )
        if total <= room or (sized == adaptive and share < 1) or share < 1e-3:
            return sized
        share *= _STEP**2


def prompt_room(
    budgets: PixelBudgets, config: RolloutConfig, max_tokens: int, count: CountTokens
) -> int:
    """Return the visual tokens that the pictures of a question may have: the context without text, later turns and results."""
    num_later = max(0, config.limits.max_turns - 1) if config.operations else 0
    side = math.sqrt(budgets.crop.max_px)
    whole = max(budgets.multiple, int(side // budgets.multiple) * budgets.multiple)
    later = num_later * (count((whole, whole)) + TURN_TEXT_TOKENS)
    # Long limits on turns must not take the whole context: pictures of the question have at least a quarter of it.
    free = max_tokens - TEXT_TOKENS - config.sampling.max_new_tokens - later
    return max(free, max_tokens // 4)


def scaled_budget(budget: PixelBudget, share: float, multiple: int) -> PixelBudget:
    """Return a budget with a smaller maximum. A budget of one size is kept.

    >>> scaled_budget(PixelBudget(min_px=1024, max_px=4096), 0.5, 32)
    PixelBudget(min_px=1024, max_px=2048)
    >>> scaled_budget(PixelBudget(min_px=4096, max_px=4096), 0.5, 32)
    PixelBudget(min_px=4096, max_px=4096)
    """
    if budget.min_px == budget.max_px:
        return budget
    return budget.at_most(max(multiple**2, int(budget.max_px * share)))


def _total(
    sizes: Sequence[Size], budgets: PixelBudgets, budget: PixelBudget, count: CountTokens
) -> int:
    """Return the visual tokens of pictures of these source sizes."""
    return sum(
        count(fit_size(size, budgets.for_source(budget, size), budgets.multiple)) for size in sizes
    )
