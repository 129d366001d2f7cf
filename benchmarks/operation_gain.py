"""Gain of an operation that is off by default: the bundled model, fine-tuned on synthesized traces with it.

    python benchmarks/operation_gain.py FOLDER NAME [--traces 1200] [--steps 150] [--questions 300]
    python benchmarks/operation_gain.py FOLDER --table           # of all operations measured so far

NAME is a case of `CASES`, for example `read_text`. Each case has a family of PixelWorld whose questions need the operation. Three arms answer
the same held-out questions (test split): the bundled model with the default operations, the fine-tuned model with the
operation, and a control: the bundled model, fine-tuned for as many steps on the same questions with the default
operations. Steps that are finished are not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner import api
from pixel_reasoner.evals.compare import compare
from pixel_reasoner.evals.run import Evaluation, evaluate
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, RolloutConfig, SamplingParams
from pixel_reasoner.sources.pixelworld import PixelWorldSource, Selection
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.sft import train_sft


class Case(NamedTuple):
    """An operation, and the family of questions that need it."""

    operation: str
    family: str
    has_control: bool = True
    """whether traces with the default operations exist"""


CASES = {
    "read_text": Case("read_text", "infographic"),
    "zoom_time": Case("zoom_time", "brief", has_control=False),
    "compare": Case("compare", "relation"),
    "measure": Case("measure", "distance"),
    "mark": Case("mark", "crowd"),
    "turns": Case("zoom_variants", "turned"),
    "contrast": Case("zoom_variants", "faint"),
}
ARMS = ("bundled", "control", "operation")
ZOOM = {"margin": 0.0, "min_side": 0.18}
"""size of crops on which the bundled model was trained"""


def operations_of(case: Case, arm: str) -> tuple[str, ...]:
    """Return the operations of an arm."""
    added = (case.operation,) if arm == "operation" else ()
    return (*DEFAULT_OPERATIONS, *added)


def synthesize(case: Case, arm: str, folder: Path, count: int) -> None:
    """Write the training traces of an arm."""
    api.synthesize(
        api.SynthSpec(
            source="pixelworld",
            out=folder / arm / "synth",
            families=case.family,
            count=count,
            per_scene=2 if case.family == "brief" else 3,
            text_share=0.0,
            operations=operations_of(case, arm),
            **ZOOM,
        )
    )


def train(arm: str, folder: Path, steps: int) -> Path:
    """Fine-tune the bundled model on the traces of an arm; return its folder."""
    run = SftRun(
        traces=(str(folder / arm / "synth"),),
        out=str(folder / arm / "sft"),
        ask_count=0,
        trl={
            "learning_rate": 1e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "per_device_train_batch_size": 16,
            "gradient_accumulation_steps": 1,
            "max_steps": steps,
            "save_steps": 20,
            "save_total_limit": 1,
            "logging_steps": 10,
            "use_cpu": True,
        },
    )
    return train_sft(run)


def held_out_questions(case: Case, folder: Path, count: int) -> list[Question]:
    """Return questions of the test split that need the operation, one per scene."""
    source = PixelWorldSource(
        families=(case.family,),
        split="test",
        count=count,
        selection=Selection.ONE,
        overview_share=0.0,
    )
    return [one for one in source.questions(folder) if isinstance(one, Question)]


def measure_arm(case: Case, arm: str, model: str, folder: Path, count: int) -> dict[str, object]:
    """Ask the held-out questions; return the summary of the run."""
    out = folder / arm / "eval"
    questions = held_out_questions(case, out, count)
    config = RolloutConfig(
        operations=operations_of(case, arm), sampling=SamplingParams(max_new_tokens=192)
    )
    task = {"name": "operation_gain", "family": case.family, "count": count}
    return evaluate(Evaluation(questions, LocalModel(model), config, task), out)


def run(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Measure all arms of a case."""
    case, here = CASES[name], folder / name
    for arm in options.arms.split(","):
        if arm == "control" and not case.has_control:
            continue
        started, model = time.perf_counter(), "tiny"
        if arm != "bundled":
            synthesize(case, arm, here, options.traces)
            model = str(train(arm, here, options.steps))
        trained = time.perf_counter()
        summary = measure_arm(case, arm, model, here, options.questions)
        print(
            f"{name} {arm}: accuracy {summary['accuracy']} {summary['accuracy_interval']}, "
            f"RaPR {summary['rapr']}, tokens {summary['new_tokens_per_question']}, "
            f"{trained - started:.0f} s to train, {time.perf_counter() - trained:.0f} s to ask",
            flush=True,
        )


def table(folder: Path) -> None:
    """Print the results of all cases as a table, with paired differences."""
    print("| case | family | arm | questions | accuracy | to the bundled model | to the control |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, case in CASES.items():
        for arm in ARMS:
            out = folder / name / arm / "eval"
            if not (out / "summary.json").exists():
                continue
            summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
            low, high = summary["accuracy_interval"]
            differences = [
                difference(out, folder / name / other / "eval") if other != arm else "–"
                for other in ("bundled", "control")
            ]
            print(
                f"| {name} | {case.family} | {arm} | {summary['count']} | "
                f"{summary['accuracy']:.3f} ({low:.3f} to {high:.3f}) | {' | '.join(differences)} |"
            )


def difference(first: Path, second: Path) -> str:
    """Return the paired difference of two runs with its interval."""
    if not (second / "summary.json").exists():
        return "–"
    found = compare(load_run(first), load_run(second))["difference"]
    low, high = found["interval"]
    return f"{found['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", nargs="?", choices=[*CASES])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--traces", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args()
    if options.table or options.name is None:
        table(options.folder)
    else:
        run(options.name, options.folder, options)


if __name__ == "__main__":
    main()
