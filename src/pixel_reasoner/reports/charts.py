"""Charts of a run as shapes in pixels; `run.html` renders them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT, _PAD = 340, 220, 36
"""pixels of a chart, and of the margin around the plot area"""


class Rect(NamedTuple):
    """Rectangle. Positions are text, to control the number of digits."""

    kind: str
    """CSS class"""
    x: str
    y: str
    width: str
    height: str


class Dot(NamedTuple):
    """A disc."""

    x: str
    y: str


class Label(NamedTuple):
    """Text at a position."""

    kind: str
    """CSS class"""
    x: str
    y: str
    text: str
    anchor: str = "middle"


class Chart(NamedTuple):
    """One chart."""

    title: str
    boxes: Sequence[Rect] = ()
    dots: Sequence[Dot] = ()
    labels: Sequence[Label] = ()
    legend: str = ""
    size: tuple[int, int] = (WIDTH, HEIGHT)


def scatter(title: str, points: Mapping[tuple[float, float], Sequence[str]]) -> Chart:
    """Return numbered points in [0, 1] x [0, 1], and a legend that names them.

    Args:
        title: title of the chart; x is RaPR.
        points: (x, y) -> names of the points there.
    """
    width, height = WIDTH - 2 * _PAD, HEIGHT - 2 * _PAD
    plot = Rect("plot", str(_PAD), str(_PAD), str(width), str(height))
    labels: list[Label] = []
    for share in (0, 0.5, 1):
        x, y = _PAD + share * width, HEIGHT - _PAD - share * height + 4
        labels.append(Label("tick", f"{x}", f"{HEIGHT - _PAD + 16}", f"{share:g}"))
        labels.append(Label("tick", f"{_PAD - 6}", f"{y}", f"{share:g}", "end"))
    labels.append(Label("tick", f"{WIDTH / 2}", f"{HEIGHT - 4}", "RaPR"))
    dots, legend = [], []
    for number, ((rapr, accuracy), names) in enumerate(points.items(), start=1):
        x, y = _PAD + rapr * width, HEIGHT - _PAD - accuracy * height
        dots.append(Dot(f"{x:.1f}", f"{y:.1f}"))
        labels.append(Label("inside", f"{x:.1f}", f"{y + 3.5:.1f}", str(number)))
        legend.append(f"{number} {', '.join(names)}")
    return Chart(title, [plot], dots, labels, "; ".join(legend))


def histogram(title: str, counts: Sequence[int], names: Sequence[str]) -> Chart:
    """Return a bar chart: a column per count, with its name below and its number above."""
    width, height = (WIDTH - 2 * _PAD) / len(counts), HEIGHT - 2 * _PAD
    top = max(counts) or 1
    boxes, labels = [], []
    for number, (count, name) in enumerate(zip(counts, names, strict=True)):
        x, tall = _PAD + number * width, count / top * height
        y, middle = HEIGHT - _PAD - tall, f"{x + width / 2:.1f}"
        boxes.append(Rect("column", f"{x + 1:.1f}", f"{y:.1f}", f"{width - 2:.1f}", f"{tall:.1f}"))
        labels.append(Label("tick", middle, f"{HEIGHT - _PAD + 16}", name))
        if count:
            labels.append(Label("tick", middle, f"{y - 4:.1f}", str(count)))
    return Chart(title, boxes, (), labels)
