"""Compare `train rl` with TRL's own `GRPOTrainer`: equal model, questions, environment, rewards and settings.

.venv/bin/python benchmarks/rl.py [STEPS] [MODEL] [--speed]

A step is 64 rollouts (8 questions x 8) and one update on them. Both trainers alternate. Prints, for rollouts of two turns and for all
families: rollouts per second of both, their ratio, and the median seconds of our phases; then the memory of a buffer of 4,096
rollouts; then the parity of our RL rollouts and `ask_many` on 200 greedy questions.
"""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pixel_reasoner.models.api import GenerationBackend
from pixel_reasoner.models.engine import Sequence
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.schema.settings import SamplingParams
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import load_questions, question_rows, rollout_config
from pixel_reasoner.train.samples import RolloutSample
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import load_weights
from stock import StockTrainer, stock_rows

GIVEN = [word for word in sys.argv[1:] if word != "--speed"]
STEPS = int(GIVEN[0]) if GIVEN else 6
MODEL = str(model_folder(GIVEN[1] if len(GIVEN) > 1 else "tiny"))
ROUNDS = 2
FAMILIES = ("attribute", "relation", "count", "infographic", "video")
ALL: dict[str, Any] = {"pixelworld": WorldMix(families=FAMILIES, count=40)}
TWO_TURNS: dict[str, Any] = {
    "pixelworld": WorldMix(families=("attribute",), count=40, overview_share=0.0),
    "max_turns": 2,
}
MIXES = {"two turns each": TWO_TURNS, "all families, as many turns as they take": ALL}


class Clock(TrainerCallback):
    """Callback that records the seconds and the logged metrics of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.logs: list[dict[str, float]] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.started)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Record the logged metrics."""
        self.logs.append(logs)


def run_in(folder: Path, **more: Any) -> RlRun:
    trl = {
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "max_completion_length": 1500,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **more.pop("trl", {}),
    }
    sizes = {"questions_per_sync": 8, "group_size": 8, "minibatch": 64, "rollouts_at_once": 64}
    return RlRun(
        out=str(folder),
        model=MODEL,
        max_new_tokens=96,
        replay=False,
        sample_every=0,
        trl=trl,
        **{**sizes, **ALL, **more},
    )


def trainer_of(kind: Any, run: RlRun, *callbacks: Any, model: Any = None) -> Any:
    settings, config = folder_settings(model_folder(run.model)), rollout_config(run)
    questions = load_questions(run)
    is_stock = issubclass(kind, StockTrainer)
    return kind(
        run=run,
        model_settings=settings,
        config=config,
        model=model or load_weights(MODEL, run, bf16=False),
        args=trl_config(run),
        train_dataset=stock_rows(questions, settings, config)
        if is_stock
        else question_rows(questions),
        processing_class=load_processor(MODEL),
        callbacks=list(callbacks),
    )


def speed(folder: Path, mix: str) -> None:
    """Print rollouts per second of both trainers."""
    run = run_in(folder, **MIXES[mix])
    print(f"{mix}:")
    seconds: dict[str, list[float]] = {"ours": [], "stock": []}
    phases: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        for name, kind in (("ours", PixelReasonerTrainer), ("stock", StockTrainer)):
            clock = Clock()
            trainer_of(kind, run, clock).train()
            seconds[name] += clock.seconds[1:]
            phases += [log for log in clock.logs if "seconds/update" in log]
    medians = {name: statistics.median(all_of) for name, all_of in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s per step, {64 / median:.1f} rollouts/s")
    print(f"ours / stock: {medians['stock'] / medians['ours']:.2f} x rollouts/s")
    for phase in ("generation", "operations", "update", "other"):
        print(f"  {phase}: {statistics.median(log[f'seconds/{phase}'] for log in phases):.2f} s")


def memory(folder: Path) -> None:
    """Print the memory of 4,096 rollouts in the buffer."""
    trainer = trainer_of(PixelReasonerTrainer, run_in(folder))
    trainer.model.train()
    rows = list(question_rows(load_questions(run_in(folder))))
    batch = [row for row in rows[:8] for _ in range(8)]
    samples = trainer.generate_samples(batch)
    size = sum(_bytes(sample) for sample in samples) / len(samples)
    print(
        f"buffer: {size / 1000:.1f} kB per rollout in tensors and trace, {4096 * size / 1e6:.0f} MB for 4,096"
    )
    gc.collect()
    before = _resident_mb()
    # Warm-up: the first rounds allocate memory that stays allocated.
    kept = [trainer.generate_samples(batch) for _ in range(2)]
    middle = _resident_mb()
    kept += [trainer.generate_samples(batch) for _ in range(8)]
    grown = _resident_mb() - middle
    print(
        f"resident memory: {before:.0f} MB, then {grown:.1f} MB for {8 * 64} rollouts, "
        f"{grown * 8:.0f} MB for 4,096 ({len(kept)} rounds kept)"
    )


def model_and_rollout_settings(folder: Path) -> tuple[Any, Any]:
    """Return the settings of the model and of its rollouts."""
    return folder_settings(model_folder(MODEL)), rollout_config(run_in(folder))


def _bytes(sample: RolloutSample) -> float:
    tensors = [
        tensor
        for one in sample.sequences
        for tensor in (one.prompt_ids, one.completion_ids, one.loss_mask, *one.per_token.values())
    ]
    size = sum(one.numel() * one.element_size() for one in tensors)
    return size + 3 * len(
        sample.trace.to_line()
    )  # Python objects take about three times the size of their JSON


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Recording(LocalModel):
    """Local model that records finished sequences: `sequences` has those of all turns, by question id."""

    def open_backend(self) -> GenerationBackend:
        """Return a backend whose finished sequences are recorded."""
        backend = super().open_backend()
        if not hasattr(self, "sequences"):
            self.sequences: dict[str, list[Sequence]] = {}
            step = backend.engine.step

            def recorded() -> list[Sequence]:
                finished = step()
                for sequence in finished:
                    question = str(sequence.id).rpartition("/")[0]
                    self.sequences.setdefault(question, []).append(sequence)
                return finished

            backend.engine.step = recorded
        return backend


def parity(folder: Path, count: int = 200) -> None:
    """Compare RL rollouts and `ask_many` on greedy questions: token ids, loss mask, operations."""
    greedy = {"top_k": 1}
    run = run_in(
        folder,
        questions_per_sync=4,
        group_size=2,
        minibatch=8,
        rollouts_at_once=8,
        trl=greedy | {"per_device_train_batch_size": 8},
    )
    questions = load_questions(run)[:: max(1, 40 * len(FAMILIES) // count)][:count]
    trainer = trainer_of(PixelReasonerTrainer, run)
    trainer.model.train()
    rows = list(question_rows(questions))
    samples: dict[str, RolloutSample] = {}
    for start in range(0, len(rows), 4):
        pairs = [row for row in rows[start : start + 4] for _ in range(2)]
        samples |= {one.trace.question.id: one for one in trainer.generate_samples(pairs)}
    config = rollout_config(run).model_copy(update={"sampling": SamplingParams(max_new_tokens=96)})
    model = Recording(MODEL)
    scheduler = get_scheduler(model)
    handles = [
        scheduler.submit(RolloutRequest(question=one, config=config, id=one.id))
        for one in questions
    ]
    traces = {handle.id: handle.result() for handle in handles}
    same = dict.fromkeys(("token ids", "loss mask", "operations"), 0)
    for question in questions:
        sample, trace = samples[question.id], traces[question.id]
        turns = model.sequences[question.id]
        mask = [False] * len(turns[-1].ids)
        for turn in turns:
            mask[turn.num_prompt_tokens : len(turn.ids)] = [True] * len(turn.new_ids)
        (sequence,) = sample.sequences
        ids = [*sequence.prompt_ids.tolist(), *sequence.completion_ids.tolist()]
        trained = [False] * len(sequence.prompt_ids) + sequence.loss_mask.tolist()
        same["token ids"] += ids == turns[-1].ids
        same["loss mask"] += trained == mask
        same["operations"] += [t.call for t in sample.trace.turns] == [t.call for t in trace.turns]
    print(
        f"parity on {len(questions)} questions: " + ", ".join(f"{k} {v}" for k, v in same.items())
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as name:
        for mix in MIXES:
            speed(Path(name) / mix.replace(" ", "-"), mix)
        if "--speed" in sys.argv:
            sys.exit()
        memory(Path(name))
        parity(Path(name))
