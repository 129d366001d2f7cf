"""Append-only store of one run: segments of JSONL, an index of the traces, a manifest, and one lock per folder.

    DIR/traces.jsonl          one line per trace; in the order of the questions when the run is complete
    DIR/.store/manifest.json  schema version, state, fingerprint of the settings, counts, and the last checkpoint
    DIR/.store/index.db       offset of each trace (`runs.index`); derived from the segment, rebuilt if it does not match
    DIR/.store/lock           held while a process writes to the folder (`runs.lock`)

A run is resumed in one of two ways. *Record by record* (evaluations): every complete line of the segment is kept, and
`contains` returns whether a question is done. *From a checkpoint* (synthesis): all segments are truncated to their sizes
at the last call of `checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import cannot_write, read_json_object, write_json
from pixel_reasoner.runs.fingerprint import fingerprint
from pixel_reasoner.runs.index import FILE_ORDER, NOT_FAILED, QUESTION_ORDER, TraceIndex
from pixel_reasoner.runs.lock import STORE, FolderLock
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.record import SCHEMA_VERSION
from pixel_reasoner.schema.trace import StopReason, Trace, load_traces

TRACES = "traces.jsonl"
_PREFETCH_QUESTIONS = 64
"""questions per lookup in the index"""
RUNNING, COMPLETE = "running", "complete"
"""states of a run in its manifest"""


class RunStore:
    """Append-only store of the records of one run. All methods for records are thread-safe.

    Args:
        folder: run folder; created if it does not exist.
        segments: file names; the first file contains the traces.
        settings: settings of the run, for the fingerprint in the manifest.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> trace = Trace(question=Question(id="q", text="?", media=()), stop=StopReason.NO_ANSWER)
    >>> with RunStore(folder) as store:
    ...     store.append(trace)
    >>> with RunStore(folder) as store:
    ...     store.contains("q"), store.get("q") == trace, store.manifest["counts"]
    (True, True, {'traces': 1, 'failed': 0})
    """

    def __init__(
        self,
        folder: Path,
        segments: Sequence[str] = (TRACES,),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.segments = {name: Segment(folder / name) for name in segments}
        self._traces = self.segments[segments[0]]
        self._settings = _settings_fingerprint(settings)
        self._index: TraceIndex | None = None
        self._lock = threading.RLock()
        self._opened = ExitStack()
        self.manifest: dict[str, Any] = {}

    # --- opening and closing ---

    def __enter__(self) -> Self:
        """Lock the folder, open the segments and drop incomplete records.

        Raises:
            OutputError: the folder cannot be written, or another process writes to it.
            InputError: the manifest cannot be read, or a newer version wrote it.
            UsageError: a segment is shorter than at the last checkpoint.
        """
        with ExitStack() as opened:
            opened.enter_context(FolderLock(self.folder))
            for segment in self.segments.values():
                opened.enter_context(segment)
            self.manifest = read_manifest(self.folder)
            for name, size in self.manifest.get("checkpoint", {}).get("sizes", {}).items():
                self.segments[name].truncate(size)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the manifest of an indexed run, close all files and release the lock."""
        with self._opened:
            index, self._index = self._index, None
            if index is None:
                return
            try:
                # On a full disk the manifest fails too, and its error must not hide the first one.
                if kind is None or not issubclass(kind, OSError):
                    self._write_manifest(self.manifest["state"], counts=_counts(index))
            finally:
                index.close()

    def _write_manifest(self, state: str, **more: Any) -> None:
        kept = {"schema_version": SCHEMA_VERSION, "state": state, "settings": self._settings}
        self.manifest = {**kept, **more}
        write_json(self.manifest, manifest_path(self.folder))

    # --- records ---

    @property
    def index(self) -> TraceIndex:
        """Index of the traces, opened on first use.

        Raises:
            InputError: a line is not a trace (with its number).
        """
        with self._lock:
            if self._index is None:
                self._index = TraceIndex(self.folder / STORE / "index.db", self._traces)
                self._write_manifest(RUNNING, counts=_counts(self._index))
            return self._index

    def append(self, trace: Trace) -> None:
        """Append a trace. It replaces the trace of the same question and sample.

        Raises:
            OutputError: the disk is full or gone.
        """
        line = trace.to_line().encode() + b"\n"
        with self._lock:
            self.index.add(trace, self._traces.append(line), len(line))

    def contains(self, question_id: str, sample: int = 0) -> bool:
        """Return whether the run has a trace of a question and sample."""
        return self.index.find(question_id, sample) is not None

    def missing(self, questions: Iterable[Question], sample: int = 0) -> Iterator[Question]:
        """Yield the questions without a trace of a sample. Prefetches a few questions."""
        questions = iter(questions)
        while chunk := list(islice(questions, _PREFETCH_QUESTIONS)):
            known = self.index.ids_with_trace([question.id for question in chunk], sample)
            yield from (question for question in chunk if question.id not in known)

    def get(self, question_id: str, sample: int = 0) -> Trace | None:
        """Return the trace of a question and sample; None if there is none."""
        place = self.index.find(question_id, sample)
        return place and Trace.from_line(self._traces.read(*place).decode())

    def traces(self) -> Iterator[Trace]:
        """Yield the traces in file order, with one in memory at a time.

        Raises:
            InputError: a line is not a trace (with its number).
        """
        return load_traces(self._traces.path)

    def discard_failed(self) -> None:
        """Drop failed traces, so that their questions are retried."""
        if self.index.count(StopReason.FAILED):
            self.index.rewrite(FILE_ORDER, NOT_FAILED)

    # --- questions and order ---

    def set_questions(self, questions: Iterable[Question]) -> None:
        """Set the questions of the run. Their order is the order of the traces in a complete run.

        Raises:
            InputError: duplicate ids of questions.
        """
        # A new run has no fingerprints to compare.
        has_traces = bool(self.index.count())
        rows = ((q.id, fingerprint([q]) if has_traces else "") for q in questions)
        repeated = self.index.set_questions(rows)
        if repeated is not None:
            times = sum(question.id == repeated for question in questions)
            raise InputError(
                expected="unique question ids",
                got=f"{times} questions with id {repeated!r}",
                fix="rename or remove all but one",
            )

    def has_changed_question(self, question: Question) -> bool:
        """Return whether the run has a question with the same id but another text, options, answer or media."""
        known = self.index.fingerprint(question.id)
        return known is not None and known != fingerprint([question])

    def complete(self) -> None:
        """Sort the traces by sample and question, and mark the run as complete."""
        self.index.rewrite(QUESTION_ORDER)
        self.manifest["state"] = COMPLETE

    # --- checkpoints ---

    @property
    def progress(self) -> dict[str, Any] | None:
        """Progress recorded by the last checkpoint; None if there is none."""
        noted = self.manifest.get("checkpoint", {}).get("progress")
        return None if noted is None else dict(noted)

    def sizes(self) -> dict[str, int]:
        """Return the size of each segment in bytes."""
        return {name: segment.size for name, segment in self.segments.items()}

    def checkpoint(
        self, progress: Mapping[str, Any], sizes: Mapping[str, int] | None = None
    ) -> None:
        """Record the progress of the run. After a kill the run resumes from here.

        Args:
            progress: JSON values that `progress` returns after a restart.
            sizes: bytes of each segment to keep; by default the current sizes.

        Raises:
            UsageError: a segment is shorter.
            OutputError: the manifest cannot be written.
        """
        sizes = dict(sizes or self.sizes())
        for name, size in sizes.items():
            self.segments[name].truncate(size)
        self._write_manifest(RUNNING, checkpoint={"sizes": sizes, "progress": dict(progress)})

    def finish(self, name: str) -> None:
        """Rename the first segment. This marks a run with checkpoints as complete.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            self._traces.path.replace(self.folder / name)
        except OSError as error:
            raise cannot_write(self.folder / name, error) from error
        self._write_manifest(COMPLETE)


def manifest_path(folder: Path) -> Path:
    """Return the path of the manifest of a run."""
    return folder / STORE / "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run; empty if there is none.

    Raises:
        InputError: the manifest cannot be read, or a newer version wrote it.
    """
    path = manifest_path(folder)
    if not path.exists():
        return {}
    manifest = read_json_object(path, "the manifest of a run", f"delete {path}")
    version = manifest.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise InputError(
            expected=f"a run of schema version {SCHEMA_VERSION} or older",
            got=f"schema version {version} in {path}",
            fix="upgrade pixel-reasoner; a newer version wrote this",
        )
    return manifest


def _counts(index: TraceIndex) -> dict[str, int]:
    return {"traces": index.count(), "failed": index.count(StopReason.FAILED)}


def _settings_fingerprint(settings: Mapping[str, Any] | None) -> str:
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
