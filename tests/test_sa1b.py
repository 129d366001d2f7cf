"""SA-1B: selection of regions. Unusable data are dropped with a reason."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from pixel_reasoner.errors import InputError
from pixel_reasoner.sources.base import open_source
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.sources.sa1b import AREA, Sa1bSource
from sa1b_fixture import SIZE, annotation, draw_sa1b, write_picture


def read(folder, regions=3) -> list:
    return list(open_source("sa1b", data=folder, regions=regions).questions(folder))


def test_regions_have_a_box_and_no_question_text(tmp_path):
    draw_sa1b(tmp_path, pictures=2, cards=2)
    rows = read(tmp_path)
    assert sorted(row.id for row in rows) == [
        "sa1b-sa_0-0",
        "sa1b-sa_0-1",
        "sa1b-sa_1-2",
        "sa1b-sa_1-3",
    ]
    assert {(row.text, row.answer, row.needs_look) for row in rows} == {("", (), True)}
    (box,) = next(row for row in rows if row.id == "sa1b-sa_0-0").evidence.boxes
    assert box == pytest.approx((50 / 400, 50 / 300, 68 / 400, 62 / 300))


def test_a_few_regions_of_each_picture_are_selected_deterministically(tmp_path):
    draw_sa1b(tmp_path, pictures=3, cards=12)
    rows = read(tmp_path, regions=4)
    assert len(rows) == 12
    assert rows == read(tmp_path, regions=4)
    firsts = {row.id for row in rows}
    assert {row.id for row in read(tmp_path, regions=2)} < firsts
    # Not the first ones of every file.
    assert {int(i.rpartition("-")[2]) for i in firsts if "-sa_0-" in i} != {0, 1, 2, 3}


def test_subfolders_are_read_in_order(tmp_path):
    for part in ("b", "a"):
        write_picture(tmp_path / part, f"sa_{part}", ["colour 0"])
    assert [row.id for row in read(tmp_path)] == ["sa1b-sa_a-0", "sa1b-sa_b-0"]
    assert [row.id for row in read(tmp_path / "b" / "sa_b.json")] == ["sa1b-sa_b-0"]


@pytest.mark.parametrize(
    "unsuitable",
    [
        annotation(7, [0, 0, *SIZE]),
        annotation(7, [10, 10, 11, 11]),
        annotation(7, [10, 10, 100, 15]),
        annotation(7, [10, 10, 30, 30], predicted_iou=0.5),
        annotation(7, [10, 10, 30, 30], stability_score=0.5),
    ],
    ids=["large", "a speck", "long", "unsure", "unstable"],
)
def test_an_unsuitable_region_is_skipped(tmp_path, unsuitable):
    fine = annotation(8, [200, 200, 30, 30])
    write_picture(tmp_path, "sa_1", [], annotations=[unsuitable, fine])
    assert [row.id for row in read(tmp_path)] == ["sa1b-sa_1-8"]


def test_regions_of_a_picture_do_not_overlap_and_masks_need_no_quality_score(tmp_path):
    twins = [annotation(n, [200 + n, 200, 30, 30]) for n in range(4)]
    for twin in twins:
        del twin["predicted_iou"], twin["stability_score"]
    write_picture(tmp_path, "sa_1", [], annotations=twins)
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"annotations": [annotation(5, [390, 10, 20, 20])]}, "bad_box", "400 x 300"),
        ({"annotations": [annotation(5, [-5, 10, 40, 40])]}, "bad_box", "-5"),
        ({"annotations": [annotation(5, [10, 10, 0, 40])]}, "bad_box", ""),
        ({"annotations": [annotation(5, [10, 10, 40, "x"])]}, "bad_box", ""),
        ({"annotations": [{"id": 5, "box": [1, 2, 3, 4]}]}, "missing_keys", "among id box"),
        ({"annotations": ["left"]}, "bad_value", "object"),
        ({"annotations": []}, "no_fitting_region", "0 others"),
        ({"annotations": {}}, "bad_value", "list"),
        ({"image": {"file_name": "sa_1.jpg"}}, "missing_keys", "width height"),
        ({"image": {"file_name": "no.jpg", "width": 8, "height": 6}}, "missing_file", "no.jpg"),
        (
            {"image": {"file_name": "sa_1.jpg", "width": 401, "height": 300}},
            "other_size",
            "401 x 300",
        ),
        ({"image": {"file_name": "bad.jpg", "width": 8, "height": 6}}, "unusable_medium", "bad"),
    ],
)
def test_unusable_data_are_dropped_with_a_reason_and_the_rest_is_read(
    tmp_path, changes, reason, detail
):
    (tmp_path / "bad.jpg").write_text("no picture")
    write_picture(tmp_path, "sa_0", ["colour 0"])
    write_picture(tmp_path, "sa_1", ["colour 1"], **changes)
    write_picture(tmp_path, "sa_2", ["colour 2"])
    rows = read(tmp_path)
    dropped = next(row for row in rows if isinstance(row, SkippedRow))
    assert (dropped.reason, detail in dropped.detail) == (reason, True)
    assert [r.id for r in rows if not isinstance(r, SkippedRow)] == ["sa1b-sa_0-0", "sa1b-sa_2-2"]


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ('{"images": [], "annotations": [], "categories": []}', "missing_keys", "images"),
        ("{broken", "not_json", ""),
        ("[]", "not_json", "list"),
        (b"\xff\xfe", "unreadable_file", ""),
    ],
)
def test_the_error_of_another_layout_lists_the_keys_of_the_file(tmp_path, text, reason, detail):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "coco.json").write_bytes(content)
    (dropped,) = read(tmp_path)
    assert (dropped.where, dropped.reason, detail in dropped.detail) == ("coco", reason, True)


def test_a_file_name_outside_the_folder_is_not_opened(tmp_path):
    write_picture(tmp_path, "sa_1", ["colour 0"])
    image = {"file_name": "../data/sa_1.jpg", "width": SIZE[0], "height": SIZE[1]}
    write_picture(tmp_path / "data", "sa_2", ["colour 0"], image=image)
    assert [row.reason for row in read(tmp_path / "data")] == ["missing_file"]


def test_a_folder_without_such_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"sa_\*\.json.*none in it"):
        read(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "none")


@pytest.mark.medium
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    write_picture(tmp_path, "sa_0", ["colour 0"])
    row = json.loads((tmp_path / "sa_0.json").read_text())
    row["annotations"] *= 100
    for number in range(30):
        (tmp_path / f"sa_{number}.json").write_text(json.dumps(row))
    rows = Sa1bSource(data=tmp_path).questions(tmp_path)
    next(rows)
    tracemalloc.start()
    for _ in rows:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_the_area_is_a_share_of_the_picture(tmp_path):
    draw_sa1b(tmp_path, pictures=1, cards=4)
    assert all(AREA[0] <= row.evidence.boxes[0].area <= AREA[1] for row in read(tmp_path))
