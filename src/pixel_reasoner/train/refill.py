"""Refilled policy syncs: questions without spread are replaced by others (dynamic sampling, arXiv 2503.14476).

A group whose rollouts all have the same reward gives no gradient. Selective replay fills its place with copies of other
rollouts of the sync; refilling fills it with rollouts of further questions, which costs their generation.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pixel_reasoner.train import distributed
from pixel_reasoner.train.samples import RolloutSample


def refill_samples(trainer: Any, samples: Sequence[RolloutSample]) -> list[RolloutSample]:
    """Return the samples of a sync, with groups of other questions in place of those without spread. Collective.

    The traces of the first round stay the ones that the trainer reports.

    Args:
        trainer: a `PixelReasonerTrainer`, which generates further rollouts.
        samples: whole groups, in order.
    """
    size, run = trainer.run.group_size, trainer.run
    distributed.check_whole_groups(len(samples), size, "refill")
    groups = [list(samples[start : start + size]) for start in range(0, len(samples), size)]
    reported = trainer.samples, trainer.sample_rewards
    num_rounds = 0
    while num_rounds < run.refill:
        places = [n for n, group in enumerate(groups) if _is_uniform(group)]
        count = distributed.gather_max(len(places), trainer)
        if not count:
            break
        rows = _other_rows(trainer, count, num_rounds)
        more = trainer.generate_samples([row for row in rows for _ in range(size)])
        found = [more[start : start + size] for start in range(0, len(more), size)]
        useful = [group for group in found if not _is_uniform(group)]
        for place, group in zip(places, useful, strict=False):
            groups[place] = group
        num_rounds += 1
    trainer.samples, trainer.sample_rewards = reported
    trainer._metrics["train"]["refill/rounds"].append(float(num_rounds))
    return [one for group in groups for one in group]


def _is_uniform(group: Sequence[RolloutSample]) -> bool:
    return all(one.is_uniform for one in group)


def _other_rows(trainer: Any, count: int, number: int) -> list[dict[str, Any]]:
    """Return random questions. They depend on step, round and process alone, so a resumed run draws the same."""
    rank, step = trainer.accelerator.process_index, trainer.state.global_step
    rng = random.Random(f"refill/{trainer.args.seed}/{step}/{number}/{rank}")
    rows = trainer.train_dataset
    return [rows[rng.randrange(len(rows))] for _ in range(count)]
