"""Camera of a shot: the projection of the plane of the part onto the picture."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.record import Record
from pixel_reasoner.world.parts.design import HEIGHT
from pixel_reasoner.world.parts.surface import Window

View = Literal["C1", "C2", "C3"]
VIEWS: tuple[View, ...] = ("C1", "C2", "C3")
"""cameras: from above, from the front, from the right"""
_TILT_DEG = {"C1": (0.0, 0.0), "C2": (24.0, 0.0), "C3": (0.0, 24.0)}
_FOCAL = 1.8
"""distance of the camera, in widths of the picture"""


class Placement(Record):
    """Position of a part under the camera. Lengths are fractions of the width of the picture."""

    dx: float = 0.0
    dy: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 1.0


def projection(view: View, placement: Placement, size: Size) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix from pixels of the part (as painted) to pixels of the picture.

    >>> projection("C1", Placement(dx=0.5), (100, 75)) @ (10, 20, 1)
    array([60., 20.,  1.])
    """
    width = size[0]
    angle = math.radians(placement.rotation_deg)
    cos, sin = placement.scale * math.cos(angle), placement.scale * math.sin(angle)
    centred = np.array([[1 / width, 0, -0.5], [0, 1 / width, -HEIGHT / 2], [0, 0, 1]])
    moved = np.array([[cos, -sin, placement.dx], [sin, cos, placement.dy], [0, 0, 1]])
    about_x, about_y = (math.radians(value) for value in _TILT_DEG[view])
    # The plane is rotated about its x and y axis in front of a camera at distance `_FOCAL`.
    tilted = np.array(
        [
            [math.cos(about_y), 0, 0],
            [0, math.cos(about_x), 0],
            [math.sin(about_y) / _FOCAL, -math.sin(about_x) / _FOCAL, 1],
        ]
    )
    back = np.array([[width, 0, width / 2], [0, width, HEIGHT * width / 2], [0, 0, 1]])
    matrix: NDArray[np.float64] = back @ tilted @ moved @ centred
    matrix /= matrix[2, 2]
    return matrix.round(12)


def project(matrix: NDArray[np.float64], window: Window, size: Size, pad: int = 2) -> Window:
    """Return the window of the picture that contains a window of the part, within the picture."""
    left, top, right, bottom = window
    corners = np.array([[left, right, left, right], [top, top, bottom, bottom], [1, 1, 1, 1]])
    x, y, w = matrix @ corners
    limits = []
    for values, side in ((x / w, size[0]), (y / w, size[1])):
        limits.append(min(max(0, math.floor(values.min()) - pad), side))
        limits.append(min(max(0, math.ceil(values.max()) + pad), side))
    return limits[0], limits[2], limits[1], limits[3]


def warp(
    pixels: NDArray[Any],
    matrix: NDArray[np.float64],
    window: Window,
    corner: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """Return a window of the picture, interpolated linearly.

    Args:
        pixels: 8-bit array of the part, or of a window of it; 1, 3 or 4 channels.
        matrix: of `projection`.
        window: region of the picture.
        corner: left and top edge of `pixels` on the part.
    """
    left, top, right, bottom = window
    to_part = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1]]) @ np.linalg.inv(matrix)
    inverse = to_part @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    inverse /= inverse[2, 2]
    size, resample = (right - left, bottom - top), Image.Resampling.BILINEAR
    picture = Image.fromarray(pixels)
    if np.allclose(inverse[2, :2], 0, atol=1e-14):
        moved = picture.transform(size, Image.Transform.AFFINE, inverse[:2].ravel(), resample)
    else:
        values = inverse.ravel()[:8]
        moved = picture.transform(size, Image.Transform.PERSPECTIVE, values, resample)
    return np.asarray(moved)
