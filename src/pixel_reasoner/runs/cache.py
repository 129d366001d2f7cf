"""Responses of earlier runs, kept under a key of everything that decides a response.

The key holds the question's text and the content of its media (a path may change, its pixels decide), and the settings: model with its weights, dialect,
budgets, limits, decoding with its seed. What does not decide a response is not in it: the benchmark, the accepted answers, the scorer.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import cannot_write
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace


class ResponseCache:
    """A file of responses that many runs may share, also at once.

    >>> import tempfile
    >>> cache = ResponseCache(Path(tempfile.mkdtemp()) / "responses.db")
    >>> question = Question(id="q", text="How many?", media=())
    >>> key = cache.keys([question], RunSettings(dialect="compact"))["q"]
    >>> cache.get(key) is None
    True
    >>> cache.put(key, Trace(question=question, stop=StopReason.ANSWERED, answer="2"))
    >>> cache.get(key).answer
    '2'
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            OutputError: it cannot be written.
            InputError: it is some other file.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(path, timeout=60, isolation_level=None)
            self.db.execute(
                "CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, trace TEXT)"
            )
        except sqlite3.OperationalError as error:
            raise cannot_write(path, OSError(str(error))) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                expected="a file of responses", got=f"{path}: {error}", fix="name another --cache"
            ) from error
        except OSError as error:
            raise cannot_write(path, error) from error
        self._digests: dict[str, str] = {}

    def keys(self, questions: Sequence[Question], settings: RunSettings) -> dict[str, str]:
        """The key of each question, by its id."""
        nameless = settings.model.model_copy(update={"name": ""})
        decides = settings.model_copy(update={"model": nameless}).model_dump_json()
        return {question.id: self._key(question, decides) for question in questions}

    def _key(self, question: Question, decides: str) -> str:
        media = [(m.kind, self._content(m), m.start_s, m.end_s, m.fps) for m in question.media]
        asked = json.dumps([question.text, media])
        return hashlib.sha256(f"{decides}\n{asked}".encode()).hexdigest()

    def _content(self, medium: MediaItem) -> str:
        """A hash of the bytes of a medium; its path where it cannot be read, which asking will say."""
        if medium.path not in self._digests:
            path, digest = Path(medium.path), hashlib.sha256()
            try:
                for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                    with file.open("rb") as content:
                        digest.update(hashlib.file_digest(content, "sha256").digest())
                self._digests[medium.path] = digest.hexdigest()
            except OSError:
                return medium.path
        return self._digests[medium.path]

    def get(self, key: str) -> Trace | None:
        """The trace of a key, if there is one."""
        row = self.db.execute("SELECT trace FROM responses WHERE key = ?", (key,)).fetchone()
        return Trace.from_line(row[0]) if row else None

    def put(self, key: str, trace: Trace) -> None:
        """Keep a trace; one that failed is tried again instead."""
        if trace.stop is not StopReason.FAILED:
            line = trace.to_line()
            self.db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, line))
