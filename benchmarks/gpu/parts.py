"""Parts of `runs/gpu.sh`. Each is a function of a `Setting` that returns numbers by name, or raises `NotRun`.

Weights are random and have the shapes of Qwen2.5-VL. A dry run has the same parts, with a toy shape on the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

import real_size
from clusters.vllm_process import ENVIRONMENT, TRAINING_ENVIRONMENT, TRAINING_FLAGS
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.models.engine import Engine, ImageInput, Sequence as EngineSequence
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train import weights
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.monitor.hardware import GIB
from pixel_reasoner.train.rl import train_rl
from pixel_reasoner.train.sft import train_sft
from pixel_reasoner.train.vllm.options import VllmOptions

Numbers = dict[str, Any]


class NotRun(Exception):
    """A part that cannot be measured here, with the reason."""


class Setting(NamedTuple):
    """Machine and sizes of a run of all parts."""

    folder: Path
    """models and outputs of training"""
    is_dry: bool

    @property
    def device(self) -> str:
        """Device of the models."""
        return "cpu" if self.is_dry else "cuda"

    def shape(self, name: str) -> str:
        """Return the name of a shape, or of the toy shape."""
        return "toy" if self.is_dry else name

    def model(self, name: str) -> Path:
        """Return the folder of a model, built by `build_3b` or `build_7b`."""
        folder = self.folder / f"model-{self.shape(name)}"
        if not (folder / "pixel_reasoner.json").exists():
            raise NotRun(f"the model {name} was not built")
        return folder


# --- models ---


def build(setting: Setting, name: str) -> Numbers:
    """Write a model folder with random weights."""
    folder = setting.folder / f"model-{setting.shape(name)}"
    started = time.perf_counter()
    count = 0
    if not (folder / "pixel_reasoner.json").exists():
        count = real_size.build(setting.shape(name), folder, setting.device)
    return {"parameters": count, "seconds": time.perf_counter() - started}


# --- generation ---

NEW_TOKENS = 128
PICTURE_TOKENS = 1024


def engine(setting: Setting, name: str) -> Numbers:
    """Time the engine: questions about a picture each, all at once, with a fixed number of new tokens."""
    model = setting.model(name)
    count, new_tokens = (2, 4) if setting.is_dry else (64, NEW_TOKENS)
    processor = load_processor(str(model))
    loaded = Qwen2_5_VLForConditionalGeneration.from_pretrained(model, dtype=torch.bfloat16)
    loaded = loaded.to(setting.device).eval()
    found: list[Numbers] = []
    for seed in range(2):  # the first run compiles and allocates
        started = time.perf_counter()
        made = Engine(loaded, processor.image_processor, [-1])
        for sequence in _sequences(processor, count, new_tokens, seed):
            made.add_request(sequence)
        while made.waiting:
            made.step()
        _synchronize(setting)
        prefill = time.perf_counter() - started
        while made.has_unfinished:
            made.step()
        _synchronize(setting)
        total = time.perf_counter() - started
        found.append(
            {
                "sequences": count,
                "prefill_s": prefill,
                "decode_ms_per_step": (total - prefill) / max(1, new_tokens - 1) * 1e3,
                "generated_tokens_per_s": count * new_tokens / total,
            }
        )
    return found[-1] | _gpu_memory(setting)


def _sequences(processor: Any, count: int, new_tokens: int, seed: int) -> list[EngineSequence]:
    tokenizer = processor.tokenizer
    start, pad, end = tokenizer.convert_tokens_to_ids(
        ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    )
    sequences = []
    for number in range(count):
        image = Image.effect_noise((896, 896), 32 + (seed * count + number) % 64).convert("RGB")
        text = tokenizer(f"What is in picture {number}? " + "word " * 40)["input_ids"]
        ids = [start, *[pad] * PICTURE_TOKENS, end, *text]
        sequences.append(EngineSequence(ids, (ImageInput.of(image),), new_tokens))
    return sequences


def vllm(setting: Setting, name: str) -> Numbers:
    """Time vLLM on the same questions, in its own environment: VLLM_PYTHON, `.venv-vllm`, or this one."""
    model = setting.model(name)
    python = vllm_python()
    if python is None:
        raise NotRun("vllm is not installed: set VLLM_PYTHON to an interpreter that has it")
    count, new_tokens = (2, 4) if setting.is_dry else (64, NEW_TOKENS)
    script = Path(__file__).with_name("vllm_speed.py")
    done = subprocess.run(
        [python, str(script), str(model), str(count), str(new_tokens)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"vLLM failed: {done.stderr[-1500:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def vllm_python() -> str | None:
    """Return an interpreter with vLLM; None if there is none."""
    root = Path(__file__).parents[2]
    for python in (os.environ.get("VLLM_PYTHON"), str(root / ".venv-vllm" / "bin" / "python")):
        if python and Path(python).exists():
            return python
    return sys.executable if importlib.util.find_spec("vllm") else None


# --- training ---


def sft(setting: Setting, *, lora: int) -> Numbers:
    """Measure MFU and memory of SFT of the 7B shape: packed rows of a picture and a crop each."""
    _save_nothing()
    model = setting.model("7b")
    traces = setting.folder / "traces"
    if not (traces / "traces.jsonl").exists():
        settings = SynthSettings(
            source="pixelworld",
            count=4 if setting.is_dry else 32,
            families=("attribute",),
            budgets=real_size.BUDGETS,
            dialect="compact",
        )
        synthesize(settings, scene_units(settings), traces)
    run = SftRun(
        traces=(str(traces),),
        out=str(setting.folder / f"sft-{lora}"),
        model=str(model),
        lora_rank=4 if lora and setting.is_dry else lora,
        trl={
            "max_steps": 1 if setting.is_dry else 5,
            "per_device_train_batch_size": 1 if setting.is_dry else 4,
            "gradient_accumulation_steps": 1 if setting.is_dry else 2,
            "gradient_checkpointing": not lora,
            **_TRL,
        },
    )
    train_sft(run)
    return _training_numbers(setting, Path(run.out))


def rl(setting: Setting, name: str, *, lora: int) -> Numbers:
    """Measure the phases and the memory of RL: rollouts of two turns with forced tokens (`real_size`)."""
    _save_nothing()
    out = setting.folder / f"rl-{name}-{lora}"
    given = argparse.Namespace(
        questions=1 if setting.is_dry else 2,
        lora=4 if lora and setting.is_dry else lora,
        steps=1 if setting.is_dry else 5,
        micro_batch=8 if setting.is_dry else 4,
    )
    real_size.train(given, setting.model(name), out)
    return _training_numbers(setting, out)


_TRL = {"learning_rate": 1e-6, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}


def _training_numbers(setting: Setting, out: Path) -> Numbers:
    """Return the median metrics of the steps after the first two, and the memory."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "seconds/step" in row]
    rows = rows[2:] or rows
    names = [name for name in rows[-1] if name.startswith(("seconds/", "perf/"))]
    found = {name: statistics.median(row[name] for row in rows if name in row) for name in names}
    return found | _gpu_memory(setting)


def _save_nothing() -> None:
    """Leave out the model at the end: writing 16 GB takes longer than the measurement."""
    weights.save_model = lambda *_: None  # type: ignore[assignment]
    weights.write_model_card = lambda *_: None  # type: ignore[assignment]


def _gpu_memory(setting: Setting) -> Numbers:
    if setting.is_dry:
        return {}
    return {
        "allocated_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
    }


def _synchronize(setting: Setting) -> None:
    if not setting.is_dry:
        torch.cuda.synchronize()


# --- RL with a vLLM server on the same GPU ---

SERVER_SHARE = 0.35
"""of the memory of the GPU"""
SERVER_START_S = 240.0


def colocated_vllm(setting: Setting) -> Numbers:
    """Measure RL with a vLLM server on the same GPU, which sleeps during updates."""
    model, python = setting.model("3b"), vllm_python()
    if python is None:
        raise NotRun("vllm is not installed: set VLLM_PYTHON to an interpreter that has it")
    _save_nothing()
    out = setting.folder / "rl-vllm"
    with _server(setting, python, model) as url:
        share = 0.0 if setting.is_dry else SERVER_SHARE
        train_rl(_server_run(setting, model, out, VllmOptions(url=(url,), colocated_memory=share)))
    return _training_numbers(setting, out)


def _server_run(setting: Setting, model: Path, out: Path, vllm: VllmOptions) -> RlRun:
    """Return a run whose rollouts a server generates: one turn of random tokens each."""
    questions = 1 if setting.is_dry else 2
    return RlRun(
        out=str(out),
        model=str(model),
        pixelworld=WorldMix(families=("attribute",), count=32, overview_share=0.0),
        questions_per_sync=questions,
        minibatch=questions * 8,
        rollouts_at_once=questions * 8,
        max_turns=2,
        max_new_tokens=4 if setting.is_dry else 64,
        mask_truncated=False,
        reward_functions=(f"{Path(real_size.__file__).resolve()}:coin",),
        sample_every=0,
        vllm=vllm,
        trl={
            "max_steps": 1 if setting.is_dry else 4,
            "per_device_train_batch_size": 4,
            "max_completion_length": 512,
            **_TRL,
        },
    )


@contextlib.contextmanager
def _server(setting: Setting, python: str, model: Path) -> Iterator[str]:
    """Start a server for training, and provide its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", port]
    command += ["--host", "127.0.0.1", "--max-model-len", "4096", *TRAINING_FLAGS]
    command += ["--limit-mm-per-prompt", json.dumps({"image": 4, "video": 0})]
    command += (
        ["--enforce-eager", "--dtype", "float32"] if setting.is_dry else ["--enable-sleep-mode"]
    )
    command += [] if setting.is_dry else ["--gpu-memory-utilization", SERVER_SHARE]
    environment = (ENVIRONMENT if setting.is_dry else {}) | TRAINING_ENVIRONMENT
    log = setting.folder / "vllm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        _wait_for(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while True:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"{url}/health", timeout=5).status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text()[-1500:]}")
        time.sleep(0.5)


class Part(NamedTuple):
    """One measurement with its time limit."""

    name: str
    limit_s: float
    run: Callable[[Setting], Numbers]


PARTS = (
    Part("build_3b", 60, lambda setting: build(setting, "3b")),
    Part("engine_3b", 50, lambda setting: engine(setting, "3b")),
    Part("rl_3b", 90, lambda setting: rl(setting, "3b", lora=0)),
    Part("build_7b", 90, lambda setting: build(setting, "7b")),
    Part("engine_7b", 60, lambda setting: engine(setting, "7b")),
    Part("sft_7b_lora", 80, lambda setting: sft(setting, lora=64)),
    Part("rl_7b_lora", 80, lambda setting: rl(setting, "7b", lora=64)),
    Part("sft_7b_full", 90, lambda setting: sft(setting, lora=0)),
    Part("vllm_3b", 120, lambda setting: vllm(setting, "3b")),
    Part("vllm_7b", 120, lambda setting: vllm(setting, "7b")),
    Part("colocated_vllm", 150, colocated_vllm),
)
"""in order; what comes late may be left out when the time is over"""
