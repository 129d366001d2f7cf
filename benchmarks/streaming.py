"""Peak memory of reading a benchmark as large as HR-Bench 8K: a TSV of 5 GB with 8K pictures in base64.

.venv/bin/python benchmarks/streaming.py [GIGABYTES] [FOLDER]        # uses about twice as much disk space, then frees it
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (7680, 4320)
READ = """
import json, re, sys, time
from pathlib import Path
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.evals.benchmark import select
from pixel_reasoner.evals.benchmarks import BENCHMARKS


def peak_mb():  # of this process: `ru_maxrss` would include the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

folder = Path(sys.argv[1])
before = peak_mb()
started = time.perf_counter()
found = select(BENCHMARKS.get("hrbench-8k"), folder, folder / "media")
seconds = time.perf_counter() - started
peak = peak_mb()
MediaContext(found.questions[0], UNSCALED).view(1)
shown = peak_mb()
print(json.dumps({"rows": len(found.questions), "dropped": len(found.dropped), "seconds": seconds, "before": before, "peak": peak, "shown": shown}))
"""


def large_picture() -> bytes:
    """Return a JPEG of 8K that compresses like a photo: smooth shapes and some noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (270, 480, 3), np.uint8))
    pixels = np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = (pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def write(path: Path, gigabytes: float) -> int:
    """Write rows until the file has this size. Four rows (one cycle) share a picture. Return the number of rows."""
    content = large_picture()
    header = ["index", "question", "answer", "category", *"ABCD", "cycle_category", "image"]
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("\t".join(header) + "\n")
        while file.tell() < gigabytes * 1e9:
            # Bytes after the end of the JPEG make the content of each cycle unique.
            picture = base64.b64encode(content + f"row {rows // 4}".encode()).decode()
            cells = [str(rows), "What colour is the sign?", "ABCD"[rows % 4], "single"]
            file.write("\t".join([*cells, *"wxyz", str(rows % 4), picture]) + "\n")
            rows += 1
    return rows


def main() -> None:
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/streaming")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = folder / "hr_bench_8k.tsv"
        rows = write(file, gigabytes)
        print(
            f"{rows} rows, {file.stat().st_size / 1e9:.2f} GB, pictures of {SIZE[0]} x {SIZE[1]} px"
        )
        done = subprocess.run(
            [sys.executable, "-c", READ, str(folder)], check=True, capture_output=True, text=True
        )
        result = json.loads(done.stdout)
        assert (result["rows"], result["dropped"]) == (rows, 0), result
        print(
            f"read in {result['seconds']:.0f} s ({gigabytes * 1000 / result['seconds']:.0f} MB/s): peak memory {result['peak']:.0f} MB,"
            f" {result['before']:.0f} MB before; with one picture decoded {result['shown']:.0f} MB"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
