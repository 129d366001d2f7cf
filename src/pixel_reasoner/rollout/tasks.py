"""Internal state of the requests of a scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixel_reasoner.dialects.turn_parser import TurnParser
from pixel_reasoner.errors import CancelledError, DeadlineError, PixelReasonerError
from pixel_reasoner.models.openai_stream import TextJoiner
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.trace import StopReason


@dataclass(eq=False)
class Task:
    """State of a request in progress."""

    handle: RolloutHandle
    seq: int
    session: str
    continues: Rollout | None = None
    rollout: Rollout | None = None
    turn_id: str = ""
    """id of the generation request in progress; empty if there is none"""
    parser: TurnParser | None = None
    """parser of the turn in progress, if it is streamed"""
    joiner: TextJoiner | None = None
    """joins reasoning and content of the turn to one text"""
    expires_at: float | None = None
    is_over: bool = False


@dataclass
class Commands:
    """Pending commands of other threads."""

    submitted: list[Task] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.submitted or self.cancelled or self.released)


def stop_error(reason: StopReason, request: RolloutRequest) -> PixelReasonerError:
    """Return the error of a stopped request."""
    if reason is StopReason.DEADLINE:
        return DeadlineError(
            expected=f"an answer within {request.deadline_s:g} s",
            got="none",
            fix="raise deadline_s, or lower max_turns or max_new_tokens",
        )
    return CancelledError(expected="an answer", got="a cancellation", fix="submit it again")
