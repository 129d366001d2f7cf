"""SQLite index of a JSONL file of rows: place, position and failure of each row by its id.

The index is derived from the file. It is rebuilt if it is missing, damaged or does not match the file. Lines appended after
the last commit are added when the index is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.runs.segment import Segment

_VERSION = 1
_COMMIT_INTERVAL_ROWS = 500
_TAIL_BYTES = 256
_SCHEMA = """
CREATE TABLE rows (id TEXT PRIMARY KEY, offset INTEGER, length INTEGER, position INTEGER, failed INTEGER) WITHOUT ROWID;
CREATE TABLE state (size INTEGER, tail BLOB);
"""
_ORDER = "position IS NULL, position, offset"


class Place(NamedTuple):
    """Place of a row in its file, in bytes."""

    offset: int
    length: int
    position: int | None
    """place in the complete table; None: in the order of the file, after all others"""
    is_failed: bool


class RowSummary(NamedTuple):
    """What the index keeps of a row."""

    id: str
    position: int | None
    is_failed: bool


class RowIndex:
    """Index of an open segment of rows."""

    def __init__(
        self, path: Path, segment: Segment, summary_of: Callable[[bytes], RowSummary]
    ) -> None:
        """Open the index.

        Args:
            path: of the database.
            segment: the open file.
            summary_of: parses a line; a `ValueError` rejects it.

        Raises:
            InputError: a line of the segment is not a row (with its number).
            OutputError: the database cannot be written.
        """
        self._path, self._segment, self._summary_of = path, segment, summary_of
        self._pending: dict[str, Place] = {}
        """rows that are not in the database yet"""
        self._db = self._open()
        self._index_new_lines()

    def _open(self) -> sqlite3.Connection:
        with self._errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError:  # damaged, or of another version
                self._path.unlink(missing_ok=True)
                return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(str(self._path), isolation_level=None)
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
        with self._errors():
            state = self._db.execute("SELECT size, tail FROM state").fetchone()
            if state is None or state[0] > self._segment.size or self._tail(state[0]) != state[1]:
                self._db.execute("DELETE FROM rows")
                state = (0, b"")
        offset = state[0]
        with self._segment.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if line.strip():
                    self._add(self._parsed(line, offset), offset, len(line))
                offset += len(line)
        self.commit()

    def _parsed(self, line: bytes, offset: int) -> RowSummary:
        try:
            return self._summary_of(line)
        except ValueError as error:
            number = 1 + self._segment.read(0, offset).count(b"\n")
            raise InputError(
                expected="a row as a JSON object per line",
                got=f"{self._segment.path}, line {number}: {error}",
                fix="delete the line",
            ) from error

    def _tail(self, size: int) -> bytes:
        length = min(size, _TAIL_BYTES)
        return self._segment.read(size - length, length)

    # --- writing ---

    def add(self, row: RowSummary, offset: int, length: int) -> None:
        """Add a row that was appended to the segment. It replaces the row of the same id."""
        self._add(row, offset, length)

    def _add(self, row: RowSummary, offset: int, length: int) -> None:
        self._pending[row.id] = Place(offset, length, row.position, row.is_failed)
        if len(self._pending) >= _COMMIT_INTERVAL_ROWS:
            self.commit()

    def commit(self) -> None:
        """Write pending rows to the database file."""
        with self._transaction():
            rows = [(id_, *place) for id_, place in self._pending.items()]
            self._db.executemany(
                "INSERT OR REPLACE INTO rows (id, offset, length, position, failed) VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            self._write_state()
        self._pending.clear()

    def discard_failed(self) -> None:
        """Drop the failed rows from the segment, so that nothing is left of those that are not tried again."""
        self.commit()
        with self._transaction():
            if not self._db.execute("DELETE FROM rows WHERE failed").rowcount:
                return
            # Without a state the index is stale: after a kill it is rebuilt.
            self._db.execute("DELETE FROM state")
        self._rewrite_segment()

    def rewrite(self) -> None:
        """Sort the segment by position and drop replaced rows. Memory does not depend on the number of rows."""
        self.commit()
        with self._transaction():
            total, displaced = self._db.execute(
                "SELECT COALESCE(SUM(length), 0), COALESCE(SUM(offset != target), 0) FROM "
                f"(SELECT length, offset, SUM(length) OVER (ORDER BY {_ORDER} ROWS UNBOUNDED PRECEDING) - length AS target"
                " FROM rows)"
            ).fetchone()
            if not displaced and total == self._segment.size:
                return
            # Without a state the index is stale: after a kill it is rebuilt.
            self._db.execute("DELETE FROM state")
        self._rewrite_segment()

    def _rewrite_segment(self) -> None:
        with self._errors():
            places = self._db.execute(f"SELECT offset, length FROM rows ORDER BY {_ORDER}")
            self._segment.rewrite((int(offset), int(length)) for offset, length in places)
        self._index_new_lines()

    def _write_state(self) -> None:
        size = self._segment.size
        self._db.execute("DELETE FROM state")
        self._db.execute("INSERT INTO state VALUES (?, ?)", (size, self._tail(size)))

    def close(self) -> None:
        """Commit and close the database."""
        try:
            self.commit()
        except OutputError:
            pass  # the next start indexes the missing lines
        finally:
            self._db.close()

    # --- reading ---

    def find(self, id_: str) -> Place | None:
        """Return the place of a row; None if there is none."""
        if id_ in self._pending:
            return self._pending[id_]
        with self._errors():
            found = self._db.execute(
                "SELECT offset, length, position, failed FROM rows WHERE id = ?", (id_,)
            ).fetchone()
        return found and Place(found[0], found[1], found[2], bool(found[3]))

    def places(self) -> Iterator[Place]:
        """Yield the places of all rows in the order of the table."""
        for row in self._select("offset, length, position, failed"):
            yield Place(row[0], row[1], row[2], bool(row[3]))

    def ids(self) -> Iterator[str]:
        """Yield the ids of all rows in the order of the table."""
        for row in self._select("id"):
            yield str(row[0])

    def count(self, *, is_failed: bool = False) -> int:
        """Return the number of rows, or of failed rows."""
        self.commit()
        with self._errors():
            where = " WHERE failed" if is_failed else ""
            return int(self._db.execute(f"SELECT COUNT(*) FROM rows{where}").fetchone()[0])

    def _select(self, columns: str) -> Iterator[tuple[int, ...]]:
        self.commit()
        with self._errors():
            yield from self._db.execute(f"SELECT {columns} FROM rows ORDER BY {_ORDER}")

    # --- errors ---

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                expected="room for the index of the rows",
                got=f"{self._path}: {error}",
                fix="free some space and run the same command again; completed work is kept",
            ) from error
