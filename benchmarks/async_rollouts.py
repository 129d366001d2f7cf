"""Compare asynchronous with lockstep rollouts: the same policy, questions and batch size, with the engine.

.venv/bin/python benchmarks/async_rollouts.py [SYNCS] [MODEL]

Generates SYNCS policy syncs of 16 groups of 8 rollouts of all PixelWorld families with both, alternating, and clears the
KV cache at every sync as a change of the weights does. Prints rollouts per second, generated tokens per second, their
ratio in each round, and the spread of the lengths.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import load_questions, question_rows, rollout_config
from pixel_reasoner.train.rollouts.asynchronous import AsyncRollouts, AsyncSizes
from pixel_reasoner.train.rollouts.generator import GeneratedRollout
from pixel_reasoner.train.rollouts.question_order import QuestionOrder
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import load_weights

SYNCS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
MODEL = str(model_folder(sys.argv[2] if len(sys.argv) > 2 else "tiny"))
ROUNDS = 3
GROUPS, GROUP_SIZE, RUNNING = 16, 8, 32
FAMILIES = ("attribute", "relation", "count", "infographic", "video")


def trainer_in(folder: Path) -> tuple[PixelReasonerTrainer, list[Any]]:
    run = RlRun(
        out=str(folder),
        model=MODEL,
        pixelworld=WorldMix(families=FAMILIES, count=40),
        questions_per_sync=GROUPS,
        group_size=GROUP_SIZE,
        minibatch=GROUPS * GROUP_SIZE,
        rollouts_at_once=RUNNING,
        max_new_tokens=96,
        trl={"max_completion_length": 1500, "save_strategy": "no", "report_to": "none"},
    )
    questions = load_questions(run)
    trainer = PixelReasonerTrainer(
        run=run,
        model_settings=folder_settings(Path(MODEL)),
        config=rollout_config(run),
        model=load_weights(MODEL, run, bf16=False),
        args=trl_config(run),
        train_dataset=question_rows(questions),
        processing_class=load_processor(MODEL),
    )
    return trainer, questions


def lockstep(trainer: Any, order: QuestionOrder) -> Callable[[], list[GeneratedRollout]]:
    def sync() -> list[GeneratedRollout]:
        rollouts: list[GeneratedRollout] = []
        questions = [next(order).question for _ in range(GROUPS)]
        rows = [one for one in questions for _ in range(GROUP_SIZE)]
        for start in range(0, len(rows), RUNNING):
            rollouts += trainer.generator.run(rows[start : start + RUNNING], trainer._settings)
        return rollouts

    return sync


def asynchronous(trainer: Any, order: QuestionOrder) -> Callable[[], list[GeneratedRollout]]:
    sizes = AsyncSizes(GROUP_SIZE, GROUPS, max_staleness=1, max_running=RUNNING)
    rollouts = AsyncRollouts(trainer.generator, trainer.generator.source, order, sizes)

    def sync() -> list[GeneratedRollout]:
        return [one for group in rollouts.next_groups(trainer._settings) for one in group]

    return sync


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer, questions = trainer_in(Path(folder))
        rates: dict[str, list[float]] = {}
        ratios, turns, tokens = [], list[int](), list[int]()
        for number in range(ROUNDS):
            torch.manual_seed(number)
            for kind in (lockstep, asynchronous):
                order = QuestionOrder(questions, seed=number, rank=0, world=1)
                sync = kind(trainer, order)
                sync()  # the first one of an asynchronous run only fills the batch
                started, cpu_started = time.perf_counter(), time.process_time()
                found = [one for _ in range(SYNCS) for one in sync()]
                seconds = time.perf_counter() - started
                cpu = time.process_time() - cpu_started
                trainer.generator.source.interrupt()
                trainer.generator.source.clear()
                rates.setdefault(kind.__name__, []).append(len(found) / seconds)
                turns += [len(one.trace.turns) for one in found]
                lengths = [sum(one.row.loss_mask) for one in found]
                tokens += lengths
                print(
                    f"{kind.__name__}: {len(found) / seconds:.2f} rollouts/s, {len(found) / cpu:.2f} per CPU second, {sum(lengths) / seconds:.0f} tokens/s",
                    flush=True,
                )
            ratios.append(rates["asynchronous"][-1] / rates["lockstep"][-1])
        quantiles = statistics.quantiles(tokens, n=20)
        print(f"turns 1 to {max(turns)}, mean {statistics.fmean(turns):.2f}")
        print(
            f"tokens: 5 % {quantiles[0]:.0f}, median {quantiles[9]:.0f}, 95 % {quantiles[-1]:.0f}"
        )
        print("asynchronous / lockstep: " + ", ".join(f"{one:.2f}" for one in ratios))


if __name__ == "__main__":
    main()
