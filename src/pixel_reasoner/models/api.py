"""Interfaces between rollouts and what generates text.

    GenerationBackend    submit, poll, cancel, release: many conversations at once, each request with its own sampling
    Model                name, dialect and budgets of a model; `open_backend` returns its backend

`local` runs transformers models on our engine, `remote` asks servers, `scripted` replies from a list (tests, docs). A model that has
`generate` alone is wrapped by `RoundsBackend`.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, SamplingParams
from pixel_reasoner.schema.trace import Part

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

    parts: tuple[Part, ...] | None = None
    """thoughts, words and calls, where the backend returns them separately; None: the dialect parses `text`"""
    num_new_tokens: int | None = None
    """as a server counted them, which returns no ids"""


class ContextFull(NamedTuple):
    """Instead of a completion: the conversation leaves no room for another turn."""

    num_prompt_tokens: int
    limit: int


class Capabilities(Record):
    """What a generation backend supports, and how it is kept busy."""

    token_ids: bool = False
    """whether completions contain token ids"""
    logprobs: bool = False
    streaming: bool = False
    """whether text arrives before a completion is finished"""
    native_tools: bool = False
    """whether tool definitions and calls are transferred as fields of their own"""
    max_concurrency: int | None = None
    """requests that are in progress at once; more wait in the backend. None: no limit of its own"""
    min_fill: float = 1.0
    """fraction of the requests in progress that is worth waiting for before `poll` is called, while media are opened"""
    shares_cores: bool = False
    """whether generation runs on the cores that also open media: it then uses those that are left"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One turn that a backend is asked to generate."""

    id: str
    """unique among the requests in progress"""
    session: str
    """conversation that this turn belongs to; what its earlier turns prefilled is reused until it is released"""
    messages: Messages
    """the whole conversation so far"""
    sampling: SamplingParams
    """of this request alone; requests of one batch may differ"""
    tools: tuple[dict[str, Any], ...] = ()
    """definitions of the offered operations, for a backend that transfers them as a field of their own"""
    stream: bool = False
    """whether text is wanted while it is generated"""
    priority: int = 0
    """higher is served first, where requests wait"""


class Delta(NamedTuple):
    """Progress of one request. The last one of a request carries a completion or an error."""

    id: str
    text: str = ""
    """new text, when streaming"""
    is_reasoning: bool = False
    """whether the new text is reasoning that the backend returns separately"""
    completion: Completion | ContextFull | None = None
    error: PixelReasonerError | None = None
    seconds: float = 0.0
    """generation time of the request: its share of the steps it took part in"""

    @property
    def is_last(self) -> bool:
        """Whether nothing more will come for this request."""
        return self.completion is not None or self.error is not None


class GenerationBackend(Protocol):
    """Generates turns of many conversations at once. One thread at a time may call it.

    `poll` does the work of a local engine, and waits for a remote server.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the backend supports."""
        ...

    def submit(self, request: GenerationRequest) -> None:
        """Accept a request. A prompt that cannot be used is reported by `poll`, as an error of this request."""

    def poll(self, timeout_s: float, num_busy_cores: int = 0) -> list[Delta]:
        """Make progress for at most about `timeout_s` seconds of waiting, and return what is new, possibly nothing.

        A local engine makes one step; on a CPU it leaves `num_busy_cores` to other threads. A failing request is a delta
        with its error.

        Raises:
            EndpointError: no request can succeed any more.
        """
        ...

    def cancel(self, id: str) -> None:
        """Stop a request, whatever its state. It returns nothing more; its slot is free before the next step."""

    def release(self, session: str) -> None:
        """Forget a conversation: its requests are cancelled and its cache is freed."""

    def close(self) -> None:
        """Cancel everything and free all resources."""


@runtime_checkable
class SupportsBackend(Protocol):
    """A model with a backend of its own kind."""

    def open_backend(self) -> GenerationBackend:
        """Return the backend of this model; always the same one, shared by all its clients."""
        ...


class GenerationModel(Protocol):
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

    def describe(self) -> ModelInfo:
        """What decides its outputs, for `Trace.settings`."""
        ...


class RoundsBackend:
    """Backend of a model that has `generate` alone: one call for all requests that wait with the same sampling parameters.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> backend = RoundsBackend(ScriptedModel(["Red."]))
    >>> backend.submit(GenerationRequest(id="1", session="1", messages=[], sampling=SamplingParams()))
    >>> backend.poll(0.0)[0].completion.text
    'Red.'
    """

    capabilities = Capabilities()

    def __init__(self, model: Any) -> None:
        self.model = model
        self._waiting: dict[str, GenerationRequest] = {}

    def submit(self, request: GenerationRequest) -> None:
        """Accept a request."""
        self._waiting[request.id] = request

    def poll(self, timeout_s: float, num_busy_cores: int = 0) -> list[Delta]:
        """Generate a turn for every request that waits, in the order of submission."""
        del timeout_s, num_busy_cores
        waiting, self._waiting = list(self._waiting.values()), {}
        groups: dict[SamplingParams, list[GenerationRequest]] = {}
        for request in waiting:
            groups.setdefault(request.sampling, []).append(request)
        deltas = [delta for group in groups.values() for delta in self._generate(group)]
        order = {request.id: number for number, request in enumerate(waiting)}
        return sorted(deltas, key=lambda delta: order[delta.id])

    def _generate(self, group: list[GenerationRequest]) -> list[Delta]:
        started = time.perf_counter()
        conversations = [request.messages for request in group]
        completions = self.model.generate(conversations, group[0].sampling)
        share = (time.perf_counter() - started) / len(group)
        return [
            Delta(request.id, completion=completion, seconds=share)
            for request, completion in zip(group, completions, strict=True)
        ]

    def cancel(self, id: str) -> None:
        """Drop a request that waits."""
        self._waiting.pop(id, None)

    def release(self, session: str) -> None:
        """Drop the requests of a conversation."""
        self._waiting = {
            id: request for id, request in self._waiting.items() if request.session != session
        }

    def close(self) -> None:
        """Drop everything."""
        self._waiting.clear()


def backend_of(model: Any) -> GenerationBackend:
    """Return the backend of a model: its own, or one around its `generate`."""
    return model.open_backend() if isinstance(model, SupportsBackend) else RoundsBackend(model)


def generate_turns(
    backend: GenerationBackend,
    conversations: Sequence[Messages],
    sampling: SamplingParams,
    on_delta: Callable[[str, bool], None] | None = None,
) -> list[Completion | ContextFull]:
    """Return one turn for each conversation, in order. The backend must have no other client.

    Args:
        backend: is not closed.
        conversations: chat messages.
        sampling: of all of them.
        on_delta: called with each new piece of text, and whether it is reasoning; needs a single conversation.

    Raises:
        PixelReasonerError: one of the requests failed.
    """
    assert on_delta is None or len(conversations) == 1, "text of one conversation is streamed"
    results: dict[str, Completion | ContextFull] = {}
    for number, messages in enumerate(conversations):
        backend.submit(
            GenerationRequest(
                id=str(number),
                session=str(number),
                messages=messages,
                sampling=sampling,
                stream=on_delta is not None,
            )
        )
    while len(results) < len(conversations):
        for delta in backend.poll(1.0):
            if delta.error is not None:
                raise delta.error
            if on_delta is not None and delta.text:
                on_delta(delta.text, delta.is_reasoning)
            if delta.completion is not None:
                results[delta.id] = delta.completion
    return [results[str(number)] for number in range(len(conversations))]
