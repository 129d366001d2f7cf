"""Decoder in worker processes with limits on memory, CPU time and wall-clock time.

A crash, a lack of memory or a timeout in a worker raises an `InputError` for the decoded file. The worker is replaced
and other requests continue. Workers are new interpreters, as with the spawn method of multiprocessing, but they do not
import the main module of the caller. So scripts need no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import connection as mp_connection
from pathlib import Path
from typing import Any, Self

from PIL import Image
from pydantic import PositiveFloat, PositiveInt

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media import worker
from pixel_reasoner.media.documents import Passwords
from pixel_reasoner.media.images import PictureHeader
from pixel_reasoner.media.rgb import band_rows, join_bands
from pixel_reasoner.media.sampling import Frame
from pixel_reasoner.media.sparse_videos import Range, SparseSample
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import MediaLimits

_START_TIMEOUT_S = 60.0
"""time for a worker to import the decoders"""
_MAX_FIELDS_BYTES = 2**26
"""size of the JSON fields of a reply"""
_KEPT_BYTES = 2**25
"""free memory that a worker keeps"""
_NUM_RECENT = 64
"""files of which a worker may have the picture"""
_CHILD_CODE = "import sys; from pixel_reasoner.media.worker import main; main(*sys.argv[1:])"
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_EXPECTED = "a picture or video that can be decoded within the limits of a worker"


class WorkerLimits(Record):
    """Limits of one worker process."""

    memory_bytes: PositiveInt = 4 * 2**30
    """address space, including the interpreter and its libraries (about 1 GiB)"""
    cpu_s: PositiveFloat = 120.0
    """CPU time of one request"""
    timeout_s: PositiveFloat = 60.0
    """wall-clock time of one request"""


class WorkerPoolDecoder:
    """Decoder that runs in `num_workers` processes. Use it as a context manager, or call `close`.

    A request waits while all workers are busy. Workers keep the pictures of which they returned regions; further requests
    go to the worker that has the picture, unless it is busy. All methods are thread-safe.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (4, 3), "red").save(path)
    >>> with WorkerPoolDecoder(num_workers=1) as decoder:
    ...     decoder.image(path, MediaLimits()).getpixel((0, 0))
    (255, 0, 0)
    """

    def __init__(
        self,
        num_workers: int = 2,
        limits: WorkerLimits | None = None,
        pdf_passwords: Passwords = (),
    ) -> None:
        """Create a pool. Workers are started on demand."""
        if num_workers < 1:
            raise UsageError(
                expected="at least 1 decoding worker", got=str(num_workers), fix="give 1 or more"
            )
        self.limits = limits or WorkerLimits()
        self.pdf_passwords = pdf_passwords
        self._idle: list[_Worker | None] = [None] * num_workers
        """the last one was used last; None for a worker that is not started"""
        self._returned = threading.Condition()
        self._workers: set[_Worker] = set()
        self._is_closed = threading.Event()
        self._finalizer = weakref.finalize(self, _kill_all, self._workers)

    @property
    def is_isolated(self) -> bool:
        """True: other processes decode."""
        return True

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size and notes of a picture."""
        arguments = str(path), limits, page, self.pdf_passwords
        size, notes = self.run(path, worker.header_task, *arguments).values
        return PictureHeader((size[0], size[1]), tuple(notes))

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        arguments = str(path), limits, page, self.pdf_passwords
        (image,) = self.run(path, worker.image_task, *arguments).images
        return image

    def region(self, item: MediaItem, limits: MediaLimits, box: Box, size: Size) -> Image.Image:
        """Return the region `box` of a picture, resized to `size` by `resize_region`."""
        arguments = item, limits, box, size, self.pdf_passwords
        (image,) = self.run(Path(item.path), worker.region_task, *arguments).images
        return image

    def frames(
        self, item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
    ) -> list[Frame]:
        """Return `limits.num_frames` frames of a video or folder, or those at recorded indices."""
        found = self.run(Path(item.path), worker.frames_task, item, limits, indices)
        return _frames(found.images, found.values)

    def sparse_frames(
        self,
        item: MediaItem,
        limits: MediaLimits,
        indices: tuple[int, ...],
        present: Sequence[Range],
    ) -> SparseSample:
        """Return the frames of a video of which some ranges are present, or the ranges that are missing."""
        arguments = item, limits, indices, present
        found = self.run(Path(item.path), worker.sparse_frames_task, *arguments)
        times, missing = found.values
        # A reply is untrusted: the caller reads these ranges of the object.
        ranges = None if missing is None else [(int(start), int(end)) for start, end in missing]
        return SparseSample(_frames(found.images, times), ranges)

    def run(self, path: Path, task: worker.Task, *arguments: Any) -> worker.TaskResult:
        """Execute a task in a worker.

        Args:
            path: the file to decode, for errors.
            task: module-level function of an importable module.
            *arguments: picklable arguments of the task.

        Raises:
            InputError: raised by the task, or the worker crashed, ran out of memory or timed out.
            UsageError: the pool is closed, or no worker can be started.
        """
        process = self._take(path)
        try:
            if self._is_closed.is_set():
                raise UsageError(expected="an open decoder", got="a closed one", fix="open another")
            if process is None or not process.is_alive:
                process = self._start(process)
            process.recent.append(path)
            try:
                reply = process.request(pickle.dumps((task, arguments)), self.limits.timeout_s)
            except _WorkerDied as error:
                self._discard(process)
                process = None
                raise InputError(
                    expected=_EXPECTED,
                    got=f"{path}: {error}",
                    fix="give another file, or raise the limits of the workers for files that you trust",
                ) from None
            return _result(path, reply)
        finally:
            with self._returned:
                self._idle.append(process)
                self._returned.notify()

    def close(self) -> None:
        """Terminate all workers. Requests in progress raise an `InputError`."""
        self._is_closed.set()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the running workers."""
        return [one.process_id for one in list(self._workers) if one.is_alive]

    def _take(self, path: Path) -> _Worker | None:
        """Wait for an idle worker, one that decoded the file if there is one."""
        with self._returned:
            self._returned.wait_for(lambda: self._idle)
            for number, process in enumerate(self._idle):
                if process is not None and path in process.recent:
                    return self._idle.pop(number)
            return self._idle.pop()

    def _start(self, dead: _Worker | None) -> _Worker:
        if dead is not None:
            self._discard(dead)
        started = _Worker(self.limits)
        self._workers.add(started)
        return started

    def _discard(self, process: _Worker) -> None:
        process.kill()
        self._workers.discard(process)


class _WorkerDied(Exception):
    """Exit of a worker before it returned a result. The message is the reason."""


class _Reply:
    """Reply of a worker: JSON fields and raw images."""

    def __init__(self, fields: dict[str, Any], images: list[Image.Image]) -> None:
        self.fields = fields
        self.images = images


class _Worker:
    """Worker process and its connection. Not thread-safe."""

    def __init__(self, limits: WorkerLimits) -> None:
        """Start the process and wait until it is ready.

        Raises:
            UsageError: it does not start.
        """
        self._memory_bytes = limits.memory_bytes
        self.recent: deque[Path] = deque(maxlen=_NUM_RECENT)
        self.connection, theirs = mp_connection.Pipe(duplex=True)
        self._shared = os.memfd_create("pixels") if hasattr(os, "memfd_create") else -1
        self._buffer = bytearray()
        """for pixels on their way from the memory file to an image: fresh memory is slower than the copy"""
        shared = (self._shared,) if self._shared >= 0 else ()
        command = [
            *(sys.executable, "-P", "-c", _CHILD_CODE),
            *map(str, (theirs.fileno(), limits.memory_bytes, limits.cpu_s, self._shared)),
        ]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), *shared),
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )
        theirs.close()
        self.watchdog = _Watchdog(self.process)
        self.watchdog.start(_START_TIMEOUT_S)
        try:
            self.connection.recv_bytes()
            self.watchdog.stop()
        except (EOFError, OSError):
            self.kill()
            raise UsageError(
                expected="a decoding worker",
                got=f"one that ended with {_exit_reason(self.process)}",
                fix="raise WorkerLimits.memory_bytes, or decode in this process (InProcessDecoder)",
            ) from None

    @property
    def process_id(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def request(self, message: bytes, timeout_s: float) -> _Reply:
        """Send a request and return the reply. The process is killed after `timeout_s`.

        Raises:
            _WorkerDied: the process ended before the reply was complete.
        """
        watchdog = self.watchdog
        watchdog.start(timeout_s)
        try:
            self.connection.send_bytes(message)
            fields = json.loads(self.connection.recv_bytes(_MAX_FIELDS_BYTES))
            sizes = self._checked(fields.get("sizes", ()))
            read = self._shared_reader() if fields.get("shared") else self.connection.recv_bytes
            images = [_receive_image(size, read) for size in sizes]
        except (EOFError, OSError):
            watchdog.stop()
            if watchdog.has_killed:
                raise _WorkerDied(f"decoding took more than {timeout_s:g} s") from None
            raise _WorkerDied(f"the decoder ended with {_exit_reason(self.process)}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise _WorkerDied(f"the decoder returned an invalid reply: {error}") from None
        finally:
            watchdog.stop()
        if (
            watchdog.has_killed
        ):  # killed just after the reply; the next request must not use this process
            raise _WorkerDied(f"decoding took more than {timeout_s:g} s")
        return _Reply(fields, images)

    def _checked(self, sizes: Sequence[Size]) -> Sequence[Size]:
        """Validate the image sizes in a reply, which is untrusted.

        Raises:
            ValueError: more pixels than a worker can hold.
        """
        if 3 * sum(abs(width * height) for width, height in sizes) > self._memory_bytes:
            raise ValueError("more pixels than a worker can hold")
        return sizes

    def _shared_reader(self) -> Callable[[int], memoryview]:
        """Return a function that reads the next bytes of the memory file.

        Raises:
            ValueError: this worker has no memory file.
        """
        if self._shared < 0:
            raise ValueError("no memory file")
        at = 0

        def read(num_bytes: int) -> memoryview:
            nonlocal at
            if len(self._buffer) < num_bytes:
                self._buffer = bytearray(num_bytes)
            pixels = memoryview(self._buffer)[:num_bytes]
            # Mapping the file would be faster, but a worker that truncates it would end this process.
            num_read = os.preadv(self._shared, [pixels], at)
            at += num_bytes
            return pixels[:num_read]  # a shorter result is an error of the image

        return read

    def kill(self) -> None:
        """Kill the process."""
        self.watchdog.close()
        self.process.kill()
        self.process.wait()
        self.connection.close()
        if self._shared >= 0:
            os.close(self._shared)
            self._shared = -1


def _frames(images: Sequence[Image.Image], values: Any) -> list[Frame]:
    return [
        Frame(image, time_s, index) for image, (time_s, index) in zip(images, values, strict=True)
    ]


def _receive_image(size: Sequence[int], read: Callable[[int], bytes | memoryview]) -> Image.Image:
    width, height = size
    rows = band_rows((width, height))
    return join_bands(
        (width, height),
        (_receive_band(width, min(rows, height - top), read) for top in range(0, height, rows)),
    )


def _receive_band(
    width: int, height: int, read: Callable[[int], bytes | memoryview]
) -> Image.Image:
    return Image.frombytes("RGB", (width, height), read(3 * width * height))


class _Watchdog:
    """Thread that kills a process at its deadline. It lives as long as the process: a thread per request costs 0.2 ms."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.has_killed = False
        self._process = process
        self._deadline = math.inf
        self._wakes_at = math.inf
        """when the thread looks at the deadline again; it is often later than the last deadline, which is removed"""
        self._changed = threading.Condition()
        self._is_closed = False
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def start(self, timeout_s: float) -> None:
        """Kill the process in `timeout_s`, unless `stop` is called before."""
        with self._changed:
            is_earlier = time.monotonic() + timeout_s < self._wakes_at
            self._deadline = time.monotonic() + timeout_s
            if is_earlier:
                self._changed.notify()

    def stop(self) -> None:
        """Remove the deadline. After this returns, the process is either killed already or will not be killed."""
        with self._changed:
            self._deadline = math.inf

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                left_s = self._deadline - time.monotonic()
                if left_s <= 0:
                    self.has_killed = True
                    self._process.kill()
                    return
                self._wakes_at = self._deadline
                self._changed.wait(None if math.isinf(left_s) else left_s)


def _environment() -> dict[str, str]:
    """Return the environment of a worker, without keys and tokens of the caller."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # One thread per library, because every thread takes limited address space.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # Memory of a decoded picture is kept for the next one: mapping it again takes longer than decoding.
        "MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES),
        "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES),
        "PILLOW_BLOCKS_MAX": "2",
    }


def _exit_reason(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    if code == -signal.SIGXCPU:
        return "too much CPU time"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _result(path: Path, reply: _Reply) -> worker.TaskResult:
    fields = reply.fields
    if "error" in fields:
        error = fields["error"]
        kind = worker.ERROR_CLASSES.get(error["class"], InputError)
        raise kind(expected=error["expected"], got=error["got"], fix=error["fix"])
    if "failure" in fields:
        raise InputError(
            expected=_EXPECTED, got=f"{path}: {fields['failure']}", fix="give another file"
        )
    return worker.TaskResult(fields["values"], reply.images)


def _kill_all(workers: set[_Worker]) -> None:
    for one in list(workers):
        one.watchdog.close()
        one.process.kill()
        one.process.wait()
    workers.clear()
