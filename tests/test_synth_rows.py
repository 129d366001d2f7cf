"""Synthesis from files: a run has the rows of one version of its data, and only rows with whole pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pixel_reasoner.data.source_rows import ROWS
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.runs.store import manifest_path
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize

NAMES = [f"row-{number}" for number in range(5)]


def picture(path: Path, size: tuple[int, int] = (400, 300)) -> Path:
    Image.effect_noise(size, 90).convert("RGB").save(path)
    return path


def row(name: str, **changes) -> dict:
    return {
        "id": name,
        "image": "a.png",
        "question": "What does the sign say?",
        "answer": name,
        "boxes": [[40, 30, 90, 80]],
    } | changes


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.fixture
def data(tmp_path) -> Path:
    picture(tmp_path / "a.png")
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row(name) for name in NAMES])
    return path


def synth(data: Path, progress=None, **changes) -> dict:
    spec = {"source": "jsonl", "data": data, "out": data.parent / "out"} | changes
    return synthesize(SynthSpec(**spec), progress)


class StopAfter:
    """Progress that interrupts the run after some traces."""

    def __init__(self, count: int) -> None:
        self.count = count

    def start(self, title: str, total: int | None):
        def update(count: int, note: str = "") -> None:
            if count >= self.count:
                raise KeyboardInterrupt

        return update


CHANGES = {
    "another answer": ([row(NAMES[0]), row(NAMES[1], answer="no")], "row 2: row-1 was changed"),
    "another box": ([row(NAMES[0], boxes=[[1, 1, 90, 80]])], "row 1: row-0 was changed"),
    "a removed row": ([row(name) for name in NAMES[:4]], "4 rows where there were 5"),
    "an added row": ([row(name) for name in [*NAMES, "new"]], "one more row, new"),
    "a row that was broken": (
        [row(NAMES[0]), row(NAMES[1], answer=None)],
        "rows.jsonl, line 2 was",
    ),
}


@pytest.mark.parametrize(("rows", "named"), CHANGES.values(), ids=CHANGES)
def test_a_complete_run_of_changed_data_is_refused(rows, named, data):
    first = synth(data)
    assert synth(data) == first
    write_rows(data, rows)
    with pytest.raises(UsageError, match=named) as raised:
        synth(data)
    assert "another --out, or delete this folder" in str(raised.value)


@pytest.mark.parametrize("source", ["jsonl", pytest.param("parquet", marks=pytest.mark.extras)])
def test_an_interrupted_run_is_not_continued_with_changed_data(source, data):
    if source == "parquet":
        datasets = pytest.importorskip("datasets")

        def write(rows: list[dict]) -> None:
            datasets.Dataset.from_list(rows).to_parquet(str(data))

        data = data.with_suffix(".parquet")
    else:

        def write(rows: list[dict]) -> None:
            write_rows(data, rows)

    rows = [row(name) for name in NAMES]
    write(rows)
    with pytest.raises(KeyboardInterrupt):
        synth(data, StopAfter(3), source=source)
    write([row(NAMES[0], answer="no"), *rows[1:]])
    with pytest.raises(UsageError, match="another row 1: row-0"):
        synth(data, source=source)
    write([*rows[:4], row(NAMES[4], answer="later")])  # not yet read
    assert synth(data, source=source)["count"] == 5
    traces = load_traces(data.parent / "out" / "traces.jsonl")
    assert [trace.question.answer[0] for trace in traces] == [*NAMES[:4], "later"]


def test_rows_after_the_last_wanted_one_may_change(data):
    synth(data, count=2)
    write_rows(data, [row(NAMES[0]), row(NAMES[1]), row("another")])
    assert synth(data, count=2)["count"] == 2


def test_a_run_is_continued_where_data_and_folder_were_moved(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    synth(Path("rows.jsonl"), out=Path("out"))
    moved = data.parent / "moved"
    moved.mkdir()
    for name in ("rows.jsonl", "a.png", "out"):
        (data.parent / name).rename(moved / name)
    monkeypatch.chdir(moved)
    assert synth(Path("rows.jsonl"), out=Path("out"))["count"] == 5


def test_a_run_without_a_fingerprint_is_resumed(data):
    with pytest.raises(KeyboardInterrupt):
        synth(data, StopAfter(3))
    out = data.parent / "out"
    manifest = json.loads(manifest_path(out).read_text())
    del manifest["checkpoint"]["sizes"][ROWS]
    manifest_path(out).write_text(json.dumps(manifest))
    (out / ROWS).unlink()
    assert synth(data)["count"] == 5
    write_rows(data, [row("changed")])
    assert synth(data)["count"] == 5


def test_a_run_without_a_trace_starts_again_with_corrected_rows(data):
    write_rows(data, [row(NAMES[0], boxes=None)])
    with pytest.raises(InputError, match="none"):
        synth(data)
    write_rows(data, [row(NAMES[0])])
    assert synth(data)["count"] == 1


# --- pictures ---


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_incomplete_picture_is_dropped_and_counted(suffix, workers, data):
    cut = data.parent / f"cut.{suffix}"
    content = picture(data.parent / f"whole.{suffix}").read_bytes()
    cut.write_bytes(content[: len(content) // 3])
    write_rows(data, [row("whole"), row("cut", image=cut.name), row("after")])
    summary = synth(data, workers=workers)
    assert summary["dropped"] == {"unusable_medium": 1}
    traces = load_traces(data.parent / "out" / "traces.jsonl")
    assert [trace.question.id for trace in traces] == ["whole", "after"]


@pytest.mark.extras
def test_an_incomplete_embedded_picture_is_dropped(data):
    datasets = pytest.importorskip("datasets")
    content = (data.parent / "a.png").read_bytes()
    rows = [row("whole", image={"bytes": content, "path": None})]
    rows += [row("cut", image={"bytes": content[:3000], "path": None})]
    table = data.with_suffix(".parquet")
    datasets.Dataset.from_list(rows).to_parquet(str(table))
    assert synth(table, source="parquet")["dropped"] == {"unusable_medium": 1}


@pytest.mark.extras
def test_a_check_goes_on_after_a_picture_that_cannot_be_opened(data, run):
    picture(data.parent / "b.png")
    write_rows(data, [row("first", image="b.png"), row("second"), row("third", image="b.png")])
    synth(data)
    cut = data.parent / "b.png"
    cut.write_bytes(cut.read_bytes()[:3000])
    for more in ([], ["--model", "tiny"]):
        code, out, err = run("check", data.parent / "out", *more)
        assert code == 1, err
        assert "3 traces" in out
        assert all(name in out + err for name in ("first", "third", "b.png"))
