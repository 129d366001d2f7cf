"""Speed and memory of the synthesis of expert traces, on one core and on two.

.venv/bin/python benchmarks/synth.py [COUNT]

Each run is a separate process that renders pictures and clips into an empty folder. Limits: at least 60 traces per second on one core,
1.8 times as many on two, at most 600 MB of memory for any number of traces.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 4000


def run(cores: int, count: int, families: str = "all") -> tuple[float, float]:
    """Return traces per second, and the memory of the largest process in MB."""
    tool = [sys.executable, "-m", "pixel_reasoner.cli"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [*tool, "synth", "pixelworld", "--families", families, "--count", str(count)]
        subprocess.run(
            [*command, "--workers", str(cores), "--out", str(out)],
            check=True,
            capture_output=True,
            preexec_fn=lambda: os.sched_setaffinity(0, range(cores)),
        )
        rate = json.loads((out / "summary.json").read_text())["traces_per_second"]
    return rate, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    few = run(2, COUNT // 10)[1]
    for family in ("attribute", "relation", "count", "infographic", "video"):
        rate, _ = run(1, COUNT // 4, family)
        print(f"{family:<12} one core   {rate:6.1f} traces/s")
    one, _ = run(1, COUNT)
    two, most = run(2, COUNT)
    print(f"all          one core   {one:6.1f} traces/s   (at least 60)")
    print(f"all          two cores  {two:6.1f} traces/s   {two / one:.2f} x one   (at least 1.8)")
    print(
        f"memory       {few:.0f} MB for {COUNT // 10} traces, {most:.0f} MB for {COUNT}   (at most 600)"
    )


if __name__ == "__main__":
    main()
