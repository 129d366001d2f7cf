"""Published results of benchmarks, with their source. This project did not measure them.

Papers differ in pixel budgets, prompts, turns, scorers and judges, so these rows are not a leaderboard.
"""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """Published result of a benchmark, in percent."""

    model: str
    percent: float
    source: str


_PAPER = "arXiv 2505.15966, table 1"
_AFTER = "README of FaithEyes (arXiv 2607.28225)"
REFERENCES: dict[str, tuple[Reference, ...]] = {
    "vstar": (
        Reference("Pixel-Reasoner-7B", 84.3, _PAPER),
        Reference("Pixel-Reasoner-7B, warm start alone", 79.0, _PAPER),
        Reference("Qwen2.5-VL-7B, no operations", 70.4, _PAPER),
        Reference("GPT-4o", 62.8, _PAPER),
        Reference("Gemini-2.5-Pro", 79.2, _PAPER),
        Reference(
            "Pixel-Reasoner-7B, by a user of the Space's code", 63.8, "issue 28 of its repository"
        ),
    ),
    "tallyqa-complex": (
        Reference("Pixel-Reasoner-7B (3,200 rows)", 73.8, _PAPER),
        Reference("Qwen2.5-VL-7B, no operations", 68.6, _PAPER),
        Reference("GPT-4o", 73.0, _PAPER),
    ),
    "infographicsvqa": (
        Reference("Pixel-Reasoner-7B (test split)", 84.0, _PAPER),
        Reference("Qwen2.5-VL-7B, no operations", 80.7, _PAPER),
        Reference("GPT-4o", 80.7, _PAPER),
    ),
    "mvbench": (
        Reference("Pixel-Reasoner-7B", 67.8, _PAPER),
        Reference("Qwen2.5-VL-7B, no operations", 63.8, _PAPER),
        Reference("GPT-4o", 64.6, _PAPER),
    ),
    "hrbench-4k": (
        Reference("Pixel-Reasoner-7B", 74.0, "Mini-o3, arXiv 2509.07969"),
        Reference("FaithEyes-8B", 83.2, _AFTER),
    ),
    "hrbench-8k": (Reference("Pixel-Reasoner-7B", 66.9, "Mini-o3, arXiv 2509.07969"),),
    "treebench": (
        Reference("Pixel-Reasoner-7B", 39.0, "DeepEyesV2, arXiv 2511.05271"),
        Reference("TreeVGR-7B", 50.4, "arXiv 2507.07999"),
        Reference("o3", 54.9, "arXiv 2507.07999"),
    ),
}
"""published results by benchmark name"""
