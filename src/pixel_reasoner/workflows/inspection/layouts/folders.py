"""Folders that anomalib reads (`Folder`), and plain folders."""

from __future__ import annotations

from pathlib import Path

from pixel_reasoner.workflows.inspection.layouts.mvtec import find_mask
from pixel_reasoner.workflows.inspection.samples import (
    Dataset,
    Label,
    Sample,
    Split,
    part_and_view,
    picture_files,
    sample_id,
)

_NORMAL = ("good", "normal", "ok")
_ABNORMAL = ("abnormal", "bad", "defect", "defects", "defective", "anomaly", "ng", "nok")
_NORMAL_TEST = ("normal_test", "good_test", "test_good", "test_normal")
_MASKS = ("mask", "masks", "ground_truth")


def is_anomalib(root: Path) -> bool:
    """Return whether a folder has one folder of good and one of bad pictures."""
    names = _names(root)
    return any(one in names for one in _NORMAL) and any(one in names for one in _ABNORMAL)


def is_plain(root: Path) -> bool:
    """Return whether there are pictures, at any depth."""
    return root.is_file() or bool(picture_files(root, recursive=True))


def read_anomalib(root: Path) -> Dataset:
    """Read one folder of good pictures (training photos) and one of bad ones, whose folders are classes.

    Masks are paired by their exact path and stem. anomalib pairs them by sorted order.
    """
    names = _names(root)
    normal, test = _first(names, _NORMAL), _first(names, _NORMAL_TEST)
    samples = _good(root, normal, "train" if test else None) + _good(root, test, "test")
    abnormal, masks = _first(names, _ABNORMAL), _first(names, _MASKS)
    for path in picture_files(abnormal, recursive=True) if abnormal else ():
        inside = path.parent.relative_to(abnormal) if abnormal else Path()
        mask = None
        if masks is not None:
            mask = find_mask(path, masks / inside) or find_mask(path, masks)
        samples.append(
            Sample(
                sample_id(path, root),
                path,
                "test",
                "defect",
                "",
                inside.parts[0] if inside.parts else "",
                mask,
                notes=() if mask or masks is None else ("no mask",),
            )
        )
    notes = () if test else ("every fifth good photo is a test photo, the others are references",)
    return Dataset("anomalib", root, tuple(samples), notes)


def read_plain(root: Path) -> Dataset:
    """Read all pictures below a folder, or one file. A folder named good, ok or normal labels its pictures."""
    if root.is_file():
        return Dataset("plain", root.parent, (Sample(root.name, root),))
    samples = []
    for path in picture_files(root, recursive=True):
        folder = path.parent.name.casefold() if path.parent != root else ""
        label: Label = "good" if folder in _NORMAL else "defect" if folder in _ABNORMAL else ""
        part, view = part_and_view(path, root)
        samples.append(Sample(sample_id(path, root), path, "test", label, part=part, view=view))
    return Dataset("plain", root, tuple(samples))


def _good(root: Path, folder: Path | None, split: Split | None) -> list[Sample]:
    """Return good pictures of a split; without one, every fifth is a test photo."""
    if folder is None:
        return []
    found: list[Sample] = []
    for number, path in enumerate(picture_files(folder, recursive=True)):
        own: Split = split or ("test" if number % 5 == 4 else "train")
        found.append(Sample(sample_id(path, root), path, own, "good"))
    return found


def _names(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        return {}
    return {one.name.casefold(): one for one in root.iterdir() if one.is_dir()}


def _first(names: dict[str, Path], wanted: tuple[str, ...]) -> Path | None:
    return next((names[one] for one in wanted if one in names), None)
