"""Examination of one photo before any model: read, compare with the golden set, find proposals, write their pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pixel_reasoner.errors import InputError, PixelReasonerError
from pixel_reasoner.files import atomic_path, file_name, reason
from pixel_reasoner.media.images import image_size
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.inspection.crops import numbered_picture, tiles, write_picture
from pixel_reasoner.workflows.inspection.golden import Comparison, GoldenSet, compare
from pixel_reasoner.workflows.inspection.heat_maps import heat_map_path, read_heat_map
from pixel_reasoner.workflows.inspection.library import GoldenLibrary
from pixel_reasoner.workflows.inspection.pictures import Array, file_sha256, size_of
from pixel_reasoner.workflows.inspection.places import Proposal
from pixel_reasoner.workflows.inspection.proposals import heat_map_proposals, propose, with_decoys
from pixel_reasoner.workflows.inspection.reading import read_rgb
from pixel_reasoner.workflows.inspection.samples import Sample
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import Placed

PICTURES, MAPS = "pictures", "maps"
"""folders of a run: numbered pictures and tiles; maps of scores"""
MAX_MAP_PX = 1_100_000


@dataclass(frozen=True, kw_only=True)
class Examination:
    """How photos are examined."""

    spec: InspectionSpec
    out: Path
    library: GoldenLibrary | None = None
    heat_maps: Path | None = None
    decoys: float = 0.0
    """chance of a decoy per proposal"""
    tile_px: int | None = None
    """pixels of a tile of photos without references; None: no tiles are written"""
    maps: bool = False
    """whether maps of scores are written"""


@dataclass(frozen=True)
class Examined:
    """One photo before any model."""

    sample: Sample
    size: Size | None = None
    sha256: str = ""
    score: float | None = None
    unaligned: str = ""
    """why the photo is not aligned with the references"""
    proposals: tuple[Proposal, ...] = ()
    pictures: tuple[str, ...] = ()
    """numbered pictures, or tiles, relative to the run"""
    tiles: tuple[Box, ...] = ()
    placed: Placed | None = None
    reference_sha256: str = ""
    smallest_px: float | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


@dataclass
class _Draft:
    """Values of an `Examined` in progress."""

    notes: list[str] = field(default_factory=list)
    proposals: Sequence[Proposal] = ()
    score: float | None = None
    unaligned: str = ""
    placed: Placed | None = None
    golden: GoldenSet | None = None
    compared: Comparison | None = None


def examine(sample: Sample, how: Examination) -> Examined:
    """Examine a photo. A photo or file that cannot be used gives an `error`; nothing is raised for it.

    Raises:
        UsageError: a package is not installed.
        OutputError: a picture cannot be written.
    """
    start = time.perf_counter()
    try:
        digest = file_sha256(sample.path)
        photo = read_rgb(sample.path)
    except (OSError, InputError) as error:
        text = error.got if isinstance(error, InputError) else f"{sample.path}: {reason(error)}"
        return Examined(sample, error=text, notes=sample.notes, seconds=_since(start))
    draft = _Draft(notes=list(sample.notes))
    try:
        _compare(photo, sample, how, draft)
    except InputError as error:
        return Examined(
            sample,
            size_of(photo),
            digest,
            error=error.got,
            notes=tuple(draft.notes),
            seconds=_since(start),
        )
    draft.notes += _mask_notes(sample, size_of(photo))
    boxes, pictures = _pictures(photo, sample, how, draft)
    return Examined(
        sample,
        size_of(photo),
        digest,
        draft.score,
        draft.unaligned,
        tuple(draft.proposals),
        pictures,
        boxes,
        draft.placed,
        draft.golden.sha256 if draft.golden else "",
        draft.golden.smallest_px if draft.golden else None,
        tuple(draft.notes),
        seconds=_since(start),
    )


def map_path(out: Path, sample_id: str) -> Path:
    """Return the path of the map of scores of a photo."""
    return out / MAPS / f"{file_name(sample_id)}.npy"


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 4)


def _compare(photo: Array, sample: Sample, how: Examination, draft: _Draft) -> None:
    """Compare with the golden set and the heat map, and fill in score and proposals."""
    spec, size = how.spec, size_of(photo)
    if how.library is not None:
        golden = draft.golden = how.library.get(sample)
        compared = draft.compared = compare(photo, golden, spec)
        draft.placed = _placed(compared, golden)
        draft.unaligned = compared.problem
        if not compared.problem:
            draft.score = round(compared.score, 5)
            if how.heat_maps is None:
                draft.proposals = propose(
                    photo,
                    compared,
                    golden,
                    look_from=spec.decision.look_from,
                    limit=spec.difference.max_proposals,
                )
            if how.maps:
                _write_map(compared.scores, map_path(how.out, sample.id))
    if how.heat_maps is not None and not draft.unaligned:
        _use_heat_map(how, sample, size, draft)
    if how.decoys and draft.proposals:
        draft.proposals = with_decoys(draft.proposals, size, how.decoys, sample.id)


def _use_heat_map(how: Examination, sample: Sample, size: Size, draft: _Draft) -> None:
    assert how.heat_maps is not None
    path = heat_map_path(how.heat_maps, sample.id)
    if path is None:
        raise InputError(
            expected="a heat map of every photo", got=f"no heat map of {sample.id}", fix="add it"
        )
    values = read_heat_map(path)
    draft.proposals = heat_map_proposals(values, size, how.spec.difference.max_proposals)
    if draft.score is None:
        draft.score = round(float(np.nanmax(values)), 6)
    if how.maps:
        _write_map(values, map_path(how.out, sample.id))


def _placed(compared: Comparison, golden: GoldenSet) -> Placed:
    found = compared.registration
    if found is None:
        return Placed(reference=golden.anchor_path.name)
    values = {
        "error_px": found.error_px,
        "fit": found.fit,
        "correlation": found.correlation,
        "rotation_deg": found.rotation_deg,
        "scale": found.scale,
        "shift": found.shift,
        "visible": found.visible,
    }
    finite = {name: round(value, 4) for name, value in values.items() if np.isfinite(value)}
    return Placed(reference=golden.anchor_path.name, **finite)


def _mask_notes(sample: Sample, size: Size) -> list[str]:
    """Return what is wrong with the mask of a photo: it is left out of pixel metrics."""
    if sample.mask is None:
        return []
    try:
        found = image_size(sample.mask, MediaLimits())
    except PixelReasonerError as error:
        return [f"mask cannot be read: {error.got if isinstance(error, InputError) else error}"]
    if found != size:
        return [f"mask has {found[0]} x {found[1]} pixels, the photo {size[0]} x {size[1]}"]
    return []


def _pictures(
    photo: Array, sample: Sample, how: Examination, draft: _Draft
) -> tuple[tuple[Box, ...], tuple[str, ...]]:
    """Write the numbered pictures of proposals, or the tiles of a photo without references. Returns tiles and names."""
    stem, names = file_name(sample.id), []
    for one in draft.proposals:
        compared, golden = draft.compared, draft.golden
        reference = golden.full if golden and compared and not compared.problem else None
        picture = numbered_picture(photo, one, reference, compared.matrix if compared else None)
        names.append(f"{PICTURES}/{stem}-{one.number}.png")
        write_picture(picture, how.out / names[-1])
    if how.library is not None or how.heat_maps is not None or how.tile_px is None:
        return (), tuple(names)
    boxes = tiles(size_of(photo), how.tile_px)
    for number, box in enumerate(boxes if len(boxes) > 1 else (), start=1):
        names.append(f"{PICTURES}/{stem}-tile{number}.png")
        write_picture(Image.fromarray(_cut(photo, box)), how.out / names[-1])
    return tuple(boxes), tuple(names)


def _cut(photo: Array, box: Box) -> Array:
    width, height = size_of(photo)
    rows = slice(round(box.y1 * height), round(box.y2 * height))
    columns = slice(round(box.x1 * width), round(box.x2 * width))
    return np.ascontiguousarray(photo[rows, columns])


def _write_map(scores: Array, path: Path) -> None:
    step = 1
    while scores.size / step**2 > MAX_MAP_PX:
        step *= 2
    height, width = (side // step * step for side in scores.shape)
    blocks = scores[:height, :width].reshape(height // step, step, width // step, step)
    with atomic_path(path) as part, part.open("wb") as file:
        np.save(file, blocks.max(axis=(1, 3)).astype(np.float16))
