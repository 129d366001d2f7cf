"""Greedy ids of vLLM on the CPU and of the engine, for models of several families with random weights.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/vllm_families.py [--questions 100] [FAMILY ...]

`make vllm` installs vLLM in an environment of its own. Both get the same prompt ids and pictures. A difference counts as a tie if the
two best tokens at the first different position differ by less than `TIE` in log-probability.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from clusters.vllm_process import ENVIRONMENT, PYTHON
from engine_families import WORDS, picture
from families import RECIPES
from families.recipe import build_model, build_processor
from pixel_reasoner.models.engine import FAMILIES, Engine, ImageInput, PromptText, Sequence

SIGLIP_FAMILIES = ("gemma3", "llava_onevision")
DEFAULT_FAMILIES = ("internvl", "gemma3")
NEW_TOKENS = 16
TIE = 1e-3
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
"""The attention of vLLM on the CPU needs heads of at least 32."""
NEWLINES = ("\n\n", "\n\n\n", "\n\n\n\n")
"""tokens that vLLM expects in the vocabulary of Gemma 3"""
WEIGHT_SCALE = 4.0
"""Weights of a new model are so small that every prompt would be continued alike."""


def build(name: str, folder: Path) -> tuple[Any, Any]:
    """Write a model folder, and return its model and processor."""
    recipe = RECIPES[name]
    text = {**recipe.config["text_config"], **HEADS}
    config = {**recipe.config, "text_config": text}
    recipe = replace(recipe, config=config, tags=recipe.tags + NEWLINES)
    processor = build_processor(recipe)
    model = build_model(recipe, processor.tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.mul_(WEIGHT_SCALE)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if name in SIGLIP_FAMILIES:
        _rename_weights(folder / "model.safetensors")
    return model, processor


def _rename_weights(path: Path) -> None:
    """Give the weights of a SigLIP encoder the names in released checkpoints, which vLLM expects."""
    new, old = "vision_tower.vision_model.", "vision_tower."
    weights = {key.replace(old, new, 1): one for key, one in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def questions(processor: Any, folder: Path, count: int) -> list[dict[str, Any]]:
    """Return prompts with one placeholder and the path of a picture each."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        picture(rng).save(path)
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 10)))
        text = f"look at {processor.image_token} and say {words}"
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append({"text": text, "ids": ids, "image": str(path)})
    return rows


def by_engine(model: Any, processor: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return prompt ids, new ids and the margin of each new id over the second best."""
    family = FAMILIES.get(model.config.model_type)
    margins: dict[Sequence, list[float]] = {}

    def greedy(logits: torch.Tensor, sequences: Any) -> tuple[torch.Tensor, None]:
        for sequence, (first, second) in zip(sequences, logits.topk(2).values, strict=True):
            margins.setdefault(sequence, []).append(float(first - second))
        return logits.argmax(dim=-1), None

    engine = Engine(model, processor, [], sampler=greedy)
    sequences = []
    for row in rows:
        image = ImageInput.of(Image.open(row["image"]).convert("RGB"))
        tokenize = lambda text: processor.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        ids = family.prompt_ids(processor, PromptText(row["text"], [image]), tokenize)
        sequences.append(Sequence(ids, (image,), NEW_TOKENS))
    engine.run(sequences)
    return [
        {"prompt": one.ids[: one.num_prompt_tokens], "ids": one.new_ids, "margins": margins[one]}
        for one in sequences
    ]


def by_vllm(folder: Path, rows: list[dict[str, Any]], banned: list[int]) -> list[dict[str, Any]]:
    """Return prompt ids and new ids of vLLM in a process of its own."""
    given, found = folder / "questions.json", folder / "answers.json"
    given.write_text(json.dumps({"rows": rows, "banned": banned, "new": NEW_TOKENS}))
    worker = Path(__file__).with_name("vllm_worker.py")
    command = [PYTHON, worker, folder, given, found]
    log = folder / "vllm.log"
    with log.open("wb") as out:
        done = subprocess.run(
            list(map(str, command)),
            stdout=out,
            stderr=out,
            env=os.environ | ENVIRONMENT,
            check=False,
        )
    if done.returncode:
        raise SystemExit(log.read_text(errors="replace")[-3000:])
    answers: list[dict[str, Any]] = json.loads(found.read_text())
    return answers


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Counter[str]:
    """Count questions with the same ids, with a tie at the first difference, and with another difference."""
    counts = Counter[str]()
    for one, other in zip(ours, theirs, strict=True):
        if one["prompt"] != other["prompt"]:
            counts["other prompt"] += 1
        elif one["ids"] == other["ids"]:
            counts["same"] += 1
        else:
            pairs = enumerate(zip(one["ids"], other["ids"], strict=True))
            first = next(n for n, (a, b) in pairs if a != b)
            counts["tie" if one["margins"][first] < TIE else "different"] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=DEFAULT_FAMILIES)
    parser.add_argument("--questions", type=int, default=100)
    options = parser.parse_args()
    for name in options.families:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            model, processor = build(name, folder)
            rows = questions(processor, folder, options.questions)
            ours = by_engine(model, processor, rows)
            banned = FAMILIES.get(name).banned_tokens(model.config)
            theirs = by_vllm(folder, rows, banned)
        distinct = len({tuple(one["ids"]) for one in ours})
        print(f"{name}: {dict(compare(ours, theirs))}, {distinct} distinct replies", flush=True)


if __name__ == "__main__":
    main()
