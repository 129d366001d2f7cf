"""Interfaces between rollouts and models.

    GenerationBackend    submit, poll, cancel, release: many conversations at once, each request with its own sampling
    GenerationModel      name, dialect and budgets of a model; `open_backend` returns its backend

`local` runs transformers models on our engine, `remote` sends requests to servers, `scripted` replies from a list (tests,
docs). `RoundsBackend` wraps a model that has only `generate`.
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


def collect_images(conversation: Messages) -> list[Any]:
    """Return all pictures of a conversation, in order."""
    return [
        part["image"]
        for message in conversation
        if not isinstance(message["content"], str)
        for part in message["content"]
        if part["type"] == "image"
    ]


class Completion(NamedTuple):
    """Generated text of one turn."""

    text: str
    """generated text, without the end token"""
    truncated: bool = False
    """whether a limit ended generation before the end token"""
    token_ids: array[int] = array("i")
    """generated ids, including the end token"""
    logprobs: array[float] = array("f")
    """log-probability of each generated token under its sampling distribution"""
    num_prompt_tokens: int = 0

    parts: tuple[Part, ...] | None = None
    """thoughts, text and calls, if the backend separates them; with None the dialect parses `text`"""
    num_new_tokens: int | None = None
    """number of generated tokens reported by a server that returns no ids"""
    num_cached_tokens: int = 0
    """number of prompt tokens that were not computed again, because their keys and values were cached"""
    was_rejected: bool = False
    """whether the server could not parse the turn, and its text is from the error that it returned"""


class ContextFull(NamedTuple):
    """Result instead of a completion if the context has no room for another turn."""

    num_prompt_tokens: int
    limit: int


class Capabilities(Record):
    """Capabilities and scheduling parameters of a generation backend."""

    token_ids: bool = False
    """whether completions contain token ids"""
    logprobs: bool = False
    streaming: bool = False
    """whether text is returned before a completion is finished"""
    native_tools: bool = False
    """whether requests and replies have separate fields for tool definitions and calls"""
    max_concurrency: int | None = None
    """maximum number of concurrent requests, beyond which requests wait in the backend; None for no limit"""
    min_fill: float = 1.0
    """fraction of the active requests that must be submitted before `poll`, while media of the others are being opened"""
    shares_cores: bool = False
    """whether generation shares the CPU cores with media workers; it then uses the free cores"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Request to generate one turn."""

    id: str
    """unique among the requests in progress"""
    session: str
    """conversation of this turn; its KV cache is reused until `release`"""
    messages: Messages
    """the whole conversation so far"""
    sampling: SamplingParams
    """sampling parameters of this request; requests of one batch may differ"""
    tools: tuple[dict[str, Any], ...] = ()
    """tool definitions of the enabled operations, for a backend with native tool calls"""
    stream: bool = False
    """whether to return text during generation"""
    priority: int = 0
    """waiting requests with higher priority are served first"""


class Delta(NamedTuple):
    """Progress of one request. The last delta of a request contains a completion or an error."""

    id: str
    text: str = ""
    """new text, when streaming"""
    is_reasoning: bool = False
    """whether the new text is reasoning that the backend returns separately"""
    completion: Completion | ContextFull | None = None
    error: PixelReasonerError | None = None
    seconds: float = 0.0
    """generation time of the request: its share of the time of its steps"""

    @property
    def is_last(self) -> bool:
        """Whether this is the last delta of the request."""
        return self.completion is not None or self.error is not None


class CacheUsage(NamedTuple):
    """Use of the KV cache of an engine in this process."""

    num_prompt_tokens: int
    """tokens of all prompts so far"""
    num_reused_tokens: int
    """those of them whose keys and values were in the cache"""
    memory_fraction: float
    """memory of finished turns as a fraction of its limit"""


class GenerationBackend(Protocol):
    """Generator of turns for many concurrent conversations. Not thread-safe.

    For a local engine `poll` runs the computation; for a remote server it waits.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the backend."""
        ...

    def submit(self, request: GenerationRequest) -> None:
        """Accept a request. For an invalid prompt `poll` returns an error of this request."""

    def poll(self, timeout_s: float, num_busy_cores: int = 0) -> list[Delta]:
        """Make progress, wait for at most about `timeout_s` seconds, and return new deltas, possibly none.

        A local engine runs one step; on a CPU it leaves `num_busy_cores` to other threads. A failed request returns a
        delta with its error.

        Raises:
            EndpointError: all further requests will fail.
        """
        ...

    def cancel(self, id: str) -> None:
        """Stop a request in any state. It returns no further deltas, and its slot is free before the next step."""

    def release(self, session: str) -> None:
        """Release a conversation: cancel its requests and free its cache."""

    def close(self) -> None:
        """Cancel all requests and free all resources."""


@runtime_checkable
class SupportsCacheUsage(Protocol):
    """Backend with a KV cache in this process."""

    @property
    def cache_usage(self) -> CacheUsage:
        """Use of the cache. May be read by any thread."""


@runtime_checkable
class SupportsBackend(Protocol):
    """Model with its own backend."""

    def open_backend(self) -> GenerationBackend:
        """Return the backend of this model, shared by all its clients."""
        ...


class GenerationModel(Protocol):
    """Model that continues conversations."""

    name: str
    dialect: str
    """name of the dialect of the model"""
    budgets: PixelBudgets | None
    """pixel budgets of its training; None for the defaults of the dialect"""

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Return one turn for each conversation, in order. `on_text` requires a single conversation."""
        ...

    def describe(self) -> ModelInfo:
        """Return the identity of the model, for `Trace.settings`."""
        ...


class RoundsBackend:
    """Backend for a model that has only `generate`: one call for all waiting requests with equal sampling parameters.

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
        """Generate a turn for every waiting request, in order of submission."""
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
        """Drop a waiting request."""
        self._waiting.pop(id, None)

    def release(self, session: str) -> None:
        """Drop the requests of a conversation."""
        self._waiting = {
            id: request for id, request in self._waiting.items() if request.session != session
        }

    def close(self) -> None:
        """Drop all requests."""
        self._waiting.clear()


def get_backend(model: Any) -> GenerationBackend:
    """Return the backend of a model: its own, or a `RoundsBackend`."""
    return model.open_backend() if isinstance(model, SupportsBackend) else RoundsBackend(model)


def generate_turns(
    backend: GenerationBackend,
    conversations: Sequence[Messages],
    sampling: SamplingParams,
    on_delta: Callable[[str, bool], None] | None = None,
) -> list[Completion | ContextFull]:
    """Return one turn for each conversation, in order. The backend must have no other client.

    Args:
        backend: an open backend. It stays open.
        conversations: chat messages.
        sampling: sampling parameters of all conversations.
        on_delta: called with new text, and whether it is reasoning; requires a single conversation.

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
