"""Asynchronous rollouts: groups finish in any order, and a policy sync takes those that have finished.

Lockstep rollouts wait for the slowest rollout of a sync, and a batch shrinks until its longest rollout is finished. Here
the batch stays full. When the weights change, turns in progress are interrupted and their rest is generated with the new
weights (partial rollouts), so one rollout can contain tokens of several policies. Each token keeps the log-probability
under the policy that sampled it, which the importance-sampling correction needs.

Staleness of a group: policy syncs between its start and its use in training. It is bounded by admission: at most
`(max_staleness + 1) * groups_per_sync` groups have been started and not used. Finished groups are used oldest first. A
sync waits for an unfinished group only if the group would become too stale otherwise, and no group is ever discarded.
Discarding stale groups would train fewer
long rollouts than the policy generates.

All rollouts of a group start together, with one policy. Rates of a group (curiosity) are therefore rates of one policy.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.train.rollouts.generator import (
    ActiveRollout,
    GeneratedRollout,
    RolloutGenerator,
)
from pixel_reasoner.train.rollouts.question_order import QuestionOrder
from pixel_reasoner.train.rollouts.turn_source import (
    ContinuousTurnSource,
    GeneratedTurn,
    TurnRequest,
)

POLL_TIMEOUT_S = 0.2


class AsyncSizes(NamedTuple):
    """Sizes of asynchronous rollouts of one process."""

    group_size: int
    groups_per_sync: int
    max_staleness: int
    """maximum number of policy syncs between the start of a group and its use"""
    max_running: int
    """maximum number of unfinished rollouts"""


@dataclass(eq=False)
class _Group:
    """Rollouts of one question."""

    number: int
    """number of the question in the order of the run"""
    sync: int
    """policy sync in which it started"""
    settings: RunSettings
    rollouts: list[ActiveRollout]
    num_unfinished: int
    num_interruptions: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether all rollouts have stopped."""
        return not self.num_unfinished


@dataclass(eq=False)
class _Running:
    """Unfinished rollout and what is generated of its turn."""

    key: int
    group: _Group
    active: ActiveRollout
    share_at_start_s: float
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def extend(self, new: GeneratedTurn) -> None:
        """Append new tokens of the turn."""
        self.ids += new.ids
        self.logprobs += new.logprobs


class AsyncRollouts:
    """Generator of rollout groups with bounded staleness.

    Args:
        generator: starts and continues rollouts.
        source: generates turns.
        questions: questions of this process.
        sizes: sizes and the bound of the staleness.
        load_weights: loads the current weights into the servers that generate.
    """

    def __init__(
        self,
        generator: RolloutGenerator,
        source: ContinuousTurnSource,
        questions: QuestionOrder,
        sizes: AsyncSizes,
        load_weights: Callable[[], None] = lambda: None,
    ) -> None:
        self.generator, self.source, self.questions = generator, source, questions
        self.sizes, self.load_weights = sizes, load_weights
        self.metrics: dict[str, float] = {}
        """metrics of the last policy sync"""
        self._sync = -1
        self._is_taken = True
        """whether the groups of the current sync were taken, so that the next sync uses those that start now"""
        self._groups: list[_Group] = []
        """groups that were started and not used, oldest first"""
        self._running: dict[int, _Running] = {}
        self._keys = itertools.count()
        self._share_s = 0.0
        """accumulated generation time per unfinished rollout"""

    @property
    def is_started(self) -> bool:
        """Whether groups have been requested."""
        return self._sync >= 0

    @property
    def unused_numbers(self) -> list[int]:
        """Numbers of the questions whose groups were started and not used."""
        return [one.number for one in self._groups]

    def next_groups(self, settings: RunSettings) -> list[list[GeneratedRollout]]:
        """Return the groups of the next policy sync, oldest first. The weights must not change during the call.

        Args:
            settings: settings that the traces of groups record which start now.

        Raises:
            InputError: unusable media.
            EndpointError: the server that generates does not answer.
        """
        self._begin_sync()
        while not self._is_ready():
            self._start_groups(settings)
            self._advance()
        return self._take_groups()

    def next_rollouts(self, settings: RunSettings) -> list[GeneratedRollout]:
        """Return the rollouts of `next_groups`, group by group."""
        return [one for group in self.next_groups(settings) for one in group]

    def close(self) -> None:
        """Interrupt all rollouts."""
        self.source.interrupt()
        self._running.clear()

    def _begin_sync(self) -> None:
        self._sync, self._is_taken = self._sync + 1, False
        self._continue_with_new_weights()

    def _is_ready(self) -> bool:
        """Return whether enough groups are finished, and no other one would become too stale if these are used now."""
        taken, left = self._split()
        limit, size = self.sizes.max_staleness, self.sizes.groups_per_sync
        # At the latest, the group at place n is used n // size syncs after the next one.
        latest = (self._sync + 1 + n // size - one.sync for n, one in enumerate(left))
        return len(taken) == size and all(one <= limit for one in latest)

    def _split(self) -> tuple[list[_Group], list[_Group]]:
        """Return the oldest finished groups, as many as a sync uses, and the others."""
        taken = [one for one in self._groups if one.is_finished][: self.sizes.groups_per_sync]
        return taken, [one for one in self._groups if one not in taken]

    def _take_groups(self) -> list[list[GeneratedRollout]]:
        taken, self._groups = self._split()
        self._is_taken = True
        staleness = [self._sync - one.sync for one in taken]
        assert max(staleness) <= self.sizes.max_staleness
        self.metrics = {
            "async/staleness": statistics.fmean(staleness),
            "async/max_staleness": float(max(staleness)),
            "async/interruptions": statistics.fmean(one.num_interruptions for one in taken),
            "async/unfinished_rollouts": float(len(self._running)),
        }
        finish = self.generator.finish
        return [
            [finish(active, one.settings, has_logprobs=True) for active in one.rollouts]
            for one in taken
        ]

    # --- generation ---

    def _start_groups(self, settings: RunSettings) -> None:
        """Start groups as long as their staleness is bounded and the batch has room."""
        sizes = self.sizes
        num_syncs = sizes.max_staleness + (0 if self._is_taken else 1)
        most_groups = num_syncs * sizes.groups_per_sync
        most_running = sizes.max_running - sizes.group_size
        while len(self._groups) < most_groups and len(self._running) <= most_running:
            number, question = next(self.questions)
            rollouts = self.generator.begin([question] * sizes.group_size)
            group = _Group(number, self._sync, settings, rollouts, len(rollouts))
            self._groups.append(group)
            for active in rollouts:
                self._submit(_Running(next(self._keys), group, active, self._share_s))

    def _submit(self, one: _Running) -> None:
        """Request the rest of a rollout's turn."""
        self._running[one.key] = one
        prompt = one.active.prompt
        assert prompt is not None
        rest = self.generator.config.sampling.max_new_tokens - len(one.ids)
        self.source.submit(TurnRequest(one.key, prompt.ids + one.ids, prompt.pictures, rest))

    def _advance(self) -> None:
        """Wait for finished turns, execute their calls and request the next turns."""
        started, num_running = time.perf_counter(), len(self._running)
        turns = self.source.poll(POLL_TIMEOUT_S)
        self._share_s += (time.perf_counter() - started) / num_running
        for new in turns:
            one = self._running.pop(new.key)
            one.extend(new)
            self._take_turn(one)

    def _take_turn(self, one: _Running) -> None:
        seconds = self._share_s - one.share_at_start_s
        self.generator.take_turn(one.active, one.ids, one.logprobs, seconds)
        self.generator.prepare_turn(one.active)
        if one.active.prompt is None:
            self.source.release(one.key)
            one.group.num_unfinished -= 1
        else:
            self._submit(_Running(one.key, one.group, one.active, self._share_s))

    def _continue_with_new_weights(self) -> None:
        """Interrupt the turns in progress and request their rest, which the current weights generate."""
        interrupted = self.source.interrupt()
        self.load_weights()
        self.source.clear()
        for new in interrupted:
            one = self._running[new.key]
            one.extend(new)
            one.group.num_interruptions += 1
            self._submit(one)
