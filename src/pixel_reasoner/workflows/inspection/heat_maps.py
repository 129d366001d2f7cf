"""Heat maps of other programs, such as Anomalib: PNG, TIFF or NPY, one per photo, of any size and unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason
from pixel_reasoner.workflows.inspection.pictures import Array

SUFFIXES = (".npy", ".tiff", ".tif", ".png")
_MAX_PX = 100_000_000


def heat_map_path(folder: Path, sample_id: str) -> Path | None:
    """Return the heat map of a photo: the same relative path or the same name, with the suffix of a heat map.

    >>> heat_map_path(Path("no/such/folder"), "test/a.png") is None
    True
    """
    below = Path(sample_id)
    for parent in (folder / below.parent, folder):
        for suffix in SUFFIXES:
            path = parent / f"{below.stem}{suffix}"
            if path.is_file():
                return path
    return None


def read_heat_map(path: Path) -> Array:
    """Return a heat map as float32 (height, width).

    Raises:
        InputError: not a heat map.
    """
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_size(values.size)
        else:
            with Image.open(path) as image:
                _check_size(image.width * image.height)
                values = np.asarray(image)
        found = np.squeeze(np.asarray(values)).astype(np.float32)
        if found.ndim == 3 and found.shape[-1] in (3, 4):
            raise ValueError("a coloured picture; heat maps have one value per pixel")
        if found.ndim != 2 or min(found.shape) < 2:
            raise ValueError(f"an array of the shape {found.shape}")
        return found
    except (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            expected="a heat map: PNG, TIFF or NPY with one value per pixel",
            got=f"{path.name}: {reason(error)}",
            fix="save the raw map",
        ) from error


def _check_size(num_px: int) -> None:
    if num_px > _MAX_PX:
        raise ValueError(f"{num_px:,} values, more than {_MAX_PX:,}")
