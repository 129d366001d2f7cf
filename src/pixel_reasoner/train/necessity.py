"""Does a question need an operation? Measured with rollouts of the current policy that have none.

For every question of a policy sync some more rollouts are generated with the prompt without operations. They are not
trained on. The share of them that is right, u(x), decides how the choice is paid in the rollouts with operations:

    r'(x, y) = r(x, y) + gamma * (1 - u(x) if n_vo(y) >= 1 else u(x))

This follows arXiv 2510.01681 and 2607.28595: an operation pays where the answer is wrong without one. A cost of operations
would be paid at every question alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.scoring.grading import is_right
from pixel_reasoner.train.rollouts.generator import RolloutGenerator


class NecessityProbe:
    """Measurement of the share of right answers without operations.

    Args:
        generator: generator of rollouts without operations, with the current policy.
        count: rollouts per question.
    """

    def __init__(self, generator: RolloutGenerator, count: int) -> None:
        assert not generator.config.operations, "probes have no operations"
        self.generator, self.count = generator, count

    def measure(self, questions: Sequence[Question], settings: RunSettings) -> dict[str, float]:
        """Return question id -> share of right answers. A question that occurs several times is measured once."""
        asked = {question.id: question for question in questions}
        repeated = [question for question in asked.values() for _ in range(self.count)]
        rights = [is_right(one.trace) for one in self.generator.run(repeated, settings)]
        return {
            id_: sum(rights[start : start + self.count]) / self.count
            for id_, start in zip(asked, range(0, len(rights), self.count), strict=True)
        }


def choice_rewards(
    num_operations_G: Sequence[int], right_without: float, gamma: float
) -> list[float]:
    """Return the reward of the choice for every rollout of a group.

    Args:
        num_operations_G: number of operations that each rollout executed.
        right_without: share of right answers without operations, u(x).
        gamma: largest reward.

    >>> choice_rewards([0, 2], right_without=1.0, gamma=0.5)
    [0.5, 0.0]
    >>> choice_rewards([0, 2], right_without=0.0, gamma=0.5)
    [0.0, 0.5]
    """
    return [gamma * (1 - right_without if count else right_without) for count in num_operations_G]


def share_of(right_without: Mapping[str, float] | None, question: Question) -> float:
    """Return the measured share of a question; 0 if nothing is measured."""
    return 0.0 if right_without is None else right_without[question.id]
