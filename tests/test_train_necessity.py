"""RL that learns when to look: probes without operations, and the reward of the choice."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
import torch
from hypothesis import given, strategies as st

from pixel_reasoner.errors import UsageError
from pixel_reasoner.reports.training_log import read_rewards
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.necessity import choice_rewards
from pixel_reasoner.train.rewards_table import COLUMNS, reward_terms
from pixel_reasoner.train.rl import train_rl
from rl_fixture import run_of

SMALL = {"questions": ("q",), "group_size": 2, "rollouts_at_once": 2}


def table(*rows: tuple[int, int, float]) -> torch.Tensor:
    """Return gathered rollouts: correctness, operations, share of right answers without operations."""
    filled = []
    for correct, count, right_without in rows:
        values = dict.fromkeys(COLUMNS, 0.0)
        filled.append(
            list(
                (
                    values | {"correct": correct, "counted": count, "right_without": right_without}
                ).values()
            )
        )
    return torch.tensor(filled, dtype=torch.float64)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 2))
def test_the_better_choice_gets_at_least_as_much(num_operations, right_without, gamma):
    rewards = choice_rewards(num_operations, right_without, gamma)
    looked = {value for value, count in zip(rewards, num_operations, strict=True) if count}
    direct = {value for value, count in zip(rewards, num_operations, strict=True) if not count}
    assert len(looked) <= 1
    assert len(direct) <= 1
    assert all(0 <= value <= gamma for value in rewards)
    if looked and direct:
        assert (min(looked) >= max(direct)) == (right_without <= 0.5) or right_without == 0.5


def test_an_operation_pays_where_the_answer_is_wrong_without_one():
    run = RlRun(out="out", probes=4, reward=RewardConfig(alpha=0, gamma=0.4), **SMALL)
    needed, not_needed = [(1, 1, 0.0), (0, 0, 0.0)], [(1, 1, 1.0), (1, 0, 1.0)]
    terms, _, _ = reward_terms(table(*needed, *not_needed), run)
    assert terms[:, 3].tolist() == pytest.approx([0.4, 0, 0, 0.4])


def test_without_probes_there_is_no_reward_of_the_choice():
    run = RlRun(out="out", **SMALL)
    terms, _, _ = reward_terms(table((1, 1, 0.0), (0, 0, 0.0)), run)
    assert terms.shape == (2, 3)


def test_a_first_stage_can_leave_out_right_answers():
    run = RlRun(
        out="out", solved_weight=0.0, reward=RewardConfig(correctness=0.0, alpha=0), **SMALL
    )
    terms, weights, uniform = reward_terms(
        table((1, 1, 0.0), (0, 1, 0.0), (1, 1, 0.0), (1, 1, 0.0)), run
    )
    assert terms[:, 0].tolist() == [0.0] * 4
    assert weights.tolist() == [1, 1, 0, 0], (
        "what is right still decides whether a question is solved"
    )
    assert uniform.all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"probes": 2, "max_staleness": 1}, "probes without max_staleness"),
        ({"probes": -1}, "probes of 0 or more"),
        ({"probes": 2, "operations": ()}, "operations with probes"),
    ],
)
def test_impossible_probes_are_refused(more, message):
    with pytest.raises(UsageError, match=message):
        RlRun(out="out", **SMALL, **more)


def test_a_run_measures_necessity_refills_and_pays_calls(tmp_path):
    """Questions about world 1 whose evidence is too small: without operations nearly all answers are wrong."""
    run = run_of(
        tmp_path,
        probes=2,
        refill=1,
        sample_every=1,
        reward=RewardConfig(alpha=0, beta=0, gamma=0.3, delta=0.5),
        trl={"max_steps": 1, "temperature": 0.8},
    )
    train_rl(run)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (share,) = {row["choice/right_without"] for row in log if "choice/right_without" in row}
    assert 0 <= share <= 0.5
    assert all(0 <= row["refill/rounds"] <= 1 for row in log if "refill/rounds" in row)
    assert any("calls/rise" in row for row in log)
    path = tmp_path / "samples" / "rollouts-1.jsonl"
    rewards, traces = read_rewards(path), list(load_traces(path))
    assert all(trace.settings.operations for trace in traces), "probes are not trained on"
    for group in range(len(traces) // 4):
        rows = slice(4 * group, 4 * group + 4)
        looked = {
            r["choice"] for r, t in zip(rewards[rows], traces[rows], strict=True) if t.executed
        }
        direct = {
            r["choice"] for r, t in zip(rewards[rows], traces[rows], strict=True) if not t.executed
        }
        assert len(looked) <= 1
        assert len(direct) <= 1
        assert all(one + other == pytest.approx(0.3) for one in looked for other in direct)


def test_legible_questions_of_world_2_can_be_trained_on():
    mix = WorldMix(world=2, families=("attribute",), count=4, overview_share=0.5)
    run = RlRun(
        out="out",
        pixelworld=mix,
        probes=2,
        group_size=2,
        questions_per_sync=4,
        minibatch=8,
        rollouts_at_once=8,
    )
    assert run.pixelworld.world == 2


def test_a_refilled_sync_has_other_questions_in_place_of_those_without_spread(tmp_path):
    """Groups without spread are replaced; the others keep their place."""
    from types import SimpleNamespace

    from pixel_reasoner.schema.question import Question
    from pixel_reasoner.schema.trace import StopReason, Trace
    from pixel_reasoner.train.refill import refill_samples
    from pixel_reasoner.train.samples import RolloutSample

    def group(name: str, *, is_uniform: bool) -> list[RolloutSample]:
        trace = Trace(question=Question(id=name, text="?", media=()), stop=StopReason.NO_ANSWER)
        return [RolloutSample((), trace, {}, 0.0, is_uniform, name, 0)] * 2

    rounds = [
        [*group("x", is_uniform=True), *group("y", is_uniform=False)],
        group("z", is_uniform=False),
    ]
    asked = []

    def generate(rows):
        asked.append(len(rows))
        return rounds[len(asked) - 1]

    trainer = SimpleNamespace(
        run=RlRun(out="out", refill=5, **SMALL),
        samples=["first"],
        sample_rewards=[{}],
        generate_samples=generate,
        train_dataset=[{"prompt": n} for n in range(9)],
        args=SimpleNamespace(seed=0),
        state=SimpleNamespace(global_step=3),
        accelerator=SimpleNamespace(process_index=0, device="cpu"),
        _metrics={"train": defaultdict(list)},
    )
    samples = [
        *group("a", is_uniform=True),
        *group("b", is_uniform=False),
        *group("c", is_uniform=True),
    ]
    filled = refill_samples(trainer, samples)
    assert [one.group_id for one in filled] == ["y", "y", "b", "b", "z", "z"]
    assert asked == [4, 2], "only what is missing is generated"
    assert trainer.samples == ["first"]
    assert trainer._metrics["train"]["refill/rounds"] == [2.0]
