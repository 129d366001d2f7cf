"""Generation backend of a local model: one engine for the requests of many conversations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from pixel_reasoner.errors import ModelError, PixelReasonerError
from pixel_reasoner.models.api import (
    CacheUsage,
    Capabilities,
    Completion,
    ContextFull,
    Delta,
    GenerationRequest,
    collect_images,
)
from pixel_reasoner.models.engine import Engine, ImageInput, PromptText, Sequence
from pixel_reasoner.models.local_text import TextStream

if TYPE_CHECKING:
    from pixel_reasoner.models.local import LocalModel


class TokenizedText(NamedTuple):
    """Text, images and token ids of a conversation up to the end of a turn.

    Generated ids often differ from the tokenization of the same text, so the next turn starts with the generated ids.
    """

    text: str
    images: tuple[bytes, ...]
    """digests"""
    ids: list[int]

    def is_prefix_of(self, text: str, images: SequenceOf[ImageInput]) -> bool:
        """Whether a longer conversation starts with this one."""
        return text.startswith(self.text) and self.images == tuple(
            one.digest for one in images[: len(self.images)]
        )


@dataclass
class _Session:
    """Conversation: its text so far, requests in progress and finished sequences."""

    history: TokenizedText | None = None
    requests: set[str] = field(default_factory=set)
    finished: list[Sequence] = field(default_factory=list)


@dataclass
class _Running:
    """Request in the engine."""

    session: str
    sequence: Sequence
    prompt: TokenizedText
    started_at: float
    stream: TextStream | None
    num_streamed: int = 0


class LocalBackend:
    """Backend with one engine, whose KV cache has the lifetime of the backend.

    Args:
        model: of a family that the engine supports.
        max_cache_bytes: limit of the KV cache of finished turns (`Engine`).
    """

    def __init__(self, model: LocalModel, max_cache_bytes: int | None = None) -> None:
        self.model = model
        is_on_cpu = model.model.device.type == "cpu"
        self.capabilities = Capabilities(
            token_ids=True,
            logprobs=True,
            streaming=True,
            min_fill=0.25 if is_on_cpu else 0.5,
            shares_cores=is_on_cpu,
        )
        self.engine = Engine(
            model.model,
            model.processor,
            model.end_tokens,
            max_cache_bytes=max_cache_bytes,
        )
        self._sessions: dict[str, _Session] = {}
        self._running: dict[str, _Running] = {}
        self._ready: list[Delta] = []
        self._share_s = 0.0
        """accumulated generation time per request in progress, since the start of the backend"""

    @property
    def cache_usage(self) -> CacheUsage:
        """Use of the KV cache. May be read by any thread."""
        return self.engine.cache_usage

    def submit(self, request: GenerationRequest) -> None:
        """Accept a request. For an invalid prompt `poll` returns an error of this request."""
        assert request.id not in self._running, f"two requests have the id {request.id!r}"
        try:
            prompt, images = self._prompt(request)
        except PixelReasonerError as error:
            self._ready.append(Delta(request.id, error=error))
            return
        limit = self.model.context_limit(request.sampling)
        if len(prompt.ids) + request.sampling.max_new_tokens > limit:
            full = ContextFull(len(prompt.ids), limit)
            self._ready.append(Delta(request.id, completion=full))
            return
        sequence = Sequence(
            list(prompt.ids),
            images,
            request.sampling.max_new_tokens,
            id=request.id,
            sampling=request.sampling,
        )
        stream = TextStream(self.model.decode) if request.stream else None
        self._running[request.id] = _Running(
            request.session, sequence, prompt, self._share_s, stream
        )
        self._session(request.session).requests.add(request.id)
        self.engine.add_request(sequence)

    def poll(self, timeout_s: float, num_busy_cores: int = 0) -> list[Delta]:
        """Run one step of the engine if any request is unfinished. Returns new deltas. Never waits."""
        del timeout_s
        deltas, self._ready = self._ready, []
        if not self.engine.has_unfinished:
            return deltas
        started = time.perf_counter()
        try:
            with _leave_cores(num_busy_cores if self.capabilities.shares_cores else 0):
                finished = self.engine.step()
        except torch.OutOfMemoryError as error:
            return deltas + self._out_of_memory_errors(error)
        self._share_s += (time.perf_counter() - started) / len(self._running)
        done = [self._finish(sequence) for sequence in finished]
        return deltas + self._streamed() + done

    def cancel(self, id: str) -> None:
        """Stop a request in any state. Its slot is free immediately."""
        self._ready = [delta for delta in self._ready if delta.id != id]
        running = self._running.pop(id, None)
        if running is not None:
            self.engine.cancel(running.sequence)
            self._sessions[running.session].requests.discard(id)

    def release(self, session: str) -> None:
        """Cancel the requests of a conversation and free its cache."""
        known = self._sessions.get(session)
        if known is None:
            return
        for id in list(known.requests):
            self.cancel(id)
        for sequence in known.finished:
            self.engine.release(sequence)
        del self._sessions[session]

    def clear(self) -> None:
        """Drop all cached state after a change of the weights."""
        assert not self._running, "weights change between requests"
        self.engine.clear()

    def close(self) -> None:
        """Cancel all requests and free all memory."""
        for session in list(self._sessions):
            self.release(session)
        self._ready.clear()
        self.engine.clear()

    @property
    def sessions(self) -> tuple[str, ...]:
        """Names of conversations that are in progress or cached."""
        return tuple(self._sessions)

    # --- prompts ---

    def _session(self, name: str) -> _Session:
        return self._sessions.setdefault(name, _Session())

    def _prompt(self, request: GenerationRequest) -> tuple[TokenizedText, tuple[ImageInput, ...]]:
        """Return the text and ids of a request. Ids of earlier turns are reused."""
        text = self.model.render(request.messages)
        family = self.engine.family
        images = family.link_images(
            [ImageInput.of(one) for one in collect_images(request.messages)]
        )
        history = self._history(request.session, text, images)
        num_earlier = len(history.images)
        new = PromptText(
            text[len(history.text) :],
            images[num_earlier:],
            num_earlier,
            is_start=not history.text,
        )
        ids = family.prompt_ids(self.model.processor, new, self.model.tokenize)
        digests = tuple(one.digest for one in images)
        return TokenizedText(text, digests, history.ids + ids), images

    def _history(self, session: str, text: str, images: SequenceOf[ImageInput]) -> TokenizedText:
        """Return the longest cached conversation that is a prefix of a prompt, from its session or the session it forked from."""
        own = self._sessions.get(session)
        candidates = [own] if own is not None and own.history else self._sessions.values()
        found = [
            one.history
            for one in candidates
            if one.history is not None and one.history.is_prefix_of(text, images)
        ]
        empty = TokenizedText("", (), [])
        return max(found, key=lambda one: len(one.text), default=empty)

    # --- results ---

    def _streamed(self) -> list[Delta]:
        deltas = []
        for id, running in self._running.items():
            if running.stream is not None:
                new = running.sequence.new_ids[running.num_streamed :]
                running.num_streamed += len(new)
                if text := running.stream.push(new):
                    deltas.append(Delta(id, text))
        return deltas

    def _finish(self, sequence: Sequence) -> Delta:
        running = self._running.pop(sequence.id)
        completion: Completion = self.model.completion(
            sequence.new_ids,
            sequence.logprobs,
            sequence.num_prompt_tokens,
            sequence.num_reused,
        )
        # The chat template adds the end token of a turn.
        ids = sequence.ids if completion.truncated else sequence.ids[:-1]
        prompt, session = running.prompt, self._sessions[running.session]
        session.history = TokenizedText(prompt.text + completion.text, prompt.images, ids)
        session.requests.discard(sequence.id)
        finished = (*session.finished, sequence)
        session.finished = [one for one in finished if self.engine.is_retained(one)]
        text = "" if running.stream is None else running.stream.finish(completion.text)
        seconds = self._share_s - running.started_at
        return Delta(sequence.id, text, completion=completion, seconds=seconds)

    def _out_of_memory_errors(self, error: Exception) -> list[Delta]:
        """Return error deltas for the requests whose prefill ran out of memory. The engine has cancelled them."""
        in_engine = {*self.engine.running, *self.engine.waiting}
        lost = [id for id, one in self._running.items() if one.sequence not in in_engine]
        if not lost:
            raise error
        failure = ModelError(
            expected="memory for the prompts of this batch",
            got=str(error).splitlines()[0],
            fix="lower the batch size or the pixel budgets",
        )
        for id in lost:
            self._sessions[self._running.pop(id).session].requests.discard(id)
        return [Delta(id, error=failure) for id in lost]


@contextmanager
def _leave_cores(num_busy: int) -> Iterator[None]:
    """Reduce the torch threads by the number of busy cores. A torch thread that waits for a core slows down all others."""
    num_threads = torch.get_num_threads()
    if not num_busy or num_threads == 1:
        yield
        return
    torch.set_num_threads(max(1, num_threads - num_busy))
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
