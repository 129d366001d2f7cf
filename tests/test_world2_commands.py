"""Commands with PixelWorld 2: render, verify, probe, synth, eval, report, and models of another world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from pixel_reasoner import api
from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import write_json
from pixel_reasoner.models.folder import BUNDLED_MODELS, check_trained_world, folder_settings
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.question import load_questions
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.sources.pixelworld2 import world_of_question
from pixel_reasoner.workflows.evaluate import parse_controls

ANSWER = r"\boxed{K}"
BUDGETS = folder_settings(BUNDLED_MODELS["tiny"]).budgets


class Result(NamedTuple):
    """What a command returned."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(run):
    """Run a command and expect an exit code."""

    def called(*words: object, code: int = 0) -> Result:
        result = Result(*run(*words))
        assert result.code == code, result
        return result

    return called


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "traces"
    spec = api.SynthSpec(
        source="pixelworld", out=out, world=2, count=28, per_scene=2, text_share=0.4, margin=0.0, min_side=0.18
    )  # fmt: skip
    api.synthesize(spec)
    return out


@pytest.mark.medium
def test_rendered_questions_name_files_of_every_height(call, tmp_path):
    call(
        "world",
        "render",
        "--world",
        "2",
        "--family",
        "where",
        "--count",
        "12",
        "--out",
        tmp_path / "out",
    )
    questions = list(load_questions(tmp_path / "out" / "questions.jsonl"))
    assert [one.labels["evidence_px"] for one in questions] == [
        px for px in ("2", "3", "4", "6", "8", "12") for _ in "ab"
    ]
    assert len({one.media[0].path for one in questions}) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--world", "2", "--family", "infographic"], "a family|families of PixelWorld 2"),
        (["--heights", "2"], "add --world 2"),
        (["--world", "2", "--heights", "two"], "whole numbers"),
        (["--world", "2", "--heights", "5"], "2, 3, 4, 6, 8, 12"),
        (["--world", "2", "--detail-px", "16"], "leave out --detail-px"),
        (["--world", "2", "--size-px", "512"], "--size-px"),
        (["--family", "parts"], "world parts"),
    ],
)
def test_what_does_not_fit_is_one_line(call, tmp_path, options, message):
    result = call("world", "render", "--count", "2", "--out", tmp_path / "out", *options, code=2)
    assert len(result.err.strip().splitlines()) == 1
    assert any(part in result.err for part in message.split("|"))
    assert not (tmp_path / "out" / "media").exists()


def test_a_set_is_verified_by_its_hashes(call, monkeypatch):
    assert (
        "1 of 1 seeds of small/test"
        in call("world", "verify", "--family", "where", "--count", "1").out
    )
    from pixel_reasoner.world.v2 import sets

    monkeypatch.setattr(sets, "recorded_hashes", lambda: {"small": {"test": {"where": ["0" * 64]}}})
    result = call("world", "verify", "--family", "where", "--count", "1", code=1)
    assert "differs: where, seed 0" in result.err


def test_the_probe_prints_chance_for_world_2_and_certainty_for_world_1(call):
    assert (
        "attribute    0.500" in call("world", "probe", "--family", "attribute", "--count", "60").out
    )
    first = call("world", "probe", "--world", "1", "--family", "attribute", "--count", "60").out
    assert float(first.split("attribute")[1].split()[0]) > 0.95


@pytest.mark.medium
def test_synthesized_traces_pass_the_check(call, traces):
    assert "ready for training: 28 traces" in call("check", traces).out
    settings = json.loads((traces / "settings.json").read_text())
    assert settings["world_version"] == 2
    found = list(load_traces(traces / "traces.jsonl"))
    assert all(world_of_question(one.question.id) == 2 for one in found)
    assert all(bool(one.executed) == one.question.needs_look for one in found)
    assert {one.question.labels["evidence_px"] for one in found} <= {"2", "4", "6", "8", "12"}


@pytest.mark.medium
def test_traces_of_a_test_split_are_not_for_training(call, traces, tmp_path):
    lines = (traces / "traces.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    row["question"]["id"] = row["question"]["id"].replace("-0-", "-2000000-", 1)
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / "media").symlink_to(traces / "media")
    (folder / "traces.jsonl").write_text(json.dumps(row) + "\n")
    assert "validation or test split" in call("check", folder, code=1).err


def test_a_model_of_another_world_is_refused_in_one_line(call, tmp_path):
    command = ("eval", "pixelworld", "--world", "2", "--count", "2", "--out", tmp_path / "run")
    result = call(*command, code=2)
    assert "tiny, which was trained on PixelWorld 1" in result.err
    assert "--other-world" in result.err
    assert not (tmp_path / "run" / "media").exists()


def test_a_folder_without_a_recorded_world_fits_every_world(tmp_path):
    write_json({"dialect": "compact"}, tmp_path / "pixel_reasoner.json")
    for world in (1, 2):
        check_trained_world(str(tmp_path), world)
    write_json({"dialect": "compact", "world": 2}, tmp_path / "pixel_reasoner.json")
    with pytest.raises(UsageError, match="use world 2 or another model"):
        check_trained_world(str(tmp_path), 1)


def test_an_evaluation_resumes_with_the_same_overview_alone(tmp_path):
    spec = api.EvalSpec(
        benchmark="pixelworld",
        out=tmp_path / "run",
        world=api.WorldSpec(count=6, world=2, twins=False),
    )
    model = ScriptedModel([ANSWER], dialect="compact", budgets=BUDGETS)
    first = api.evaluate(spec, model=model)
    assert first["settings"]["task"]["overview_px"] == 192
    assert first["by_family"].keys() == {"attribute"}
    assert first["adaptivity"]["rapr_unreadable"]["value"] == 0
    assert api.evaluate(spec, model=model)["adaptivity"] == first["adaptivity"]
    larger = BUDGETS.at_most(None, None).model_copy(update={"picture": BUDGETS.selected_frame})
    with pytest.raises(UsageError, match="overview_px"):
        api.evaluate(spec, model=ScriptedModel([ANSWER], dialect="compact", budgets=larger))


@pytest.mark.medium
def test_controls_of_a_command_are_in_its_summary(tmp_path):
    spec = api.EvalSpec(
        benchmark="pixelworld",
        out=tmp_path / "run",
        world=api.WorldSpec(count=6, world=2, twins=False),
        controls=parse_controls(["forced", "forbidden"]),
    )
    summary = api.evaluate(spec, model=ScriptedModel([ANSWER], dialect="compact", budgets=BUDGETS))
    assert list(summary["controls"]) == ["forced", "forbidden"]
    assert (tmp_path / "run" / "controls" / "forced" / "traces.jsonl").exists()


def test_an_unknown_control_is_refused(call, tmp_path):
    result = call("eval", "pixelworld", "--control", "blind", "--out", tmp_path / "run", code=2)
    assert "forbidden, forced, random-crop, blank, oracle, tiling; got 'blind'" in result.err
