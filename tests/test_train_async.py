"""Asynchronous rollouts: bounded staleness, no question lost or repeated, interrupted turns, resumed runs."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.errors import UsageError
from pixel_reasoner.reports.training_log import LOG
from pixel_reasoner.schema.question import Question
from pixel_reasoner.train.callbacks import LogCallback
from pixel_reasoner.train.rl import train_rl
from pixel_reasoner.train.rollouts.asynchronous import AsyncRollouts, AsyncSizes
from pixel_reasoner.train.rollouts.question_order import QuestionOrder
from pixel_reasoner.train.rollouts.turn_source import GeneratedTurn
from rl_fixture import run_of

QUESTIONS = [Question(id=f"q{n}", text="?", media=()) for n in range(7)]
LIMIT = 64
"""maximum tokens of a turn"""


class Rollouts:
    """Rollouts of as many turns as the policy has, recorded instead of executed."""

    config = SimpleNamespace(sampling=SimpleNamespace(max_new_tokens=LIMIT))

    def __init__(self, num_turns) -> None:
        self.num_turns = num_turns

    def begin(self, questions):
        prompt = SimpleNamespace(ids=[0], pictures=())
        return [
            SimpleNamespace(question=one, prompt=prompt, left=self.num_turns(), turns=[])
            for one in questions
        ]

    def take_turn(self, one, ids, logprobs, seconds) -> None:
        assert len(ids) == len(logprobs) <= LIMIT
        assert seconds >= 0
        one.turns.append((ids, logprobs))
        one.left -= 1

    def prepare_turn(self, one) -> None:
        one.prompt = one.prompt if one.left else None

    def finish(self, one, settings, *, has_logprobs):
        return one


class Source:
    """Source that adds one token per poll to each request. The token's log-probability is the policy's number."""

    def __init__(self, length) -> None:
        self.length = length
        self.policy = 0
        self.requests = {}
        self.released = []

    def submit(self, request) -> None:
        assert request.key not in self.requests
        assert request.max_new_tokens > 0
        length = min(self.length(), request.max_new_tokens)
        self.requests[request.key] = SimpleNamespace(
            prompt=request.prompt_ids, ids=[], length=length
        )

    def poll(self, timeout_s):
        turns = []
        for key, one in list(self.requests.items()):
            one.ids.append(1)
            if len(one.ids) == one.length:
                del self.requests[key]
                turns.append(GeneratedTurn(key, one.ids, [float(self.policy)] * len(one.ids)))
        return turns

    def interrupt(self):
        turns = [
            GeneratedTurn(key, one.ids, [float(self.policy)] * len(one.ids), is_interrupted=True)
            for key, one in self.requests.items()
        ]
        self.requests.clear()
        return turns

    def clear(self) -> None:
        assert not self.requests, "new weights while older ones generate"
        self.policy += 1

    def release(self, key) -> None:
        self.released.append(key)


@st.composite
def runs(draw):
    """Return asynchronous rollouts whose turns have random numbers and lengths."""
    numbers = draw(st.randoms(use_true_random=False))
    sizes = AsyncSizes(
        group_size=draw(st.integers(2, 4)),
        groups_per_sync=draw(st.integers(1, 4)),
        max_staleness=draw(st.integers(0, 3)),
        max_running=draw(st.integers(4, 20)),
    )
    return AsyncRollouts(
        Rollouts(lambda: numbers.choice((1, 1, 2, 5))),
        Source(lambda: numbers.choice((1, 2, 3, 40, 90))),
        QuestionOrder(QUESTIONS, seed=0, rank=0, world=1),
        sizes,
    )


def advance(rollouts: AsyncRollouts, num_polls: int) -> None:
    """Generate between two syncs, as the thread of rollouts on a server does."""
    for _ in range(num_polls):
        rollouts._start_groups(None)
        if rollouts._running:
            rollouts._advance()


@given(runs(), st.sampled_from([0, 1, 30, 200]))
@settings(max_examples=60, deadline=None)
def test_staleness_is_bounded_and_no_question_is_lost_or_repeated(rollouts, num_polls):
    sizes, used = rollouts.sizes, []
    for _ in range(5):
        first_unused = list(rollouts.unused_numbers)
        groups = rollouts.next_groups(None)
        assert [len(one) for one in groups] == [sizes.group_size] * sizes.groups_per_sync
        assert rollouts.metrics["async/max_staleness"] <= sizes.max_staleness
        assert len(rollouts._running) <= sizes.max_running
        used += groups
        advance(rollouts, num_polls)
        left = rollouts.unused_numbers
        assert left == sorted(left)
        assert set(first_unused) - set(left) <= set(first_unused)
    order = QuestionOrder(QUESTIONS, seed=0, rank=0, world=1)
    started = [q for _, q in islice(order, rollouts.questions.next_number)]
    unused = [started[number] for number in rollouts.unused_numbers]
    found = [group[0].question.id for group in used]
    assert sorted(found + [one.id for one in unused]) == sorted(one.id for one in started)
    assert all(len({one.question.id for one in group}) == 1 for group in used)
    assert len(rollouts.source.released) == sum(
        not one.left for group in rollouts._groups for one in group.rollouts
    ) + sum(map(len, used))


@given(runs())
@settings(max_examples=60, deadline=None)
def test_an_interrupted_turn_continues_and_each_token_has_the_logprob_of_its_policy(rollouts):
    for policy in range(1, 5):
        for one in (one for group in rollouts.next_groups(None) for one in group):
            for ids, logprobs in one.turns:
                assert len(ids) == len(logprobs)
                assert logprobs == sorted(logprobs)
                assert logprobs[-1] <= policy
                assert policy - logprobs[0] <= rollouts.sizes.max_staleness


class OneSlowRollout(Source):
    """Source in which each request of the first rollout takes 60 polls, and one poll every other."""

    def submit(self, request) -> None:
        self.length = lambda: 60 if request.key == 0 else 1
        super().submit(request)


def test_no_sync_waits_for_the_slowest_rollout_before_it_is_due():
    rollouts = AsyncRollouts(
        Rollouts(lambda: 1),
        OneSlowRollout(None),
        QuestionOrder(QUESTIONS, seed=0, rank=0, world=1),
        AsyncSizes(group_size=2, groups_per_sync=2, max_staleness=2, max_running=6),
    )
    for _ in range(2):
        rollouts.next_groups(None)
        assert rollouts.unused_numbers[0] == 0
        assert rollouts.metrics["async/max_staleness"] <= 1
    rollouts.next_groups(None)
    assert 0 not in rollouts.unused_numbers
    assert rollouts.metrics["async/max_staleness"] == 2


# --- the order of questions ---


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.lists(st.integers(0, 30), min_size=4, max_size=4),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_checkpoint_of_any_number_of_processes_continues_without_gaps(
    tmp_path_factory, before, after, counts, data
):
    folder = tmp_path_factory.mktemp("checkpoint")
    used = set()
    for rank in range(before):
        order = QuestionOrder(QUESTIONS, seed=1, rank=rank, world=before)
        started = [one.number for one in islice(order, counts[rank])]
        unused = data.draw(st.lists(st.sampled_from(started), unique=True)) if started else []
        order.save(folder, unused)
        used |= set(started) - set(unused)
    orders = [QuestionOrder(QUESTIONS, seed=1, rank=rank, world=after) for rank in range(after)]
    for one in orders:
        one.load(folder)
    most = max(one.next_number for one in orders)
    later = [[one.number for one in islice(order, 200)] for order in orders]
    merged = [number for some in later for number in some]
    assert len(set(merged)) == len(merged)
    assert not used & set(merged)
    assert set(range(most)) <= used | set(merged)


def test_every_epoch_has_all_questions_in_its_own_order():
    order = QuestionOrder(QUESTIONS, seed=3, rank=0, world=1)
    epochs = [[one.question.id for one in islice(order, 7)] for _ in range(3)]
    assert all(sorted(one) == [f"q{n}" for n in range(7)] for one in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


# --- runs ---

SIZES = {"questions_per_sync": 2, "minibatch": 8, "rollouts_at_once": 8, "max_staleness": 1}


@pytest.mark.medium
@pytest.mark.extras
def test_an_asynchronous_run_trains_with_correction_and_resumes_its_unused_questions(
    tmp_path, monkeypatch
):
    def run(stop_at: int = 0):
        trl = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        with monkeypatch.context() as patch:

            def stop(self, args, state, control, **kwargs):
                control.should_training_stop |= state.global_step == stop_at

            patch.setattr(LogCallback, "on_step_end", stop)
            train_rl(run_of(tmp_path / "run", **SIZES, trl=trl))

    asked = []
    begin = AsyncRollouts._submit

    def submit(self, one):
        if not one.active.rollout.turns and not one.ids:
            asked.append(one.group.number)
        begin(self, one)

    monkeypatch.setattr(AsyncRollouts, "_submit", submit)
    run(stop_at=2)
    state = json.loads((tmp_path / "run" / "checkpoint-2" / "questions-0.json").read_text())
    assert state["unused"]
    asked.clear()
    run()
    assert list(dict.fromkeys(asked))[: len(state["unused"])] == sorted(state["unused"])
    rows = [json.loads(one) for one in (tmp_path / "run" / LOG).read_text().splitlines()]
    rows = [one for one in rows if "loss" in one]
    assert [one["step"] for one in rows] == [1, 2, 3, 4]
    assert {one["async/max_staleness"] for one in rows} <= {0.0, 1.0}
    assert all(one["sampling/importance_sampling_ratio/mean"] > 0 for one in rows)
    fresh = rows[0]  # all its tokens are of the trained policy
    assert fresh["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-3)


@pytest.mark.extras
def test_rollouts_of_trl_cannot_be_asynchronous(tmp_path):
    trl = {"repetition_penalty": 1.1}
    with pytest.raises(UsageError, match="max_staleness"):
        train_rl(run_of(tmp_path / "run", **SIZES, trl=trl))
    assert not list(Path(tmp_path / "run").glob("checkpoint-*"))
