"""Turn hooks: interventions between generation and operations.

A hook receives every completion before it is parsed and may replace it. Perturbation is a hook. Search strategies and
debuggers can add their own (`RolloutRequest.hooks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pixel_reasoner.models.api import Completion
from pixel_reasoner.rollout.controls import OracleCrops
from pixel_reasoner.rollout.perturb import perturb_turn
from pixel_reasoner.schema.settings import Control, RolloutConfig

if TYPE_CHECKING:
    from pixel_reasoner.rollout.state import Rollout


class TurnHook(Protocol):
    """Intervention after each generation."""

    def after_generation(self, rollout: Rollout, completion: Completion) -> Completion:
        """Return the completion that the rollout continues with."""
        ...


class PerturbFirstCall:
    """Hook that replaces the first executed call by an off-target call.

    A perturbed turn has no token ids or logprobs: the model did not sample it.
    """

    def after_generation(self, rollout: Rollout, completion: Completion) -> Completion:
        """Return the perturbed turn, or the unchanged completion if it cannot be perturbed."""
        if any(turn.has_executed_call for turn in rollout.turns):
            return completion
        text = perturb_turn(
            completion.text,
            rollout.question,
            rollout.dialect,
            rollout.context.pictures,
            rollout.operations,
        )
        if text == completion.text:
            return completion
        return Completion(text=text, num_prompt_tokens=completion.num_prompt_tokens)


def build_hooks(config: RolloutConfig) -> tuple[TurnHook, ...]:
    """Return the hooks enabled by a configuration."""
    hooks: list[TurnHook] = [PerturbFirstCall()] if config.perturb else []
    if config.control is Control.ORACLE:
        hooks.append(OracleCrops())
    return tuple(hooks)
