"""The layout of the package: order of imports, no cycles, short functions, short files. `dev/layout.py` prints the numbers."""

from __future__ import annotations

import doctest
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_measure() -> ModuleType:
    path = Path(__file__).parents[1] / "dev" / "layout.py"
    spec = importlib.util.spec_from_file_location("layout", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["layout"] = module
    spec.loader.exec_module(module)
    return module


rules = load_measure()


@pytest.fixture(scope="module")
def layout():
    return rules.measure()


def package(folder: Path, **files: str) -> Path:
    """Write modules, named `models__api` for `models/api.py`, and return the folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return folder


def test_imports_follow_the_order_of_packages(layout):
    assert layout.misordered == []


def test_no_modules_and_no_packages_import_each_other(layout):
    assert layout.module_cycles == []
    assert layout.package_cycles == []


def test_no_function_is_too_long_and_nearly_all_are_short(layout):
    assert layout.long_functions == []
    assert layout.short_functions >= rules.MIN_SHORT_FUNCTIONS


def test_no_file_is_too_long_and_nearly_all_are_short(layout):
    assert layout.long_files == []
    assert layout.short_files >= rules.MIN_SHORT_FILES


def test_an_import_against_the_order_is_found_at_any_depth(tmp_path):
    late = "def f():\n    from pixel_reasoner.rollout.ask import ask\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pixel_reasoner.rollout.ask\n"
    src = package(tmp_path, rollout__ask="ask = 1", models__api=late, models__spec=typed)
    assert rules.measure(src).misordered == [rules.Import("models.api", "rollout.ask", 2)]


def test_only_its_clients_may_import_a_leaf(tmp_path):
    wanted = "import pixel_reasoner.tiny.train"
    src = package(tmp_path, tiny__train="", api=wanted, cli__main=wanted)
    assert rules.measure(src).misordered == [rules.Import("cli.main", "tiny.train", 1)]


def test_a_cycle_of_modules_and_one_of_packages_are_found(tmp_path):
    src = package(
        tmp_path,
        data__check="from pixel_reasoner.evals.run import load",
        evals__run="from pixel_reasoner.evals import stats",
        evals__stats="from pixel_reasoner.data import formats",
        data__formats="def f():\n    from pixel_reasoner.data import check",
    )
    layout = rules.measure(src)
    assert layout.module_cycles == [["data.check", "data.formats", "evals.run", "evals.stats"]]
    assert layout.package_cycles == [["data", "evals"]]


def test_long_functions_and_files_are_found(tmp_path):
    body = "    pass\n"
    src = package(tmp_path, files=f"def long():\n{body * 60}", errors="x = 1\n" * 501)
    layout = rules.measure(src)
    assert [one.lines for one in layout.long_functions] == [61]
    assert [one.where for one in layout.long_files] == ["errors.py"]


@pytest.mark.medium
def test_examples_of_the_script_run_and_it_prints_a_table():
    assert doctest.testmod(rules).failed == 0
    printed = subprocess.run(
        [sys.executable, rules.__file__], capture_output=True, text=True, check=True
    )
    assert "| functions over 60 lines | " in printed.stdout
