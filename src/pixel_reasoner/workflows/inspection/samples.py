"""Photos to inspect, with labels where a data set has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "validation", "test"]
Label = Literal["good", "defect", ""]


@dataclass(frozen=True)
class Sample:
    """One photo. Its id is the path below the data set: file names repeat (VisA has `Normal/000.JPG` and `Anomaly/000.JPG`)."""

    id: str
    path: Path
    split: Split = "test"
    label: Label = ""
    """empty if unknown"""
    category: str = ""
    """product, where a data set has several: each has golden pictures of its own"""
    defect_class: str = ""
    """name in the data set; empty for good and unnamed ones"""
    mask: Path | None = None
    """picture of the defect's pixels: every value except 0 counts"""
    part: str = ""
    """part that the photo shows, where a part has several photos"""
    view: str = ""
    """position of the camera"""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Photos of one folder."""

    layout: str
    """name in `layouts.LAYOUTS`"""
    root: Path
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = field(default=())
    """what is unusual: orphan masks, missing files"""

    def of(self, split: Split, label: Label | None = None) -> list[Sample]:
        """Return the samples of a split; with `label` only those."""
        return [
            one
            for one in self.samples
            if one.split == split and (label is None or one.label == label)
        ]


_VIEW = re.compile(r"^(?P<part>.+?)[_-](?P<view>C\d+)(?:[_-].*)?$")


def part_and_view(path: Path, root: Path) -> tuple[str, str]:
    """Return the part that a photo shows and the camera, from names such as `S0001_C2.png`; empty without a camera.

    >>> part_and_view(Path("set/test/hole/S0001_C2.png"), Path("set"))
    ('test/hole/S0001', 'C2')
    """
    found = _VIEW.match(path.stem)
    if found is None:
        return "", ""
    return f"{sample_id(path.parent, root)}/{found['part']}", found["view"]


def sample_id(path: Path, root: Path) -> str:
    """Return the path below a folder with forward slashes."""
    return path.relative_to(root).as_posix()


def picture_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the picture files of a folder in order of their names, without hidden ones and masks (`*_mask.png`)."""
    from pixel_reasoner.media.images import PICTURE_SUFFIXES

    if not folder.is_dir():
        return []
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.stem.endswith("_mask")
        and path.is_file()
    )


def listed(names: Iterable[str], limit: int = 3) -> str:
    """Return names for a message, with the number of those left out.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    every = list(names)
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {more} more" if more > 0 else "")
