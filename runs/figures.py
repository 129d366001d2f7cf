"""The tables of figures in the README and the model card, from the summaries of the runs of `runs/tiny.sh`.

.venv/bin/python runs/figures.py runs/tiny
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIGURES = {
    "needs an operation: accuracy": ("needs_look", "accuracy"),
    "needs an operation: evidence hit rate": ("needs_look", "evidence_hit_rate"),
    "needs an operation: RaPR": ("needs_look", "rapr"),
    "overview: accuracy": ("overview", "accuracy"),
    "overview: RaPR": ("overview", "rapr"),
}
ADAPTIVITY = (
    "rapr_unreadable",
    "rapr_readable",
    "rapr_difference",
    "mcc",
    "right_at_once",
    "use_crossing_px",
)


def main() -> None:
    """Print one row a family of world 1, with operations and without, and the table of world 2."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/tiny")
    runs = {
        title: json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
        for name, title in (("eval", ""), ("eval-without", ", no operations"))
    }
    rows = [f"| run | questions | {' | '.join(FIGURES)} | recovery |"]
    rows.append("| --- |" + " --- |" * (len(FIGURES) + 2))
    for family in runs[""]["by_family"]:
        for title, run in runs.items():
            rows.append(f"| {family}{title} | {_row(run['by_family'][family])} |")
    rows.append(f"| all | {_row(runs[''])} |")
    sys.stdout.write("\n".join([*rows, "", *_adaptivity(folder)]) + "\n")


def _adaptivity(folder: Path) -> Iterator[str]:
    """Yield the table of PixelWorld 2: accuracy by family, and how use of operations depends on legibility."""
    runs = [
        json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
        for name in ("eval2", "eval2-without")
    ]
    yield "| world 2 | questions | right or score | no operations |"
    yield "| --- | --- | --- | --- |"
    for family in runs[0]["by_family"]:
        both = [run["by_family"][family] for run in runs]
        values = " | ".join(f"{one['accuracy']:.3f}" for one in both)
        yield f"| {family} | {both[0]['count']} | {values} |"
    found = runs[0]["adaptivity"]
    for name in ADAPTIVITY:
        yield f"| {name} | {found['count']} | {_estimate(found[name])} | – |"
    for name, score in found["scores"].items():
        yield f"| score: {name} | {score['count']} | {_estimate(score)} | – |"


def _estimate(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "–"
    low, high = found["interval"] or (None, None)
    return f"{found['value']:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")


def _row(summary: dict[str, Any]) -> str:
    groups = summary["by_category"]
    values = [groups[group][figure] for group, figure in FIGURES.values()]
    values.append(summary.get("recovery_rate"))
    told = ["–" if value is None else f"{value:.3f}" for value in values]
    return " | ".join([str(summary["count"]), *told])


if __name__ == "__main__":
    main()
