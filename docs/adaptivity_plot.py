"""Draw docs/adaptivity.svg from dev/adaptivity.json: operation use and accuracy over the height of the evidence.

.venv/bin/python docs/adaptivity_plot.py                    # draw
.venv/bin/python docs/adaptivity_plot.py --keep runs/tiny   # take the curves of eval2 and eval2-without first
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE, OUT = ROOT / "dev" / "adaptivity.json", ROOT / "docs" / "adaptivity.svg"
RUNS = {"with operations": "eval2", "without operations": "eval2-without"}
COLORS = {"with operations": "#0072b2", "without operations": "#d55e00"}
READABLE_FROM_PX = 5
HELD_OUT_PX = 3
WIDTH, HEIGHT = 820, 360
PANEL_WIDTH, LEFT, TOP, BOTTOM = 310, 72, 46, 66
GRID = "#8886"
TEXT = 'font-family="system-ui, sans-serif" font-size="12"'


def keep(folder: Path) -> None:
    """Write the curves of a folder's evaluations to `SOURCE`."""
    kept = {}
    for name, run in RUNS.items():
        summary = json.loads((folder / run / "summary.json").read_text(encoding="utf-8"))
        found = summary["adaptivity"]
        kept[name] = {key: found[key] for key in ("count", "curve", "use_crossing_px", "mcc")}
    SOURCE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def svg(runs: Mapping[str, Any]) -> str:
    """Return both panels."""
    heights = [point["height"] for point in runs["with operations"]["curve"]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="Operation use and accuracy over the height of the evidence">',
        '<rect width="100%" height="100%" fill="#fdfdfb"/>',
    ]
    parts += _panel(
        0,
        "questions with an operation",
        "rapr",
        {"with operations": runs["with operations"]},
        heights,
    )
    parts += _panel(1, "right answers", "accuracy", runs, heights)
    crossing = runs["with operations"]["use_crossing_px"]["value"]
    if crossing is not None:
        x = _x(0, crossing, heights)
        parts.append(
            f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#333" stroke-dasharray="4 3"/>'
            f'<text x="{x + 6:.1f}" y="{TOP + 12}" {TEXT}>half use one: {crossing:.1f} px</text>'
        )
    for number, (name, color) in enumerate(COLORS.items()):
        x = LEFT + (PANEL_WIDTH + 80) + number * 150
        parts.append(
            f'<circle cx="{x}" cy="{HEIGHT - 12}" r="4.5" fill="{color}"/>'
            f'<text x="{x + 10}" y="{HEIGHT - 8}" {TEXT}>{name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    number: int, title: str, value: str, runs: Mapping[str, Any], heights: list[float]
) -> list[str]:
    left, right = _x(number, heights[0], heights), _x(number, heights[-1], heights)
    edge = _x(number, READABLE_FROM_PX, heights)
    parts = [
        f'<text x="{left:.1f}" y="{TOP - 22}" font-weight="600" {TEXT}>{title}</text>',
        f'<rect x="{edge:.1f}" y="{TOP}" width="{right - edge + 14:.1f}" height="{HEIGHT - TOP - BOTTOM}" fill="#0a7d3214"/>',
        f'<text x="{(edge + right) / 2 + 7:.1f}" y="{TOP - 6}" text-anchor="middle" fill="#0a7d32" {TEXT}>readable at once</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<path d="M{left - 14:.1f} {_y(share):.1f}H{right + 14:.1f}" stroke="{GRID}"/>'
            f'<text x="{left - 20:.1f}" y="{_y(share) + 4:.1f}" text-anchor="end" {TEXT}>{100 * share:.0f} %</text>'
        )
    for height in heights:
        held_out = " *" if height == HELD_OUT_PX else ""
        parts.append(
            f'<text x="{_x(number, height, heights):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" {TEXT}>'
            f"{height:.0f}{held_out}</text>"
        )
    parts.append(
        f'<text x="{(left + right) / 2:.1f}" y="{HEIGHT - BOTTOM + 36}" text-anchor="middle" {TEXT}>'
        "height of the evidence in the overview, pixels (* not trained)</text>"
    )
    for name, run in runs.items():
        points = [
            (_x(number, point["height"], heights), point[value])
            for point in run["curve"]
            if point[value]["value"] is not None
        ]
        line = " ".join(f"{x:.1f},{_y(one['value']):.1f}" for x, one in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{COLORS[name]}" stroke-width="2"/>'
        )
        for x, one in points:
            if one["interval"]:
                low, high = one["interval"]
                parts.append(
                    f'<path d="M{x:.1f} {_y(low):.1f}V{_y(high):.1f}" stroke="{COLORS[name]}"/>'
                )
            parts.append(
                f'<circle cx="{x:.1f}" cy="{_y(one["value"]):.1f}" r="4" fill="{COLORS[name]}"/>'
            )
    return parts


def _x(panel: int, height: float, heights: list[float]) -> float:
    span = math.log2(heights[-1] / heights[0])
    return LEFT + panel * (PANEL_WIDTH + 80) + math.log2(height / heights[0]) / span * PANEL_WIDTH


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="folder of runs/tiny.sh")
    if folder := parser.parse_args().keep:
        keep(folder)
    OUT.write_text(svg(json.loads(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")
    sys.stdout.write(f"{OUT}\n")
