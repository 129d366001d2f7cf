"""Startup time: `--help`, `import pixel_reasoner`, and one `ask` with the bundled model.

    .venv/bin/python benchmarks/startup.py

Prints the median over several new processes, and whether torch was imported.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pixel_reasoner.world import render, scenes

TOOL = str(Path(sys.executable).with_name("pixel-reasoner"))


def median_s(command: list[str], repeats: int) -> float:
    subprocess.run(command, check=True, capture_output=True)  # warm-up: files in the page cache
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    loaded = "import sys, pixel_reasoner, pixel_reasoner.cli; print('torch' in sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", loaded], check=True, capture_output=True, text=True
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        question = next(iter(render(scenes("attribute", "test", 0, 1), folder)))
        picture = str(folder / question.media[0].path)
        rows = [
            ("pixel-reasoner --help", [TOOL, "--help"], 15, 0.25),
            ("import pixel_reasoner", [sys.executable, "-c", "import pixel_reasoner"], 15, 0.25),
            ("pixel-reasoner ask", [TOOL, "ask", question.text, "--image", picture], 3, 15.0),
        ]
        for label, command, repeats, at_most in rows:
            print(f"{label:24} {median_s(command, repeats):6.2f} s   (at most {at_most} s)")
    print(f"torch imported by the package and its command line: {imported.stdout.strip()}")


if __name__ == "__main__":
    main()
