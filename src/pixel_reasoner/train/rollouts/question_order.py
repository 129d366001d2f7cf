"""Questions of RL: rows of the data set, and the order of asynchronous rollouts, which start ahead of the trainer."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from pixel_reasoner.files import write_json
from pixel_reasoner.schema.question import Question


def question_row(question: Question) -> dict[str, Any]:
    """Return the row of a question in TRL's data set: TRL passes `prompt` to the rollouts, which need only the question."""
    return {"prompt": [{"role": "user", "content": question.to_line()}]}


class NumberedQuestion(NamedTuple):
    """Question with its number in the order of a run."""

    number: int
    question: Question


class QuestionOrder:
    """Endless iterator of the questions of one process.

    Every epoch has its own order, which depends on the seed only. Process `rank` of `world` gets the numbers rank,
    rank + world, rank + 2 world, ...

    >>> one, other = (Question(id=name, text="?", media=()) for name in ("a", "b"))
    >>> [number for number, _ in zip(QuestionOrder([one, other], seed=0, rank=1, world=2), "xx")][0].number
    1
    """

    def __init__(self, questions: Sequence[Question], *, seed: int, rank: int, world: int) -> None:
        self.questions, self.seed, self.rank, self.world = questions, seed, rank, world
        self.next_number = rank
        self._again: deque[int] = deque()
        """numbers of questions that were started before a run was stopped, and not used"""
        self._order: tuple[int, list[int]] = (-1, [])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NumberedQuestion:
        """Return the next question."""
        if self._again:
            return self._numbered(self._again.popleft())
        number = self.next_number
        self.next_number += self.world
        return self._numbered(number)

    def _numbered(self, number: int) -> NumberedQuestion:
        epoch, place = divmod(number, len(self.questions))
        if self._order[0] != epoch:
            order = list(range(len(self.questions)))
            random.Random(f"questions/{self.seed}/{epoch}").shuffle(order)
            self._order = epoch, order
        return NumberedQuestion(number, self.questions[self._order[1][place]])

    # --- state in a checkpoint ---

    def save(self, folder: Path, unused: Iterable[int]) -> None:
        """Write the state of this process to the folder of a checkpoint.

        Args:
            folder: the folder of the checkpoint.
            unused: numbers of the questions that were started and not used.
        """
        state = {
            "next": self.next_number,
            "unused": [*unused, *self._again],
            "rank": self.rank,
            "world": self.world,
        }
        write_json(state, folder / f"questions-{self.rank}.json")

    def load(self, folder: Path) -> None:
        """Continue after a checkpoint, which any number of processes may have written.

        Questions that were started and not used are the first ones. A folder without a state changes nothing.
        """
        states = [json.loads(path.read_text()) for path in sorted(folder.glob("questions-*.json"))]
        if not states:
            return
        end = max(one["next"] - one["rank"] for one in states)
        again = [number for one in states for number in one["unused"]]
        for one in states:  # a process may have started fewer groups than another
            again += range(one["next"], end + one["rank"], one["world"])
        self._again = deque(sorted(again)[self.rank :: self.world])
        self.next_number = end + self.rank


class EpochOrder:
    """Sampler whose order depends only on the seed and the epoch number."""

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self) -> Iterator[int]:
        """Yield all indexes of an epoch."""
        if self.sampler.shuffle:
            self.sampler.generator.manual_seed(self.sampler.seed + self.epoch())
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)
