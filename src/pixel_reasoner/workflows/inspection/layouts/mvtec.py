"""Layouts of MVTec AD and MVTec AD 2, of one category or of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixel_reasoner.workflows.inspection.samples import (
    Dataset,
    Label,
    Sample,
    Split,
    listed,
    part_and_view,
    picture_files,
    sample_id,
)

GOOD = "good"
_SPLITS: dict[str, Split] = {"train": "train", "validation": "validation", "test": "test"}


def is_mvtec(root: Path) -> bool:
    """Return whether a folder or one of its folders has `train/good` and `test`."""
    return any(_is_category(one) for one in _candidates(root))


def is_mvtec2(root: Path) -> bool:
    """Return whether a folder or one of its folders has `test_public` or `test_private`."""
    return any(_is_category2(one) for one in _candidates(root))


def read_mvtec(root: Path) -> Dataset:
    """Read `<category>/{train,validation,test}/<class>/*` with `ground_truth/<class>/<stem>_mask.png`."""
    samples: list[Sample] = []
    notes: list[str] = []
    for category in filter(_is_category, _candidates(root)):
        used: set[Path] = set()
        for split_name, split in _SPLITS.items():
            for folder in _folders(category / split_name):
                masks = category / "ground_truth" / folder.name
                for path in picture_files(folder):
                    sample = _labelled(root, category, path, split, folder.name, masks, used)
                    samples.append(sample)
        notes += _orphans(category / "ground_truth", used)
    return Dataset("mvtec", root, tuple(samples), tuple(notes))


def read_mvtec2(root: Path) -> Dataset:
    """Read `train/good`, `validation/good`, `test_public/{good,bad}`, and the private splits, which have no labels."""
    samples: list[Sample] = []
    notes: list[str] = []
    for category in filter(_is_category2, _candidates(root)):
        used: set[Path] = set()
        public = category / "test_public"
        masks = public / "ground_truth" / "bad"
        for split_name in ("train", "validation"):
            for path in picture_files(category / split_name / GOOD):
                samples.append(
                    _labelled(root, category, path, _SPLITS[split_name], GOOD, masks, used)
                )
        for name in (GOOD, "bad"):
            for path in picture_files(public / name):
                samples.append(_labelled(root, category, path, "test", name, masks, used))
        notes += _orphans(masks, used)
        for name in ("test_private", "test_private_mixed"):
            for path in picture_files(category / name):
                samples.append(Sample(sample_id(path, root), path, category=category.name))
    return Dataset("mvtec2", root, tuple(samples), tuple(notes))


def _candidates(root: Path) -> list[Path]:
    return [root, *_folders(root)]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))


def _is_category(folder: Path) -> bool:
    return (folder / "train" / GOOD).is_dir() and (folder / "test").is_dir()


def _is_category2(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("test_public", "test_private"))


def _labelled(  # noqa: PLR0913 - what is known of a photo
    root: Path, category: Path, path: Path, split: Split, name: str, masks: Path, used: set[Path]
) -> Sample:
    label: Label = "good" if name == GOOD else "defect"
    mask, notes = None, tuple[str, ...]()
    if label == "defect":
        mask = find_mask(path, masks)
        if mask is None:
            notes = ("no mask",)
        else:
            used.add(mask)
    part, view = part_and_view(path, root)
    return Sample(
        sample_id(path, root),
        path,
        split,
        label,
        category.name,
        "" if label == "good" or name == "bad" else name,
        mask,
        part=part,
        view=view,
        notes=notes,
    )


def find_mask(photo: Path, masks: Path) -> Path | None:
    """Return the mask of a photo by its exact stem, with or without `_mask`; None if there is none."""
    for name in (f"{photo.stem}_mask", photo.stem):
        for suffix in (".png", ".bmp", ".tif", ".tiff", ".jpg"):
            path = masks / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


def _orphans(masks: Path, used: set[Path]) -> Iterator[str]:
    if not masks.is_dir():
        return
    every = {one for one in masks.rglob("*") if one.is_file() and one.suffix.lower() == ".png"}
    if orphans := sorted(every - used):
        names = listed(sample_id(one, masks.parent) for one in orphans)
        yield f"masks without a photo: {len(orphans)} ({names})"
