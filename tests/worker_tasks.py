"""Tasks for workers of the decoder pool that crash, hang or use too much memory."""

from __future__ import annotations

import os
import time

from PIL import Image

from pixel_reasoner.media import worker
from pixel_reasoner.media.worker import TaskResult, header_task


def hang(path: str) -> TaskResult:
    """Wait without using CPU time."""
    time.sleep(600)
    return TaskResult(path, [])


def loop() -> TaskResult:
    """Use CPU time forever."""
    while True:
        pass


def use_memory(num_bytes: int) -> TaskResult:
    """Allocate memory."""
    return TaskResult(len(bytearray(num_bytes)), [])


def crash(number: int) -> TaskResult:
    """End the process by a signal, as a decoder with a memory error does."""
    os.kill(os.getpid(), number)
    return TaskResult(None, [])


def leave() -> TaskResult:
    """End the process with an exit code."""
    os._exit(3)


def fail() -> TaskResult:
    """Raise an exception that decoders do not raise."""
    raise RuntimeError("a mistake of the decoder")


def environment() -> TaskResult:
    """Return the names of all environment variables."""
    return TaskResult(sorted(os.environ), [])


def process_id(seconds: float = 0.0) -> TaskResult:
    """Return the id of the worker."""
    time.sleep(seconds)
    return TaskResult(os.getpid(), [Image.new("RGB", (2, 1))])


def use_cpu(seconds: float) -> TaskResult:
    """Use CPU time, and return the id of the worker."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return TaskResult(os.getpid(), [])


def kept_files() -> TaskResult:
    """Return the files of which this worker keeps the picture."""
    return TaskResult(sorted(key[0].path for key in worker._KEPT._images), [])


class _Claimed:
    """Image-like object that reports a size too large for any worker."""

    size = (2**20, 2**20)
    width = height = 2**20

    def resize(self, *given: object, **options: object) -> None:
        time.sleep(60)


def claim_pixels() -> TaskResult:
    """Return an image-like object with an impossible size."""
    return TaskResult(None, [_Claimed()])


def crash_for(name: str, number: int, path: str, *arguments: object) -> TaskResult:
    """End the process by a signal for the file of this name; return the header of others, or their page."""
    if path.endswith(name):
        os.kill(os.getpid(), number)
    if len(arguments) == 2:
        return TaskResult([1], [])
    return header_task(path, *arguments)  # type: ignore[arg-type]
