"""RL whose rollouts are the same with any number of processes, so that losses can be compared.

The engine generates greedy turns, which are recorded. The rollouts then continue with scripted turns of different rewards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixel_reasoner.cli.train import _end_process_group
from pixel_reasoner.schema.question import Question
from pixel_reasoner.train import rl
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer

ZOOM = (
    "Too small, so I zoom in.\n<tool_call>\n"
    '{{"name": "zoom_in", "arguments": {{"bbox_2d": [{0:.2f}, 0.10, 0.90, 0.90], "target_image": 1}}}}\n</tool_call>'
)
TURNS = (
    lambda right: [f"I see it. \\boxed{{{right}}}"],
    lambda right: [ZOOM.format(0.1), f"Now I see it. \\boxed{{{right}}}"],
    lambda right: ["I see it. \\boxed{nothing}"],
    lambda right: [ZOOM.format(0.2), "It shows. \\boxed{nothing}"],
)
"""turns of rollout number n, n modulo 4"""


class ScriptedSource:
    """Turn source that records what another source generates, and returns the turns of `TURNS`."""

    def __init__(self, source: Any, trainer: Any) -> None:
        self.source, self.trainer = source, trainer
        self.generated: list[list[int]] = []
        """greedy turns, in the order of this process"""

    def begin(self, answers: Sequence[str]) -> None:
        """Set the right answers of the next rollouts."""
        first = self.trainer.accelerator.process_index * len(answers)
        self._scripts = [
            TURNS[(first + n) % len(TURNS)](answer) for n, answer in enumerate(answers)
        ]
        self._waiting, self._turn = list(range(len(answers))), 0

    def clear(self) -> None:
        """Update the weights of the other source."""
        self.source.clear()

    def generate(
        self, prompt_ids: Sequence[Any], images: Any = None
    ) -> tuple[list[list[int]], None]:
        """Return the next turn of each rollout that called an operation."""
        ids, _ = self.source.generate(prompt_ids, images)
        self.generated += ids
        texts = [self._scripts[n][self._turn] for n in self._waiting]
        self._turn += 1
        self._waiting = [
            n for n, text in zip(self._waiting, texts, strict=True) if "<tool_call>" in text
        ]
        tokenizer = self.trainer._tokenizer
        return [
            [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            for text in texts
        ], None


class ScriptedTrainer(PixelReasonerTrainer):
    """Trainer on scripted rollouts."""

    def _turn_source(self) -> Any:
        return ScriptedSource(super()._turn_source(), self)

    def _generate_rollouts(self, prompts: list[Any], trainer: Any) -> Any:
        answers = [Question.from_line(prompt[0]["content"]).answer[0] for prompt in prompts]
        source: Any = self.generator.source
        source.begin(answers)
        output = super()._generate_rollouts(prompts, trainer)
        rank = os.environ.get("RANK", "0")
        with Path(self.run.out, f"generated-{rank}.jsonl").open("a") as file:
            file.write(json.dumps(source.generated) + "\n")
        source.generated = []
        return output


def train_scripted(path: Path) -> None:
    """Train the run of a TOML file as `pixel-reasoner train rl` does, on scripted rollouts."""
    rl.PixelReasonerTrainer = ScriptedTrainer  # type: ignore[misc]
    rl.train_rl(RlRun.read(path))
    _end_process_group()
