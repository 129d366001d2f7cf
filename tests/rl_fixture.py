"""RL on rollouts that are written down: the same for any number of processes, and for any trainer.

    python tests/rl_fixture.py OUT          one process
    torchrun --nproc_per_node 2 ...         two, and the second group straddles them

writes OUT/process-N.json: rewards, advantages and losses as that process saw them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import load_questions, question_rows, rules_of, trl_config
from pixel_reasoner.train.weights import load_weights, lora_config

TINY = str(BUNDLED_MODELS["tiny"])
LOOK = (
    "First the picture as a whole. Too small to make out, so I zoom in.\n<tool_call>\n"
    '{{"name": "zoom_in", "arguments": {{"bbox_2d": [{0:.2f}, 0.10, 0.90, 0.90], "target_image": 1}}}}\n</tool_call>'
)
BROKEN = 'I zoom in.\n<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0.9, 0.1, 0.2\n</tool_call>'
TURNS = (
    lambda right: [f"I see it. \\boxed{{{right}}}"],
    lambda right: [LOOK.format(0.1), f"Now I see it. \\boxed{{{right}}}"],
    lambda right: ["I see it. \\boxed{nothing}"],
    lambda right: [LOOK.format(0.2), LOOK.format(0.3), "It shows. \\boxed{nothing}"],
    lambda right: [BROKEN, LOOK.format(0.4), f"At last. \\boxed{{{right}}}"],
    lambda right: ["I cannot tell."],
)
"""what rollout number n says, n modulo 6"""


def run_of(out: Path, **more: Any) -> RlRun:
    """Three questions, four rollouts each, one gradient step a sync."""
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
        "reward": RewardConfig(H=0.9),  # half of a group looks: too few
        **more,
    }
    from pixel_reasoner.sources.pixelworld import WorldMix

    mix = WorldMix(families=("attribute",), count=6, overview_share=0.0)
    return RlRun(out=str(out), pixelworld=mix, trl=trl, **settings)


class Written:
    """For a trainer's class: rollouts are read from `TURNS`, and what comes of them is kept."""

    told: list[dict[str, Any]]

    def _generate(self, prompts: list[Any]) -> Any:
        rank, count = self.accelerator.process_index, len(prompts)
        answers = [environment.rollout.question.answer[0] for environment in self.environments]
        self._scripts = [TURNS[(rank * count + n) % len(TURNS)](answers[n]) for n in range(count)]
        self._waiting = list(range(count))
        self._turn = 0
        return super()._generate(prompts)

    def _generate_single_turn(self, prompt_ids: list[Any], *rest: Any, **more: Any) -> Any:
        assert len(prompt_ids) == len(self._waiting)
        texts = [self._scripts[n][self._turn] for n in self._waiting]
        self._turn += 1
        self._waiting = [
            n for n, text in zip(self._waiting, texts, strict=True) if "<tool_call>" in text
        ]
        tokenizer = self._tokenizer
        return [
            [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            for text in texts
        ], None

    def _calculate_rewards(self, *args: Any) -> Any:
        rewards = super()._calculate_rewards(*args)
        self.told.append({"rewards": rewards.tolist()})
        return rewards

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **more)
        shared = self.accelerator.gather(loss.detach().view(1)).mean().item()
        told = self.accelerator.gather(inputs["advantages"]).flatten().tolist()
        self.told.append({"loss": shared, "advantages": sorted(round(one, 6) for one in told)})
        return loss


class WrittenTrainer(Written, PixelReasonerTrainer):
    """Our trainer on written rollouts."""


def trainer_of(run: RlRun, kind: Any = WrittenTrainer, **more: Any) -> Any:
    """A trainer of the embedded model on a run, ready to train."""
    args, rules, speaker = trl_config(run), rules_of(run), folder_settings(Path(TINY))
    with args.main_process_first():
        questions = load_questions(run)
    trainer = kind(
        run=run,
        speaker=speaker,
        rules=rules,
        model=load_weights(TINY, run, bf16=False),
        args=args,
        train_dataset=question_rows(questions, speaker, rules),
        processing_class=load_processor(TINY),
        peft_config=lora_config(run),
        **more,
    )
    trainer.told = []
    return trainer


if __name__ == "__main__":
    out = Path(sys.argv[1])
    trainer = trainer_of(run_of(out / "run"))
    trainer.train()
    path = out / f"process-{os.environ.get('RANK', '0')}.json"
    path.write_text(json.dumps(trainer.told))
