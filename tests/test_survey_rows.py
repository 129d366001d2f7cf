"""Rows of a batch survive a kill, and every table is read again by its own library with equal values."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given, strategies as st

from conftest import full_disk
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.workflows.survey.rows import RowWriter, load_rows
from pixel_reasoner.workflows.survey.tables import columns_of, write_csv, write_parquet

SETTINGS = {"spec": [1, 2]}


def row(id_: str, error: str | None = None, **more) -> dict:
    return {"id": id_, "error": error, **more}


def trace(id_: str, sample: int = 0) -> Trace:
    question = Question(id=id_, text="?", media=())
    return Trace(question=question, stop=StopReason.ANSWERED, answer="x", sample=sample)


def lines(folder) -> list[str]:
    return (folder / "rows.jsonl").read_text().splitlines()


def test_rows_and_traces_are_sorted_by_position_when_complete(tmp_path):
    with RowWriter(tmp_path, SETTINGS) as writer:
        for number in (2, 0, 1):
            writer.append(row(f"r{number}"), [trace(f"r{number}")], number)
        writer.complete()
    assert [one["id"] for one in load_rows(tmp_path)] == ["r0", "r1", "r2"]
    assert [one.question.id for one in load_run(tmp_path)] == ["r0", "r1", "r2"]


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 400))
def test_a_file_cut_off_anywhere_keeps_its_complete_rows(tmp_path_factory, numbers, num_bytes):
    folder = tmp_path_factory.mktemp("rows")
    with RowWriter(folder, SETTINGS, traces=False) as writer:
        for number in numbers:
            writer.append(row(f"r{number}", n=number), position=number)
    content = (folder / "rows.jsonl").read_bytes()[:num_bytes]
    (folder / "rows.jsonl").write_bytes(content)
    kept = {json.loads(line)["id"] for line in content.split(b"\n")[:-1]}
    with RowWriter(folder, SETTINGS, traces=False) as writer:
        assert {f"r{n}" for n in range(6) if writer.is_done(f"r{n}")} == kept
        writer.complete()
    assert [one["id"] for one in load_rows(folder)] == sorted(kept)


def test_a_row_replaces_the_row_of_the_same_id(tmp_path):
    with RowWriter(tmp_path, SETTINGS) as writer:
        writer.append(row("a", "no such file"))
        assert not writer.is_done("a")
        writer.append(row("b"))
        writer.append(row("a", answer="red"))
        assert writer.is_done("a")
        assert (writer.num_rows, writer.num_failed) == (2, 0)
        writer.complete()
    assert [one["id"] for one in load_rows(tmp_path)] == ["b", "a"]


def test_failed_rows_are_dropped_before_they_are_tried_again(tmp_path):
    with RowWriter(tmp_path, SETTINGS) as writer:
        for number in range(10):
            writer.append(row(f"r{number}", "broken" if number % 3 == 0 else None))
    with RowWriter(tmp_path, SETTINGS) as writer:
        writer.discard_failed()
        assert (writer.num_rows, writer.num_failed) == (6, 0)
    assert len(lines(tmp_path)) == 6


def test_a_lost_index_is_rebuilt(tmp_path):
    with RowWriter(tmp_path, SETTINGS) as writer:
        writer.append(row("b"), position=1)
        writer.append(row("a"), position=0)
    (tmp_path / ".store/rows.db").write_bytes(b"junk" * 1000)
    with RowWriter(tmp_path, SETTINGS) as writer:
        assert writer.is_done("a")
        writer.complete()
    assert [one["id"] for one in load_rows(tmp_path)] == ["a", "b"]


def test_another_run_in_the_same_folder_is_rejected(tmp_path):
    with RowWriter(tmp_path, SETTINGS):
        pass
    with (
        pytest.raises(UsageError, match=r"spec = \[1, 2\]; got \[1\]"),
        RowWriter(tmp_path, {"spec": [1]}),
    ):
        pass


def test_a_line_that_is_no_row_is_named_with_its_number(tmp_path):
    with RowWriter(tmp_path, SETTINGS, traces=False) as writer:
        writer.append(row("a"))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("[1]\n")
    with (
        pytest.raises(InputError, match=r"rows.jsonl, line 2: not an object with an id"),
        RowWriter(tmp_path, SETTINGS, traces=False),
    ):
        pass


def test_a_full_disk_keeps_all_rows_before_it(tmp_path):
    with RowWriter(tmp_path, SETTINGS, traces=False) as writer:
        for number in range(20):
            writer.append(row(f"r{number}", text="x" * 1000))
    size = (tmp_path / "rows.jsonl").stat().st_size

    def append_all():
        with RowWriter(tmp_path, SETTINGS, traces=False) as writer, full_disk(size + 1500):
            for number in range(20, 40):
                writer.append(row(f"r{number}", text="x" * 1000))

    with pytest.raises(OutputError, match="free some space and run the same command again"):
        append_all()
    with RowWriter(tmp_path, SETTINGS, traces=False) as writer:
        assert writer.num_rows == 21
        writer.complete()
    assert len(list(load_rows(tmp_path))) == 21


# --- tables ---

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)  # fmt: skip
LISTS = st.lists(st.integers(0, 9), max_size=3)
COLUMNS = st.sampled_from("abcd")


def parsed_cell(cell: str, value: object) -> object:
    """Return the value of a cell, by the type that the column of this row has."""
    if value is None:
        assert cell == ""
        return None
    if isinstance(value, str):
        return cell.removeprefix("'") if cell.startswith("'") else cell
    return json.loads(cell)


@given(st.lists(st.dictionaries(COLUMNS, SCALARS | LISTS), min_size=1, max_size=6))
def test_csv_is_read_again_by_the_csv_module_with_equal_values(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(lambda: rows, path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        read = list(csv.DictReader(file, strict=True))
    names = list(columns_of(rows))
    expected = [{name: one.get(name) for name in names} for one in rows]
    if names:
        assert [
            {name: parsed_cell(cells[name], one[name]) for name in names}
            for cells, one in zip(read, expected, strict=True)
        ] == expected


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx", "'quoted"])
def test_a_text_that_a_spreadsheet_would_execute_is_escaped(tmp_path, text):
    write_csv(lambda: [{"a": text, "b": -1}], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1] == [f"'{text}", "-1"]


KINDS = st.sampled_from(
    [SCALARS, LISTS, st.none() | TEXTS, st.none() | st.integers(0, 9), st.none() | st.booleans()]
)


@st.composite
def tables(draw):
    kinds = {name: draw(KINDS) for name in "abc"}
    return draw(st.lists(st.fixed_dictionaries(kinds), min_size=1, max_size=5))


@given(tables())
def test_parquet_is_read_again_by_pyarrow_with_equal_values(tmp_path_factory, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    write_parquet(lambda: rows, path)
    kinds = columns_of(rows)
    read = parquet.read_table(path).to_pylist()
    for one in read:
        for name, kind in kinds.items():
            if kind == "json" and one[name] is not None:
                one[name] = json.loads(one[name])
    assert read == rows
