"""Draw docs/strategies.svg from dev/strategies.json: accuracy against tokens per answer for each strategy.

.venv/bin/python docs/strategies_plot.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE, OUT = ROOT / "dev" / "strategies.json", ROOT / "docs" / "strategies.svg"
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 24, 52
COLORS = {"with operations": "#0072b2", "without operations": "#d55e00"}
GRID = "#8886"
TEXT = 'font-family="system-ui, sans-serif" font-size="12"'


def points(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return name, group, tokens and accuracy with its interval of each variant on the same questions."""
    chosen = []
    for name, one in found["variants"].items():
        if one["budget"] != "fixed":
            continue
        common = one["common"]
        chosen.append(
            {
                "name": name.removesuffix("-off"),
                "group": "with operations" if one["operations"] else "without operations",
                "tokens": common["prompt_tokens"] + common["new_tokens"],
                "accuracy": common["accuracy"]["value"],
                "interval": common["accuracy"]["interval"],
            }
        )
    return chosen


def svg(chosen: list[dict[str, Any]]) -> str:
    """Return the plot."""
    low = math.floor(math.log10(min(one["tokens"] for one in chosen)) * 2) / 2
    high = math.ceil(math.log10(max(one["tokens"] for one in chosen)) * 2) / 2

    def x(tokens: float) -> float:
        return LEFT + (math.log10(tokens) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        return TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="Accuracy against tokens per answer for each strategy">',
        '<rect width="100%" height="100%" fill="#fdfdfb"/>',
    ]
    for accuracy in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(
            f'<path d="M{LEFT} {y(accuracy):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
            f'<text x="{LEFT - 8}" y="{y(accuracy) + 4:.1f}" text-anchor="end" {TEXT}>{accuracy:.1f}</text>'
        )
    for tokens in (100, 200, 500, 1000, 2000, 5000, 10_000):
        if low <= math.log10(tokens) <= high:
            parts.append(
                f'<path d="M{x(tokens):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>'
                f'<text x="{x(tokens):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" {TEXT}>{tokens:,}</text>'
            )
    for one in sorted(chosen, key=lambda one: one["accuracy"]):
        color = COLORS[one["group"]]
        first, second = one["interval"]
        at, top = x(one["tokens"]), y(one["accuracy"])
        parts.append(
            f'<path d="M{at:.1f} {y(second):.1f}V{y(first):.1f}" stroke="{color}" stroke-width="1.5"/>'
            f'<circle cx="{at:.1f}" cy="{top:.1f}" r="4.5" fill="{color}"/>'
            f'<text x="{at + 8:.1f}" y="{top + 4:.1f}" {TEXT}>{one["name"]}</text>'
        )
    for row, (group, color) in enumerate(COLORS.items()):
        top = TOP + 14 + 18 * row
        parts.append(
            f'<circle cx="{WIDTH - RIGHT + 20}" cy="{top}" r="4.5" fill="{color}"/>'
            f'<text x="{WIDTH - RIGHT + 30}" y="{top + 4}" {TEXT}>{group}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" {TEXT}>'
        "prompt and generated tokens per answer, all rollouts</text>"
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" {TEXT}>accuracy</text></svg>'
    )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    OUT.write_text(svg(points(json.loads(SOURCE.read_text()))))
    print(OUT)
