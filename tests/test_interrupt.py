"""Ctrl-C and SIGTERM end a command with one line at any time, together with all its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pixel_reasoner.evals.run import load_run

SYNTH = [sys.executable, "-m", "pixel_reasoner.cli", "synth", "pixelworld", "--families"]
SYNTH += ["attribute", "--count", "2000", "--out"]


def started(command: list[str], growing: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own and wait until a file grows."""
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell in the background ignores Ctrl-C, and its child processes inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    # Several units: an interrupted one is dropped.
    while not (growing.exists() and growing.stat().st_size > 50_000):
        assert time.monotonic() < deadline, "the command did not get going"
        time.sleep(0.02)
    return process


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.medium
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_and_its_workers_with_one_line(number, tmp_path):
    command = [*SYNTH, str(tmp_path), "--workers", "2"]
    process = started(command, tmp_path / "traces.jsonl.part")
    os.killpg(process.pid, number)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line and not line.startswith("traces ")]
    assert lines == ["stopped; finished work is kept, run the same command to continue"]
    assert process.returncode == 128 + number
    deadline = time.monotonic() + 30
    while is_alive(process.pid):
        assert time.monotonic() < deadline, "a worker is left over"
        time.sleep(0.05)
    assert list(load_run(tmp_path / "traces.jsonl.part"))
