"""A running rollout as the viewer shows it: typed events for a client, and the item of all steps so far."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.reports.entry import Asked, build_item
from pixel_reasoner.reports.pictures import PictureStore
from pixel_reasoner.reports.schema import Item
from pixel_reasoner.reports.steps import call_in_words, outcome_in_words
from pixel_reasoner.schema.events import (
    CallParsed,
    Event,
    Failed,
    Finished,
    Observed,
    PartDelta,
    PartKind,
    TurnDone,
    TurnStarted,
)
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture, StopReason, Trace, Turn
from pixel_reasoner.scoring.grading import grade_reply

MAX_SOURCE_PX = 20_000_000
"""larger sources are scaled down for the viewer; the trace API serves regions at full resolution"""


class LiveEvent(NamedTuple):
    """Event for a client."""

    type: str
    data: dict[str, Any]


class LiveTrace:
    """Events and items of one rollout.

    Args:
        question: with its media.
        folder: receives the pictures.
    """

    def __init__(self, question: Question, folder: Path) -> None:
        self.question = question
        self.pictures: tuple[Picture, ...] = ()
        self.turns: list[Turn] = []
        self._store = PictureStore(folder, MAX_SOURCE_PX)

    def events_of(self, event: Event, pictures: tuple[Picture, ...] = ()) -> Iterator[LiveEvent]:
        """Yield the events for a client that an event of the rollout causes.

        Args:
            event: of the rollout.
            pictures: pictures of the question, once they are open.
        """
        if isinstance(event, TurnStarted):
            if pictures and not self.pictures:
                self.pictures = pictures
            yield LiveEvent("turn_started", {"turn": event.turn + 1, "item": self._item()})
        elif isinstance(event, PartDelta):
            if event.kind is not PartKind.CALL:
                kind = "thought_delta" if event.kind is PartKind.THOUGHT else "text_delta"
                yield LiveEvent(kind, {"turn": event.turn + 1, "text": event.text})
        elif isinstance(event, CallParsed):
            words = call_in_words(event.call, None)
            yield LiveEvent(
                "tool_call", {"turn": event.turn + 1, "name": event.call.name, "words": words}
            )
        elif isinstance(event, Observed):
            if event.observation.error is not None:
                yield LiveEvent(
                    "tool_error", {"turn": event.turn + 1, "text": event.observation.text}
                )
        elif isinstance(event, TurnDone):
            self.turns.append(event.record)
            numbers = [one.number for obs in event.record.observations for one in obs.pictures]
            kind = "crop_ready" if numbers else "turn_done"
            data = {"turn": event.turn + 1, "pictures": numbers, "item": self._item()}
            yield LiveEvent(kind, data)
        elif isinstance(event, Finished | Failed) and event.trace.answer is not None:
            yield LiveEvent("answer", {"answer": event.trace.answer})

    def finished_item(self, trace: Trace) -> Item:
        """Return the item of the finished trace."""
        return self._build(trace, outcome_in_words(grade_reply(trace)))

    def _item(self) -> dict[str, Any]:
        trace = Trace(
            question=self.question,
            pictures=self.pictures,
            turns=tuple(self.turns),
            stop=StopReason.NO_ANSWER,
        )
        item: dict[str, Any] = self._build(trace, "ungraded").model_dump(
            mode="json", exclude_defaults=True
        )
        return item

    def _build(self, trace: Trace, outcome: str) -> Item:
        item, _ = build_item(0, [Asked(trace, outcome)], self._store)
        return item
