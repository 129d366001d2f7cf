"""Description of the parts: shapes, materials and print of each kind.

Coordinates are fractions of the width of the picture: x from 0 to 1, y from 0 to 0.75. Heights and bevels are thousandths
of the width.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

HEIGHT = 0.75
"""height of a picture divided by its width"""
Point = tuple[float, float]
Polygon = tuple[Point, ...]
Color = tuple[int, int, int]
Role = Literal["body", "surface", "hole", "piece", "print"]
Texture = Literal["brushed", "turned", "grain"]


class Feature(NamedTuple):
    """One shape of a part, painted over the earlier ones."""

    role: Role
    polygons: tuple[Polygon, ...]
    color: Color | None = None
    rise: float = 0.0
    """height over the surface below; negative for a recess"""
    bevel: float = 0.8
    """radius of its edge"""
    gloss: float | None = None
    """strength of highlights, 0 to 1"""
    grain: float | None = None
    """strength of the texture, 0 to 1"""
    group: str = ""
    """features of one removable piece or hole"""
    through: bool = False
    """whether the mat is visible through the hole"""
    text: str = ""
    """drawn instead of the polygons, in their bounding box"""
    is_left: bool = False
    """whether the text begins at the left edge of the box; otherwise it is centred"""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge."""
        xs, ys = zip(*(point for polygon in self.polygons for point in polygon), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class Design(NamedTuple):
    """Geometry and material of one product; equal for all its parts."""

    kind: str
    features: tuple[Feature, ...]
    texture: Texture
    mat: Color
    """colour of the mat on which the part lies"""

    def groups(self, role: Role) -> dict[str, tuple[float, float, float, float]]:
        """Return the bounding box of each removable group that contains a feature of a role."""
        names = {one.group for one in self.features if one.group and one.role == role}
        return {name: self._bounds(name) for name in sorted(names)}

    def _bounds(self, group: str) -> tuple[float, float, float, float]:
        edges = [one.bounds for one in self.features if one.group == group]
        lefts, tops, rights, bottoms = zip(*edges, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    @property
    def body(self) -> Feature:
        """The feature that contains the outline."""
        return next(one for one in self.features if one.role == "body")


# --- shapes ---


def circle(x: float, y: float, radius: float, corners: int = 72) -> Polygon:
    """Return a regular polygon.

    >>> len(circle(0.5, 0.5, 0.1, 6))
    6
    """
    angles = (math.tau * n / corners for n in range(corners))
    return tuple((x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles)


def rectangle(x: float, y: float, width: float, height: float, radius: float = 0.0) -> Polygon:
    """Return a rectangle with its centre at (x, y) and round corners."""
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if not radius:
        return ((left, top), (right, top), (right, bottom), (left, bottom))
    points = []
    centres = (
        (right - radius, bottom - radius),
        (left + radius, bottom - radius),
        (left + radius, top + radius),
        (right - radius, top + radius),
    )
    for quarter, (cx, cy) in enumerate(centres):
        for step in range(9):
            angle = math.tau * (quarter + step / 8) / 4
            points.append((cx + radius * math.cos(angle), cy + radius * math.sin(angle)))
    return tuple(points)


def stroke(points: Polygon, width: float) -> tuple[Polygon, ...]:
    """Return the polygons of a line with round joints."""
    pieces: list[Polygon] = [circle(x, y, width / 2, 16) for x, y in points]
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        length = math.hypot(x2 - x1, y2 - y1)
        dx, dy = (y1 - y2) / length * width / 2, (x2 - x1) / length * width / 2
        pieces.append(
            ((x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy))
        )
    return tuple(pieces)


def toothed(x: float, y: float, radius: float, teeth: int, depth: float) -> Polygon:
    """Return the outline of a gear."""
    points = []
    for tooth in range(teeth):
        for at, reach in ((0.06, 0.0), (0.24, 1.0), (0.5, 1.0), (0.68, 0.0)):
            angle, far = math.tau * (tooth + at) / teeth, radius - depth * (1 - reach)
            points.append((x + far * math.cos(angle), y + far * math.sin(angle)))
    return tuple(points)


def caption(  # noqa: PLR0913 - position and material
    text: str,
    x: float,
    y: float,
    height: float,
    color: Color,
    *,
    rise: float = 0.0,
    gloss: float | None = None,
    is_left: bool = False,
) -> Feature:
    """Return a line of text with its centre, or the middle of its left edge, at (x, y)."""
    width = height * 0.72 * len(text)
    box = rectangle(x + width / 2 if is_left else x, y, width, height)
    return Feature("print", (box,), color, rise, 0.5, gloss=gloss, text=text, is_left=is_left)
