"""Odd rows: each is accepted completely or dropped with its reason. Every change is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pyarrow as pa
import pytest
from attacks import rows as attack
from pyarrow import parquet

import odd_rows
from benchmarks_fixture import tsv
from odd_rows import OddRow, media_folder
from pixel_reasoner import cli
from pixel_reasoner.data.formats import import_message_list
from pixel_reasoner.data.labels import Analysis, region_task
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.benchmark import select_questions
from pixel_reasoner.evals.benchmarks import BENCHMARKS
from pixel_reasoner.schema.question import Evidence, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.base import open_source
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.sources.rows import RowError, SkippedRow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the media of the rows."""
    return media_folder(tmp_path_factory.mktemp("rows"))


def each(rows: list[OddRow]) -> Any:
    return pytest.mark.parametrize("odd", rows, ids=lambda odd: odd.name)


def fields_of(question: Question) -> dict[str, Any]:
    """Return the fields of a question that the table of rows names."""
    evidence = question.evidence
    return dict(question) | {
        "boxes": evidence.boxes if evidence else (),
        "frames": evidence.frames if evidence else (),
        "paths": tuple(Path(medium.path).name for medium in question.media),
        "num_media": len(question.media),
        "num_options": len(question.options),
    }


def treatment(row: Question | Trace | SkippedRow, expected: str | dict[str, Any]) -> Any:
    """Return the result of a row: a drop reason, or the expected fields of its question."""
    if isinstance(row, SkippedRow):
        assert row.where
        assert row.detail
        return row.reason
    question = row.question if isinstance(row, Trace) else row
    if isinstance(expected, str):
        return question
    found = fields_of(question)
    return {name: found[name] for name in expected}


def test_there_are_enough_kinds_of_odd_rows():
    assert len(odd_rows.ALL) >= 60
    names = [(row.name, str(type(row.row))) for row in odd_rows.OWN_ROWS]
    assert len(set(names)) == len(names)


@each(odd_rows.OWN_ROWS)
def test_an_own_row_is_accepted_completely_or_dropped_with_its_reason(odd, folder):
    line = odd.row if isinstance(odd.row, str) else json.dumps(odd.row)
    (folder / "rows.jsonl").write_text(line + "\n")
    (row,) = open_source("jsonl", data=folder / "rows.jsonl").questions(folder)
    assert treatment(row, odd.expected) == odd.expected, row


@each(odd_rows.TSV_ROWS)
def test_a_row_of_a_tsv_is_accepted_completely_or_dropped_with_its_reason(odd, folder, tmp_path):
    tsv(tmp_path / "mine.tsv", [odd.row])
    found = select_questions(BENCHMARKS.get("tsv"), tmp_path / "mine.tsv", tmp_path / "media")
    (row,) = [*found.questions, *found.dropped]
    assert treatment(row, odd.expected) == odd.expected, row


def write_table(row: dict[str, Any], path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist([row]), path)


@each(odd_rows.PARQUET_ROWS)
def test_a_row_of_a_parquet_file_is_accepted_completely_or_dropped_with_its_reason(odd, folder):
    write_table(odd.row, folder / "own.parquet")
    (row,) = open_source("parquet", data=folder / "own.parquet").questions(folder)
    assert treatment(row, odd.expected) == odd.expected, row


@each(odd_rows.RELEASED_ROWS)
def test_a_row_of_the_upstream_data_is_accepted_completely_or_dropped_with_its_reason(odd, folder):
    write_table(odd.row, folder / "release.parquet")
    (row,) = read_questions(folder / "release.parquet", folder / "out")
    assert treatment(row, odd.expected) == odd.expected, row


@each(odd_rows.MESSAGE_ROWS)
def test_messages_are_imported_completely_or_dropped_with_their_reason(odd, folder):
    (folder / "data.json").write_text(json.dumps([odd.row]))
    (row,) = import_message_list(folder / "data.json")
    assert treatment(row, odd.expected) == odd.expected, row


def outcome(read: Any) -> Any:
    try:
        return [row.id if isinstance(row, Question) else row.reason for row in read()]
    except InputError as error:
        return type(error).__name__


@each(odd_rows.FILES)
def test_a_jsonl_file_of_any_editor_is_read_or_is_one_error(odd, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(odd.row)
    source = open_source("jsonl", data=tmp_path / "rows.jsonl")
    assert outcome(lambda: list(source.questions(tmp_path))) == odd.expected


@each(odd_rows.TSV_FILES)
def test_a_tsv_of_any_editor_is_read_or_is_one_error(odd, tmp_path):
    (tmp_path / "mine.tsv").write_bytes(odd.row)

    def read() -> list[Question | SkippedRow]:
        found = select_questions(BENCHMARKS.get("tsv"), tmp_path, tmp_path / "media")
        return [*found.questions, *found.dropped]

    assert outcome(read) == odd.expected


@each(odd_rows.CONFIGS)
def test_an_option_of_a_source_has_effect_or_is_an_error(odd, tmp_path):
    if odd.expected == "UsageError":
        with pytest.raises(UsageError):
            open_source("jsonl", **{"data": tmp_path} | odd.row)
        return
    source = open_source("jsonl", **{"data": tmp_path} | odd.row)
    assert {name: getattr(source, name) for name in odd.expected} == odd.expected


@each(odd_rows.REPLIES)
def test_a_reply_of_a_labeller_is_accepted_completely_or_has_a_reason(odd):
    evidence = Evidence(boxes=(odd_rows.HERE,))
    region = Question(id="r", text="", media=(), evidence=evidence)
    _, read = region_task(region, evidence, odd_rows.HERE, Analysis.TEMPLATE)
    text = odd.row if isinstance(odd.row, str) else json.dumps(odd.row)
    if isinstance(odd.expected, str):
        with pytest.raises(RowError) as caught:
            read(text)
        assert caught.value.reason == odd.expected
        return
    fields = read(text)
    assert fields["options"][fields["answer"][0]] == odd.expected["answer_text"]


# --- sets of rows ---


@pytest.mark.extras
def test_a_data_set_saved_by_datasets_is_read_with_its_picture_bytes(folder, tmp_path):
    from datasets import Dataset, DatasetDict, Features, Image, Value

    features = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    rows = {"image": [str(folder / "a.png")] * 2, "question": ["What?", None], "answer": ["it"] * 2}
    dataset = Dataset.from_dict(rows, features=features)
    dataset.save_to_disk(str(tmp_path / "saved"))
    question, dropped = read_questions(tmp_path / "saved", tmp_path / "out")
    assert Path(question.media[0].path).read_bytes() == (folder / "a.png").read_bytes()
    assert dropped.reason == "no_question"
    DatasetDict(test=dataset).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(InputError, match=r"give --data .*test"):
        list(read_questions(tmp_path / "splits"))


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"box_unit": "fraction"}, {"boxes": [[0.1, 0.2, 0.9, 0.8]]}),
        ({"box_unit": "permille", "box_format": "xywh"}, {"boxes": [[100, 200, 800, 600]]}),
        ({"box_unit": "fraction"}, {"boxes": [[20, 20, 180, 80]], "box_unit": "pixel"}),
    ],
)
def test_the_box_unit_of_a_row_has_priority_over_that_of_the_source(options, row, folder):
    (folder / "units.jsonl").write_text(json.dumps(odd_rows.short(**row)))
    source = open_source("jsonl", data=folder / "units.jsonl", **options)
    (question,) = source.questions(folder)
    assert question.evidence.boxes == (odd_rows.HERE,)


def test_the_error_of_a_row_without_a_key_shows_a_valid_row(folder):
    (folder / "rows.jsonl").write_text('{"image": "a.png", "query": "What?", "answer": "it"}\n')
    (row,) = open_source("jsonl", data=folder / "rows.jsonl").questions(folder)
    assert row.where == "rows.jsonl, line 1"
    valid = row.detail.partition("a valid row: ")[2]
    (folder / "rows.jsonl").write_text(valid.replace("a.jpg", "a.png"))
    assert isinstance(next(open_source("jsonl", data=folder).questions(folder)), Question)


# --- commands and docs ---


def command(capsys, monkeypatch, *arguments: object) -> tuple[int, str]:
    """Return a function that runs a command and returns its exit code and output."""
    monkeypatch.setattr("sys.argv", ["pixel-reasoner", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "1000")
    try:
        cli.main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code or 0
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_rows_without_any_trace_are_an_error_and_corrected_rows_restart_the_run(
    folder, tmp_path, capsys, monkeypatch
):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out"
    evidence = {"image": str(folder / "a.png"), "boxes": [[20, 20, 40, 40]]}
    arguments = ("synth", "jsonl", "--data", rows, "--out", out, "--allow-media", folder)
    for wrong in ({"answer": None}, {"boxes": [[0.1, 0.1, 0.2, 0.2]]}):
        rows.write_text(json.dumps(odd_rows.short(**evidence | wrong)) + "\n")
        code, printed = command(capsys, monkeypatch, *arguments)
        assert code == 2
        assert "expected rows that give a trace; got none (dropped: 1 " in printed
        assert "rows.jsonl, line 1" in printed
        (dropped,) = (out / "dropped.jsonl").read_text().splitlines()
        assert json.loads(dropped)["reason"] in printed
        assert {path.name for path in out.iterdir()} <= {"dropped.jsonl", ".store"}
    fractions = odd_rows.short(**evidence | {"boxes": [[0.1, 0.1, 0.2, 0.2]]})
    rows.write_text(json.dumps(fractions) + "\n")
    code, printed = command(capsys, monkeypatch, *arguments, "--box-unit", "fraction")
    assert code == 0, printed
    assert "1 traces" in printed


@pytest.mark.parametrize("source", ["pixelworld", "star"])
def test_the_box_unit_option_is_only_for_sources_of_rows(source, tmp_path, capsys, monkeypatch):
    arguments = ("synth", source, "--box-unit", "pixel", "--out", tmp_path / "out")
    data = () if source == "pixelworld" else ("--data", tmp_path)
    code, printed = command(capsys, monkeypatch, *arguments, *data)
    assert code == 2
    assert "box_unit" in printed or "--box-unit" in printed


def test_an_import_without_a_usable_row_is_an_error(tmp_path, capsys, monkeypatch):
    (tmp_path / "data.json").write_text(json.dumps([odd_rows.messages(odd_rows.TEXT)]))
    arguments = ("import", tmp_path / "data.json", "--out", tmp_path / "out")
    code, printed = command(capsys, monkeypatch, *arguments)
    assert code == 2
    assert "1 bad_row" in printed
    assert not (tmp_path / "out" / "traces.jsonl").exists()


PAGE = (Path(__file__).parents[1] / "docs" / "synthesize.md").read_text(encoding="utf-8")


def test_the_rows_in_the_docs_are_valid(tmp_path):
    from PIL import Image

    media_folder(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (1200, 800)).save(tmp_path / name)
    section = PAGE.partition("## Own rows")[2].partition("```json\n")[2].partition("```")[0]
    (tmp_path / "rows.jsonl").write_text(section)
    rows = list(open_source("jsonl", data=tmp_path).questions(tmp_path))
    assert len(rows) == len(section.splitlines()) >= 8
    assert [row for row in rows if isinstance(row, SkippedRow)] == []


@pytest.mark.extras
def test_the_conversions_in_the_docs_run_as_written(tmp_path, capsys, monkeypatch):
    section = (
        PAGE.partition("## Export and import")[2].partition("```bash\n")[2].partition("```")[0]
    )
    monkeypatch.chdir(tmp_path)
    assert command(
        capsys, monkeypatch, "synth", "pixelworld", "--count", 2, "--out", "runs/synth"
    ) == (0, ANY)
    lines = [line.partition("#")[0].split() for line in section.splitlines() if line]
    assert [line[1] for line in lines] == ["export", "synth", "export", "import"]
    for words in lines:
        short = ["2" if word == "200" else word for word in words[1:]]
        code, printed = command(capsys, monkeypatch, *short)
        assert code == 0, printed


def test_a_short_attack_on_the_readers_finds_no_failure():
    treated, failed, _ = attack.run(count=240, seed=1)
    assert failed == {}
    assert sum(treated.values()) == 240


def test_own_rows_in_parquet_are_a_benchmark_with_extracted_pictures(folder, tmp_path):
    data, media = tmp_path / "data", tmp_path / "shared"
    data.mkdir()
    write_table(odd_rows.short(image=odd_rows.IMAGE), data / "own.parquet")
    found = select_questions(BENCHMARKS.get("jsonl"), data, media)
    (question,) = found.questions
    assert media in Path(question.media[0].path).parents
    assert Path(question.media[0].path).read_bytes() == odd_rows.IMAGE["bytes"]


def test_files_that_users_write_may_have_a_byte_order_mark(tmp_path):
    from pixel_reasoner.models.folder import folder_settings
    from pixel_reasoner.train.config import SftRun

    mark = "\ufeff"
    (tmp_path / "run.toml").write_text(mark + 'traces = ["runs/synth"]\nout = "sft"\n')
    assert SftRun.read(tmp_path / "run.toml").out == str(tmp_path / "sft")
    (tmp_path / "pixel_reasoner.json").write_text(mark + '{"note": "mine"}')
    assert folder_settings(tmp_path).note == "mine"
