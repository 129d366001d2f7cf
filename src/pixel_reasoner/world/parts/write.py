"""Writer of folders of parts: photographs, masks, `parts.jsonl` and thumbnails."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixel_reasoner.files import atomic_writer, write_bytes
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.world.parts.camera import projection
from pixel_reasoner.world.parts.plan import UNALIGNED, PartsParams, PlannedShot, plan_parts
from pixel_reasoner.world.parts.rows import PARTS_FILE, THUMBNAILS_FILE, DefectRow, PartRow
from pixel_reasoner.world.parts.shot import Photo, take_photo
from pixel_reasoner.world.thumbnails import thumbnail


def write_parts(
    params: PartsParams, out: Path, on_photo: Callable[[int], object] = lambda count: None
) -> Path:
    """Render photographs and masks into a folder in the layout of MVTec AD, and return the path of `parts.jsonl`.

    Args:
        params: what is rendered.
        out: the folder; existing files are replaced.
        on_photo: called with the number of photographs so far.

    Raises:
        UsageError: inconsistent values, or seeds outside a split.
        OutputError: the folder cannot be written.
    """
    path, thumbnails = out / PARTS_FILE, []
    with atomic_writer(path) as file:
        for number, planned in enumerate(plan_parts(params), start=1):
            photo = take_photo(planned.shot)
            write_bytes(_png(photo.pixels), out / planned.image)
            if planned.shot.defect is not None:
                write_bytes(_png(photo.mask.astype(np.uint8) * 255), out / planned.mask)
            file.write(annotate(planned, photo, params).to_line() + "\n")
            thumbnails.append(thumbnail(Image.fromarray(photo.pixels)))
            on_photo(number)
    buffer = io.BytesIO()
    np.save(buffer, np.array(thumbnails))
    write_bytes(buffer.getvalue(), out / THUMBNAILS_FILE)
    return path


def annotate(planned: PlannedShot, photo: Photo, params: PartsParams) -> PartRow:
    """Return the row of a photograph."""
    shot = planned.shot
    defects: tuple[DefectRow, ...] = ()
    if shot.defect is not None and photo.mask.any():
        defects = (_defect_row(planned, photo, params.overview),)
    expected = "unsure" if shot.condition in UNALIGNED else "defect" if defects else "ok"
    matrix = projection(shot.view, shot.placement, shot.size)
    return PartRow(
        id=f"{planned.kind}-{shot.seed}-{shot.view}",
        kind=planned.kind,
        part=f"{planned.kind}-{shot.seed}",
        view=shot.view,
        split=planned.split,
        image=planned.image,
        mask=planned.mask if shot.defect is not None else None,
        size_px=shot.size,
        overview_px=params.overview,
        condition=shot.condition,
        expected=expected,
        defects=defects,
        seed=shot.seed,
        placement=shot.placement,
        matrix=tuple(float(value) for value in matrix.ravel()),
        light=shot.light,
    )


def _defect_row(planned: PlannedShot, photo: Photo, overview: Size) -> DefectRow:
    defect = planned.shot.defect
    assert defect is not None
    rows, columns = np.nonzero(photo.mask)
    left, top = int(columns.min()), int(rows.min())
    right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
    width, height = planned.shot.size
    return DefectRow(
        defect=defect.kind,
        severity=defect.severity,
        detail=photo.detail,
        box=Box(left / width, top / height, right / width, bottom / height),
        box_px=(left, top, right, bottom),
        area_px=len(rows),
        overview_px=round(max(right - left, bottom - top) * overview[0] / width, 2),
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
