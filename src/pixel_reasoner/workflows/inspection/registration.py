"""Registration of a photo with a reference: where each point of the reference is in the photo.

Three steps, each measured: candidates (features, phase correlation, no shift) at a small size, refined by ECC; points
that are tracked at working size; limits on the result. A photo that fails is not aligned: it has no difference.

Conventions
    matrices    3 x 3, from pixels of the reference to pixels of the photo, both at working size
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.workflows.inspection.pictures import (
    Array,
    Matrix,
    opencv,
    scaling,
    size_of,
)
from pixel_reasoner.workflows.inspection.spec import Alignment

_SMALL_SIDE = 320
"""longest side of the pictures of ECC"""
_FEATURE_SIDE = 800
_NUM_FEATURES = 800
_MIN_FEATURE_MATCHES = 12
_ECC_STEPS = 40
_SURE = 0.95
"""correlation from which no further candidate is tried"""
_NUM_POINTS = 500
_MIN_POINTS = 12
_TRACK_SIDE = 1200
"""longest side of the pictures in which points are tracked"""
_MIN_INLIERS = 0.3
_INLIER_PX = 1.5
"""distance up to which a point fits, in working pixels"""
_CLEAR_SHARE = 0.9
"""share of points that fit from which an affine map is good enough"""
_HOMOGRAPHY_GAIN = 0.1
"""a perspective is used if this share of the points fits it and not an affine map"""


class Prepared:
    """A picture at working size, in the forms that registration needs. Each is computed once."""

    def __init__(self, picture: Array) -> None:
        self.picture = picture
        self.size: Size = size_of(picture)

    @cached_property
    def grey(self) -> Array:
        """Grey values, uint8."""
        cv2 = opencv()
        found: Array = cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY)
        return found

    @cached_property
    def small(self) -> Array:
        """Flattened grey values at most `_SMALL_SIDE` long, float32."""
        return flattened(_shrunk(self._middle, _SMALL_SIDE)).astype(np.float32)

    @cached_property
    def track(self) -> Array:
        """Flattened grey values at most `_TRACK_SIDE` long, uint8."""
        return flattened(self._middle)

    @cached_property
    def features(self) -> tuple[Array, Array | None]:
        """Points (n, 2) at working size, and their descriptors; None without any."""
        cv2 = opencv()
        shrunk = flattened(_shrunk(self._middle, _FEATURE_SIDE))
        found, descriptors = cv2.ORB.create(_NUM_FEATURES).detectAndCompute(shrunk, None)
        points = np.array([one.pt for one in found], dtype=float).reshape(-1, 2)
        return mapped(points, scaling(size_of(shrunk), self.size)), descriptors

    @cached_property
    def points(self) -> Array:
        """Corners (n, 2) to track, at working size: those of the part, not of the texture of its surface."""
        cv2 = opencv()
        smooth = cv2.GaussianBlur(self._middle, (0, 0), 1.5)
        width, height = size_of(smooth)
        distance = max(4.0, math.sqrt(width * height / _NUM_POINTS) / 2)
        found = cv2.goodFeaturesToTrack(smooth, _NUM_POINTS, 0.01, distance, blockSize=5)
        points = np.zeros((0, 2)) if found is None else found.reshape(-1, 2).astype(float)
        return mapped(points, scaling((width, height), self.size))

    def keep_points(self, is_kept: Array) -> None:
        """Track only some of the points from now on."""
        self.points = self.points[is_kept]

    @cached_property
    def _middle(self) -> Array:
        return _shrunk(self.grey, _TRACK_SIDE)


def _shrunk(grey: Array, side: int) -> Array:
    """Return grey values at most `side` long."""
    cv2 = opencv()
    height, width = grey.shape
    factor = side / max(height, width)
    if factor >= 1:
        return grey
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    found: Array = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return found


@dataclass(frozen=True)
class Registration:
    """Where the reference is in a photo, and how well it fits."""

    matrix: Matrix
    """from the reference to the photo, working pixels"""
    error_px: float
    """median distance of tracked points, working pixels; nan without points"""
    fit: float
    """share of tracked points that are at their place; nan without points"""
    correlation: float
    """of the photo with the aligned reference, flattened"""
    visible: float
    """share of the part that the photo shows"""
    shift: float
    """of the centre, as a fraction of the reference's diagonal"""
    rotation_deg: float
    scale: float

    def problem(self, limits: Alignment) -> str:
        """Return why the photo is not aligned; empty if it is."""
        scale = max(self.scale, 1 / self.scale) if self.scale > 0 else math.inf
        # Written so that nan fails.
        if not self.visible >= limits.min_visible:
            return f"only {max(0.0, self.visible):.0%} of the part is in the picture"
        if not abs(self.rotation_deg) <= limits.max_rotation_deg:
            return f"rotated by {self.rotation_deg:.0f} degrees"
        if not self.shift <= limits.max_shift:
            return f"shifted by {self.shift:.0%}"
        if not scale <= limits.max_scale:
            return f"scaled by {self.scale:.2f}"
        if not self.correlation >= limits.min_correlation:
            return f"it does not look like the reference (correlation {self.correlation:.2f})"
        if not self.fit >= limits.min_fit:
            return f"only {self.fit:.0%} of the landmarks are at their place"
        if not self.error_px <= limits.max_error_px:
            return f"registration error {self.error_px:.1f} pixels"
        return ""


def consistent_points(reference: Prepared, photo: Prepared, matrix: Matrix) -> Array:
    """Return which points of a reference are at their place in a photo, bool (n,)."""
    numbers, source, target = _tracked(reference, photo, matrix)
    found = np.zeros(len(reference.points), bool)
    distance = np.linalg.norm(mapped(source, matrix) - target, axis=1)
    found[numbers[distance < _INLIER_PX]] = True
    return found


def register(reference: Prepared, photo: Prepared) -> Registration | None:
    """Register a photo; None if no candidate fits at all. `Registration.problem` applies the limits.

    Args:
        reference: at working size.
        photo: at working size.
    """
    start = _best_candidate(reference, photo)
    if start is None:
        return None
    return _measured(reference, photo, _refine(reference, photo, start))


def flattened(grey: Array) -> Array:
    """Return grey values without slow changes of brightness and contrast, uint8: 128 is the mean of the surroundings."""
    cv2 = opencv()
    values = grey.astype(np.float32)
    sigma = max(3.0, max(grey.shape) / 24)
    mean = _slow_blur(values, sigma)
    detail = values - mean
    spread = np.sqrt(_slow_blur(detail * detail, sigma))
    detail *= 40 / (spread + 6)
    found: Array = cv2.convertScaleAbs(detail + 128)
    return found


def _slow_blur(values: Array, sigma: float) -> Array:
    """Blur by a wide Gaussian, computed at a quarter of the size."""
    cv2 = opencv()
    height, width = values.shape
    factor = 8 if min(height, width) >= 64 else 1
    small = cv2.resize(
        values, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    found: Array = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return found


def mapped(points: Array, matrix: Matrix) -> Array:
    """Return points (n, 2) mapped by a matrix."""
    if not len(points):
        return points.reshape(0, 2)
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    found: Array = homogeneous[:, :2] / homogeneous[:, 2:]
    return found


def warped(
    picture: Array, matrix: Matrix, size: Size, *, linear: bool = True, border: float | None = 0
) -> Array:
    """Return a picture of the reference in the frame of the photo.

    Args:
        picture: of the reference.
        matrix: from the reference to the photo.
        size: of the result.
        linear: interpolate; otherwise the nearest pixel.
        border: value outside; None continues the edge.
    """
    cv2 = opencv()
    flags = cv2.INTER_LINEAR if linear else cv2.INTER_NEAREST
    outside = {
        "borderMode": cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        "borderValue": (border or 0,) * 4,
    }
    is_affine = abs(matrix[2, 0]) + abs(matrix[2, 1]) < 1e-12
    moved = cv2.warpAffine if is_affine else cv2.warpPerspective
    map_ = matrix[:2] / matrix[2, 2] if is_affine else matrix
    found: Array = moved(picture, map_, size, flags=flags, **outside)
    return found


# --- candidates ---


def _best_candidate(reference: Prepared, photo: Prepared) -> Matrix | None:
    """Return the candidate with the best correlation at the small size, refined by ECC."""
    to_small_reference = scaling(reference.size, size_of(reference.small))
    to_small_photo = scaling(photo.size, size_of(photo.small))
    best, best_correlation = None, -1.0
    for candidate in _candidates(reference, photo):
        small = to_small_photo @ candidate @ np.linalg.inv(to_small_reference)
        refined, correlation = _ecc(reference.small, photo.small, small)
        if correlation > best_correlation:
            full = np.linalg.inv(to_small_photo) @ refined @ to_small_reference
            best, best_correlation = full, correlation
        if correlation > _SURE:
            break
    return best


def _candidates(reference: Prepared, photo: Prepared) -> list[Matrix]:
    """Return first guesses, the most specific first."""
    found = [_by_features(reference, photo), _by_phase(reference, photo)]
    fit = scaling(reference.size, photo.size)
    return [one for one in (*found, fit) if one is not None]


def _by_features(reference: Prepared, photo: Prepared) -> Matrix | None:
    cv2 = opencv()
    (points, descriptors), (photo_points, photo_descriptors) = reference.features, photo.features
    if descriptors is None or photo_descriptors is None:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors, photo_descriptors)
    if len(matches) < _MIN_FEATURE_MATCHES:
        return None
    source = points[[one.queryIdx for one in matches]]
    target = photo_points[[one.trainIdx for one in matches]]
    threshold = 3.0 * max(1.0, max(reference.size) / _FEATURE_SIDE)
    cv2.setRNGSeed(1)
    affine, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=threshold, maxIters=3000
    )
    if affine is None or inliers.sum() < _MIN_FEATURE_MATCHES:
        return None
    return np.vstack([affine, [0, 0, 1]])


def _by_phase(reference: Prepared, photo: Prepared) -> Matrix | None:
    """Return the shift by phase correlation of the small pictures."""
    cv2 = opencv()
    one, other = reference.small, photo.small
    if one.shape != other.shape:
        return None
    window = cv2.createHanningWindow(size_of(one), cv2.CV_32F)
    # It multiplies its arguments by the window in place.
    (x, y), _ = cv2.phaseCorrelate(one.copy(), other.copy(), window)
    factor = max(reference.size) / max(size_of(one))
    return np.array([[1, 0, x * factor], [0, 1, y * factor], [0, 0, 1]], dtype=float)


def _ecc(reference: Array, photo: Array, start: Matrix) -> tuple[Matrix, float]:
    """Return a map between small pictures, refined by ECC where that helps, and its correlation."""
    cv2 = opencv()
    before = _correlation(reference, photo, start)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_STEPS, 1e-4)
    # ECC can only start from a rotation and a shift.
    angle = math.atan2(start[1, 0], start[0, 0])
    cos, sin = math.cos(angle), math.sin(angle)
    warp = np.array([[cos, -sin, start[0, 2]], [sin, cos, start[1, 2]]], np.float32)
    try:
        # ECC computes the map from the template to the input.
        _, warp = cv2.findTransformECC(
            reference, photo, warp, cv2.MOTION_EUCLIDEAN, criteria, None, 3
        )
    except cv2.error:
        return start, before
    refined = np.vstack([warp.astype(float), [0, 0, 1]])
    after = _correlation(reference, photo, refined)
    return (refined, after) if after > before else (start, before)


# --- refinement ---


class _Fit(NamedTuple):
    """A map and how well it fits tracked points."""

    matrix: Matrix
    error_px: float = math.nan
    """median of the points that fit, working pixels"""
    share: float = math.nan
    """of the points that fit"""


def _refine(reference: Prepared, photo: Prepared, start: Matrix) -> _Fit:
    """Refine a map by tracked points, twice."""
    found = _Fit(start)
    for _ in range(2):
        _, source, target = _tracked(reference, photo, found.matrix)
        if len(source) < _MIN_POINTS:
            return found
        fitted = _fit(source, target)
        if fitted is None:
            return _Fit(found.matrix, math.inf, 0.0)
        found = fitted
    return found


def _tracked(reference: Prepared, photo: Prepared, matrix: Matrix) -> tuple[Array, Array, Array]:
    """Return numbers of points, the points (n, 2) of the reference, and where they are in the photo, in working pixels."""
    cv2 = opencv()
    to_track = scaling(photo.size, size_of(photo.track))
    from_track = scaling(size_of(reference.track), reference.size)
    aligned = warped(
        reference.track, to_track @ matrix @ from_track, size_of(photo.track), border=128
    )
    expected = mapped(mapped(reference.points, matrix), to_track)
    width, height = size_of(photo.track)
    margin = 12
    inside = (
        (expected[:, 0] > margin)
        & (expected[:, 1] > margin)
        & (expected[:, 0] < width - margin)
        & (expected[:, 1] < height - margin)
    )
    numbers = np.flatnonzero(inside)
    source, expected = reference.points[inside], expected[inside]
    if not len(source):
        return numbers, source, expected
    start = expected.astype(np.float32).reshape(-1, 1, 2)
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        aligned, photo.track, start, None, winSize=(21, 21), maxLevel=2
    )
    is_found = status.ravel() == 1
    target = mapped(found.reshape(-1, 2).astype(float), np.linalg.inv(to_track))
    return numbers[is_found], source[is_found], target[is_found]


def _fit(source: Array, target: Array) -> _Fit | None:
    """Return the affine map of points, or a perspective where more points fit it; None if hardly any fit."""
    cv2 = opencv()
    cv2.setRNGSeed(1)
    affine, inliers = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_INLIER_PX, maxIters=2000
    )
    if affine is None or not _is_enough(inliers):
        return None
    matrix, fitting = np.vstack([affine, [0, 0, 1]]), inliers.ravel() > 0
    error = _median_error(source[fitting], target[fitting], matrix)
    if fitting.mean() > _CLEAR_SHARE or len(source) < 4 * _MIN_POINTS:
        return _Fit(matrix, error, float(fitting.mean()))
    perspective, inliers = cv2.findHomography(source, target, cv2.RANSAC, _INLIER_PX)
    if perspective is not None and inliers.mean() > fitting.mean() + _HOMOGRAPHY_GAIN:
        matrix, fitting = np.asarray(perspective, dtype=float), inliers.ravel() > 0
        error = _median_error(source[fitting], target[fitting], matrix)
    return _Fit(matrix, error, float(fitting.mean()))


def _is_enough(inliers: Array) -> bool:
    return bool(inliers.mean() >= _MIN_INLIERS and inliers.sum() >= _MIN_POINTS)


def _median_error(source: Array, target: Array, matrix: Matrix) -> float:
    return float(np.median(np.linalg.norm(mapped(source, matrix) - target, axis=1)))


# --- measurement ---


def _measured(reference: Prepared, photo: Prepared, fit: _Fit) -> Registration:
    matrix = fit.matrix
    to_small_reference = scaling(reference.size, size_of(reference.small))
    to_small_photo = scaling(photo.size, size_of(photo.small))
    small = to_small_photo @ matrix @ np.linalg.inv(to_small_reference)
    width, height = reference.size
    centre = np.array([[width / 2, height / 2]])
    steps = np.array([[0, 0], [1, 0], [0, 1]])
    corners = mapped(centre + steps, matrix)
    along = corners[1] - corners[0]
    down = corners[2] - corners[0]
    # Relative to the photo's own centre: a photo of another size is not shifted.
    offset = corners[0] - np.array([photo.size[0] / 2, photo.size[1] / 2])
    area = float(along[0] * down[1] - along[1] * down[0])
    return Registration(
        matrix=matrix,
        error_px=fit.error_px,
        fit=fit.share,
        correlation=_correlation(reference.small, photo.small, small),
        visible=_visible(reference, photo.size, matrix),
        shift=float(np.hypot(*offset) / math.hypot(width, height)),
        rotation_deg=math.degrees(math.atan2(along[1], along[0])),
        # A mirrored part has a negative area.
        scale=math.sqrt(area) if area > 0 else 0.0,
    )


def _correlation(reference: Array, photo: Array, matrix: Matrix) -> float:
    """Return the correlation of a small photo with the small reference, where both are visible."""
    aligned = warped(reference, matrix, size_of(photo))
    seen = warped(np.ones(reference.shape, np.uint8), matrix, size_of(photo), linear=False) > 0
    if seen.sum() < 100:
        return 0.0
    one, other = aligned[seen], photo[seen]
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm else 0.0


def _visible(reference: Prepared, photo: Size, matrix: Matrix) -> float:
    """Return the share of the reference's corners that are inside of the photo: most of them are on the part."""
    points = reference.points
    if len(points) < _MIN_POINTS:
        width, height = reference.size
        side = (np.arange(40) + 0.5) / 40
        columns, rows = np.meshgrid(side * width, side * height)
        points = np.column_stack([columns.ravel(), rows.ravel()])
    x, y = mapped(points, matrix).T
    return float(((x >= 0) & (y >= 0) & (x < photo[0]) & (y < photo[1])).mean())
