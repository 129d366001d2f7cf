"""Warm-start tuning: early errors of configs, content of batches, and resumed runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pixel_reasoner.data.encode import encode
from pixel_reasoner.data.formats import export_trl
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.errors import InputError, ModelError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.reports.training_log import read_log
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Trace, Turn, save_traces
from pixel_reasoner.train.callbacks import LogCallback
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.sft import (
    IGNORE,
    TraceCollator,
    prepare,
    trace_dataset,
    train_sft,
)
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import last_checkpoint, save_model
from pixel_reasoner.workflows.world import prompt_settings

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def synth(tmp_path_factory) -> Path:
    """Folder with a few traces of both families."""
    out = tmp_path_factory.mktemp("synth")
    settings = SynthSettings(
        source="pixelworld",
        count=16,
        families=("attribute", "video"),
        budgets=folder_settings(BUNDLED_MODELS["tiny"]).budgets,
    )
    synthesize(settings, scene_units(settings), out)
    return out


@pytest.fixture(scope="module")
def processor():
    return load_processor(str(BUNDLED_MODELS["tiny"]))


def write_run(folder: Path, synth: Path, text: str = "", trl: str = "") -> Path:
    path = folder / "run.toml"
    path.write_text(f'traces = ["{synth}"]\nout = "out"\n{text}\n[trl]\n{trl}\n')
    return path


# --- configs ---


def test_paths_of_a_run_are_relative_to_its_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('traces = "a/traces.jsonl"\nout = "b"\n[trl]\nlearning_rate = 1e-5\n')
    run = SftRun.read(path)
    assert run.traces == (str(tmp_path / "a/traces.jsonl"),)
    assert run.out == str(tmp_path / "b")
    assert run.trl == {"learning_rate": 1e-5}


def test_a_folder_does_not_hide_a_bundled_model(tmp_path):
    for name in ("tiny", "mine"):
        (tmp_path / name).mkdir()
    assert SftRun.read(write_run(tmp_path, tmp_path, 'model = "tiny"')).model == "tiny"
    mine = SftRun.read(write_run(tmp_path, tmp_path, 'model = "mine"')).model
    assert mine == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("text", "trl", "message"),
    [
        ("lora_rnk = 8", "", "did you mean lora_rank"),
        ("lora_rank = -1", "", "0 or more"),
        ('lora_rank = "8"', "", "lora_rank as int"),
        ("lora_rank = true", "", "lora_rank as int"),
        ("lora_alpha = 8", "", "set lora_rank"),
        ("lora_rank = 8\ntrain_vision = true", "", "frozen vision tower"),
        ("ask_every = 5", "", "set ask_count"),
        ("eval_traces = 5", "", "list of texts"),
        ("", 'eval_strategy = "steps"', "eval_traces"),
        ("", 'output_dir = "x"', "set out at the top"),
        ("", "packing = true", "remove it"),
        ("broken", "", "TOML"),
        ("model = tiny", "", 'texts need quotes: model = "tiny"'),
        ("[reward]\nalpha = 1", "", "reward, which belongs to `train rl`.*give this file to"),
        ('questions = "a"', "", "questions, which belongs to `train rl`"),
    ],
)
def test_an_invalid_run_fails_before_anything_is_loaded(tmp_path, text, trl, message):
    with pytest.raises((UsageError, InputError), match=message):
        SftRun.read(write_run(tmp_path, tmp_path, text, trl))


def test_a_file_of_the_other_phase_is_named(tmp_path):
    with pytest.raises(UsageError, match="traces, which belongs to `train sft`"):
        RlRun.read(write_run(tmp_path, tmp_path))


def test_a_model_that_is_the_folder_of_a_run_or_nearly_a_name_is_named(tmp_path, run):
    (tmp_path / "sft" / "model").mkdir(parents=True)
    (tmp_path / "sft" / "model" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"a training run. Fix: use .*sft/model"):
        local_model(str(tmp_path / "sft"))
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        local_model("tinny")
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        prompt_settings("tinny")


def test_own_rows_instead_of_traces_are_recognised(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"image": "a.png", "question": "What?", "answer": "it"}\n')
    with pytest.raises(InputError, match=r"own rows .* run `pixel-reasoner synth jsonl --data "):
        trace_dataset([str(rows)])
    rows.write_text("[]\n")
    with pytest.raises(InputError, match=r"rows.jsonl, line 1: .* give the folder"):
        trace_dataset([str(rows)])


@pytest.mark.parametrize(
    ("trl", "message"),
    [("lerning_rate = 1e-5", "did you mean learning_rate"), ('optim = "sdg"', "SFTConfig")],
)
def test_options_of_trl_are_checked_by_name(tmp_path, trl, message):
    with pytest.raises(UsageError, match=message):
        trl_config(SftRun.read(write_run(tmp_path, tmp_path, trl=trl)))


def test_the_errors_of_a_missing_file_and_a_missing_key_name_them(tmp_path):
    with pytest.raises(InputError, match=r"gone\.toml"):
        SftRun.read(tmp_path / "gone.toml")
    path = tmp_path / "run.toml"
    path.write_text('out = "b"')
    with pytest.raises(UsageError, match="traces"):
        SftRun.read(path)
    with pytest.raises(InputError, match="No such file"):
        trace_dataset([str(tmp_path / "gone.jsonl")])


def test_traces_for_two_models_are_not_mixed(tmp_path, synth):
    other = next(iter(load_run(synth)))
    settings = other.settings.model_copy(update={"dialect": "pixel_reasoner"})
    other = other.model_copy(update={"settings": settings})
    save_traces([other], tmp_path / "traces.jsonl")
    with pytest.raises(InputError, match="2 kinds"):
        trace_dataset([str(synth), str(tmp_path)])


# --- batches ---


def test_a_batch_has_the_loss_masks_of_its_traces(synth, processor):
    traces = list(load_run(synth))[:6]
    collator = TraceCollator(processor)
    batch = collator([collator.prepare_trace(trace) for trace in traces])
    for row, trace in enumerate(traces):
        encoded = encode(trace, processor)
        length = len(encoded.token_ids)
        assert batch["input_ids"][row, :length].tolist() == encoded.token_ids
        assert batch["attention_mask"][row].sum() == length
        labels = batch["labels"][row].tolist()
        trained = zip(encoded.token_ids, encoded.trained, strict=True)
        assert labels[:length] == [token if yes else IGNORE for token, yes in trained]
        assert set(labels[length:]) <= {IGNORE}


def test_without_masks_a_batch_equals_that_of_the_trl_trainer(tmp_path, synth, processor):
    from datasets import load_from_disk
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    assert export_trl(synth, tmp_path / "rows") == 16
    rows = load_from_disk(str(tmp_path / "rows"))
    stock = DataCollatorForVisionLanguageModeling(processor)([rows[n] for n in range(6)])
    collator = TraceCollator(processor, mask=False)
    plain = trace_dataset([str(synth)])[0]
    ours = collator([plain[n] for n in range(6)])
    prepared = prepare(plain, collator, tmp_path / "prepared" / "train.arrow")
    again = collator([prepared[n] for n in range(6)])
    assert set(ours) == set(stock) == set(again)
    for name, tensor in stock.items():
        assert torch.equal(ours[name], tensor), name
        assert torch.equal(again[name], tensor), name


def test_prepared_data_are_reused_until_the_traces_change(tmp_path, synth, processor):
    traces = list(load_run(synth))[:3]
    save_traces(traces, tmp_path / "traces.jsonl")
    collator, path = TraceCollator(processor), tmp_path / "prepared" / "train.arrow"

    def first() -> list[int]:
        return prepare(trace_dataset([str(tmp_path)])[0], collator, path)[0]["input_ids"]

    before = first()
    assert first() == before
    assert len(list(path.parent.iterdir())) == 1
    save_traces(traces[::-1], tmp_path / "traces.jsonl")
    assert first() == collator.prepare_trace(traces[2])["input_ids"] != before


def test_traces_without_pictures_can_be_trained(synth, processor):
    settings = next(iter(load_run(synth))).settings
    alone = Trace(
        question=Question(id="sum", text="How much is 1 and 1?", media=(), answer=("2",)),
        turns=(Turn(text="That is 2. \\boxed{2}"),),
        stop=StopReason.ANSWERED,
        answer="2",
        settings=settings,
    )
    collator = TraceCollator(processor)
    model = LocalModel("tiny").model
    assert "pixel_values" not in collator([collator.prepare_trace(alone)] * 2)
    for traces in ([alone, alone], [alone, *list(load_run(synth))[:3]]):
        batch = collator([collator.prepare_trace(trace) for trace in traces])
        loss = model(**batch).loss
        assert torch.isfinite(loss)


def test_preparation_is_atomic(tmp_path, synth, processor, monkeypatch):
    rows, collator = trace_dataset([str(synth)])[0], TraceCollator(processor)
    path = tmp_path / "prepared" / "train.arrow"
    prepare_trace, left = collator.prepare_trace, iter(range(6))

    def stop(trace):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return prepare_trace(trace)

    monkeypatch.setattr(collator, "prepare_trace", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(rows, collator, path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    first = prepare(rows, collator, path)
    (file,) = path.parent.iterdir()
    again = prepare(rows, collator, path)
    assert (len(again), again.features) == (len(first), first.features)
    prepare(rows, collator, path, ["another model"])
    assert len(list(path.parent.iterdir())) == 2
    assert file.name.startswith("train-")


def test_an_incomplete_checkpoint_is_skipped(tmp_path):
    for step, state in ((2, '{"global_step": 2}'), (4, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-6").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


# --- training ---


def losses(out: Path) -> list[float]:
    (state,) = out.glob("checkpoint-6/trainer_state.json")
    return [row["loss"] for row in json.loads(state.read_text())["log_history"] if "loss" in row]


TRL = """
learning_rate = 1e-3
per_device_train_batch_size = 2
gradient_accumulation_steps = 1
max_steps = 6
save_steps = 2
report_to = "none"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, synth) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run = SftRun.read(write_run(folder, synth, "ask_count = 2\nask_every = 3", TRL))
    assert train_sft(run) == folder / "out" / "model"
    return folder / "out"


def test_a_run_writes_a_model_samples_and_metrics(trained, synth):
    before = LocalModel("tiny").model.state_dict()
    model = LocalModel(str(trained / "model"))
    assert model.dialect == "compact"
    assert model.budgets == folder_settings(BUNDLED_MODELS["tiny"]).budgets
    changed = {
        name for name, now in model.model.state_dict().items() if (now != before[name]).any()
    }
    assert any("language_model" in name for name in changed)
    assert not any("visual" in name for name in changed), "the vision tower is frozen by default"
    asked = list(load_run(trained / "samples" / "step-6.jsonl"))
    assert len(asked) == 2 * 5, "two questions of each family"
    state = json.loads((trained / "checkpoint-6" / "trainer_state.json").read_text())
    asked = [row for row in state["log_history"] if any(key.startswith("ask/") for key in row)]
    assert [row["step"] for row in asked] == [3, 6]
    assert len(losses(trained)) == 6, "a round of questions takes no step's loss away"
    log = [row for row in read_log(trained) if "loss" in row]
    assert [row["loss"] for row in log] == losses(trained)


def test_every_step_is_in_the_log_and_the_log_has_curves(trained, tmp_path, run):
    rows = [json.loads(line) for line in (trained / "log.jsonl").open()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert run("report", trained, "--out", tmp_path / "curves.html")[0] == 0


def test_a_stopped_run_resumes_to_the_same_losses(trained, tmp_path, synth, monkeypatch, capfd):
    path = write_run(tmp_path, synth, trl=TRL)

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LogCallback, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train_sft(SftRun.read(path))
    train_sft(SftRun.read(path))
    assert "continues at checkpoint-2\n" in capfd.readouterr().err
    assert losses(tmp_path / "out") == pytest.approx(losses(trained), abs=1e-4)
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").open()]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_losses(trained, tmp_path, synth, capfd):
    path = write_run(tmp_path, synth, trl=TRL)
    command = [sys.executable, "-m", "pixel_reasoner.cli", "train", "sft", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not (tmp_path / "out" / "checkpoint-2" / "trainer_state.json").exists():
        assert time.monotonic() < deadline, "the training did not get going"
        assert process.poll() is None, "the training failed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / "checkpoint-6").exists()
    train_sft(SftRun.read(path))
    assert re.search(r"continues at checkpoint-[24]\n", capfd.readouterr().err)
    assert losses(tmp_path / "out") == pytest.approx(losses(trained), abs=1e-4)
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").open()]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_after_its_last_checkpoint_trains_no_further_step(trained, tmp_path, synth):
    path = write_run(tmp_path, synth, "ask_count = 2\nask_every = 3", TRL)
    shutil.copytree(trained, tmp_path / "out", ignore=shutil.ignore_patterns("model", "run.json"))
    train_sft(SftRun.read(path))
    assert {one.name for one in (tmp_path / "out").glob("checkpoint-*")} == {
        one.name for one in trained.glob("checkpoint-*")
    }
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out/model" / name).read_bytes() == (
            trained / "model" / name
        ).read_bytes()


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(trained, tmp_path, synth):
    trl = TRL.replace("train_batch_size = 2", "train_batch_size = 1")
    path = write_run(tmp_path, synth, trl=trl)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [
        *launch,
        "--nproc_per_node",
        "2",
        "-m",
        "pixel_reasoner.cli",
        "train",
        "sft",
        str(path),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert losses(tmp_path / "out") == pytest.approx(losses(trained), abs=1e-3)


def test_a_lora_is_merged_into_an_ordinary_model(tmp_path, synth, processor, monkeypatch):
    """The saved model has the outputs of the trained one, adapter included."""
    from pixel_reasoner.train import weights

    collator = TraceCollator(processor)
    batch = collator([collator.prepare_trace(trace) for trace in list(load_run(synth))[:2]])
    before: list[torch.Tensor] = []

    def save(trainer, *rest):
        before.append(outputs(trainer.model, batch))
        save_model(trainer, *rest)

    monkeypatch.setattr(weights, "save_model", save)
    trl = TRL.replace("max_steps = 6", "max_steps = 2")
    train_sft(SftRun.read(write_run(tmp_path, synth, "lora_rank = 4", trl)))
    model, start = LocalModel(str(tmp_path / "out" / "model")).model, LocalModel("tiny").model
    assert set(model.state_dict()) == set(start.state_dict())
    assert torch.allclose(outputs(model, batch), before[0], atol=1e-4)
    assert not torch.allclose(outputs(start, batch), before[0], atol=1e-3), "training changed it"


def outputs(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of a batch."""
    with torch.no_grad():
        return model.eval()(**batch).logits


def test_wrong_paths_are_named_before_other_settings(trained, synth):
    for text, message in (('model = "gone"', "'gone', which is no folder"), ("", "No such file")):
        path = write_run(trained.parent, synth if text else Path("/no/traces"), text, TRL)
        with pytest.raises((InputError, ModelError), match=message):
            train_sft(SftRun.read(path))


def test_another_run_is_not_written_to_the_same_folder(trained, synth):
    path = write_run(trained.parent, synth, "lora_rank = 4", TRL)
    with pytest.raises(UsageError, match="lora_rank"):
        train_sft(SftRun.read(path))
