"""Memory of reading a benchmark as large as HR-Bench 8K: a TSV of 5 GB with pictures of 8K in base64.

.venv/bin/python benchmarks/streaming.py [GIGABYTES] [FOLDER]        # writes about twice as much to disk, and deletes it
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


def most_mb():  # of this process alone: `ru_maxrss` would count the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

folder = Path(sys.argv[1])
before = most_mb()
started = time.perf_counter()
found = select(BENCHMARKS.get("hrbench-8k"), folder, folder / "media")
seconds = time.perf_counter() - started
peak = most_mb()
MediaContext(found.questions[0], UNSCALED).view(1)
shown = most_mb()
print(json.dumps({"rows": len(found.questions), "dropped": len(found.dropped), "seconds": seconds, "before": before, "peak": peak, "shown": shown}))
"""


def large_picture() -> bytes:
    """A photograph-like picture of 8K: smooth shapes and some noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (270, 480, 3), np.uint8))
    pixels = np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = (pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def write(path: Path, gigabytes: float) -> int:
    """Rows until the file is that large; every fourth shares its picture, as cycles do."""
    content = large_picture()
    header = ["index", "question", "answer", "category", *"ABCD", "cycle_category", "image"]
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("\t".join(header) + "\n")
        while file.tell() < gigabytes * 1e9:
            # A comment behind the end of a JPEG makes it another file.
            picture = base64.b64encode(content + f"row {rows // 4}".encode()).decode()
            told = [str(rows), "What colour is the sign?", "ABCD"[rows % 4], "single"]
            file.write("\t".join([*told, *"wxyz", str(rows % 4), picture]) + "\n")
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
        told = json.loads(done.stdout)
        assert (told["rows"], told["dropped"]) == (rows, 0), told
        print(
            f"read in {told['seconds']:.0f} s ({gigabytes * 1000 / told['seconds']:.0f} MB/s): at most {told['peak']:.0f} MB of memory,"
            f" {told['before']:.0f} MB before; with one picture decoded {told['shown']:.0f} MB"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
