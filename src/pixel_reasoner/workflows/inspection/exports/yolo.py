"""YOLO: `labels/*.txt` with class and centre, `data.yaml`, and links to the photos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pixel_reasoner.files import atomic_writer, write_json
from pixel_reasoner.workflows.inspection.exports.classes import class_names, counted, sized
from pixel_reasoner.workflows.inspection.exports.names import flat_name
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow

FILES = "files.json"


def write_yolo(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> list[Path]:
    """Write a label file per photo without an error; an empty one for a photo without findings.

    `images/` has a link to each photo, where the file system supports links. `files.json` names the photos, for copies.

    Raises:
        OutputError: a file cannot be written.
    """
    names = class_names(rows, spec)
    (out / "images").mkdir(parents=True, exist_ok=True)
    files = {}
    for row, _, _ in sized(rows):
        stem = flat_name(row.id)
        files[f"{stem}{Path(row.id).suffix}"] = row.path
        _link(Path(row.path), out / "images" / f"{stem}{Path(row.id).suffix}")
        with atomic_writer(out / "labels" / f"{stem}.txt") as file:
            for one in counted(row):
                x1, y1, x2, y2 = one.box
                values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
                numbers = " ".join(f"{value:.8f}" for value in values)
                file.write(f"{names.index(one.defect_class)} {numbers}\n")
    with atomic_writer(out / "data.yaml") as file:
        # JSON texts are YAML texts.
        listed = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
        file.write(f"path: .\ntrain: images\nval: images\nnames:\n{listed}")
    write_json(files, out / FILES)
    return [out / "data.yaml", out / FILES]


def _link(photo: Path, link: Path) -> None:
    """Make a link to a photo; without support for links there is none."""
    with suppress(OSError):
        link.unlink(missing_ok=True)
        if photo.is_file():
            link.symlink_to(photo)
