"""Frequent mistakes on the command line give the option, the file or the correction that was meant."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from cli_fixture import assert_refused
from pixel_reasoner.cli.help import OTHER_NAMES
from pixel_reasoner.sources.rows import RowError, json_object


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "What?"], ["--image FILE", "--video FILE", "--frames FOLDER"]),
        (["ask", "What?", "pic.png"], ["write --image before a file", "--image pic.png"]),
        (["ask", "What?", "clip.mp4"], ["--video clip.mp4"]),
        (["ask", "What?", "--picture", "pic.png"], ["got --picture", "use --image"]),
        (["ask", "What?", "--clip=a.mp4"], ["use --video"]),
        (["ask", "What?", "--image", "a.png", "--video", "b.mp4"], ["--image and --video"]),
        (["synth", "jsonl", "--input", "a.jsonl"], ["use --data"]),
        (["synth", "jsonl", "--limit", "5"], []),
    ],
    ids=lambda one: " ".join(one) if one and one[0] in ("ask", "synth") else "",
)
def test_a_mistake_in_an_option_names_the_option(run, arguments, words):
    if words:
        assert_refused(run(*arguments), *words)
    else:
        assert run(*arguments)[0] == 2


def test_another_name_of_an_option_is_no_option(run):
    help_ = run("ask", "--help")[1] + run("eval", "--help")[1] + run("synth", "--help")[1]
    options = {word.strip(",") for word in help_.split() if word.startswith("--")}
    assert not options & (set(OTHER_NAMES) - {"--questions"})


def test_a_row_that_is_no_json_has_one_line_number():
    with pytest.raises(RowError, match=r"^Expecting property name .* at character 2$"):
        json_object("{broken")


def test_an_empty_file_of_rows_is_named(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n")
    result = run("synth", "jsonl", "--data", rows, "--out", tmp_path / "out")
    assert_refused((result[0], "", result[2].partition("error: ")[2]), "no rows in", "rows.jsonl")


@pytest.mark.extras
@pytest.mark.parametrize("text", ["", "{broken\n"])
def test_own_rows_of_which_none_is_usable_lead_to_the_format_of_rows(run, tmp_path, text):
    (tmp_path / "rows.jsonl").write_text(text)
    result = run("eval", "jsonl", "--data", tmp_path, "--out", tmp_path / "out")
    assert_refused(result, "init rows", "synthesize.md#own-rows")
    assert "official" not in result[2]


def test_dropped_rows_are_named_after_a_synthesis(run, tmp_path):
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    good = {"image": "a.png", "question": "?", "answer": "it", "boxes": [[9, 9, 40, 40]]}
    rows = [json.dumps(good), "{broken", *[json.dumps(good | {"image": "gone.png"})] * 3]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    out = tmp_path / "out"
    code, _, err = run("synth", "jsonl", "--data", tmp_path / "rows.jsonl", "--out", out)
    assert code == 0
    named = [line for line in err.splitlines() if line.startswith("dropped: ")]
    assert len(named) == 3
    assert named[0].startswith("dropped: rows.jsonl, line 2: not_json: Expecting property name")
    assert "/1000" not in err, "the number of rows is not known before they are read"
    assert f"all dropped rows: {out / 'dropped.jsonl'}" in err


@pytest.mark.extras
def test_questions_with_a_broken_picture_are_counted_next_to_the_accuracy(run, tmp_path):
    Image.effect_noise((200, 200), 90).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    rows = [{"image": name, "question": "What?", "answer": "it"} for name in ("a.png", "b.png")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    command = ["eval", "jsonl", "--data", tmp_path, "--out", out, "--max-new-tokens", 8]
    code, _, err = run(*command, "--max-turns", 1)
    assert code == 0, err
    assert "warning: 1 of 2 questions failed and are not in the accuracy" in err
    assert json.loads((out / "summary.json").read_text())["rows"]["failed"] == 1
