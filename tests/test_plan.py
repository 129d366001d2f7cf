"""Plans of runs: time and cost on listed GPUs, measurements on this machine, and the measurements of `runs/gpu.sh`."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2_5_VLConfig

from clusters.plan import SHORT, compare, qwen2_5
from pixel_reasoner import api
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.monitor.hardware import GPUS
from pixel_reasoner.train.plan.calibrate import (
    Row,
    _inputs,
    _peak_bytes,
    _random_model,
    _shallow_configs,
)
from pixel_reasoner.train.plan.data import SftData
from pixel_reasoner.train.plan.estimate import KNOWN_SHAPES
from pixel_reasoner.train.plan.gpu import Shape, Workload, step_seconds

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
ROOT = Path(__file__).parents[1]
SEVEN_B = KNOWN_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]
RL = Workload(256, 2500, 1500, 8, 32, 1800, 200, 64, 16)
H100 = GPUS["H100"]


# --- listed GPUs ---


def test_more_gpus_need_less_time_and_never_fewer_gpu_hours():
    for work in (Workload(128, 2500, 1500, 1), RL):
        seconds = [
            step_seconds(SEVEN_B, work, H100, gpus, is_lora=False).step for gpus in (1, 2, 4, 8)
        ]
        assert seconds == sorted(seconds, reverse=True)
        hours = [one * gpus for one, gpus in zip(seconds, (1, 2, 4, 8), strict=True)]
        assert all(two >= one * 0.999 for one, two in itertools.pairwise(hours))


def test_the_longest_part_is_named_as_the_limit():
    assert (
        step_seconds(SEVEN_B, Workload(128, 2500, 1500), H100, 8, is_lora=False).limit == "update"
    )
    many_micro_batches = Workload(64, 300, 100, micro_batches=64)
    assert step_seconds(SEVEN_B, many_micro_batches, H100, 64, is_lora=False).limit == "network"
    long_answers = RL._replace(generated_tokens=6000, sequence_tokens=8500, rollouts_at_once=4)
    assert step_seconds(SEVEN_B, long_answers, H100, 8, is_lora=False).limit == "generation"


def test_a_lora_computes_less_and_sends_less_to_the_generator():
    full, lora = (step_seconds(SEVEN_B, RL, H100, 8, is_lora=one) for one in (False, True))
    assert lora.compute < full.compute
    assert lora.sync < full.sync / 10
    assert (lora.prefill, lora.decode) == (full.prefill, full.decode)


def test_the_parameters_of_the_largest_known_models_are_those_of_their_shapes():
    for name, mlp, heads in (("32B", 27648, 40), ("72B", 29568, 64)):
        shape: Shape = KNOWN_SHAPES[f"Qwen/Qwen2.5-VL-{name}-Instruct"]
        width, cache = shape.hidden, shape.kv_heads * shape.head_dim
        attention = 2 * width * heads * shape.head_dim + 2 * width * cache
        counted = shape.layers * (attention + 3 * width * mlp) + 2 * 152064 * width + 0.68e9
        assert counted == pytest.approx(shape.parameters, rel=0.01)


def write_rl(folder: Path, **trl: object) -> Path:
    options = "".join(f"{name} = {json.dumps(value)}\n" for name, value in trl.items())
    path = folder / "rl.toml"
    path.write_text(
        'out = "out"\nmodel = "Qwen/Qwen2.5-VL-7B-Instruct"\nrollouts_at_once = 16\n[pixelworld]\ncount = 512\n'
        f"[trl]\nper_device_train_batch_size = 1\n{options}"
    )
    return path


def test_the_command_prints_time_and_cost(run, tmp_path):
    path = write_rl(tmp_path, max_steps=100)
    plan = ("train", "rl", path, "--plan", "--gpus", "16", "--price", "3")
    code, text, _ = run(*plan, "--picture-tokens", "1024")
    assert code == 0
    seconds = float(re.search(r"([\d.]+) s per gradient step", text)[1])
    hours, cost = re.search(
        r"100 steps: [\d.]+ h, ([\d,]+) GPU hours, ([\d,]+) at 3", text
    ).groups()
    assert float(hours) == pytest.approx(seconds * 100 / 3600 * 16, abs=0.7)
    assert float(cost) == pytest.approx(seconds * 100 / 3600 * 16 * 3, abs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpu", "Voodoo 2"), "Voodoo 2"),
        (("--turns", "0"), "1 turn and 1 token or more"),
        (("--price", "-1"), "a price of 0 or more"),
        (("--gpus", "0"), "1 GPU or more"),
    ],
)
def test_impossible_plans_are_one_line(run, tmp_path, options, message):
    code, _, error = run("train", "rl", write_rl(tmp_path), "--plan", *options)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error


# --- this machine ---


@pytest.mark.parametrize("full", [[7, 15, 23, 31], [3], [0, 1, 2, 3]])
def test_the_layers_of_all_measured_models_add_up_to_those_of_the_model(full):
    config = Qwen2_5_VLConfig(
        text_config={"num_hidden_layers": 5},
        vision_config={"depth": max(full) + 1, "fullatt_block_indexes": full},
    )

    def layers(one) -> tuple[int, int, int]:
        blocks = len(one.vision_config.fullatt_block_indexes)
        return one.text_config.num_hidden_layers, one.vision_config.depth - blocks, blocks

    first, kinds = _shallow_configs(config)
    total = list(layers(first))
    for deeper, count in kinds:
        more = [two - one for one, two in zip(layers(first), layers(deeper), strict=True)]
        assert sorted(more) == [0, 0, 1]
        total = [one + count * two for one, two in zip(total, more, strict=True)]
    assert tuple(total) == layers(config)


def test_the_peak_of_a_pass_has_activations_and_their_gradients_but_no_weights():
    layer = torch.nn.Linear(512, 512).requires_grad_(False)
    inputs = torch.ones(64, 512, requires_grad=True)
    activation = inputs.nbytes
    passed = _peak_bytes(lambda: layer(inputs).relu().sum().backward(), torch.device("cpu"))
    assert 2 * activation <= passed <= 4 * activation < layer.weight.nbytes


def test_micro_batches_are_padded_to_their_longest_sequence():
    data = SftData(3, [Row(10, (4,), 2), Row(30, (), 5), Row(20, (4, 4), 3)])
    for rows in data.micro_batches(2):
        assert len({row.tokens for row in rows}) == 1
        assert rows[0].tokens in (10, 20, 30)


def test_a_frozen_vision_encoder_under_a_lora_has_no_graph():
    _, config = qwen2_5(64, 1)
    run = SftRun(traces=("t",), out="out", lora_rank=2)
    adapted = _random_model(run, config, torch.device("cpu"))
    base = adapted.get_base_model()
    base.enable_input_require_grads()  # as TRL does with gradient checkpointing
    base.gradient_checkpointing_enable({"use_reentrant": False})
    outputs = []
    base.model.visual.register_forward_hook(
        lambda module, given, out: outputs.append(out.pooler_output)
    )
    inputs = _inputs(config, [Row(40, (16,), 10)])
    del inputs["labels"]
    adapted.train()(**inputs).logits.sum().backward()
    assert not outputs[0].requires_grad
    trained = [one for one in adapted.parameters() if one.requires_grad]
    assert trained
    assert all(one.grad is not None for one in trained)


@pytest.mark.medium
def test_a_plan_of_this_machine_needs_no_weights_and_tells_memory_and_time(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(BUNDLED_MODELS["tiny"]).iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).symlink_to(path)
    with pytest.raises(OSError, match=r"safetensors|pytorch_model"):
        AutoModelForImageTextToText.from_pretrained(folder)
    rl = RlRun.read(write_rl(tmp_path, max_steps=7, max_completion_length=300))
    fields = {one: getattr(rl, one) for one in rl.__dataclass_fields__}
    small = {"questions_per_sync": 2, "group_size": 2, "minibatch": 4, "rollouts_at_once": 4}
    lines = api.plan_rl(
        RlRun(**fields | small | {"model": str(folder)}), gpus=1, gpu="this", turn_tokens=20
    )
    assert re.fullmatch(r"memory per process: 0\.\d+ GiB and libraries", lines[0])
    assert re.match(r"time: [\d.]+ s per gradient step \([\d.]+ s generation, .* 7 steps", lines[1])
    assert AutoConfig.from_pretrained(folder).get_text_config().num_hidden_layers == 4


@pytest.mark.slow
def test_planned_memory_is_near_that_of_real_runs(tmp_path):
    # Times are the benchmark's: other tests share the cores.
    for one in compare(SHORT, tmp_path):
        error = abs(float(re.search(r"([+-]\d+)%", one.value)[1]))
        assert "memory" not in one.measure or error < 60, one


# --- runs/gpu.sh ---


@pytest.mark.slow
def test_all_measurements_of_the_gpu_script_run_with_toy_shapes(tmp_path):
    done = subprocess.run(
        [ROOT / "runs" / "gpu.sh", "--dry", "--out", tmp_path],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    records = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    states = {name: one["status"] for name, one in records.items()}
    assert {name for name, state in states.items() if state != "ok"} <= {
        "vllm_3b",
        "vllm_7b",
        "colocated_vllm",
    }
    assert len(records) == 11
    assert records["sft_7b_lora"]["numbers"]["perf/mfu_update"] > 0
    assert records["rl_3b"]["numbers"]["perf/share/generation"] > 0
    assert sum(one["seconds"] for one in records.values()) < 300


def test_the_table_of_the_page_on_scale_equals_the_plan():
    sys.path.insert(0, str(ROOT / "docs"))
    import scale_curves

    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert scale_curves.insert_table(page) == page, "python docs/scale_curves.py writes it"
