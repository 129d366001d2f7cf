"""COCO: `annotations.json` in the form of ground truth, `results.json` as a list with scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixel_reasoner.files import write_json
from pixel_reasoner.workflows.inspection.exports.classes import class_names, counted, sized
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow


def write_coco(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> list[Path]:
    """Write both files. `file_name` is the id of the row: the path below the data set.

    Raises:
        OutputError: a file cannot be written.
    """
    ids = {name: number for number, name in enumerate(class_names(rows, spec), start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for row, width, height in sized(rows):
        image_id = len(images) + 1
        images.append(
            {
                "id": image_id,
                "file_name": row.id,
                "width": width,
                "height": height,
                "verdict": row.verdict.value,
            }
        )
        for one in counted(row):
            bbox = list(one.pixels((width, height)))
            shared = {
                "image_id": image_id,
                "category_id": ids[one.defect_class],
                "bbox": bbox,
            }
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    **shared,
                    "area": round(bbox[2] * bbox[3], 4),
                    "iscrowd": 0,
                    "severity": one.severity,
                }
            )
            results.append({**shared, "score": score_of(one.score)})
    categories = [
        {"id": number, "name": name, "supercategory": "defect"} for name, number in ids.items()
    ]
    truth = {
        "info": {"description": f"inspection of {spec.product}"},
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }
    paths = [out / "annotations.json", out / "results.json"]
    write_json(truth, paths[0])
    write_json(results, paths[1])
    return paths


def score_of(score: float | None) -> float:
    """Return a score from 0 to 1 that keeps the order of differences; 1 for a finding without one.

    >>> score_of(None), score_of(1.0), score_of(3.0)
    (1.0, 0.5, 0.75)
    """
    return 1.0 if score is None else round(max(0.0, score) / (1 + max(0.0, score)), 6)
