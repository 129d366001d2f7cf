"""Readers of annotated data: small files in the documented formats. Unusable data are dropped with a reason."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.sources.base import open_source
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.world import encode_clip


def write_rows(folder: Path, rows: list) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")


def read(source: str, folder: Path) -> list:
    return list(open_source(source, data=folder).questions(folder))


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 100), "red").save(path)
    return path


def row(**changes) -> dict:
    return {
        "id": "1",
        "media": [{"type": "image", "path": "a.png"}],
        "question": "What is it?",
        "answer": "it",
    } | changes


def test_a_neutral_row_becomes_a_question_with_evidence(tmp_path, picture):
    write_rows(
        tmp_path,
        [
            row(
                options={"A": "red", "B": "blue"},
                answer="A",
                boxes=[[20, 10, 60, 30]],
                subjects=["the box"],
                findings=["the box is red"],
                prompt_suffix="\nThink.",
                split="train",
            )
        ],
    )
    (question,) = read("jsonl", tmp_path)
    assert question.media[0].path == str(picture)
    assert question.text == "What is it?\nA. red\nB. blue\nThink."
    assert question.answer_type is AnswerType.CHOICE
    assert question.evidence.boxes == (Box(0.1, 0.1, 0.3, 0.3),)
    assert question.evidence.findings == ("the box is red",)


def test_a_serialized_question_is_a_valid_row(tmp_path, picture):
    question = Question(id="7", text="?", media=(), answer=("x",))
    write_rows(tmp_path, [question.model_dump_json(exclude_defaults=True)])
    assert read("jsonl", tmp_path / "rows.jsonl") == [question]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(boxes=[[20, 10, 260, 30]]), "bad_box"),
        (row(boxes=[[-5, 10, 60, 30]]), "bad_box"),
        (row(boxes=[[60, 10, 20, 30]]), "bad_box"),
        (row(boxes=[[1, 2, 3]]), "bad_box"),
        (row(boxes=["left"]), "bad_box"),
        (row(boxes=[[20, 10, 60, 30]], image=2), "bad_image_number"),
        (row(media=[{"type": "image", "path": "gone.png"}]), "missing_file"),
        (row(media=[{"type": "image", "path": "gone.png"}], boxes=[[0, 0, 9, 9]]), "missing_file"),
        (row(media=["a.png"]), "bad_medium"),
        (row(media="a.png"), "bad_medium"),
        (row(media=[{"type": "sound", "path": "a.png"}]), "bad_value"),
        (row(frames=[-1]), "bad_frame"),
        (row(frames=[0]), "bad_frame"),
        (row(frames=list(range(1, 12))), "too_many_frames"),
        (row(frames="three"), "bad_value"),
        (row(media=5), "bad_medium"),
        (row(options=["red"], answer="red"), "no_options"),
        (row(boxes=[[1, 2, 3, 4]], image="one"), "bad_value"),
        (row(options={"A": "red"}, answer="B"), "answer_not_among_options"),
        (row(answer_type="essay"), "unknown_answer_type"),
        (row(bbox=[1, 2, 3, 4]), "unknown_keys"),
        ({"id": "1", "question": "?"}, "missing_keys"),
        ("{broken", "not_json"),
        ("[1, 2]", "not_json"),
    ],
)
def test_an_unusable_row_is_dropped_with_a_reason_and_the_rest_is_read(
    tmp_path, picture, bad, reason
):
    write_rows(tmp_path, [row(id="first"), bad, row(id="last")])
    first, dropped, last = read("jsonl", tmp_path)
    assert (first.id, last.id) == ("first", "last")
    assert isinstance(dropped, SkippedRow)
    assert dropped.reason == reason
    assert dropped.detail


@pytest.mark.parametrize("needs_look", [True, False, None])
def test_a_row_may_state_whether_it_needs_an_operation(tmp_path, picture, needs_look):
    write_rows(tmp_path, [row(needs_look=needs_look, category=None)])
    (question,) = read("jsonl", tmp_path)
    assert question.needs_look is needs_look


def test_a_repeated_id_is_dropped(tmp_path, picture):
    write_rows(tmp_path, [row(), row()])
    assert read("jsonl", tmp_path)[1] == SkippedRow("1", "duplicate_id", "1")


def test_unknown_keys_are_named(tmp_path, picture):
    write_rows(tmp_path, [row(bbox=[1, 2, 3, 4])])
    (dropped,) = read("jsonl", tmp_path)
    assert dropped.detail.endswith("got bbox")


def test_a_folder_without_such_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="jsonl"):
        read("jsonl", tmp_path)
    with pytest.raises(UsageError, match="visa"):
        read("vista", tmp_path)


# --- FineWeb-VISA ---


def write_parquet(path: Path, rows: dict) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(rows), path)


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "PNG")
    return buffer.getvalue()


def test_pages_are_unpacked_and_their_boxes_normalised(tmp_path):
    page = {"bytes": png((980, 2000)), "path": "page.png"}
    write_parquet(
        tmp_path / "train-00000.parquet",
        {
            "question": ["Who?", "When?", None],
            "short_answer": ["Ada", "1843", "x"],
            "bounding_box": [[98, 200, 490, 400], [98, 200, 1490, 400], [1, 1, 9, 9]],
            "image": [page] * 3,
            "url": ["", "", ""],
        },
    )
    question, outside, empty = read("visa", tmp_path)
    assert question.answer == ("Ada",)
    assert question.evidence.boxes == (Box(0.1, 0.1, 0.5, 0.2),)
    assert MediaContext(question, COMPACT.budgets).source(1).size == (980, 2000)
    assert (outside.reason, empty.reason) == ("bad_box", "no_question")


def test_the_error_of_another_parquet_file_lists_its_columns(tmp_path):
    write_parquet(tmp_path / "x.parquet", {"text": ["a"], "label": [1]})
    with pytest.raises(InputError, match="text, label"):
        read("visa", tmp_path)
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="parquet"):
        read("visa", tmp_path)


# --- STAR ---


def situation(**changes) -> dict:
    return {
        "question_id": "Interaction_T1_1",
        "video_id": "ABC",
        "start": 2.0,
        "end": 6.0,
        "question": "What was opened?",
        "answer": "The door.",
        "question_program": [],
        "choices": [{"choice_id": n, "choice": c} for n, c in enumerate(["The bag.", "The door."])],
        "situations": {"000030": {"bbox": []}, "000044": {"bbox": []}},
    } | changes


@pytest.fixture
def star(tmp_path) -> Path:
    """STAR data with a clip of ten numbered frames per second for eight seconds."""
    frames = [Image.new("RGB", (64, 48), (3 * n, 0, 0)) for n in range(64)]
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "ABC.mp4").write_bytes(encode_clip(frames))
    return tmp_path


def test_key_frames_become_the_sampled_frames_nearest_in_time(star):
    (star / "STAR_train.json").write_text(json.dumps([situation()]))
    (question,) = read("star", star)
    assert question.answer == ("B",)
    assert question.text.endswith("\nA. The bag.\nB. The door.")
    context = MediaContext(question, COMPACT.budgets)
    times = [picture.time_s for picture in context.pictures]
    assert len(times) == 16
    assert 2.0 <= min(times) <= max(times) < 6.0
    evidence_times = [times[frame - 1] for frame in question.evidence.frames]
    assert evidence_times == pytest.approx([30 / 8, 44 / 8], abs=0.13)
    red = np.asarray(context.source(question.evidence.frames[0]))[..., 0].mean()
    assert red == pytest.approx(3 * 30, abs=8)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"video_id": "XYZ"}, "missing_file"),
        ({"answer": "The window."}, "answer_not_among_options"),
        ({"situations": {"-5": {}}}, "bad_frame"),
        ({"situations": {}}, "bad_frame"),
        ({"start": 70.0, "end": 80.0}, "unusable_medium"),
    ],
)
def test_an_unusable_situation_is_dropped_with_a_reason(star, changes, reason):
    rows = [situation(question_id="a"), situation(**changes), situation(question_id="z")]
    (star / "STAR_val.json").write_text(json.dumps(rows, indent=1))
    first, dropped, last = read("star", star)
    assert (first.id, last.id) == ("star-a", "star-z")
    assert dropped.reason == reason


@pytest.mark.parametrize("text", ["{}", "[1, 2]", '[{"a": 1}', "", "[{]"])
def test_a_file_that_is_no_list_of_objects_is_refused(star, text):
    (star / "STAR_train.json").write_text(text)
    with pytest.raises(InputError, match="JSON list"):
        read("star", star)


@pytest.mark.medium
def test_a_list_longer_than_the_read_buffer_is_read_completely(star):
    rows = [situation(question_id=str(n), padding="x" * 5000) for n in range(60)]
    (star / "STAR_train.json").write_text(json.dumps(rows))
    assert [question.id for question in read("star", star)] == [f"star-{n}" for n in range(60)]
