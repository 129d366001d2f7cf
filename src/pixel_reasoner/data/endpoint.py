"""Questions to a vision model behind OpenAI-compatible servers, each paid for once.

    POST URL/chat/completions   {"model", "messages": [one user message: text, then JPEG pictures as data URLs]}

All such servers support this part of the protocol: no system message, no sampling parameters, no response format.

    cache      replies by content, in files: a run that was killed or is repeated asks nothing twice
    budget     maximum number of calls, over all resumptions of a run; replies from the cache are free
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
    """One question to a labeller."""

    key: str
    """hash of everything that is asked"""
    text: str
    jpegs: Callable[[], Iterable[bytes]]
    """returns the pictures; called when the reply is not in the cache"""


class LabellerConfig(NamedTuple):
    """Servers of a labeller and limits. Only the model and `calls` influence results."""

    urls: tuple[str, ...]
    """addresses of servers of one model, such as https://host/v1"""
    model: str
    cache: Path
    """folder of replies"""
    log: Path
    """file that counts events: one letter each, see `Event`"""
    api_key: str = ""
    calls: int | None = None
    """maximum number of calls; None is no limit"""
    concurrency: int = 8
    """calls in progress at once"""
    timeout_s: float = 60.0
    max_tries: int = 5
    """tries of one request, if the server does not answer"""
    max_replies: int = 3
    """replies to one question, if they cannot be used"""
    first_pause_s: float = 0.5
    """pause before the second try; doubles"""
    max_consecutive_failures: int = 10
    """questions in a row without a reply before the run stops"""


class Event(StrEnum):
    """Event, as a letter of the log."""

    CALL = "c"
    RETRY = "r"
    """a call that repeats one"""
    CACHED = "h"
    """a reply that needed no call"""


class Endpoint:
    """Labeller with a cache of replies and a budget of calls. Several threads may call it at the same time."""

    def __init__(self, config: LabellerConfig) -> None:
        """Open the log; nothing is sent.

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
        """Return what `read` makes of the reply. A reply that it rejects is requested again, a few times.

        Raises:
            RowError: no reply, no usable reply, or the budget is spent.
            EndpointError: no reply can be expected any more.
            OutputError: the cache cannot be written.
        """
        with self._lock:
            asking = self._asking.setdefault(question.key, _Lock())
        with asking.lock:  # of two rows with the same content one asks, the other uses the cache
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
        """Return the number of calls, of repeated ones among them, and of cached replies, over all resumptions of the run."""
        return self.log.counts()

    def stop(self, error: EndpointError | None = None) -> None:
        """Start no further call, and end all pauses. Calls in progress continue."""
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
        """Count a call before it is made, if it may be made."""
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
        # Several runs may share a cache: each writes a file of its own and renames it.
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(entry, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(path)
            for stale in path.parent.glob(f"{question.key}.*.part"):  # of a run that was killed
                stale.unlink(missing_ok=True)
        except OSError as error:
            if not path.exists():  # another run may have written the same reply
                raise cannot_write(path, error) from error


class _Lock:
    """Lock that a weak reference can point to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class _EventLog:
    """Counts of events, in a file that grows by a letter for each: it survives a kill."""

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
        """Count an event; return False if no further call is allowed."""
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
        """Count no further event."""
        with self._lock:
            self._is_closed = True

    def _num_calls(self) -> int:
        return self._counts[Event.CALL] + self._counts[Event.RETRY]


def _body(model: str, question: LabelQuestion) -> bytes:
    urls = [data_url(jpeg, "jpeg") for jpeg in question.jpegs()]
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    message = {"role": "user", "content": [{"type": "text", "text": question.text}, *pictures]}
    return request_body({"model": model}, MessageWriter().messages([message]))
