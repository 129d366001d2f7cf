"""Fill the disk at a random write of a command, free it and continue. Required: a one-line error, no partial file, equal results.

    sudo python -m attacks.full_disk --count 40 --seed 0            # mounts a small tmpfs

Commands: synth, export in both formats, train sft, eval and report. The size of the file system is random, at most what the command
needs, so that any write can fail. Prints one line at the end.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from attacks.commands import Commands, Outcome, Plan, attack_commands
from attacks.kills import SFT, files_without_times, training_results
from pixel_reasoner.files import TEMPORARY_PREFIX

PLENTY = "2g"
PAGE_BYTES = 4096


def _synth(inputs: Path, out: Path) -> list[str]:
    command = ["synth", "pixelworld", "--families", "attribute", "--count", "20"]
    return [*command, "--out", str(out)]


def _export(inputs: Path, out: Path) -> list[str]:
    return ["export", str(inputs / "synth"), "--out", str(out)]


def _export_json(inputs: Path, out: Path) -> list[str]:
    return ["export", str(inputs / "released"), "--to", "message_list", "--out", str(out)]


def _eval(inputs: Path, out: Path) -> list[str]:
    command = ["eval", "pixelworld", "--count", "3", "--compare", "--max-new-tokens", "32"]
    return [*command, "--cache", str(out / "cache.db"), "--out", str(out)]


def _report(inputs: Path, out: Path) -> list[str]:
    return ["report", str(inputs / "synth"), "--out", str(out / "page.html")]


def _sft(inputs: Path, out: Path) -> list[str]:
    path = inputs / "sft.toml"
    text = SFT.format(traces=inputs / "synth", out=out)
    path.write_text(text.replace("max_steps = 6", "max_steps = 2"))
    return ["train", "sft", str(path)]


COMMANDS = {
    "synth": _synth,
    "export": _export,
    "export-json": _export_json,
    "eval": _eval,
    "report": _report,
    "sft": _sft,
}


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[None]:
    """Mount an empty file system of this size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def content(name: str, out: Path) -> dict[str, Any]:
    """Return the content that must be equal."""
    if name == "sft":
        return training_results(out)
    return files_without_times(out)


def violations(done: Outcome, out: Path) -> list[str]:
    """Return the violations of a command on a full disk."""
    lines = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    found = []
    if done.code != 2 or "Traceback" in done.errors or len(lines) != 1:
        found.append(f"exit code {done.code}: {done.errors[-400:]}")
    return found + partial_files(out)


def partial_files(out: Path) -> list[str]:
    """Return the paths of incomplete files."""
    return [
        str(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".store" not in path.parts and not is_complete(path)
    ]


def is_complete(path: Path) -> bool:
    """Return whether a file is complete, by its file type.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "a.json"
    >>> path.write_text("[1,") and is_complete(path)
    False
    """
    if TEMPORARY_PREFIX in str(path):
        return False
    try:
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.name.endswith((".jsonl", ".jsonl.part")):
            lines = path.read_bytes()
            [json.loads(line) for line in lines.splitlines()]
            return not lines or lines.endswith(b"\n")
        elif path.suffix == ".html":
            return path.read_text().rstrip().endswith("</html>")
        elif path.suffix == ".arrow" and path.parent.name != "prepared":
            return (path.parent / "state.json").exists()
        elif "checkpoint-" in path.parent.name:
            return (path.parent / "trainer_state.json").exists()
    except (ValueError, OSError):
        return False
    return True


def prepare(inputs: Path, commands: Commands) -> None:
    """Write the traces that export, report and training read."""
    command = ["synth", "pixelworld", "--families", "attribute", "--count", "8"]
    for name, model in (("synth", "tiny"), ("released", "pixel_reasoner")):
        out = ["--model", model, "--out", str(inputs / name)]
        assert commands.run([*command, *out]).code == 0, name


def attack(
    name: str, folder: Path, count: int, rng: random.Random, commands: Commands
) -> Counter[str]:
    """Run a command on `count` small file systems, and continue it on a large one each time."""
    disk, command = folder / "disk", COMMANDS[name](folder / "inputs", folder / "disk" / "out")
    with tmpfs(disk, PLENTY):
        before = shutil.disk_usage(disk).used
        done = commands.run(command)
        assert done.code == 0, done.errors
        needed = shutil.disk_usage(disk).used - before
        expected = content(name, disk / "out")
    counts: Counter[str] = Counter()
    for _ in range(count):
        pages = rng.randrange(2, max(3, needed // PAGE_BYTES))
        with tmpfs(disk, str(pages * PAGE_BYTES)):
            done, found = commands.run(command), []
            is_full = done.code != 0
            if is_full:
                found = violations(done, disk / "out")
            subprocess.run(["mount", "-o", f"remount,size={PLENTY}", str(disk)], check=True)
            done = commands.run(command)
            if done.code:
                found.append(f"does not continue: {done.errors[-400:]}")
            elif content(name, disk / "out") != expected:
                found.append("continues to something else")
        counts.update(runs=1, full=int(is_full), failed=int(bool(found)))
        for one in found:
            print(f"{name}, {pages} of {needed // PAGE_BYTES} pages: {one}", flush=True)
    return counts


if __name__ == "__main__":
    sys.exit(attack_commands(Plan("full disk", __doc__, list(COMMANDS), 40, prepare, attack)))
