"""Golden pictures of a part as one reference, checked against each other before any photo is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.inspection.difference import (
    MIN_NOISE_L,
    NUM_LEVELS,
    Levels,
    Ranges,
    blurred,
    contrast_quantiles,
    deviations,
    normalised,
    score_map,
)
from pixel_reasoner.workflows.inspection.pictures import (
    Array,
    Matrix,
    detectable_px,
    file_sha256,
    opencv,
    read_rgb,
    resized,
    scaling,
    size_of,
    working_scale,
)
from pixel_reasoner.workflows.inspection.registration import (
    Prepared,
    Registration,
    consistent_points,
    register,
    warped,
)
from pixel_reasoner.workflows.inspection.samples import listed
from pixel_reasoner.workflows.inspection.spec import InspectionSpec

MAX_REFERENCES = 12
"""more golden pictures cost time and memory, and change little"""

_OUTLIER = 3.0
"""a reference whose difference from the others is so many times the usual one is left out"""
_ALONE = 2.5
"""factor on the smallest normaliser where one golden picture does not show how good parts vary"""
_MIN_LANDMARKS = 30
_EDGE_PX = 3
"""margin of the aligned reference that is not compared"""


@dataclass(frozen=True)
class GoldenSet:
    """Several golden pictures as one reference."""

    anchor: Prepared
    """the golden picture in whose frame the ranges are, at working size"""
    full: Array
    """the anchor at full size, for crops"""
    anchor_path: Path
    ranges: Ranges
    noise_L: Array
    quantiles: Array | None
    scale: float
    """factor from the photo to the working picture"""
    paths: tuple[Path, ...]
    sha256: str
    """hash of the hashes of all used files"""
    notes: tuple[str, ...] = ()
    """what the check found: golden pictures that are left out, and why"""
    self_scores: dict[str, float] = field(default_factory=dict)
    """golden picture -> its score against the others"""

    @property
    def smallest_px(self) -> float:
        """Longest side of the smallest defect that is found, in pixels of the photo."""
        return detectable_px(self.scale)


@dataclass(frozen=True)
class Comparison:
    """One photo compared with the golden set."""

    registration: Registration | None
    problem: str
    """why the photo is not aligned; empty if it is"""
    scores: Array
    """score of each pixel of the map, float32; empty if the photo is not aligned"""
    matrix: Matrix
    """from the full-size reference to the full-size photo"""
    working_matrix: Matrix
    """from the reference at working size to the full-size photo"""

    @property
    def score(self) -> float:
        """Largest score; 0 if the photo is not aligned."""
        return float(self.scores.max()) if self.scores.size else 0.0


def compare(photo: Array, golden: GoldenSet, spec: InspectionSpec) -> Comparison:
    """Register a photo and compare it with the golden set.

    Args:
        photo: RGB at full size.
        golden: the references.
        spec: limits of the alignment.
    """
    small = Prepared(resized(photo, golden.scale))
    found = register(golden.anchor, small)
    problem = found.problem(spec.alignment) if found else "nothing of the reference is recognised"
    if found is None or problem:
        return Comparison(found, problem, np.zeros((0, 0), np.float32), np.eye(3), np.eye(3))
    levels = _compared(small.picture, _moved(golden.ranges, found.matrix, small))
    scores = score_map(levels, golden.noise_L, golden.quantiles)
    to_photo = scaling(small.size, size_of(photo))
    to_reference = scaling(size_of(golden.full), golden.anchor.size)
    working = to_photo @ found.matrix
    return Comparison(found, "", scores, working @ to_reference, working)


def load_golden_set(paths: Sequence[Path], spec: InspectionSpec) -> GoldenSet:
    """Read golden pictures, align them with each other, and leave out those that differ from the others.

    Raises:
        InputError: no usable picture.
        UsageError: OpenCV is not installed.
    """
    notes = []
    if len(paths) > MAX_REFERENCES:
        notes.append(f"{MAX_REFERENCES} of {len(paths)} golden pictures are used")
        chosen = np.linspace(0, len(paths) - 1, MAX_REFERENCES).round().astype(int)
        paths = [paths[number] for number in chosen]
    pictures, broken = _read(paths, spec)
    notes += broken
    if not pictures:
        raise InputError(
            expected="golden pictures of good parts",
            got=f"{len(paths)} files, none usable ({listed(broken, 1)})" if paths else "none",
            fix="name their folder with --reference",
        )
    anchor, aligned, unaligned = _aligned_with_best(pictures, spec)
    notes += unaligned
    aligned, scores, noise_L, quantiles, outliers = _checked(anchor, aligned, spec)
    notes += outliers
    if len(aligned) == 1:
        notes.append("one golden picture: how good parts vary is not known, scores are provisional")
    anchor_path = pictures[anchor].path
    digest = hashlib.sha256("".join(sorted(file_sha256(one.path) for one in aligned)).encode())
    return GoldenSet(
        anchor=pictures[anchor].prepared,
        full=read_rgb(anchor_path),
        anchor_path=anchor_path,
        ranges=_joined(aligned, _valid(pictures[anchor].prepared, spec)),
        noise_L=noise_L,
        quantiles=quantiles,
        scale=pictures[anchor].scale,
        paths=tuple(one.path for one in aligned),
        sha256=digest.hexdigest(),
        notes=tuple(notes),
        self_scores=scores,
    )


# --- reading and alignment ---


@dataclass(frozen=True)
class _Golden:
    path: Path
    prepared: Prepared
    scale: float


@dataclass(frozen=True)
class _Aligned:
    """A golden picture in the frame of the anchor, with the brightness of the anchor."""

    path: Path
    picture: Array
    lower: Array
    upper: Array


def _read(paths: Sequence[Path], spec: InspectionSpec) -> tuple[list[_Golden], list[str]]:
    found: list[_Golden] = []
    notes: list[str] = []
    for path in paths:
        try:
            picture = read_rgb(path)
        except InputError as error:
            notes.append(f"golden picture {path.name} cannot be read: {error.got}")
            continue
        smallest = spec.difference.smallest_defect_px
        # One scale for all: that of the first picture.
        scale = found[0].scale if found else working_scale(size_of(picture), smallest)
        found.append(_Golden(path, Prepared(resized(picture, scale)), scale))
    return found, notes


def _aligned_with_best(
    pictures: Sequence[_Golden], spec: InspectionSpec
) -> tuple[int, list[_Aligned], list[str]]:
    """Return the number of the anchor with which most others align, the aligned pictures, and the others by name."""
    best: tuple[int, list[_Aligned], list[str]] | None = None
    for anchor in range(min(3, len(pictures))):
        found = _align(pictures, anchor, spec)
        if best is None or len(found[0]) > len(best[1]):
            best = (anchor, *found)
        if 2 * len(best[1]) > len(pictures):
            break
    assert best is not None
    return best


def _align(
    pictures: Sequence[_Golden], anchor: int, spec: InspectionSpec
) -> tuple[list[_Aligned], list[str]]:
    base = pictures[anchor].prepared
    valid = np.full(base.picture.shape[:2], 255, np.uint8)
    own = blurred(base.picture)
    found = [_with_range(pictures[anchor].path, own, valid)]
    notes: list[str] = []
    consistent = np.zeros(len(base.points), int)
    for number, one in enumerate(pictures):
        if number == anchor:
            continue
        placed = register(base, one.prepared)
        problem = placed.problem(spec.alignment) if placed else "nothing is recognised"
        if placed is None or problem:
            notes.append(f"golden picture {one.path.name} is left out: not aligned, {problem}")
            continue
        consistent += consistent_points(base, one.prepared, placed.matrix)
        back = np.linalg.inv(placed.matrix)
        picture = warped(one.prepared.picture, back, base.size)
        inside = np.full(one.prepared.picture.shape[:2], 255, np.uint8)
        seen = _shrunk(warped(inside, back, base.size, linear=False))
        fitted = normalised(picture, Ranges(own, own, seen))
        found.append(_with_range(one.path, fitted, seen))
    # Texture that differs from part to part is no landmark.
    is_landmark = 2 * consistent >= len(found) - 1
    if is_landmark.sum() >= _MIN_LANDMARKS:
        base.keep_points(is_landmark)
    return found, notes


def _with_range(path: Path, picture: Array, seen: Array) -> _Aligned:
    """Return a picture with the ranges of its 3 x 3 surroundings; where it shows nothing, its range is empty."""
    cv2 = opencv()
    box = np.ones((3, 3), np.uint8)
    lower, upper = cv2.erode(picture, box), cv2.dilate(picture, box)
    lower[seen == 0], upper[seen == 0] = 255, 0
    return _Aligned(path, picture, lower, upper)


def _joined(aligned: Sequence[_Aligned], valid: Array) -> Ranges:
    cv2 = opencv()
    lower, upper = aligned[0].lower, aligned[0].upper
    for one in aligned[1:]:
        lower, upper = cv2.min(lower, one.lower), cv2.max(upper, one.upper)
    # Nothing is known where no golden picture shows anything.
    covered = np.where((lower > upper).any(axis=2), 0, valid).astype(np.uint8)
    return Ranges(lower, upper, covered)


# --- the set against itself ---


def _checked(
    anchor: int, aligned: list[_Aligned], spec: InspectionSpec
) -> tuple[list[_Aligned], dict[str, float], Array, Array | None, list[str]]:
    """Compare each golden picture with the others, and leave out those that differ much more than usual."""
    del anchor
    floor = np.array(MIN_NOISE_L)
    if len(aligned) == 1:
        return aligned, {}, floor * _ALONE, None, []
    notes: list[str] = []
    while True:
        levels = [_against_others(aligned, number, spec) for number in range(len(aligned))]
        maxima = np.array([[_largest_valid(one, n) for n in range(NUM_LEVELS)] for one in levels])
        usual = np.maximum(np.median(maxima, axis=0), floor)
        scores = (maxima / usual).max(axis=1)
        worst = int(scores.argmax())
        if len(aligned) < 4 or scores[worst] <= _OUTLIER:
            break
        notes.append(
            f"golden picture {aligned[worst].path.name} is left out: it differs {scores[worst]:.1f} times as much as usual"
        )
        aligned = [one for number, one in enumerate(aligned) if number != worst]
    noise_L = np.maximum(maxima.max(axis=0), floor)

    named = {
        one.path.name: round(float((row / noise_L).max()), 3)
        for one, row in zip(aligned, maxima, strict=True)
    }
    quantiles = np.nanmax(_filled([contrast_quantiles(one) for one in levels]), axis=0)
    return aligned, named, noise_L, quantiles, notes


def _filled(quantiles: Sequence[Array]) -> Array:
    """Return quantiles as one array; bins that no picture has are 0."""
    stacked = np.stack(quantiles)
    stacked[:, np.isnan(stacked).all(axis=0)] = 0
    return stacked


def _against_others(aligned: Sequence[_Aligned], number: int, spec: InspectionSpec) -> Levels:
    own = aligned[number]
    others = [one for position, one in enumerate(aligned) if position != number]
    valid = _valid_of_size(own.picture.shape[1], own.picture.shape[0], spec)
    valid[(own.lower > own.upper).any(axis=2)] = 0
    return deviations(own.picture, _joined(others, _shrunk(valid)))


def _largest_valid(levels: Levels, level: int) -> float:
    values = levels.deviation_L[level][levels.valid]
    return float(values.max()) if values.size else 0.0


# --- frames ---


def _compared(photo: Array, ranges: Ranges) -> Levels:
    return deviations(normalised(photo, ranges), ranges)


def _moved(ranges: Ranges, matrix: Matrix, photo: Prepared) -> Ranges:
    """Return the ranges in the frame of the photo."""
    valid = _shrunk(warped(ranges.valid, matrix, photo.size, linear=False))
    return Ranges(
        warped(ranges.lower, matrix, photo.size), warped(ranges.upper, matrix, photo.size), valid
    )


def _valid(prepared: Prepared, spec: InspectionSpec) -> Array:
    return _valid_of_size(*prepared.size, spec)


def _valid_of_size(width: int, height: int, spec: InspectionSpec) -> Array:
    """Return 255 where a reference is inspected, 0 elsewhere."""
    inspected = spec.inspected()
    found = np.full((height, width), 0 if inspected else 255, np.uint8)
    for regions, value in ((inspected, 255), (spec.ignored(), 0)):
        for one in regions:
            left, top, right, bottom = _pixels(one.box, width, height)
            found[top:bottom, left:right] = value
    return found


def _pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    return (
        round(box.x1 * width),
        round(box.y1 * height),
        round(box.x2 * width),
        round(box.y2 * height),
    )


def _shrunk(mask: Array) -> Array:
    """Return a mask without its edge, where interpolation mixes in pixels from outside."""
    cv2 = opencv()
    side = 2 * _EDGE_PX + 1
    found: Array = cv2.erode(
        mask, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return found
