"""Perturbation of a call, to measure whether a model recovers from an off-target crop.

The first executed call of a rollout is replaced by a call of the same size that does not show the evidence
(`OperationSpec.perturb`). It is written in the format of the model, so the model continues after its apparent mistake.
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
    """Return the turn with an off-target call; the unchanged turn if it has no call or the evidence is unknown.

    Deterministic.

    Args:
        text: the generated turn.
        question: with evidence.
        dialect: of the model.
        pictures: all pictures so far.
        operations: enabled operations; by default the default operations.
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
