"""Shards of a survey are merged to the folder of a whole one; protected and hostile files are rows."""

from __future__ import annotations

import re
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

import pixel_reasoner as pr
import worker_tasks
from cli_fixture import assert_refused
from document_files import write_locked_pdf
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media import worker
from pixel_reasoner.media.documents import PASSWORD_VARIABLE, read_passwords
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.workflow_api import merge_surveys, parse_shard
from pixel_reasoner.workflows.survey.rows import load_rows

pytest.importorskip("pypdfium2")
QUESTIONS = [
    {"id": "kind", "text": "What is it?", "type": "choice", "choices": ["part", "tool"]},
    {"id": "rust", "text": "Is there rust?", "type": "yes_no", "when": "kind == part"},
]
PASSWORDS = (SecretStr("not-this-one"), SecretStr("secret"))


def model() -> ScriptedModel:
    def reply(conversation) -> str:
        return r"\boxed{yes}" if "rust" in str(conversation) else r"\boxed{A}"

    return ScriptedModel(reply)


@pytest.fixture
def media(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(7):
        Image.new("RGB", (64, 48), (30 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"broken")
    return folder


def survey(media, out, shard="1/1", questions=QUESTIONS, **options) -> Path:
    list(pr.survey(media, questions, model(), out=out, shard=shard, **options))
    return out


@pytest.fixture
def shards(media, tmp_path) -> list[Path]:
    return [survey(media, tmp_path / f"shard{n}", f"{n}/3") for n in (1, 2, 3)]


# --- merging ---


def test_merged_shards_are_the_survey_without_shards(media, shards, tmp_path):
    whole = survey(media, tmp_path / "whole")
    summary = merge_surveys([shards[2], shards[0], shards[1]], tmp_path / "merged")
    assert summary.num_rows == 14
    assert summary.num_failed == 1
    for name in ("rows.jsonl", "rows.csv", "spec.json", "counts.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (whole / name).read_bytes(), name
    asked, expected = (
        [(trace.question.id, trace.answer) for trace in load_traces(folder / "traces.jsonl")]
        for folder in (tmp_path / "merged", whole)
    )
    assert asked == expected
    assert {path.name for path in summary.paths} >= {"rows.parquet", "report.html"}


def test_the_survey_without_shards_tries_failed_rows_of_a_merged_folder_again(
    media, shards, tmp_path
):
    merge_surveys(shards, tmp_path / "merged")
    Image.new("RGB", (64, 48)).save(media / "3.png")
    again = model()
    rows = list(pr.survey(media, QUESTIONS, again, out=tmp_path / "merged"))
    assert len(rows) == 14
    assert {row.status for row in rows} == {"answered"}
    assert len(again.conversations) == 2, "both questions about the repaired picture"


def test_an_interrupted_merge_is_continued(shards, tmp_path, monkeypatch):
    out = tmp_path / "merged"
    with monkeypatch.context() as context:
        from pixel_reasoner.workflows.survey import merge

        def interrupted(*arguments, **options):
            raise KeyboardInterrupt

        context.setattr(merge, "complete_survey", interrupted)
        with pytest.raises(KeyboardInterrupt):
            merge_surveys(shards, out)
    assert merge_surveys(shards, out).num_rows == 14
    assert len(list(load_rows(out))) == 14


def test_missing_repeated_and_foreign_shards_are_named(media, shards, tmp_path):
    out = tmp_path / "merged"
    with pytest.raises(UsageError, match=r"expected all 3 shards; got no 1/3, 3/3"):
        merge_surveys([shards[1]], out)
    with pytest.raises(UsageError, match=r"each shard once; got 1/3 in .*shard1 and in .*copy"):
        merge_surveys([*shards, shutil.copytree(shards[0], tmp_path / "copy")], out)
    other = survey(media, tmp_path / "other", "3/3", QUESTIONS[:1])
    with pytest.raises(UsageError, match=r"shards of one survey: survey.* got .* in .*other"):
        merge_surveys([*shards[:2], other], out)
    four = survey(media, tmp_path / "four", "3/4")
    with pytest.raises(UsageError, match=r"number of shards = 3.*got 4 in .*four"):
        merge_surveys([*shards[:2], four], out)
    with pytest.raises(InputError, match=r"the folder of a survey; got .*pictures"):
        merge_surveys([media], out)
    assert not out.exists()


def test_an_unfinished_shard_and_other_media_are_named(media, shards, tmp_path):
    out = tmp_path / "merged"
    Image.new("RGB", (64, 48)).save(media / "0a.png")
    more = survey(media, tmp_path / "more", "2/3")
    with pytest.raises(InputError, match=r"same media; got the row .* in .*more and in another"):
        merge_surveys([shards[0], more, shards[2]], out)
    for name in ("0a.png", "5.png", "6.png"):
        (media / name).unlink()
    less = survey(media, tmp_path / "less", "3/3")
    with pytest.raises(InputError, match=r"same media; got 3 media instead of 2 in .*shard1"):
        merge_surveys([*shards[:2], less], out)
    rows = pr.survey(media, QUESTIONS, model(), out=tmp_path / "killed", shard="3/3")
    next(rows)
    rows.close()
    with pytest.raises(InputError, match=r"finished shards; got .*killed, which was interrupted"):
        merge_surveys([*shards[:2], tmp_path / "killed"], out)
    assert not out.exists()


def test_the_command_merges_a_survey(run, shards, tmp_path):
    code, out, err = run("merge", *shards, "--out", tmp_path / "merged")
    assert code == 3, "a row failed"
    assert "14 rows" in out
    assert "without --shard" in err
    assert_refused(run("merge", *shards[:2], "--out", tmp_path / "x"), "3/3")
    assert_refused(run("merge", *shards, "--out", tmp_path / "x", "--scorer", "exact"), "--scorer")


def test_shards_are_numbered_from_one():
    assert parse_shard("3/16") == (2, 16)


# --- passwords ---


@pytest.mark.parametrize("workers", [0, 1])
def test_a_password_opens_a_pdf_and_is_written_nowhere(tmp_path, workers):
    write_locked_pdf(tmp_path / "a.pdf")
    out = tmp_path / "out"
    options = {"pdf_passwords": PASSWORDS, "decode_workers": workers}
    (row,) = pr.survey(tmp_path / "a.pdf", "What is it?", model(), out=out, **options)
    assert (row.status, row.page) == ("answered", 1)
    assert "secret" not in repr(PASSWORDS)
    for path in out.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes(), path
    assert b"expected a PDF without a password" not in (out / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("passwords", "error"),
    [
        ((), "expected a PDF without a password"),
        (PASSWORDS[:1], "expected the password of the PDF; got .*, which has another one"),
    ],
)
def test_a_missing_or_wrong_password_is_one_row(tmp_path, passwords, error):
    write_locked_pdf(tmp_path / "a.pdf")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    rows = list(pr.survey(tmp_path, "What is it?", model(), pdf_passwords=passwords))
    failed, answered = sorted(rows, key=lambda row: row.id)
    assert answered.status == "answered"
    assert failed.status == "error"
    assert re.search(error, failed.error)
    assert "not-this-one" not in failed.error


def test_passwords_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert read_passwords(None) == ()
    monkeypatch.setenv(PASSWORD_VARIABLE, "from outside")
    assert [one.get_secret_value() for one in read_passwords(None)] == ["from outside"]
    file = tmp_path / "passwords.txt"
    file.write_text("one two\n\nthree\n")
    assert [one.get_secret_value() for one in read_passwords(file)] == ["one two", "three"]
    for content in (b"", b"\n\n", b"\xff\xfe\xff"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="one password per line"):
            read_passwords(file)


# --- worker processes ---


def test_a_crash_of_a_decoder_is_one_row_and_the_report_is_written(media, tmp_path, monkeypatch):
    # The picture `3.png` ends its worker, as a mistake in a decoder does.
    crash = partial(worker_tasks.crash_for, "3.png", signal.SIGSEGV)
    monkeypatch.setattr(worker, "header_task", crash)
    out = tmp_path / "out"
    rows = list(pr.survey(media, "What is it?", model(), out=out, decode_workers=1))
    failed = [row for row in rows if row.status == "error"]
    assert len(rows) == 7
    assert [Path(row.path).name for row in failed] == ["3.png"]
    assert "the decoder ended with signal SIGSEGV" in failed[0].error
    assert (out / "report.html").exists()


def test_a_crash_while_pages_are_counted_is_one_row(media, tmp_path, monkeypatch):
    from pixel_reasoner.workflows.survey import dividing

    (media / "4.pdf").write_bytes(b"%PDF-1.7")
    crash = partial(worker_tasks.crash_for, "4.pdf", signal.SIGSEGV)
    monkeypatch.setattr(dividing, "pages_task", crash)
    rows = list(pr.survey(media, "What is it?", model(), decode_workers=1))
    errors = {Path(row.path).name: row.error for row in rows if row.error}
    assert set(errors) == {"3.png", "4.pdf"}
    assert "signal SIGSEGV" in errors["4.pdf"]


def test_the_same_rows_with_and_without_workers(media, tmp_path):
    here, there = (
        survey(media, tmp_path / f"{count}", decode_workers=count) / "rows.jsonl"
        for count in (0, 1)
    )
    assert here.read_bytes() == there.read_bytes()
