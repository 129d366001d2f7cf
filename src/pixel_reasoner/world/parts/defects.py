"""Defects of parts: where they are, and how they change a surface."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.world.parts.design import Design
from pixel_reasoner.world.parts.surface import Floats, Surface, Window, paint

DefectClass = Literal["scratch", "dent", "hole", "misprint", "missing_piece"]
DEFECT_CLASSES: tuple[DefectClass, ...] = ("scratch", "dent", "hole", "misprint", "missing_piece")
Severity = Literal["minor", "major", "critical"]
SEVERITIES: dict[Severity, float] = {"minor": 0.55, "major": 0.8, "critical": 1.0}
"""contrast of a defect"""
_PAD_PX = 6
_MAX_TRIES = 400


class Change(NamedTuple):
    """A window of a surface with a defect."""

    window: Window
    surface: Surface
    mask: Floats
    """1 where the surface may differ from the good one"""


class Request(NamedTuple):
    """A defect to be made."""

    design: Design
    good: Surface
    size: Size
    """of the picture in pixels"""
    length_px: float
    """wanted longer side"""
    strength: float
    rng: random.Random


def make_defect(kind: DefectClass, request: Request) -> tuple[Change, str]:
    """Return the changed window of a surface, and what was done: `extra hole`, `missing R3`."""
    change, detail = _MAKERS[kind](request)
    left, top, right, bottom = change.window
    on_part = request.good.cover[top:bottom, left:right] > 0.02
    return change._replace(mask=change.mask * on_part), detail


def _scratch(request: Request) -> tuple[Change, str]:
    x, y = _free_place(request)
    angle, bend = request.rng.uniform(0, math.pi), request.rng.uniform(-0.18, 0.18)
    half, unit = request.length_px / 2, request.size[0] / 1000
    steps = np.linspace(-1, 1, 24)
    along, across = half * steps, half * bend * (1 - steps**2)
    points = [
        (
            x + a * math.cos(angle) - c * math.sin(angle),
            y + a * math.sin(angle) + c * math.cos(angle),
        )
        for a, c in zip(along, across, strict=True)
    ]
    width = max(1.2, min(request.length_px * 0.09, 1.5 * unit))
    window, mask = _drawn(request, points, width)
    changed = request.good.crop(window)
    changed.height[:] -= mask * np.float32(0.4 * request.strength * max(1.0, width))
    _tint(changed, mask, request, lighter=True)
    return Change(window, changed, mask), "scratch"


def _dent(request: Request) -> tuple[Change, str]:
    x, y = _free_place(request)
    radius = request.length_px / 2
    flat = request.rng.uniform(0.7, 1.0)
    window, mask = _drawn(request, _ellipse(x, y, radius, radius * flat, request.rng), 0)
    changed = request.good.crop(window)
    bowl = _bowl(window, x, y, radius)
    changed.height[:] -= bowl * mask * np.float32(0.75 * request.strength * radius)
    _tint(changed, mask * bowl, request, lighter=False, amount=0.28)
    return Change(window, changed, mask), "dent"


def _hole(request: Request) -> tuple[Change, str]:
    missing = _nearest_group(request, "hole")
    if missing and request.rng.random() < 0.35:
        return _without(request, missing), f"missing hole {missing}"
    x, y = _free_place(request)
    radius = request.length_px / 2
    window, mask = _drawn(request, _ellipse(x, y, radius, radius, request.rng), 0)
    changed = request.good.crop(window)
    changed.height[:] -= mask * np.float32(radius * 0.5)
    changed.color[:] += mask[..., None] * (np.array((20, 21, 23), np.float32) - changed.color)
    changed.gloss[:] *= 1 - mask
    return Change(window, changed, mask), "extra hole"


def _misprint(request: Request) -> tuple[Change, str]:
    x, y = _inked_place(request)
    ink, paper = _ink_and_paper(request, x, y)
    is_blot = request.length_px > 4 and request.rng.random() < 0.5
    if is_blot:
        x, y = _near_ink(request, x, y)
    radius = request.length_px / 2
    blob = _ellipse(x, y, radius, radius * request.rng.uniform(0.6, 0.95), request.rng)
    window, mask = _drawn(request, blob, 0)
    good = request.good.crop(window)
    choices = [("ink blot", ink), ("missing print", paper)]
    # The other one if this one is hardly visible, such as ink on ink.
    for detail, target in choices if is_blot else choices[::-1]:
        color = good.color + mask[..., None] * np.float32(request.strength) * (target - good.color)
        differs = np.abs(color - good.color).max(axis=2) > 2
        if differs.sum() > 0.3 * np.count_nonzero(mask):
            return Change(window, good._replace(color=color), mask * differs), detail
    return Change(window, good._replace(color=color), mask * differs), detail


def _missing_piece(request: Request) -> tuple[Change, str]:
    piece = _nearest_group(request, "piece")
    if piece and request.rng.random() < 0.7:
        return _without(request, piece), f"missing {piece}"
    outline = request.design.body.polygons[0]
    at = request.rng.randrange(len(outline))
    share = request.rng.random()
    (x1, y1), (x2, y2) = outline[at - 1], outline[at]
    x, y = x1 + (x2 - x1) * share, y1 + (y2 - y1) * share
    width, radius = request.size[0], request.length_px / 2
    blob = _ellipse(x * width, y * width, radius, radius * 0.8, request.rng, rough=0.25)
    window, mask = _drawn(request, blob, 0)
    changed = request.good.crop(window)
    changed.cover[:] *= 1 - mask
    return Change(window, changed, mask), "broken edge"


_MAKERS: dict[str, Callable[[Request], tuple[Change, str]]] = {
    "scratch": _scratch,
    "dent": _dent,
    "hole": _hole,
    "misprint": _misprint,
    "missing_piece": _missing_piece,
}


# --- places ---


def _free_place(request: Request) -> tuple[float, float]:
    """Return a random centre whose surroundings lie on the part; without enough room, most of them."""
    width, half = request.size[0], request.length_px / 2 + 2
    left, top, right, bottom = (value * width for value in request.design.body.bounds)
    best, most = ((left + right) / 2, (top + bottom) / 2), -1.0
    for _ in range(_MAX_TRIES):
        x, y = request.rng.uniform(left, right), request.rng.uniform(top, bottom)
        window = _window(request.size, x - half, y - half, x + half, y + half)
        near = request.good.cover[window[1] : window[3], window[0] : window[2]]
        if near.min() > 0.98:
            return x, y
        covered = float(near.mean()) + float(near[near.shape[0] // 2, near.shape[1] // 2])
        if covered > most:
            best, most = (x, y), covered
    return best


def _inked_place(request: Request) -> tuple[float, float]:
    """Return a random pixel with ink."""
    rows, columns = np.nonzero(request.good.print)
    at = request.rng.randrange(len(rows))
    return columns[at] + 0.5, rows[at] + 0.5


def _near_ink(request: Request, x: float, y: float) -> tuple[float, float]:
    """Return a place on the part without ink, about the length of the defect away from a pixel with ink."""
    height, width = request.good.print.shape
    for attempt in range(_MAX_TRIES):
        angle, far = request.rng.uniform(0, math.tau), request.length_px * (0.6 + attempt / 50)
        near = (x + far * math.cos(angle), y + far * math.sin(angle))
        column, row = int(near[0]), int(near[1])
        if (
            (0 <= column < width and 0 <= row < height)
            and not request.good.print[row, column]
            and request.good.cover[row, column] > 0.98
        ):
            return near
    return x, y


def _nearest_group(request: Request, role: Literal["hole", "piece"]) -> str:
    """Return the removable group whose size is nearest to the wanted one; empty without one of half to twice the size."""
    width, sizes = request.size[0], {}
    for name, (left, top, right, bottom) in request.design.groups(role).items():
        sizes[name] = max(right - left, bottom - top) * width / request.length_px
    fitting = [name for name, ratio in sizes.items() if 0.5 <= ratio <= 2]
    return request.rng.choice(fitting) if fitting else ""


def _without(request: Request, group: str) -> Change:
    """Return the window of a part without one of its pieces or holes."""
    edges = [one.bounds for one in request.design.features if one.group == group]
    width = request.size[0]
    left, top = (min(edge[n] for edge in edges) * width for n in (0, 1))
    right, bottom = (max(edge[n] for edge in edges) * width for n in (2, 3))
    pad = width / 200
    window = _window(request.size, left - pad, top - pad, right + pad, bottom + pad)
    bare = paint(request.design, request.size, window, group)
    good = request.good.crop(window)
    differs = np.abs(bare.color - good.color).max(axis=2) > 1
    differs |= np.abs(bare.height - good.height) > 0.02
    differs |= np.abs(bare.cover - good.cover) > 0.01
    return Change(window, bare, differs.astype(np.float32))


# --- shapes ---


def _ellipse(
    x: float, y: float, a: float, b: float, rng: random.Random, rough: float = 0.06
) -> list[tuple[float, float]]:
    turn, points = rng.uniform(0, math.pi), []
    for number in range(36):
        angle = math.tau * number / 36
        reach = 1 - rng.random() * rough
        u, v = a * reach * math.cos(angle), b * reach * math.sin(angle)
        points.append(
            (
                x + u * math.cos(turn) - v * math.sin(turn),
                y + u * math.sin(turn) + v * math.cos(turn),
            )
        )
    return points


def _window(size: Size, left: float, top: float, right: float, bottom: float) -> Window:
    width, height = size
    return (
        max(0, math.floor(left) - _PAD_PX),
        max(0, math.floor(top) - _PAD_PX),
        min(width, math.ceil(right) + _PAD_PX),
        min(height, math.ceil(bottom) + _PAD_PX),
    )


_OVERSAMPLE = 4


def _drawn(
    request: Request, points: list[tuple[float, float]], width: float
) -> tuple[Window, Floats]:
    """Return the window of a polygon (or of a line, with a width) and its coverage of each pixel."""
    xs, ys = zip(*points, strict=True)
    pad = width / 2
    window = _window(request.size, min(xs) - pad, min(ys) - pad, max(xs) + pad, max(ys) + pad)
    size = (window[2] - window[0], window[3] - window[1])
    large = Image.new("L", (size[0] * _OVERSAMPLE, size[1] * _OVERSAMPLE))
    at = [((x - window[0]) * _OVERSAMPLE, (y - window[1]) * _OVERSAMPLE) for x, y in points]
    pen = ImageDraw.Draw(large)
    if width:
        pen.line(at, 255, max(1, round(width * _OVERSAMPLE)), joint="curve")
    else:
        pen.polygon(at, 255)
    small = large.resize(size, Image.Resampling.BOX)
    return window, np.asarray(small, np.float32) / np.float32(255)


def _bowl(window: Window, x: float, y: float, radius: float) -> Floats:
    """Return the depth of a dent: 1 in the middle, 0 at its edge."""
    columns = np.arange(window[0], window[2], dtype=np.float32) + np.float32(0.5 - x)
    rows = np.arange(window[1], window[3], dtype=np.float32) + np.float32(0.5 - y)
    distance = (columns**2 + rows[:, None] ** 2) / np.float32(radius**2)
    return np.maximum(0, 1 - distance) ** np.float32(1.5)


# --- colours ---


def _tint(
    surface: Surface, mask: Floats, request: Request, *, lighter: bool, amount: float = 0.6
) -> None:
    """Blend the colour towards white or black, whichever gives more contrast for `lighter`."""
    mean = float(surface.color[mask > 0].mean()) if (mask > 0).any() else 128.0
    target = 235.0 if lighter and mean < 150 else 35.0
    weight = mask[..., None] * np.float32(amount * request.strength)
    surface.color[:] += weight * (np.float32(target) - surface.color)


def _ink_and_paper(request: Request, x: float, y: float) -> tuple[Floats, Floats]:
    """Return the colours of the ink at a pixel and of the nearest surface without ink."""
    good, radius = request.good, max(8, round(request.size[0] / 40))
    column, row = int(x), int(y)
    ink = good.color[row, column]
    rows = slice(max(0, row - radius), row + radius)
    columns = slice(max(0, column - radius), column + radius)
    bare = ~good.print[rows, columns] & (good.cover[rows, columns] > 0.98)
    near = good.color[rows, columns]
    if bare.any():
        paper = np.median(near[bare], axis=0).astype(np.float32)
        if np.abs(paper - ink).max() > 20:
            return ink, paper
    # Print on print: the colour that differs most, or a lighter or darker one.
    distance = np.abs(near - ink).max(axis=2)
    if distance.max() > 20:
        return ink, near.reshape(-1, 3)[int(distance.argmax())]
    return ink, ink + np.float32(70 if ink.mean() < 128 else -70)
