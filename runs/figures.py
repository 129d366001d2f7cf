"""The table of figures in the README and the model card, from the summaries of the runs of `runs/tiny.sh`.

.venv/bin/python runs/figures.py runs/tiny
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FIGURES = {
    "needs a look: accuracy": ("needs_look", "accuracy"),
    "needs a look: evidence hit rate": ("needs_look", "evidence_hit_rate"),
    "needs a look: RaPR": ("needs_look", "rapr"),
    "overview: accuracy": ("overview", "accuracy"),
    "overview: RaPR": ("overview", "rapr"),
}


def main() -> None:
    """Print one row a run."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/tiny")
    print("| run | questions |", " | ".join(FIGURES), "|")
    print("| --- |", " | ".join(["---"] * (len(FIGURES) + 1)), "|")
    for path in sorted(folder.glob("eval-*/summary.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        groups = summary["by_category"]
        values = [groups[group][figure] for group, figure in FIGURES.values()]
        told = " | ".join("–" if value is None else f"{value:.3f}" for value in values)
        name = path.parent.name.removeprefix("eval-").replace("-without", ", no operations")
        print(f"| {name} | {summary['count']} | {told} |")


if __name__ == "__main__":
    main()
