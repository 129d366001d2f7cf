"""Run `pixel-reasoner` commands in separate processes. Command line that all attacks on commands share."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

CLI = [sys.executable, "-m", "pixel_reasoner.cli"]
TIMEOUT_S = 600
LIBRARIES = (
    "pixel_reasoner.train.sft",
    "pixel_reasoner.train.rl",
    "pixel_reasoner.workflows.evaluate",
)
"""modules that are imported before forks"""

Process = subprocess.Popen[bytes] | multiprocessing.process.BaseProcess


class Outcome(NamedTuple):
    """Result of a command."""

    code: int | None
    """exit code; None: killed"""
    errors: str
    """its standard error"""


class Commands:
    """Runner of commands.

    Args:
        forked: start commands as forks of this process, with the libraries already imported. Training then starts in a
            fraction of a second, and more kills hit its work.
    """

    def __init__(self, *, forked: bool = False) -> None:
        self._forked = forked
        for name in LIBRARIES if forked else ():
            importlib.import_module(name)

    def run(self, command: list[str], kill_after_s: float | None = None) -> Outcome:
        """Run a command. Only its main process is killed.

        Raises:
            TimeoutError: the command ran for more than `TIMEOUT_S`.
        """
        with tempfile.TemporaryFile("w+") as errors:
            process = (_fork if self._forked else _start)(command, errors.fileno())
            code = _exit_code(process, TIMEOUT_S if kill_after_s is None else kill_after_s)
            if code is None and kill_after_s is None:
                raise TimeoutError(f"{' '.join(command)}: more than {TIMEOUT_S} s")
            errors.seek(0)
            return Outcome(code, errors.read())


def _start(command: list[str], errors: int) -> Process:
    return subprocess.Popen(
        [*CLI, *command], stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
    )


def _fork(command: list[str], errors: int) -> Process:
    process = multiprocessing.get_context("fork").Process(target=_main, args=(command, errors))
    process.start()
    return process


def _main(command: list[str], errors: int) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(errors, 2)
    sys.argv = ["pixel-reasoner", *command]
    runpy.run_module("pixel_reasoner.cli", run_name="__main__", alter_sys=True)


def _exit_code(process: Process, timeout_s: float) -> int | None:
    """Return the exit code of a process, or None after killing it."""
    if isinstance(process, subprocess.Popen):
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None
    process.join(timeout_s)
    if process.exitcode is not None:
        return process.exitcode
    process.kill()
    process.join()
    return None


class Plan(NamedTuple):
    """Attack on several commands."""

    title: str
    description: str
    commands: Sequence[str]
    default_count: int
    prepare: Callable[[Path, Commands], None]
    """writes the inputs of all commands to a folder"""
    attack: Callable[[str, Path, int, random.Random, Commands], Counter[str]]
    """(command, folder, runs, random numbers, runner) -> counts with `failed`"""


def attack_commands(plan: Plan) -> int:
    """Attack the commands of the command line, print one line and return the exit code."""
    parser = argparse.ArgumentParser(description=plan.description.partition("\n")[0])
    parser.add_argument(
        "--count", type=int, default=plan.default_count, help="runs of each command"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=plan.commands, default=plan.commands)
    parser.add_argument("--forked", action="store_true", help="import the libraries only once")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    commands = Commands(forked=options.forked)
    plan.prepare(folder / "inputs", commands)
    results, slowest = {}, 0.0
    for name in options.commands:
        started = time.monotonic()
        rng = random.Random(f"{options.seed}/{name}")
        results[name] = plan.attack(name, folder, options.count, rng, commands)
        slowest = max(slowest, (time.monotonic() - started) / options.count)
    failed = sum(counts["failed"] for counts in results.values())
    line = ", ".join(
        f"{name} {' '.join(f'{count} {what}' for what, count in counts.items())}"
        for name, counts in results.items()
    )
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{plan.title}: {line}; slowest {slowest:.0f} s a run; largest memory {memory} MB")
    if not failed:
        shutil.rmtree(folder)
    return int(failed > 0)
