"""Registry: finds items of this package and of plug-ins, and suggests names for unknown ones."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from pixel_reasoner.errors import PluginError, UnknownNameError
from pixel_reasoner.registry import Registry


def test_the_error_of_an_unknown_name_lists_the_nearest():
    registry = Registry[int]("operation")
    for number, name in enumerate(("zoom_in", "select_frames")):
        registry.register(name, number)
    with pytest.raises(UnknownNameError, match="use 'zoom_in', the nearest name") as caught:
        registry.get("zoomin")
    assert "an operation: zoom_in, select_frames" in str(caught.value)
    with pytest.raises(UnknownNameError, match="none is registered"):
        Registry[int]("operation", group="pixel_reasoner.no_such_group").get("x")


def test_a_registered_name_is_unique():
    registry = Registry[object]("dialect", group="none")
    one = registry.register("a", object())
    assert registry.register("a", one) is one
    with pytest.raises(PluginError, match="rename"):
        registry.register("a", object())


@pytest.fixture
def plugins(tmp_path):
    """Distribution with a valid plug-in and one that fails on import."""
    (tmp_path / "my_plugin.py").write_text("ITEM = 7\n")
    (tmp_path / "broken_plugin.py").write_text("import no_such_package\n")
    info = tmp_path / "my_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[pixel_reasoner.things]\nworks = my_plugin:ITEM\nbroken = broken_plugin:ITEM\n"
    )
    return tmp_path


def test_plug_ins_are_found_and_a_broken_one_affects_no_other(plugins):
    code = """
    from pixel_reasoner.errors import PluginError
    from pixel_reasoner.registry import Registry
    things = Registry("thing")
    assert things.names() == ["works", "broken"], things.names()
    assert things.get("works") == 7
    assert dict(things.items()) == {"works": 7}
    assert list(things.broken()) == ["broken"]
    try:
        things.get("broken")
    except PluginError as error:
        assert "no_such_package" in str(error) and "repair or uninstall" in str(error)
    else:
        raise AssertionError("a broken plug-in was returned")
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=True,
        env={"PYTHONPATH": ":".join([str(plugins), *sys.path])},
    )
