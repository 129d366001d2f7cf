"""Streams of server-sent events.

Lines have at most 32 KiB, because common clients cut longer ones. The first chunk of each choice has the role, the last one a
finish reason, and `[DONE]` always ends the stream, also after an error. Comments keep idle connections open.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from typing import Any, NamedTuple

from pixel_reasoner.schema.events import Event, Failed, Finished, PartDelta, PartKind, TurnDone
from pixel_reasoner.server.asgi import Send
from pixel_reasoner.server.engine import Run
from pixel_reasoner.server.reply import SEPARATOR, cut_at_stop, turn_texts
from pixel_reasoner.server.settings import ReasoningField

MAX_DELTA_CHARS = 4000
"""A character takes at most six bytes in JSON."""
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class ClientTooSlow(Exception):
    """The client did not accept data in time."""


class SseWriter:
    """Writer of events to one client.

    Args:
        send: of ASGI; it waits while the buffer of the connection is full.
        timeout_s: time for the client to accept one event.
    """

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self.has_started = False

    async def start(self) -> None:
        """Send the headers."""
        self.has_started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})

    async def data(self, value: Any, event: str | None = None) -> None:
        """Send an object."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        name = f"event: {event}\n" if event else ""
        await self.raw(f"{name}data: {text}\n\n".encode("utf-8", "replace"))

    async def raw(self, content: bytes, *, is_last: bool = False) -> None:
        """Send bytes.

        Raises:
            ClientTooSlow: the client does not read.
        """
        message = {"type": "http.response.body", "body": content, "more_body": not is_last}
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(message)
        except TimeoutError:
            raise ClientTooSlow from None


class RunEvent(NamedTuple):
    """Event of one rollout of a request."""

    run: Run
    event: Event


async def event_batches(runs: Sequence[Run], ping_s: float) -> AsyncGenerator[list[RunEvent], None]:
    """Yield the events of all rollouts as they happen: all that are waiting at once. Empty after `ping_s` seconds without one."""
    changed = asyncio.Event()
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.handle.notifying(changed))
        active = list(runs)
        while active:
            changed.clear()
            # Read before the events: one that ends afterwards has set `changed`.
            ended = [run for run in active if run.handle.is_done]
            batch = [RunEvent(run, event) for run in active for event in run.handle.take_events()]
            active = [run for run in active if run not in ended]
            if batch:
                yield batch
            elif active and not await _is_set(changed, ping_s):
                yield []


async def _is_set(event: asyncio.Event, timeout_s: float) -> bool:
    # Not `wait_for`: in Python 3.11 it loses a cancellation if an event arrives at the same time.
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def merged_events(
    runs: Sequence[Run], ping_s: float
) -> AsyncGenerator[RunEvent | None, None]:
    """Yield the events of all rollouts as they happen; None after `ping_s` seconds without one."""
    async with aclosing(event_batches(runs, ping_s)) as batches:
        async for batch in batches:
            if not batch:
                yield None
            for found in batch:
                yield found


class _Field:
    """Text of one field, without white space at its ends and up to a stop string."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.text = ""
        """everything that was added"""
        self.num_sent = 0
        self.is_stopped = False
        self._stop = stop
        self._held = max((len(word) - 1 for word in stop), default=0)

    def add(self, text: str, *, is_end: bool = False) -> str:
        """Add text and return what can be sent."""
        if self.is_stopped:
            return ""
        self.text += text
        self.text, self.is_stopped = cut_at_stop(self.text, self._stop)
        end = len(self.text)
        if not (is_end or self.is_stopped):
            end = max(self.num_sent, min(len(self.text.rstrip()), end - self._held))
        new, self.num_sent = self.text[self.num_sent : end], max(self.num_sent, end)
        return new


class DeltaBuilder:
    """Converter of the events of one rollout to texts of reasoning and content.

    Text of a turn is content only if the turn has no call, which is known when the turn ends. Until then it is held back. If
    no operation is enabled, it is returned immediately. Thoughts are always returned immediately. All texts together equal
    the reply of `build_reply`.
    """

    def __init__(self, run: Run) -> None:
        self._has_operations = bool(run.job.config.operations)
        self._dialect = run.job.prompt.dialect
        self._reasoning = _Field()
        self._content = _Field(run.job.stop)
        self._live = {PartKind.THOUGHT: "", PartKind.TEXT: ""}

    def feed(self, event: Event) -> list[tuple[str, str]]:
        """Return pairs of `reasoning` or `content` and new text."""
        found: list[tuple[str, str]] = []
        if isinstance(event, PartDelta) and event.kind in self._live:
            is_thought = event.kind is PartKind.THOUGHT
            if is_thought or not self._has_operations:
                field, name = self._field(is_thought)
                before = self._live[event.kind]
                new = event.text if before else event.text.lstrip()
                if new and not before and field.text:
                    new = SEPARATOR + new
                self._live[event.kind] += new.removeprefix(SEPARATOR) if not before else new
                found.append((name, field.add(new)))
        elif isinstance(event, TurnDone):
            texts = turn_texts(event.record, self._dialect, has_operations=self._has_operations)
            found.append(("reasoning", self._rest(PartKind.THOUGHT, texts.reasoning)))
            found.append(("content", self._rest(PartKind.TEXT, texts.content)))
            self._live = {PartKind.THOUGHT: "", PartKind.TEXT: ""}
        elif isinstance(event, Finished):
            found.append(("reasoning", self._reasoning.add("", is_end=True)))
            found.append(("content", self._content.add("", is_end=True)))
        return [(name, text) for name, text in found if text]

    def _field(self, is_thought: bool) -> tuple[_Field, str]:
        return (self._reasoning, "reasoning") if is_thought else (self._content, "content")

    def _rest(self, kind: PartKind, whole: str) -> str:
        """Return the part of the text of a turn that was not returned while it was generated."""
        field, _ = self._field(kind is PartKind.THOUGHT)
        live = self._live[kind].rstrip()
        if field.text and live:
            field.text = field.text.rstrip()
        if not whole.startswith(live):
            return field.add("")
        new = whole[len(live) :]
        return field.add(SEPARATOR + new if new and not live and field.text else new)


def delta_fields(name: str, text: str, field: ReasoningField) -> dict[str, str]:
    """Return the fields of a delta."""
    if name == "content" or field is ReasoningField.INLINE:
        return {"content": text}
    if field is ReasoningField.BOTH:
        return {"reasoning_content": text, "reasoning": text}
    return {field.value: text}


def pieces(text: str) -> list[str]:
    """Return a text in pieces of at most `MAX_DELTA_CHARS`."""
    return [text[start : start + MAX_DELTA_CHARS] for start in range(0, len(text), MAX_DELTA_CHARS)]


def is_end(event: Event) -> bool:
    """Return whether an event is the last one of its rollout."""
    return isinstance(event, Finished | Failed)
