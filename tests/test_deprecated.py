"""Renamed commands, options and config keys: the old name works until a stated version, with a warning."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from documented_commands import ROOT, all_commands
from pixel_reasoner import __version__, deprecated
from pixel_reasoner.cli import app
from pixel_reasoner.deprecated import RENAMED, Renamed, RenamedWarning, new_arguments, new_keys
from pixel_reasoner.errors import UsageError
from pixel_reasoner.train.config import SftRun

EXAMPLES = (
    Renamed("command", "", "draw", "world", "9.0.0"),
    Renamed("command", "world", "draw", "render", "9.0.0"),
    Renamed("command", "", "verify", "check", "9.0.0"),
    Renamed("option", "check", "--for-model", "--model", "9.0.0"),
    Renamed("option", "world render", "--number", "--count", "9.0.0"),
    Renamed("key", "SftRun", "output", "out", "9.0.0"),
    Renamed("key", "RewardConfig", "weight", "alpha", "9.0.0"),
)


@pytest.fixture(autouse=True)
def examples(monkeypatch) -> None:
    monkeypatch.setattr(deprecated, "RENAMED", EXAMPLES)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def test_every_old_name_has_a_future_removal_version_and_an_existing_new_name():
    options = {name: {opt for p in one.params for opt in p.opts} for name, one in all_commands()}
    for one in RENAMED:
        assert version(one.removed_in) > version(__version__), f"remove {one}"
        if one.kind == "option":
            assert one.new in options[one.where]
            assert one.old not in options[one.where]


def test_an_old_command_and_an_old_option_equal_the_new_ones(run, tmp_path):
    new = run("world", "render", "--count", 1, "--out", tmp_path / "new")
    old = run("draw", "draw", "--number=1", "--out", tmp_path / "old")
    assert (new[0], old[0]) == (0, 0)
    assert old[2].count("warning: ") == 3
    assert "warning: --number is now --count; --number will be removed in 9.0.0\n" in old[2]
    files = [
        sorted(p.name for p in (tmp_path / name / "media").iterdir()) for name in ("new", "old")
    ]
    assert files[0] == files[1]


def test_an_old_name_works_under_any_program_name(tmp_path):
    arguments = ["world", "render", "--number", "1", "--out", str(tmp_path)]
    with pytest.warns(RenamedWarning, match="--number is now --count"):
        app(arguments, prog_name="python -m pixel_reasoner.cli", standalone_mode=False)
    assert len(list((tmp_path / "media").iterdir())) == 1


def test_current_names_print_no_warning(run):
    assert "warning" not in run("check", "no-such-folder", "--model", "tiny")[2]


def test_an_error_after_a_rename_is_still_one_message(run):
    code, _, err = run("verify", "no-such-folder", "--for-model", "tiny")
    assert code == 2
    assert err.count("warning: ") == 2
    assert err.splitlines()[-1].startswith("error: ")


def test_an_old_key_of_a_run_is_read_as_the_new_one(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('traces = "t"\noutput = "o"\n')
    with pytest.warns(RenamedWarning, match=r"output is now out; .* removed in 9\.0\.0"):
        assert SftRun.read(path).out == str(tmp_path / "o")


def test_the_old_and_the_new_key_together_are_an_error(tmp_path):
    path = tmp_path / "run.toml"
    for lines in ('out = "a"\noutput = "b"\n', 'output = "b"\nout = "a"\n'):
        path.write_text('traces = "t"\n' + lines)
        with (
            pytest.warns(RenamedWarning),
            pytest.raises(UsageError, match="expected out once; got out and its old name output"),
        ):
            SftRun.read(path)


def test_a_key_is_renamed_only_in_its_own_table():
    assert new_keys("WorldMix", {"weight": 1}) == {"weight": 1}


@given(st.lists(st.text(alphabet="-=ab ", max_size=6)))
def test_arguments_without_old_names_are_unchanged(arguments):
    assert new_arguments("world render", arguments) == arguments


def test_arguments_after_two_dashes_are_not_options():
    arguments = ["--", "--number"]
    assert new_arguments("world render", arguments) == arguments


def test_the_policy_names_this_version():
    assert f"`{__version__.rpartition('.')[0]}" in (ROOT / "docs/versioning.md").read_text("utf-8")
