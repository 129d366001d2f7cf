"""Run all measurements on one GPU, at most nine minutes, and write `dev/gpu/PART.json` and a table.

    PYTHONPATH=src:benchmarks python -m gpu.run [--dry] [--out DIR] [--folder DIR] [PART ...]

Each part is a separate process with a time limit; one that fails or is too slow does not end the others. Processes
are forked from this one, which has loaded the libraries and has not touched the GPU. `--dry` runs every part with a toy
shape on the CPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu.parts import PARTS, NotRun, Part, Setting
from pixel_reasoner.files import read_json_object, write_json

ROOT = Path(__file__).parents[2]
TOTAL_S = 540.0
MIN_LEFT_S = 10.0
SHOWN = (
    "generated_tokens_per_s",
    "decode_ms_per_step",
    "prefill_s",
    "perf/mfu_update",
    "perf/trained_tokens_per_s",
    "seconds/step",
    "seconds/generation",
    "seconds/update",
    "allocated_gib",
    "parameters",
)


def run_part(part: Part, setting: Setting, out: Path, limit_s: float) -> dict[str, Any]:
    """Run a part in a separate process, and return its record."""
    path = out / f"{part.name}.json"
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    process = multiprocessing.get_context("fork").Process(
        target=_measure, args=(part, setting, path), name=part.name
    )
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        write_json({"status": "too slow", "reason": f"stopped after {limit_s:.0f} s"}, path)
    elif not path.exists():
        reason = f"the process ended with code {process.exitcode}"
        write_json({"status": "failed", "reason": reason}, path)
    record = read_json_object(path, "a record", "run it again")
    record["part"], record["seconds"] = part.name, round(time.perf_counter() - started, 1)
    write_json(record, path)
    return dict(record)


def _measure(part: Part, setting: Setting, path: Path) -> None:
    warnings.simplefilter("ignore")
    try:
        record = {"status": "ok", "numbers": part.run(setting)} | _machine(setting)
    except NotRun as error:
        record = {"status": "not run", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - the other parts continue
        traceback.print_exc()
        record = {"status": "failed", "reason": f"{type(error).__name__}: {str(error)[:500]}"}
    write_json(record, path)


def _machine(setting: Setting) -> dict[str, Any]:
    import torch
    import transformers
    import trl

    name = "CPU" if setting.is_dry else torch.cuda.get_device_name()
    versions = {one.__name__: one.__version__ for one in (torch, transformers, trl)}
    return {"machine": name, "versions": versions, "is_dry": setting.is_dry}


def print_table(records: Sequence[dict[str, Any]]) -> None:
    """Print one line per part."""
    for one in records:
        numbers = one.get("numbers", {})
        shown = [f"{name.split('/')[-1]} {numbers[name]:.4g}" for name in SHOWN if name in numbers]
        text = ", ".join(shown) or one.get("reason", "")
        print(f"{one['part']:<16} {one['status']:<8} {one['seconds']:>6.1f} s  {text}", flush=True)
    rates = {
        one["part"]: one["numbers"]["generated_tokens_per_s"]
        for one in records
        if "generated_tokens_per_s" in one.get("numbers", {})
    }
    for size in ("3b", "7b"):
        ours, theirs = rates.get(f"engine_{size}"), rates.get(f"vllm_{size}")
        if ours and theirs:
            print(f"engine / vLLM at {size}: {ours / theirs:.2f} (floor 0.5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="toy shapes on the CPU")
    parser.add_argument("--out", type=Path, help="folder of the records; dev/gpu by default")
    parser.add_argument("--folder", type=Path, help="folder that keeps the models")
    parser.add_argument("parts", nargs="*", help="names of parts; all by default")
    given = parser.parse_args()
    parts = [one for one in PARTS if not given.parts or one.name in given.parts]
    folder = given.folder or Path(tempfile.mkdtemp(prefix="gpu-"))
    out = given.out or (folder / "records" if given.dry else ROOT / "dev" / "gpu")
    for one in (folder, out):
        one.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + TOTAL_S
    records = []
    try:
        for part in parts:
            left = end - time.perf_counter()
            if left < MIN_LEFT_S:
                records.append(
                    {
                        "part": part.name,
                        "status": "not run",
                        "reason": "no time left",
                        "seconds": 0.0,
                    }
                )
                continue
            records.append(run_part(part, Setting(folder, given.dry), out, min(part.limit_s, left)))
            print(f"{part.name}: {records[-1]['status']}, {records[-1]['seconds']} s", flush=True)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print_table(records)
    sys.exit(any(one["status"] in ("failed", "too slow") for one in records))


if __name__ == "__main__":
    main()
