"""Install extensions as external packages without pip, and use each in a separate process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FORK_EACH = """
# Every package is used in a process of its own. They are forked: starting Python takes longer than most tests.
import os, sys, traceback
import importlib, tempfile
from pathlib import Path
import pixel_reasoner.api, pixel_reasoner.cli, pixel_reasoner.extend, pixel_reasoner.dialects.conformance

def run_tests(package):
    import pytest
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", package]
    assert pytest.main([*options, package]) == 0, "its tests fail"

def call_tests(package):
    for path in Path(package).glob("test_*.py"):
        module = importlib.import_module(path.stem)
        tests = [value for name, value in vars(module).items() if name.startswith("test_")]
        assert tests, path
        for test in tests:
            test(Path(tempfile.mkdtemp(dir=package)))

def run_command(arguments):
    sys.argv = ["pixel-reasoner", *arguments]
    try:
        pixel_reasoner.cli.main()
    except SystemExit as stopped:
        assert not stopped.code, f"exit code {stopped.code} of {arguments}"

def in_child(package, work):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    code = 1
    try:
        sys.path.insert(0, package)
        os.chdir(package)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

def use(package, command):
    if command:
        run_tests(package)
        run_command(command)
    else:
        call_tests(package)

packages = eval(sys.stdin.read())
failed = [name for name, command in packages if not in_child(name, lambda: use(name, command))]
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
"""


def install(files: dict[str, str], folder: Path, name: str) -> Path:
    """Write the files and the metadata of an installed package. Return the folder."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    for file, text in files.items():
        ((info if file == "entry_points.txt" else folder) / file).write_text(text, encoding="utf-8")
    return folder


def use_each(packages: Sequence[tuple[Path, Sequence[str]]], *path: Path) -> str:
    """Run the tests of each package and a command line. Return their output.

    Args:
        packages: folders, each with the arguments of `pixel-reasoner`. Without arguments its tests are called with a
            temporary folder, which takes less time than pytest.
        path: folders of other installed packages.
    """
    return run_python(
        FORK_EACH, repr([(str(folder), list(command)) for folder, command in packages]), *path
    )


def run_python(code: str, text: str, *path: Path) -> str:
    """Run code in a process with `text` as standard input and folders on its path, and return its output."""
    variables = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=text,
        env={"PYTHONPATH": ":".join([*map(str, path), *sys.path]), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
