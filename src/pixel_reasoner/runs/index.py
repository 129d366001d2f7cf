"""SQLite index of a JSONL file of traces: byte offset of each trace and order of the questions.

The index is derived from the file. It is rebuilt if it is missing, damaged or does not match the file. Lines appended
after the last commit are added when the index is opened.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.files import reason
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.trace import StopReason, Trace

_VERSION = 1
"""`user_version` of the database; an index with another version is rebuilt"""
_COMMIT_INTERVAL_TRACES = 500
_TAIL_BYTES = 256
_SCHEMA = """
CREATE TABLE records (
    id TEXT, sample INTEGER, offset INTEGER, length INTEGER, stop TEXT, PRIMARY KEY (id, sample)
) WITHOUT ROWID;
CREATE TABLE questions (id TEXT PRIMARY KEY, position INTEGER, fingerprint TEXT) WITHOUT ROWID;
CREATE TABLE state (size INTEGER, mtime_ns INTEGER, tail BLOB);
"""
_ORDERED = """
SELECT r.id, r.sample, r.offset, r.length, r.stop,
       SUM(r.length) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - r.length AS target
FROM records r LEFT JOIN questions q ON q.id = r.id WHERE {where}
"""
QUESTION_ORDER = "r.sample, q.position IS NULL, q.position, r.offset"
FILE_ORDER = "r.offset"
NOT_FAILED = f"r.stop != '{StopReason.FAILED}'"


class _Place(NamedTuple):
    offset: int
    length: int
    stop: str


class TraceIndex:
    """Index of one segment of traces. All methods are thread-safe."""

    def __init__(self, path: Path, segment: Segment) -> None:
        """Open the index of an open segment.

        Raises:
            InputError: a line of the segment is not a trace (with its number).
        """
        self._path, self._segment = path, segment
        self._lock = threading.RLock()
        self._pending: dict[tuple[str, int], _Place] = {}
        """traces that are not in the database yet"""
        self._db = self._open()
        try:
            self._index_new_lines()
        except (
            OutputError
        ):  # disk full: the index is derived data, so an index in memory is sufficient
            self._db.close()
            self._pending.clear()
            self._db = self._connect(":memory:")
            self._index_new_lines()

    # --- opening ---

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect(str(self._path))
        except (sqlite3.Error, OSError):
            pass  # damaged, or of another version
        try:
            self._path.unlink(missing_ok=True)
            return self._connect(str(self._path))
        except (sqlite3.Error, OSError):
            return self._connect(":memory:")

    def _connect(self, path: str) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # Durability is not needed: an index damaged by a power failure is rebuilt from the segment.
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = MEMORY")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"version {version}")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _index_new_lines(self) -> None:
        """Index the lines appended since the last commit, or all lines if the index does not match."""
        state = self._db.execute("SELECT size, mtime_ns, tail FROM state").fetchone()
        if state is None or not self._is_current(*state):
            with self._errors():
                self._db.execute("DELETE FROM records")
            state = (0, 0, b"")
        for offset, line in self._lines(state[0]):
            self.add(self._parsed(line, offset), offset, len(line))
        self.commit()

    def _is_current(self, size: int, mtime_ns: int, tail: bytes) -> bool:
        if size > self._segment.size or self._tail(size) != tail:
            return False
        return size < self._segment.size or mtime_ns == self._segment.path.stat().st_mtime_ns

    def _tail(self, size: int) -> bytes:
        length = min(size, _TAIL_BYTES)
        return self._segment.read(size - length, length)

    def _lines(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, line) of all non-empty lines from an offset on."""
        with self._segment.path.open("rb") as file:
            file.seek(start)
            for line in file:
                if line.strip():
                    yield start, line
                start += len(line)

    def _parsed(self, line: bytes, offset: int) -> Trace:
        try:
            return Trace.from_line(line.decode())
        except (InputError, UnicodeDecodeError) as error:
            number = 1 + self._segment.read(0, offset).count(b"\n")
            expected, got, fix = (
                (error.expected, error.got, error.fix)
                if isinstance(error, InputError)
                else ("a trace", reason(error), "delete the line")
            )
            place = f"{self._segment.path}, line {number}"
            raise InputError(expected=expected, got=f"{place}: {got}", fix=fix) from error

    # --- writing ---

    def add(self, trace: Trace, offset: int, length: int) -> None:
        """Add a trace that was appended to the segment. It replaces the trace of the same question and sample."""
        # One statement per trace would release and reacquire the GIL each time, which is slow with busy threads.
        with self._lock:
            key = trace.question.id, trace.sample
            self._pending[key] = _Place(offset, length, str(trace.stop))
            if len(self._pending) >= _COMMIT_INTERVAL_TRACES:
                self.commit()

    def commit(self) -> None:
        """Write pending traces to the database file."""
        with self._lock, self._errors():
            rows = [(*key, *place) for key, place in self._pending.items()]
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", rows)
                self._write_state()
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._pending.clear()

    def _write_state(self) -> None:
        self._db.execute("DELETE FROM state")
        size = self._segment.size
        mtime_ns = self._segment.path.stat().st_mtime_ns
        self._db.execute("INSERT INTO state VALUES (?, ?, ?)", (size, mtime_ns, self._tail(size)))

    def _errors(self) -> _SqliteErrors:
        return _SqliteErrors(self._path)

    def close(self) -> None:
        """Commit and close the database."""
        try:
            self.commit()
        except OutputError:
            pass  # the next start indexes the missing lines
        finally:
            self._db.close()

    # --- questions ---

    def set_questions(self, rows: Iterable[tuple[str, str]]) -> str | None:
        """Replace the questions of the run, given in order as (id, fingerprint).

        Returns the first duplicate id, or None.
        """
        current = ""

        def numbered() -> Iterator[tuple[str, int, str]]:
            nonlocal current
            for position, (current, fingerprint) in enumerate(rows):
                yield current, position, fingerprint

        self.commit()
        with self._lock, self._errors():
            self._db.execute("BEGIN")
            try:
                self._db.execute("DELETE FROM questions")
                self._db.executemany("INSERT INTO questions VALUES (?, ?, ?)", numbered())
            except sqlite3.IntegrityError:
                self._db.execute("ROLLBACK")
                return current
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        return None

    def fingerprint(self, id_: str) -> str | None:
        """Return the fingerprint of a question of the run; None if the run does not have it."""
        row = self._one("SELECT fingerprint FROM questions WHERE id = ?", id_)
        return row and str(row[0])

    # --- reading ---

    def find(self, id_: str, sample: int) -> tuple[int, int] | None:
        """Return (offset, length) of a trace in bytes; None if there is none."""
        with self._lock:
            place = self._pending.get((id_, sample))
        if place is not None:
            return place.offset, place.length
        query = "SELECT offset, length FROM records WHERE id = ? AND sample = ?"
        return self._one(query, id_, sample)

    def ids_with_trace(self, ids: Sequence[str], sample: int) -> set[str]:
        """Return the subset of question ids that have a trace. Pass at most a few hundred ids."""
        places = ", ".join("?" * len(ids))
        query = f"SELECT id FROM records WHERE sample = ? AND id IN ({places})"
        with self._lock:
            found = {str(row[0]) for row in self._db.execute(query, (sample, *ids))}
            return found | {id_ for id_ in ids if (id_, sample) in self._pending}

    def count(self, stop: StopReason | None = None) -> int:
        """Return the number of traces, or of traces with a stop reason."""
        self.commit()
        if stop is None:
            row = self._one("SELECT COUNT(*) FROM records")
        else:
            row = self._one("SELECT COUNT(*) FROM records WHERE stop = ?", str(stop))
        assert row is not None, "COUNT returns a row"
        return int(row[0])

    def _one(self, query: str, *arguments: object) -> tuple[int, int] | None:
        with self._lock:
            found: tuple[int, int] | None = self._db.execute(query, arguments).fetchone()
        return found

    # --- order ---

    def rewrite(self, order: str, where: str = "TRUE") -> None:
        """Rewrite the segment with only the traces that match a condition, in the given order.

        Writes nothing if the segment already has this content. Memory does not depend on the number of traces.
        """
        self.commit()
        with self._lock, self._errors():
            self._db.execute("DROP TABLE IF EXISTS temp.moved")
            query = _ORDERED.format(order=order, where=where)
            self._db.execute(f"CREATE TEMP TABLE moved AS {query} ORDER BY target")
            total, displaced = self._db.execute(
                "SELECT COALESCE(SUM(length), 0), COALESCE(SUM(offset != target), 0) FROM moved"
            ).fetchone()
            if displaced or total != self._segment.size:
                # Without a state the index is stale: after a kill it is rebuilt.
                self._db.execute("DELETE FROM state")
                rows = self._db.execute("SELECT offset, length FROM moved ORDER BY target")
                try:
                    self._segment.rewrite((int(start), int(length)) for start, length in rows)
                except OutputError:
                    self.commit()
                    raise
                self._db.execute("BEGIN")
                self._db.execute("DELETE FROM records")
                self._db.execute(
                    "INSERT INTO records SELECT id, sample, target, length, stop FROM moved"
                )
                self._write_state()
                self._db.execute("COMMIT")
            self._db.execute("DROP TABLE temp.moved")


class _SqliteErrors:
    """Context manager that converts SQLite errors to `OutputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
            raise OutputError(
                expected="room for the index of a run",
                got=f"{self._path}: {error}",
                fix="free some space and run the same command again; completed work is kept",
            ) from error
