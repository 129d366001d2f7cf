"""Lock of a run folder: one process writes to it at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from pixel_reasoner.errors import OutputError
from pixel_reasoner.files import cannot_write

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""what a file system without locks answers; a run there is not protected"""


class FolderLock:
    """Exclusive lock on a file that contains the pid of its holder.

    The operating system releases it when the process ends, also after a kill. The file stays.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with FolderLock(path):
    ...     path.read_text() == str(os.getpid())
    True
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            OutputError: another process holds it (its pid is named), or the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise OutputError(
                expected="a run folder that no other process writes to",
                got=f"{self.path.parent.parent}, which process {holder} writes to",
                fix=f"wait until it ends, stop it (kill {holder}), or name another --out",
            ) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(self._fd)
                raise cannot_write(self.path, error) from error
        self._write_pid()
        return self

    def _write_pid(self) -> None:
        try:
            os.ftruncate(self._fd, 0)
            os.write(self._fd, str(os.getpid()).encode())
        except OSError:
            return  # a full disk: the lock holds without the pid

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        os.close(self._fd)
