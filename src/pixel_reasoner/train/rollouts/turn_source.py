"""Interfaces between the rollouts of a training run and what generates their turns.

    TurnSource            one turn for each of several prompts; the batch ends with its longest turn
    ContinuousTurnSource  turns of many rollouts that start and finish at any time

`engine_source` and `gathered_source` generate with the engine, `vllm.source` with vLLM servers, `generator.TrlTurnSource` with TRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable


class TurnSource(Protocol):
    """Generator of one turn for each of several prompts."""

    def clear(self) -> None:
        """Clear everything computed with older weights. A new set of rollouts starts."""

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Return the token ids of each turn, including the end token, and their log-probabilities if available."""
        ...


class TurnRequest(NamedTuple):
    """Request to generate one turn, or the rest of an interrupted turn."""

    key: int
    """number of the rollout, which has one request in progress at most"""
    prompt_ids: Sequence[int]
    """the whole conversation so far, with one placeholder token per visual token"""
    images: Sequence[Any]
    """pictures in placeholder order"""
    max_new_tokens: int


class GeneratedTurn(NamedTuple):
    """New tokens of a request."""

    key: int
    ids: list[int]
    """new token ids, including the end token"""
    logprobs: list[float]
    """log-probability of each new token under the policy that sampled it"""
    is_interrupted: bool = False
    """whether `interrupt` ended the turn, so that its rest is still to be generated"""


@runtime_checkable
class ContinuousTurnSource(TurnSource, Protocol):
    """Generator of turns of many rollouts that start and finish at any time. Not thread-safe."""

    def submit(self, request: TurnRequest) -> None:
        """Queue a request."""

    def poll(self, timeout_s: float) -> list[GeneratedTurn]:
        """Make progress for at most about `timeout_s` seconds, and return the turns that finished, possibly none.

        Raises:
            EndpointError: the server does not answer.
        """
        ...

    def release(self, key: int) -> None:
        """Free what is cached of a rollout that has stopped."""

    def interrupt(self) -> list[GeneratedTurn]:
        """End all requests in progress and return what they have generated: tokens of new weights must not use older keys and values."""
        ...
