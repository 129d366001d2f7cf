"""Events of a rollout, in the order in which they happen.

    TurnStarted → GeneratedText, PartDelta ... → CallParsed → Observed → TurnDone → TurnStarted ... → Finished | Failed

Every event carries the id of its request, its number in the stream of that request, and its time since the request
was submitted. `event_to_dict` returns JSON for a server.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import Observation, ToolCall, Trace, Turn


class PartKind(StrEnum):
    """Kind of part that a text delta belongs to."""

    THOUGHT = "thought"
    TEXT = "text"
    CALL = "call"


class Event(Record):
    """Base of all events."""

    request_id: str
    seq: int
    """number in the stream of this request, from 0"""
    at_s: float
    """seconds since the request was submitted"""


class TurnStarted(Event):
    """Generation of a turn begins."""

    turn: int
    """number of the turn, from 0"""


class GeneratedText(Event):
    """New text of the current turn, verbatim, including the tags of thoughts and calls."""

    turn: int
    text: str


class PartDelta(Event):
    """New text of one part of the current turn, without tags. Provisional until `TurnDone` carries the parts."""

    turn: int
    kind: PartKind
    text: str


class CallParsed(Event):
    """A call was parsed; its operation is executed next."""

    turn: int
    call: ToolCall


class Observed(Event):
    """A call was executed or rejected."""

    turn: int
    observation: Observation


class TurnDone(Event):
    """A turn and its observations are complete."""

    turn: int
    record: Turn


class Finished(Event):
    """The rollout stopped. Last event of a request that was answered, truncated, cancelled, or exceeded its deadline."""

    trace: Trace


class Failed(Event):
    """The request failed. Last event of a failed request."""

    error: str
    trace: Trace


def event_to_dict(event: Event) -> dict[str, Any]:
    """Return an event as JSON values, with its type name.

    >>> event_to_dict(TurnStarted(request_id="a", seq=0, at_s=0.5, turn=0))
    {'type': 'turn_started', 'request_id': 'a', 'seq': 0, 'at_s': 0.5, 'turn': 0}
    """
    return {"type": _TYPES[type(event)], **event.model_dump(mode="json", exclude_none=True)}


_TYPES = {
    TurnStarted: "turn_started",
    GeneratedText: "generated_text",
    PartDelta: "part_delta",
    CallParsed: "call_parsed",
    Observed: "observed",
    TurnDone: "turn_done",
    Finished: "finished",
    Failed: "failed",
}
