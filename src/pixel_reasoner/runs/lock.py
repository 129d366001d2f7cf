"""Lock of an output folder: one process writes to it at a time."""

from __future__ import annotations

import errno
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from pixel_reasoner.errors import OutputError
from pixel_reasoner.files import cannot_write, remove_temporary

STORE = ".store"
"""folder of internal files"""
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""error numbers of file systems without locks, where a folder is not protected"""


class FolderLock:
    """Exclusive lock on an output folder, held by every command that writes to it. The folder is created if necessary.

    The operating system releases the lock when the process ends, also after a kill. The lock is reentrant within a thread;
    other threads fail like other processes. Acquiring the lock removes temporary files of killed writers. Releasing it
    removes the lock files, and the folder if it was created by the lock and is empty.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> with FolderLock(folder), FolderLock(folder):
    ...     (folder / ".store" / "owner").read_text() == f"{os.getpid()} on {platform.node()}"
    True
    >>> folder.exists()
    False
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._store = self.folder / STORE
        self._is_new = False
        # One object per path: it counts the nested acquisitions of its thread.
        self._lock = FileLock(self._store.absolute() / "lock", timeout=0, is_singleton=True)

    def __enter__(self) -> Self:
        """Acquire the lock.

        Raises:
            OutputError: another process holds the lock (the message names it), or the folder cannot be written.
        """
        self._is_new, was_used = not self.folder.exists(), self._store.exists()
        try:
            self._store.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise self._held() from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise cannot_write(self.folder, error) from error
        if self._lock.lock_counter == 1:
            self._write_owner()
            if was_used:
                with suppress(OSError):
                    remove_temporary(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        if self._lock.lock_counter == 1:
            self._remove_files()
        self._lock.release()

    def _write_owner(self) -> None:
        owner = self._store / "owner"
        with suppress(OSError):  # on a full disk the lock works without the name of its owner
            owner.unlink(missing_ok=True)
            owner.write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")

    def _remove_files(self) -> None:
        """Remove the files of the lock and empty folders. A process that waits for the removed file fails."""
        with suppress(OSError):
            (self._store / "owner").unlink(missing_ok=True)
            if any(path.name != "lock" for path in self._store.iterdir()):
                return  # the folder of a run keeps its lock
            (self._store / "lock").unlink(missing_ok=True)
            self._store.rmdir()
            if self._is_new:
                self.folder.rmdir()

    def _held(self) -> OutputError:
        try:
            owner = (self._store / "owner").read_text(encoding="utf-8")
        except OSError:
            owner = "unknown"
        return OutputError(
            expected="a folder that no other process writes to",
            got=f"{self.folder}, which process {owner} writes to",
            fix=f"wait until it ends, stop it (kill {owner.partition(' ')[0]}), or use another --out",
        )
