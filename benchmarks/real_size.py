"""Speed and memory of `train rl` at real model sizes: random weights, the shapes of Qwen2.5-VL, one GPU.

    .venv/bin/python benchmarks/real_size.py 3b [--steps 50] [--questions 2] [--lora 64]
    .venv/bin/python benchmarks/real_size.py 3b --decode      # only the engine, plain and compiled

A model with random weights never calls an operation, so the generated tokens are forced: the first turn zooms, the second answers.
All computations have the real numbers of layers, heads and visual tokens. The tokenizer is that of the bundled model; the embedding
has the real vocabulary size. The reward is a hash of the text (0 or 1), so that every group has advantages. Prints seconds by phase
(median of the steps after the first two), tokens and peak memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.files import write_json
from pixel_reasoner.models.engine import Engine, ImageInput, Sequence as EngineSequence
from pixel_reasoner.models.folder import FolderSettings, model_folder
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.models.patches import compile_layers
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import ToolCall, Trace
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.rl import train_rl
from pixel_reasoner.train.rollouts import engine_source as turns


def _text(hidden: int, mlp: int, layers: int, heads: tuple[int, int], vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocab,
    }


def _tower(depth: int, hidden: int, mlp: int, whole: list[int]) -> dict[str, Any]:
    return {
        "depth": depth,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "fullatt_block_indexes": whole,
    }


_TOWER = _tower(32, 1280, 3420, [7, 15, 23, 31])
SHAPES = {
    "3b": (_text(2048, 11008, 36, (16, 2), 151936) | {"tie_word_embeddings": True}, _TOWER),
    "7b": (_text(3584, 18944, 28, (28, 4), 152064) | {"tie_word_embeddings": False}, _TOWER),
    "toy": (
        _text(256, 512, 2, (2, 1), 2000) | {"tie_word_embeddings": True},
        _tower(2, 128, 256, [1]),
    ),
}
"""model size -> config of the language model and of the vision tower"""
BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=896 * 896, max_px=896 * 896),  # 1,024 visual tokens
    crop=PixelBudget(min_px=448 * 448, max_px=448 * 448),  # 256
    frame=PixelBudget(min_px=224 * 224, max_px=224 * 224),
    selected_frame=PixelBudget(min_px=448 * 448, max_px=448 * 448),
    multiple=28,
)
NUM_ANSWER_TOKENS = 40
"""tokens of an answer before the end token"""


def build(shape: str, folder: Path, device: str) -> int:
    """Write a model folder with random 16-bit weights. Return the number of parameters."""
    text, vision = SHAPES[shape]
    tokenizer = load_processor(str(model_folder("tiny"))).tokenizer
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope, "max_position_embeddings": 32768},
        vision_config={
            **vision,
            "num_heads": 16 if shape != "toy" else 4,
            "patch_size": 14,
            "window_size": 112,
        }
        | {"out_hidden_size": text["hidden_size"]},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    size = {"shortest_edge": 28 * 28, "longest_edge": 2048 * 2048}
    patches = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, **patches),
        video_processor=Qwen2VLVideoProcessor(size=size, **patches),
        tokenizer=tokenizer,
        chat_template=load_processor(str(model_folder("tiny"))).chat_template,
    ).save_pretrained(folder)
    settings = FolderSettings(dialect=COMPACT.name, budgets=BUDGETS)
    write_json(settings.model_dump(mode="json"), folder / "pixel_reasoner.json")
    return sum(one.numel() for one in model.parameters())


def coin(trace: Trace) -> float:
    """Return 0 or 1 by a hash of the text, so that rewards differ within a group."""
    text = " ".join(turn.text for turn in trace.turns)
    return float(zlib.crc32(text.encode()) % 2)


class ForcedSampler:
    """Sampler that returns scripted tokens, with the logprobs of the model."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.eos_token_id
        self.rng = random.Random(0)
        self.scripts: dict[int, tuple[EngineSequence, list[int]]] = {}

    def __call__(
        self, logits: torch.Tensor, sequences: Sequence[EngineSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and logprobs, as a `Sampler` of the engine does."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        chosen = torch.tensor(
            [self._next(sequence) for sequence in sequences], device=logits.device
        )[:, None]
        return chosen[:, 0], logprobs.gather(1, chosen)[:, 0]

    def _next(self, sequence: EngineSequence) -> int:
        if id(sequence) not in self.scripts or self.scripts[id(sequence)][0] is not sequence:
            self.scripts[id(sequence)] = (sequence, self._turn(len(sequence.images)))
        script = self.scripts[id(sequence)][1]
        at = len(sequence.ids) - sequence.num_prompt_tokens
        return script[at] if at < len(script) else self.end

    def _turn(self, pictures: int) -> list[int]:
        if pictures > 1:
            return [self.rng.randrange(300, 700) for _ in range(NUM_ANSWER_TOKENS)]
        x, y = self.rng.uniform(0, 0.6), self.rng.uniform(0, 0.6)
        box = [round(v, 2) for v in (x, y, x + 0.3, y + 0.3)]
        call = ToolCall(name="zoom_in", arguments={"bbox_2d": box, "target_image": 1})
        text = f"I need a closer look at the red circle.\n{COMPACT.write_call(call)}"
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def train(given: argparse.Namespace, model: Path, out: Path) -> None:
    """Train and print the time of each phase, metrics and memory."""
    tokenizer = load_processor(str(model)).tokenizer
    turns.build_sampler = lambda config: ForcedSampler(tokenizer)  # type: ignore[assignment]
    rollouts = given.questions * 8
    run = RlRun(
        out=str(out),
        model=str(model),
        pixelworld=WorldMix(families=("attribute",), count=32, overview_share=0.0),
        questions_per_sync=given.questions,
        minibatch=rollouts,
        rollouts_at_once=rollouts,
        max_turns=2,
        max_new_tokens=128,
        mask_truncated=False,
        reward_functions=(f"{Path(__file__).resolve()}:coin",),
        sample_every=0,
        lora_rank=given.lora,
        trl={
            "max_steps": given.steps,
            "per_device_train_batch_size": given.micro_batch,
            "max_completion_length": 2000,
            "learning_rate": 1e-6,
            "save_strategy": "no",
            "report_to": "none",
        },
    )
    started = time.perf_counter()
    train_rl(run)
    print(f"total, with loading and saving: {time.perf_counter() - started:.0f} s")
    logs = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    logs = [log for log in logs if "seconds/update" in log][2:]
    for name in sorted({name for log in logs for name in log if name.startswith("seconds/")}):
        print(f"  {name}: {statistics.median(log[name] for log in logs):.2f}")
    for name in ("completions/mean_length", "loss", "grad_norm", "operations", "rapr", "entropy"):
        values = [log[name] for log in logs if name in log]
        if values:
            print(f"  {name}: first {values[0]:.4g}, last {values[-1]:.4g}")
    if torch.cuda.is_available():
        print(
            f"  peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB allocated, "
            f"{torch.cuda.max_memory_reserved() / 1e9:.1f} GB reserved"
        )


def decode(model: Path) -> None:
    """Time decoding for 1 and 64 sequences with a picture of 1,024 tokens, plain and with compiled norms and MLPs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = Qwen2_5_VLForConditionalGeneration.from_pretrained(model, dtype=torch.bfloat16)
    weights = weights.to(device).eval()
    build_engine = engine_factory(load_processor(str(model)))
    timed("plain", weights, build_engine)
    started = time.perf_counter()
    compile_layers(weights.model.language_model)
    timed("compiled (first)", weights, build_engine)
    print(f"{time.perf_counter() - started:.0f} s, with compiling")
    timed("compiled", weights, build_engine)


def engine_factory(processor: Any) -> Any:
    """Return a function that builds an engine with `count` waiting sequences about one picture."""
    tokenizer, image = processor.tokenizer, Image.effect_noise((896, 896), 64).convert("RGB")
    placeholder = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    end = [tokenizer.eos_token_id]

    def build_engine(weights: Any, count: int) -> Engine:
        sampler = greedy_without_end(end)
        engine = Engine(weights, processor.image_processor, end, sampler=sampler)
        image_input = ImageInput.of(image)
        for n in range(count):
            begin = tokenizer(f"<|im_start|>user\n{'word ' * (20 + n % 7)}<|vision_start|>")
            tail = tokenizer("<|vision_end|>What is it?")
            ids = [*begin["input_ids"], *[placeholder] * 1024, *tail["input_ids"]]
            engine.add_request(EngineSequence(ids, (image_input,), 40))
        return engine

    return build_engine


def timed(name: str, weights: Any, build_engine: Any) -> None:
    """Print the time of the prefill and of one decode step."""
    for count in (1, 64):
        engine, step_s = build_engine(weights, count), []
        while engine.has_unfinished:
            started = time.perf_counter()
            engine.step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            step_s.append(time.perf_counter() - started)
        token_ms = statistics.median(step_s[1:]) * 1e3
        print(
            f"{name}, {count} sequences: prefill {step_s[0]:.2f} s, then {token_ms:.1f} ms per token"
        )


def greedy_without_end(end: Any) -> Any:
    """Return a greedy sampler that never returns an end token."""

    def sample(
        logits: torch.Tensor, sequences: Sequence[EngineSequence]
    ) -> tuple[torch.Tensor, None]:
        logits[:, list(end)] = -torch.inf
        return logits.argmax(-1), None

    return sample


@contextlib.contextmanager
def scratch(kept: Path | None) -> Iterator[Path]:
    """Provide the given folder, or a temporary one that is removed at the end."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--questions", type=int, default=2, help="questions per step; 8 rollouts each"
    )
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument(
        "--lora", type=int, default=0, help="LoRA rank; 0 trains all weights of the language model"
    )
    parser.add_argument("--decode", action="store_true", help="time the engine instead of training")
    parser.add_argument("--folder", type=Path, help="folder that keeps the model for the next run")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{given.shape} on {torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}, torch {torch.__version__}"
    )
    with scratch(given.folder) as folder:
        model = folder / f"model-{given.shape}"
        started = time.perf_counter()
        if not (model / "pixel_reasoner.json").exists():
            print(
                f"{build(given.shape, model, device) / 1e9:.2f} billion parameters, built in {time.perf_counter() - started:.0f} s"
            )
        if given.decode:
            decode(model)
        else:
            out = folder / "rl"
            shutil.rmtree(out, ignore_errors=True)
            train(given, model, out)


if __name__ == "__main__":
    main()
