"""Speed of the KV cache across turns: one long trace, and many questions at once.

    .venv/bin/python benchmarks/turns.py [REPEATS]

1. A trace of four zooms with a picture of 1,024 visual tokens. `generate` of transformers prefills the whole prompt in every turn, as
   TRL's loop and the upstream demo do; the engine reuses its cache. The generated tokens are forced, so both do the same work.
2. `ask_many` on 192 questions of all families, and TRL's own tool loop on the same questions: both greedy, 64 at once, same limits.

Both use the bundled model and alternate in one process. Prints medians.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList

import rl
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.models.api import GenerationModel, GenerationRequest
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.local_backend import LocalBackend
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import PixelBudget, RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import ToolCall
from pixel_reasoner.sources.pixelworld import WorldMix, world_questions
from stock import StockTrainer, stock_rows

REPEATS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
BOXES = ([0.1, 0.1, 0.3, 0.3], [0.4, 0.1, 0.6, 0.3], [0.1, 0.5, 0.3, 0.7], [0.6, 0.6, 0.8, 0.8])


def script() -> list[str]:
    """Return four turns that zoom and one that answers."""
    calls = [ToolCall(name="zoom_in", arguments={"bbox_2d": b, "target_image": 1}) for b in BOXES]
    words = "I need a closer look at the red circle in the upper left."
    return [
        *(f"{words}\n{COMPACT.write_call(call)}" for call in calls),
        r"It is 7. \boxed{7}",
    ]


class ForcedTokens(LogitsProcessor):
    """Logits processor that allows only the next scripted token."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.at = 0

    def __call__(self, input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
        """Return scores, (batch, vocabulary), that allow one token."""
        forced = torch.full_like(scores, -1e9)
        forced[:, self.ids[self.at]] = 0.0
        self.at += 1
        return forced


class WithoutCache:
    """Model that prefills the whole prompt in every turn."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.name, self.dialect, self.budgets = model.name, model.dialect, model.budgets

    def generate(self, conversations: Any, decoding: Any, on_text: Any = None) -> Any:
        """Return the next scripted turn."""
        turn = sum(message["role"] == "assistant" for message in conversations[0])
        steer = LogitsProcessorList([ForcedTokens(turn_ids(self.model, turn))])
        with torch.inference_mode():
            inputs = self.model.prompt_inputs(conversations)
            out = self.model.model.generate(
                **inputs, do_sample=False, max_new_tokens=128, logits_processor=steer
            )
        return [self.model.completion(out[0, inputs["input_ids"].shape[1] :].tolist(), [], 0)]

    def describe(self) -> dict[str, Any]:
        """Return the description of the model."""
        return self.model.describe()


class WithCache(WithoutCache):
    """Model with the KV cache of the engine."""

    def __init__(self, model: LocalModel) -> None:
        super().__init__(model)
        self.backend = LocalBackend(model)

    def generate(self, conversations: Any, decoding: Any, on_text: Any = None) -> Any:
        """Return the next scripted turn."""
        turn = sum(message["role"] == "assistant" for message in conversations[0])
        forced = ForcedTokens(turn_ids(self.model, turn))
        self.backend.engine.sampler = lambda logits, _: (forced(None, logits).argmax(-1), None)
        request = GenerationRequest(
            id=str(turn), session="1", messages=conversations[0], sampling=decoding
        )
        self.backend.submit(request)
        while True:
            for delta in self.backend.poll(0.0):
                if delta.is_last:
                    return [delta.completion]


def turn_ids(model: LocalModel, turn: int) -> list[int]:
    ids = model.tokenizer(script()[turn], add_special_tokens=False)["input_ids"]
    return [*ids, *model.end_tokens]


def one_trace(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    question = Question(
        id="1",
        text="Which digit is on the red circle?",
        media=(MediaItem(kind="image", path=str(folder / "photo.png")),),
    )
    model = LocalModel("tiny")
    assert model.budgets is not None
    model.budgets = model.budgets.model_copy(
        update={"picture": PixelBudget(min_px=1024 * 1024, max_px=1024 * 1024)}
    )
    config = RolloutConfig(limits=RolloutLimits(max_turns=6))
    seconds: dict[str, list[float]] = {"without cache": [], "with cache": []}
    for _ in range(REPEATS + 1):
        for name, kind in (("without cache", WithoutCache), ("with cache", WithCache)):
            wrapped: GenerationModel = kind(model)
            trace = ask(question, wrapped, config)
            assert len(trace.executed) == len(BOXES)
            assert trace.answer == "7"
            seconds[name].append(sum(turn.generate_s for turn in trace.turns))
    medians = {name: statistics.median(all_of[1:]) for name, all_of in seconds.items()}
    tokens = sum(picture.seen_px[0] * picture.seen_px[1] for picture in trace.pictures) // 32**2
    print(f"a trace of {len(BOXES)} zooms, overview of {tokens} visual tokens:")
    for name, median in medians.items():
        print(f"  {name}: {median:.2f} s")
    print(f"  {medians['without cache'] / medians['with cache']:.2f} x faster")


def many(folder: Path) -> None:
    questions = list(world_questions(WorldMix(count=39, seed=800_000), folder / "questions"))[:192]
    sizes = {"questions_per_sync": 32, "group_size": 2, "minibatch": 64, "rollouts_at_once": 64}
    run = rl.run_in(folder / "run", **sizes, trl={"top_k": 1})
    stock = AutoModelForImageTextToText.from_pretrained(rl.MODEL, dtype=torch.float32)
    trainer = rl.trainer_of(StockTrainer, run, model=stock)
    trainer.model.train()
    settings, config = rl.model_and_rollout_settings(folder / "run")
    rows = list(stock_rows(questions, settings, config))
    model = LocalModel("tiny")
    config = config.model_copy(update={"sampling": SamplingParams(max_new_tokens=96)})
    seconds: dict[str, list[float]] = {"TRL's loop": [], "ask_many": []}
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        trainer.environments = []
        with torch.no_grad():
            for start in range(0, len(rows), 64):
                generate_with_trl(trainer, rows[start : start + 64])
        seconds["TRL's loop"].append(time.perf_counter() - started)
        started = time.perf_counter()
        traces = list(ask_many(questions, model, config, batch_size=64))
        seconds["ask_many"].append(time.perf_counter() - started)
    medians = {name: statistics.median(all_of[1:]) for name, all_of in seconds.items()}
    turns = sum(len(trace.turns) for trace in traces)
    print(f"{len(traces)} questions of all families, {turns} turns, 64 at once:")
    for name, median in medians.items():
        print(f"  {name}: {median:.2f} s, {len(traces) / median:.1f} rollouts/s")
    theirs, ours = medians.values()
    print(f"  {theirs / ours:.2f} x")


class _Generated(Exception):
    """Ends TRL's step after generation; the rest is not measured."""


def generate_with_trl(trainer: Any, rows: Any) -> None:
    """Generate TRL's rollouts of these rows, without the scoring that follows."""

    def stop(*_: Any, **__: Any) -> Any:
        raise _Generated

    real = trainer._generate
    trainer._generate = lambda prompts: (real(prompts), stop())
    try:
        trainer._generate_and_score_completions(rows)
    except _Generated:
        pass
    finally:
        trainer._generate = real


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as name:
        one_trace(Path(name))
        many(Path(name))
