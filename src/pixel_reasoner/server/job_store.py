"""Jobs of the trace API on disk: requests, events and finished traces in SQLite, media and pictures as files.

    jobs.sqlite3          jobs, events, names of their media
    lock                  held by the process that uses the folder
    media/HASH.png        originals by content, shared by the jobs that use them
    pictures/JOB/         encoded pictures and exports of one job

A job and its events survive a killed process: its traces and its last event are one transaction in write-ahead mode. Jobs
that were running when the process ended are marked as interrupted when the store is opened again, and files that belong to
no job are deleted. So a folder has one process at a time; a lock refuses a second one.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import uuid4

from filelock import FileLock, Timeout

from pixel_reasoner.errors import OutputError, UsageError

INTERRUPTED_MESSAGE = "the server was stopped before the end"
MAX_LISTED = 200
"""jobs of one answer of `JobStore.search`"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, finished REAL, state TEXT NOT NULL,
    question TEXT NOT NULL, answer TEXT, model TEXT NOT NULL, shared TEXT, request TEXT NOT NULL, summary TEXT,
    traces TEXT, item TEXT,
    bytes INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, created);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_share ON jobs (shared) WHERE shared IS NOT NULL;
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (job, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS media (name TEXT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (name, job)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS media_by_job ON media (job);
"""
_COLUMNS = "id, owner, created, finished, state, question, answer, model, shared, request, summary"


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """the process ended before the job"""


ENDED = frozenset({JobState.FINISHED, JobState.CANCELLED, JobState.FAILED, JobState.INTERRUPTED})


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
    request: str
    """what is needed to show and to continue it, as JSON"""
    summary: str | None
    """what lists show of a finished job, as JSON"""


class JobEvent(NamedTuple):
    """Event of a job."""

    seq: int
    """number in the job, from 1"""
    type: str
    data: str
    """JSON"""


NewEvent = tuple[str, dict[str, Any]]
"""type and data of an event that has no number yet"""


class JobStore:
    """Jobs in a folder. All methods are thread-safe.

    Args:
        folder: contains everything; created if it does not exist.
        max_age_s: finished jobs are deleted after this time.
        max_bytes: of all jobs and their pictures; the oldest finished jobs are deleted first.

    >>> import tempfile
    >>> store = JobStore(Path(tempfile.mkdtemp()))
    >>> job = store.create("me", "Which colour?", "tiny", {})
    >>> [one.seq for one in store.add_events(job.id, [("queued", {})])]
    [1]
    >>> store.finish(job.id, JobState.FINISHED, answer="red", traces="[]", item="{}")
    >>> store.get(job.id, "me").answer, [one.type for one in store.events(job.id)]
    ('red', ['queued', 'finished'])
    """

    def __init__(
        self, folder: Path, *, max_age_s: float = 30 * 86400.0, max_bytes: int = 4 << 30
    ) -> None:
        self.folder, self.max_age_s, self.max_bytes = folder, max_age_s, max_bytes
        self._lock = threading.Lock()
        self._process_lock = FileLock(folder / "lock", timeout=0, thread_local=False)
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            (folder / "media").mkdir(exist_ok=True)
            self._process_lock.acquire()
            self._db = sqlite3.connect(
                folder / "jobs.sqlite3", check_same_thread=False, isolation_level=None
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except Timeout as error:
            raise UsageError(
                expected="--store with a folder that no other server uses",
                got=f"{folder.parent}, which a running server uses",
                fix="give every server its own folder, or stop the other server",
            ) from error
        except (OSError, sqlite3.Error) as error:
            self._process_lock.release()
            raise OutputError(
                expected=f"a folder for jobs: {folder}",
                got=str(error),
                fix="choose another --store",
            ) from error
        self._mark_interrupted()
        self._remove_orphans()

    def close(self) -> None:
        """Close the database and release the folder."""
        with self._lock:
            self._db.close()
        self._process_lock.release()

    # --- jobs ---

    def create(
        self,
        owner: str,
        question: str,
        model: str,
        request: dict[str, Any],
        media: Mapping[str, Path] = MappingProxyType({}),
        events: Sequence[NewEvent] = (),
    ) -> Job:
        """Add a job that waits.

        Args:
            owner: identity of a key.
            question: text of the question.
            model: name of the model.
            request: what is needed to show and to continue the job.
            media: name in the store -> file that is linked or copied, if the store does not contain the name yet.
            events: its first events.

        Raises:
            OutputError: a file cannot be stored.
        """
        text = json.dumps(request, ensure_ascii=False)
        job = Job(
            uuid4().hex,
            owner,
            time.time(),
            None,
            JobState.QUEUED,
            question,
            None,
            model,
            None,
            text,
            None,
        )
        with self._transaction() as db:
            for name, path in media.items():
                _link(path, self.media / name)
                db.execute("INSERT OR IGNORE INTO media (name, job) VALUES (?, ?)", (name, job.id))
            db.execute(
                f"INSERT INTO jobs ({_COLUMNS}, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                job,
            )
            _insert_events(db, job.id, events)
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

    def search(
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

    def finish(  # noqa: PLR0913 - everything that becomes visible at once
        self,
        id: str,
        state: JobState,
        *,
        answer: str | None = None,
        summary: dict[str, Any] | None = None,
        traces: str | None = None,
        item: str | None = None,
        request: dict[str, Any] | None = None,
        event: dict[str, Any] | None = None,
    ) -> None:
        """End a job: its traces, its item for the viewer and its last event become visible at once.

        Args:
            id: of the job.
            state: one of `ENDED`.
            answer: the most frequent answer.
            summary: what lists show.
            traces: traces as a JSON list.
            item: JSON for the viewer.
            request: replaces the request of the job.
            event: further data of the last event, which is `finished`, or `error` if the job failed.
        """
        kind = "error" if state in (JobState.FAILED, JobState.INTERRUPTED) else "finished"
        size = len(traces or "") + len(item or "") + self._file_bytes(id)
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, finished = ?, answer = ?, summary = ?, traces = ?, item = ?, bytes = ? "
                "WHERE id = ?",
                (state, time.time(), answer, json.dumps(summary or {}), traces, item, size, id),
            )
            if request is not None:
                text = json.dumps(request, ensure_ascii=False)
                db.execute("UPDATE jobs SET request = ? WHERE id = ?", (text, id))
            _insert_events(db, id, [(kind, {"state": state.value} | (event or {}))])

    def traces(self, id: str) -> str | None:
        """Return the traces of a finished job as a JSON list."""
        row = self._one("SELECT traces FROM jobs WHERE id = ?", id)
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

    def unshare(self, id: str) -> None:
        """Make the public address of a job invalid."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET shared = NULL WHERE id = ?", (id,))

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
        """Delete a job, its events, its pictures, and the media that no other job uses."""
        with self._transaction() as db:
            rows = db.execute("SELECT name FROM media WHERE job = ?", (id,)).fetchall()
            for table, column in (("media", "job"), ("events", "job"), ("jobs", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (id,))
            for (name,) in rows:
                if db.execute("SELECT 1 FROM media WHERE name = ?", (name,)).fetchone() is None:
                    (self.media / name).unlink(missing_ok=True)
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

    def add_events(
        self, id: str, events: Sequence[NewEvent], *, is_start: bool = False
    ) -> list[JobEvent]:
        """Append events and return them with their numbers.

        Args:
            id: of the job.
            events: type and data of each.
            is_start: marks the job as running.
        """
        with self._transaction() as db:
            if is_start:
                db.execute("UPDATE jobs SET state = ? WHERE id = ?", (JobState.RUNNING, id))
            return _insert_events(db, id, events)

    def events(self, id: str, after: int = 0) -> Sequence[JobEvent]:
        """Return the events of a job after a number."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, type, data FROM events WHERE job = ? AND seq > ? ORDER BY seq",
                (id, after),
            ).fetchall()
        return [JobEvent(*row) for row in rows]

    @property
    def media(self) -> Path:
        """Folder with the originals of all jobs."""
        return self.folder / "media"

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
            self.finish(id, JobState.INTERRUPTED, event={"message": INTERRUPTED_MESSAGE})

    def _remove_orphans(self) -> None:
        """Delete files without a job: the process was killed while it created or deleted one."""
        jobs = {id for (id,) in self._db.execute("SELECT id FROM jobs")}
        media = {name for (name,) in self._db.execute("SELECT DISTINCT name FROM media")}
        for folder in (self.folder / "pictures").iterdir():
            if folder.name not in jobs:
                shutil.rmtree(folder, ignore_errors=True)
        for path in self.media.iterdir():
            if path.name not in media:
                path.unlink(missing_ok=True)

    def _file_bytes(self, id: str) -> int:
        """Return the size of the pictures and of the media of a job. Shared media count for every job."""
        folder = self.pictures(id)
        paths = list(folder.iterdir()) if folder.is_dir() else []
        with self._lock:
            rows = self._db.execute("SELECT name FROM media WHERE job = ?", (id,)).fetchall()
        paths += [self.media / name for (name,) in rows]
        return sum(path.stat().st_size for path in paths if path.is_file())


def _link(path: Path, target: Path) -> None:
    """Make a file available under a second name: by a hard link, or as a copy on another file system.

    Raises:
        OutputError: the disk is full, or the file was removed.
    """
    if target.exists():
        return
    try:
        os.link(path, target)
    except OSError:
        part = target.with_suffix(".part")
        try:
            shutil.copyfile(path, part)
            part.replace(target)
        except OSError as error:
            raise OutputError(
                expected="space for a copy of a picture or video",
                got=error.strerror or "an error",
                fix="free space in the folder of --store",
            ) from error


def _insert_events(db: sqlite3.Connection, id: str, events: Sequence[NewEvent]) -> list[JobEvent]:
    (last,) = db.execute("SELECT IFNULL(MAX(seq), 0) FROM events WHERE job = ?", (id,)).fetchone()
    added = [
        JobEvent(number, type, json.dumps(data, ensure_ascii=False))
        for number, (type, data) in enumerate(events, start=last + 1)
    ]
    db.executemany(
        "INSERT INTO events (job, seq, type, data) VALUES (?, ?, ?, ?)",
        [(id, *one) for one in added],
    )
    return added


def _job(row: Sequence[Any]) -> Job:
    fields = list(row)
    fields[4] = JobState(fields[4])
    return Job(*fields)


def _no_job(id: str) -> UsageError:
    return UsageError(expected="the id of a trace", got=id[:64], fix="list the traces")
