"""All cluster paths, and the table of their results: `make clusters`.

    PYTHONPATH=benchmarks python -m clusters [PART ...]

Parts that measure no speed run two at a time, because most of their time is one core. Each writes its output to
`runs/clusters/PART.log` and its record to `dev/clusters/PART.json`. Speeds are measured afterwards, one part at a time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clusters import record

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "runs" / "clusters"
LANES = (("sharded", "schedulers", "storage", "ray"), ("vllm", "plan", "adapters"))
"""parts that run next to each other, in order"""
ALONE = ("asynchronous", "ray_speed")
ENVIRONMENTS = {"storage": ".venv-cloud", "ray": ".venv-ray", "ray_speed": ".venv-ray"}
"""part -> environment other than `.venv`"""
RECORDS = {"ray_speed": "ray"}
"""part -> name of its record, if it differs"""
RAY_SECTIONS = LOGS / "ray-sections.json"
"""finished sections of `ray_runs`; the record is written when all are done"""
COMMANDS = {
    "ray": ("ray_runs", "--keep", str(RAY_SECTIONS), "--only", "rows", "workflows", "sft", "rl"),
    "ray_speed": ("ray_runs", "--keep", str(RAY_SECTIONS), "--only", "speed"),
}
"""part -> module and arguments, if they differ from its name"""


def run_part(part: str) -> bool:
    """Run a part, print its results, and return whether it reached all floors."""
    python = ROOT / ENVIRONMENTS.get(part, ".venv") / "bin" / "python"
    module, *arguments = COMMANDS.get(part, (part,))
    path = LOGS / f"{part}.log"
    started = time.monotonic()
    print(f"{part}: started, output in {path.relative_to(ROOT)}", flush=True)
    with path.open("wb") as log:
        done = subprocess.run(
            [python, "-m", f"clusters.{module}", *arguments],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")},
        )
    # The sections of Ray have one record together, which `ray_speed` completes.
    found = [] if part == "ray" else record.load(RECORDS.get(part, part))
    missed = [one.path for one in found if not one.passed]
    failed = done.returncode not in (0, 1)  # 1: floors that were not reached
    state = f"exit code {done.returncode}" if failed else f"{len(missed)} floors not reached"
    print(f"{part}: {state}, {(time.monotonic() - started) / 60:.1f} min", flush=True)
    return not (failed or missed)


def run_lane(parts: Sequence[str]) -> list[bool]:
    """Run parts one after another."""
    return [run_part(one) for one in parts]


def run_all(wanted: Sequence[str]) -> Iterator[bool]:
    """Run the lanes next to each other, and then the parts that measure speed."""
    lanes = [[part for part in lane if part in wanted] for lane in LANES]
    with ThreadPoolExecutor(len(lanes)) as pool:
        for passed in pool.map(run_lane, lanes):
            yield from passed
    yield from run_lane([part for part in ALONE if part in wanted])


def main() -> None:
    every = [part for lane in LANES for part in lane] + list(ALONE)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=str(every))
    wanted = parser.parse_args().parts or every
    if unknown := [part for part in wanted if part not in every]:
        parser.error(f"no part {', '.join(unknown)}; parts are {', '.join(every)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    if "ray" in wanted:
        RAY_SECTIONS.unlink(missing_ok=True)
    started = time.monotonic()
    passed = list(run_all(wanted))
    record.main()
    print(f"{sum(passed)} of {len(passed)} parts, {(time.monotonic() - started) / 60:.0f} min")
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
