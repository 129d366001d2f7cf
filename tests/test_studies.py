"""Studies of `runs/studies.py`: valid run files, arms that differ in one option, and paired differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import studies
from hypothesis import given, strategies as st

from pixel_reasoner.evals.adaptivity import matthews_correlation
from pixel_reasoner.train.batch_sizes import batch_sizes
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.trl_config import trl_config

ARMS = [(name, arm) for name, study in studies.STUDIES.items() for arm in study.arms]
GRADES = st.text("01", min_size=1, max_size=30)


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_stage_of_an_arm_is_a_valid_run(tmp_path, name, arm):
    study = studies.STUDIES[name]
    plain = studies.merged({"out": ".", "model": "tiny", **study.run}, {})
    for options in study.arms[arm]:
        path = tmp_path / "run.toml"
        studies.write_run(study, options, 3, "tiny", path)
        run = RlRun.read(path)
        assert trl_config(run).seed == 3
        assert batch_sizes(run, 1).rollouts_per_sync == (run.questions_per_sync * run.group_size)
    assert plain == {"out": ".", "model": "tiny", **study.run}, "the study was not changed"


@pytest.mark.parametrize("name", studies.STUDIES)
def test_arms_of_a_study_differ(name):
    stages = [json.dumps(list(stages)) for stages in studies.STUDIES[name].arms.values()]
    assert len(set(stages)) == len(stages)


@given(GRADES, st.integers(1, 4))
def test_a_difference_from_itself_is_zero(grades, num_seeds):
    found = studies.paired({"count": grades}, [{"count": grades}] * num_seeds)
    assert found[0] == 0


@given(st.lists(st.tuples(*[st.sampled_from("01")] * 2), min_size=1, max_size=30))
def test_a_difference_is_the_difference_of_accuracies_and_inside_its_interval(pairs):
    before, after = map("".join, zip(*pairs, strict=True))
    value, low, high = studies.paired({"count": before}, [{"count": after}])
    share = (after.count("1") - before.count("1")) / len(before)
    assert value == pytest.approx(100 * share)
    assert low - 1e-9 <= value <= high + 1e-9


@given(*[st.integers(0, 50)] * 4)
def test_the_correlation_of_a_choice_is_between_its_extremes_and_changes_sign(a, b, c, d):
    found = matthews_correlation(a, b, c, d)
    assert -1 - 1e-9 <= found <= 1 + 1e-9
    assert matthews_correlation(c, d, a, b) == pytest.approx(-found)


def test_finished_jobs_are_not_run_again_and_stages_follow_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "OUT", tmp_path)
    called = []

    def call(folder: Path, *arguments: str) -> None:
        called.append(f"{folder.parent.name}/{folder.name} {arguments[0]}")
        if arguments[0] == "train":
            (folder / "model").mkdir()
            (folder / "model" / "pixel_reasoner.json").touch()

    row = {"decoding": "greedy", "family": "count", "kind": "needs_look", "grades": "01"}
    monkeypatch.setattr(studies, "call", call)
    monkeypatch.setattr(studies, "rows_of", lambda *_: [row | {"used": 1, "hits": 0.5}])
    for _ in range(2):
        studies.run("aim", ["hits, then answer"], [0], "tiny")
    assert called == [
        "aim/start-0 eval",
        "hits-then-answer-0/stage-0 train",
        "hits-then-answer-0/stage-1 train",
        "aim/hits-then-answer-0 eval",
    ]
    second = RlRun.read(tmp_path / "aim" / "hits-then-answer-0" / "stage-1" / "run.toml")
    assert second.model == str(tmp_path / "aim" / "hits-then-answer-0" / "stage-0" / "model")
    assert second.reward.correctness == 1
    studies.show("aim")
