"""Open hostile media as a rollout does, each in a separate process, and measure time and memory.

    python -m attacks.media --count 1000 --seed 0

Each media item is opened as a picture, as a video or folder of frames, or both: overview, a zoom, a selected frame. Allowed outcomes
are a result and a one-line `InputError`. Failures are crashes, hangs, other exceptions, more than 2 GB or 20 s, and valid files
that do not open.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can run as a script

from attacks.media_paths import KINDS
from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.decoder import IN_PROCESS
from pixel_reasoner.media.worker_pool import WorkerPoolDecoder
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets

MAX_BYTES, MAX_S = 2 * 10**9, 20.0
HANG_S = 60
"""CPU time; wall-clock time may be five times as much, on a busy machine"""
_BUDGET = PixelBudget(min_px=36_864, max_px=36_864)
BUDGETS = PixelBudgets(
    picture=_BUDGET, crop=_BUDGET, frame=_BUDGET, selected_frame=_BUDGET, multiple=32
)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


_BASE_BYTES = _resident_bytes()


class Result(NamedTuple):
    """Result of opening one media item."""

    kind: str
    opened_as: str
    outcome: str
    """opened, refused, or the failure"""
    detail: str
    seconds: float
    """CPU time of all threads, or wall-clock time where that is less"""
    num_bytes: int
    """largest resident memory"""

    @property
    def line(self) -> str:
        """Return the result as one line."""
        cost = f"{self.seconds:.1f} s, {self.num_bytes / 1e9:.2f} GB"
        failed = f" FAILED {self.failures}" if self.failures else ""
        return (
            f"{self.kind} as {self.opened_as}:{failed} {cost}: {self.outcome} {self.detail[:300]!r}"
        )

    @property
    def failures(self) -> list[str]:
        """Return the kinds of failures."""
        found = [] if self.outcome in ("opened", "refused") else [self.outcome]
        if self.kind.startswith("valid_") and self.outcome == "refused":
            found.append("valid file refused")
        return (
            found
            + ["memory"] * (self.num_bytes > MAX_BYTES)
            + ["time"] * (self.seconds > MAX_S and self.outcome != "hang")
        )


def open_as_product(path: Path, opened_as: str, *, in_workers: bool = False) -> str:
    """Open a media item as a rollout does and return the outcome."""
    decoder = WorkerPoolDecoder(num_workers=1) if in_workers else IN_PROCESS
    try:
        item = MediaItem(kind=opened_as, path=str(path))
        question = Question(id="1", text="?", media=(item,))
        context = MediaContext(question, BUDGETS, decoder=decoder)
        context.view(1)
        crop = context.add_crop(len(context), Box(0.25, 0.25, 0.75, 0.5))
        context.view(crop.number)
        if context.num_frames:
            context.view(context.add_frames([1])[0].number)
        return f"opened {context.pictures[0].source_px}"
    except PixelReasonerError as error:
        text = str(error)
        return f"refused {text}" if "\n" not in text.replace(str(path), "") else f"lines {text}"
    except BaseException as error:
        return f"exception {type(error).__name__}: {error}"
    finally:
        if isinstance(decoder, WorkerPoolDecoder):
            decoder.close()


def _child(path: Path, opened_as: str, descriptor: int, in_workers: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (HANG_S, HANG_S))
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print warnings
    text = open_as_product(path, opened_as, in_workers=in_workers)
    os.write(descriptor, json.dumps(text).encode()[:60_000])
    os._exit(0)


def attempt(kind: str, path: Path, opened_as: str, in_workers: bool = False) -> Result:
    """Open a media item in a separate process."""
    reader, writer = os.pipe()
    inherited = _resident_bytes() - _BASE_BYTES  # free the memory of created media
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(path, opened_as, writer, in_workers)
    os.close(writer)
    is_hanging = False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > 5 * HANG_S:
            is_hanging = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    seconds = min(time.monotonic() - started, usage.ru_utime + usage.ru_stime)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    text = json.loads(content) if content else f"crash status {status}"
    if is_hanging or status == signal.SIGXCPU or seconds > HANG_S:
        text = "hang"
    outcome, _, detail = text.partition(" ")
    return Result(kind, opened_as, outcome, detail, seconds, usage.ru_maxrss * 1024 - inherited)


def attack(kinds: list[str], count: int, seed: int, in_workers: bool = False) -> Iterator[Result]:
    """Create `count` media items, cycling through the kinds, and yield the result of opening each."""
    for number in range(count):
        kind = kinds[number % len(kinds)]
        rng = Random(f"{seed} {number}")
        folder = Path(tempfile.mkdtemp(prefix="attack-"))
        try:
            path = KINDS[kind](folder, rng)
            for opened_as in _media_kinds(kind, path):
                yield attempt(kind, path, opened_as, in_workers)
        finally:
            shutil.rmtree(folder)


def _media_kinds(kind: str, path: Path) -> list[str]:
    if kind.startswith("valid_"):
        return ["video" if kind == "valid_video" else "image"]
    if kind.startswith("folder_"):
        return ["frames"]
    if kind.startswith("path_"):
        return ["image", "video", "frames"]
    return ["video"] if kind.startswith("video_") else ["image", "video"]


def summary(results: list[Result]) -> str:
    """Return one line: counts, failures by kind, the slowest, the largest memory."""
    failures = Counter(f"{name} ({one.kind})" for one in results for name in one.failures)
    outcomes = Counter(one.outcome for one in results)
    slowest = max(results, key=lambda one: one.seconds)
    largest = max(results, key=lambda one: one.num_bytes)
    failed = ", ".join(f"{count} {name}" for name, count in failures.items()) or "none"
    return (
        f"{len(results)} openings of media of {len({one.kind for one in results})} kinds: "
        f"{outcomes['opened']} opened, {outcomes['refused']} refused; failures: {failed}; "
        f"slowest {slowest.seconds:.1f} s ({slowest.kind}), "
        f"largest {largest.num_bytes / 1e9:.2f} GB ({largest.kind})"
    )


def main() -> None:
    """Run the attack and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="only this kind; may be repeated")
    parser.add_argument("--workers", action="store_true", help="decode in worker processes")
    parser.add_argument("--verbose", action="store_true", help="print every opening")
    given: Any = parser.parse_args()
    results = []
    for one in attack(given.kind or list(KINDS), given.count, given.seed, given.workers):
        results.append(one)
        if one.failures or given.verbose:
            print(one.line, flush=True)
    print(summary(results))
    sys.exit(any(one.failures for one in results))


if __name__ == "__main__":
    main()
