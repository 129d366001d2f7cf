"""Designs of the kinds of parts: a machined plate, a circuit board, a connector, a gear and a printed label."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal

from pixel_reasoner.world.parts.design import (
    Color,
    Design,
    Feature,
    Polygon,
    caption,
    circle,
    rectangle,
    stroke,
    toothed,
)

Kind = Literal["plate", "board", "connector", "gear", "label"]
KINDS: tuple[Kind, ...] = ("plate", "board", "connector", "gear", "label")
_X, _Y = 0.5, 0.375
_STEEL, _GOLD, _BLACK = (186, 189, 193), (214, 172, 84), (38, 39, 42)
_INK = (44, 46, 50)


@lru_cache(maxsize=16)
def make_design(kind: Kind) -> Design:
    """Return the design of a kind.

    >>> make_design("gear").texture
    'turned'
    """
    features, texture, mat = _DESIGNS[kind]
    return Design(kind, tuple(features()), texture, mat)  # type: ignore[arg-type]


def _plate() -> Iterator[Feature]:
    yield Feature(
        "body", (rectangle(_X, _Y, 0.74, 0.5, 0.03),), _STEEL, 9, 2.4, gloss=0.75, grain=1.0
    )
    yield Feature("surface", (rectangle(0.36, 0.39, 0.26, 0.24, 0.018),), (158, 161, 166), -7, 1.6)
    yield Feature("surface", (circle(0.36, 0.39, 0.07),), (190, 193, 197), 6, 1.4)
    yield from _bore(0.36, 0.39, 0.038, "", through=True)
    for number, (x, y) in enumerate(((0.165, 0.16), (0.835, 0.16), (0.165, 0.59), (0.835, 0.59))):
        yield from _bore(x, y, 0.0135, f"bolt-{number}", through=True)
    for number in range(5):
        yield from _bore(0.56 + 0.045 * number, 0.25, 0.0085, f"tap-{number}", through=False)
    for number in range(4):
        angle = math.tau * (number + 0.5) / 4
        at = (0.36 + 0.092 * math.cos(angle), 0.39 + 0.092 * math.sin(angle))
        yield from _bore(*at, 0.0065, f"pin-{number}", through=False)
    slot = rectangle(0.65, 0.345, 0.2, 0.024, 0.0119)
    yield Feature("surface", (rectangle(0.65, 0.345, 0.212, 0.036, 0.0179),), None, -3, 1.6)
    yield Feature("hole", (slot,), (30, 31, 33), -4, 0.8, through=True)
    yield caption("PX-204", 0.65, 0.45, 0.04, (70, 72, 78), rise=-1.6, gloss=0.1)
    yield caption("7075-T6  REV C", 0.65, 0.505, 0.017, _INK, gloss=0.1)
    yield from _matrix_code(0.77, 0.55, 0.05, _INK)


def _bore(x: float, y: float, radius: float, group: str, *, through: bool) -> Iterator[Feature]:
    """Yield a hole with a chamfer."""
    yield Feature("surface", (circle(x, y, radius * 1.28),), None, -2.6, 1.1, group=group)
    dark = (26, 27, 29) if through else (58, 59, 62)
    shape = (circle(x, y, radius),)
    yield Feature("hole", shape, dark, -5, 0.8, 0.05, 0.1, group, through)


def _matrix_code(x: float, y: float, side: float, ink: Color) -> Iterator[Feature]:
    rng, cells = random.Random("matrix code"), 12
    step = side / cells
    dark = [
        (column, row)
        for row in range(cells)
        for column in range(cells)
        if column == 0 or row == cells - 1 or rng.random() < 0.45
    ]
    corner_x, corner_y = x - side / 2 + step / 2, y - side / 2 + step / 2
    squares = tuple(
        rectangle(corner_x + c * step, corner_y + r * step, step * 1.04, step * 1.04)
        for c, r in dark
    )
    yield Feature("print", squares, ink, gloss=0.1)


def _board() -> Iterator[Feature]:
    mask, trace, white = (22, 92, 62), (34, 118, 80), (226, 230, 226)
    yield Feature(
        "body", (rectangle(_X, _Y, 0.8, 0.56, 0.014),), mask, 5, 1.2, gloss=0.4, grain=0.5
    )
    for points in _routes():
        yield Feature("surface", stroke(points, 0.0042), trace, 0.7, 0.5)
        for x, y in (points[0], points[-1]):
            yield Feature("surface", (circle(x, y, 0.0062, 32),), _GOLD, 0.8, 0.5, gloss=0.8)
            yield Feature("surface", (circle(x, y, 0.0028, 24),), (30, 40, 34), -1, 0.4)
    for number, (x, y) in enumerate(((0.13, 0.125), (0.87, 0.125), (0.13, 0.625), (0.87, 0.625))):
        yield Feature("surface", (circle(x, y, 0.0185),), _GOLD, 0.8, 0.6, 0.8, group=f"m{number}")
        yield Feature(
            "hole", (circle(x, y, 0.0115),), (24, 25, 26), -3, 0.6, group=f"m{number}", through=True
        )
    yield from _chip(0.42, 0.36, 0.15, 0.15, 11, "PX32F407", both=True)
    yield from _chip(0.68, 0.27, 0.085, 0.055, 7, "MX25L", both=False)
    yield from _chip(0.7, 0.47, 0.07, 0.05, 5, "TPS62", both=False)
    for number in range(7):
        yield from _resistor(0.2 + 0.05 * number, 0.56, f"R{number + 1}", (30, 31, 34), white)
    for number in range(6):
        yield from _resistor(0.56 + 0.045 * number, 0.6, f"C{number + 1}", (172, 140, 104), white)
    for number in range(4):
        yield from _resistor(0.21, 0.2 + 0.065 * number, f"L{number + 1}", (72, 74, 80), white)
    for x, name in ((0.8, "E1"), (0.8, "E2")):
        y = 0.37 if name == "E1" else 0.2
        yield Feature("surface", (circle(x, y, 0.032),), white, 0.2, 0.4)
        yield Feature("surface", (circle(x, y, 0.029),), (190, 192, 196), 14, 2.2, gloss=0.8)
        yield Feature("surface", stroke(((x - 0.016, y), (x + 0.016, y)), 0.003), (150, 152, 156))
    yield from _header(0.36, 0.165, 12)
    yield caption("PIXEL CTRL 2.1", 0.66, 0.155, 0.02, white)
    yield caption("2026-07  LOT 4471", 0.33, 0.625, 0.014, white)


_KEEP_OUT = (
    *((0.32, 0.26, 0.52, 0.46), (0.61, 0.22, 0.75, 0.32), (0.645, 0.42, 0.755, 0.52)),
    *((0.17, 0.52, 0.55, 0.66), (0.53, 0.565, 0.83, 0.66), (0.17, 0.16, 0.25, 0.43)),
    *((0.75, 0.15, 0.85, 0.42), (0.21, 0.13, 0.51, 0.2), (0.5, 0.13, 0.82, 0.18)),
)
"""regions of the board with components or print: left, top, right, bottom"""


def _routes() -> list[Polygon]:
    """Return traces of the board that avoid components and print."""
    rng = random.Random("routes")
    routes: list[Polygon] = []
    for _ in range(4000):
        x, y = rng.uniform(0.13, 0.87), rng.uniform(0.12, 0.63)
        run, slant = rng.uniform(0.03, 0.14), rng.choice((-1, 1)) * rng.uniform(0.02, 0.07)
        bend = (x + run, y)
        turn = (bend[0] + abs(slant), y + slant)
        route: Polygon = ((x, y), bend, turn, (turn[0] + rng.uniform(0.02, 0.1), turn[1]))
        if len(routes) < 34 and all(map(_is_free, _dense(route))) and _is_apart(route, routes):
            routes.append(route)
    return routes


def _is_free(point: tuple[float, float]) -> bool:
    x, y = point
    if not (0.12 < x < 0.88 and 0.115 < y < 0.635):
        return False
    return not any(left < x < right and top < y < bottom for left, top, right, bottom in _KEEP_OUT)


def _dense(route: Polygon) -> Iterator[tuple[float, float]]:
    for (x1, y1), (x2, y2) in itertools.pairwise(route):
        for step in range(9):
            yield x1 + (x2 - x1) * step / 8, y1 + (y2 - y1) * step / 8


def _is_apart(route: Polygon, routes: list[Polygon]) -> bool:
    others = [point for one in routes for point in _dense(one)]
    return not any(math.hypot(x - u, y - v) < 0.017 for x, y in _dense(route) for u, v in others)


def _chip(  # noqa: PLR0913 - position and size
    x: float, y: float, width: float, height: float, pins: int, name: str, *, both: bool
) -> Iterator[Feature]:
    tin = (196, 198, 202)
    for number in range(pins):
        offset = (number - (pins - 1) / 2) * (width * 0.86 / pins)
        for side in (-1, 1):
            leg = rectangle(x + offset, y + side * (height / 2 + 0.006), 0.0056, 0.014, 0.001)
            yield Feature("piece", (leg,), tin, 2, 0.5, 0.9, group=f"{name}-{side}-{number}")
            if both:
                leg = rectangle(x + side * (width / 2 + 0.006), y + offset, 0.014, 0.0056, 0.001)
                yield Feature("piece", (leg,), tin, 2, 0.5, 0.9, group=f"{name}-{side}s{number}")
    yield Feature(
        "surface", (rectangle(x, y, width, height, 0.003),), _BLACK, 9, 1.5, gloss=0.25, grain=0.5
    )
    dot = circle(x - width * 0.4, y - height * 0.36, 0.0045, 24)
    yield Feature("surface", (dot,), (62, 63, 66), -1, 0.4)
    yield caption(name, x, y, min(0.02, width / len(name) * 1.1), (198, 200, 202))


def _resistor(x: float, y: float, name: str, color: Color, white: Color) -> Iterator[Feature]:
    for side in (-1, 1):
        pad = rectangle(x + side * 0.0095, y, 0.011, 0.0125, 0.001)
        yield Feature("surface", (pad,), _GOLD, 0.4, 0.4, 0.7)
    yield Feature("piece", (rectangle(x, y, 0.023, 0.0105),), (202, 204, 208), 5, 0.8, 0.8, 0, name)
    yield Feature("piece", (rectangle(x, y, 0.0145, 0.0106),), color, 1, 0.5, 0.2, 0.2, name)
    yield caption(name, x, y - 0.0155, 0.0085, white)


def _header(x: float, y: float, pins: int) -> Iterator[Feature]:
    width = 0.022 * pins
    yield Feature("surface", (rectangle(x, y, width, 0.03, 0.002),), (34, 35, 38), 6, 1.0, 0.2, 0.4)
    for number in range(pins):
        at = x + (number - (pins - 1) / 2) * 0.022
        pin = rectangle(at, y, 0.0085, 0.0085, 0.001)
        yield Feature("piece", (pin,), _GOLD, 7, 1.0, 0.9, 0, f"pin-{number}")


def _connector() -> Iterator[Feature]:
    shell = (52, 54, 58)
    outline = rectangle(_X, _Y, 0.8, 0.34, 0.02)
    yield Feature("body", (outline,), shell, 9, 2.4, gloss=0.35, grain=0.7)
    for number, x in enumerate((0.145, 0.855)):
        yield Feature("surface", (circle(x, _Y, 0.028),), (170, 173, 178), 1.5, 1.2, 0.8)
        yield Feature(
            "hole",
            (circle(x, _Y, 0.0165),),
            (24, 25, 27),
            -5,
            1.0,
            group=f"ear-{number}",
            through=True,
        )
    yield Feature("surface", (rectangle(_X, _Y, 0.6, 0.24, 0.016),), (62, 64, 69), 5, 2.0)
    yield Feature("surface", (rectangle(_X, _Y, 0.56, 0.2, 0.012),), (26, 27, 30), -12, 2.0, 0.1)
    yield Feature("surface", (rectangle(_X, 0.262, 0.09, 0.03, 0.003),), (26, 27, 30), -8, 1.4, 0.1)
    for row, y in enumerate((0.335, 0.42)):
        for column in range(12):
            x = _X + (column - 5.5) * 0.0425
            name = f"pin-{row}-{column}"
            yield Feature(
                "piece", (rectangle(x, y, 0.026, 0.026, 0.003),), (16, 17, 19), -3, 0.8, group=name
            )
            yield Feature(
                "piece", (rectangle(x, y, 0.0155, 0.0155, 0.002),), _GOLD, 9, 1.5, 1.0, 0.1, name
            )
    yield caption("PX 24-WAY", 0.33, 0.518, 0.02, (202, 204, 206))
    yield caption("5A 250V~", 0.66, 0.518, 0.016, (202, 204, 206))
    yield caption("1", 0.186, 0.335, 0.014, (202, 204, 206))
    yield caption("24", 0.813, 0.42, 0.012, (202, 204, 206))


def _gear() -> Iterator[Feature]:
    yield Feature(
        "body", (toothed(_X, _Y, 0.335, 30, 0.04),), (172, 174, 178), 9, 1.8, gloss=0.8, grain=1.0
    )
    yield Feature("surface", (circle(_X, _Y, 0.255, 120),), (150, 152, 157), -5, 2.0)
    yield Feature("surface", (circle(_X, _Y, 0.125, 96),), (184, 186, 190), 7, 2.0)
    for number in range(6):
        angle = math.tau * (number + 0.25) / 6
        x, y = _X + 0.19 * math.cos(angle), _Y + 0.19 * math.sin(angle)
        yield Feature("surface", (circle(x, y, 0.042),), None, -2.5, 1.4)
        yield Feature("hole", (circle(x, y, 0.036),), (26, 27, 29), -4, 1.0, through=True)
    for number in range(6):
        angle = math.tau * (number + 0.75) / 6
        x, y = _X + 0.19 * math.cos(angle), _Y + 0.19 * math.sin(angle)
        yield from _bore(x, y, 0.0085, f"tap-{number}", through=False)
    bore = (circle(_X, _Y, 0.062, 96), rectangle(_X, _Y - 0.06, 0.03, 0.04, 0.002))
    yield Feature("hole", bore, (24, 25, 27), -6, 1.2, through=True)
    yield caption("M2 Z30", _X, 0.468, 0.022, (62, 64, 69), rise=-1.2, gloss=0.1)
    yield caption("C45", 0.59, _Y, 0.017, (62, 64, 69), rise=-1.2, gloss=0.1)
    mark = rectangle(_X, _Y - 0.275, 0.012, 0.012)
    yield Feature("print", (mark,), (176, 46, 40), gloss=0.1)


def _label() -> Iterator[Feature]:
    paper, blue, red = (222, 221, 215), (28, 72, 132), (204, 58, 46)
    yield Feature(
        "body", (rectangle(_X, _Y, 0.78, 0.54, 0.022),), paper, 2.5, 1.0, gloss=0.15, grain=0.4
    )
    yield Feature("print", (rectangle(_X, 0.19, 0.78, 0.13),), blue)
    yield Feature("print", (circle(0.2, 0.19, 0.042),), (244, 244, 240))
    drop = ((0.2, 0.155), *circle(0.2, 0.199, 0.02, 24)[19:], *circle(0.2, 0.199, 0.02, 24)[:18])
    yield Feature("print", (drop,), blue)
    yield caption("HELIOS", 0.27, 0.178, 0.06, (244, 244, 240), is_left=True)
    yield caption("PRECISION CLEANER", 0.273, 0.233, 0.0185, (214, 224, 238), is_left=True)
    yield Feature("print", (rectangle(0.78, 0.19, 0.12, 0.06, 0.012),), red)
    yield caption("500 ml", 0.78, 0.19, 0.026, (250, 246, 240))
    lines = (
        "DILUTE 1:20 WITH WARM WATER",
        "APPLY WITH A SOFT CLOTH",
        "DO NOT MIX WITH ACIDS",
        "KEEP AWAY FROM CHILDREN",
        "STORE BETWEEN 5 AND 30 C",
    )
    for number, line in enumerate(lines):
        y = 0.31 + 0.031 * number
        yield Feature("print", (circle(0.158, y, 0.0052, 24),), red)
        yield caption(line, 0.176, y, 0.0125, (48, 50, 54), is_left=True)
    warn = ((0.235, 0.5), (0.285, 0.585), (0.185, 0.585))
    yield Feature("print", (warn,), (240, 190, 36))
    yield Feature("print", (((0.231, 0.525), (0.239, 0.525), (0.237, 0.56), (0.233, 0.56)),), _INK)
    yield Feature("print", (circle(0.235, 0.571, 0.0045, 20),), _INK)
    yield caption("EXP 07/2029", 0.32, 0.53, 0.02, _INK, is_left=True)
    yield caption("LOT A4471-B", 0.32, 0.57, 0.02, _INK, is_left=True)
    yield from _barcode(0.72, 0.46, 0.24, 0.19)
    yield caption("4 006381 333931", 0.72, 0.573, 0.017, _INK)


def _barcode(x: float, y: float, width: float, height: float) -> Iterator[Feature]:
    rng, module = random.Random("barcode"), width / 95
    at, bars = x - width / 2, []
    while at < x + width / 2 - 4 * module:
        bar, gap = rng.randint(1, 3), rng.randint(1, 3)
        bars.append(rectangle(at + bar * module / 2, y, bar * module, height))
        at += (bar + gap) * module
    yield Feature("print", tuple(bars), (26, 26, 28))


_DESIGNS: dict[str, tuple[Callable[[], Iterator[Feature]], str, Color]] = {
    "plate": (_plate, "brushed", (58, 66, 76)),
    "board": (_board, "grain", (196, 197, 194)),
    "connector": (_connector, "grain", (188, 192, 196)),
    "gear": (_gear, "turned", (52, 62, 74)),
    "label": (_label, "grain", (150, 118, 86)),
}
