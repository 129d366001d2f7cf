"""A running rollout as the viewer shows it: typed events for a client, with the trace so far."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pixel_reasoner.reports.entry import Asked, build_item
from pixel_reasoner.reports.pictures import PictureStore
from pixel_reasoner.reports.steps import call_in_words, outcome_in_words
from pixel_reasoner.rollout.state import Rollout
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
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace, Turn
from pixel_reasoner.scoring.grading import grade_reply
from pixel_reasoner.server.job_store import JobEvent
from pixel_reasoner.server.trace_media import LivePictures

RUNNING = "running"
"""`stop` of a trace in progress, for the viewer"""


class LiveEvent(NamedTuple):
    """Event for a client."""

    type: str
    data: dict[str, Any]


class LiveTrace:
    """Events of one rollout of a job.

    Args:
        run: number of the rollout in its job, from 0.
        name: title of the trace.
        question: without paths.
        settings: of the rollout.
        store: receives the pictures.
    """

    def __init__(
        self, run: int, name: str, question: Question, settings: RunSettings, store: LivePictures
    ) -> None:
        self.run, self.name, self.store = run, name, store
        self.trace = Trace(question=question, stop=StopReason.NO_ANSWER, settings=settings)
        self._turns: list[Turn] = []

    def open(self, rollout: Rollout) -> None:
        """Take the pictures of the question from a rollout."""
        if self.trace.pictures:
            return
        changes = {"pictures": rollout.pictures, "sampling": rollout.context.sampling}
        self.trace = self.trace.model_copy(update=changes)
        self.store.use(rollout.context)

    def events_of(self, event: Event) -> Iterator[LiveEvent]:
        """Yield the events for a client that an event of the rollout causes. Blocking: pictures are encoded."""
        if isinstance(event, TurnStarted):
            # Pictures and earlier steps were sent before, except with the first turn.
            shown = {} if event.turn else {"trace": self._entry()}
            yield self._event("turn_started", event.turn, **shown)
        elif isinstance(event, PartDelta) and event.kind is not PartKind.CALL:
            kind = "thought_delta" if event.kind is PartKind.THOUGHT else "text_delta"
            yield self._event(kind, event.turn, text=event.text)
        elif isinstance(event, CallParsed):
            call = event.call
            yield self._event(
                "tool_call",
                event.turn,
                name=call.name,
                arguments=call.arguments,
                words=call_in_words(call, None),
            )
        elif isinstance(event, Observed) and event.observation.error is not None:
            yield self._event("tool_error", event.turn, text=event.observation.text)
        elif isinstance(event, TurnDone):
            self._turns.append(event.record)
            self.trace = self.trace.model_copy(update={"turns": tuple(self._turns)})
            numbers = [one.number for obs in event.record.observations for one in obs.pictures]
            kind = "crop_ready" if numbers else "turn_done"
            yield self._event(kind, event.turn, pictures=numbers, trace=self._entry())
        elif isinstance(event, Finished | Failed) and event.trace.answer is not None:
            yield LiveEvent("answer", {"run": self.run, "answer": event.trace.answer})

    def _event(self, type: str, turn: int, **data: Any) -> LiveEvent:
        return LiveEvent(type, {"run": self.run, "turn": turn + 1, **data})

    def _entry(self) -> dict[str, Any]:
        item, _ = build_item(0, [Asked(self.trace, "ungraded", self.name)], self.store)
        (entry,) = item.model_dump(mode="json", exclude_defaults=True)["traces"]
        return dict(entry) | {"stop": RUNNING, "facts": [], "reason": ""}


def finished_item(
    traces: Sequence[Trace], names: Sequence[str], store: PictureStore
) -> tuple[str, str]:
    """Return the JSON of the item of finished traces, and the name of a small picture."""
    asked = [
        Asked(trace, outcome_in_words(grade_reply(trace)), name)
        for trace, name in zip(traces, names, strict=True)
    ]
    item, row = build_item(0, asked, store)
    return item.to_json(), row.thumbnail


def item_of_events(question: str, num_runs: int, events: Sequence[JobEvent]) -> dict[str, Any]:
    """Return the item of a job that has not finished, from the events so far."""
    traces: dict[int, dict[str, Any]] = {}
    for event in events:
        data = json.loads(event.data)
        if data.get("trace"):
            traces[data["run"]] = data["trace"]
    waiting = {"outcome": "ungraded", "stop": RUNNING}
    listed = [traces.get(run, waiting) for run in range(num_runs)]
    return {"number": 0, "question": {"id": "", "text": question}, "traces": listed}
