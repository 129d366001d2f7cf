"""Golden pictures of a part as one reference, checked against each other before any photo is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.workflows.inspection.difference import (
    MIN_LARGEST,
    NUM_LEVELS,
    Reference,
    deviations,
    in_other_light,
    inverse_deviations,
    kind_quantiles,
    kinds_of,
    largest_of,
    levels_of,
    light_factors,
    score_map,
    usual_quantiles,
)
from pixel_reasoner.workflows.inspection.light import relit
from pixel_reasoner.workflows.inspection.pictures import (
    Array,
    Matrix,
    detectable_px,
    file_sha256,
    opencv,
    resized,
    scaling,
    size_of,
    working_scale,
)
from pixel_reasoner.workflows.inspection.places import crowding
from pixel_reasoner.workflows.inspection.reading import read_rgb
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
"""factor on the smallest largest deviation where one golden picture does not show how good parts vary"""
_DETAIL_PX = 2.0
"""with one golden picture, what a blur of this radius removes counts as its deviation"""
_MAX_GAIN = 1.15
"""differences of darker photos are enlarged, those of brighter ones reduced up to this factor"""
_MIN_LANDMARKS = 30
_EDGE_PX = 3
"""margin of the aligned reference that is not compared"""


@dataclass(frozen=True)
class GoldenSet:
    """Several golden pictures as one reference."""

    anchor: Prepared
    """mean of the golden pictures in the frame of one of them, at working size"""
    full: Array
    """that one at full size, for crops"""
    anchor_path: Path
    reference: Reference
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
    expected: Array
    """reference at working size in the light of the photo; empty if the photo is not aligned"""
    inverse: Array
    """1 / deviation of level 0 in the light of the photo; empty if the photo is not aligned"""
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
        none = np.zeros((0, 0), np.float32)
        return Comparison(found, problem, none, none, none, np.eye(3), np.eye(3))
    scores, expected, inverse = _scores(small, golden.reference, found.matrix)
    scores /= np.float32(crowding(scores))
    to_photo = scaling(small.size, size_of(photo))
    to_reference = scaling(size_of(golden.full), golden.anchor.size)
    working = to_photo @ found.matrix
    return Comparison(found, "", scores, expected, inverse, working @ to_reference, working)


def _scores(photo: Prepared, reference: Reference, matrix: Matrix) -> tuple[Array, Array, Array]:
    """Return the map of scores in the frame of the photo; the reference and 1 / deviation of level 0 in its light.

    Args:
        photo: at working size.
        reference: of the golden pictures.
        matrix: from the reference to the photo.
    """
    cv2 = opencv()
    size = size_of(reference.mean)
    picture, seen = _in_frame(photo.picture, matrix, size)
    valid = cv2.bitwise_and(seen, reference.valid)
    lit = relit(reference.mean, picture, valid)
    difference = cv2.subtract(picture, lit.picture, mask=valid, dtype=cv2.CV_16S)
    difference_L = levels_of(difference)
    inverse_L = in_other_light(reference.inverse_L, reference.mean, lit.change)
    deviation_L = deviations(difference_L, inverse_L)
    factor = light_factors(deviation_L, reference, valid)
    scores = score_map(deviation_L, reference, valid, factor)
    inverse = inverse_L[0]
    if factor[0].min() < 1:
        inverse = inverse * factor[0].take(reference.kinds_L[0])[..., None]
    scores /= np.float32(min(lit.gain, _MAX_GAIN))
    # Every pixel is larger than the distance of two samples: none is lost.
    scores = cv2.dilate(scores, np.ones((2, 2), np.uint8))
    half = tuple((side + 1) // 2 for side in photo.size)
    to_map = scaling(photo.size, (half[0], half[1]))
    moved = to_map @ matrix @ scaling(size_of(scores), size)
    return warped(scores, moved, (half[0], half[1]), linear=False), lit.picture, inverse


def _in_frame(picture: Array, matrix: Matrix, size: Size) -> tuple[Array, Array]:
    """Return a picture in the frame of the reference, and where it shows something, uint8.

    Args:
        picture: at working size.
        matrix: from the reference to the picture.
        size: of the reference.
    """
    cv2 = opencv()
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = np.full(picture.shape[:2], 255, np.uint8)
    return moved, _shrunk(warped(inside, np.linalg.inv(matrix), size, linear=False))


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
    aligned, reference, scores, outliers = _checked(
        aligned, _valid(pictures[anchor].prepared, spec)
    )
    notes += outliers
    if len(aligned) == 1:
        notes.append("one golden picture: how good parts vary is not known, scores are provisional")
    anchor_path = pictures[anchor].path
    digest = hashlib.sha256("".join(sorted(file_sha256(one.path) for one in aligned)).encode())
    mean = Prepared(reference.mean)
    mean.points = pictures[anchor].prepared.points
    return GoldenSet(
        anchor=mean,
        full=read_rgb(anchor_path),
        anchor_path=anchor_path,
        reference=reference,
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
    """A golden picture in the frame of the anchor, in the light of the anchor."""

    path: Path
    picture: Array
    seen: Array
    """uint8, 0 where it shows nothing"""


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
    cv2 = opencv()
    base = pictures[anchor].prepared
    whole = np.full(base.picture.shape[:2], 255, np.uint8)
    found = [_Aligned(pictures[anchor].path, base.picture, whole)]
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
        picture, seen = _in_frame(one.prepared.picture, placed.matrix, base.size)
        lit = relit(base.picture, picture, seen)
        difference = cv2.subtract(picture, lit.picture, dtype=cv2.CV_16S)
        difference = cv2.multiply(difference, (1 / lit.gain,) * 4)
        fitted = cv2.add(base.picture, difference, dtype=cv2.CV_8U)
        found.append(_Aligned(one.path, fitted, seen))
    # Texture that differs from part to part is no landmark.
    is_landmark = 2 * consistent >= len(found) - 1
    if is_landmark.sum() >= _MIN_LANDMARKS:
        base.keep_points(is_landmark)
    return found, notes


# --- the set against itself ---


def _checked(
    aligned: list[_Aligned], valid: Array
) -> tuple[list[_Aligned], Reference, dict[str, float], list[str]]:
    """Compare each golden picture with the others, and leave out those that differ much more than usual."""
    notes: list[str] = []
    while True:
        reference, largest = _compared(aligned, valid)
        if len(aligned) < 4:
            break
        ratios = np.array(largest) / max(float(np.median(largest)), MIN_LARGEST)
        worst = int(ratios.argmax())
        if ratios[worst] <= _OUTLIER:
            break
        notes.append(
            f"golden picture {aligned[worst].path.name} is left out: it differs {ratios[worst]:.1f} times as much as usual"
        )
        aligned = [one for number, one in enumerate(aligned) if number != worst]
    scores = {
        one.path.name: round(value / reference.largest, 3)
        for one, value in zip(aligned, largest, strict=False)
    }
    return aligned, reference, scores, notes


def _compared(aligned: Sequence[_Aligned], inspected: Array) -> tuple[Reference, list[float]]:
    """Return golden pictures as one reference, and the largest deviation of each from the others."""
    count = len(aligned)
    mean, valid = _mean(aligned, inspected)
    kinds_L = [kinds_of(mean, level) for level in range(NUM_LEVELS)]
    if count == 1:
        squares_L = [one * one for one in levels_of(_detail(mean))]
        inverse_L = inverse_deviations(squares_L, mean, count)
        usual = usual_quantiles([])
        return Reference(mean, inverse_L, kinds_L, valid, usual, MIN_LARGEST * _ALONE), []
    sums_L: list[Array] = []
    for one in aligned:
        squares_L = [level * level for level in levels_of(_difference(one, mean))]
        sums_L = [a + b for a, b in zip(sums_L, squares_L, strict=True)] if sums_L else squares_L
    largest, quantiles = [], []
    for one in aligned:
        # In closed form, as if it were not part of the mean and of the deviations.
        own_L = levels_of(_difference(one, mean))
        others_L = [
            np.maximum(total - own * own * (count / (count - 1)), 0) / max(1, count - 2)
            for total, own in zip(sums_L, own_L, strict=True)
        ]
        inverse_L = inverse_deviations(others_L, mean, count - 1)
        deviation_L = deviations([own * (count / (count - 1)) for own in own_L], inverse_L)
        usable = opencv().bitwise_and(valid, one.seen)
        largest.append(largest_of(deviation_L, usable))
        quantiles.append(kind_quantiles(deviation_L, kinds_L, usable))
    inverse_L = inverse_deviations([one / (count - 1) for one in sums_L], mean, count)
    usual = usual_quantiles(quantiles)
    most = max(MIN_LARGEST, *largest)
    return Reference(mean, inverse_L, kinds_L, valid, usual, most), largest


def _mean(aligned: Sequence[_Aligned], inspected: Array) -> tuple[Array, Array]:
    """Return the mean of golden pictures, uint8, and where at least half of them show something."""
    total = np.zeros(aligned[0].picture.shape, np.float32)
    count = np.zeros(inspected.shape, np.float32)
    for one in aligned:
        is_seen = (one.seen > 0).astype(np.float32)
        total += one.picture * is_seen[..., None]
        count += is_seen
    total /= np.maximum(count, 1)[..., None]
    valid = np.where(2 * count >= len(aligned), inspected, 0).astype(np.uint8)
    return np.rint(total).astype(np.uint8), valid


def _difference(one: _Aligned, mean: Array) -> Array:
    """Return a golden picture minus the mean, int16; 0 where it shows nothing."""
    cv2 = opencv()
    found: Array = cv2.subtract(one.picture, mean, dtype=cv2.CV_16S)
    found[one.seen == 0] = 0
    return found


def _detail(picture: Array) -> Array:
    cv2 = opencv()
    smooth = cv2.GaussianBlur(picture, (0, 0), _DETAIL_PX)
    found: Array = cv2.subtract(picture, smooth, dtype=cv2.CV_16S)
    return found


# --- frames ---


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
