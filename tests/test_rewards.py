"""Rewards of a group: values computed by hand, and laws for every group."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import CallErrorKind, Observation, StopReason, Trace, Turn
from pixel_reasoner.scoring import rewards
from pixel_reasoner.scoring.rewards import RewardConfig, Variant

PAPER = RewardConfig()
RELEASED = RewardConfig(variant=Variant.RELEASED_CODE)
RIGHT_ONLY = RewardConfig(curiosity_for_right_answers_only=True)

# Settings, correct, operations, expected rewards: each line computed by hand.
GROUPS = {
    "no operations": (PAPER, [1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0]),
    "one operation each": (PAPER, [1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0]),
    "one of eight with an operation": (
        PAPER,
        [0, 1, 0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0.5 * (0.3 - 0.125), 1, 0, 0, 0, 0, 0, 1],  # 0.0875
    ),
    "two of eight with operations, one of them with three": (
        PAPER,
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 3, 0, 0, 0, 0, 0, 0],
        [1.025, 0.025 - 0.1, 0, 0, 0, 0, 0, 0],
    ),
    "three of eight are enough": (
        PAPER,
        [1, 0, 1, 0, 0, 0, 0, 0],
        [1, 2, 1, 0, 0, 0, 0, 0],
        [1, -0.05, 1, 0, 0, 0, 0, 0],
    ),
    "no curiosity": (RewardConfig(alpha=0), [0, 1], [1, 0], [0, 1]),
    "no cost": (RewardConfig(beta=0), [0, 1], [9, 9], [0, 1]),
    "two operations are free": (RewardConfig(N=2), [1, 1], [2, 3], [1, 0.95]),
    "curiosity for right answers alone": (
        RIGHT_ONLY,
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1.025, 0, 0, 0, 0, 0, 0, 0],
    ),
    "released code, one of eight": (
        RELEASED,
        [0, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [(0.3 - 0.125) / 2 / 0.125 * 0.25, 1, 0, 0, 0, 0, 0, 0],  # 0.175
    ),
    "released code, two of eight, twice": (
        RELEASED,
        [0, 0, 0, 0, 0, 0, 0, 0],
        [1, 2, 0, 0, 0, 0, 0, 0],
        [0.025, 0.025 - 0.05, 0, 0, 0, 0, 0, 0],
    ),
    "released code, no operations": (RELEASED, [0, 1], [0, 0], [0, 1]),
}


@pytest.mark.parametrize("name", GROUPS)
def test_rewards_of_a_group_equal_values_computed_by_hand(name):
    config, correct_G, num_operations_G, expected = GROUPS[name]
    assert rewards.shape_rewards(correct_G, num_operations_G, config) == pytest.approx(expected)


def test_the_upstream_code_pays_more_for_videos():
    shaped = rewards.group_rewards([0] * 8, [1, *[0] * 7], RELEASED, is_video=True)
    assert shaped.curiosity_G[0] == pytest.approx(0.175 / 1.5 / 0.125 * 0.25)  # 0.2333
    assert rewards.shape_rewards([0] * 8, [1, *[0] * 7], PAPER, is_video=True)[0] == pytest.approx(
        0.0875
    )


groups = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 9)), min_size=1)
configs = st.builds(
    RewardConfig,
    alpha=st.floats(0, 2),
    beta=st.floats(0, 1),
    H=st.floats(0, 1),
    N=st.integers(0, 4),
    variant=st.sampled_from(Variant),
    curiosity_for_right_answers_only=st.booleans(),
)


@given(groups, configs)
def test_curiosity_is_paid_below_h_to_rollouts_with_operations(group, config):
    correct_G, num_operations_G = zip(*group, strict=True)
    shaped = rewards.group_rewards(correct_G, num_operations_G, config)
    for bonus, count in zip(shaped.curiosity_G, num_operations_G, strict=True):
        assert bonus >= 0
        assert not bonus or (count and rewards.rapr(num_operations_G) < config.H)


@given(st.integers(2, 16), configs)
def test_curiosity_decreases_with_the_rapr_of_the_group(size, config):
    bonuses = [
        rewards.curiosity([1] * looking + [0] * (size - looking), config)[0]
        for looking in range(1, size + 1)
    ]
    assert bonuses == sorted(bonuses, reverse=True)


@given(groups, configs)
def test_cost_is_never_positive_and_increases_with_operations(group, config):
    num_operations_G = sorted(count for _, count in group)
    cost_G = rewards.cost(num_operations_G, config)
    assert all(one <= 0 for one in cost_G)
    assert cost_G == sorted(cost_G, reverse=True)


@given(groups, configs, st.randoms())
def test_shaping_is_equivariant_to_the_order_of_a_group(group, config, random):
    order = list(range(len(group)))
    random.shuffle(order)
    plain = rewards.shape_rewards(*zip(*group, strict=True), config)
    mixed = rewards.shape_rewards(*zip(*[group[i] for i in order], strict=True), config)
    assert mixed == [plain[i] for i in order]


@given(groups, configs)
def test_rewards_are_the_sum_of_their_terms(group, config):
    shaped = rewards.group_rewards(*zip(*group, strict=True), config)
    assert shaped.rewards_G == pytest.approx([sum(terms) for terms in zip(*shaped, strict=True)])
    assert rewards.shape_rewards(*zip(*group, strict=True), config) == shaped.rewards_G


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -0.1},
        {"alpha": float("nan")},
        {"beta": -1},
        {"H": 1.5},
        {"H": float("nan")},
        {"N": -1},
        {"unparsed": 1},
        {"variant": "papier"},
    ],
)
def test_invalid_constants_are_an_error(wrong):
    with pytest.raises(UsageError) as error:
        RewardConfig(**wrong)
    assert next(iter(wrong)) in str(error.value)


DONE = Observation(text="")
NO = Observation(text="no", error=CallErrorKind.BAD_BOX)


def _trace(
    *observations: Observation, answer: str | None = "red", stop=StopReason.ANSWERED
) -> Trace:
    question = Question(id="1", text="?", media=(), answer=("red",))
    turns = tuple(Turn(text="look", observations=(one,)) for one in observations)
    return Trace(question=question, turns=turns, stop=stop, answer=answer)


def test_only_executed_operations_count_except_in_the_upstream_code():
    trace = _trace(DONE, NO, DONE)
    assert rewards.num_operations(trace, PAPER) == 2
    assert rewards.num_operations(trace, RELEASED) == 3


@pytest.mark.parametrize(
    ("observations", "paper", "strict"),
    [((), 1, 1), ((DONE,), 1, 1), ((NO,), 1, 0), ((NO, DONE), 1, 1), ((DONE, NO), 1, 0)],
)
def test_an_unrepaired_tool_error_can_make_an_answer_wrong(observations, paper, strict):
    trace = _trace(*observations)
    assert rewards.correctness(trace, PAPER) == paper
    assert rewards.correctness(trace, RewardConfig(ignored_refusal_is_wrong=True)) == strict
    assert rewards.correctness(trace, RELEASED) == strict


def test_the_reward_without_an_answer_follows_the_config():
    silent = _trace(answer=None, stop=StopReason.MAX_TURNS)
    assert rewards.correctness(silent, PAPER) == 0
    assert rewards.correctness(silent, RewardConfig(unparsed=-1)) == -1
    assert rewards.correctness(_trace(answer="blue"), RewardConfig(unparsed=-1)) == 0
