"""An invalid extension causes a one-line error with the missing part and its place, and affects no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from extension_fixture import install, run_python
from pixel_reasoner.errors import PluginError
from pixel_reasoner.extend import FramesArgument, MediaContext, MediaKind, Picture, operation
from pixel_reasoner.operations.registry import OPERATIONS

OPERATION = '''
from pixel_reasoner.extend import *

@operation({options})
def {name}({arguments}) -> {returned}:
    """{docstring}"""
    return []
'''
ARGS = "Do it.\n\n    Args:\n        side: It.\n    "


def function(name="bad", arguments="context: MediaContext", docstring="Do it.", **more):
    """Return the source of a module with an operation."""
    values = {"options": "", "returned": "list[Picture]", **more}
    return OPERATION.format(name=name, arguments=arguments, docstring=docstring, **values)


CASES = [
    # kind of registry, name, source, entry point, words of the message
    ("operations", "gone", "import no_such_package", "bad", ["no_such_package", "uninstall"]),
    ("operations", "exits", "raise SystemExit('bye')", "bad", ["SystemExit: bye"]),
    ("operations", "syntax", "def f(:", "bad", ["SyntaxError"]),
    ("operations", "lacking", "x = 1", "missing", ["no attribute 'missing'"]),
    ("operations", "plain", "def plain(context): ...", "plain", ["OperationSpec", "@operation"]),
    ("operations", "other", function(), "bad", ["'other'", "'bad'", "same name"]),
    ("operations", "bad", function(docstring=""), "bad", ["a docstring", "none", ":4", "add one"]),
    (
        *("operations", "bad", function(arguments="context: MediaContext, side"), "bad"),
        ["a type for every argument", "no annotation of side", "side: int"],
    ),
    (
        *("operations", "bad", function(arguments="context: MediaContext, side: int"), "bad"),
        ["under `Args:`", "no description of side", "add a line"],
    ),
    (
        *("operations", "bad", function(docstring=ARGS), "bad"),
        ["a description of side", "remove it"],
    ),
    ("operations", "bad", function(arguments="side: int"), "bad", ["`context: MediaContext`"]),
    ("operations", "bad", function(arguments=""), "bad", ["no argument"]),
    ("operations", "bad", function(returned="int"), "bad", ["`list[Picture]`", "int"]),
    (
        *("operations", "bad", function(arguments="context: MediaContext, *sides: int"), "bad"),
        ["by name", "*sides"],
    ),
    (
        *("operations", "bad"),
        function(arguments="context: MediaContext, side: 'Nope'", docstring=ARGS),
        *("bad", ["name types", "'Nope'", "import"]),
    ),
    (
        *("operations", "bad"),
        function(arguments="context: MediaContext, side: object()", docstring=ARGS),
        *("bad", ["side that JSON can express", "<object object"]),
    ),
    (
        *("operations", "bad"),
        function(arguments="context: MediaContext, side: Trace.__class__", docstring=ARGS),
        *("bad", ["side that JSON can express"]),
    ),
    (
        *("operations", "bad"),
        function(arguments="context: MediaContext, side: int = 'x'", docstring=ARGS),
        *("bad", ["default", "side must be an integer"]),
    ),
    ("operations", "bad", function(options="budget=3"), "bad", ["budget", "valid fields"]),
    ("operations", "bad", function(options="result_budget='huge'"), "bad", ["'huge'"]),
    ("operations", "bad", function(options="max_results=0"), "bad", ["max_results 0"]),
    ("dialects", "text", "x = 'text'", "x", ["Dialect", "a value of str", "replace"]),
    (
        *("dialects", "mine", "from pixel_reasoner.extend import *\nx = get_dialect('plain')", "x"),
        ["'mine'", "'plain'"],
    ),
    (
        "benchmarks",
        "read",
        "def read(data, media): ...",
        "read",
        ["Benchmark", "read(data, media)"],
    ),
    (
        *("benchmarks", "bad"),
        "from pixel_reasoner.extend import *\nx = Benchmark(name='bad')",
        *("x", ["missing", "'metric'"]),
    ),
    ("rewards", "number", "x = 1.0", "x", ["a function of (trace)", "a value of float"]),
    ("rewards", "two", "def two(trace, weight): ...", "two", ["two(trace, weight)", ":1"]),
    ("sources", "value", "x = 1", "x", ["a class", "a value of int"]),
    (
        *("sources", "rowless"),
        "from pixel_reasoner.extend import *\nclass x(Source):\n name = 'rowless'\n summary = 's'\n"
        " def units(self, folder): ...",
        *("x", ["without rows()", "add rows()"]),
    ),
    (
        *("sources", "unread"),
        "from pixel_reasoner.extend import *\nclass x(FileSource):\n name = 'unread'",
        *("x", ["without summary, read()"]),
    ),
    ("models", "value", "x = 1", "x", ["a function of (spec)"]),
    ("models", "undescribed", "class x:\n def __init__(self, spec): ...", "x", ["without name"]),
    (
        *("models", "mute"),
        "class x:\n name, dialect, budgets, describe = 'a', 'plain', None, None\n def __init__(self, spec): ...",
        *("x", ["generate() or open_backend()"]),
    ),
    ("models", "fails", "def x(spec): return 1 / 0", "x", ["ZeroDivisionError", "x(spec)"]),
    ("strategies", "short", "def short(question): ...", "short", ["(question, scheduler, config)"]),
    ("strategies", "none", "def x(question, scheduler, config): ...", "x", ["a Trace", "NoneType"]),
    ("report_sections", "wrong", "def x(): ...", "x", ["a function of (traces)"]),
    ("report_sections", "fails", "def x(traces): return 1 / 0", "x", ["ZeroDivisionError"]),
    ("report_sections", "number", "def x(traces): return 1", "x", ["a text or", "a value of int"]),
    ("report_sections", "ragged", "def x(traces): return [['a'], []]", "x", ["rows of texts"]),
]

USE = """
import json, os, sys
from pathlib import Path
import pixel_reasoner.cli
from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.reports.sections import build_sections
from pixel_reasoner.rollout.strategies import ask_by_strategy
from pixel_reasoner.schema.question import Question
from pixel_reasoner.workflows.plugins import REGISTRIES

question = Question(id="1", text="?", media=())
ways = {
    "models": lambda name: ModelSpec(name).load(),
    "strategies": lambda name: ask_by_strategy(name, question, ScriptedModel(["x"])),
    "report_sections": lambda name: build_sections([name], []),
}
for registry in REGISTRIES:
    ways.setdefault(registry.group.partition(".")[2], registry.get)

for folder, group, name in json.load(sys.stdin):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    message = "nothing was raised"
    try:
        sys.path.insert(0, folder)
        ways[group](name)
    except PixelReasonerError as error:
        message = str(error)
    except BaseException as error:
        message = f"a traceback: {type(error).__name__}: {error}"
    finally:
        Path(folder, "message.txt").write_text(message)
        os._exit(0)
"""


@pytest.mark.medium
def test_every_invalid_extension_gives_a_one_line_error_with_the_missing_part(tmp_path):
    used = []
    for number, (group, name, source, item, _) in enumerate(CASES):
        files = {
            f"plugin_{number}.py": source,
            "entry_points.txt": f"[pixel_reasoner.{group}]\n{name} = plugin_{number}:{item}\n",
        }
        used.append((str(install(files, tmp_path / str(number), "my_plugins")), group, name))
    run_python(USE, json.dumps(used))
    wrong = []
    for (folder, group, name), (*_, words) in zip(used, CASES, strict=True):
        message = Path(folder, "message.txt").read_text()
        is_complete = (
            message.startswith("expected ") and "; got " in message and ". Fix: " in message
        )
        if not is_complete or "\n" in message or not all(word in message for word in words):
            wrong.append(f"{group} {name} {words}: {message}")
    assert not wrong, "\n".join(wrong)


COMMANDS = """
import contextlib, io, json, sys
from pixel_reasoner import cli

found = []
for line in json.load(sys.stdin):
    sys.argv = ["pixel-reasoner", *line.split()]
    err, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            cli.main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code
    found.append((line, code, err.getvalue()))
print(json.dumps(found))
"""


@pytest.mark.medium
def test_commands_refuse_invalid_extensions_with_one_line(tmp_path):
    groups = {
        "operations": "gone = no_such_module:x",
        "models": "fails = my_own:fails",
        "strategies": "short = my_own:fails",
        "report_sections": "short = no_such_module:x",
        "rewards": "number = my_own:NUMBER",
    }
    files = {
        "my_own.py": "NUMBER = 1\ndef fails(spec): return 1 / 0\n",
        "entry_points.txt": "".join(
            f"[pixel_reasoner.{g}]\n{text}\n" for g, text in groups.items()
        ),
        "rl.toml": 'reward_functions = ["number"]\nout = "x"\n[pixelworld]\n',
    }
    folder = install(files, tmp_path, "my_plugins")
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    ask = f"ask What? --image {folder}/a.png"
    lines = {
        f"{ask} --operation gone": "no_such_module",
        f"{ask} --operation zoomin": "Fix: use 'zoom_in'",
        f"{ask} --operation select_frames --no-operations": "--no-operations",
        f"{ask} --strategy short": "(question, scheduler, config)",
        f"{ask} --strategy votes": "majority_vote",
        f"eval pixelworld --out {folder}/run --count 1 --operation gone": "no_such_module",
        f"report {folder} --out {folder}/a.html --section short": "no_such_module",
        f"report {folder} --out {folder}/a.html --section longest": "a report section: short",
        f"{ask} --model fails": "ZeroDivisionError",
        f"train rl {folder}/rl.toml --plan --gpus 1": "a function of (trace)",
    }
    found = json.loads(run_python(COMMANDS, json.dumps(list(lines)), folder))
    for line, code, err in found:
        assert code == 2, (line, err)
        assert err.startswith("error: expected"), (line, err)
        assert lines[line] in err, (line, err)
        assert err.count("\n") == 1, (line, err)
    assert not (folder / "a.html").exists()
    assert not (folder / "run").exists()


CLASHES = """
import logging
from pixel_reasoner.dialects import detect_dialect, get_dialect
from pixel_reasoner.models.registry import is_registered
from pixel_reasoner.operations.registry import OPERATIONS, OperationSet
from pixel_reasoner.workflows.plugins import installed_plugins

assert detect_dialect("Qwen/Qwen3-VL-8B-Instruct").name == "qwen3_vl"
assert OperationSet.of(["zoom_in"]).specs[0].run.__module__ == "pixel_reasoner.operations.zoom"
assert not is_registered("tiny")
broken = {one.name: str(one.error) for one in installed_plugins()}
assert set(broken) == {"zoom_in", "qwen3_vl", "tiny"}
for name, message in broken.items():
    assert "two: " in message and "rename" in message, message
    assert name == "tiny" or f"my_own:{name} of my_plugins 1" in message, message
"""


def test_a_plug_in_does_not_replace_an_item_of_this_package_and_a_warning_names_it(tmp_path):
    names = {"operations": "zoom_in", "dialects": "qwen3_vl", "models": "tiny"}
    entries = (f"[pixel_reasoner.{g}]\n{name} = my_own:{name}\n" for g, name in names.items())
    files = {
        "my_own.py": "zoom_in = qwen3_vl = 1\ndef tiny(spec): ...",
        "entry_points.txt": "".join(entries),
    }
    run_python(CLASHES, "", install(files, tmp_path, "my_plugins"))
    code = "from pixel_reasoner.operations.registry import OPERATIONS; OPERATIONS.get('zoom_in')"
    printed = run_python(f"import sys; sys.stderr = sys.stdout; {code}; {code}", "", tmp_path)
    assert printed.count("\n") == 1, printed
    assert "ignored: expected one operation named 'zoom_in'" in printed


def test_the_error_of_a_name_clash_names_both_packages(tmp_path):
    for number in (1, 2):
        entry = f"[pixel_reasoner.rewards]\nbrief = my_{number}:x\n"
        install({"entry_points.txt": entry}, tmp_path, f"package_{number}")
    code = "from pixel_reasoner.scoring.rewards import REWARDS; print(REWARDS.broken()['brief'])"
    printed = run_python(code, "", tmp_path)
    assert "one reward named 'brief'" in printed
    assert "my_1:x of package_1 1" in printed
    assert "my_2:x of package_2 1" in printed


def test_registering_an_existing_name_is_an_error():
    def zoom_in(context: MediaContext) -> list[Picture]:
        """Do something else."""
        return []

    before = OPERATIONS.get("zoom_in")
    with pytest.raises(PluginError, match=r"one operation named 'zoom_in'.*rename"):
        operation(zoom_in)
    assert OPERATIONS.get("zoom_in") is before


def test_the_media_kinds_of_an_operation_follow_from_its_arguments():
    @operation
    def look(context: MediaContext) -> list[Picture]:
        """Do nothing."""
        return []

    @operation
    def seek(context: MediaContext, frames: FramesArgument) -> list[Picture]:
        """Do nothing.

        Args:
            frames: Numbers of frames.
        """
        return []

    try:
        assert look.media == set(MediaKind)
        assert seek.media == {MediaKind.VIDEO}
    finally:
        for name in ("look", "seek"):
            OPERATIONS.unregister(name)
