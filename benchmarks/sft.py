"""Compare the speed of `train sft` with TRL's own SFTTrainer: equal model, traces and steps.

.venv/bin/python benchmarks/sft.py [STEPS]

The stock trainer reads the exported traces, ours reads the prepared ones. Both contain crops at their final size. Loss masks are off,
so that both have the same loss. The trainers alternate. Prints the median tokens per second.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from datasets import load_from_disk
from transformers import TrainerCallback
from trl import SFTTrainer

from pixel_reasoner.data.formats import export_trl
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.sft import TraceCollator, prepare, trace_dataset
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import load_weights

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
ROUNDS = 3


class Clock(TrainerCallback):
    """Callback that records the end, the tokens and the loss of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.tokens: list[float] = []
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Record a step."""
        if "loss" in logs:
            self.ends.append(time.perf_counter())
            self.tokens.append(logs["num_tokens"])
            self.losses.append(logs["loss"])


def train(run: SftRun, dataset: Any, collator: Any) -> tuple[float, float]:
    """Return the tokens per second after the first step, and the loss of the first step."""
    args = trl_config(run)
    model_path = str(BUNDLED_MODELS["tiny"])
    clock = Clock()
    trainer = SFTTrainer(
        model=load_weights(model_path, run, bf16=False),
        args=args,
        train_dataset=dataset,
        data_collator=collator,
        processing_class=load_processor(model_path),
        callbacks=[clock],
    )
    trainer.train()
    seconds = clock.ends[-1] - clock.ends[0]
    return (clock.tokens[-1] - clock.tokens[0]) / seconds, clock.losses[0]


def main() -> None:
    """Train with both trainers and print the medians."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        settings = SynthSettings(
            source="pixelworld",
            count=8 * (STEPS + 1),
            families=("attribute", "video"),
            budgets=folder_settings(BUNDLED_MODELS["tiny"]).budgets,
        )
        traces = Path(folder) / "traces"
        synthesize(settings, scene_units(settings), traces)
        export_trl(traces, Path(folder) / "rows")
        trl = {"max_steps": STEPS, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
        trl |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
        run = SftRun(traces=(str(traces),), out=f"{folder}/out", mask=False, trl=trl)
        ours = TraceCollator(load_processor(str(BUNDLED_MODELS["tiny"])), mask=False)
        prepared = prepare(
            trace_dataset(run.traces)[0], ours, Path(folder) / "prepared" / "x.arrow"
        )
        results: dict[str, list[tuple[float, float]]] = {"stock": [], "ours": []}
        for _ in range(ROUNDS):
            results["stock"].append(train(run, load_from_disk(f"{folder}/rows"), None))
            results["ours"].append(train(run, prepared, ours))
    rates = {name: statistics.median(rate for rate, _ in runs) for name, runs in results.items()}
    first = {name: runs[0][1] for name, runs in results.items()}
    for name, rate in rates.items():
        print(f"{name:<6} {rate:8.0f} tokens/s   first loss {first[name]:.6f}")
    print(f"ratio  {rates['ours'] / rates['stock']:8.2f}            (at least 1.0)")
    print(f"first losses differ by {abs(first['ours'] - first['stock']):.1e}   (at most 1e-4)")


if __name__ == "__main__":
    main()
