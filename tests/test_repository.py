"""Content of git and of the wheel: no large files, no leftovers. Every dependency has a lower bound."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from documented_commands import ROOT
from pixel_reasoner import __version__

MAX_WHEEL_BYTES = 20_000_000
MAX_TEXT_LINES = 1000
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a clone")
    return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return {
        re.sub(r"[-_.]+", "-", package).lower(): version
        for package, _, version in (line.partition("==") for line in lines if "==" in line)
    }


def requirements(*extras: str) -> list[tuple[str, str]]:
    """Return names and lower bounds of the dependencies of these extras."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(?:[>=]=([\w.]+))?.*", line) for line in lines]
    return [(one[1], one[2] or "") for one in found]


def test_a_file_in_git_is_small_unless_it_is_weights():
    large = {path.suffix for path in tracked() if path.stat().st_size > 160_000}
    assert large <= {".safetensors"}


def test_generated_vector_graphics_are_small():
    for path in tracked():
        if path.suffix == ".svg":
            assert len(path.read_text("utf-8").splitlines()) < MAX_TEXT_LINES, path


def test_the_wheel_contains_all_data_files_and_is_small(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling")
    builder = wheel.WheelBuilder(str(ROOT))
    files = {one.distribution_path: Path(one.path) for one in builder.recurse_included_files()}
    assert {
        "pixel_reasoner/py.typed",
        "pixel_reasoner/tiny/weights/model.safetensors",
        "pixel_reasoner/cli/templates/sft.toml",
    } <= set(files)
    assert sum(path.stat().st_size for path in files.values()) < MAX_WHEEL_BYTES
    assert not [name for name in files if not name.startswith("pixel_reasoner/")]


def test_the_sdist_has_no_runs_and_no_tests():
    sdist = pytest.importorskip("hatchling.builders.sdist", reason="needs hatchling")
    files = [
        one.distribution_path for one in sdist.SdistBuilder(str(ROOT)).recurse_included_files()
    ]
    assert {name.split("/")[0] for name in files if "/" in name} == {"docs", "src"}


def test_both_version_numbers_are_equal():
    assert PROJECT["version"] == __version__


def test_every_dependency_has_a_lower_bound():
    extras = [name for name in PROJECT["optional-dependencies"] if name != "dev"]
    bounded = {name for name, bound in requirements(*extras) if bound}
    assert {name for name, _ in requirements(*extras)} == bounded


def test_the_lowest_versions_are_the_lower_bounds():
    lowest = pinned("constraints-lowest.txt")
    for name, bound in requirements("labeller", "remote", "serve", "released"):
        padded = bound + ".0" * (2 - bound.count("."))
        assert lowest[name] in (bound, padded), name


def test_development_dependencies_are_pinned():
    names = [
        name for name, _ in requirements("local", "train", "labeller", "remote", "serve", "dev")
    ]
    assert [
        name for name in names if name.replace("_", "-").lower() not in pinned("constraints.txt")
    ] == []
