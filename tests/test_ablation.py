"""Ablation of `runs/ablation.sh`: valid run files, complete result rows, and a page that depends only on these rows."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from rl_runs import as_toml, merged
from safetensors.torch import load_file

from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.scoring.rewards import RewardConfig, Variant
from pixel_reasoner.train.batch_sizes import batch_sizes
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.trl_config import trl_config

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("ablation", ROOT / "runs" / "ablation.py")
ablation = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ablation)

VALUES = st.one_of(st.integers(), st.booleans(), st.text('abc "\\'), st.floats(-1e6, 1e6))
TABLES = st.dictionaries(st.sampled_from(["c", "d"]), VALUES, min_size=1)
OPTIONS = st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "table": TABLES})

METRICS = {
    "accuracy": 0.8,
    "rapr": 1.0,
    "operation_error_rate": 0.01,
    "count": 100,
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    for name in ("OUT", "RESULTS", "CURVES", "PAGE"):
        old = getattr(ablation, name)
        monkeypatch.setattr(ablation, name, tmp_path / old.name)
    monkeypatch.setattr(ablation, "PICTURE", str(tmp_path / "curves-{}.png"))
    return ablation.OUT


def write_results(job, accuracy: float) -> None:
    """Write the files of a finished job."""
    for name, share in (("eval", accuracy), ("eval-without", 0.1)):
        metrics = METRICS | {"accuracy": share}
        families = {
            family: {"by_category": dict.fromkeys(ablation.KINDS, metrics)}
            for family in ("attribute", "video")
        }
        (job.folder / name).mkdir(parents=True)
        (job.folder / name / "summary.json").write_text(json.dumps({"by_family": families}))
    row = dict.fromkeys(ablation.DRAWN, accuracy) | {"rapr": accuracy}
    lines = [json.dumps(row | {"step": step}) for step in range(1, 21)]
    (job.folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def test_every_job_has_its_own_folder_and_a_valid_run_file(place, tmp_path):
    jobs = ablation.jobs()
    assert len({job.folder for job in jobs}) == len(jobs)
    for job in jobs:
        if job.arm.options is None:
            continue
        path = job.folder / "run.toml"
        ablation.write_run(job, "tiny", path)
        run = RlRun.read(path)
        assert Path(run.out).resolve() == job.folder.resolve()
        assert batch_sizes(run, 1).rollouts_per_sync == 128
        assert trl_config(run).seed == job.seed
        assert run.pixelworld == ablation.MIX


def test_each_arm_differs_from_the_method_in_one_setting(place, tmp_path):
    def read(name: str) -> RlRun:
        (job,) = [j for j in ablation.jobs([f"clumsy/{name}"]) if j.seed == 0]
        ablation.write_run(job, "tiny", tmp_path / "run.toml")
        return RlRun.read(tmp_path / "run.toml")

    full = read("full")
    assert full.reward == RewardConfig(N=2, ignored_refusal_is_wrong=True)
    assert read("no curiosity") == replace(full, reward=replace(full.reward, alpha=0.0))
    assert read("no cost") == replace(full, reward=replace(full.reward, beta=0.0))
    assert read("released code") == replace(
        full, reward=replace(full.reward, variant=Variant.RELEASED_CODE)
    )
    assert read("constants of the paper") == replace(full, reward=RewardConfig())
    assert read("no replay") == replace(full, replay=False)
    assert read("no corrections") == full
    arms = {arm.name: arm for arm in ablation.ARMS if arm.start == "clumsy"}
    corrections, clumsy = (ablation.STARTS[arms[n].model] for n in ("no corrections", "full"))
    assert corrections == clumsy._replace(synth=f"{clumsy.synth} --no-mistakes")
    assert arms["no warm start"].model == clumsy.begin


@given(options=OPTIONS, changes=OPTIONS)
def test_merged_options_are_the_changes_and_else_the_options(options, changes):
    before = deepcopy(options)
    both = merged(options, changes)
    for name in ("a", "b"):
        expected = changes.get(name, options.get(name))
        assert both.get(name) == expected
    table = {**options.get("table", {}), **changes.get("table", {})}
    assert both.get("table", {}) == table
    both.setdefault("table", {})["new"] = 1
    assert options == before
    assert tomllib.loads(as_toml(both)) == both


def test_a_page_contains_the_results_of_finished_jobs(place):
    jobs = [job for job in ablation.jobs() if job.arm.name in ("full", "warm start alone")]
    for job in jobs:
        write_results(job, accuracy=0.8 + 0.02 * job.seed if job.arm.name == "full" else 0.5)
    ablation.collect()
    rows = json.loads(ablation.RESULTS.read_text())
    assert len(rows) == len(jobs) * 2 * 2
    metrics = {"accuracy_with", "accuracy_without", "rapr", "operation_error_rate", "count"}
    assert metrics == set(rows[0]) - {"start", "arm", "seed", "family", "kind"}
    marks = [
        f"{start} {part}"
        for start in ("clumsy", "good")
        for part in ("table", "families", "differences")
    ]
    words = "".join(f"By hand.\n<!-- {mark} -->\n<!-- end of {mark} -->\n" for mark in marks)
    ablation.PAGE.write_text(words)
    ablation.render()
    once = ablation.PAGE.read_text()
    assert once.count("By hand.") == 6
    assert "| full | 3 | 0.820 ± " in once
    assert "| warm start alone | 1 | 0.500 ± 0.069 |" in once
    assert "| warm start alone | +0.320 ± " in once
    with Image.open(place.parent / "curves-clumsy.png") as picture:
        assert picture.size == (1000, 600)
    ablation.render()
    assert ablation.PAGE.read_text() == once


def test_results_of_jobs_from_another_machine_are_kept_and_not_computed_again(place, monkeypatch):
    """Another machine continues from the committed rows: rows of jobs without a folder are kept, in order."""
    first, second, third = ablation.jobs(["clumsy/full"])
    for job in (first, third):
        write_results(job, accuracy=0.5)
    ablation.collect()
    earlier = json.loads(ablation.RESULTS.read_text())
    shutil.rmtree(first.folder)
    shutil.rmtree(third.folder)
    write_results(second, accuracy=0.9)
    ablation.collect()
    rows = json.loads(ablation.RESULTS.read_text())
    assert [row for row in rows if row["seed"] != 1] == earlier
    assert [row["seed"] for row in rows] == sorted(row["seed"] for row in rows)
    curves = json.loads(ablation.CURVES.read_text())
    assert [curve["seed"] for curve in curves] == [0, 1, 2]
    executed = []
    monkeypatch.setattr(ablation, "_do", lambda job: executed.append(job) or job)
    monkeypatch.setattr(ablation, "warm_start", lambda name: name)
    monkeypatch.setattr(ablation, "world_questions", lambda *_: [])
    ablation.run(["clumsy/full", "clumsy/no cost"], workers=1)
    assert {job.arm.name for job in executed} == {"no cost"}


def test_a_longer_run_starts_from_the_model_of_the_shorter_one(place, monkeypatch):
    called = []

    def call(folder, *arguments, threads):
        called.append(folder.name)
        (folder / "model").mkdir()
        (folder / "model" / "pixel_reasoner.json").touch()

    monkeypatch.setattr(ablation, "call", call)
    monkeypatch.setattr(ablation, "warm_start", lambda name: name)
    (job,) = ablation.jobs(["clumsy/full, longer"], seeds=[1])
    ablation._tuned(job)
    assert called == ["full-1", "full-longer-1"]
    run = RlRun.read(job.folder / "run.toml")
    assert Path(run.model).resolve() == (place / "clumsy" / "full-1" / "model").resolve()
    assert run.trl["max_steps"] == ablation.MORE_STEPS
    assert run.trl["seed"] == 1


def test_rl_starts_from_the_stored_warm_start_model(place):
    """The stored model has 16 bits and no vision tower. The tower is that of the bundled model."""
    tiny = model_folder("tiny")
    place.mkdir(parents=True)
    ablation.keep_start(tiny, place / "words.safetensors")
    assert (place / "words.safetensors").stat().st_size < 2.5e6
    model = Path(ablation.warm_start("words"))
    assert folder_settings(model) == folder_settings(tiny)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (model, tiny))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        rounded = weight if ".visual." in name else weight.bfloat16().float()
        assert torch.equal(ours[name], rounded)


def test_a_page_without_markers_is_not_changed(place):
    ablation.collect()
    ablation.PAGE.write_text("nothing here")
    with pytest.raises(SystemExit, match="expected <!-- clumsy table -->"):
        ablation.render()
    assert ablation.PAGE.read_text() == "nothing here"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.integers(1, 1000))
def test_an_interval_is_never_narrower_than_the_interval_of_its_questions(shares, questions):
    mean, half = ablation.interval(shares, questions)
    assert half >= ablation.interval([mean], questions)[1] - 1e-12
    assert min(shares) - 1e-9 <= mean <= max(shares) + 1e-9
