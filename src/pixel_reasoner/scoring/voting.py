"""Votes: groups of answers to one question that the grader counts as the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.scoring.grading import grade

_EXACT = {AnswerType.ANLS: AnswerType.TEXT, AnswerType.RELAXED: AnswerType.NUMBER}
"""types whose grader accepts similar answers: votes for similar answers are not votes for the same one"""


def is_same_answer(answer: str, other: str, question: Question) -> bool:
    """Return whether each of two answers is right if the other one is accepted.

    >>> number = Question(id="1", text="How many?", media=(), answer_type=AnswerType.NUMBER)
    >>> is_same_answer("four", "4.0", number), is_same_answer("4", "5", number)
    (True, False)
    """
    if answer == other:
        return True
    kind = _EXACT.get(question.answer_type, question.answer_type)
    return all(
        (found := grade(one, question.model_copy(update={"answer": (two,), "answer_type": kind})))
        is not None
        and found.score == 1
        for one, two in ((answer, other), (other, answer))
    )


@dataclass
class AnswerGroups:
    """Groups of equivalent answers to one question, in order of first appearance.

    >>> groups = AnswerGroups(Question(id="1", text="Which colour?", media=()))
    >>> [groups.add(answer) for answer in ("red", "Blue", "the red.", None)]
    [0, 1, 0, None]
    """

    question: Question
    answers: list[str] = field(default_factory=list)
    """first answer of each group"""

    def add(self, answer: str | None) -> int | None:
        """Return the number of the group of an answer, from 0; None without an answer."""
        if answer is None or not answer.strip():
            return None
        for number, first in enumerate(self.answers):
            if is_same_answer(answer, first, self.question):
                return number
        self.answers.append(answer)
        return len(self.answers) - 1


def majority(groups: Sequence[int | None], weights: Sequence[float] | None = None) -> int | None:
    """Return the group with the most votes. Of equal ones the larger sum of weights decides, then the first vote.

    Args:
        groups: of each vote; None for a vote without an answer.
        weights: of each vote, for example the probability of its answer.

    >>> majority([0, 1, 1, None]), majority([0, 1]), majority([0, 1], [0.2, 0.9]), majority([None])
    (1, 0, 1, None)
    """
    known = [group for group in groups if group is not None]
    if not known:
        return None
    given = weights or [0.0] * len(groups)
    sums = {
        group: sum(weight for one, weight in zip(groups, given, strict=True) if one == group)
        for group in known
    }
    return max(dict.fromkeys(known), key=lambda group: (known.count(group), sums[group]))


def weighted_majority(groups: Sequence[int | None], weights: Sequence[float]) -> int | None:
    """Return the group with the largest sum of weights; without weights the one with the most votes.

    >>> weighted_majority([0, 0, 1], [0.2, 0.2, 0.9]), weighted_majority([0, 1, 1], [0, 0, 0])
    (1, 1)
    """
    known = [group for group in groups if group is not None]
    sums = {group: weight_of(group, groups, weights) for group in dict.fromkeys(known)}
    if not any(sums.values()):
        return majority(groups)
    return max(sums, key=lambda group: sums[group])


def weight_of(group: int | None, groups: Sequence[int | None], weights: Sequence[float]) -> float:
    """Return the sum of the weights of a group."""
    return sum(weight for one, weight in zip(groups, weights, strict=True) if one == group)
