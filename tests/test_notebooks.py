"""Notebooks of `examples/` run completely at toy size and are stored without outputs."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))
pytestmark = pytest.mark.extras  # runs models
TOY = {
    "tuned-model": {
        "= 400, 100, 60": "= 4, 2, 1",
        '_train_batch_size": 16': '_train_batch_size": 2',
    },
    "rl": {"= 64, 40, 8, 8": "= 8, 1, 2, 2"},
    "benchmark": {"COUNT = 100": "COUNT = 2"},
}
TRAINING = {"tuned-model", "rl"}


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run_cell(code: str, names: dict, where: str) -> object:
    """Run a cell and return the value of its last line, as a notebook does."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names) if last else None


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in TRAINING else [], id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {"__name__": "__notebook__"}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            for size, small in TOY.get(path.stem, {}).items():
                code = code.replace(size, small)
            value = run_cell(code, names, f"{path.name}, cell {number}")
            if html := getattr(value, "_repr_html_", None):
                assert "<" in html()


def test_there_are_four_notebooks_without_outputs():
    assert {path.stem for path in NOTEBOOKS} == {"first-answer", "tuned-model", "rl", "benchmark"}
    for path in NOTEBOOKS:
        code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
        assert code
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_replacements_for_toy_sizes_match_existing_text():
    for path in NOTEBOOKS:
        text = "\n".join("".join(cell["source"]) for cell in cells(path))
        assert [size for size in TOY.get(path.stem, {}) if size not in text] == []
