"""File reader that enforces limits on untrusted picture files during decoding."""

from __future__ import annotations

import io
from pathlib import Path

from pixel_reasoner.media.limits import (
    PICTURE_BYTES_PER_S,
    Deadline,
    check_header,
    check_num_scans,
)
from pixel_reasoner.schema.settings import MediaLimits

_SCAN_MARKER = b"\xff\xda"
"""start of a scan of a JPEG; it does not occur in coded pixels"""
_MAX_READ_BYTES = 2**24
"""bytes returned by one read of pixels; decoders repeat the read for the rest"""


class GuardedReader(io.BufferedReader):
    """File whose `read` raises an `InputError` when decoding takes too long or reads too much.

    Until `begin_pixels` the bytes of the header are limited, afterwards the scans of a JPEG.
    """

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened.
        """
        super().__init__(io.FileIO(path))
        self._path = path
        self._limits = limits
        self._deadline = Deadline(path, limits, PICTURE_BYTES_PER_S)
        self._num_bytes = path.stat().st_size
        self._num_header_bytes = 0
        self._num_scans: int | None = None
        self._last = b""

    def begin_pixels(self, *, is_jpeg: bool) -> None:
        """Apply the limits for pixel data to all further reads."""
        self._num_header_bytes = -1
        self._num_scans = 0 if is_jpeg else None

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, at most `size`; all remaining bytes if `size` is negative.

        Raises:
            InputError: a limit was exceeded.
        """
        self._deadline.check()
        wanted = self._num_bytes if size is None or size < 0 else size
        if self._num_header_bytes < 0:
            content = super().read(min(wanted, _MAX_READ_BYTES))
        else:
            num_new = min(wanted, max(0, self._num_bytes - self.tell()))
            self._num_header_bytes += num_new
            check_header(self._path, self._num_header_bytes, self._limits)
            content = super().read(num_new)
        if self._num_scans is not None:
            self._num_scans += (self._last + content).count(_SCAN_MARKER)
            self._last = content[-1:]
            check_num_scans(self._path, self._num_scans)
        return content
