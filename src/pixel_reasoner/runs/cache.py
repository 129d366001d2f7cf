"""Response cache shared between runs.

The key is a hash of everything that determines a response: the text of the question, the content of its media (not
their paths), and the settings: model with its weights, dialect, budgets, limits, sampling parameters and seed. It does
not contain the benchmark, the accepted answers or the scorer.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import cannot_write
from pixel_reasoner.media.remote_media import remote_version
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import FIXED, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace

_MAX_DIGESTS = 10_000
"""media hashes in memory; questions about the same media are usually adjacent"""


_NO_RULES = {"budgets": {"adaptive"}}
"""rules that follow from the policy of the budgets"""


class ResponseCache:
    """SQLite file of responses. Several runs may use it concurrently.

    >>> import tempfile
    >>> cache = ResponseCache(Path(tempfile.mkdtemp()) / "responses.db")
    >>> question = Question(id="q", text="How many?", media=())
    >>> key = cache.key(question, RunSettings(dialect="compact"))
    >>> cache.get(key) is None
    True
    >>> cache.put(key, Trace(question=question, stop=StopReason.ANSWERED, answer="2"))
    >>> cache.get(key).answer
    '2'
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            OutputError: the file cannot be written.
            InputError: the file is not a response cache.
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
                expected="a file of responses", got=f"{path}: {error}", fix="use another --cache"
            ) from error
        except OSError as error:
            raise cannot_write(path, error) from error
        self._digests: dict[str, str] = {}
        self._last_settings: tuple[RunSettings | None, str] = (None, "")

    def key(self, question: Question, settings: RunSettings) -> str:
        """Return the key of a question and settings. Reads and hashes the media."""
        media = [
            (
                m.kind,
                self._media_digest(m),
                m.start_s,
                m.end_s,
                m.fps,
                *([m.page] if m.page else []),
            )
            for m in question.media
        ]
        asked = json.dumps([question.text, media])
        return hashlib.sha256(f"{self._response_settings(settings)}\n{asked}".encode()).hexdigest()

    def _response_settings(self, settings: RunSettings) -> str:
        """Return the settings that determine a response, as text: all except the name of the model."""
        if self._last_settings[0] is not settings:
            nameless = settings.model.model_copy(update={"name": ""})
            # Fields that are new since the first caches are left out at their defaults, so that old responses are found.
            unused = {"budget"} if settings.budget == FIXED else set()
            keyed = settings.model_copy(update={"model": nameless})
            text = keyed.model_dump_json(exclude={**dict.fromkeys(unused, True), **_NO_RULES})
            self._last_settings = settings, text
        return self._last_settings[1]

    def _media_digest(self, medium: MediaItem) -> str:
        """Return a hash of the bytes of a media item; its path if it is unreadable, which the rollout reports later."""
        if medium.path not in self._digests:
            if is_url(medium.path):
                return _object_version(medium)
            path, digest = Path(medium.path), hashlib.sha256()
            try:
                for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                    with file.open("rb") as content:
                        digest.update(hashlib.file_digest(content, "sha256").digest())
            except OSError:
                return medium.path
            if len(self._digests) >= _MAX_DIGESTS:
                self._digests.clear()
            self._digests[medium.path] = digest.hexdigest()
        return self._digests[medium.path]

    def get(self, key: str) -> Trace | None:
        """Return the trace of a key; None if there is none."""
        row = self.db.execute("SELECT trace FROM responses WHERE key = ?", (key,)).fetchone()
        return Trace.from_line(row[0]) if row else None

    def put(self, key: str, trace: Trace) -> None:
        """Store a trace. Failed traces are not stored, so that they are retried.

        Raises:
            OutputError: the file cannot be written.
        """
        if trace.stop is StopReason.FAILED:
            return
        try:
            self.db.execute(
                "INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, trace.to_line())
            )
        except sqlite3.Error as error:
            raise cannot_write(self.path, OSError(str(error))) from error


def _object_version(medium: MediaItem) -> str:
    """Return the version of an object, which stands for its content; its URL if there is none, which the rollout reports later."""
    try:
        return remote_version(medium)
    except InputError:
        return medium.path
