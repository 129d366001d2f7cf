"""SA-1B: pictures with masks and no questions, as regions that a labeller can ask about.

A folder, or folders in it, with `sa_*.json` and the picture that each names beside it:

    {"image": {"file_name", "width", "height", ...},
     "annotations": [{"id", "bbox": [x, y, width, height] in pixels, "predicted_iou", "stability_score", ...}]}

Of each picture a few regions are taken: too small to be made out in the overview, of no extreme shape, with a
good mask where its quality is given, and apart from each other. Which ones is drawn by the picture's name, so a file
always gives the same. A region comes as a `Question` without text and answer, and with the box as evidence.

Not covered
    masks: the box alone is used.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason
from pixel_reasoner.media.images import image_size
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    SkippedRow,
    box_of_px,
    has_keys,
    json_object,
    try_build,
)

DEFAULT_REGIONS = 3
"""of one picture"""
AREA = (0.0002, 0.02)
"""share of the picture that a region has: smaller is a speck, larger needs no look"""
MIN_SIDE_PX = 12
MAX_ASPECT = 4.0
MIN_QUALITY = {"predicted_iou": 0.88, "stability_score": 0.92}
"""least values, where a mask has them"""


def read_sa1b(data: Path, regions: int = DEFAULT_REGIONS) -> Iterator[Row]:
    """A few regions of each picture, in order of the files' names.

    Args:
        data: the folder, or one of its JSON files.
        regions: of one picture at most.

    Raises:
        InputError: no JSON file in it.
    """
    paths = iter([data]) if data.is_file() else _json_files(data)
    first = next(paths, None)
    if first is None:
        raise InputError(
            expected="a folder with sa_*.json and pictures",
            got=f"{data}: {'none in it' if data.is_dir() else 'no such folder'}",
            fix="give the folder of the data set with --data",
        )
    yield from _regions(first, regions)
    for path in paths:
        yield from _regions(path, regions)


def _json_files(folder: Path) -> Iterator[Path]:
    """All below a folder, sorted; holds the names of one folder at a time."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(name for name in names if name.endswith(".json")):
            yield Path(parent, name)


def _regions(path: Path, most: int) -> Iterator[Row]:
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
        if _needs_look(box, size, annotation):
            fitting.append((box, row))
    if not fitting:
        low, high = AREA
        told = f"expected a region of {low:.2%} to {high:.0%} of the picture; got {len(annotations)} others"
        yield SkippedRow(where, "no_fitting_region", told)
    taken: list[Box] = []
    for box, row in random.Random(f"sa1b/{where}").sample(fitting, len(fitting)):
        if len(taken) < most and not any(box.intersection(other) for other in taken):
            taken.append(box)
            yield row


def _picture(path: Path) -> tuple[Path, Size, list[Any]]:
    """The picture of a JSON file, its size, and its annotations."""
    try:
        row = json_object(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RowError("unreadable_file", f"{path}: {reason(error)}") from error
    has_keys(row, ("image", "annotations"))
    image, annotations = row["image"], row["annotations"]
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise RowError("bad_value", "expected image as an object and annotations as a list")
    has_keys(image, ("file_name", "width", "height"))
    picture = path.parent / Path(str(image["file_name"])).name
    if not picture.exists():
        raise RowError("missing_file", str(picture))
    try:
        size = image_size(picture, DEFAULT_MEDIA_LIMITS)
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error
    told = (image["width"], image["height"])
    if told != size:
        raise RowError(
            "other_size", f"expected {told[0]} x {told[1]} px; got {size[0]} x {size[1]}"
        )
    return picture, size, annotations


def _name(annotation: Any, number: int) -> str:
    return str(annotation.get("id", number) if isinstance(annotation, dict) else number)


def _region(name: str, annotation: Any, picture: Path, size: Size) -> Question:
    if not isinstance(annotation, dict):
        raise RowError("bad_value", f"expected an object; got {type(annotation).__name__}")
    has_keys(annotation, ("bbox",))
    x, y, width, height = annotation["bbox"]
    box = box_of_px([x, y, x + width, y + height], size)
    return Question(
        id=name,
        text="",
        media=(MediaItem(kind="image", path=str(picture)),),
        category="sa1b",
        needs_look=True,
        evidence=Evidence(boxes=(box,)),
    )


def _needs_look(box: Box, size: Size, annotation: dict[str, Any]) -> bool:
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
