"""Rewards of rollouts: correctness, curiosity and the cost of operations, as pure functions of one group.

A group is the G rollouts of one question (arXiv 2505.15966, section 4.2). RaPR is the share of rollouts that executed
an
operation, and n_vo(y) is the number of operations that rollout y executed:

    r'(x, y) = r(x, y) + alpha * max(H - RaPR(x), 0) * 1[n_vo(y) >= 1] + beta * min(N - n_vo(y), 0)

If the share of rollouts with operations is below H, each rollout with an operation gets a bonus. Each operation beyond
N
costs beta.

Departures from the paper: none. `Variant.RELEASED_CODE` is the upstream formula, which differs from the paper in three
ways:
the bonus is divided by RaPR and scaled by 1/8 (pictures) or 1/6 (videos) instead of alpha, rejected calls count as
operations, and a right answer whose last call was rejected counts as wrong. Its indexing bug is not reproduced: it
applied the rejected calls of the first group of a batch to every group. Its negative rewards for unparsed answers are
not
reproduced either, unless `unparsed` is set to -1.

`REWARDS` contains rewards of one trace, which a run adds by name (`reward_functions`). Another package adds one with an
entry point:

    [project.entry-points."pixel_reasoner.rewards"]
    short = "my_package:reward_short_answers"

Conventions
    *_G     one value for each rollout of a group, in their order
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

from pixel_reasoner.errors import UsageError
from pixel_reasoner.plugin_checks import is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import Outcome, grade_trace

_Enum = TypeVar("_Enum", bound=StrEnum)
TraceReward = Callable[[Trace], float]
"""reward that depends on one trace alone"""

REWARDS = Registry[TraceReward]("reward", check=is_function("reward", "trace"))
"""rewards of one trace, by name"""
reward = REWARDS.decorator
"""decorator that registers a function of a trace, under its name or `name=`"""


@reward(name="evidence_hit")
def reward_evidence_hit(trace: Trace) -> float:
    """Return 1.0 if executed operations showed the evidence, 0.0 if not or if the question has none."""
    return float(bool(evidence_hit(trace)))


class Variant(StrEnum):
    """Formula of the rewards of a group."""

    PAPER = "paper"
    RELEASED_CODE = "released_code"


class DeltaBaseline(StrEnum):
    """What the score after a call is compared with (`train.turn_rewards`)."""

    NONE = "none"
    """the score before the call"""
    ELSEWHERE = "elsewhere"
    """the score after the same call with a crop of equal size from elsewhere, or with other frames"""
    TWIN = "twin"
    """the score after the same call on the twin's picture, for PixelWorld 2"""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Constants of the reward, named by the paper's symbols."""

    alpha: float = 0.5
    """weight of curiosity; 0 disables it"""
    beta: float = 0.05
    """cost of each operation beyond N; 0 disables it"""
    H: float = 0.3
    """target share of a group's rollouts that use operations, in [0, 1]"""
    N: int = 1
    """number of operations without cost"""
    gamma: float = 0.5
    """reward of the right choice whether to use an operation; only with `probes` (`train.necessity`)"""
    delta: float = 0.0
    """weight of the advantage of single calls, from the rise of the answer's log-probability (`train.turn_rewards`)"""
    delta_baseline: DeltaBaseline = DeltaBaseline.NONE
    """`none`: the rise from before the call; `elsewhere`, `twin`: the rise from the same call with other pixels"""
    correctness: float = 1.0
    """weight of a right answer; 0 in a first stage that pays for other things, such as `evidence_hit`"""
    variant: Variant = Variant.PAPER
    """`paper`, or the formula of the upstream code, which ignores alpha"""
    curiosity_for_right_answers_only: bool = False
    """whether only rollouts with a right answer get the bonus; in the paper all get it"""
    ignored_refusal_is_wrong: bool = False
    """whether a right answer counts as wrong if the last call before it was rejected and not repaired"""
    unparsed: float = 0.0
    """correctness of a rollout without an answer; the upstream code uses -1"""

    def __post_init__(self) -> None:
        """Reject constants outside their range."""
        object.__setattr__(self, "variant", _member("variant", self.variant, Variant))
        baseline = _member("delta_baseline", self.delta_baseline, DeltaBaseline)
        object.__setattr__(self, "delta_baseline", baseline)
        if baseline is not DeltaBaseline.NONE and not self.delta:
            raise _wrong(f"delta above 0 with delta_baseline {baseline}", self.delta)
        for name in ("alpha", "beta", "gamma", "delta", "correctness"):
            if not 0 <= getattr(self, name) < math.inf:
                raise _wrong(f"{name} of 0 or more", getattr(self, name))
        if not 0 <= self.H <= 1:
            raise _wrong("H from 0 to 1, a share of rollouts", self.H)
        if self.N < 0:
            raise _wrong("N of 0 or more operations", self.N)
        if not -1 <= self.unparsed <= 0:
            raise _wrong("unparsed from -1 to 0", self.unparsed)


class RewardTerms(NamedTuple):
    """Reward terms of a group, each with one value per rollout."""

    correctness_G: list[float]
    curiosity_G: list[float]
    cost_G: list[float]

    @property
    def rewards_G(self) -> list[float]:
        """Sum of the terms, one value per rollout."""
        return [sum(terms) for terms in zip(*self, strict=True)]


def shape_rewards(
    correct_G: Sequence[float],
    num_operations_G: Sequence[int],
    config: RewardConfig | None = None,
    *,
    is_video: bool = False,
) -> list[float]:
    """Return the rewards of one group.

    Args:
        correct_G: correctness of each rollout, usually 0 or 1.
        num_operations_G: number of operations that each rollout executed.
        config: the constants.
        is_video: whether the question is about a video; used by the upstream formula only.

    Returns:
        rewards_G, in the order of the rollouts.

    >>> [round(reward, 4) for reward in shape_rewards([0, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0])]
    [0.0875, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    >>> [round(reward, 4) for reward in shape_rewards([1, 1], [1, 3])]
    [1.0, 0.9]
    """
    return group_rewards(correct_G, num_operations_G, config, is_video=is_video).rewards_G


def group_rewards(
    correct_G: Sequence[float],
    num_operations_G: Sequence[int],
    config: RewardConfig | None = None,
    *,
    is_video: bool = False,
) -> RewardTerms:
    """Return the terms of `shape_rewards` separately, for logs.

    >>> group_rewards([1, 0], [2, 0]).cost_G
    [-0.05, 0.0]
    """
    config = config or RewardConfig()
    assert len(correct_G) == len(num_operations_G), "one value for each rollout"
    curiosity_G = curiosity(num_operations_G, config, is_video=is_video)
    if config.curiosity_for_right_answers_only:
        curiosity_G = [
            bonus if correct > 0 else 0.0
            for bonus, correct in zip(curiosity_G, correct_G, strict=True)
        ]
    return RewardTerms(
        [float(one) for one in correct_G], curiosity_G, cost(num_operations_G, config)
    )


def curiosity(
    num_operations_G: Sequence[int], config: RewardConfig, *, is_video: bool = False
) -> list[float]:
    """Return the bonus alpha * max(H - RaPR, 0) for every rollout with an operation, 0 for others.

    >>> curiosity([0, 0, 0, 1], RewardConfig(alpha=1.0, H=0.5))
    [0.0, 0.0, 0.0, 0.25]
    """
    missing = max(config.H - rapr(num_operations_G), 0.0)
    if config.variant is Variant.RELEASED_CODE:
        # openrlhf/trainer/ppo_utils/experience_maker.py: max(0.3 - rapr, 0) / 2 / rapr * 0.25, for videos / 1.5.
        bonus = (
            missing and missing / (1.5 if is_video else 2.0) / max(rapr(num_operations_G), 1e-9) / 4
        )
    else:
        bonus = config.alpha * missing
    return [bonus if count else 0.0 for count in num_operations_G]


def cost(num_operations_G: Sequence[int], config: RewardConfig) -> list[float]:
    """Return beta * min(N - n_vo, 0), the cost of operations beyond N. Never positive.

    >>> cost([0, 1, 3], RewardConfig())
    [0.0, 0.0, -0.1]
    """
    return [config.beta * min(config.N - count, 0) or 0.0 for count in num_operations_G]


def rapr(num_operations_G: Sequence[int]) -> float:
    """Return the rate of pixel-space reasoning: the share of rollouts that executed an operation.

    >>> rapr([0, 2, 1, 0])
    0.5
    """
    return sum(count > 0 for count in num_operations_G) / len(num_operations_G)


def correctness(trace: Trace, config: RewardConfig) -> float:
    """Return 1 for a right answer, 0 for a wrong answer, `config.unparsed` for no answer.

    The question must have an accepted answer.
    """
    found = grade_trace(trace)
    assert found is not None, f"question {trace.question.id} has no answer to compare with"
    if found.outcome is Outcome.UNPARSED:
        return config.unparsed
    strict = config.ignored_refusal_is_wrong or config.variant is Variant.RELEASED_CODE
    if strict and has_unrepaired_rejection(trace):
        return 0.0
    return float(found.outcome is Outcome.CORRECT)


def num_operations(trace: Trace, config: RewardConfig) -> int:
    """Return n_vo of a rollout: the number of executed operations. The upstream code also counts rejected calls."""
    counted = trace.observations if config.variant is Variant.RELEASED_CODE else trace.executed
    return len(counted)


def has_unrepaired_rejection(trace: Trace) -> bool:
    """Return whether the last call of a rollout was rejected and not repaired."""
    observations = trace.observations
    return bool(observations) and observations[-1].error is not None


def _member(name: str, value: str, kind: type[_Enum]) -> _Enum:
    """Return the member of an enumeration with a value."""
    try:
        return kind(value)
    except ValueError:
        raise UsageError(
            expected=f"{name} {' or '.join(kind)}", got=repr(value), fix="name one of these"
        ) from None


def _wrong(expected: str, got: float) -> UsageError:
    return UsageError(expected=expected, got=str(got), fix="correct it under [reward]")
