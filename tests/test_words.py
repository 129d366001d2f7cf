"""Words of `docs/glossary.md`: private words are not used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRIVATE_WORDS = {
    r"\bembedded model\b": "bundled model",
    r"\bneeds? a look\b": "needs an operation",
    r"\btakes? a look\b": "uses an operation",
    r"\bmodel is (told|shown)\b": "input, prompt",
    r"\b(speaks?|spoken|speakers?) (a|the|its|another) (dialect|format)": "uses a format",
    r"\bReleased? scorer\b": "upstream-compatible scorer",
    r"\b(heed|heeds|heeded)\b": "supports, applies",
    r"\b(whoever|anew|as it stands|such as it is|turn about)\b": "a plain word",
    r"\b(gaze|speakers)\b": "pointing, model profiles",
    r"\bgained\b|\bharmed\b": "gain, harm",
    r"\bloses? patience\b|\b_PATIENCE\b": "times out",
    r"\bREAD_AT_ONCE\b|\b_WORTH_A_PASS\b": "MAX_PREFILL_TOKENS",
    r"\bclass (Medium|Seen|Shown|Said|Desk|Odd|Unfit|Draft|Manner|Beginning|Refusal)\b": "the glossary",
    r"\bfor want of\b|\bto be had\b": "a plain word",
}
"""pattern -> what to write instead"""
MODEL_TEXTS = ("data/wording.py", "data/labels.py", "dialects/families")
"""texts that models see: they are part of results"""


def files() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder in ("src", "docs", "benchmarks", "attacks", "examples"):
        for suffix in ("*.py", "*.md", "*.toml", "*.html", "*.txt", "*.ipynb"):
            found += (ROOT / folder).rglob(suffix)
    return [path for path in found if not any(part in str(path) for part in MODEL_TEXTS)]


@pytest.mark.parametrize("pattern", PRIVATE_WORDS)
def test_private_words_are_not_used(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert found == [], f"write instead: {PRIVATE_WORDS[pattern]}"
