"""The seam between the loop and whatever generates text: one method.

    Model.generate(conversations, decoding, on_text) -> completions

`scripted` says what it is told to (tests, docs), `local` runs any transformers image-text-to-text model.

A model may have a second one: `session(decoding)`, turns of many conversations side by side. A conversation whose turn is
finished goes on at once, while the others are still writing. Without it they move in rounds.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.schema.settings import PixelBudgets, SamplingParams

Messages = list[dict[str, Any]]
"""chat messages; pictures are `{"type": "image", "image": PIL.Image}`"""

OnText = Callable[[str], None]
"""called with each new piece of text while it is generated"""


def images_of(conversation: Messages) -> list[Any]:
    """All pictures of a conversation, in the order in which they are shown."""
    return [
        part["image"]
        for message in conversation
        if not isinstance(message["content"], str)
        for part in message["content"]
        if part["type"] == "image"
    ]


class Completion(NamedTuple):
    """What a model wrote in one turn."""

    text: str
    """without the end token"""
    truncated: bool = False
    """cut off by a limit before the end token came"""
    token_ids: array[int] = array("i")
    """what was generated, the end token included"""
    logprobs: array[float] = array("f")
    """of each generated token under the distribution it was drawn from"""
    num_prompt_tokens: int = 0


class ContextFull(NamedTuple):
    """Instead of a completion: the conversation leaves no room for another turn."""

    num_prompt_tokens: int
    limit: int


class Model(Protocol):
    """Anything that continues conversations."""

    name: str
    dialect: str
    """name of the dialect that it speaks"""
    budgets: PixelBudgets | None
    """what it was trained to see; None for the dialect's defaults"""

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """One turn for each conversation, in order. `on_text` needs a single conversation."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides its outputs, for `Trace.settings`."""
        ...


Finished = tuple[Any, Completion | ContextFull | PixelReasonerError, float]
"""the key of a conversation, its turn or why there is none, and the seconds that are its share"""


class Turns(Protocol):
    """Turns of many conversations."""

    fill: float
    """share of a batch that is worth waiting for before `done` is called, while pictures are opened"""
    room: float
    """share of a batch that is to be free before pictures are opened: those that are opened while `done` is at work take its cores"""

    def add(self, key: Any, conversation: Messages) -> None:
        """Ask for the next turn of a conversation; `key` names it from turn to turn."""

    def done(self) -> list[Finished]:
        """The turns that are finished next, at least one of those that were asked for."""
        ...

    def end(self, key: Any) -> None:
        """A conversation is over."""


@runtime_checkable
class SupportsSessions(Protocol):
    """A model with turns of its own kind."""

    def session(self, decoding: SamplingParams) -> Turns:
        """Turns of many conversations, until this is dropped."""
        ...


class Rounds:
    """Turns of any model: one call of it for all conversations that wait."""

    fill, room = 1.0, 0.0

    def __init__(self, model: Model, decoding: SamplingParams) -> None:
        self.model, self.decoding = model, decoding
        self.waiting: dict[Any, Messages] = {}

    def add(self, key: Any, conversation: Messages) -> None:
        """Ask for the next turn of a conversation."""
        self.waiting[key] = conversation

    def done(self) -> list[Finished]:
        """The turns of all that wait, in the order of their keys: not in that in which pictures happened to be open."""
        waiting, self.waiting = dict(sorted(self.waiting.items())), {}
        started = time.perf_counter()
        completions = self.model.generate(list(waiting.values()), self.decoding)
        share = (time.perf_counter() - started) / max(1, len(waiting))
        return [(key, said, share) for key, said in zip(waiting, completions, strict=True)]

    def end(self, key: Any) -> None:
        """Nothing is kept of a conversation."""


def open_session(model: Model, decoding: SamplingParams) -> Turns:
    """A model's turns of many conversations: its own kind, or rounds."""
    if isinstance(model, SupportsSessions):
        return model.session(decoding)
    return Rounds(model, decoding)
