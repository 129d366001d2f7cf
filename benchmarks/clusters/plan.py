"""`train sft|rl --plan --gpu this` next to the real run: memory and time, at several sizes.

    PYTHONPATH=src:benchmarks python -m clusters.plan [--short] [NAME ...]

Each case runs the plan and the run as commands of their own. Seconds are those of the main thread (`time.thread_time`)
in both, because other programs share the two cores: they leave out waiting for other processes. Memory is the peak of
the resident memory minus the peak of the same run with a model of almost no weights: libraries, data and pictures. Freed
tensors go back to the system at once (`MALLOC`), or the peak would contain gaps in the heap of up to 0.2 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clusters.record import Result, save
from pixel_reasoner.files import write_json

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.2
FLOOR = "within 20 %"
VOCABULARY = 4000
CLOCK = "import time; time.perf_counter = time.thread_time\n"
COMMAND = "from pixel_reasoner import cli; cli.main()"
STEPS = 6
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
"""blocks of this size and larger are mapped one by one; glibc raises the limit to 32 MiB while a program runs"""


class Case(NamedTuple):
    """One model, one kind of run, one number of processes."""

    name: str
    model: str
    """`tiny`, or a key of `SHAPES`"""
    kind: str
    """`sft` or `rl`"""
    lora: int = 0
    processes: int = 1


SHAPES = {
    "almost nothing": ("qwen2_5_vl", 64, 1),
    "Qwen2.5-VL, 384 wide, 6 layers": ("qwen2_5_vl", 384, 6),
    "Qwen2.5-VL, 768 wide, 4 layers": ("qwen2_5_vl", 768, 4),
    "Qwen3-VL, 512 wide, 8 layers": ("qwen3_vl", 512, 8),
}
"""model -> family, width, layers"""
CASES = (
    Case("bundled model, SFT", "tiny", "sft"),
    Case("Qwen2.5-VL 384 x 6, SFT", "Qwen2.5-VL, 384 wide, 6 layers", "sft"),
    Case("Qwen2.5-VL 768 x 4, SFT, LoRA", "Qwen2.5-VL, 768 wide, 4 layers", "sft", lora=16),
    Case("Qwen3-VL 512 x 8, SFT", "Qwen3-VL, 512 wide, 8 layers", "sft"),
    Case("Qwen2.5-VL 768 x 4, SFT, 2 processes", "Qwen2.5-VL, 768 wide, 4 layers", "sft", 0, 2),
    Case("Qwen2.5-VL 384 x 6, RL", "Qwen2.5-VL, 384 wide, 6 layers", "rl"),
    Case("Qwen2.5-VL 768 x 4, RL", "Qwen2.5-VL, 768 wide, 4 layers", "rl"),
    Case("Qwen3-VL 512 x 8, RL, LoRA", "Qwen3-VL, 512 wide, 8 layers", "rl", lora=16),
    Case("Qwen2.5-VL 384 x 6, RL, 2 processes", "Qwen2.5-VL, 384 wide, 6 layers", "rl", 0, 2),
)
SHORT = CASES[1], CASES[5]


class Measured(NamedTuple):
    """Planned or real numbers of a run."""

    step_s: float
    memory_gib: float


# --- models and data ---


def build_model(name: str, folder: Path) -> None:
    """Write a model folder with random weights, and the tokenizer and budgets of the bundled model."""
    import torch
    from transformers import AutoModelForImageTextToText

    from pixel_reasoner.dialects import COMPACT
    from pixel_reasoner.models.folder import FolderSettings, folder_settings, model_folder

    family, width, layers = SHAPES[name]
    processor, config = (qwen2_5 if family == "qwen2_5_vl" else _qwen3)(width, layers)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    tokenizer = processor.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    budgets = folder_settings(model_folder("tiny")).budgets
    patch = config.vision_config.patch_size * config.vision_config.spatial_merge_size
    budgets = budgets.model_copy(update={"multiple": patch})
    settings = FolderSettings(dialect=COMPACT.name, budgets=budgets)
    write_json(settings.model_dump(mode="json"), folder / "pixel_reasoner.json")


def _tokens() -> tuple[Any, dict[str, int]]:
    from pixel_reasoner.models.folder import model_folder
    from pixel_reasoner.models.local import load_processor

    processor = load_processor(str(model_folder("tiny")))
    ids = processor.tokenizer.convert_tokens_to_ids
    names = ("image", "video")
    found = {f"{name}_token_id": ids(f"<|{name}_pad|>") for name in names}
    ends = {f"vision_{end}_token_id": ids(f"<|vision_{end}|>") for end in ("start", "end")}
    return processor, found | ends


def _text(width: int, layers: int) -> dict[str, Any]:
    heads = width // 64
    return {
        "hidden_size": width,
        "intermediate_size": round(width * 2.75 / 64) * 64,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
    }


def qwen2_5(width: int, layers: int) -> tuple[Any, Any]:
    """Return a processor and a configuration of Qwen2.5-VL."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    bundled, ids = _tokens()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    vision = {
        "depth": layers,
        "hidden_size": width // 2,
        "intermediate_size": width,
        "num_heads": max(1, width // 128),
        "fullatt_block_indexes": [layers - 1],
        "patch_size": 14,
        "window_size": 112,
        "out_hidden_size": width,
    }
    text = _text(width, layers) | {"rope_parameters": rope}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **ids
    )
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 1024 * 1024}
    patches = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=sizes, **patches),
        video_processor=Qwen2VLVideoProcessor(size=sizes, **patches),
        tokenizer=bundled.tokenizer,
        chat_template=bundled.chat_template,
    )
    return processor, config


def _qwen3(width: int, layers: int) -> tuple[Any, Any]:
    from transformers import Qwen3VLConfig

    bundled, ids = _tokens()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    vision = {
        "depth": layers,
        "hidden_size": width // 2,
        "intermediate_size": width,
        "num_heads": max(1, width // 128),
        "patch_size": 16,
        "out_hidden_size": width,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 2304,
    }
    text = _text(width, layers) | {"rope_parameters": rope}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    return bundled, config


def write_traces(folder: Path, model: str) -> None:
    """Write the traces of an SFT run."""
    from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
    from pixel_reasoner.models.folder import folder_settings, model_folder

    settings = SynthSettings(
        source="pixelworld",
        count=STEPS * 4,
        families=("attribute",),
        budgets=folder_settings(model_folder(model)).budgets,
        dialect="compact",
    )
    synthesize(settings, scene_units(settings), folder)


def write_run(case: Case, folder: Path, model: str) -> Path:
    """Write the TOML file of a run."""
    common = f'out = "run"\nmodel = "{model}"\nlora_rank = {case.lora}\n'
    trl = (
        f'[trl]\nmax_steps = {STEPS}\nsave_strategy = "no"\ndisable_tqdm = true\nreport_to = "none"\nlearning_rate = 1e-5\n'
        "per_device_train_batch_size = 2\n"
    )
    if case.kind == "sft":
        text = f'traces = ["traces"]\n{common}{trl}gradient_accumulation_steps = 2\n'
    else:
        text = (
            f"{common}questions_per_sync = 2\ngroup_size = 4\nminibatch = 8\nrollouts_at_once = 8\nmax_turns = 2\n"
            "max_new_tokens = 48\nsample_every = 0\nreplay = false\nmask_truncated = false\n"
            '[pixelworld]\ncount = 16\nfamilies = ["attribute"]\n'
            f"{trl}max_completion_length = 400\n"
        )
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- commands ---


def command(case: Case, path: Path, *more: str, processes: int = 1) -> str:
    """Run `pixel-reasoner train` on one thread with the clock of its main thread, and return what it prints."""
    script = path.parent / "command.py"
    script.write_text(CLOCK + COMMAND, encoding="utf-8")
    launch = [sys.executable]
    if processes > 1:
        port = str(29000 + os.getpid() % 2000)
        launch += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
        launch += ["--master_port", port]
    done = subprocess.run(
        [*launch, str(script), "train", case.kind, str(path), *more],
        env={**os.environ, **MALLOC, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise SystemExit(f"{case.name}: {done.stderr[-3000:]}")
    return done.stdout


def planned(case: Case, path: Path) -> Measured:
    """Return the numbers of `--plan`. A random model neither calls operations nor ends: one turn of full length."""
    text = command(
        case,
        path,
        *("--plan", "--gpu", "this", "--gpus", str(case.processes)),
        *("--turns", "1", "--turn-tokens", "48"),
    )
    memory = re.search(r"memory per process: ([\d.]+) GiB", text)
    seconds = re.search(r"time: ([\d.]+) s per gradient step", text)
    assert memory, text
    assert seconds, text
    return Measured(float(seconds[1]), float(memory[1]))


def executed(case: Case, path: Path) -> Measured:
    """Return the numbers of the real run.

    Seconds are those of the mean step at the speed of the fastest: other programs slow some steps down. Memory is the peak
    of the largest process.
    """
    out = path.parent / "run"
    shutil.rmtree(out, ignore_errors=True)
    command(case, path, processes=case.processes)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "seconds/step" in row]
    last = rows[-1]
    peak = last.get("perf/max/peak_memory_gib", last["perf/peak_memory_gib"])
    tokens = [row["perf/tokens_per_s"] * row["seconds/step"] for row in rows]
    fastest = max(row["perf/tokens_per_s"] for row in rows[1:])
    return Measured(statistics.fmean(tokens) / fastest, peak)


def run_case(case: Case, folder: Path) -> tuple[Measured, Measured]:
    """Return the plan and the run of a case. Models are kept for other cases."""
    model = "tiny"
    if case.model != "tiny":
        model = str(folder / case.model.replace(" ", "-").replace(",", ""))
        if not Path(model).exists():
            build_model(case.model, Path(model))
    own = Path(tempfile.mkdtemp(dir=folder))
    if case.kind == "sft":
        write_traces(own / "traces", model)
    path = write_run(case, own, model)
    return planned(case, path), executed(case, path)


def compare(cases: Sequence[Case], folder: Path) -> list[Result]:
    """Return planned and real time and memory of each case."""
    libraries = {}
    results = []
    for case in cases:
        key = (case.kind, case.processes)
        if key not in libraries:
            empty = case._replace(model="almost nothing", lora=0)
            plan, run = run_case(empty, folder)
            libraries[key] = run.memory_gib - plan.memory_gib
        plan, run = run_case(case, folder)
        memory = run.memory_gib - libraries[key]
        results += [
            _result(case.name, "seconds of a gradient step", plan.step_s, run.step_s, "s"),
            _result(case.name, "memory without libraries", plan.memory_gib, memory, "GiB"),
        ]
        for one in results[-2:]:
            print(f"{'ok    ' if one.passed else 'FAILED'} {one.path}: {one.measure}: {one.value}")
    return results


def _result(name: str, measure: str, plan: float, real: float, unit: str) -> Result:
    error = plan / real - 1
    value = f"planned {plan:.3g} {unit}, measured {real:.3g} {unit}: {error:+.0%}"
    return Result(f"--plan, {name}", measure, value, FLOOR, abs(error) <= TOLERANCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="two cases; writes no record")
    parser.add_argument("names", nargs="*", help="parts of names of cases")
    given = parser.parse_args()
    started = time.perf_counter()
    cases = [one for one in CASES if any(name in one.name for name in given.names)]
    with tempfile.TemporaryDirectory() as folder:
        results = compare(cases or (SHORT if given.short else CASES), Path(folder))
    if not (given.short or cases):
        seconds = time.perf_counter() - started
        save("plan", results, ("torch", "transformers", "trl", "peft"), seconds=seconds)
    sys.exit(not all(one.passed for one in results))


if __name__ == "__main__":
    main()
