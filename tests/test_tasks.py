"""Benchmarks: every official layout is read, and unusable rows are counted with a reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks_fixture import LAYOUTS, SIZE, base64_of, picture, tsv, write
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.benchmark import Selection, row_counts, select_questions
from pixel_reasoner.evals.benchmarks import BENCHMARKS, get_benchmark
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.sources.cells import letter_options, parse_letter
from pixel_reasoner.sources.pictures import save_base64_picture


def selected(layout: str, folder: Path, **drawn: int) -> Selection:
    write(layout, folder / "data")
    benchmark = BENCHMARKS.get(LAYOUTS[layout].task)
    return select_questions(benchmark, folder / "data", folder / "media", **drawn)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_gives_its_questions_and_all_media_open(name, tmp_path):
    layout, found = LAYOUTS[name], selected(name, tmp_path)
    assert len(found.questions) == layout.count
    assert {
        why: one["count"] for why, one in row_counts(found)["dropped"].items()
    } == layout.dropped
    assert not found.noted
    first = found.questions[0]
    assert {key: getattr(first, key) for key in layout.first} == layout.first
    for question in found.questions:
        assert len(MediaContext(question, UNSCALED)) >= 1
        assert set(question.answer) <= (set(question.options) or set(question.answer))


def test_every_benchmark_has_a_tested_layout():
    assert {layout.task for layout in LAYOUTS.values()} == set(BENCHMARKS)


# --- specific benchmarks ---


def test_the_first_option_of_vstar_is_correct_after_shuffling(tmp_path):
    first, again = (selected("vstar_folders", tmp_path / n) for n in "ab")
    for one, other in zip(first.questions, again.questions, strict=True):
        assert one.options[one.answer[0]] == "green."
        assert one.options == other.options


@pytest.mark.parametrize(
    ("layout", "box"), [("vstar_jsonl", 0), ("vstar_folders", 0), ("treebench", 0), ("neutral", 0)]
)
def test_boxes_in_pixels_become_evidence(layout, box, tmp_path):
    evidence = selected(layout, tmp_path).questions[0].evidence
    width, height = SIZE
    assert evidence.boxes[box] == Box(20 / width, 20 / height, 40 / width, 40 / height)


def test_cycles_of_one_question_share_one_picture(tmp_path):
    questions = selected("hrbench_tsv", tmp_path).questions
    assert len(questions) == 8
    assert len({question.media for question in questions}) == 2
    assert len(list((tmp_path / "media").iterdir())) == 2
    assert {q.options[q.answer[0]] for q in questions[:4]} == {"red"}


def test_parts_of_clips_and_of_frame_folders_are_used(tmp_path):
    action, episode, moving = selected("mvbench", tmp_path).questions
    assert (action.media[0].start_s, action.media[0].end_s) == (0.5, 1.5)
    assert action.media[0].kind == moving.media[0].kind == "video"
    assert (episode.media[0].kind, episode.media[0].fps) == ("frames", 3.0)
    # 3 frames a second: 0.5 to 1.5 s are frames 2 to 5 of 6.
    times = [picture.time_s for picture in MediaContext(episode, UNSCALED).pictures]
    assert times == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3])


def test_several_pictures_of_a_question_keep_their_order(tmp_path):
    (question,) = selected("blink", tmp_path).questions
    assert [Path(m.path).read_bytes() for m in question.media] == [picture(1), picture(2)]
    assert "<image>" not in question.text


def test_a_tsv_row_may_refer_to_the_picture_of_another_row(tmp_path):
    first, second, third = selected("any_tsv", tmp_path).questions
    assert first.media == second.media == third.media
    assert [q.answer_type for q in (first, second, third)] == ["choice", "choice", "integer"]


# --- sampling ---


def test_a_limit_samples_rows_by_its_seed(tmp_path):
    draws = [
        [q.id for q in selected("hrbench_tsv", tmp_path, limit=3, seed=seed).questions]
        for seed in (0, 0, 1)
    ]
    assert len(draws[0]) == 3
    assert draws[0] == draws[1] != draws[2]
    everything = [q.id for q in selected("hrbench_tsv", tmp_path).questions]
    assert draws[0] == [name for name in everything if name in draws[0]], "in the file's order"
    assert len(selected("hrbench_tsv", tmp_path, limit=99).questions) == 8


# --- bad input ---


def _broken(tmp_path: Path, task: str, file: str, rows: list[dict]) -> dict:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    if file.endswith(".tsv"):
        tsv(folder / file, rows)
    else:
        (folder / file).write_text(json.dumps(rows))
    found = select_questions(BENCHMARKS.get(task), folder, tmp_path / "media")
    counts = row_counts(found)
    assert counts["read"] == len(rows)
    return {
        title: {w: one["count"] for w, one in counts[title].items()}
        for title in ("dropped", "noted")
    }


GOOD = {
    "index": 0,
    "image": base64_of(),
    "question": "Which?",
    "A": "red",
    "B": "blue",
    "answer": "A",
}


def test_unusable_rows_are_dropped_by_reason(tmp_path):
    rows = [
        GOOD,
        GOOD,
        {**GOOD, "index": 1, "image": "!!!!" * 40},
        {**GOOD, "index": 2, "image": "aGVsbG8=" * 20},
        {**GOOD, "index": 3, "image": ""},
        {**GOOD, "index": 4, "answer": ""},
        {**GOOD, "index": 5, "answer": "Z"},
        {**GOOD, "index": 6, "B": "red"},
    ]
    assert _broken(tmp_path, "tsv", "x.tsv", rows) == {
        "dropped": {
            "duplicate_id": 1,
            "not_a_picture": 2,
            "missing_picture": 1,
            "no_answer": 1,
            "answer_not_among_options": 1,
        },
        "noted": {"repeated_options": 1},
    }


def test_a_broken_row_of_a_tsv_is_dropped_and_the_rest_is_read(tmp_path):
    write("any_tsv", tmp_path)
    with (tmp_path / "mine.tsv").open("a") as file:
        file.write("9\tonly two\n")
    found = select_questions(BENCHMARKS.get("tsv"), tmp_path, tmp_path / "media")
    assert [row.reason for row in found.dropped] == ["broken_row"]
    assert len(found.questions) == 3


def test_an_unknown_category_is_noted_and_evaluated(tmp_path):
    write("hrbench_tsv", tmp_path)
    path = tmp_path / "hr_bench_4k.tsv"
    path.write_text(path.read_text().replace("\tcross\t", "\tcrossed\t"))
    found = select_questions(BENCHMARKS.get("hrbench-4k"), tmp_path, tmp_path / "media")
    assert len(found.questions) == 8
    assert {(row.reason, row.detail) for row in found.noted} == {("unknown_category", "crossed")}


def test_the_error_of_a_missing_picture_names_it(tmp_path):
    write("tallyqa", tmp_path)
    (tmp_path / "VG_100K_2/1.jpg").unlink()
    (row,) = select_questions(BENCHMARKS.get("tallyqa-complex"), tmp_path, tmp_path).dropped
    assert row.reason == "missing_file"
    assert "VG_100K_2/1.jpg" in row.detail


def test_rows_with_hidden_answers_are_dropped_with_a_reason(tmp_path):
    write("docvqa_json", tmp_path)
    path = tmp_path / "val_v1.0_withQT.json"
    path.write_text(path.read_text().replace('["0.28"]', "[]"))
    (row,) = select_questions(BENCHMARKS.get("docvqa"), tmp_path, tmp_path).dropped
    assert (row.reason, row.detail) == ("no_answer", "the answers of this split are not public")


def test_the_error_of_missing_keys_lists_the_present_ones(tmp_path):
    path = tmp_path / "VisualProbe_Hard/val.json"
    write("visualprobe", tmp_path)
    path.write_text(path.read_text().replace("solution", "gold"))
    (row,) = select_questions(BENCHMARKS.get("visualprobe"), tmp_path, tmp_path).dropped
    assert (row.reason, row.detail) == (
        "missing_keys",
        "expected solution or answer; got problem images gold",
    )
    (tmp_path / "x.tsv").write_text("index\tquery\n0\tWhich?\n")
    with pytest.raises(InputError, match="no question among index, query"):
        select_questions(BENCHMARKS.get("tsv"), tmp_path, tmp_path)


AT_ANY_DEPTH = {(name, "outer") for name in ("chartqa_parquet", "mme_parquet", "blink")}
"""layouts whose files are found from a folder above too"""


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("given", ["outer", "outer/inner/below"])
def test_the_error_of_a_folder_one_level_off_states_the_correct_folder(name, given, tmp_path):
    layout, folder = LAYOUTS[name], write(name, tmp_path / "outer" / "inner")
    (folder / "below").mkdir()
    benchmark = BENCHMARKS.get(layout.task)
    if (name, given) in AT_ANY_DEPTH:
        found = select_questions(benchmark, tmp_path / given, tmp_path / "media")
        assert len(found.questions) == layout.count
        return
    with pytest.raises(InputError, match=re.escape(f"they are in {folder}")):
        select_questions(benchmark, tmp_path / given, tmp_path / "media")


def test_the_error_of_a_folder_without_the_files_lists_its_content(tmp_path):
    (tmp_path / "readme.txt").touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"with images/, readme\.txt"):
        select_questions(BENCHMARKS.get("vstar"), tmp_path, tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        select_questions(BENCHMARKS.get("vstar"), tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"rows": []}', "3"])
def test_a_json_file_of_another_form_is_an_input_error(content, tmp_path):
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(InputError):
        select_questions(BENCHMARKS.get("tallyqa-complex"), tmp_path, tmp_path)


def test_the_error_of_an_unknown_benchmark_lists_all():
    with pytest.raises(UsageError, match=r"vstar, hrbench-4k.*--list"):
        get_benchmark("v*")


# --- helpers ---


def test_option_letters_are_removed_only_if_all_options_have_one():
    assert letter_options(["A. red", "B. blue"]) == {"A": "red", "B": "blue"}
    assert letter_options(["A. red", "blue"]) == {"A": "A. red", "B": "blue"}
    assert letter_options(["B. red", "A. blue"]) == {"A": "B. red", "B": "A. blue"}


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "blue", "Blue"])
def test_an_accepted_answer_may_be_a_letter_or_a_text(answer):
    assert parse_letter(answer, {"A": "red", "B": "blue"}) == "B"


def test_base64_may_have_a_data_prefix(tmp_path):
    plain = save_base64_picture(base64_of(), tmp_path)
    assert save_base64_picture(f"data:image/jpeg;base64,{base64_of()}", tmp_path) == plain
