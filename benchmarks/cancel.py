"""Cancel sequences of a batch of 64 at random steps, 1,000 times in total.

    .venv/bin/python benchmarks/cancel.py [CANCELLATIONS]

Counts free slots after each cancellation, and the other sequences whose ids equal those of a run without cancellations. Each round
runs 64 sequences of the bundled model (prompts of different lengths, four with pictures, four with a random seed) and cancels ten.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

from pixel_reasoner.models.api import collect_images
from pixel_reasoner.models.engine import Engine, ImageInput, Sequence
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.world import render, scenes

CANCELLATIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
BATCH, PER_ROUND, NEW_TOKENS = 64, 10, 16

Prompt = tuple[list[int], tuple[ImageInput, ...], SamplingParams | None]


def prompts(model: LocalModel, folder: Path, rng: random.Random) -> list[Prompt]:
    questions = [
        with_media_root(one, folder)
        for one in render(scenes("attribute", "validation", 70, 4), folder)
    ]
    found: list[Prompt] = []
    for question in questions:
        messages = Rollout(question, model, RolloutConfig()).messages()
        ids = model.prompt_inputs([messages])["input_ids"][0].tolist()
        found.append((ids, tuple(map(ImageInput.of, collect_images(messages))), None))
    while len(found) < BATCH:
        ids = [rng.randrange(20, 800) for _ in range(rng.randrange(8, 60))]
        warm = SamplingParams(temperature=0.7, seed=len(found)) if len(found) < 8 else None
        found.append((ids, (), warm))
    return found


def sequences(prompts: SequenceOf[Prompt]) -> list[Sequence]:
    return [
        Sequence(list(ids), images, NEW_TOKENS, id=n, sampling=sampling)
        for n, (ids, images, sampling) in enumerate(prompts)
    ]


def one_round(
    engine: Engine, mixed: list[Prompt], expected: list[Sequence], rng: random.Random
) -> Counter[str]:
    counts: Counter[str] = Counter()
    batch = sequences(mixed)
    to_cancel = rng.sample(batch, PER_ROUND)
    moments = {one: rng.randrange(NEW_TOKENS) for one in to_cancel}
    for one in batch:
        engine.add_request(one)
    step = 0
    while engine.has_unfinished:
        for one in [one for one in to_cancel if moments[one] == step]:
            num_running, is_running = len(engine.running), one in engine.running
            engine.cancel(one)
            known = (*engine.running, *engine.waiting, *engine.retained)
            counts["cancelled"] += 1
            counts[f"cancelled while {'running' if is_running else 'waiting'}"] += 1
            counts["slot free"] += (
                one not in known and len(engine.running) == num_running - is_running
            )
        step += 1
        if engine.has_unfinished:
            engine.step()
    for one in batch:
        if one not in moments:
            counts["others"] += 1
            counts["others equal"] += one.new_ids == expected[one.id].new_ids
    engine.clear()
    return counts


def main() -> None:
    rng = random.Random(0)
    model = LocalModel("tiny")
    given: Any = (model.model, model.processor.image_processor, ())
    with tempfile.TemporaryDirectory() as folder:
        mixed = prompts(model, Path(folder), rng)
        expected = sequences(mixed)
        Engine(*given).run(expected)
        engine, counts, started = Engine(*given), Counter[str](), time.perf_counter()
        while counts["cancelled"] < CANCELLATIONS:
            counts += one_round(engine, mixed, expected, rng)
    for name, count in counts.items():
        print(f"{name}: {count}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
