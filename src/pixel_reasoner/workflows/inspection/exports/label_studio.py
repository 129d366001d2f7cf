"""Label Studio: tasks with predictions, and the configuration of the project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pixel_reasoner.files import atomic_writer, write_json
from pixel_reasoner.workflows.inspection.exports.classes import class_names, counted, sized
from pixel_reasoner.workflows.inspection.exports.coco import score_of
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict

LABEL, VERDICT, IMAGE = "label", "verdict", "image"
"""names of the controls in the configuration"""


def write_label_studio(
    rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path
) -> list[Path]:
    """Write `tasks.json` and `config.xml`. All boxes of a photo are in one prediction: only one is shown.

    Raises:
        OutputError: a file cannot be written.
    """
    names = class_names(rows, spec)
    tasks = [_task(row, width, height) for row, width, height in sized(rows)]
    paths = [out / "tasks.json", out / "config.xml"]
    write_json(tasks, paths[0])
    with atomic_writer(paths[1]) as file:
        file.write(label_config(names))
    return paths


def label_config(names: Sequence[str]) -> str:
    """Return the configuration of a project with these classes."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
    choices = "".join(
        f"    <Choice value={quoteattr(one.value)}/>\n" for one in Verdict if one != Verdict.ERROR
    )
    return (
        "<View>\n"
        f'  <Image name="{IMAGE}" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="{LABEL}" toName="{IMAGE}">\n{labels}  </RectangleLabels>\n'
        f'  <Choices name="{VERDICT}" toName="{IMAGE}" choice="single">\n{choices}  </Choices>\n'
        "</View>\n"
    )


def _task(row: InspectionRow, width: int, height: int) -> dict[str, Any]:
    shared = {
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    result: list[dict[str, Any]] = [
        {
            "id": f"f{number}",
            "type": "rectanglelabels",
            "from_name": LABEL,
            **shared,
            "score": score_of(one.score),
            "value": {
                "x": one.box.x1 * 100,
                "y": one.box.y1 * 100,
                "width": (one.box.x2 - one.box.x1) * 100,
                "height": (one.box.y2 - one.box.y1) * 100,
                "rotation": 0,
                "rectanglelabels": [one.defect_class],
            },
        }
        for number, one in enumerate(counted(row), start=1)
    ]
    if row.verdict != Verdict.ERROR:
        result.append(
            {
                "id": "verdict",
                "type": "choices",
                "from_name": VERDICT,
                **shared,
                "value": {"choices": [row.verdict.value]},
            }
        )
    return {
        "data": {
            "image": f"/data/local-files/?d={quote(row.id)}",
            "id": row.id,
            "sha256": row.audit.photo_sha256,
        },
        "predictions": [
            {
                "model_version": row.audit.program,
                "score": score_of(row.score),
                "result": result,
            }
        ],
    }
