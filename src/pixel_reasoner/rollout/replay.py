"""Replay of rollouts with known turns."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import Completion
from pixel_reasoner.rollout.state import PromptSettings, Rollout
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace, Turn


def replay(
    question: Question,
    turn_texts: Sequence[str],
    prompting: PromptSettings,
    config: RolloutConfig | None = None,
    context: MediaContext | None = None,
    *,
    truncated: bool = False,
) -> Rollout:
    """Return the rollout in which the model generates these texts. It may stop before the last text.

    Args:
        question: text and media.
        turn_texts: generated text of each turn.
        prompting: dialect of the texts, and pixel budgets.
        config: limits and operations.
        context: open media without results of operations; None opens them.
        truncated: whether the last text has no end token.

    Raises:
        InputError: an unusable media item.
    """
    rollout = Rollout(question, prompting, config or RolloutConfig(), context)
    for number, text in enumerate(turn_texts, start=1):
        if rollout.stop is not None:
            break
        is_cut = truncated and number == len(turn_texts)
        rollout.take(Completion(text=text, truncated=is_cut), 0.0)
    return rollout


def replay_trace(trace: Trace, context: MediaContext | None = None) -> Rollout:
    """Replay the rollout of a trace with its recorded settings.

    Raises:
        InputError: an unusable media item.
    """
    settings = trace.settings
    rollout = Rollout(trace.question, settings, restore_config(settings), context)
    if added := [one for one in trace.pictures if one.parent is not None and not trace.exchange]:
        rollout.add_regions([(one.parent or 1, one.box) for one in added])
    for number, turn in enumerate(trace.turns, start=1):
        if rollout.stop is not None:
            break
        if turn.scripted:
            _show_again(rollout, turn)
            continue
        is_cut = trace.stop is StopReason.MAX_NEW_TOKENS and number == len(trace.turns)
        rollout.take(Completion(text=turn.text, truncated=is_cut), 0.0)
    return rollout


def _show_again(rollout: Rollout, turn: Turn) -> None:
    """Show the region of a turn that a strategy wrote."""
    call = turn.call
    assert call is not None, "a scripted turn shows a region"
    box, number = call.arguments["bbox_2d"], call.arguments["target_image"]
    rollout.show_region(number, Box.of(box))


def restore_config(settings: RunSettings) -> RolloutConfig:
    """Return the rollout configuration of recorded settings, with `perturb` off because recorded texts are already perturbed.

    >>> restore_config(RunSettings(perturb=True)).perturb
    False
    """
    fields = {name: getattr(settings, name) for name in RolloutConfig.model_fields}
    return RolloutConfig(**fields | {"perturb": False})
