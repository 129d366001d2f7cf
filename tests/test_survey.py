"""A survey gives one row for each question about each medium, whatever fails, and the same rows after a kill."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import pixel_reasoner as pr
import survey as benchmark
from conftest import full_disk
from doc_blocks import ROOT, blocks, run_commands
from document_files import write_heic, write_locked_pdf, write_pdf
from pixel_reasoner.cli import init
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.workflows.survey.engine import Task, TaskResult, answer_tasks
from pixel_reasoner.workflows.survey.question_file import parse_questions
from pixel_reasoner.workflows.survey.rows import load_rows
from pixel_reasoner.world import encode_clip

pytest.importorskip("pypdfium2")
pytest.importorskip("pi_heif")

RUST = {"id": "rust", "text": "Is there rust?", "type": "yes_no"}
ZOOM = '<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0.5, 0.5, 1, 1], "target_image": 1}}</tool_call>'
SAMPLED = RolloutConfig(sampling=SamplingParams(temperature=1.0))


def model_that_answers(**answers: str) -> ScriptedModel:
    """Return a model whose answer is that of the first word that the conversation contains."""

    def reply(conversation) -> str:
        text = str(conversation)
        return next(f"\\boxed{{{one}}}" for word, one in answers.items() if word in text)

    return ScriptedModel(reply)


YES = ScriptedModel([r"\boxed{Yes}"])


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def rows_of(*arguments, **options) -> list[pr.SurveyRow]:
    return sorted(pr.survey(*arguments, **options), key=lambda row: row.id)


# --- engine ---


def tasks(count: int) -> list[Task]:
    return [Task(f"t{n}", Question(id=f"t{n}", text="?", media=())) for n in range(count)]


def test_a_failed_task_ends_no_other():
    broken = Task(
        "bad", Question(id="bad", text="?", media=(MediaItem(kind="image", path="/no.png"),))
    )
    results = list(answer_tasks([*tasks(3), broken, *tasks(2)], YES, RolloutConfig(), batch_size=2))
    assert len(results) == 6
    (failed,) = [one for one in results if one.error]
    assert (failed.task.id, failed.answer, failed.agreement) == ("bad", None, 0.0)
    assert all(one.answer == "Yes" and one.agreement == 1 for one in results if not one.error)


def test_tasks_are_read_as_they_are_needed():
    num_read = 0

    def endless():
        nonlocal num_read
        while True:
            yield from tasks(1)
            num_read += 1

    results = answer_tasks(endless(), YES, RolloutConfig(), batch_size=4)
    for _ in range(10):
        next(results)
    results.close()
    assert num_read < 20


def test_agreement_is_the_share_of_samples_with_the_chosen_answer():
    answers = iter(["red", "Red.", "blue", "red"])
    model = ScriptedModel(lambda conversation: f"\\boxed{{{next(answers)}}}")
    (result,) = answer_tasks(tasks(1), model, SAMPLED, samples=4)
    assert (result.agreement, len(result.traces)) == (0.75, 4)
    assert [trace.sample for trace in result.traces] == [0, 1, 2, 3]
    assert result.trace.answer.lower().startswith("red")
    seeds = [trace.settings.sampling.seed for trace in result.traces]
    assert seeds == [0, 1, 2, 3]


def test_samples_at_temperature_zero_are_rejected():
    with pytest.raises(UsageError, match="temperature above 0"):
        next(answer_tasks(tasks(1), YES, RolloutConfig(), samples=2))


def test_done_tasks_are_skipped_and_results_of_the_source_pass():
    known = TaskResult(tasks(1)[0], (), "blue", 1.0, None)
    found = answer_tasks(
        [known, None, *tasks(3)], YES, RolloutConfig(), is_done={"t1"}.__contains__
    )
    assert [(one.task.id, one.answer) for one in found] == [
        ("t0", "blue"),
        ("t0", "Yes"),
        ("t2", "Yes"),
    ]


def test_follow_ups_come_before_further_tasks():
    def follow_ups(result):
        id_ = result.task.id
        return [Task(f"{id_}+", result.task.question)] if len(id_) == 2 else ()

    found = answer_tasks(tasks(3), YES, RolloutConfig(), batch_size=1, follow_ups=follow_ups)
    assert [one.task.id for one in found] == ["t0", "t0+", "t1", "t1+", "t2", "t2+"]


def test_an_error_of_the_backend_ends_the_batch():
    def reply(conversation):
        raise RuntimeError("the backend is broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(answer_tasks(tasks(3), ScriptedModel(reply), RolloutConfig()))


# --- rows ---


def test_each_medium_gives_a_row_for_each_question(pictures):
    questions = [RUST, {"id": "n", "text": "How many?", "type": "count"}]
    model = model_that_answers(rust="No, none", many="three")
    rows = rows_of(pictures, questions, model)
    assert len(rows) == 8
    assert {(row.question, row.answer, row.number, row.value) for row in rows} == {
        ("rust", "no", None, "no"),
        ("n", "3", 3, 3),
    }
    assert {row.status for row in rows} == {"answered"}
    assert rows[0].trace.question.id == rows[0].id == rows[0].trace_id


def test_a_condition_decides_whether_a_question_is_asked(pictures):
    answers = iter(["yes", "no", "perhaps", "yes"])

    def reply(conversation):
        return r"\boxed{edge}" if "Where" in str(conversation) else f"\\boxed{{{next(answers)}}}"

    where = {"id": "where", "text": "Where?", "type": "choice", "choices": ["edge", "top"], "when": "rust == yes"}  # fmt: skip
    why = {"id": "why", "text": "Why?", "when": "where != edge"}
    rows = rows_of(pictures, [RUST, where, why], ScriptedModel(reply), batch_size=1)
    by_question = {
        name: [(row.status, row.answer, row.reason) for row in rows if row.question == name]
        for name in ("rust", "where", "why")
    }
    assert by_question["rust"][2] == ("unsure", None, "not an answer of type yes_no: perhaps")
    assert by_question["where"] == [
        ("answered", "edge", None),
        ("skipped", None, "rust is no"),
        ("skipped", None, "rust has no answer"),
        ("answered", "edge", None),
    ]
    assert [one[0] for one in by_question["why"]] == ["skipped"] * 4
    assert by_question["why"][1][2] == "where has no answer"


def test_little_agreement_is_unsure(pictures):
    answers = iter(["yes", "no", "yes", "no"] * 4)
    model = ScriptedModel(lambda conversation: f"\\boxed{{{next(answers)}}}")
    rows = rows_of(
        pictures, {**RUST, "unsure": 0.6}, model, samples=4, temperature=0.5, batch_size=1
    )
    assert {(row.status, row.agreement, row.reason) for row in rows} == {
        ("unsure", 0.5, "agreement 0.50 is below 0.6")
    }


def test_a_reply_without_an_answer_is_unsure(pictures):
    rows = rows_of(pictures, RUST, ScriptedModel([ZOOM]), max_turns=2)
    assert {(row.status, row.answer, row.reason) for row in rows} == {
        ("unsure", None, "no answer (max turns)")
    }


def test_evidence_is_in_pixels_of_the_whole_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg", exif=exif)  # upright 60 x 100
    lower = {**RUST, "region": [0, 0.5, 1, 1]}
    (whole,) = rows_of(tmp_path / "a.jpg", RUST, ScriptedModel([ZOOM, r"\boxed{yes}"]))
    (part,) = rows_of(tmp_path / "a.jpg", lower, ScriptedModel([ZOOM, r"\boxed{yes}"]))
    assert whole.boxes == ((30, 50, 60, 100),)
    assert part.boxes == ((30, 75, 60, 100),)
    assert (whole.boxes_on, whole.times_s) == ((1,), ())


def test_evidence_of_a_clip_has_times(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(encode_clip([Image.new("RGB", (64, 48), (9 * n, 0, 0)) for n in range(16)]))
    select = (
        '<tool_call>{"name": "select_frames", "arguments": {"target_frames": [1, 8]}}</tool_call>'
    )
    model = ScriptedModel([select, r"\boxed{yes}"])
    rows = rows_of(path, RUST, model, every="1s", num_frames=8)
    assert [(row.start_s, row.end_s) for row in rows] == [(0, 1), (1, 2)]
    assert rows[1].boxes == ((0, 0, 64, 48),) * 2
    assert all(1 <= time_s < 2 for time_s in rows[1].times_s)


def test_thirty_percent_broken_pictures_are_rows_with_errors_and_the_rest_goes_on(tmp_path):
    for number in range(20):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (32, 32)).save(path)
        if number % 10 < 3:
            path.write_bytes(path.read_bytes()[: 20 * (number % 10)])
    rows = rows_of(tmp_path, RUST, YES)
    assert sum(row.status == "error" for row in rows) == 6
    assert sum(row.status == "answered" for row in rows) == 14
    assert all(Path(row.path).name in row.error for row in rows if row.error)


def test_every_kind_of_bad_medium_is_one_row(tmp_path, pictures):
    (tmp_path / "empty").mkdir()
    write_locked_pdf(tmp_path / "locked.pdf")
    write_pdf(tmp_path / "long.pdf", 10_000)
    (tmp_path / "t.csv").write_text("where\na.png\n")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../a.png", b"x")
        archive.writestr("bomb.png", bytes(20_000_000))
        archive.write(pictures / "0.png", "0.png")
    names = ("empty", "locked.pdf", "long.pdf", "t.csv", "a.zip")
    sources = [*(tmp_path / name for name in names), pictures, pictures / "0.png"]
    rows = rows_of(sources, RUST, YES, max_pages=1, out=tmp_path / "run")
    failed = {row.path.removeprefix(f"{tmp_path}/"): row.error for row in rows if row.error}
    assert set(failed) == {
        *("empty", "locked.pdf", "long.pdf", "t.csv"),
        *("a.zip/../a.png", "a.zip/bomb.png", "pictures/0.png"),
    }
    assert sum(row.status == "answered" for row in rows) == 1 + 1 + 4
    assert "expected unique ids" in failed["pictures/0.png"]


def test_documents_of_all_kinds_are_answered(tmp_path):
    write_pdf(tmp_path / "a.pdf", 2)
    write_heic(tmp_path / "b.heic")
    rows = rows_of(tmp_path, RUST, ScriptedModel([ZOOM, r"\boxed{yes}"]))
    assert [row.page for row in rows] == [1, 2, None]
    assert rows[0].boxes == ((416, 208, 833, 416),)
    assert {row.status for row in rows} == {"answered"}


def test_questions_may_be_a_text_a_list_or_a_file(pictures, tmp_path):
    (tmp_path / "survey.toml").write_text('[[question]]\ntext = "Red?"\n')
    question = pr.SurveyQuestion(id="q1", text="Red?")
    for questions in ("Red?", ["Red?"], {"text": "Red?"}, tmp_path / "survey.toml", question):
        rows = rows_of(pictures / "0.png", questions, YES)
        assert [(row.question, row.answer) for row in rows] == [("q1", "Yes")]


@pytest.mark.parametrize(
    "options", [{"samples": 2}, {"shard": "3/2"}, {"every": "x"}, {"colum": "a"}, {"watch": 1}]
)
def test_wrong_options_are_errors_before_the_first_row(pictures, options):
    media = [pictures, pictures] if "watch" in options else pictures
    with pytest.raises(UsageError):
        pr.survey(media, RUST, YES, **options)


def test_shards_share_all_media(pictures):
    parts = [rows_of(pictures, RUST, YES, shard=f"{n}/3") for n in (1, 2, 3)]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert sorted(row.id for part in parts for row in part) == [
        row.id for row in rows_of(pictures, RUST, YES)
    ]


# --- a folder ---


def test_tables_have_the_same_rows_for_their_own_tools(pictures, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (pictures / "t.csv").write_text("id,path,line\n7,0.png,=left\n8,no.png,\n")
    model = ScriptedModel([ZOOM, r"\boxed{yes}"])
    out = tmp_path / "run"
    rows = rows_of([pictures / "t.csv", pictures], RUST, model, out=out)
    written = [pr.SurveyRow.from_dict(row) for row in load_rows(out)]
    assert sorted(written, key=lambda row: row.id) == rows
    table = parquet.read_table(out / "rows.parquet").to_pylist()
    dicts = list(load_rows(out))
    names = {name for row in dicts for name in row}
    assert table == [{name: row.get(name) for name in table[0]} for row in dicts]
    assert set(table[0]) == names
    with (out / "rows.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.DictReader(file, strict=True))
    for cell, row in zip(cells, dicts, strict=True):
        assert cell["id"] == row["id"]
        assert json.loads(cell["boxes"]) == row["boxes"]
        assert (cell["agreement"] == "") == (row["agreement"] is None)
        assert cell["data.line"].removeprefix("'") == (row.get("data.line") or "")


def test_the_rows_are_in_the_order_of_the_media_and_questions(pictures, tmp_path):
    out = tmp_path / "run"
    questions = [RUST, {**RUST, "id": "second", "when": "rust == yes"}]
    list(pr.survey(pictures, questions, YES, out=out))
    expected = [f"{n}.png:{one}" for n in range(4) for one in ("rust", "second")]
    assert [Path(row["id"]).name for row in load_rows(out)] == expected


def test_a_resumed_survey_asks_only_what_is_missing(pictures, tmp_path):
    out, asked = tmp_path / "run", []

    def reply(conversation):
        asked.append(1)
        return r"\boxed{yes}"

    where = {"id": "where", "text": "Where?", "when": "rust == yes"}
    (pictures / "9.png").write_bytes(b"broken")
    first = rows_of(pictures, [RUST, where], ScriptedModel(reply), out=out)
    assert len(asked) == 8
    whole = (out / "rows.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (out / "rows.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    again = rows_of(pictures, [RUST, where], ScriptedModel(reply), out=out)
    assert again == first
    assert len(asked) == 8 + 5
    assert (out / "rows.jsonl").read_bytes() == whole
    Image.new("RGB", (8, 8)).save(pictures / "9.png")
    repaired = rows_of(pictures, [RUST, where], ScriptedModel(reply), out=out)
    assert {row.status for row in repaired} == {"answered"}
    assert len(asked) == 8 + 5 + 2


def test_other_questions_in_the_same_folder_are_rejected(pictures, tmp_path):
    list(pr.survey(pictures, RUST, YES, out=tmp_path / "run"))
    with pytest.raises(UsageError, match="use another --out"):
        list(pr.survey(pictures, {**RUST, "text": "Is it rusty?"}, YES, out=tmp_path / "run"))


def test_the_message_about_other_questions_names_the_first_difference_alone(pictures, tmp_path):
    more = [{"id": "n", "text": "How many?", "type": "count"}, {"id": "m", "text": "Which?"}]
    list(pr.survey(pictures, [RUST, *more], YES, out=tmp_path / "run"))
    changed = [RUST, {**more[0], "text": "How many are there?"}, more[1]]
    for questions, words in (
        (changed, 'survey.n.text = "How many?"; got "How many are there?"'),
        ([RUST, more[0]], "; got null. Fix"),
    ):
        with pytest.raises(UsageError) as error:
            list(pr.survey(pictures, questions, YES, out=tmp_path / "run"))
        assert words in str(error.value)
        assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_a_full_disk_is_one_error_and_the_rows_before_it_are_kept(pictures, tmp_path):
    out = tmp_path / "run"
    with full_disk(1200), pytest.raises(OutputError, match="run the same command again"):
        list(pr.survey(pictures, RUST, YES, out=out, batch_size=1))
    rows = rows_of(pictures, RUST, YES, out=out)
    assert [row.status for row in rows] == ["answered"] * 4


def test_the_report_shows_unsure_rows_first(pictures, tmp_path):
    answers = iter(["yes", "yes", "perhaps", "yes"])
    model = ScriptedModel(lambda conversation: f"\\boxed{{{next(answers)}}}")
    list(pr.survey(pictures, RUST, model, out=tmp_path / "run", batch_size=1))
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    report = json.loads(re.search(r'(\{"format_version".*?\})</script>', page)[1])
    assert report["entries"][0]["id"].endswith("2.png:rust")
    assert report["sections"][0]["title"] == "Is there rust?"
    assert report["sections"][0]["rows"][0] == ["yes", 3.0, 0.75]


# --- killed ---


def test_a_killed_survey_writes_the_same_rows(tmp_path):
    """The short form of benchmarks/survey.py, which asks 100,000 rows."""
    table = benchmark.make_table(tmp_path, 200)
    found = benchmark.finish(benchmark.start(table, tmp_path / "whole", 0))
    assert (found["rows"], found["answered"], found["skipped"], found["error"]) == (
        200,
        140,
        30,
        30,
    )
    assert found["peak"] <= benchmark.MAX_MB
    benchmark.run_with_kills(table, tmp_path / "killed", 200, 1, random.Random(2))
    benchmark.finish(benchmark.start(table, tmp_path / "killed", 0))
    assert benchmark.digest(tmp_path / "killed") == benchmark.digest(tmp_path / "whole")


# --- command line ---


@pytest.fixture
def questions(tmp_path) -> Path:
    path = tmp_path / "survey.toml"
    path.write_text('[[question]]\nid = "rust"\ntext = "Is there rust?"\ntype = "yes_no"\n')
    return path


@pytest.mark.extras
def test_the_command_prints_counts_and_where_the_tables_are(run, pictures, questions, tmp_path):
    out, broken = tmp_path / "run", pictures / "bad.png"
    broken.write_bytes(b"junk")
    command = ["survey", pictures, "-q", questions, "-o", out, "--max-new-tokens", 4]
    code, printed, errors = run(*command)
    assert (code, "bad.png" in errors) == (3, True)
    assert errors.startswith("note: This small model only supports PixelWorld")
    assert printed.startswith("5 rows: ")
    assert f"in {out}" in printed
    assert {path.name for path in out.iterdir()} >= {
        *("rows.jsonl", "rows.csv", "rows.parquet", "report.html", "traces.jsonl"),
        *("counts.json", "spec.json"),
    }
    assert json.loads((out / "counts.json").read_text())["error"] == 1
    broken.unlink()
    code, printed, _ = run(*command)
    assert (code, printed.startswith("4 rows: ")) == (0, True)


@pytest.mark.extras
def test_the_first_survey_of_the_page_prints_what_it_shows(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands, shown = blocks(ROOT / "docs" / "survey.md")[:2]
    before, rest = commands.text.split("cat > shapes.toml <<'END'\n")
    questions, after = rest.split("END\n")
    run_commands(before, run)
    (tmp_path / "shapes.toml").write_text(questions)
    code, printed, _ = run(*shlex.split(after)[1:])
    assert (code, printed) == (0, shown.text)
    assert "skipped" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{pictures}", "-q", "no.toml", "-o", "{out}"], "expected a TOML file with questions"),
        (["no.png", "-q", "{questions}", "-o", "{out}"], "expected an existing file or folder"),
        (["-q", "{questions}", "-o", "{out}"], "name at least one"),
        (["{pictures}", "-q", "{questions}"], "expected --out"),
        (["{pictures}", "-q", "{questions}", "-o", "{out}", "--samples", "3"], "temperature above 0"),
        (["{pictures}", "-q", "{questions}", "-o", "{out}", "--watch", "x"], "expected media, or --watch"),
        (["{pictures}", "-q", "{questions}", "-o", "{out}", "--shard", "3/2"], "--shard i/n"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_error_with_code_2_and_writes_nothing(
    run, pictures, questions, tmp_path, arguments, message
):
    out = tmp_path / "run"
    given = [one.format(pictures=pictures, questions=questions, out=out) for one in arguments]
    code, _, errors = run("survey", *given)
    assert (code, message in errors, "Traceback" in errors) == (2, True, False), errors
    assert not out.exists()


def test_the_template_is_valid_and_names_every_key(run, tmp_path):
    path = tmp_path / "survey.toml"
    assert run("init", "survey", "--out", path)[0] == 0
    assert len(parse_questions(tomllib.loads(path.read_text()))) == 4
    text = (Path(init.__file__).parent / "templates/survey.toml").read_text()
    for key in ("id", "text", "type", "choices", "when", "region", "unsure"):
        assert re.search(rf"^#? ?{key} = .*#", text, re.M) or f"{key} = " in text


WATCH = r"""
import sys
from pathlib import Path
from pixel_reasoner import workflow_api as api
from pixel_reasoner.cli.output import warn
from pixel_reasoner.models.scripted import ScriptedModel

folder, questions, out = map(Path, sys.argv[1:])
spec = api.SurveySpec(questions=tuple(api.read_question_file(questions)), watch=folder, out=out, report_rows=0)
summary = api.write_survey(spec, ScriptedModel([r"\boxed{yes}"]), on_message=warn)
print(summary.num_rows, summary.is_stopped)
"""


def test_ctrl_c_ends_a_watched_folder_cleanly_and_the_next_run_goes_on(
    pictures, questions, tmp_path
):
    out, missing = tmp_path / "run", tmp_path / "away"
    command = [sys.executable, "-c", WATCH, str(pictures), str(questions), str(out)]
    for wanted in (4, 5):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        rows = out / "rows.jsonl"
        deadline = time.monotonic() + 60
        while not rows.exists() or len(rows.read_bytes().splitlines()) < wanted:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pictures.rename(missing)
        assert process.stderr.readline() == f"{pictures} is missing: waiting until it is back\n"
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
        assert (process.returncode, printed, errors) == (0, f"{wanted} True\n", "")
        assert len((out / "rows.csv").read_text().splitlines()) == wanted + 1
        missing.rename(pictures)
        Image.new("RGB", (8, 8)).save(pictures / "new.png")


def test_a_path_that_does_not_exist_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="expected an existing file or folder"):
        pr.survey(tmp_path / "no", RUST, YES)
