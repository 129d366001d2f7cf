"""Layout of Real-IAD: OK and NG folders with five views of each part, and the official JSON splits where they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason
from pixel_reasoner.workflows.inspection.samples import (
    Dataset,
    Label,
    Sample,
    picture_files,
    sample_id,
)

_VIEW = re.compile(r"_(C\d+)_")
_JSON_FOLDERS = ("realiad_jsons", "realiad_jsons_sv", "realiad_jsons_fuiad_0.0")


def is_realiad(root: Path) -> bool:
    """Return whether a folder has categories with `OK` or `NG`, or the folders `realiad_*`."""
    return bool(_categories(root))


def read_realiad(root: Path) -> Dataset:
    """Read the official splits, or all photos as test photos where there is no JSON file of a category."""
    samples: list[Sample] = []
    notes: list[str] = []
    for category in _categories(root):
        if (split_file := _split_file(root, category)) is not None:
            samples += _read_split(root, category, split_file)
        else:
            notes.append(f"{category.name}: no JSON file, all photos are test photos")
            samples += _read_folders(root, category)
    return Dataset("realiad", root, tuple(samples), tuple(notes))


def _categories(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    below = sorted(one for one in root.iterdir() if one.is_dir())
    inner = [
        two
        for one in below
        if one.name.startswith("realiad_") and "json" not in one.name
        for two in sorted(one.iterdir())
        if two.is_dir()
    ]
    return [one for one in (root, *below, *inner) if (one / "OK").is_dir() or (one / "NG").is_dir()]


def _split_file(root: Path, category: Path) -> Path | None:
    for parent in dict.fromkeys((root, category.parent, category.parent.parent)):
        for name in _JSON_FOLDERS:
            path = parent / name / f"{category.name}.json"
            if path.is_file():
                return path
    return None


def _read_split(root: Path, category: Path, path: Path) -> Iterator[Sample]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for split in ("train", "test"):
            for row in content[split]:
                yield _sample(root, category, split, row)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            expected="a split file of Real-IAD: {train: [...], test: [...]}",
            got=f"{path}: {reason(error)}",
            fix="use the official file",
        ) from error


def _sample(root: Path, category: Path, split: Any, row: dict[str, Any]) -> Sample:
    path = category / row["image_path"]
    name = str(row["anomaly_class"])
    mask = category / row["mask_path"] if row.get("mask_path") else None
    return _of(root, category, path, "" if name == "OK" else name, mask, split)


def _read_folders(root: Path, category: Path) -> Iterator[Sample]:
    for path in picture_files(category / "OK", recursive=True):
        yield _of(root, category, path, "", None, "test")
    for folder in sorted((category / "NG").iterdir()) if (category / "NG").is_dir() else ():
        for path in picture_files(folder, recursive=True):
            mask = path.with_name(f"{path.stem}_mask.png")
            yield _of(root, category, path, folder.name, mask, "test")


def _of(root: Path, category: Path, path: Path, name: str, mask: Path | None, split: Any) -> Sample:
    label: Label = "defect" if name else "good"
    view = _VIEW.search(path.name)
    has_mask = mask is not None and mask.is_file()
    return Sample(
        sample_id(path, root),
        path,
        split,
        label,
        category.name,
        name,
        mask if has_mask else None,
        part=f"{category.name}/{sample_id(path.parent, category)}",
        view=view[1] if view else "",
        notes=("no mask",) if name and not has_mask else (),
    )
