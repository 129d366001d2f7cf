"""Command line: real files, the bundled model, exit codes and messages."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks_fixture import write
from cli_fixture import assert_refused
from pixel_reasoner.cli.transcript import Transcript
from pixel_reasoner.evals.benchmarks import BENCHMARKS
from pixel_reasoner.schema.question import Question, load_questions
from pixel_reasoner.schema.settings import PixelBudget
from pixel_reasoner.schema.trace import StopReason, Trace, load_traces
from pixel_reasoner.world import render, scenes

TOOL = [sys.executable, "-m", "pixel_reasoner.cli"]


@pytest.fixture
def scene(tmp_path) -> tuple[Path, Question]:
    """Picture of PixelWorld and a question about it that needs an operation."""
    for question in render(scenes("attribute", "test", 0, 8), tmp_path / "scene"):
        if question.needs_look:
            return tmp_path / "scene" / question.media[0].path, question
    raise AssertionError("no question needs an operation")


@pytest.mark.extras
def test_overview_and_crops_follow_the_pixel_options(run, scene):
    path, question = scene
    asked = ("ask", question.text, "--image", path, "--json", "--overview-px", 128 * 128)
    _, out, _ = run(*asked, "--crop-px", 96 * 96)
    trace = Trace.from_line(out)
    assert trace.settings.budgets.picture == PixelBudget(min_px=128 * 128, max_px=128 * 128)
    sizes = [picture.seen_px for picture in trace.pictures]
    assert sizes[0] == (128, 128)
    assert all(width * height <= 96 * 96 for width, height in sizes[1:])
    code, _, err = run(*asked, "--crop-px", 0)
    assert code == 2
    assert "--crop-px" in err


def test_help_and_import_load_no_torch():
    code = (
        "import sys, pixel_reasoner, pixel_reasoner.cli, pixel_reasoner.rollout.ask, pixel_reasoner.world, "
        "pixel_reasoner.evals.run, pixel_reasoner.reports, pixel_reasoner.integrations.ray_data; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", [[], ["ask"], ["eval", "pixelworld"], ["world", "render"]])
def test_help_contains_examples(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert not command or "pixel-reasoner" in out


def test_examples_in_help_can_be_copied_and_options_are_in_groups(run):
    _, out, _ = run("eval", "--help")
    example = "pixel-reasoner eval vstar --data vstar_bench --model FOLDER_OR_HUB_ID --compare --out runs/vstar"
    assert example in [line.strip() for line in out.splitlines()]
    groups = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert {"PixelWorld:", "A model behind servers:", "A Ray cluster:"} <= set(groups)


def test_help_needs_neither_rich_nor_pydantic():
    code = (
        "import sys; from pixel_reasoner.cli import app; app(['--help'], standalone_mode=False);"
        "sys.exit(str(sorted({'rich', 'pydantic', 'numpy', 'torch'} & set(sys.modules))))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "[]" in result.stderr, result.stderr


@pytest.mark.extras
def test_ask_calls_an_operation_and_answers(run, scene):
    path, question = scene
    code, out, err = run("ask", question.text, "--image", path)
    assert code == 0, err
    assert "only supports PixelWorld" in err
    assert "only supports PixelWorld" not in out
    assert "zoom_in" in out
    assert "picture 2" in out
    assert f"Answer: {question.answer[0]}" in out


@pytest.mark.extras
def test_ask_prints_one_trace_as_json_and_writes_a_report(run, scene, tmp_path):
    path, question = scene
    page = tmp_path / "out.html"
    code, out, _ = run("ask", question.text, "--image", path, "--json", "--report", page)
    assert code == 0
    trace = Trace.from_line(out)
    assert trace.stop is StopReason.ANSWERED
    assert len(trace.turns[0].token_ids) == len(trace.turns[0].logprobs) > 0
    assert question.text in page.read_text()


@pytest.mark.extras
def test_ask_writes_a_strip_and_an_animation_and_prints_their_alt_text(run, scene, tmp_path):
    path, question = scene
    strip, gif = tmp_path / "new" / "steps.png", tmp_path / "steps.gif"
    asked = ("ask", question.text, "--image", path, "--strip", strip, "--gif", gif)
    code, out, err = run(*asked)
    assert code == 0, err
    assert f"Strip: {strip}" in out
    assert f"Animation: {gif}" in out
    with Image.open(strip) as image:
        assert image.width == 1920
        assert f"Alt text: {image.text['Description']}" in out
        assert "Step 1: zoom in on picture 1" in image.text["Description"]
    with Image.open(gif) as image:
        assert image.n_frames > 5
    before = strip.read_bytes()
    code, out, _ = run(*asked, "--json", "--report", tmp_path / "out.html")
    assert code == 0
    assert Trace.from_line(out).answer
    assert strip.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--strip", "a.gif", ".png or .webp"),
        ("--gif", "a.png", ".gif or .webp"),
        ("--strip", "", "which is a folder"),
        ("--gif", "file/a.gif", "below the file"),
    ],
)
def test_a_strip_or_animation_that_cannot_be_written_is_an_error_at_once(
    run, tmp_path, option, name, words
):
    (tmp_path / "file").touch()
    result = run("ask", "What?", "--image", "no.png", option, tmp_path / name)
    assert_refused(result, option, words)


def test_a_strip_and_an_animation_need_two_files(run, tmp_path):
    path = tmp_path / "a.webp"
    result = run("ask", "What?", "--image", "no.png", "--strip", path, "--gif", path)
    assert_refused(result, "two files")


@pytest.mark.extras
def test_without_operations_no_call_is_executed(run, scene):
    path, question = scene
    _, out, _ = run("ask", question.text, "--image", path, "--json", "--no-operations")
    assert not Trace.from_line(out).observations


@pytest.mark.extras
def test_ask_about_a_clip_selects_its_frames(run, tmp_path):
    questions = render(scenes("video", "test", 0, 8), tmp_path)
    question = next(question for question in questions if question.needs_look)
    _, out, _ = run("ask", question.text, "--video", tmp_path / question.media[0].path, "--json")
    trace = Trace.from_line(out)
    assert len(trace.pictures) == 16
    assert trace.executed
    assert {p.frame for p in trace.executed[0].pictures} >= set(question.evidence.frames)


def broken_pictures(folder: Path) -> dict[str, Path]:
    good = folder / "good.png"
    Image.effect_noise((400, 300), 80).convert("RGB").save(good)
    files = {
        "no such file": folder / "missing.png",
        "empty": folder / "empty.png",
        "not a picture": folder / "text.png",
        "truncated": folder / "half.png",
        "a folder": folder / "folder.png",
    }
    files["empty"].touch()
    files["not a picture"].write_text("this is no picture")
    files["truncated"].write_bytes(good.read_bytes()[:20_000])
    files["a folder"].mkdir()
    return files


@pytest.mark.extras
@pytest.mark.parametrize("why", ["no such file", "empty", "not a picture", "truncated", "a folder"])
def test_an_unusable_picture_is_named_in_the_error(run, tmp_path, why):
    path = broken_pictures(tmp_path)[why]
    page = tmp_path / "out.html"
    assert_refused(run("ask", "What?", "--image", path, "--report", page), path.name, why)
    assert not page.exists()


def test_media_of_two_kinds_are_an_error(run):
    assert_refused(
        run("ask", "What?", "--image", "a.png", "--video", "b.mp4"), "--image and --video"
    )
    assert_refused(run("ask", "What?"), "no file")


def test_an_unknown_option_is_an_error(run):
    code, _, err = run("ask", "What?", "--imag", "a.png")
    assert code == 2
    assert "--imag" in err


def test_the_error_of_an_unknown_family_lists_all_families(run, tmp_path):
    assert_refused(
        run("world", "render", "--family", "atribute", "--out", tmp_path), "attribute", "video"
    )
    assert_refused(run("eval", "pixelworld", "--family", "x", "--out", tmp_path / "o"), "attribute")
    assert_refused(run("world", "render", "--split", "tset", "--out", tmp_path / "p"), "validation")


def test_an_out_folder_that_is_a_file_is_an_error(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    assert_refused(run("world", "render", "--count", 1, "--out", file), "file")
    assert_refused(run("eval", "pixelworld", "--count", 1, "--out", file), "file")
    assert file.read_text() == "kept"


@pytest.mark.extras
@pytest.mark.parametrize(
    "missing", ["model.safetensors", "processor_config.json", "chat_template.jinja"]
)
def test_an_incomplete_model_folder_is_an_error(run, scene, tmp_path, missing):
    from pixel_reasoner.models.folder import BUNDLED_MODELS

    folder = tmp_path / "model"
    folder.mkdir()
    for file in BUNDLED_MODELS["tiny"].iterdir():
        if file.name != missing:
            (folder / file.name).write_bytes(file.read_bytes())
    assert_refused(run("ask", "What?", "--image", scene[0], "--model", folder), str(folder))


def test_a_path_that_is_no_folder_is_never_requested_from_the_hub(run, scene):
    assert_refused(
        run("ask", "What?", "--image", scene[0], "--model", "./nowhere"), "nowhere", "tiny"
    )


def test_a_vision_tower_is_copied_from_one_model_only(run, tmp_path):
    both = ("--tower", "tiny", "--from", "runs/other/model")
    assert_refused(
        run("train", "tiny", *both, "--out", tmp_path), "--tower or --from", "runs/other"
    )


def test_render_writes_questions_that_load(run, tmp_path):
    code, out, _ = run("world", "render", "--count", 3, "--out", tmp_path, "--check-readable")
    assert code == 0
    assert "3.0 px" in out
    questions = list(load_questions(tmp_path / "questions.jsonl"))
    assert len(questions) == 3
    assert all(Path(question.media[0].path).is_file() for question in questions)


@pytest.mark.medium
def test_a_full_disk_is_one_error_and_leaves_no_partial_file(tmp_path):
    out = tmp_path / "scenes"
    done = subprocess.run(
        [*TOOL, "world", "render", "--count", "2", "--out", out],
        capture_output=True,
        text=True,
        check=False,
        env={name: one for name, one in os.environ.items() if not name.startswith("COV")},
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        ),
    )
    assert_refused((done.returncode, done.stdout, done.stderr), "png")
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_report_of_other_content_is_an_error(run, tmp_path):
    assert_refused(run("report", tmp_path / "nothing.jsonl"), "nothing.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"no": "trace"}\n')
    assert_refused(run("report", tmp_path / "bad.jsonl"), "line 1")


@pytest.mark.extras
@pytest.mark.slow
def test_a_killed_evaluation_resumes_without_loss_or_duplicates(run, tmp_path):
    out = tmp_path / "run"
    command = ["eval", "pixelworld", "--count", "24", "--batch-size", "4", "--out", str(out)]
    process = subprocess.Popen(
        [*TOOL, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = out / "traces.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= 4):
        assert time.monotonic() < deadline, "the evaluation did not get going"
        assert process.poll() is None, "the evaluation ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    with log.open("ab") as file:
        file.write(b'{"question": {"id": "cut o')
    before = log.read_bytes().count(b"\n")
    assert 4 <= before < 24

    code, out_text, err = run(*command)
    assert code == 0, err
    ids = [trace.question.id for trace in load_traces(log)]
    assert len(ids) == len(set(ids)) == 24
    summary = json.loads((out / "summary.json").read_text())
    assert summary["count"] == 24
    assert "accuracy" in out_text


@pytest.mark.extras
def test_a_run_is_not_continued_with_other_settings(run, tmp_path):
    command = ["eval", "pixelworld", "--count", 2, "--out", tmp_path / "run"]
    assert run(*command)[0] == 0
    assert_refused(run(*command, "--no-operations"), "operations")


# --- benchmarks ---


@pytest.mark.extras
def test_a_run_in_which_all_questions_failed_ends_with_one_line_and_code_3(run, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    rows = tmp_path / "rows.jsonl"
    row = {"question": "What?", "answer": "x"}

    def evaluate(*names: str) -> tuple[int, str]:
        lines = [json.dumps({**row, "id": name, "images": [f"{name}.png"]}) for name in names]
        rows.write_text("\n".join(lines))
        out = tmp_path / "-".join(names)
        code, _, err = run("eval", "jsonl", "--data", rows, "--max-new-tokens", 8, "--out", out)
        return code, err.splitlines()[-1]

    assert evaluate("broken") == (
        3,
        "error: The question failed; nothing was measured. The same command asks again",
    )
    code, last = evaluate("broken", "whole")
    assert code == 0
    assert last.startswith("failed: broken: ")


def test_every_benchmark_is_listed_with_its_files_and_metric(run):
    code, out, _ = run("eval", "--list")
    assert code == 0
    for _, task in BENCHMARKS.items():
        assert task.name in out
        assert task.metric in out


@pytest.mark.extras
def test_a_benchmark_is_evaluated_reported_and_compared(run, tmp_path):
    data = write("any_tsv", tmp_path / "data")
    with (data / "mine.tsv").open("a") as file:
        file.write("9\tonly two\n")
    command = ["eval", "tsv", "--data", data, "--max-new-tokens", 32]
    code, out, err = run(*command, "--compare", "--out", tmp_path / "run")
    assert code == 0, err
    assert "evaluated 3 of 4 rows (75.0%)" in out
    assert "dropped: broken_row 1: mine.tsv, row 4" in err
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert {"with", "without", "gain", "harm"} <= set(summary)
    assert summary["rows"]["dropped"]["broken_row"]["count"] == 1

    tables = [tmp_path / "t.md", tmp_path / "t.csv"]
    page = tmp_path / "page.html"
    code, _, err = run(
        "report", tmp_path / "run", "--out", page, "--table", tables[0], "--table", tables[1]
    )
    assert code == 0, err
    assert "Effect of operations" in page.read_text()
    header = tables[1].read_text().splitlines()[0].split(",")
    assert header[:5] == ["group", "questions", "accuracy", "95 % low", "95 % high"]
    for line in tables[1].read_text().splitlines()[1:]:
        cells = line.split(",")
        assert len(cells) == len(header)
        assert all(not cell or float(cell) >= -1 for cell in cells[1:])
    assert "| questions | accuracy | 95 % |" in tables[0].read_text()
    assert_refused(run("report", tmp_path / "run", "--table", tmp_path / "t.xls"), ".md or .csv")

    assert run(*command, "--no-operations", "--out", tmp_path / "bare")[0] == 0
    code, out, err = run(
        "compare", tmp_path / "run", tmp_path / "bare", "--out", tmp_path / "c.html"
    )
    assert code == 0, err
    assert "differing: operations: " in out
    assert "paired test" in out
    assert "Differing settings" in (tmp_path / "c.html").read_text()
    runs = [tmp_path / "run", tmp_path / "bare", tmp_path / "run/without"]
    found = json.loads(run("compare", *runs[:2], "--json")[1])
    code, out, err = run("compare", *runs, "--json", "--table", tmp_path / "c.tex")
    assert code == 0, err
    assert [one["second"] for one in json.loads(out)] == [str(one) for one in runs[1:]]
    assert json.loads(out)[0] == found
    assert r"\begin{tabular}" in (tmp_path / "c.tex").read_text()

    code, out, err = run("report", *runs, "--out", tmp_path / "all.html")
    assert code == 0, err
    assert "Metrics of each run" in (tmp_path / "all.html").read_text()
    assert_refused(run("report", *runs, tmp_path / "data"), "not a finished evaluation")


@pytest.mark.extras
def test_missing_data_of_a_benchmark_is_an_error_before_a_model_is_loaded(run, tmp_path):
    out = tmp_path / "o"
    assert_refused(run("eval"), "eval --list")
    assert_refused(run("eval", "vstarr", "--out", out), "vstar, hrbench-4k")
    assert_refused(run("eval", "vstar", "--data", tmp_path), "--out")
    assert_refused(run("eval", "vstar", "--out", out), "craigwu/vstar_bench")
    assert_refused(run("eval", "vstar", "--out", out, "--data", tmp_path), "test_questions.jsonl")
    assert_refused(run("eval", "vstar", "--out", out, "--samples", 2), "--temperature")
    assert_refused(run("eval", "vstar", "--out", out, "--compare", "--no-operations"), "--compare")
    commands = ["eval", "vstar", "--data", tmp_path], ["merge", tmp_path], ["compare", out, out]
    for command in commands:
        result = run(*command, "--scorer", "fuzzy", "--out", out)
        assert_refused(result, "typed, harness, released")
    data = write("docvqa_json", tmp_path / "data")
    file = data / "val_v1.0_withQT.json"
    file.write_text(file.read_text().replace('["0.28"]', "[]"))
    assert_refused(run("eval", "docvqa", "--out", out, "--data", data), "no_answer 1")
    assert not (out / "settings.json").exists()


def test_an_unfinished_run_has_no_table(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/traces.jsonl").touch()
    result = run("report", tmp_path / "run", "--table", tmp_path / "t.md")
    assert_refused(result, "it resumes")


@pytest.mark.extras
def test_an_unusable_device_is_an_error_before_scenes_are_rendered(run, tmp_path):
    code, _, error = run("eval", "pixelworld", "--device", "foo", "--out", tmp_path / "run")
    assert code == 2
    assert "'foo'" in error
    assert not (tmp_path / "run" / "media").exists()


def test_an_error_during_streamed_text_starts_on_a_new_line(capsys):
    transcript = Transcript()
    transcript.on_text("I look at")
    transcript.stop()
    transcript.stop()
    assert capsys.readouterr().out == "I look at\n"


def test_nothing_but_the_error_is_printed_for_a_missing_run(run, tmp_path):
    code, out, err = run("report", tmp_path / "gone", "--out", tmp_path / "page.html")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
