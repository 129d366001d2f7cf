"""Questions as rows for verl and SkyRL: columns, media, and unusable rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="exports need the extra `train`")

from pyarrow import parquet

from episode_fixture import asked, texts_of
from pixel_reasoner.data.verl_rows import export_verl, verl_row
from pixel_reasoner.errors import InputError
from pixel_reasoner.integrations.episode import Episode, pixelworld_questions, read_question
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question, load_questions
from pixel_reasoner.schema.trace import save_traces
from pixel_reasoner.world import render, scenes


def rows_of(out: Path) -> list[dict]:
    return parquet.read_table(out / "rows.parquet").to_pylist()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Folder with questions about two pictures and a clip."""
    folder = tmp_path_factory.mktemp("world")
    drawn = [*scenes("attribute", "train", 0, 2), *scenes("video", "train", 0, 1)]
    lines = [question.to_line() for question in render(drawn, folder)]
    (folder / "questions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_rows_have_verls_columns_and_whole_questions(world, tmp_path, run):
    code, out, _ = run("export", world, "--to", "verl", "--out", tmp_path / "out")
    assert (code, out) == (0, f"3 rows: {tmp_path / 'out'}\n")
    rows, questions = rows_of(tmp_path / "out"), list(load_questions(world / "questions.jsonl"))
    assert [read_question(row["extra_info"]["question"]) for row in rows] == questions
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 2]
    for row, question in zip(rows, questions, strict=True):
        is_picture = question.media[0].kind == "image"
        assert row["images"] == ([question.media[0].path] if is_picture else [])
        (message,) = row["prompt"]
        assert message == {"role": "user", "content": "<image>" * is_picture + question.text}
        assert json.loads(row["reward_model"]["ground_truth"]) == list(question.answer)
        names = {row["data_source"], row["agent_name"], row["env_class"]}
        assert names == {"pixel_reasoner"}
    episode = Episode(read_question(rows[2]["extra_info"]["question"]))
    assert len(episode.rollout.pictures) > 1, "frames of the clip"


def test_each_question_of_traces_is_one_row(tmp_path):
    questions = list(pixelworld_questions(tmp_path / "media", count=2))
    traces = [asked(question, texts_of(question)) for question in [*questions, questions[0]]]
    save_traces(traces, tmp_path / "traces.jsonl")
    assert export_verl(tmp_path, tmp_path / "out") == 2
    found = [read_question(row["extra_info"]["question"]) for row in rows_of(tmp_path / "out")]
    assert [one.id for one in found] == [one.id for one in questions]
    assert all(Path(one.media[0].path).is_absolute() for one in found)


def test_media_outside_of_the_folder_are_dropped_unless_they_are_allowed(world, tmp_path):
    inside = json.loads((world / "questions.jsonl").read_text().splitlines()[0])
    rows = [{**inside, "id": str(n)} for n in range(2)]
    (tmp_path / "in").mkdir()
    source = world / inside["media"][0]["path"]
    (tmp_path / "in" / "a.png").write_bytes(source.read_bytes())
    rows[0]["media"] = [{"kind": "image", "path": "a.png"}]
    rows[1]["media"] = [{"kind": "image", "path": str(source)}]
    (tmp_path / "in" / "questions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert export_verl(tmp_path / "in", tmp_path / "out") == 1
    (dropped,) = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert json.loads(dropped)["reason"] == "outside_media"
    assert export_verl(tmp_path / "in", tmp_path / "all", [source.parent]) == 2


def test_a_source_without_answers_is_an_error_and_leaves_no_file(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "question": "What?"}\n')
    with pytest.raises(InputError, match="questions with answers; got none"):
        export_verl(tmp_path / "rows.jsonl", tmp_path / "out")
    assert not (tmp_path / "out" / "rows.parquet").exists()


def test_parts_of_files_are_no_pictures_of_verl_and_its_placeholders_are_removed():
    region = Box(x1=0, y1=0, x2=0.5, y2=0.5)
    media = (
        MediaItem(kind="image", path="/a.pdf", page=2),
        MediaItem(kind="image", path="/b.png", region=region),
        MediaItem(kind="image", path="/c.png"),
    )
    question = Question(id="1", text="Which <image>?", media=media, answer=("red",))
    row = verl_row(question, 0)
    assert row["images"] == ["/c.png"]
    assert row["prompt"][0]["content"] == "<image>Which ?"
    assert read_question(row["extra_info"]["question"]) == question
