"""Metrics of gradient steps: FLOPs, phases, tokens per second, memory over processes, and stack dumps of stalls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText

from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.train.config import MonitorConfig, RlRun
from pixel_reasoner.train.monitor.flops import (
    ModelShape,
    Work,
    forward_flops,
    picture_tokens,
    placeholder_ids,
    sequence_work,
    training_flops,
)
from pixel_reasoner.train.monitor.hardware import GPUS, find_gpu, measure_flops, peak_flops
from pixel_reasoner.train.monitor.stalls import StallWatchdog
from pixel_reasoner.train.monitor.throughput import generation_work, step_metrics
from pixel_reasoner.train.monitor.timing import PHASES, StepTimer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TINY = str(BUNDLED_MODELS["tiny"])


@cache
def tiny_model():
    """Bundled model with an attention whose FLOPs torch can count: all pairs, masked or not."""
    return AutoModelForImageTextToText.from_pretrained(TINY, attn_implementation="eager")


@cache
def inputs():
    """Prompt with two pictures of different sizes."""
    pictures = [Image.new("RGB", size, "red") for size in ((256, 192), (128, 128))]
    content = [*({"type": "image", "image": one} for one in pictures)]
    messages = [
        [{"role": "user", "content": [*content, {"type": "text", "text": "Which letter?"}]}]
    ]
    return load_processor(TINY).apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt"
    )


def counted_flops(backward: bool = False) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        loss = tiny_model()(**inputs()).logits.sum()
        if backward:
            loss.backward()
    tiny_model().zero_grad()
    return counter.get_total_flops()


def prompt_work() -> tuple[ModelShape, Work]:
    shape = ModelShape.of(tiny_model())
    ids = inputs()["input_ids"][0]
    pictures = picture_tokens(ids, placeholder_ids(tiny_model().config))
    assert len(pictures) == 2
    work = sequence_work(shape, len(ids), pictures)
    return shape, work._replace(pairs=len(ids) ** 2)  # torch counts the masked pairs too


# --- FLOPs ---


def test_flops_of_a_forward_pass_are_those_that_torch_counts():
    assert forward_flops(*prompt_work()).total == pytest.approx(counted_flops(), rel=0.01)


@pytest.mark.parametrize("trains_vision", [True, False])
def test_flops_of_a_training_step_are_those_that_torch_counts(trains_vision):
    tiny_model().requires_grad_(True)
    tiny_model().model.visual.requires_grad_(trains_vision)
    found = training_flops(*prompt_work(), is_lora=False, trains_vision=trains_vision)
    # Pixels need no gradient: 5 % of this model, whose patches are large next to its tower.
    tolerance = 0.06 if trains_vision else 0.01
    assert found == pytest.approx(counted_flops(backward=True), rel=tolerance)


def test_frozen_weights_under_a_lora_have_no_gradient_of_their_own():
    tiny_model().requires_grad_(False)
    embeddings = tiny_model().get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda *given: given[2].requires_grad_())
    found = training_flops(*prompt_work(), is_lora=True)
    assert found == pytest.approx(counted_flops(backward=True), rel=0.03)
    handle.remove()
    tiny_model().requires_grad_(True)


def test_cached_tokens_cost_only_the_attention_to_them():
    shape = ModelShape.of(tiny_model())
    whole, first = sequence_work(shape, 100), sequence_work(shape, 60)
    rest = sequence_work(shape, 100, num_cached=60)
    assert first + rest == whole
    assert sequence_work(shape, 1).pairs == 1
    assert rest.pairs == sum(range(61, 101))


def rollout(prompt: list[int], completion: list[int], mask: list[bool]) -> SimpleNamespace:
    draft = SimpleNamespace(
        prompt_ids=prompt, completion_ids=completion, loss_mask=mask, ids=prompt + completion
    )
    return SimpleNamespace(sequences=[draft])


def test_the_prompt_of_a_group_is_counted_once_and_logits_for_generated_tokens_only():
    shape, placeholder = ModelShape.of(tiny_model()), 9
    prompt = [1, placeholder, placeholder, 2]
    one = rollout(prompt, [5, 6, placeholder, 7], [True, True, False, True])
    work = generation_work(shape, [one, one], [placeholder])
    assert work.tokens == 4 + 2 * 4
    assert work.pairs == 4 * 5 / 2 + 2 * (5 + 6 + 7 + 8)
    assert work.head_tokens == 2 * 3
    assert work.patches == (2 + 2 * 1) * shape.patches_per_token


def test_windowed_attention_counts_the_pairs_of_its_windows():
    shape = ModelShape.of(tiny_model())._replace(window_patches=64, patches_per_token=4)
    assert sequence_work(shape, 500, [400]).window_pairs == 1600 * 64
    assert sequence_work(shape, 500, [4]).window_pairs == 16 * 16


# --- peaks ---


def test_the_peak_is_the_given_one_or_measured():
    cpu = torch.device("cpu")
    assert peak_flops(cpu, torch.float32, 2.5) == 2.5e12
    measured = measure_flops(cpu, torch.float32, size=256, seconds=0.02)
    assert 1e8 < measured < 1e14


@pytest.mark.parametrize("name", GPUS)
def test_each_listed_gpu_is_found_by_its_name(name):
    assert find_gpu(f"NVIDIA {name}-80GB") is GPUS[name]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_monitor_rejects_impossible_numbers(value):
    with pytest.raises(UsageError, match="stall_timeout_s of 0 or more"):
        MonitorConfig(stall_timeout_s=value)


# --- phases ---


def test_phases_are_exclusive_and_add_up_to_the_step():
    timer = StepTimer()
    timer.start()
    with timer.phase("other"):
        with timer.phase("generation"):
            time.sleep(0.02)
        time.sleep(0.01)
    found = timer.finish()
    assert sum(found[name] for name in PHASES) == pytest.approx(found["step"])
    assert found["generation"] >= 0.02 > found["other"] >= 0.01


def test_moved_seconds_stay_in_the_step_and_are_never_negative():
    timer = StepTimer()
    timer.start()
    with timer.phase("generation"):
        timer.move(100.0, "generation", "operations")
        time.sleep(0.01)
    found = timer.finish()
    assert found["generation"] >= 0.01
    assert 0 < found["operations"] < 1
    assert sum(found[name] for name in PHASES) == pytest.approx(found["step"])


def test_the_time_between_two_steps_is_not_part_of_a_step():
    timer = StepTimer()
    timer.start()
    timer.finish()
    time.sleep(0.02)
    timer.start()
    found = timer.finish()
    assert found["between"] >= 0.02 > found["step"]


def test_metrics_of_several_processes_are_means_with_the_lowest_and_the_highest():
    seconds = {"step": 10.0, "between": 0.0} | dict.fromkeys(PHASES, 0.0)

    def row(update: float, memory: float) -> list[float]:
        numbers = seconds | {"update": update, "ranks": 10 - update}
        return [*numbers.values(), memory, memory, 0.0, 100.0, 200.0, 1e12, 3e12, 1e12]

    found = step_metrics(torch.tensor([row(4, 1.0), row(8, 3.0)], dtype=torch.float32))
    assert found["seconds/update"] == 6
    assert (found["perf/min/seconds/update"], found["perf/max/seconds/update"]) == (4, 8)
    assert found["perf/share/ranks"] == pytest.approx(0.4)
    assert (found["perf/min/memory_gib"], found["perf/max/memory_gib"]) == (1, 3)
    assert found["perf/mfu"] == pytest.approx((2 * 1e12 + 2 * 3e12) / (10 * 2e12))
    assert found["perf/mfu_update"] == pytest.approx(6e12 / (6 * 2e12))
    assert found["perf/trained_tokens_per_s"] == pytest.approx(400 / 6)
    assert found["perf/tokens_per_s"] == pytest.approx(400 / 20)
    assert "perf/generated_tokens_per_s" not in found, "no second of generation"
    assert "perf/cuda_memory_gib" not in found


# --- stalls ---


def test_a_process_that_makes_no_progress_writes_its_stacks_once_per_stall(tmp_path, capfd):
    watchdog = StallWatchdog(tmp_path, 3, timeout_s=0.1)
    with watchdog.watching():
        for step in (1, 2):
            watchdog.on_step_end(None, SimpleNamespace(global_step=step), None)
            time.sleep(0.4)
    text = watchdog.path.read_text()
    assert watchdog.path == tmp_path / "stalls" / "rank-3.txt"
    assert text.count("no step for 0.1 s") == 2
    assert "after step 2" in text
    assert "test_a_process_that_makes_no_progress" in text
    assert capfd.readouterr().err == "", "only the first process prints"


def test_a_process_with_progress_writes_nothing(tmp_path):
    watchdog = StallWatchdog(tmp_path, 0, timeout_s=0.3)
    with watchdog.watching():
        for step in range(8):
            watchdog.on_step_end(None, SimpleNamespace(global_step=step), None)
            time.sleep(0.05)
    assert not watchdog.folder.exists()
    assert "stall watchdog" not in [thread.name for thread in threading.enumerate()]


# --- runs ---


def small_rl(folder: Path, text: str = "") -> Path:
    path = folder / "rl.toml"
    path.write_text(
        f'out = "rl"\nquestions_per_sync = 2\ngroup_size = 2\nminibatch = 4\nrollouts_at_once = 4\nmax_turns = 2\n'
        "max_new_tokens = 24\nsample_every = 0\nreplay = false\n[pixelworld]\ncount = 2\n"
        '[trl]\nmax_steps = 2\nmax_completion_length = 200\nsave_strategy = "no"\ndisable_tqdm = true\n'
        f"per_device_train_batch_size = 2\n{text}"
    )
    return path


def read_log(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "seconds/step" in row]


@pytest.fixture(scope="module")
def rl_run(tmp_path_factory) -> Path:
    """RL on the bundled model in one process, with TensorBoard."""
    from pixel_reasoner.train.rl import train_rl

    folder = tmp_path_factory.mktemp("observed")
    train_rl(RlRun.read(small_rl(folder)))
    return folder / "rl"


@pytest.mark.medium
def test_each_step_of_a_run_is_logged_with_phases_rates_and_memory(rl_run):
    rows = read_log(rl_run)
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        shares = [row[f"perf/share/{name}"] for name in PHASES]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert row["seconds/generation"] > 0 < row["seconds/update"]
        assert 0 < row["perf/mfu"] < 1.5, "the peak is measured on a shared machine"
        assert 0.2 < row["perf/memory_gib"] <= row["perf/peak_memory_gib"] + 0.01
        assert row["perf/generated_tokens_per_s"] > 0 < row["perf/trained_tokens_per_s"]
        assert not [name for name in row if name.startswith(("perf/min", "perf/max"))]


@pytest.mark.medium
def test_tensorboard_gets_the_metrics_of_each_step(rl_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = rl_run.rglob("events.out.tfevents.*")
    found = EventAccumulator(str(events)).Reload()
    logged = {row["step"]: row["perf/mfu"] for row in read_log(rl_run)}
    written = {one.step: one.value for one in found.Scalars("train/perf/mfu")}
    assert written == pytest.approx(logged)


STALLED = """
import sys, time
from pathlib import Path
import torch.distributed as dist
from pixel_reasoner.train import callbacks, rl
from pixel_reasoner.train.config import RlRun
run = RlRun.read(Path(sys.argv[1]))
def wait(self, questions, settings, real=rl.PixelReasonerTrainer._generate_rollouts):
    if dist.get_rank() == 1:
        time.sleep(float(sys.argv[2]))
    return real(self, questions, settings)
rl.PixelReasonerTrainer._generate_rollouts = wait
rl.train_rl(run)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_slow_process_shows_as_waiting_of_the_other_and_in_the_stacks_of_both(tmp_path):
    script = tmp_path / "stalled.py"
    script.write_text(STALLED)
    path = small_rl(tmp_path, "[monitor]\nstall_timeout_s = 2\npeak_tflops = 0.1\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, "--master_port", "29611", str(script), str(path), "3"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    stacks = [(tmp_path / "rl" / "stalls" / f"rank-{n}.txt").read_text() for n in (0, 1)]
    assert "wait_for_everyone" in stacks[0], "the first process waits for the second"
    lines = STALLED.splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if "time.sleep" in line)
    asleep = re.compile(rf'stalled\.py", line {number} in wait')
    assert [bool(asleep.search(one)) for one in stacks] == [False, True]
    assert done.stderr.count("the stacks of all processes are in") in (1, 2), "once per stall"
    for row in read_log(tmp_path / "rl"):
        assert row["perf/max/seconds/ranks"] > 2 > row["perf/min/seconds/ranks"]
        assert row["perf/max/seconds/generation"] < 2, "waiting is no generation"
        assert row["perf/share/ranks"] > 0.3
