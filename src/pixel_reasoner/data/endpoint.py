"""Labeller client for OpenAI-compatible servers, with a reply cache and a call budget.

    POST URL/chat/completions   {"model", "messages": [one user message: text, then JPEG pictures as data URLs]}

The request uses only widely supported fields: no system message, no sampling parameters, no response format.

    cache      replies by content hash, in files: a resumed or repeated run sends no request twice
    budget     maximum number of calls over all resumptions of a run; cached replies are free
    servers    load balancing, retries, failover: `models.http_pool`
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.files import cannot_write
from pixel_reasoner.models.endpoint_url import KEY_VARIABLE
from pixel_reasoner.models.http_errors import MessageNames, RequestFailed
from pixel_reasoner.models.http_pool import HttpPool, RetryPolicy
from pixel_reasoner.models.openai_chat import MessageWriter, data_url, request_body
from pixel_reasoner.models.openai_reply import ReplyReader
from pixel_reasoner.sources.rows import RowError

_T = TypeVar("_T")
_NAMES = MessageNames(
    endpoint="--labeller",
    model="--labeller-model",
    key=f"the environment variable {KEY_VARIABLE}",
    timeout="--labeller-timeout",
    server="a labeller",
    requests="questions",
)


class LabelQuestion(NamedTuple):
    """One question to the labeller."""

    key: str
    """hash of the whole request"""
    text: str
    jpegs: Callable[[], Iterable[bytes]]
    """returns the pictures; called on a cache miss"""


class LabellerConfig(NamedTuple):
    """Servers and limits of a labeller. Only the model and `calls` influence results."""

    urls: tuple[str, ...]
    """addresses of servers with the same model, for example https://host/v1"""
    model: str
    cache: Path
    """folder of cached replies"""
    log: Path
    """event log, one letter per event (`Event`)"""
    api_key: str = ""
    calls: int | None = None
    """maximum number of calls; None: no limit"""
    concurrency: int = 8
    """maximum number of concurrent calls"""
    timeout_s: float = 60.0
    max_tries: int = 5
    """maximum number of tries of one request if the server does not answer"""
    max_replies: int = 3
    """maximum number of replies to one question if they are unusable"""
    first_pause_s: float = 0.5
    """seconds before the second try; doubles with each try"""
    max_consecutive_failures: int = 10
    """the run stops after this number of consecutive questions without a reply"""


class Event(StrEnum):
    """Event type, as a letter of the log."""

    CALL = "c"
    RETRY = "r"
    """repeated call"""
    CACHED = "h"
    """cached reply, without a call"""


class Endpoint:
    """Labeller with a reply cache and a call budget. Thread-safe."""

    def __init__(self, config: LabellerConfig) -> None:
        """Open the log. Sends no request.

        Raises:
            UsageError: an invalid address, or the HTTP client is not installed.
        """
        self.config = config
        policy = RetryPolicy(
            timeout_s=config.timeout_s,
            request_timeout_s=config.timeout_s * config.max_tries,
            max_tries=config.max_tries,
            first_pause_s=config.first_pause_s,
            max_consecutive_failures=config.max_consecutive_failures,
            counts_rejected=True,
            concurrency=config.concurrency,
        )
        self.pool = HttpPool(config.urls, config.api_key, policy, _NAMES)
        self._read = ReplyReader(redact=self.pool.redact).content
        self.log = _EventLog(config.log, config.calls)
        self._asking: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._lock = threading.Lock()

    def ask(self, question: LabelQuestion, read: Callable[[str], _T]) -> _T:
        """Return `read(reply)`. If `read` rejects a reply, it is requested again, up to `max_replies` times.

        Raises:
            RowError: no reply, no usable reply, or the budget is spent.
            EndpointError: the servers do not answer any more.
            OutputError: the cache cannot be written.
        """
        with self._lock:
            asking = self._asking.setdefault(question.key, _Lock())
        with (
            asking.lock
        ):  # of two rows with equal content one sends the request, the other uses the cache
            cached = self._cached(question.key)
            if cached is not None:
                self.log.count(Event.CACHED)
                return read(cached)
            return self._request(question, read)

    @property
    def is_answering(self) -> bool:
        """Whether the last question got a reply."""
        return not self.pool.is_failing

    def counts(self) -> dict[str, int]:
        """Return the number of calls, of repeated calls among them, and of cached replies, over all resumptions of the run."""
        return self.log.counts()

    def stop(self, error: EndpointError | None = None) -> None:
        """Start no further call and end all pauses. Calls in progress continue."""
        self.pool.stop(error)
        self.log.close()

    def _request(self, question: LabelQuestion, read: Callable[[str], _T]) -> _T:
        body = _body(self.config.model, question)
        event = Event.CALL
        for num_left in reversed(range(self.config.max_replies)):
            reply = self._reply(body, event)
            event = Event.RETRY
            try:
                found = read(reply)
            except RowError:
                if num_left:
                    continue
                self._write_cache(question, reply)
                raise
            self._write_cache(question, reply)
            return found
        raise AssertionError("max_replies is at least 1")

    def _reply(self, body: bytes, event: Event) -> str:
        """Return the content of the reply to a request."""
        events = chain([event], repeat(Event.RETRY))
        try:
            return self.pool.ask(body, self._read, lambda: self._count_call(next(events)))
        except RequestFailed as error:
            raise RowError(error.kind, error.got) from error
        except EndpointError as error:
            self.stop(error)
            raise

    def _count_call(self, event: Event) -> None:
        """Count a call before it is sent, or raise if the budget is spent."""
        if not self.log.count(event):
            self.pool.balancer.assert_open()
            raise RowError("not_asked", f"the budget of {self.config.calls} calls is spent")

    # --- cache ---

    def _path(self, key: str) -> Path:
        return self.config.cache / key[:2] / f"{key}.json"

    def _cached(self, key: str) -> str | None:
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
            return entry["reply"] if isinstance(entry["reply"], str) else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _write_cache(self, question: LabelQuestion, reply: str) -> None:
        path = self._path(question.key)
        entry = {"model": self.config.model, "asked": question.text, "reply": reply}
        # Several runs may share a cache: each writes its own file and renames it.
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(entry, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(path)
            for stale in path.parent.glob(f"{question.key}.*.part"):  # left by a killed run
                stale.unlink(missing_ok=True)
        except OSError as error:
            if not path.exists():  # another run may have written the same reply
                raise cannot_write(path, error) from error


class _Lock:
    """Lock that supports weak references."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class _EventLog:
    """Event counts in an append-only file, one letter per event, so that they survive a kill."""

    def __init__(self, path: Path, max_calls: int | None) -> None:
        self.path = path
        self.max_calls = max_calls
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            self._counts = Counter(path.read_text(encoding="utf-8")) if path.exists() else Counter()
        except (OSError, UnicodeDecodeError):
            self._counts = Counter()

    def count(self, event: Event) -> bool:
        """Count an event. Return False if the budget allows no further call."""
        with self._lock:
            is_call = event is not Event.CACHED
            if self._is_closed or (is_call and self._num_calls() == self.max_calls):
                return False
            self._counts[event] += 1
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab", buffering=0) as file:
                    file.write(event.encode())
            except OSError as error:
                raise cannot_write(self.path, error) from error
            return True

    def counts(self) -> dict[str, int]:
        """Return the number of events so far."""
        with self._lock:
            return {
                "calls": self._num_calls(),
                "retried": self._counts[Event.RETRY],
                "cached": self._counts[Event.CACHED],
            }

    def close(self) -> None:
        """Count no further events."""
        with self._lock:
            self._is_closed = True

    def _num_calls(self) -> int:
        return self._counts[Event.CALL] + self._counts[Event.RETRY]


def _body(model: str, question: LabelQuestion) -> bytes:
    urls = [data_url(jpeg, "jpeg") for jpeg in question.jpegs()]
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    message = {"role": "user", "content": [{"type": "text", "text": question.text}, *pictures]}
    return request_body({"model": model}, MessageWriter().messages([message]))
