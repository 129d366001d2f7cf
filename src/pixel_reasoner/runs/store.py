"""Append-only log of traces that survives a kill."""

from __future__ import annotations

from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Self

from pixel_reasoner.errors import OutputError
from pixel_reasoner.files import cannot_write, reason, write_bytes
from pixel_reasoner.schema.trace import StopReason, Trace, load_traces


class TraceLog:
    """A `traces.jsonl` that grows a whole line at a time, whatever interrupts it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: FileIO

    def __enter__(self) -> Self:
        """Open the log and drop a line that a kill cut off."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self._open()
            self.file.seek(0)
            content = self.file.read()
            self.file.truncate(content.rfind(b"\n") + 1)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self.file.close()

    def _open(self) -> FileIO:
        # Without a buffer: it would hold on to what a full disk refused, and write it later.
        return self.path.open("a+b", buffering=0)

    def answered(self) -> list[Trace]:
        """The traces of questions that could be asked; failed ones leave the log, to be tried again."""
        kept = [trace for trace in load_traces(self.path) if trace.stop is not StopReason.FAILED]
        lines = "".join(trace.to_line() + "\n" for trace in kept).encode()
        if len(lines) != self.path.stat().st_size:
            write_bytes(lines, self.path)
            self.file.close()
            self.file = self._open()
        return kept

    def put_in_order(self, ids: Sequence[str]) -> None:
        """Sort the log by the order of the questions, and by samples: a finished run does not depend on what finished first."""
        position = {name: number for number, name in enumerate(ids)}
        traces = list(load_traces(self.path))
        last = len(position)
        ordered = sorted(
            traces, key=lambda trace: (trace.sample, position.get(trace.question.id, last))
        )
        if ordered != traces:
            write_bytes("".join(trace.to_line() + "\n" for trace in ordered).encode(), self.path)

    def append(self, trace: Trace) -> None:
        """Write one trace, whole or not at all.

        Raises:
            OutputError: the disk is full or gone.
        """
        end = self.file.seek(0, 2)
        rest = trace.to_line().encode() + b"\n"
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.file.truncate(end)
            raise OutputError(
                expected="room for one more trace",
                got=f"{self.path}: {reason(error)}",
                fix="free some space and run the same command again; what is done is kept",
            ) from error
