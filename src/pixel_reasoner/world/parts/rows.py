"""Annotation of the photographs of parts: one line of `parts.jsonl` each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.schema.geometry import RecordedBox, RecordedSize
from pixel_reasoner.schema.record import Record, VersionedRecord
from pixel_reasoner.world.parts.camera import Placement, View
from pixel_reasoner.world.parts.defects import DefectClass, Severity
from pixel_reasoner.world.parts.light import Light
from pixel_reasoner.world.parts.shot import Condition

PARTS_FILE = "parts.jsonl"
THUMBNAILS_FILE = "thumbnails.npy"


class DefectRow(Record):
    """Annotated defect."""

    defect: DefectClass
    severity: Severity
    detail: str
    """what it is, such as `missing R3`"""
    box: RecordedBox
    """smallest box around the mask"""
    box_px: tuple[int, int, int, int]
    """the same in pixels: left, top, right, bottom (exclusive)"""
    area_px: int
    """pixels of the mask"""
    overview_px: float
    """longer side of the box in pixels of the overview"""


class PartRow(VersionedRecord):
    """Annotated photograph of a part."""

    record_name: ClassVar[str] = "photograph of a part"

    id: str
    """`plate-2000001-C1`"""
    kind: str
    """folder, and kind of the expected part"""
    part: str
    """`plate-2000001`: equal for all views of one part"""
    view: View
    split: Literal["train", "validation", "test"]
    image: str
    """path relative to this file"""
    mask: str | None = None
    """path of the mask, 0 or 255; None without a defect"""
    size_px: RecordedSize
    overview_px: RecordedSize
    """size of the overview by which defects are measured"""
    condition: Condition
    expected: Literal["ok", "defect", "unsure"]
    """`unsure`: the part cannot be aligned with the references"""
    defects: tuple[DefectRow, ...] = ()
    seed: int
    placement: Placement
    matrix: tuple[float, ...]
    """3 x 3 matrix from pixels of the drawing to pixels of the photograph, row by row"""
    light: Light


def read_parts(folder: Path) -> Iterator[PartRow]:
    """Yield the rows of a folder that `world parts` wrote.

    Raises:
        InputError: no such file, or a line that is not a row (with its number).
    """
    path = folder / PARTS_FILE
    for number, line in numbered_lines(path, "a folder written by `pixel-reasoner world parts`"):
        try:
            yield PartRow.from_line(line)
        except InputError as error:
            raise InputError(
                expected=error.expected, got=f"{path}, line {number}: {error.got}", fix=error.fix
            ) from error
