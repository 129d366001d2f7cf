"""Writer of folders of parts: photographs, masks, `parts.jsonl` and thumbnails."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import cannot_write, write_bytes, write_or_check_settings
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.world.parts.camera import projection
from pixel_reasoner.world.parts.plan import UNALIGNED, PartsParams, PlannedShot, plan_parts
from pixel_reasoner.world.parts.rows import PARTS_FILE, THUMBNAILS_FILE, DefectRow, PartRow
from pixel_reasoner.world.parts.shot import VERSION, Photo, take_photo
from pixel_reasoner.world.thumbnails import thumbnail

SETTINGS_FILE, JOURNAL_FILE = "settings.json", "parts.journal.jsonl"
"""parameters of the folder; rows of the photographs that an interrupted run has finished"""


def write_parts(
    params: PartsParams, out: Path, on_photo: Callable[[int], object] = lambda count: None
) -> Path:
    """Render photographs and masks into a folder in the layout of MVTec AD, and return the path of `parts.jsonl`.

    An interrupted run continues with the same bytes. A folder with other parameters is refused, so that no photograph
    is without a row.

    Args:
        params: what is rendered.
        out: the folder.
        on_photo: called with the number of photographs so far.

    Raises:
        UsageError: inconsistent values, seeds outside a split, or the folder contains other photographs.
        OutputError: the folder cannot be written.
    """
    path, journal, plan = out / PARTS_FILE, out / JOURNAL_FILE, list(plan_parts(params))
    _check_folder(params, out)
    if path.is_file() and not journal.is_file():
        on_photo(len(plan))
        return path
    lines = _finished(journal, plan, out)
    try:
        write_bytes("".join(lines).encode(), journal)
        with journal.open("a", encoding="utf-8") as file:
            for number, planned in enumerate(plan, start=1):
                if number > len(lines):
                    lines.append(_write_photo(planned, params, out))
                    file.write(lines[-1])
                    file.flush()
                on_photo(number)
        write_bytes(_thumbnails(plan, out), out / THUMBNAILS_FILE)
        write_bytes("".join(lines).encode(), path)
        journal.unlink()
    except OSError as error:
        raise cannot_write(journal, error) from error
    return path


def _check_folder(params: PartsParams, out: Path) -> None:
    """Write the parameters of a new folder, or check that an existing one has the same."""
    settings = {"version": VERSION, **params.model_dump(mode="json")}
    if (out / PARTS_FILE).exists() and not (out / SETTINGS_FILE).exists():
        raise UsageError(
            expected="a folder of photographs with the same parameters",
            got=f"{out / PARTS_FILE} without {SETTINGS_FILE}",
            fix="use another --out, or delete this folder",
        )
    write_or_check_settings(out / SETTINGS_FILE, settings)


def _finished(journal: Path, plan: Sequence[PlannedShot], out: Path) -> list[str]:
    """Return the lines of the photographs that an earlier run has finished, in the order of the plan."""
    if not journal.is_file():
        return []
    found: list[str] = []
    for line, planned in zip(journal.read_text("utf-8").splitlines(), plan, strict=False):
        try:
            row = PartRow.from_line(line)
        except InputError:  # cut off by a kill
            break
        if row.image != planned.image or not (out / row.image).is_file():
            break
        found.append(line + "\n")
    return found


def _write_photo(planned: PlannedShot, params: PartsParams, out: Path) -> str:
    """Write a photograph and its mask, and return its line."""
    photo = take_photo(planned.shot)
    write_bytes(_png(photo.pixels), out / planned.image)
    if planned.shot.defect is not None:
        write_bytes(_png(photo.mask.astype(np.uint8) * 255), out / planned.mask)
    return annotate(planned, photo, params).to_line() + "\n"


def _thumbnails(plan: Sequence[PlannedShot], out: Path) -> bytes:
    found = []
    for planned in plan:
        with Image.open(out / planned.image) as picture:
            found.append(thumbnail(picture))
    buffer = io.BytesIO()
    np.save(buffer, np.array(found))
    return buffer.getvalue()


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
