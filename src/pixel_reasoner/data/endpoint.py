"""Asks a vision model behind OpenAI-compatible servers: whatever happens on the way, a question is paid for once.

    POST URL/chat/completions   {"model", "messages": [one user message: text, then JPEG pictures as data URLs]}

That is the part of the protocol that all such servers share: no system message, no sampling settings, no
response format.

    cache      replies by content, in files: a run that was killed or is repeated asks nothing twice
    budget     calls at most, over all resumptions of a run; answers from the cache are free
    servers    shared out by load, tried again, taken out: see `models.pool`
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.files import cannot_write
from pixel_reasoner.models.http_pool import (
    KEY_VARIABLE,
    HttpPool,
    OptionNames,
    RequestFailed,
    RetryPolicy,
)
from pixel_reasoner.models.openai_chat import ServerError
from pixel_reasoner.sources.rows import RowError

if TYPE_CHECKING:
    from httpx2 import Response

_T = TypeVar("_T")
_OPTIONS = OptionNames("--labeller", "--labeller-model", f"the environment variable {KEY_VARIABLE}")
_NEVER = 2**31


class Ask(NamedTuple):
    """One question to an endpoint."""

    key: str
    """a hash of all that is asked"""
    text: str
    jpegs: Callable[[], Iterable[bytes]]
    """makes the pictures; called when the answer is not in the cache"""


class Service(NamedTuple):
    """Which endpoints, and how they are used. None of it but the model and `calls` decides what is answered."""

    urls: tuple[str, ...]
    """of servers of one model, such as https://host/v1"""
    model: str
    cache: Path
    """folder of replies"""
    log: Path
    """file that counts what happened: one letter an event, see `Event`"""
    api_key: str = ""
    calls: int | None = None
    """at most; None is no limit"""
    concurrency: int = 8
    """calls under way at once"""
    timeout_s: float = 60.0
    tries: int = 5
    """of one request, where the server does not answer"""
    replies: int = 3
    """to one question, where they cannot be used"""
    pause_s: float = 0.5
    """before the second try; doubles"""
    patience: int = 10
    """questions in a row that get no answer before the run stops"""


class Event(StrEnum):
    """What happened, as a letter of the log."""

    CALL = "c"
    RETRY = "r"
    """a call that repeats one"""
    CACHED = "h"
    """an answer that needed no call"""


class Endpoint:
    """A server and what it has said so far. Threads may ask at the same time."""

    def __init__(self, service: Service) -> None:
        """Open it; nothing is sent yet.

        Raises:
            UsageError: no such address, or the HTTP client is not installed.
        """
        self.service = service
        manners = RetryPolicy(
            timeout_s=service.timeout_s,
            tries=service.tries,
            pause_s=service.pause_s,
            patience=_NEVER,  # counted here, by questions
            concurrency=service.concurrency,
        )
        self.pool = HttpPool(service.urls, service.api_key, manners, _OPTIONS)
        self.log = _Log(service.log, service.calls)
        self._asking: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._stopped: EndpointError | None = None
        self._in_vain = 0
        """questions in a row without an answer"""

    def ask(self, ask: Ask, read: Callable[[str], _T]) -> _T:
        """What `read` makes of the reply. A reply that it cannot read is asked for again, a few times.

        Raises:
            RowError: no reply, none that can be used, or the budget is spent.
            EndpointError: no reply can be expected any more.
            OutputError: the cache cannot be written.
        """
        with self._lock:
            asking = self._asking.setdefault(ask.key, _Lock())
        with asking.lock:  # two rows with the same content: one asks, the other finds the answer
            kept = self._kept(ask.key)
            if kept is not None:
                self.log.note(Event.CACHED)
                return read(kept)
            return self._asked(ask, read)

    @property
    def is_alive(self) -> bool:
        """Whether the last question got a reply."""
        return self._in_vain == 0

    def counts(self) -> dict[str, int]:
        """Calls, repeated ones among them, and answers from the cache, over all resumptions of the run."""
        return self.log.counts()

    def end(self, error: EndpointError | None = None) -> None:
        """Let nobody begin another call; who waits stops waiting."""
        with self._lock:
            self._stopped = self._stopped or error
        self.log.close()
        self.pool.end()

    # --- asking ---

    def _asked(self, ask: Ask, read: Callable[[str], _T]) -> _T:
        body = _body(self.service.model, ask)
        event = Event.CALL
        for left in reversed(range(self.service.replies)):
            reply = self._reply(body, event)
            event = Event.RETRY
            try:
                found = read(reply)
            except RowError:
                if left:
                    continue
                self._keep(ask, reply)
                raise
            self._keep(ask, reply)
            return found
        raise AssertionError("a question is asked at least once")

    def _reply(self, body: bytes, event: Event) -> str:
        """The text of the reply to a request, after as many tries as it takes."""
        events = chain([event], repeat(Event.RETRY))
        try:
            text = self.pool.ask(body, _text, lambda: self._take(next(events)))
        except RequestFailed as error:
            why = RowError(error.why, error.got)
            self._lose_patience(why)
            raise why from error
        except EndpointError as error:
            self.end(error)
            raise self._stopped or error from error
        self._in_vain = 0
        return text

    def _take(self, event: Event) -> None:
        """Before a call: whether there may be another one."""
        if not self.log.note(event):
            if self.log.closed:
                raise self._stopped or _ended()
            raise RowError("not_asked", f"the budget of {self.service.calls} calls is spent")

    def _lose_patience(self, why: RowError) -> None:
        with self._lock:
            self._in_vain += 1
            enough = self._in_vain >= self.service.patience
        if enough:
            error = EndpointError(
                expected="a labeller that answers",
                got=f"no reply to {self._in_vain} questions in a row; the last time: {why}",
                fix="see to the server, then run the same command to go on",
            )
            self.end(error)
            raise error

    # --- the cache ---

    def _path(self, key: str) -> Path:
        return self.service.cache / key[:2] / f"{key}.json"

    def _kept(self, key: str) -> str | None:
        try:
            told = json.loads(self._path(key).read_text(encoding="utf-8"))
            return str(told["reply"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _keep(self, ask: Ask, reply: str) -> None:
        path = self._path(ask.key)
        told = {"model": self.service.model, "asked": ask.text, "reply": reply}
        # Several runs may share a cache: each writes under a name of its own.
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error


class _Lock:
    """A lock that a weak reference can point to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class _Log:
    """How often what happened, in a file that grows by a letter an event: it survives a kill."""

    def __init__(self, path: Path, most_calls: int | None) -> None:
        self.path = path
        self.most_calls = most_calls
        self._lock = threading.Lock()
        self.closed = False
        try:
            self._counts = Counter(path.read_text(encoding="utf-8")) if path.exists() else Counter()
        except (OSError, UnicodeDecodeError):
            self._counts = Counter()

    def note(self, event: Event) -> bool:
        """Count an event; False if no further call is allowed. Calls are counted before they are made."""
        with self._lock:
            is_call = event is not Event.CACHED
            if self.closed or (is_call and self._calls() == self.most_calls):
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
        """What happened so far."""
        with self._lock:
            return {
                "calls": self._calls(),
                "retried": self._counts[Event.RETRY],
                "cached": self._counts[Event.CACHED],
            }

    def close(self) -> None:
        """Count nothing more."""
        with self._lock:
            self.closed = True

    def _calls(self) -> int:
        return self._counts[Event.CALL] + self._counts[Event.RETRY]


# --- the protocol ---


def _body(model: str, ask: Ask) -> bytes:
    content: list[dict[str, Any]] = [{"type": "text", "text": ask.text}]
    for jpeg in ask.jpegs():
        url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    message = {"role": "user", "content": content}
    return json.dumps({"model": model, "messages": [message]}).encode()


def _text(response: Response) -> str:
    """The text of a reply, empty where the model said nothing."""
    try:
        content = json.loads(response.read())["choices"][0]["message"].get("content")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServerError(
            f"{response.status_code} {' '.join(response.text.split())[:200]}"
        ) from error
    return content if isinstance(content, str) else ""


def _ended() -> EndpointError:
    return EndpointError(expected="a run that goes on", got="one that ended", fix="run it again")
