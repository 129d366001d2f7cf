"""Jobs of the trace API on disk: requests, events and finished traces in SQLite, pictures as files.

A job and its events survive a killed process: a trace and its last event are one transaction in write-ahead mode. Jobs
that were running when the process ended are marked as interrupted when the store is opened again.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from pixel_reasoner.errors import OutputError, UsageError

MAX_LISTED = 200
"""jobs of one answer of `JobStore.list`"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, finished REAL, state TEXT NOT NULL,
    question TEXT NOT NULL, answer TEXT, model TEXT NOT NULL, shared TEXT, trace TEXT, item TEXT, bytes INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, created);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_share ON jobs (shared) WHERE shared IS NOT NULL;
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (job, seq)
) WITHOUT ROWID;
"""
_COLUMNS = "id, owner, created, finished, state, question, answer, model, shared"


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """the process ended before the job"""


ENDED = frozenset(
    {JobState.FINISHED, JobState.CANCELLED, JobState.FAILED, JobState.INTERRUPTED}
)


class Job(NamedTuple):
    """One question of the trace API."""

    id: str
    owner: str
    """identity of the key that created it"""
    created: float
    """seconds since 1970"""
    finished: float | None
    state: JobState
    question: str
    answer: str | None
    model: str
    shared: str | None
    """secret part of its public address; None if it is not shared"""


class JobEvent(NamedTuple):
    """Event of a job."""

    seq: int
    """number in the job, from 1"""
    type: str
    data: str
    """JSON"""


class JobStore:
    """Jobs in a folder. All methods are thread-safe.

    Args:
        folder: contains `jobs.sqlite3` and `pictures/`.
        max_age_s: finished jobs are deleted after this time.
        max_bytes: of all jobs and their pictures; the oldest finished jobs are deleted first.

    >>> import tempfile
    >>> store = JobStore(Path(tempfile.mkdtemp()))
    >>> job = store.create("me", "Which colour?", "tiny")
    >>> store.add_event(job.id, "queued", {})
    1
    >>> store.finish(job.id, JobState.FINISHED, answer="red", trace="{}", item="{}", event={"answer": "red"})
    >>> store.get(job.id, "me").answer, [one.type for one in store.events(job.id)]
    ('red', ['queued', 'finished'])
    """

    def __init__(
        self, folder: Path, *, max_age_s: float = 30 * 86400.0, max_bytes: int = 4 << 30
    ) -> None:
        self.folder, self.max_age_s, self.max_bytes = folder, max_age_s, max_bytes
        self._lock = threading.Lock()
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                folder / "jobs.sqlite3", check_same_thread=False, isolation_level=None
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                expected=f"a folder for jobs: {folder}", got=str(error), fix="choose another --store"
            ) from error
        self._mark_interrupted()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    # --- jobs ---

    def create(self, owner: str, question: str, model: str) -> Job:
        """Add a job that waits."""
        job = Job(
            uuid4().hex, owner, time.time(), None, JobState.QUEUED, question, None, model, None
        )
        with self._transaction() as db:
            db.execute(
                f"INSERT INTO jobs ({_COLUMNS}, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)", job
            )
        self.pictures(job.id).mkdir(exist_ok=True)
        return job

    def get(self, id: str, owner: str | None = None) -> Job:
        """Return a job.

        Args:
            id: of the job.
            owner: whose job it must be; None for any.

        Raises:
            UsageError: there is no such job of this owner.
        """
        row = self._one(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", id)
        if row is None or (owner is not None and row[1] != owner):
            raise _no_job(id)
        return _job(row)

    def list(
        self, owner: str, *, before: float | None = None, query: str = "", limit: int = 50
    ) -> list[Job]:
        """Return the newest jobs of an owner.

        Args:
            owner: identity of a key.
            before: only jobs that were created before this time.
            query: text that the question or the answer contains.
            limit: maximum number, up to `MAX_LISTED`.
        """
        pattern = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE owner = ? AND created < ? AND "
                r"(question LIKE ? ESCAPE '\' OR IFNULL(answer, '') LIKE ? ESCAPE '\') "
                "ORDER BY created DESC LIMIT ?",
                (owner, before or 1e12, pattern, pattern, min(max(limit, 1), MAX_LISTED)),
            ).fetchall()
        return [_job(row) for row in rows]

    def start(self, id: str) -> None:
        """Mark a job as running."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET state = ? WHERE id = ?", (JobState.RUNNING, id))

    def finish(
        self, id: str, state: JobState, *, answer: str | None, trace: str, item: str, event: dict[str, Any]
    ) -> None:
        """End a job: its trace, its item for the viewer and its last event become visible at once."""
        size = len(trace) + len(item) + self._picture_bytes(id)
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, finished = ?, answer = ?, trace = ?, item = ?, bytes = ? WHERE id = ?",
                (state, time.time(), answer, trace, item, size, id),
            )
            _insert_event(db, id, state.value, event)

    def trace(self, id: str) -> str | None:
        """Return the trace of a finished job as JSON."""
        row = self._one("SELECT trace FROM jobs WHERE id = ?", id)
        return row[0] if row else None

    def item(self, id: str) -> str | None:
        """Return the item of a finished job for the viewer, as JSON."""
        row = self._one("SELECT item FROM jobs WHERE id = ?", id)
        return row[0] if row else None

    def share(self, id: str) -> str:
        """Make a finished job readable without a key, and return the secret part of its address."""
        secret = uuid4().hex
        with self._transaction() as db:
            db.execute("UPDATE jobs SET shared = IFNULL(shared, ?) WHERE id = ?", (secret, id))
        shared: str = self._one("SELECT shared FROM jobs WHERE id = ?", id)[0]
        return shared

    def shared(self, secret: str) -> Job:
        """Return a shared job.

        Raises:
            UsageError: there is none.
        """
        row = self._one(f"SELECT {_COLUMNS} FROM jobs WHERE shared = ?", secret)
        if row is None:
            raise _no_job(secret)
        return _job(row)

    def delete(self, id: str) -> None:
        """Delete a job, its events and its pictures."""
        with self._transaction() as db:
            db.execute("DELETE FROM events WHERE job = ?", (id,))
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
        shutil.rmtree(self.pictures(id), ignore_errors=True)

    def prune(self) -> list[str]:
        """Delete finished jobs that are too old, then the oldest ones above the limit of bytes. Return their ids."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, finished, bytes FROM jobs WHERE finished IS NOT NULL ORDER BY finished DESC"
            ).fetchall()
        deleted, total, oldest = [], 0, time.time() - self.max_age_s
        for id, finished, size in rows:
            total += size
            if finished < oldest or total > self.max_bytes:
                deleted.append(id)
        for id in deleted:
            self.delete(id)
        return deleted

    # --- events and pictures ---

    def add_event(self, id: str, type: str, data: dict[str, Any]) -> int:
        """Append an event and return its number."""
        with self._transaction() as db:
            return _insert_event(db, id, type, data)

    def events(self, id: str, after: int = 0) -> Sequence[JobEvent]:
        """Return the events of a job after a number."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, type, data FROM events WHERE job = ? AND seq > ? ORDER BY seq", (id, after)
            ).fetchall()
        return [JobEvent(*row) for row in rows]

    def pictures(self, id: str) -> Path:
        """Return the folder with the pictures of a job."""
        return self.folder / "pictures" / id

    # --- database ---

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _one(self, statement: str, *values: Any) -> Any:
        with self._lock:
            return self._db.execute(statement, values).fetchone()

    def _mark_interrupted(self) -> None:
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM jobs WHERE state IN (?, ?)", (JobState.QUEUED, JobState.RUNNING)
            ).fetchall()
        for (id,) in rows:
            with self._transaction() as db:
                db.execute(
                    "UPDATE jobs SET state = ?, finished = ? WHERE id = ?",
                    (JobState.INTERRUPTED, time.time(), id),
                )
                _insert_event(db, id, "error", {"message": "the server was stopped"})

    def _picture_bytes(self, id: str) -> int:
        folder = self.pictures(id)
        return sum(one.stat().st_size for one in folder.iterdir()) if folder.is_dir() else 0


def _insert_event(db: sqlite3.Connection, id: str, type: str, data: dict[str, Any]) -> int:
    (last,) = db.execute("SELECT IFNULL(MAX(seq), 0) FROM events WHERE job = ?", (id,)).fetchone()
    db.execute(
        "INSERT INTO events (job, seq, type, data) VALUES (?, ?, ?, ?)",
        (id, last + 1, type, json.dumps(data, ensure_ascii=False)),
    )
    number: int = last + 1
    return number


def _job(row: Sequence[Any]) -> Job:
    fields = list(row)
    fields[4] = JobState(fields[4])
    return Job(*fields)


def _no_job(id: str) -> UsageError:
    return UsageError(
        expected="the id of a trace", got=id[:64], fix="list the traces: GET /v1/traces"
    )
