"""Perturbation of a call, to measure whether a model notices that it looked at the wrong place.

The first executed call of a rollout is replaced, in the model's own words, by a variant of the same size that shows
nothing of the evidence (`OperationSpec.perturb`). The model continues after a mistake that it seems to have made.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pixel_reasoner.dialects import Dialect
from pixel_reasoner.operations.base import PerturbRequest
from pixel_reasoner.operations.registry import OperationSet, default_operations
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture


def perturb_turn(
    text: str,
    question: Question,
    dialect: Dialect,
    pictures: Sequence[Picture],
    operations: OperationSet | None = None,
) -> str:
    """Return a turn with an off-target call; the same turn where it has no call or the evidence is not known.

    The result depends on the arguments alone.

    Args:
        text: the generated turn.
        question: with evidence.
        dialect: of the model.
        pictures: all pictures so far.
        operations: of the run; by default those that a run offers.
    """
    call = next(iter(dialect.parse(text, pictures).executable_calls), None)
    if call is None or question.evidence is None:
        return text
    spec = (operations or default_operations()).get(call.name)
    if spec is None or spec.perturb is None:
        return text
    request = PerturbRequest(
        evidence=question.evidence,
        pictures=pictures,
        rng=random.Random(f"disturb/{question.id}"),
        padding=dialect.padding,
        rounding=dialect.grid.slack,
    )
    perturbed = spec.perturb(call, request)
    if perturbed is None:
        return text
    return dialect.strip_call(text) + dialect.write_call(perturbed, pictures)
