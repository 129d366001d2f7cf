"""The embedded model from nothing: see, point, then whole traces. Every stage resumes after a kill."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from pixel_reasoner.dialects.compact import COMPACT
from pixel_reasoner.tiny.build import build_model, build_processor, build_tokenizer
from pixel_reasoner.tiny.gallery import Gallery
from pixel_reasoner.tiny.lessons import answer_turn, guess_turn, look_turn
from pixel_reasoner.tiny.loop import Stage, run_stage
from pixel_reasoner.tiny.tower import Probes, sample_views, seeing_loss
from pixel_reasoner.trace import Medium
from pixel_reasoner.world import all_questions


def tokenizer_texts(gallery: Gallery, limit: int = 2000) -> list[str]:
    """What the tokenizer is trained on: everything that is said about the first scenes."""
    nowhere = Medium(kind="image", path="")
    texts = [COMPACT.system_with, COMPACT.system_without, "Image 1:", "Frame 1:", "Image 17, frame 1:"]
    for scene in [s for scenes in gallery.scenes.values() for s in scenes[:limit]]:
        for question in all_questions(scene, nowhere):
            texts += [question.text, answer_turn(question, None), guess_turn(question)]
        for item in scene.items:
            texts.append(look_turn(item, COMPACT))
    return texts


def main(out: Path, steps: int = 2000, seed: int = 0) -> None:
    gallery = Gallery(out / "gallery", 12000, 4000)
    tokenizer = build_tokenizer(tokenizer_texts(gallery))
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, seed)
    visual = model.model.visual
    torch.manual_seed(seed)
    probes = {name: Probes(visual.config.out_hidden_size) for name in ("final", "early")}
    run_stage(
        Stage(name="see", steps=steps, lr=1.5e-3, warmup=100),
        {"visual": visual, **probes},
        lambda step: seeing_loss(
            probes, visual, processor.image_processor, sample_views(gallery, random.Random(f"see/{seed}/{step}"))
        ),
        out,
    )


if __name__ == "__main__":
    main(Path("runs/tiny"))
