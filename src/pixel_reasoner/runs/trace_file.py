"""Random access to the traces of a run, so that a report of many traces needs little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason
from pixel_reasoner.runs.media_folders import allowed_places
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.question import restrict_media, with_media_root
from pixel_reasoner.schema.trace import Trace

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHAT = "a traces.jsonl written by this project"


class StoredTrace(NamedTuple):
    """A trace and its place in the file."""

    offset: int
    """first byte of its line"""
    trace: Trace


class TraceFile:
    r"""Traces of a run folder or a `traces.jsonl`, in order or by the offset of their line.

    Media paths and access are those of `runs.folder.load_run`.

    Args:
        path: folder of a run, or a file.
        allow_media: folders, in addition to the run's, whose media may be opened.
        skips_unreadable: whether `scan` leaves out lines that are no traces, and collects the reasons in `unreadable`.

    >>> import tempfile
    >>> from pixel_reasoner.schema.question import Question
    >>> from pixel_reasoner.schema.trace import save_traces
    >>> path = Path(tempfile.mkdtemp()) / "traces.jsonl"
    >>> _ = save_traces([Trace(question=Question(id=n, text="?", media=()), stop="no_answer") for n in "ab"], path)
    >>> file = TraceFile(path)
    >>> offsets = [stored.offset for stored in file.scan()]
    >>> [file.read(offset).question.id for offset in reversed(offsets)]
    ['b', 'a']
    """

    def __init__(
        self, path: Path, allow_media: Sequence[Path] = (), *, skips_unreadable: bool = False
    ) -> None:
        self.path = path / TRACES if path.is_dir() else path
        self.folder = self.path.parent
        self.skips_unreadable = skips_unreadable
        self.unreadable: list[str] = []
        """number of each line that was left out, and the reason"""
        self._first_error: InputError | None = None
        self._allowed = allowed_places(self.folder, allow_media)

    def scan(self) -> Iterator[StoredTrace]:
        """Yield all traces with their offsets.

        Raises:
            InputError: no such file, or a line that is not a trace (with its number); if these are skipped, no line is.
        """
        offset, has_trace = 0, False
        self.unreadable, self._first_error = [], None
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    start, offset = offset, offset + len(line)
                    if line.strip() and (trace := self._try_parse(line, number)) is not None:
                        has_trace = True
                        yield StoredTrace(start, trace)
        except OSError as error:
            raise self._unreadable(error) from error
        if self._first_error is not None and not has_trace:
            raise self._first_error

    def read(self, offset: int) -> Trace:
        """Return the trace at an offset of `scan`.

        Raises:
            InputError: the file has changed since.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                line = file.readline()
        except OSError as error:
            raise self._unreadable(error) from error
        return self._parse(line, f", byte {offset}")

    def _try_parse(self, line: bytes, number: int) -> Trace | None:
        try:
            return self._parse(line, f", line {number}")
        except InputError as error:
            if not self.skips_unreadable:
                raise
            self._first_error = self._first_error or error
            self.unreadable.append(error.got.removeprefix(f"{self.path}, "))
            return None

    def _parse(self, line: bytes, where: str) -> Trace:
        try:
            text = line.removeprefix(_BYTE_ORDER_MARK).decode()
        except UnicodeDecodeError as error:
            raise self._unreadable(error) from error
        try:
            trace = Trace.from_line(text)
        except InputError as error:
            raise InputError(
                expected=error.expected, got=f"{self.path}{where}: {error.got}", fix=error.fix
            ) from error
        question = restrict_media(with_media_root(trace.question, self.folder), self._allowed)
        return trace.model_copy(update={"question": question})

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            expected="a readable JSONL file",
            got=f"{self.path}: {reason(error)}",
            fix=f"give {_WHAT}",
        )


class StoredTraces(Sequence[Trace]):
    """Traces of a file in a given order. Each is read when it is used."""

    def __init__(self, file: TraceFile, offsets: Sequence[int]) -> None:
        self.file, self.offsets = file, offsets

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> StoredTraces: ...
    def __getitem__(self, index: int | slice) -> Trace | StoredTraces:
        """Return a trace, or a part of the traces."""
        if isinstance(index, slice):
            return StoredTraces(self.file, self.offsets[index])
        return self.file.read(self.offsets[index])
