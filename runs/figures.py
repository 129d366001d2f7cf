"""The table of figures in the README and the model card, from the summaries of the runs of `runs/tiny.sh`.

.venv/bin/python runs/figures.py runs/tiny
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FIGURES = {
    "needs an operation: accuracy": ("needs_look", "accuracy"),
    "needs an operation: evidence hit rate": ("needs_look", "evidence_hit_rate"),
    "needs an operation: RaPR": ("needs_look", "rapr"),
    "overview: accuracy": ("overview", "accuracy"),
    "overview: RaPR": ("overview", "rapr"),
}


def main() -> None:
    """Print one row a family, with operations and without."""
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
    sys.stdout.write("\n".join(rows) + "\n")


def _row(summary: dict[str, Any]) -> str:
    groups = summary["by_category"]
    values = [groups[group][figure] for group, figure in FIGURES.values()]
    values.append(summary.get("recovery_rate"))
    told = ["–" if value is None else f"{value:.3f}" for value in values]
    return " | ".join([str(summary["count"]), *told])


if __name__ == "__main__":
    main()
