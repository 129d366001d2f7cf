"""Output of commands: complete files, settings only of started runs, one writer at a time, also after kills and full disks."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from attacks import full_disk as disk, kills

from conftest import full_disk
from pixel_reasoner.data.formats import export_message_list, export_trl
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.evals.merge import merge
from pixel_reasoner.files import TEMPORARY_PREFIX, atomic_folder
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.folder import checkpoint_errors, save_run_settings, training_folder
from pixel_reasoner.workflows.evaluate import EvalSpec, evaluate
from pixel_reasoner.workflows.traces import import_traces
from pixel_reasoner.workflows.world import WorldSpec, render_world
from pixel_reasoner.workflows.world_media import (
    MomentsSpec,
    PartsSpec,
    render_moments,
    render_parts,
)

MAIN_PROCESS = SimpleNamespace(process_index=0)


@pytest.fixture(scope="module")
def synth(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth")
    chosen = SynthSettings(
        source="pixelworld",
        count=4,
        families=("attribute",),
        budgets=folder_settings(BUNDLED_MODELS["tiny"]).budgets,
    )
    synthesize(chosen, scene_units(chosen), out)
    return out


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- one writer at a time ---


def _sft(out: Path, synth: Path) -> None:
    with training_folder(SftRun(traces=(str(synth),), out=str(out)), MAIN_PROCESS):
        raise AssertionError("the folder is locked")


WRITERS = {
    "export": lambda out, synth: export_trl(synth, out),
    "export message_list": lambda out, synth: export_message_list(synth, out),
    "import": lambda out, synth: import_traces(synth / "data.json", out),
    "world render": lambda out, synth: render_world(WorldSpec(count=1), out),
    "world parts": lambda out, synth: render_parts(PartsSpec(width_px=320), out),
    "world moments": lambda out, synth: render_moments(MomentsSpec(count=1), out),
    "eval": lambda out, synth: evaluate(EvalSpec(benchmark="pixelworld", out=out)),
    "train": _sft,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_command_rejects_a_folder_with_another_writer(write, tmp_path, synth):
    with FolderLock(tmp_path), ThreadPoolExecutor(1) as other:
        before = names(tmp_path)
        with pytest.raises(OutputError, match=r"which process .* writes to"):
            other.submit(write, tmp_path, synth).result()
        assert names(tmp_path) == before


def test_a_merge_rejects_a_folder_with_another_writer(tmp_path):
    settings = {"task": {"name": "t", "shard": "1/1"}, **RunSettings(dialect="compact").to_dict()}
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard/settings.json").write_text(json.dumps(settings))
    (tmp_path / "shard/traces.jsonl").touch()
    with FolderLock(tmp_path / "all"), ThreadPoolExecutor(1) as other:
        merging = other.submit(merge, [tmp_path / "shard"], tmp_path / "all")
        with pytest.raises(OutputError, match=r"which process .* writes to"):
            merging.result()


# --- whole files ---


def test_a_folder_is_replaced_atomically(tmp_path):
    out = tmp_path / "model"
    for text in ("one", "two"):
        with atomic_folder(out) as folder:
            (folder / text).write_text(text)
    with pytest.raises(OutputError, match="model"), atomic_folder(out):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == {"model/two"}


@pytest.mark.parametrize("limit_bytes", [100, 5_000])
def test_an_export_on_a_full_disk_leaves_no_file_and_can_be_repeated(limit_bytes, tmp_path, synth):
    out = tmp_path / "out"
    with full_disk(limit_bytes), pytest.raises(OutputError, match="free some space"):
        export_trl(synth, out)
    assert not out.exists()
    assert export_trl(synth, out) == 4
    assert names(out) == {"data-00000-of-00001.arrow", "dataset_info.json", "state.json"}


def test_the_check_of_the_attack_finds_partial_files(tmp_path):
    files = {
        "a.json": "{",
        "b.jsonl": "{}\n{",
        f"{TEMPORARY_PREFIX}c": "",
        "d.png": "no",
        "e.html": "<p>",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "f.json").write_text("{}")
    assert {Path(path).name for path in disk.partial_files(tmp_path)} == set(files)


# --- settings of runs ---


def sft_run(tmp_path: Path, **trl) -> SftRun:
    return SftRun(traces=("traces",), out=str(tmp_path / "out"), trl=trl)


def test_settings_of_a_training_that_could_not_start_are_not_kept(tmp_path):
    with pytest.raises(UsageError), training_folder(sft_run(tmp_path), MAIN_PROCESS):
        raise UsageError(expected="a model", got="none", fix="give one")
    assert not (tmp_path / "out").exists()
    other = replace(sft_run(tmp_path), lora_rank=4)
    with training_folder(other, MAIN_PROCESS):
        save_run_settings(other)
    with (
        pytest.raises(UsageError, match="lora_rank"),
        training_folder(sft_run(tmp_path), MAIN_PROCESS),
    ):
        pass


@pytest.mark.parametrize("name", ["max_steps", "num_train_epochs"])
def test_a_resumed_training_may_become_longer_but_not_shorter(name, tmp_path):
    for length in (6, 8, 8):
        run = sft_run(tmp_path, **{name: length})
        with training_folder(run, MAIN_PROCESS) as out:
            save_run_settings(run)
        assert json.loads((out / "run.json").read_text())["trl"] == {name: length}
    with (
        pytest.raises(UsageError, match=f"{name} of 8 or more"),
        training_folder(sft_run(tmp_path, **{name: 7}), MAIN_PROCESS),
    ):
        pass


def test_a_full_disk_is_a_one_line_error_for_any_exception_of_a_library(tmp_path):
    message = "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nframe #0: ..."
    with (
        pytest.raises(OutputError, match="space for a checkpoint") as found,
        checkpoint_errors("x"),
    ):
        raise RuntimeError(message)
    assert "\n" not in str(found.value)


def test_another_benchmark_is_refused_before_media_are_written(tmp_path):
    spec = EvalSpec(benchmark="pixelworld", out=tmp_path, world=WorldSpec(count=2))
    settings = {"task": {"name": "vstar", "samples": 1}, **RunSettings(dialect="x").to_dict()}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="vstar"):
        evaluate(spec)
    assert names(tmp_path) == {"settings.json"}


# --- kills ---


def test_a_log_continues_after_a_truncated_row(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    with Segment(path) as log:
        log.append(b'{"step": 3}\n')
    assert [json.loads(row)["step"] for row in path.read_text().splitlines()] == [1, 2, 3]


def test_differences_between_two_runs_are_found(tmp_path, synth):
    trace = Trace(question=Question(id="q", text="?", media=()), stop="answered", seconds=1.5)
    for name, seconds in (("one", 1.5), ("two", 2.5)):
        shutil.copytree(synth, tmp_path / name)
        changed = trace.model_copy(update={"seconds": seconds})
        (tmp_path / name / "more.jsonl").write_text(changed.to_line() + "\n")
    one, two = (kills.files_without_times(tmp_path / name) for name in ("one", "two"))
    assert kills.differing_names(one, two) == []
    medium = next((tmp_path / "two" / "media").iterdir())
    medium.unlink()
    two = kills.files_without_times(tmp_path / "two")
    assert kills.differing_names(one, two) == [f"media/{medium.name}"]
