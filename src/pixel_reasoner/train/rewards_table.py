"""Group rewards: a table with one row per rollout, gathered from all processes before groups are scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.trace import StopReason, Trace, save_traces
from pixel_reasoner.scoring import rewards
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.necessity import choice_rewards, share_of

TERMS = ("correctness", "curiosity", "cost")
"""reward terms, in the column order of `reward_terms`; `CHOICE` with probes, and functions of the user follow"""
CHOICE = "choice"
"""term of `train.necessity`"""
COLUMNS = (
    "correct",
    "counted",
    "executed",
    "rejected",
    "turns",
    "is_video",
    "needs_look",
    "answered",
    "continued",
    "right_without",
)
"""columns of the table; values of the user's reward functions follow"""
WITHOUT = COLUMNS.index("right_without")
UNIFORM_TOLERANCE = 1e-9
"""rewards of a group that differ by less count as equal"""


class GroupRewards(NamedTuple):
    """Rewards of rollouts, one row each."""

    terms: torch.Tensor  # (rollouts, terms)
    weights: torch.Tensor  # (rollouts,)
    """factors on the advantages"""
    is_uniform: torch.Tensor  # (rollouts,) bool: all rollouts of the group have the same reward


class RewardTable:
    """Builder of the reward table of a process's rollouts.

    Args:
        run: reward configuration and output folder.
        functions: reward functions of the user.
    """

    def __init__(self, run: RlRun, functions: Sequence[rewards.TraceReward]) -> None:
        self.run, self.functions = run, list(functions)

    @property
    def term_names(self) -> list[str]:
        """Names of the terms in the log."""
        choice = [CHOICE] if self.run.probes else []
        return [*TERMS, *choice, *(name.rpartition(":")[2] for name in self.run.reward_functions)]

    def rows(
        self, traces: Sequence[Trace], right_without: Mapping[str, float] | None = None
    ) -> torch.Tensor:
        """Return the (rollouts, columns) table of traces.

        Args:
            traces: rollouts.
            right_without: question id -> share of right answers without operations.

        Raises:
            UsageError: a reward function of the user failed; the trace is saved to a file.
        """
        rows = [self._row(trace, share_of(right_without, trace.question)) for trace in traces]
        return torch.tensor(rows, dtype=torch.float64)

    def _row(self, trace: Trace, right_without: float) -> list[float]:
        config = self.run.reward
        needs_look = trace.question.needs_look
        return [
            rewards.correctness(trace, config),
            rewards.num_operations(trace, config),
            len(trace.executed),
            len(trace.rejected),
            len(trace.turns),
            any(medium.kind != "image" for medium in trace.question.media),
            math.nan if needs_look is None else needs_look,
            trace.stop is StopReason.ANSWERED,
            # Count only calls whose result was for the model: calls in the last turn of the other rollouts ended them.
            len(trace.turns) - (trace.stop is not StopReason.MAX_CONTEXT),
            right_without,
            *(self._value(function, trace) for function in self.functions),
        ]

    def _value(self, function: rewards.TraceReward, trace: Trace) -> float:
        name = getattr(function, "__name__", "a reward function")
        try:
            value = float(function(trace))
            problem = f"{value}"
        except Exception as error:  # noqa: BLE001 - any exception is reported with its trace
            value, problem = math.nan, f"{type(error).__name__}: {error}"
        if math.isfinite(value):
            return value
        path = Path(self.run.out) / "failed-reward.jsonl"
        save_traces([trace], path)
        raise UsageError(
            expected=f"a finite number from the reward function {name}",
            got=problem,
            fix=f"check the trace in {path}, and run the same command again",
        )


def reward_terms(table: torch.Tensor, run: RlRun) -> GroupRewards:
    """Return the rewards of gathered rollouts, computed per group.

    Args:
        table: (rollouts, columns) table of whole groups, in order.
        run: group size and constants.
    """
    terms, weights = [], []
    num_columns = len(COLUMNS)
    for group in table.split(run.group_size):
        correct, counted = group[:, 0].tolist(), [int(one) for one in group[:, 1].tolist()]
        shaped = rewards.group_rewards(correct, counted, run.reward, is_video=bool(group[0, 5]))
        shaped = shaped._replace(
            correctness_G=[run.reward.correctness * one for one in shaped.correctness_G]
        )
        values: list[list[float]] = [*shaped]
        if run.probes:
            values.append(choice_rewards(counted, float(group[0, WITHOUT]), run.reward.gamma))
        terms += [
            [*row, *group[n, num_columns:].tolist()]
            for n, row in enumerate(zip(*values, strict=True))
        ]
        right = sum(one > 0 for one in correct)
        weight = {0: run.unsolved_weight, len(correct): run.solved_weight}.get(right, 1.0)
        weights += [weight] * len(correct)
    made = torch.tensor(terms, dtype=torch.float64)
    totals = made.sum(dim=1).view(-1, run.group_size)
    same = totals.amax(dim=1) - totals.amin(dim=1) < UNIFORM_TOLERANCE
    return GroupRewards(made, torch.tensor(weights), same.repeat_interleave(totals.shape[1]))


def rollout_metrics(table: torch.Tensor) -> dict[str, float]:
    """Return the metrics of gathered rollouts, without metrics of question kinds that do not occur."""
    columns = dict(zip(COLUMNS, table.T, strict=False))
    has_executed = columns["executed"] > 0
    calls = columns["executed"] + columns["rejected"]
    correct = columns["correct"].clamp(min=0)
    values = {
        "accuracy": correct,
        "rapr": has_executed,
        "operations/executed": columns["executed"],
        "operations/attempted": calls,
        "turns": columns["turns"],
        "answered": columns["answered"],
        "tools/call_frequency": columns["continued"],
    }
    for kind, flag in (("needs_look", 1), ("overview", 0)):
        group = columns["needs_look"] == flag
        values[f"rapr/{kind}"] = has_executed[group]
        values[f"accuracy/{kind}"] = correct[group]
    metrics = {name: one.double().mean().item() for name, one in values.items() if len(one)}
    if calls.sum():
        metrics["operations/error_rate"] = (columns["rejected"].sum() / calls.sum()).item()
    # TRL's loop counts operations that raise. Here an exception ends the run, and model mistakes are data.
    return metrics | {"tools/failure_frequency": 0.0}


def is_left_out(trace: Trace, run: RlRun) -> bool:
    """Return whether the loss masks a rollout because of its stop reason."""
    cut_off = (StopReason.MAX_NEW_TOKENS, StopReason.MAX_CONTEXT)
    return (run.mask_truncated and trace.stop in cut_off) or (
        run.mask_over_turns and trace.stop is StopReason.MAX_TURNS
    )


def placeholder_reward(name: str) -> Any:
    """Return a placeholder reward function: TRL reads its name and weight. `_calculate_rewards` computes the terms."""

    def term(**_: Any) -> list[float]:
        raise AssertionError(f"{name} is computed in _calculate_rewards")

    term.__name__ = name
    return term
