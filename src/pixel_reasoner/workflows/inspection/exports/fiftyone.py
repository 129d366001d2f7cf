"""FiftyOne: `labels.json` of a detection data set, with boxes as fractions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.files import write_json
from pixel_reasoner.workflows.inspection.exports.classes import class_names, counted, sized
from pixel_reasoner.workflows.inspection.exports.coco import score_of
from pixel_reasoner.workflows.inspection.exports.names import flat_name
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow


def write_fiftyone(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> list[Path]:
    """Write `labels.json` for `fiftyone.types.FiftyOneImageDetectionDataset`, and `files.json` with the photos.

    Raises:
        OutputError: a file cannot be written.
    """
    labels, files = {}, {}
    for row, _, _ in sized(rows):
        stem = flat_name(row.id)
        files[f"{stem}{Path(row.id).suffix}"] = row.path
        labels[stem] = [
            {
                "label": one.defect_class,
                "bounding_box": [
                    one.box.x1,
                    one.box.y1,
                    one.box.x2 - one.box.x1,
                    one.box.y2 - one.box.y1,
                ],
                "confidence": score_of(one.score),
                "attributes": {"severity": one.severity},
            }
            for one in counted(row)
        ]
    (out / "data").mkdir(parents=True, exist_ok=True)
    paths = [out / "labels.json", out / "files.json"]
    write_json({"classes": class_names(rows, spec), "labels": labels}, paths[0])
    write_json(files, paths[1])
    return paths
