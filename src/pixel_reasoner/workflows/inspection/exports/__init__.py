"""Results in the formats of other programs. Boxes are pixels of the upright photo, from the left and upper edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pixel_reasoner.errors import UsageError
from pixel_reasoner.workflows.inspection.exports import (
    coco,
    fiftyone,
    junit,
    label_studio,
    sarif,
    tables,
    yolo,
)
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow

Writer = Callable[[Sequence[InspectionRow], InspectionSpec, Path], list[Path]]
"""rows, specification, folder -> written files"""

WRITERS: Mapping[str, Writer] = {
    "coco": coco.write_coco,
    "yolo": yolo.write_yolo,
    "label_studio": label_studio.write_label_studio,
    "fiftyone": fiftyone.write_fiftyone,
    "sarif": sarif.write_sarif,
    "junit": junit.write_junit,
    "csv": tables.write_tables,
}


def write_exports(
    names: Sequence[str], rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path
) -> list[Path]:
    """Write results in some formats below a folder, and return the paths.

    Args:
        names: keys of `WRITERS`; `all` for every one.
        rows: of a run.
        spec: the inspection.
        out: each format has a folder of its own in it.

    Raises:
        UsageError: an unknown format.
        OutputError: a file cannot be written.
    """
    check_formats(names)
    chosen = list(WRITERS) if "all" in names else list(dict.fromkeys(names))
    return [path for name in chosen for path in WRITERS[name](rows, spec, out / name)]


def check_formats(names: Sequence[str]) -> None:
    """Raise an error for an unknown format.

    Raises:
        UsageError: an unknown format.
    """
    for name in names:
        if name not in WRITERS and name != "all":
            raise UsageError(
                expected=f"formats: {', '.join(WRITERS)}, all", got=repr(name), fix="name one"
            )
