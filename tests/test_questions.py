"""Questions for RL: rows of every source become questions with answers or are dropped with a reason."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.sources.pixelworld import WorldMix, world_questions
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.sources.rows import SkippedRow

ROWS = [
    ("a", "<image>\nWhich letter?", ["images/1.png"], ["\\boxed{K}"], None),
    ("b", "How many?\n(A) one\n(B) two", ["images/1.png"], ["\\boxed{B}"], False),
    ("c", "How many?", ["images/1.png", "images/2.png"], ["4"], False),
    ("d", "What is it?", ["images/1.png"], ["\\boxed{['a cat', 'cat']}"], False),
    ("e", "Who moves?", ["videos/x/1.png", "videos/x/2.png"], ["the ball"], True),
    ("f", "Gone?", ["images/9.png"], ["yes"], False),
    ("g", "No answer?", ["images/1.png"], [], False),
    ("a", "Again?", ["images/1.png"], ["yes"], False),
    ("h", "Who moves?", ["videos/x/1.png", "images/2.png"], ["the ball"], True),
]


@pytest.fixture
def released(tmp_path):
    """Folder in the layout of PixelReasoner-RL-Data: a parquet file with pictures and frames next to it."""
    for name in ("images/1.png", "images/2.png", "videos/x/1.png", "videos/x/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), "red").save(tmp_path / name)
    names = ("qid", "question", "image", "answer", "is_video")
    table = pa.table(
        {name: [row[n] for row in ROWS] for n, name in enumerate(names)},
        schema=pa.schema(
            [
                ("qid", pa.string()),
                ("question", pa.string()),
                ("image", pa.list_(pa.string())),
                ("answer", pa.list_(pa.string())),
                ("is_video", pa.bool_()),
            ]
        ),
    )
    parquet.write_table(table, tmp_path / "release.parquet")
    return tmp_path


@pytest.mark.parametrize("named", ["folder", "file"])
def test_rows_of_the_upstream_data_become_questions(released, named):
    source = released if named == "folder" else released / "release.parquet"
    found = {row.id: row for row in read_questions(source) if isinstance(row, Question)}
    assert list(found) == ["a", "b", "c", "d", "e"]
    assert found["a"].text == "Which letter?"
    assert found["a"].answer == ("K",)
    assert found["b"].answer_type is AnswerType.CHOICE
    assert found["c"].answer_type is AnswerType.NUMBER
    assert found["d"].answer == ("a cat", "cat")
    for name, pictures in (("a", 1), ("c", 2), ("e", 2)):
        assert len(MediaContext(found[name], UNSCALED)) == pictures
    assert found["e"].media[0].kind == "frames"


def test_unusable_rows_are_dropped_with_a_reason(released):
    dropped = [row for row in read_questions(released) if isinstance(row, SkippedRow)]
    assert [(row.where, row.reason) for row in dropped] == [
        ("f", "missing_file"),
        ("g", "no_answer"),
        ("a", "duplicate_id"),
        ("h", "bad_frames"),
    ]


def test_the_error_of_another_table_lists_its_columns(tmp_path):
    parquet.write_table(pa.table({"prompt": ["?"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no question, answer among prompt"):
        list(read_questions(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="a parquet file"):
        list(read_questions(tmp_path))


def test_a_question_without_an_answer_is_dropped(tmp_path):
    rows = [
        {"id": "1", "media": [], "question": "?", "answer": "4"},
        {"id": "2", "text": "?", "media": []},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_questions(tmp_path / "q.jsonl")
    assert isinstance(first, Question)
    assert isinstance(second, SkippedRow)
    assert second.reason == "no_answer"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_pixelworld_has_the_requested_share_of_overview_questions(tmp_path, share):
    mix = WorldMix(families=("attribute", "infographic"), count=6, overview_share=share)
    questions = list(world_questions(mix, tmp_path))
    assert len(questions) == len({question.id for question in questions}) == 12
    overviews = sum(not question.needs_look for question in questions)
    assert overviews in ({0.0: [0], 1.0: [12]}.get(share) or range(1, 12))
    assert questions == list(world_questions(mix, tmp_path))


def test_a_share_outside_0_to_1_is_an_error():
    with pytest.raises(UsageError, match="overview_share from 0 to 1"):
        WorldMix(overview_share=1.5)
