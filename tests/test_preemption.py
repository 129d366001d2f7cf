"""Preemption of training: signals, the stop file, several processes, and requeued jobs of SLURM."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from clusters.schedulers import Slurm, losses, run_uninterrupted, run_with_two_stops, wait_for
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.errors import PreemptedError
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.train import preemption
from pixel_reasoner.train.callbacks import LogCallback
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.preemption import SIGNALS, STOP, PreemptionCallback
from pixel_reasoner.train.sft import train_sft

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TRL = """
learning_rate = 1e-3
per_device_train_batch_size = 1
gradient_accumulation_steps = 1
save_strategy = "no"
report_to = "none"
"""


@pytest.fixture(scope="module")
def synth(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth")
    budgets = folder_settings(BUNDLED_MODELS["tiny"]).budgets
    settings = SynthSettings(source="pixelworld", count=8, families=("attribute",), budgets=budgets)
    synthesize(settings, scene_units(settings), out)
    return out


def write_run(folder: Path, synth: Path, steps: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "run.toml"
    path.write_text(f'traces = ["{synth}"]\nout = "out"\n[trl]\nmax_steps = {steps}\n{TRL}')
    return path


@pytest.fixture
def handlers():
    """Restore the signal handlers after a test that installs some."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


# --- the callback ---


def stopped_steps(callback: PreemptionCallback, *, max_steps: int = 8, **rl: int) -> list[int]:
    """Return the steps at which a run without preemption would be stopped."""
    stopped = []
    for step in range(1, max_steps + 1):
        control = SimpleNamespace(should_save=False, should_training_stop=False)
        state = SimpleNamespace(
            global_step=step, max_steps=max_steps, is_world_process_zero=callback.trainer.is_main
        )
        callback.on_step_end(SimpleNamespace(**rl), state, control)
        assert control.should_save == control.should_training_stop
        stopped += [step] if control.should_save else []
    return stopped


def callback_of(out: Path, *, is_main: bool = True) -> PreemptionCallback:
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cpu")),
        is_main=is_main,
        is_world_process_zero=lambda: is_main,
    )
    return PreemptionCallback(trainer, out)


def test_a_run_stops_at_a_step_or_at_the_end_of_a_policy_sync_but_not_at_its_last_step(tmp_path):
    callback = callback_of(tmp_path)
    assert stopped_steps(callback) == []
    (tmp_path / STOP).touch()
    assert stopped_steps(callback) == [1, 2, 3, 4, 5, 6, 7]
    rl = {"steps_per_generation": 6, "gradient_accumulation_steps": 2, "num_iterations": 1}
    assert stopped_steps(callback, **rl) == [3, 6]


def test_a_signal_to_another_process_stops_this_one_at_the_same_step(tmp_path, monkeypatch):
    """The sum over processes decides, and the stop file is read by the main process only."""
    (tmp_path / STOP).touch()
    callback = callback_of(tmp_path, is_main=False)
    sent = []

    def gather_sum(value, trainer):
        sent.append(value)
        return torch.tensor(value + (len(sent) == 3))

    monkeypatch.setattr(preemption.distributed, "gather_sum", gather_sum)
    assert stopped_steps(callback) == [3]
    assert sent == [0.0] * 8, "every step is a collective call of every process"
    with pytest.raises(PreemptedError, match="a signal to another process after checkpoint-3"):
        callback.finish()
    assert (tmp_path / STOP).exists(), "the main process removes it"


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_for_the_step_and_the_second_ends_the_process(
    tmp_path, handlers, number
):
    received = []
    signal.signal(number, lambda number, frame: received.append(number))
    callback = callback_of(tmp_path)
    callback.on_train_begin(None, None, None)
    os.kill(os.getpid(), number)
    assert received == []
    assert stopped_steps(callback, max_steps=2) == [1]
    os.kill(os.getpid(), number)
    assert received == [number], "the handler from before training has run"
    callback.restore_handlers()
    with pytest.raises(PreemptedError, match=f"{number.name} after checkpoint-1"):
        callback.finish()


# --- a run ---


@pytest.mark.medium
def test_a_signal_ends_a_run_after_a_checkpoint_and_it_resumes_to_the_same_losses(
    tmp_path, synth, monkeypatch, handlers, capfd
):
    whole, parts = (write_run(tmp_path / name, synth, 4) for name in ("whole", "parts"))
    train_sft(SftRun.read(whole))

    def send(self, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(LogCallback, "on_step_begin", send, raising=False)
        with pytest.raises(PreemptedError, match="SIGTERM after checkpoint-3"):
            train_sft(SftRun.read(parts))
    assert not (parts.parent / "out" / "model").exists()
    assert {one: signal.getsignal(one) for one in SIGNALS} == handlers
    train_sft(SftRun.read(parts))
    assert "continues at checkpoint-3\n" in capfd.readouterr().err
    assert losses(parts.parent) == pytest.approx(losses(whole.parent), abs=1e-6)


@pytest.mark.medium
def test_a_stop_file_ends_the_command_with_one_line_and_its_own_exit_code(tmp_path, synth, run):
    path = write_run(tmp_path / "run", synth, 2)
    stop = path.parent / "out" / STOP
    stop.parent.mkdir()
    stop.touch()
    code, _, err = run("train", "sft", path)
    assert code == 75
    line = f"stopped by {stop} after checkpoint-1: run the same command again, it continues there"
    assert line in err.splitlines()
    assert not stop.exists()
    assert run("train", "sft", path)[0] == 0
    assert list(losses(path.parent)) == [1, 2]


@pytest.mark.slow
def test_rl_stops_at_the_end_of_a_policy_sync_and_resumes_to_the_same_losses(
    tmp_path, monkeypatch, handlers
):
    """Two steps a sync: a signal in step 1 stops at step 2."""
    from pixel_reasoner.train.rl import train_rl
    from rl_fixture import run_of

    sizes = {"questions_per_sync": 2, "minibatch": 4, "rollouts_at_once": 8, "replay": True}
    trl = {"max_steps": 4, "learning_rate": 1e-4}
    whole, parts = (run_of(tmp_path / n / "out", **sizes, trl=trl) for n in ("whole", "parts"))
    train_rl(whole)

    def send(self, args, state, control, **kwargs):
        if state.global_step == 0:
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(LogCallback, "on_step_begin", send, raising=False)
        with pytest.raises(PreemptedError, match="SIGUSR1 after checkpoint-2"):
            train_rl(parts)
    train_rl(parts)
    found = losses(tmp_path / "parts")
    assert list(found) == [1, 2, 3, 4]
    assert found == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)


# --- SLURM ---


def fake_python(folder: Path, body: str) -> str:
    """Return an interpreter that runs a shell script instead of training, and Python for anything else."""
    path = folder / "python"
    path.write_text(
        f'#!/usr/bin/env bash\nif [ "$1" = - ]; then exec {sys.executable} "$@"; fi\n{body}\n'
    )
    path.chmod(0o755)
    return str(path)


def test_every_node_gets_its_own_rank_and_all_the_same_head_node_and_port(tmp_path):
    slurm = Slurm(tmp_path / "slurm")
    (tmp_path / "run.toml").write_text('out = "out"\n')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STOP).touch()  # of a killed attempt
    python = fake_python(tmp_path, f'echo "$*" > {tmp_path}/node-$SLURM_NODEID')
    job = slurm.submit("rl", tmp_path / "run.toml", PYTHON=python, SLURM_GPUS_ON_NODE="8")
    assert job.communicate(timeout=30)[0] == ""
    assert job.returncode == 0
    assert not (tmp_path / "out" / STOP).exists()
    first, second = ((tmp_path / f"node-{n}").read_text() for n in range(2))
    assert first.replace("rank 0", "rank 1") == second
    assert first.rstrip().endswith(f"-m pixel_reasoner.cli train rl {tmp_path}/run.toml")
    assert "--nnodes 2 --nproc_per_node 8" in first
    assert "--master_addr 127.0.0.1 --master_port 24711" in first
    assert slurm.num_requeued == 0
    directives = json.loads((slurm.folder / "directives.json").read_text())
    wanted = {"ntasks-per-node": "1", "signal": "B:USR1@600", "requeue": "", "open-mode": "append"}
    assert wanted.items() <= directives.items()
    assert json.loads((slurm.folder / "srun.json").read_text())["options"] == [
        "--kill-on-bad-exit=1"
    ]


@pytest.mark.parametrize(
    ("sent", "code", "num_requeued"),
    [
        pytest.param(signal.SIGUSR1, 75, 1, id="time limit"),
        pytest.param(signal.SIGUSR1, 0, 0, id="finished before the time limit"),
        pytest.param(signal.SIGTERM, 75, 0, id="scancel"),
        pytest.param(None, 2, 0, id="failed"),
    ],
)
def test_only_an_unfinished_job_at_its_time_limit_is_queued_again(
    tmp_path, sent, code, num_requeued
):
    slurm = Slurm(tmp_path / "slurm")
    (tmp_path / "run.toml").write_text('out = "."\n')
    body = f"touch {tmp_path}/started-$SLURM_NODEID; n=0\n"
    if sent is not None:
        body += (
            f'until [ -e {tmp_path}/stop ] || [ "$SLURM_RESTART_COUNT" = 1 ]; do sleep 0.02; done\n'
        )
    body += f'[ "$SLURM_RESTART_COUNT" = 1 ] && exit 0\nexit {code}'
    job = slurm.submit("sft", tmp_path / "run.toml", PYTHON=fake_python(tmp_path, body))
    if sent is not None:
        wait_for((tmp_path / "started-1").exists, job, timeout_s=20)
        slurm.signal("batch", sent)
    job.communicate(timeout=30)
    assert slurm.num_requeued == num_requeued
    assert job.returncode == (0 if num_requeued else code)


def test_a_wrong_run_file_ends_the_job_before_any_process_starts(tmp_path):
    slurm = Slurm(tmp_path / "slurm")
    job = slurm.submit("sft", tmp_path / "no.toml")
    assert "no.toml" in job.communicate(timeout=30)[0]
    assert job.returncode == 1
    assert not (slurm.folder / "srun.json").exists()


@pytest.mark.slow
def test_a_requeued_job_of_two_nodes_has_the_metrics_of_an_uninterrupted_one(tmp_path, synth):
    """Stopped twice: by the signal before the time limit, and by SIGTERM to the second node alone."""
    whole, parts = (write_run(tmp_path / name, synth, 12) for name in ("whole", "parts"))
    slurm = Slurm(tmp_path / "slurm")
    run_uninterrupted(slurm, whole)
    stops = run_with_two_stops(slurm, parts)
    assert 1 <= stops[0] < stops[1] < 12
    assert losses(parts.parent) == pytest.approx(losses(whole.parent), abs=1e-6)
    states = [load_file(one.parent / "out/model/model.safetensors") for one in (whole, parts)]
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name]), name
