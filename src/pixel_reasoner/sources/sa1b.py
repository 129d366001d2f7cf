"""SA-1B: pictures with masks and without questions, as regions for a labeller.

A folder (with subfolders) with `sa_*.json` files, each next to its picture:

    {"image": {"file_name", "width", "height", ...},
     "annotations": [{"id", "bbox": [x, y, width, height] in pixels, "predicted_iou", "stability_score", ...}]}

A few regions of each picture are used: too small to be recognised in the overview, of no extreme shape, with a good
mask if
its quality is given, and not overlapping. The name of the picture is the random seed, so a file always gives the same
regions. A region is a `Question` without text and answer, with the box as evidence.

Not covered
    masks: only the box is used.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PositiveInt

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import path_exists, reason
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.sources.base import SOURCES, FileSource
from pixel_reasoner.sources.boxes import BoxFormat, Units, parse_box, picture_size
from pixel_reasoner.sources.cells import check_values, parse_text
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    SkippedRow,
    json_object,
    try_build,
)

DEFAULT_REGIONS = 3
"""regions per picture"""
AREA = (0.0002, 0.02)
"""share of the picture: a smaller region shows too little, a larger one is visible in the overview"""
MIN_SIDE_PX = 12
MAX_ASPECT = 4.0
MIN_QUALITY = {"predicted_iou": 0.88, "stability_score": 0.92}
"""minimum values, if a mask has them"""


class Sa1bSource(FileSource):
    """Regions of SA-1B: a folder of pictures and JSON files, or one of its JSON files."""

    name: ClassVar[str] = "sa1b"
    summary: ClassVar[str] = "SA-1B: regions of pictures, without questions"

    regions: PositiveInt = DEFAULT_REGIONS
    """maximum regions per picture"""

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield a few regions of each picture, in the order of file names.

        Raises:
            InputError: the folder contains no JSON file.
        """
        del folder
        paths = iter([self.data]) if self.data.is_file() else _json_files(self.data)
        first = next(paths, None)
        if first is None:
            raise InputError(
                expected="a folder with sa_*.json and pictures",
                got=f"{self.data}: {'none in it' if self.data.is_dir() else 'no such folder'}",
                fix="give the folder of the data set with --data",
            )
        for path in chain([first], paths):
            yield from _regions(path, self.regions)


SOURCES.register(Sa1bSource.name, Sa1bSource)


def _json_files(folder: Path) -> Iterator[Path]:
    """Yield all JSON files below a folder, sorted. The names of one folder are in memory."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(name for name in names if name.endswith(".json")):
            yield Path(parent, name)


def _regions(path: Path, max_regions: int) -> Iterator[Row]:
    where = path.stem
    try:
        picture, size, annotations = _picture(path)
    except RowError as error:
        yield SkippedRow(where, error.reason, str(error))
        return
    fitting: list[tuple[Box, Question]] = []
    for number, annotation in enumerate(annotations, start=1):
        name = f"sa1b-{where}-{_name(annotation, number)}"
        row = try_build(name, partial(_region, name, annotation, picture, size))
        if isinstance(row, SkippedRow):
            yield row
            continue
        assert row.evidence is not None, "a region is evidence"
        (box,) = row.evidence.boxes
        if _needs_operation(box, size, annotation):
            fitting.append((box, row))
    if not fitting:
        low, high = AREA
        detail = f"expected a region of {low:.2%} to {high:.0%} of the picture; got {len(annotations)} others"
        yield SkippedRow(where, "no_fitting_region", detail)
    taken: list[Box] = []
    for box, row in random.Random(f"sa1b/{where}").sample(fitting, len(fitting)):
        if len(taken) < max_regions and not any(box.intersection(other) for other in taken):
            taken.append(box)
            yield row


def _picture(path: Path) -> tuple[Path, Size, list[Any]]:
    """Return the picture of a JSON file, its size, and its annotations."""
    try:
        row = json_object(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise RowError("unreadable_file", f"{path}: {reason(error)}") from error
    check_values(row, ("image", "annotations"))
    image, annotations = row["image"], row["annotations"]
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise RowError("bad_value", "expected image as an object and annotations as a list")
    check_values(image, ("file_name", "width", "height"))
    picture = path.parent / Path(parse_text(image["file_name"], "file_name")).name
    if not path_exists(picture):
        raise RowError("missing_file", str(picture))
    size = picture_size(picture)
    noted = (image["width"], image["height"])
    if noted != size:
        raise RowError(
            "other_size", f"expected {noted[0]} x {noted[1]} px; got {size[0]} x {size[1]}"
        )
    return picture, size, annotations


def _name(annotation: Any, number: int) -> str:
    return str(annotation.get("id", number) if isinstance(annotation, dict) else number)


def _region(name: str, annotation: Any, picture: Path, size: Size) -> Question:
    if not isinstance(annotation, dict):
        raise RowError("bad_value", f"expected an object; got {type(annotation).__name__}")
    check_values(annotation, ("bbox",))
    box = parse_box(annotation["bbox"], size, Units(box_format=BoxFormat.XYWH))
    return Question(
        id=name,
        text="",
        media=(MediaItem(kind="image", path=str(picture)),),
        category="sa1b",
        needs_look=True,
        evidence=Evidence(boxes=(box,)),
    )


def _needs_operation(box: Box, size: Size, annotation: dict[str, Any]) -> bool:
    width, height = (box.x2 - box.x1) * size[0], (box.y2 - box.y1) * size[1]
    return (
        AREA[0] <= box.area <= AREA[1]
        and min(width, height) >= MIN_SIDE_PX
        and max(width / height, height / width) <= MAX_ASPECT
        and all(_quality(annotation, name) >= least for name, least in MIN_QUALITY.items())
    )


def _quality(annotation: dict[str, Any], name: str) -> float:
    value = annotation.get(name)
    return float(value) if isinstance(value, int | float) else 1.0
