"""Generation of RL rollouts with vLLM servers.

Every training process sends its own requests, so the loop over turns needs no collective calls. Requests of one rollout go to the same
server, which keeps the keys and values of its conversation.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

import torch

from pixel_reasoner.models.engine.sequence import image_digest
from pixel_reasoner.train.rollouts.turn_source import GeneratedTurn, TurnRequest
from pixel_reasoner.train.vllm.client import Prompt, ServerDown, VllmClient
from pixel_reasoner.train.vllm.servers import Interrupted, VllmServers

BANNED_BIAS = -100.0
"""logit bias of a token that must not be generated; vLLM's minimum"""
_MAX_SEED = 2**31
_POLL_S, _ABORT_POLL_S = 1.0, 0.2


class Limits(NamedTuple):
    """Sampling of a trainer."""

    sampling: dict[str, Any]
    """vLLM's names and values, without `max_tokens` and `seed`"""
    max_new_tokens: int
    max_context: int
    """maximum tokens of prompt and turn"""


class _Job(NamedTuple):
    """Request with its server and its random seed."""

    request: TurnRequest
    client: VllmClient
    request_id: str
    seed: int


class VllmTurnSource:
    """Turn source that generates with vLLM servers: `TurnSource` and `ContinuousTurnSource`.

    Args:
        servers: servers with the current weights.
        limits: sampling parameters and token limits.
    """

    def __init__(self, servers: VllmServers, limits: Limits) -> None:
        self.servers, self.limits = servers, limits
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[tuple[int, GeneratedTurn | Exception]] = (
            queue.SimpleQueue()
        )
        self._running: dict[int, _Job] = {}
        self._num_workers = 0
        self._is_interrupted = False

    def clear(self) -> None:
        """Do nothing: loading weights clears the caches of the servers."""

    def close(self) -> None:
        """End the threads. No request may be in progress."""
        for _ in range(self._num_workers):
            self._waiting.put(None)
        self._num_workers = 0

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return the token ids of one turn per prompt, including the end token, and their logprobs.

        Raises:
            EndpointError: a server does not answer within `wait_s` or rejects a request.
        """
        images = images or [None] * len(prompt_ids)
        for key, (ids, some) in enumerate(zip(prompt_ids, images, strict=True)):
            self.submit(TurnRequest(key, ids, some or (), self.limits.max_new_tokens))
        found: dict[int, GeneratedTurn] = {}
        try:
            while self._running:
                found |= {one.key: one for one in self.poll(_POLL_S)}
        except BaseException:
            self._is_interrupted = True  # workers end their requests; the run stops
            self._abort_running()
            raise
        turns = [found[key] for key in range(len(prompt_ids))]
        return [one.ids for one in turns], [one.logprobs for one in turns]

    # --- ContinuousTurnSource ---

    def submit(self, request: TurnRequest) -> None:
        """Queue a request. Its random seed comes from torch's generator, in the order of the calls."""
        assert request.key not in self._running, "keys of requests in progress are unique"
        seed = int(torch.randint(_MAX_SEED, ()))
        job = _Job(request, self._choose_client(request), uuid4().hex, seed)
        self._running[request.key] = job
        self._waiting.put(job)
        if self._num_workers < min(len(self._running), self.servers.options.concurrency):
            self._num_workers += 1
            # A daemon thread: a server that hangs must not delay the end of the process.
            threading.Thread(target=self._work, daemon=True).start()

    def poll(self, timeout_s: float) -> list[GeneratedTurn]:
        """Return the turns that finished, after at most `timeout_s` seconds.

        Raises:
            EndpointError: a server does not answer within `wait_s` or rejects a request.
        """
        turns: list[GeneratedTurn] = []
        is_waiting = bool(self._running)
        while self._running:
            try:
                key, found = self._finished.get(is_waiting, timeout_s)
            except queue.Empty:
                break
            is_waiting = False
            del self._running[key]
            if isinstance(found, Exception):
                raise found
            turns.append(found)
        return turns

    def release(self, key: int) -> None:
        """Do nothing: a server evicts what it has cached by itself."""

    def interrupt(self) -> list[GeneratedTurn]:
        """End all requests in progress and return what they have generated.

        Raises:
            EndpointError: a server has rejected a request.
        """
        self._is_interrupted = True
        turns: list[GeneratedTurn] = []
        while self._running:
            self._abort_running()  # again: a request may not have reached the server before
            turns += self.poll(_ABORT_POLL_S)
        self._is_interrupted = False
        return turns

    def _abort_running(self) -> None:
        ids: dict[VllmClient, list[str]] = {}
        for job in self._running.values():
            ids.setdefault(job.client, []).append(job.request_id)
        for client, some in ids.items():
            with suppress(ServerDown):
                client.abort(some)

    def _choose_client(self, request: TurnRequest) -> VllmClient:
        """Return the server of a question: it has cached the keys and values of its pictures."""
        clients = self.servers.clients
        if len(clients) == 1:
            return clients[0]
        if request.images:
            return clients[
                int.from_bytes(image_digest(request.images[0])[:4], "big") % len(clients)
            ]
        loads = Counter(id(job.client) for job in self._running.values())
        return min(clients, key=lambda one: loads[id(one)])

    # --- threads ---

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                found: GeneratedTurn | Exception = self._generate(job)
            except Exception as error:  # noqa: BLE001 - `poll` raises it in the thread of the run
                found = error
            self._finished.put((job.request.key, found))

    def _generate(self, job: _Job) -> GeneratedTurn:
        request = job.request
        room = self.limits.max_context - len(request.prompt_ids)
        sampling = self.limits.sampling | {
            "seed": job.seed,
            "max_tokens": max(1, min(request.max_new_tokens, room)),
        }
        try:
            found = self.servers.generate(
                job.client,
                Prompt(request.prompt_ids, request.images),
                sampling,
                job.request_id,
                lambda: self._is_interrupted,
            )
        except Interrupted:
            return GeneratedTurn(request.key, [], [], is_interrupted=True)
        return GeneratedTurn(request.key, found.ids, found.logprobs, found.is_aborted)
