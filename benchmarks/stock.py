"""TRL's own trainer with our environment and rewards: what `train rl` is measured against, and tested against."""

from __future__ import annotations

from functools import partial
from typing import Any

from trl import GRPOTrainer

from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.scoring import rewards
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.trl_env import TrlToolEnv, finished_trace, patch_processor


class StockTrainer(GRPOTrainer):
    """A `GRPOTrainer` whose rewards are shaped in groups, which lie in one process here."""

    def __init__(self, *, run: RlRun, speaker: Any, rules: Any, **trl: Any) -> None:
        tokenizer = trl["processing_class"].tokenizer
        patch_processor(trl["processing_class"], speaker.dialect)

        def reward(
            environments: Any, completions: Any, completion_ids: Any, **_: Any
        ) -> list[float]:
            traces = [
                finished_trace(one, said, ended=ids[-1] == tokenizer.eos_token_id)
                for one, said, ids in zip(environments, completions, completion_ids, strict=True)
            ]
            shaped: list[float] = []
            for start in range(0, len(traces), run.group_size):
                group = traces[start : start + run.group_size]
                correct = [rewards.correctness(one, run.reward) for one in group]
                counted = [rewards.num_operations(one, run.reward) for one in group]
                shaped += rewards.shape(correct, counted, run.reward)
            return shaped

        super().__init__(
            reward_funcs=[reward],
            environment_factory=partial(TrlToolEnv, speaker, rules, MediaCache()),
            **trl,
        )
