"""Layout of VisA: raw folders, with the official split file where there is one."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason
from pixel_reasoner.workflows.inspection.layouts.mvtec import find_mask
from pixel_reasoner.workflows.inspection.samples import (
    Dataset,
    Label,
    Sample,
    Split,
    picture_files,
    sample_id,
)

SPLIT_FILES = ("split_csv/1cls.csv", "1cls.csv", "split.csv")
"""official split file, in order of preference; `2cls_*` files are used if they are given the last name"""
_COLUMNS = {"object", "split", "label", "image", "mask"}


def is_visa(root: Path) -> bool:
    """Return whether a folder or one of its folders has `Data/Images`."""
    return bool(_objects(root))


def read_visa(root: Path) -> Dataset:
    """Read the rows of the split file, or all photos as test photos if there is none."""
    for name in SPLIT_FILES:
        if (root / name).is_file():
            samples = tuple(_read_split(root, root / name))
            return Dataset("visa", root, samples, (f"split file {name}",))
    samples = tuple(one for folder in _objects(root) for one in _read_object(root, folder))
    return Dataset("visa", root, samples, ("no split file: all photos are test photos",))


def _objects(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folders = [root, *sorted(one for one in root.iterdir() if one.is_dir())]
    return [one for one in folders if (one / "Data" / "Images").is_dir()]


def _read_object(root: Path, folder: Path) -> Iterator[Sample]:
    images = folder / "Data" / "Images"
    for path in picture_files(images / "Normal"):
        yield Sample(sample_id(path, root), path, "test", "good", folder.name)
    classes = _classes(folder / "image_anno.csv")
    for path in picture_files(images / "Anomaly"):
        mask = find_mask(path, folder / "Data" / "Masks" / "Anomaly")
        yield Sample(
            sample_id(path, root),
            path,
            "test",
            "defect",
            folder.name,
            classes.get(path.name, ""),
            mask,
            notes=() if mask else ("no mask",),
        )


def _classes(path: Path) -> Mapping[str, str]:
    """Return file name -> first class of its defects. The official file has the columns image, label, mask."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        return {
            Path(row.get("image") or "").name: (row.get("label") or "").split(",")[0].strip()
            for row in rows
            if "Anomaly" in (row.get("image") or "")
        }


def _read_split(root: Path, path: Path) -> Iterator[Sample]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not set(rows.fieldnames or ()) >= _COLUMNS:
                raise ValueError(f"columns {', '.join(rows.fieldnames or ['none'])}")
            classes: dict[str, Mapping[str, str]] = {}
            for row in rows:
                if row["object"] not in classes:
                    annotations = root / row["object"] / "image_anno.csv"
                    classes[row["object"]] = _classes(annotations)
                yield _sample(root, row, classes[row["object"]])
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise InputError(
            expected="a split file with the columns object, split, label, image, mask",
            got=f"{path}: {reason(error)}",
            fix="use the official file, or delete it to inspect all photos",
        ) from error


def _sample(root: Path, row: Mapping[str, str], classes: Mapping[str, str]) -> Sample:
    split: Split = "train" if row["split"].strip() == "train" else "test"
    label: Label = "good" if row["label"].strip() == "normal" else "defect"
    mask = root / row["mask"] if row["mask"] else None
    notes = tuple[str, ...]()
    if label == "defect" and (mask is None or not mask.is_file()):
        mask, notes = None, ("no mask",)
    path = root / row["image"]
    name = classes.get(path.name, "") if label == "defect" else ""
    return Sample(row["image"], path, split, label, row["object"], name, mask, notes=notes)
