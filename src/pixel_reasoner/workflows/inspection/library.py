"""Golden sets of a data set: one for each product and camera."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from pixel_reasoner.errors import InputError, PixelReasonerError
from pixel_reasoner.workflows.inspection.golden import GoldenSet, load_golden_set
from pixel_reasoner.workflows.inspection.samples import Sample, part_and_view, picture_files
from pixel_reasoner.workflows.inspection.spec import InspectionSpec

_MAX_SETS = 4
"""golden sets in memory at once"""

Key = tuple[str, str]
"""product and camera"""


class GoldenLibrary:
    """Loads golden sets when they are needed. Threads may share it.

    Args:
        paths: product and camera -> golden pictures. An empty camera is any camera, an empty product any product.
        spec: regions and limits.
    """

    def __init__(self, paths: dict[Key, list[Path]], spec: InspectionSpec) -> None:
        self.paths = paths
        self.spec = spec
        self.notes: dict[Key, tuple[str, ...]] = {}
        """what the check of each loaded set found"""
        self.self_scores: dict[Key, dict[str, float]] = {}
        self._loaded: OrderedDict[Key, GoldenSet | PixelReasonerError] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, sample: Sample) -> Key | None:
        """Return the key of the golden set of a photo; None if there is none."""
        for key in (
            (sample.category, sample.view),
            (sample.category, ""),
            ("", sample.view),
            ("", ""),
        ):
            if key in self.paths:
                return key
        # A photo whose name has no camera, and references of one camera.
        return next(iter(self.paths)) if len(self.paths) == 1 and not sample.view else None

    def check(self) -> None:
        """Load the first golden set, so that a useless folder is one error and not one per photo.

        Raises:
            InputError: no golden picture can be used.
        """
        category, view = next(iter(self.paths))
        self.get(Sample("", Path(), category=category, view=view))

    def get(self, sample: Sample) -> GoldenSet:
        """Return the golden set of a photo.

        Raises:
            InputError: there is none for its product and camera, or no golden picture can be used.
            UsageError: OpenCV is not installed.
        """
        key = self.key(sample)
        if key is None:
            raise InputError(
                expected="golden pictures of every product and camera",
                got=f"none for {' '.join(filter(None, (sample.category, sample.view))) or 'this photo'}",
                fix="add them to the folder of --reference",
            )
        with self._lock:  # one thread loads, the others wait for the same set
            if key not in self._loaded:
                self._load(key)
            self._loaded.move_to_end(key)
            found = self._loaded[key]
        if isinstance(found, PixelReasonerError):
            raise found
        return found

    def _load(self, key: Key) -> None:
        try:
            found: GoldenSet | PixelReasonerError = load_golden_set(self.paths[key], self.spec)
        except InputError as error:
            found = error
        if isinstance(found, GoldenSet):
            self.notes[key] = found.notes
            self.self_scores[key] = found.self_scores
        self._loaded[key] = found
        while len(self._loaded) > _MAX_SETS:
            self._loaded.popitem(last=False)


def golden_paths(folder: Path | None, train: Iterable[Sample]) -> dict[Key, list[Path]]:
    """Return the golden pictures by product and camera.

    Args:
        folder: given by the user, with one folder per product if there are several; None: the good training photos.
        train: good training photos of the data set.

    Raises:
        InputError: the folder does not exist or has no pictures.
    """
    found: dict[Key, list[Path]] = {}
    if folder is None:
        for sample in train:
            found.setdefault((sample.category, sample.view), []).append(sample.path)
        return found
    if not folder.is_dir():
        raise InputError(
            expected="a folder of golden pictures", got=f"{folder}: no such folder", fix="check it"
        )
    for path in picture_files(folder):
        found.setdefault(("", part_and_view(path, folder)[1]), []).append(path)
    for category in sorted(one for one in folder.iterdir() if one.is_dir()):
        inside = next((one for one in _good_folders(category) if picture_files(one)), None)
        for path in picture_files(inside) if inside else ():
            found.setdefault((category.name, part_and_view(path, folder)[1]), []).append(path)
    if not found:
        raise InputError(
            expected="golden pictures",
            got=f"none in {folder}",
            fix="put pictures of good parts there",
        )
    return found


def _good_folders(category: Path) -> list[Path]:
    return [category, category / "train" / "good", category / "good"]
