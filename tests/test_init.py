"""`init` writes valid files. `doctor` reports what works and what is broken."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cli_fixture import assert_refused
from pixel_reasoner.errors import EndpointError
from pixel_reasoner.sources.jsonl import ROW_KEYS
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.workflows import doctor

ROOT = Path(__file__).parents[1]


@pytest.mark.extras
@pytest.mark.parametrize(("template", "kind"), [("sft", SftRun), ("rl", RlRun)])
def test_a_run_template_is_valid_with_and_without_commented_keys(run, tmp_path, template, kind):
    path = tmp_path / "run.toml"
    code, out, err = run("init", template, "--out", path)
    assert code == 0, err
    assert str(path) in out
    kind.read(path)
    text = path.read_text()
    assert text.count("# ") > 15
    lines = [
        line[2:] if line.startswith("# ") and " = " in line else line for line in text.splitlines()
    ]
    path.write_text(
        "\n".join(lines)
        .replace("eval_traces = []", 'eval_traces = ["a"]')
        .replace("ask_every = 0", "ask_every = 1")
        .replace("ask_count = 0", "ask_count = 1")
    )
    from pixel_reasoner.train.trl_config import trl_config

    trl_config(kind.read(path))


def test_template_rows_are_questions_and_the_comment_lists_every_key(run, tmp_path):
    path = tmp_path / "rows.jsonl"
    assert run("init", "rows", "--out", path)[0] == 0
    questions = list(read_questions(path))
    assert [question.needs_look for question in questions] == [True, False]
    assert questions[0].evidence.boxes
    assert Path(questions[0].media[0].path).is_file()
    comment = path.with_suffix(".txt").read_text()
    rare = {"benchmark", "split", "group", "prompt_suffix"}
    assert [key for key in ROW_KEYS if key not in comment and key not in rare] == []
    code, out, err = run("synth", "jsonl", "--data", path, "--out", tmp_path / "synth")
    assert (code, out.split()[0]) == (0, "2"), err


def test_an_existing_file_is_never_replaced(run, tmp_path):
    for template in ("sft", "rows"):
        path = tmp_path / f"{template}.x"
        path.write_text("mine")
        assert_refused(run("init", template, "--out", path), "exists", "--out")
        assert path.read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rows.x", "sft.x"]


# --- doctor ---


@pytest.mark.extras
def test_doctor_finds_no_problem_in_a_working_installation(run):
    code, out, _ = run("doctor")
    assert code == 0, out
    for subject in (
        "Python",
        "memory",
        "device cpu",
        "videos",
        "fonts",
        "write: cache",
        "extra train",
    ):
        assert f" {subject}: " in out
    assert "broken" not in out


def test_doctor_names_each_problem_and_has_exit_code_1(run, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no such font")

    monkeypatch.setattr("pixel_reasoner.world.fonts.scaled_font", fail)
    monkeypatch.setattr(doctor, "MIN_MEMORY_GIB", 1e9)
    code, out, _ = run("doctor")
    assert code == 1
    assert "broken  fonts: OSError: no such font" in out
    assert "broken  memory: " in out
    assert "ok      videos: " in out


def test_doctor_reports_an_unreachable_endpoint(run, monkeypatch):
    def refuse(_: object) -> None:
        raise EndpointError(expected="a server", got="nothing", fix="start it")

    monkeypatch.setattr("pixel_reasoner.models.spec.ModelSpec.connect", refuse)
    monkeypatch.setenv("PIXEL_REASONER_ENDPOINT", "http://localhost:1/v1")
    code, out, _ = run("doctor", "--model", "served")
    assert code == 1
    assert "broken  endpoint: expected a server; got nothing" in out


def test_doctor_lists_all_extras_and_the_commands_of_a_missing_one(run, monkeypatch):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra, (modules, _) in doctor.EXTRAS.items():
        listed = " ".join(extras[extra]).replace("-", "_")
        assert all(module in listed for module in modules)
    monkeypatch.setitem(doctor.EXTRAS, "ray", (("no_such_module",), "integrations.ray_data"))
    code, out, _ = run("doctor")
    assert code == 0
    assert "missing extra ray: integrations.ray_data: no no_such_module; in a clone" in out
