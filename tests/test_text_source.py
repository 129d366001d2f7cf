"""Synthesis from documents: every trace passes the check, what cannot be used is named, a run is resumed, its traces train a model."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from cli_fixture import assert_refused
from document_files import write_locked_pdf
from pixel_reasoner.data.check import check_traces
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.schema.question import load_questions
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.sources.base import open_source
from pixel_reasoner.sources.documents import recognition
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize
from text_documents import WORDS, Page, write_documents, write_pdf
from text_training import receipt, slip, write_pages

pytest.importorskip("pypdfium2")


def synth(data, out, **options):
    return synthesize(SynthSpec(source="text", data=data, out=out, **options))


def dropped(out) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    return {row["where"]: (row["reason"], row["detail"]) for row in rows}


def a_page(text: str = "The invoice number follows here: 4711 in total") -> Page:
    page = Page((300, 200))
    for number in range(6):
        page.write(
            20,
            30 + 25 * number,
            text if not number else f"line {number} has the word w{number} and more",
            10,
        )
    return page


@pytest.fixture
def without_ocr(monkeypatch):
    monkeypatch.setattr(recognition, "is_ocr_installed", lambda: False)


@pytest.mark.medium
def test_all_traces_of_turned_cropped_and_tabular_pages_pass_the_check(tmp_path):
    write_documents(tmp_path / "data", 4, seed=2)
    summary = synth(tmp_path / "data", tmp_path / "out", per_page=5)
    traces = list(load_run(tmp_path / "out", [tmp_path / "data"]))
    assert summary["count"] == len(traces) > 20
    verdict = check_traces(traces)
    assert verdict.passed, verdict.named
    assert {"too_wide", "wrong_once", "single"} <= set(summary["kinds"])
    assert len({trace.question.category for trace in traces}) > 6


@pytest.mark.medium
def test_the_bytes_do_not_depend_on_the_number_of_workers_or_a_stop(tmp_path):
    write_documents(tmp_path / "data", 6)
    synth(tmp_path / "data", tmp_path / "whole", count=40)

    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        if count > 12:
            raise Stop

    class StopBar:
        def start(self, *_):
            return lambda count, *_: stop(count)

    spec = SynthSpec(source="text", data=tmp_path / "data", out=tmp_path / "again", count=40)
    with pytest.raises(Stop):
        synthesize(spec, StopBar())
    assert not (tmp_path / "again" / "traces.jsonl").exists()
    synth(tmp_path / "data", tmp_path / "again", count=40, workers=2)
    names = ("traces.jsonl", "dropped.jsonl")
    assert [(tmp_path / "whole" / one).read_bytes() for one in names] == [
        (tmp_path / "again" / one).read_bytes() for one in names
    ]


def test_another_version_of_a_document_is_not_mixed_into_a_run(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", [a_page()])
    synth(path, tmp_path / "out")
    write_pdf(path, [a_page("Another text: 1")])
    with pytest.raises(UsageError, match=r"same data .* another row 1: a\.pdf"):
        synth(path, tmp_path / "out")


def test_the_seed_and_the_limit_per_page_are_kept(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", [a_page(), a_page("Other words on page two: 22")])
    one = synth(path, tmp_path / "one", per_page=2)
    assert one["count"] <= 2 * 2 + 1  # and one about both pages
    texts = []
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        synth(path, tmp_path / name, seed=seed, per_page=4)
        texts.append((tmp_path / name / "traces.jsonl").read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_every_file_that_cannot_be_used_is_named_once(tmp_path, without_ocr):
    data = tmp_path / "data"
    data.mkdir()
    write_pdf(data / "good.pdf", [a_page()])
    write_locked_pdf(data / "locked.pdf")
    (data / "broken.pdf").write_bytes(b"%PDF-1.7\njunk")
    (data / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    write_pdf(data / "blank.pdf", [Page((300, 200))])
    Image.new("RGB", (90, 60), (9, 9, 9)).save(data / "night.png")
    Image.linear_gradient("L").save(data / "photo.png")
    few = Page((300, 200))
    few.write(20, 30, "one two", 10)
    write_pdf(data / "few.pdf", [few, few])
    (data / "notes.txt").write_text("no document")
    (data / ".hidden.pdf").write_bytes(b"x")
    summary = synth(data, tmp_path / "out")
    assert summary["count"] > 0
    found = dropped(tmp_path / "out")
    assert {name: reason for name, (reason, _) in found.items()} == {
        "blank.pdf#page=1": "blank_page",
        "broken.pdf": "unusable_medium",
        "cut.png": "unusable_medium",
        "few.pdf#page=1": "no_question",
        "few.pdf#page=2": "no_question",
        "locked.pdf": "password",
        "night.png": "dark_page",
        "photo.png": "no_text_layer",
    }
    assert all("\n" not in detail for _, detail in found.values())
    assert ".[ocr]" in found["photo.png"][1]
    assert "qpdf --decrypt" in found["locked.pdf"][1]


def test_a_folder_without_documents_and_ocr_that_is_not_installed_are_errors(tmp_path, without_ocr):
    with pytest.raises(InputError, match=r"PDF files or pictures; got .*none in it"):
        synth(tmp_path, tmp_path / "out")
    write_pdf(tmp_path / "a.pdf", [a_page()])
    with pytest.raises(UsageError, match="the extra ocr; got not installed"):
        synth(tmp_path, tmp_path / "out2", ocr="always")
    with pytest.raises(UsageError, match="options of the source text"):
        open_source("text", data=tmp_path, ocr="sometimes")


def test_media_outside_of_the_folder_are_not_asked_about(tmp_path):
    outside = write_pdf(tmp_path / "secret.pdf", [a_page()])
    data = tmp_path / "data"
    data.mkdir()
    write_pdf(data / "own.pdf", [a_page()])
    (data / "link.pdf").symlink_to(outside)
    synth(data, tmp_path / "out")
    used = {one.question.media[0].path for one in load_traces(tmp_path / "out" / "traces.jsonl")}
    assert used == {str(data / "own.pdf")}
    assert {reason for reason, _ in dropped(tmp_path / "out").values()} == {"outside_media"}


def test_a_run_without_operations_says_so(tmp_path, run):
    path = write_pdf(tmp_path / "a.pdf", [a_page()])
    options = ("--model", "pixel_reasoner", "--text-share", "1")
    code, out, err = run("synth", "text", "--data", path, *options, "--out", tmp_path / "a")
    assert (code, "kinds: text" in out) == (0, True), err
    assert "no trace uses an operation" in err
    code, out, err = run(
        "synth", "text", "--data", path, *options, "--legible-px", "90", "--out", tmp_path / "b"
    )
    assert "no trace uses an operation" not in err
    assert "text" not in out.partition("kinds: ")[2]


def test_questions_of_traces_are_exported_with_absolute_paths(tmp_path, run):
    path = write_pdf(tmp_path / "a.pdf", [a_page()])
    synth(path, tmp_path / "traces")
    asked = [one.question for one in load_run(tmp_path / "traces", [tmp_path])]
    allowed = ("--allow-media", tmp_path)
    code, out, err = run(
        "export", tmp_path / "traces", "--to", "questions", *allowed, "--out", tmp_path / "rows"
    )
    assert code == 0, err
    assert f"{len(asked)} rows" in out
    assert list(load_questions(tmp_path / "rows" / "questions.jsonl")) == asked
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "questions.jsonl").write_text("")
    refused = run("export", tmp_path / "none", "--to", "questions", "--out", tmp_path / "b")
    assert_refused(refused, "questions with answers")
    assert not (tmp_path / "b" / "questions.jsonl").exists()


def test_options_of_other_sources_are_refused(run):
    assert_refused(
        run("synth", "pixelworld", "--per-page", "3", "--out", "x"), "--per-page", "text"
    )
    assert_refused(run("synth", "jsonl", "--data", "x", "--ocr", "never", "--out", "x"), "--ocr")
    assert_refused(
        run("synth", "text", "--data", "x", "--per-scene", "3", "--out", "x"), "--per-scene"
    )


@pytest.mark.medium
def test_a_scan_is_read_by_ocr_and_its_traces_pass_the_check(tmp_path):
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    from pypdfium2 import PdfDocument

    page = Page((300, 120))
    for number, line in enumerate(
        ("Invoice number: 48213", "Amount due: 97.50 euros", "Customer: Garden Tools")
    ):
        page.write(20, 30 + 30 * number, line, 14)
    document = PdfDocument(write_pdf(tmp_path / "a.pdf", [page]))
    (tmp_path / "data").mkdir()
    document[0].render(scale=2).to_pil().save(tmp_path / "data" / "scan.png")
    document.close()
    summary = synth(tmp_path / "data", tmp_path / "out", text_share=1.0)
    traces = list(load_run(tmp_path / "out", [tmp_path / "data"]))
    assert summary["count"] >= 3
    assert {"48213", "97.50 euros", "Garden Tools"} & {trace.question.answer[0] for trace in traces}
    assert {trace.question.labels["text"] for trace in traces} == {"ocr"}
    assert check_traces(traces).passed


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_traces_of_documents_train_a_model_that_is_evaluated_on_others(tmp_path, run):
    for name, layout in (("train", slip), ("test", receipt)):
        write_pages(tmp_path / name, 2, (layout,), WORDS)
        code, out, err = run(
            "synth",
            "text",
            "--data",
            tmp_path / name,
            "--count",
            "8",
            "--out",
            tmp_path / f"{name}-traces",
        )
        assert code == 0, err
        assert "8 traces" in out
    code, out, err = run("check", tmp_path / "train-traces", "--allow-media", tmp_path / "train")
    assert code == 0, err
    config = tmp_path / "sft.toml"
    config.write_text(
        'traces = ["train-traces"]\nout = "sft"\nmodel = "tiny"\nbatch_size = 4\n[trl]\nmax_steps = 2\nper_device_train_batch_size = 4\nreport_to = "none"\n'
    )
    code, out, err = run("train", "sft", config)
    assert code == 0, err
    code, out, err = run(
        "export",
        tmp_path / "test-traces",
        "--to",
        "questions",
        "--allow-media",
        tmp_path / "test",
        "--out",
        tmp_path / "rows",
    )
    assert code == 0, err
    assert len(list(load_questions(tmp_path / "rows" / "questions.jsonl"))) == 8
    code, out, err = run(
        "eval",
        "jsonl",
        "--data",
        tmp_path / "rows",
        "--allow-media",
        tmp_path / "test",
        "--model",
        tmp_path / "sft" / "model",
        "--out",
        tmp_path / "eval",
    )
    assert code == 0, err
    assert len(list(load_traces(tmp_path / "eval" / "traces.jsonl"))) == 8
