"""RL on scripted rollouts, equal for any number of processes and any trainer.

    python tests/rl_fixture.py OUT          one process
    torchrun --nproc_per_node 2 ...         two processes that share the second group

Writes OUT/process-N.json: rewards, advantages and losses of that process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.schema.question import Question
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import load_questions, question_rows, rollout_config
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import load_weights, lora_config
from stock import StockTrainer, stock_rows

TINY = str(BUNDLED_MODELS["tiny"])
ZOOM = (
    "First the picture as a whole. Too small to make out, so I zoom in.\n<tool_call>\n"
    '{{"name": "zoom_in", "arguments": {{"bbox_2d": [{0:.2f}, 0.10, 0.90, 0.90], "target_image": 1}}}}\n</tool_call>'
)
BROKEN = 'I zoom in.\n<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0.9, 0.1, 0.2\n</tool_call>'
TURNS = (
    lambda right: [f"I see it. \\boxed{{{right}}}"],
    lambda right: [ZOOM.format(0.1), f"Now I see it. \\boxed{{{right}}}"],
    lambda right: ["I see it. \\boxed{nothing}"],
    lambda right: [ZOOM.format(0.2), ZOOM.format(0.3), "It shows. \\boxed{nothing}"],
    lambda right: [BROKEN, ZOOM.format(0.4), f"At last. \\boxed{{{right}}}"],
    lambda right: ["I cannot tell."],
)
"""turns of rollout number n, n modulo 6"""


def run_of(out: Path, **more: Any) -> RlRun:
    """Return a run of three questions with four rollouts each and one gradient step per sync."""
    micro = more.get("minibatch", 12) // int(os.environ.get("WORLD_SIZE", "1"))
    trl = {
        "per_device_train_batch_size": micro,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "max_steps": 2,
        "max_completion_length": 600,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 5,
        **more.pop("trl", {}),
    }
    settings = {
        "questions_per_sync": 3,
        "group_size": 4,
        "minibatch": 12,
        "rollouts_at_once": 12,
        "max_turns": 3,
        "max_new_tokens": 96,
        "replay": False,
        "sample_every": 0,
        "reward": RewardConfig(H=0.9),  # half of a group calls an operation: less than H
        **more,
    }
    from pixel_reasoner.sources.pixelworld import WorldMix

    mix = WorldMix(families=("attribute",), count=6, overview_share=0.0)
    return RlRun(out=str(out), pixelworld=mix, trl=trl, **settings)


def scripted_turns(trainer: Any, answers: Sequence[str]) -> list[list[str]]:
    """Return the scripted turns of the rollouts of one process. The scripts follow the global rollout index."""
    first = trainer.accelerator.process_index * len(answers)
    return [TURNS[(first + n) % len(TURNS)](answer) for n, answer in enumerate(answers)]


class ScriptedTurns:
    """Turn source that returns the turns of `TURNS`."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.scripts: list[list[str]] = []

    def begin(self, scripts: list[list[str]]) -> None:
        """Set the turns of the next rollouts."""
        self.scripts, self._turn = scripts, 0
        self._waiting = list(range(len(scripts)))

    def clear(self) -> None:
        """Do nothing: there is no cache."""

    def generate(
        self, prompt_ids: Sequence[Any], images: Any = None
    ) -> tuple[list[list[int]], None]:
        """Return the next turn of each rollout that called an operation."""
        assert len(prompt_ids) == len(self._waiting)
        texts = [self.scripts[n][self._turn] for n in self._waiting]
        self._turn += 1
        self._waiting = [
            n for n, text in zip(self._waiting, texts, strict=True) if "<tool_call>" in text
        ]
        encode, end = self.tokenizer.encode, self.tokenizer.eos_token_id
        return [[*encode(text, add_special_tokens=False), end] for text in texts], None


class Recorded:
    """Mixin of a trainer that records rewards, losses and advantages."""

    records: list[dict[str, Any]]

    def _calculate_rewards(self, *args: Any) -> Any:
        rewards = super()._calculate_rewards(*args)
        self.records.append({"rewards": rewards.tolist()})
        return rewards

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **more)
        shared = self.accelerator.gather(loss.detach().view(1)).mean().item()
        found = self.accelerator.gather(inputs["advantages"]).flatten().tolist()
        advantages = sorted(round(one, 6) for one in found)
        self.records.append({"loss": shared, "advantages": advantages})
        return loss


class ScriptedTrainer(Recorded, PixelReasonerTrainer):
    """Our trainer on scripted rollouts."""

    def _turn_source(self) -> Any:
        return ScriptedTurns(self._tokenizer)

    def _generate_rollouts(self, prompts: list[Any], trainer: Any) -> Any:
        answers = [Question.from_line(prompt[0]["content"]).answer[0] for prompt in prompts]
        self.generator.source.begin(scripted_turns(self, answers))
        return super()._generate_rollouts(prompts, trainer)


class ScriptedStockTrainer(Recorded, StockTrainer):
    """TRL's own trainer and tool loop on the same rollouts."""

    def _generate(self, prompts: list[Any]) -> Any:
        self.turns = ScriptedTurns(self._tokenizer)
        answers = [environment.rollout.question.answer[0] for environment in self.environments]
        self.turns.begin(scripted_turns(self, answers))
        return super()._generate(prompts)

    def _generate_single_turn(self, prompt_ids: list[Any], *rest: Any, **more: Any) -> Any:
        return self.turns.generate(prompt_ids)


def trainer_of(run: RlRun, kind: Any = ScriptedTrainer, **more: Any) -> Any:
    """Return a trainer of the bundled model on a run, ready to train."""
    args, config, settings = trl_config(run), rollout_config(run), folder_settings(Path(TINY))
    with args.main_process_first():
        questions = load_questions(run)
    is_stock = issubclass(kind, StockTrainer)
    rows = stock_rows(questions, settings, config) if is_stock else question_rows(questions)
    trainer = kind(
        run=run,
        model_settings=settings,
        config=config,
        model=load_weights(TINY, run, bf16=False),
        args=args,
        train_dataset=rows,
        processing_class=load_processor(TINY),
        peft_config=lora_config(run),
        **more,
    )
    trainer.records = []
    return trainer


if __name__ == "__main__":
    out = Path(sys.argv[1])
    trainer = trainer_of(run_of(out / "run"))
    trainer.train()
    path = out / f"process-{os.environ.get('RANK', '0')}.json"
    path.write_text(json.dumps(trainer.records))
    if torch.distributed.is_initialized():
        # Threads of gloo that are still running end the interpreter with SIGABRT, now and then.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
