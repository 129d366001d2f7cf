"""Exports of an inspection in the tools that read them.

label-studio-sdk requires an OpenCV below 4.13, and the extra `workflows` a newer one; FiftyOne is a gigabyte: `make adapters` runs their
tests in an environment each. The importers of FiftyOne read a data set without its database.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from inspection_rows import ROWS, SPEC
from pixel_reasoner.workflows.inspection.exports import write_exports
from pixel_reasoner.workflows.inspection.exports.names import flat_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from PIL import Image

    out = tmp_path_factory.mktemp("exports")
    write_exports(["all"], ROWS, SPEC, out)
    for row in ROWS:
        if row.width and row.height:
            picture = Image.new("RGB", (row.width, row.height))
            for path in (out / "photos" / row.id, out / "yolo/images" / f"{flat_name(row.id)}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
    return out


def boxes_by_photo(data_set):
    return {
        Path(path).name: [tuple(map(float, box)) for box in found.xyxy]
        for path, _, found in data_set
    }


def test_supervision_reads_coco_and_yolo(folder):
    sv = pytest.importorskip("supervision")
    expected = [(80, 120, 400, 180), (320, 48, 352, 432)]
    coco = sv.DetectionDataset.from_coco(
        str(folder / "photos"), str(folder / "coco/annotations.json")
    )
    by_path = {path: found.xyxy.tolist() for path, _, found in coco}
    [found] = [boxes for path, boxes in by_path.items() if path.endswith("a/2.png")]
    assert [tuple(one) for one in found] == expected
    yolo = sv.DetectionDataset.from_yolo(
        str(folder / "yolo/images"), str(folder / "yolo/labels"), str(folder / "yolo/data.yaml")
    )
    found = boxes_by_photo(yolo)[f"{flat_name('a/2.png')}.png"]
    assert found == [pytest.approx(one, abs=0.01) for one in expected]
    assert yolo.classes == ["Scratch", 'a "dent"']


def test_label_studio_accepts_the_predictions(folder):
    pytest.importorskip("label_studio_sdk")
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((folder / "label_studio/config.xml").read_text())
    tasks = json.loads((folder / "label_studio/tasks.json").read_text())
    assert tasks
    for task in tasks:
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []


def test_fiftyone_imports_its_own_format(folder, tmp_path):
    shutil.copytree(folder / "fiftyone", tmp_path / "set")
    shutil.copytree(folder / "yolo/images", tmp_path / "set/data", dirs_exist_ok=True)
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    with importers.FiftyOneImageDetectionDatasetImporter(str(tmp_path / "set")) as found:
        by_name = {Path(path).stem: labels.detections for path, _, labels in found}
    assert {name: len(boxes) for name, boxes in by_name.items()} == {
        flat_name("a/1.png"): 0,
        flat_name("a/2.png"): 2,
        flat_name("b/2.png"): 0,
    }
    [scratch, dent] = by_name[flat_name("a/2.png")]
    assert (scratch.label, dent.label) == ("Scratch", 'a "dent"')
    assert scratch.bounding_box == pytest.approx([0.125, 0.25, 0.5, 0.125])
    assert dent.bounding_box == pytest.approx([0.5, 0.1, 0.05, 0.8])
    assert (scratch["severity"], dent["severity"]) == ("minor", "critical")


def test_fiftyone_imports_coco(folder):
    coco = pytest.importorskip("fiftyone.utils.coco")
    with coco.COCODetectionDatasetImporter(
        data_path=str(folder / "photos"), labels_path=str(folder / "coco/annotations.json")
    ) as found:
        boxes = {
            Path(path).relative_to(folder / "photos").as_posix(): [
                (one.label, one.bounding_box) for one in labels["detections"].detections
            ]
            if labels
            else []
            for path, _, labels in found
        }
    [scratch, dent] = boxes["a/2.png"]
    assert scratch == ("Scratch", pytest.approx([0.125, 0.25, 0.5, 0.125]))
    assert dent == ('a "dent"', pytest.approx([0.5, 0.1, 0.05, 0.8]))
