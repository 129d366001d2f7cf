"""Exports of an inspection: opened by the tools of each format, with the same asymmetric boxes in upright pixels."""

from __future__ import annotations

import csv
import gzip
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings, strategies as st
from junitparser import JUnitXml
from PIL import Image
from pycocotools.coco import COCO
from sarif_pydantic import Sarif

from inspection_fixture import plate, save
from inspection_rows import BOX, ROWS, SPEC, finding
from pixel_reasoner.errors import UsageError
from pixel_reasoner.workflows.inspection.engine import InspectionRun, inspect_photos
from pixel_reasoner.workflows.inspection.exports import WRITERS, write_exports
from pixel_reasoner.workflows.inspection.exports.names import flat_name
from pixel_reasoner.workflows.inspection.review import read_corrections
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict

SARIF_SCHEMA = Path(__file__).parent / "golden" / "sarif-2.1.0.schema.json.gz"
"""JSON schema of SARIF 2.1.0, as in the npm package @microsoft/jest-sarif"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("exports")
    write_exports(["all"], ROWS, SPEC, out)
    return out


def coco(path):
    with redirect_stdout(io.StringIO()):
        return COCO(path)


def test_pycocotools_reads_the_same_boxes_and_results(folder):
    truth = coco(folder / "coco/annotations.json")
    by_name = {one["file_name"]: one for one in truth.dataset["images"]}
    assert set(by_name) == {"a/1.png", "a/2.png", "b/2.png"}
    found = truth.loadAnns(truth.getAnnIds(imgIds=by_name["a/2.png"]["id"]))
    assert [one["bbox"] for one in found] == [
        [80.0, 120.0, 320.0, 60.0],
        [320.0, 48.0, 32.0, 384.0],
    ]
    assert truth.loadCats(found[1]["category_id"])[0]["name"] == 'a "dent"'
    with redirect_stdout(io.StringIO()):
        results = truth.loadRes(str(folder / "coco/results.json"))
    assert len(results.getAnnIds()) == 2


def test_yolo_rows_have_the_centre(folder):
    labels = folder / "yolo/labels" / f"{flat_name('a/2.png')}.txt"
    first = labels.read_text().splitlines()[0].split()
    assert first[0] == "0"
    assert [float(one) for one in first[1:]] == pytest.approx([0.375, 0.3125, 0.5, 0.125])
    assert (folder / "yolo/labels" / f"{flat_name('a/1.png')}.txt").read_text() == ""
    assert '0: "Scratch"' in (folder / "yolo/data.yaml").read_text()


def test_yolo_has_a_picture_for_each_label_file(tmp_path):
    photo = save(plate(), tmp_path / "a.b/1.png")
    row = InspectionRow(id="a.b/1.png", path=str(photo), verdict=Verdict.OK, width=480, height=360)
    for _ in range(2):  # a resumed run writes them again
        write_exports(["yolo"], [row], SPEC, tmp_path / "exports")
    (picture,) = (tmp_path / "exports/yolo/images").iterdir()
    (label,) = (tmp_path / "exports/yolo/labels").iterdir()
    assert (picture.stem, picture.read_bytes()) == (label.stem, photo.read_bytes())


@pytest.mark.parametrize("path", ["label_studio/tasks.json", "coco/annotations.json"])
def test_corrections_read_back_the_same_boxes(folder, path, tmp_path):
    content = json.loads((folder / path).read_text())
    if isinstance(content, list):
        for task in content:  # as Label Studio exports an accepted prediction
            task["annotations"] = [task.pop("predictions")[0]]
    (tmp_path / "x.json").write_text(json.dumps(content))
    found = {one.id: one for one in read_corrections(tmp_path / "x.json")}
    assert found["a/2.png"].meant is Verdict.DEFECT
    assert found["a/1.png"].meant is Verdict.OK
    assert found["b/2.png"].meant is Verdict.UNSURE
    [first, second] = found["a/2.png"].boxes
    assert first[0] == "Scratch"
    assert first[1] == pytest.approx(BOX, abs=1e-4)
    assert second[1] == pytest.approx((0.5, 0.1, 0.55, 0.9), abs=1e-4)


def test_fiftyone_boxes_are_fractions_with_width_and_height(folder):
    content = json.loads((folder / "fiftyone/labels.json").read_text())
    [first, _] = content["labels"][flat_name("a/2.png")]
    assert first["bounding_box"] == pytest.approx([0.125, 0.25, 0.5, 0.125])
    assert {one["label"] for ones in content["labels"].values() for one in ones} <= set(
        content["classes"]
    )


def test_sarif_has_fail_pass_review_and_notifications(folder):
    content = json.loads((folder / "sarif/inspection.sarif").read_text())
    log = Sarif.model_validate(content)
    [run] = log.runs
    assert [one.kind for one in run.results] == ["pass", "fail", "fail", "review"]
    assert [one.level for one in run.results] == ["none", "warning", "error", "none"]
    [attached] = content["runs"][0]["results"][1]["attachments"]
    box = attached["rectangles"][0]
    assert [box[side] for side in ("left", "top", "right", "bottom")] == [80, 120, 400, 180]
    assert not content["runs"][0]["invocations"][0]["executionSuccessful"]


def test_sarif_is_valid_by_the_schema_of_sarif(folder):
    schema = json.loads(gzip.decompress(SARIF_SCHEMA.read_bytes()))
    jsonschema.Draft4Validator.check_schema(schema)
    validator = jsonschema.Draft4Validator(schema)
    content = json.loads((folder / "sarif/inspection.sarif").read_text())
    assert [error.message for error in validator.iter_errors(content)] == []
    del content["runs"][0]["tool"]
    assert not validator.is_valid(content)


def test_junit_counts_each_verdict(folder):
    [suite] = JUnitXml.fromfile(str(folder / "junit/junit.xml"))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    [failure] = list(suite)[1].result
    assert "Scratch (minor) at x=80 y=120 width=320 height=60 px" in failure.text


def test_csv_opens_in_a_spreadsheet_without_formulas(folder):
    content = (folder / "csv/photos.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\r\n") == 5
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert rows[1]["reason"].startswith("'=HYPERLINK")
    findings = list(
        csv.DictReader(io.StringIO((folder / "csv/findings.csv").read_text("utf-8-sig")))
    )
    assert [one["tolerated"] for one in findings] == ["no", "no", "yes"]


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="label_studio"):
        write_exports(["coko"], ROWS, SPEC, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_all_formats_accept_a_run_without_findings(tmp_path):
    write_exports(list(WRITERS), ROWS[:1], InspectionSpec(), tmp_path)
    with redirect_stdout(io.StringIO()):
        assert COCO(tmp_path / "coco/annotations.json").getAnnIds() == []


@settings(max_examples=40)
@given(
    x=st.floats(0, 0.9),
    y=st.floats(0, 0.9),
    w=st.floats(0.01, 1),
    h=st.floats(0.01, 1),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_pixels_and_fractions_are_the_same_box(x, y, w, h, size):
    box = (x, y, min(1.0, x + w), min(1.0, y + h))
    left, top, _, height = finding(box).pixels(size)
    assert left / size[0] == pytest.approx(box[0], abs=0.006 / size[0])
    assert (top + height) / size[1] == pytest.approx(box[3], abs=0.011 / size[1])


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=8, unique=True))
def test_flat_names_are_unique_and_safe(ids):
    names = [flat_name(one) for one in ids]
    assert len(set(names)) == len(names)
    assert all("/" not in name and "\\" not in name and name for name in names)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_upright_for_every_exif_orientation(tmp_path, orientation):
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    save(plate(0), tmp_path / "golden/0.png")
    photo = plate(3, defect=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(photo if back is None else photo.transpose(back), tmp_path / "photos/a.png", exif=exif)
    run = InspectionRun(
        data=(tmp_path / "photos",), out=tmp_path / "run", reference=tmp_path / "golden"
    )
    rows = [InspectionRow(**one) for one in inspect_photos(run)]
    write_exports(["coco"], rows, InspectionSpec(), tmp_path)
    content = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (480, 360)
    x, y, width, height = content["annotations"][0]["bbox"]
    assert (x, y, x + width, y + height) == pytest.approx((300, 200, 318, 212), abs=3)
