"""Training with several processes: sharded weights, blank pictures, resumed and refused runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from clusters.folders import CLASSES, build_folder
from clusters.sharded_runs import (
    generated,
    largest_difference,
    resumed_toml,
    rl_toml,
    sft_toml,
    shares,
    steps_of,
    write_questions,
    write_traces,
)
from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.train.checkpoints import find_checkpoint_problem
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.sft import TraceCollator
from pixel_reasoner.train.sharding.layout import Layout, check_batch_size, save_layout
from pixel_reasoner.train.sharding.processes import check_processes, fingerprint
from pixel_reasoner.train.sharding.setup import sharding_options, start_processes, wrapped_classes
from pixel_reasoner.train.trl_config import sft_batches

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]
needs_deepspeed = pytest.mark.skipif(
    not any((Path(one) / "deepspeed").is_dir() for one in sys.path), reason="no deepspeed"
)
SHARDINGS = [
    "fsdp2",
    pytest.param("zero2", marks=needs_deepspeed),
    pytest.param("zero3", marks=needs_deepspeed),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Folder with traces and questions, some of them without pictures."""
    folder = tmp_path_factory.mktemp("data")
    write_traces(
        folder / "traces", 6, 6
    )  # a multiple of 6: epochs end equally with 1, 2 and 3 processes
    write_questions(folder / "questions", 4)
    return folder


def sft(data: Path, tmp_path: Path, **top: object) -> SftRun:
    return SftRun.read(sft_toml(tmp_path / "run.toml", data / "traces", steps=2, **top))


# --- settings ---


@pytest.mark.parametrize(
    ("top", "trl", "message"),
    [
        ('sharding = "fsdp"', "", "sharding fsdp2, zero2, zero3"),
        ("", "fsdp = true", 'set sharding = "fsdp2"'),
        ("", "deepspeed = { }", 'set sharding = "zero3"'),
        ('sharding = "fsdp2"', "deepspeed = { }", 'set sharding = "zero3"'),
        ('sharding = "zero3"', 'deepspeed = "ds.json"', "write its options in the run"),
        ("batch_size = 4", "gradient_accumulation_steps = 2", "remove the one under"),
    ],
)
def test_sharding_is_set_at_one_place(tmp_path, top, trl, message):
    path = tmp_path / "run.toml"
    path.write_text(f'traces = "a"\nout = "b"\n{top}\n[trl]\n{trl}\n')
    with pytest.raises(UsageError, match=message):
        SftRun.read(path)


def test_an_option_of_deepspeed_that_trl_has_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'traces = "a"\nout = "b"\nsharding = "zero3"\n[trl.deepspeed.bf16]\nenabled = true\n'
    )
    with pytest.raises(UsageError, match=r"set bf16 under \[trl\]"):
        sharding_options(SftRun.read(path))


@pytest.mark.parametrize(
    ("variable", "sharding"), [("ACCELERATE_USE_FSDP", ""), ("ACCELERATE_USE_DEEPSPEED", "fsdp2")]
)
def test_a_configuration_of_accelerate_with_other_sharding_is_refused(
    monkeypatch, data, tmp_path, variable, sharding
):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UsageError, match="set sharding = "):
        start_processes(sft(data, tmp_path, sharding=sharding))


def test_processes_that_would_train_alone_are_refused(monkeypatch, data, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="each process would train alone"):
        check_processes(sft(data, tmp_path), SimpleNamespace(world_size=1))


def test_one_process_on_several_gpus_is_refused(monkeypatch, data, tmp_path):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(UsageError, match="start it with torchrun"):
        start_processes(sft(data, tmp_path, sharding="fsdp2"))


def test_the_batch_size_of_a_run_is_that_of_all_processes(monkeypatch, data, tmp_path):
    run = sft(data, tmp_path, batch_size=6)
    for processes, accumulation in ((1, 6), (2, 3), (3, 2)):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        assert sft_batches(run) == {"gradient_accumulation_steps": accumulation}
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="multiple of 1 traces x 4 processes"):
        sft_batches(run)


def test_a_run_does_not_continue_with_another_batch_size(tmp_path):
    save_layout(Layout(2, "fsdp2", 6), tmp_path)
    args = SimpleNamespace(per_device_train_batch_size=1, gradient_accumulation_steps=3)
    trainer = SimpleNamespace(
        args=args,
        run=SimpleNamespace(sharding="fsdp2"),
        accelerator=SimpleNamespace(num_processes=2),
    )
    check_batch_size(trainer, tmp_path)
    trainer.accelerator.num_processes = 1
    with pytest.raises(UsageError, match="got 3 with 1 processes"):
        check_batch_size(trainer, tmp_path)


def test_a_fingerprint_changes_with_a_file_and_a_setting(data, tmp_path):
    run = sft(data, tmp_path)
    before = fingerprint(run)
    assert fingerprint(run) == before
    assert before["torch"] == torch.__version__.split("+")[0]
    (data / "traces" / "more.txt").write_text("1")
    assert set(fingerprint(run)) - set(before) == {str(data / "traces" / "more.txt")}
    (data / "traces" / "more.txt").unlink()
    other = fingerprint(sft(data, tmp_path, lora_rank=4))
    assert {name for name in before if before[name] != other[name]} == {"lora_rank"}


def test_shards_without_metadata_are_an_incomplete_checkpoint(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"global_step": 2}')
    (tmp_path / "optimizer_0").mkdir()
    assert find_checkpoint_problem(tmp_path) == "optimizer_0 has no .metadata"
    (tmp_path / "optimizer_0" / ".metadata").write_text("")
    assert find_checkpoint_problem(tmp_path) is None


# --- models ---


@pytest.fixture(scope="module", params=["tiny", *CLASSES])
def model(request, tmp_path_factory) -> LocalModel:
    if request.param == "tiny":
        return LocalModel("tiny")
    return LocalModel(str(build_folder(request.param, tmp_path_factory.mktemp("folder"))))


def test_the_wrapped_classes_are_decoder_layers_and_vision_blocks(model):
    vision, language = wrapped_classes(model.model)
    assert vision.endswith("VisionBlock")
    assert language.endswith("DecoderLayer")


def test_a_blank_picture_changes_neither_loss_nor_gradients(model, data):
    texts = [trace for trace in load_run(data / "traces") if not trace.question.media]
    found = []
    for add_blank in (False, True):
        processor = load_processor(model.model.name_or_path)
        if not has_generation_markers(processor.chat_template):
            processor.chat_template = get_training_chat_template(processor)
        collator = TraceCollator(processor, mask=False, add_blank=add_blank)
        batch = collator([collator.prepare_trace(trace) for trace in texts[:2]])
        assert ("pixel_values" in batch) is add_blank
        model.model.zero_grad()
        loss = model.model(**batch).loss
        loss.backward()
        weights = model.model.model.language_model.parameters()
        found.append((loss.item(), [weight.grad.clone() for weight in weights]))
    (plain, grads), (blank, others) = found
    assert blank == pytest.approx(plain, abs=1e-6)
    assert all(
        torch.allclose(one, other, atol=1e-5) for one, other in zip(grads, others, strict=True)
    )


# --- runs ---


def train(*commands: tuple[int, str, Path]) -> None:
    """Train runs one after the other, each with its number of processes, and fail if one of them does."""
    values = []
    for processes, kind, path in commands:
        arguments = ["scripted", str(path)] if kind == "rl" else ["train", kind, str(path)]
        values.append([processes, arguments, str(path.with_suffix(".log"))])
    file = commands[0][2].with_suffix(".json")
    file.write_text(json.dumps(values))
    paths = [*sys.path, str(Path(__file__).parents[1] / "benchmarks")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-m", "clusters.forked", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
        env=environment,
    )
    logs = [Path(value[2]).read_text()[-2000:] for value in values if Path(value[2]).exists()]
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("exit code 0") == len(values), done.stdout + "\n".join(logs)


@pytest.mark.medium
@needs_deepspeed
def test_sharded_runs_have_the_losses_of_one_process_also_without_a_picture(data, tmp_path):
    """Batches of one trace: of two processes, one has no picture now and then. Without blank pictures both would wait forever."""
    one = sft_toml(tmp_path / "one.toml", data / "traces", steps=2)
    fsdp2, zero3 = (
        sft_toml(tmp_path / f"{name}.toml", data / "traces", steps=2, sharding=name)
        for name in ("fsdp2", "zero3")
    )
    train((1, "sft", one), (2, "sft", fsdp2), (2, "sft", zero3))
    for path in (fsdp2, zero3):
        assert largest_difference(one, path) < 1e-3
        assert largest_difference(one, path, "grad_norm") < 1e-3
        assert max(shares(path)) < 0.51
        assert LocalModel(str(path.with_suffix("") / "model")).dialect == "compact"


@pytest.mark.slow
def test_an_untied_output_head_gets_the_gradient_of_all_processes(tmp_path):
    """TRL multiplies with the head's weight. In a group of its own, FSDP2 would keep one process's gradient."""
    folder = build_folder("qwen2_5_vl", tmp_path / "folder")
    assert not LocalModel(str(folder)).model.config.tie_word_embeddings
    write_traces(tmp_path / "traces", 2, 0, folder)
    one, two = (
        sft_toml(
            tmp_path / f"{name}.toml", tmp_path / "traces", steps=1, model=folder, sharding=sharding
        )
        for name, sharding in (("one", ""), ("two", "fsdp2"))
    )
    train((1, "sft", one), (2, "sft", two))
    assert largest_difference(one, two, "grad_norm") < 1e-4


@pytest.mark.slow
def test_sharded_rl_generates_the_turns_of_one_process_and_has_its_losses(data, tmp_path):
    one = rl_toml(tmp_path / "one.toml", data / "questions", steps=2)
    two = rl_toml(tmp_path / "two.toml", data / "questions", steps=2, sharding="fsdp2")
    train((1, "rl", one), (2, "rl", two))
    assert largest_difference(one, two) < 1e-3
    assert largest_difference(one, two, "grad_norm") < 1e-2
    assert max(shares(two)) < 0.51
    assert sorted(generated(one)) == sorted(generated(two))
    assert generated(one)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("lora_rank", [0, 4], ids=["all weights", "lora"])
def test_a_sharded_run_resumes_with_one_and_three_processes(data, tmp_path, sharding, lora_rank):
    top = {"batch_size": 6, "sharding": sharding, "lora_rank": lora_rank}
    two = sft_toml(tmp_path / "two.toml", data / "traces", steps=4, **top)
    train((2, "sft", two))
    one, three = (resumed_toml(tmp_path / f"{name}.toml", two, 2) for name in ("one", "three"))
    train((1, "sft", one), (3, "sft", three))
    for path in (one, three):
        assert "continues at checkpoint-2" in path.with_suffix(".log").read_text()
        assert largest_difference(two, path) < 1e-4
        assert largest_difference(two, path, "grad_norm") < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("lora_rank", [0, 4], ids=["all weights", "lora"])
def test_sharded_rl_trains_all_weights_and_adapters(data, tmp_path, sharding, lora_rank):
    one = rl_toml(tmp_path / "one.toml", data / "questions", steps=4, lora_rank=lora_rank)
    top = {"sharding": sharding, "lora_rank": lora_rank}
    two = rl_toml(tmp_path / "two.toml", data / "questions", steps=4, **top)
    train((1, "rl", one), (2, "rl", two))
    assert largest_difference(one, two) < 1e-3
    assert sorted(generated(one)) == sorted(generated(two))
    assert LocalModel(str(two.with_suffix("") / "model")).dialect == "compact"


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("model_type", CLASSES)
def test_random_folders_are_trained_sharded(data, tmp_path, sharding, model_type):
    folder = build_folder(model_type, tmp_path / "folder")
    command = ["synth", "pixelworld", "--count", "4", "--family", "attribute", "--model"]
    subprocess.run(
        [sys.executable, "-m", "pixel_reasoner.cli", *command, folder, "--out", tmp_path / "synth"],
        check=True,
        capture_output=True,
    )
    one = sft_toml(tmp_path / "one.toml", tmp_path / "synth", steps=4, model=folder)
    two = sft_toml(
        tmp_path / "two.toml", tmp_path / "synth", steps=4, model=folder, sharding=sharding
    )
    train((1, "sft", one), (2, "sft", two))
    assert largest_difference(one, two) < 1e-3
    assert largest_difference(one, two, "grad_norm") < 1e-3


# --- torchrun ---


def launch(*arguments: str) -> subprocess.Popen[str]:
    """Start two processes with torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*command, "--nproc_per_node", "2", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )


@pytest.mark.medium
def test_processes_with_different_files_give_one_error(data, tmp_path):
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
        write_toml = sft_toml(tmp_path / f"run-{rank}.toml", data / "traces", steps=2 + 2 * rank)
        text = write_toml.read_text().replace(f'out = "run-{rank}"', 'out = "run"')
        write_toml.write_text(text)
    script = f'{sys.executable} -m pixel_reasoner.cli train sft "{tmp_path}/run-$RANK.toml"'
    started = time.monotonic()
    _, errors = launch("--no-python", "bash", "-c", script).communicate(timeout=120)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert "the same trl in all 2 processes" in lines[0]
    assert '"max_steps": 2' in lines[0]
    assert "in process 1" in lines[0]
    assert time.monotonic() - started < 60


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["one", "all"])
def test_a_killed_run_continues_to_the_same_losses(data, tmp_path, victim):
    whole = sft_toml(tmp_path / "whole.toml", data / "traces", steps=8, sharding="fsdp2")
    train((2, "sft", whole))
    path = sft_toml(tmp_path / "killed.toml", data / "traces", steps=8, sharding="fsdp2")
    command = ("-m", "pixel_reasoner.cli", "train", "sft", str(path))
    process = launch(*command)
    deadline = time.monotonic() + 200
    while not (tmp_path / "killed" / "checkpoint-4" / "trainer_state.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = list(map(int, children))  # in groups of their own
    for one in workers[-1:] if victim == "one" else [process.pid, *workers]:
        os.kill(one, signal.SIGKILL)
    process.communicate(timeout=120)
    assert not (tmp_path / "killed" / "model").exists()
    assert launch(*command).wait(timeout=300) == 0
    assert sorted(steps_of(path)) == list(range(1, 9))
    assert largest_difference(whole, path) < 1e-4
