"""Cost of rollouts in tokens and time."""

from __future__ import annotations

import math

from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.schema.strategy import Usage
from pixel_reasoner.schema.trace import Trace


def rollout_usage(trace: Trace, budgets: PixelBudgets | None = None) -> Usage:
    """Return the cost of one rollout.

    Later turns reuse the keys and values of the turns before them, so the prompt is that of the last turn without the
    tokens that earlier turns generated.

    Args:
        trace: of the rollout.
        budgets: of its pictures; by default those of its settings.
    """
    turns = [turn for turn in trace.turns if not turn.scripted]
    new = [turn.num_new_tokens or 0 for turn in turns]
    last = next((turn.num_prompt_tokens for turn in reversed(turns) if turn.num_prompt_tokens), 0)
    budgets = budgets or trace.settings.budgets
    px = sum(math.prod(one.seen_px) for one in trace.all_pictures.values())
    return Usage(
        prompt_tokens=max(0, last - sum(new[:-1])),
        new_tokens=sum(new),
        visual_tokens=px // budgets.multiple**2 if budgets else 0,
        generate_s=sum(turn.generate_s + turn.operate_s for turn in trace.turns),
    )


def answer_usage(trace: Trace) -> Usage:
    """Return the cost of an answer: of all rollouts of its strategy, or of its one rollout."""
    return trace.strategy.usage if trace.strategy is not None else rollout_usage(trace)
