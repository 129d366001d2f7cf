"""Metrics of each operation: calls and tokens, and forced answers before and after each call."""

from __future__ import annotations

import json
from functools import partial

import pytest
from PIL import Image

from pixel_reasoner import api
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.forced import FORCED, force_answers, num_forced
from pixel_reasoner.evals.operations import ForcedPair, OperationNumbers, add_forced
from pixel_reasoner.evals.run import Evaluation, evaluate, evaluate_forced
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.operations import operations_section
from pixel_reasoner.reports.summary import OperationMetrics, read_summary
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, ModelInfo, RolloutConfig
from pixel_reasoner.schema.trace import StopReason, ToolCall, Trace, Turn

CONFIG = RolloutConfig(operations=(*DEFAULT_OPERATIONS, "mark"))
ZOOM = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5]})
MARK = ToolCall(name="mark", arguments={"points": [[0.5, 0.5]]})
BAD = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 2, 2]})


class Forgetful:
    """Zooms, then marks. Without operations it answers right after the zoom alone."""

    name, dialect, budgets = "forgetful", "compact", None

    def __init__(self) -> None:
        self.num_forced = 0

    def generate(self, conversations, sampling):
        return [Completion(text=self._reply(one)) for one in conversations]

    def describe(self):
        return ModelInfo(name=self.name)

    def _reply(self, messages):
        num_turns = sum(one["role"] == "assistant" for one in messages)
        system = messages[0]["content"][0]["text"]
        if "look closer" not in system:
            self.num_forced += 1
            return ("", r"\boxed{2}", r"\boxed{9}")[num_turns] or r"\boxed{1}"
        calls = [get_dialect("compact").write_call(one) for one in (ZOOM, MARK)]
        return [*calls, r"\boxed{2}"][num_turns]


@pytest.fixture
def questions(tmp_path):
    found = []
    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
        picture = MediaItem(kind="image", path=str(tmp_path / f"{number}.png"))
        found.append(Question(id=str(number), text="How many?", media=(picture,), answer=("2",)))
    return found


def run(questions, out, model):
    return evaluate(Evaluation(questions, model, CONFIG, {"name": "x"}), out)


def test_a_call_helps_or_hurts_by_the_forced_answers_before_and_after_it(questions, tmp_path):
    model, out = Forgetful(), tmp_path / "run"
    summary = run(questions, out, model)
    summary = evaluate_forced(summary, Evaluation(questions, model, CONFIG, {"name": "x"}), out)
    found = summary["by_operation"]
    assert {
        name: (one["helped"]["value"], one["hurt"]["value"]) for name, one in found.items()
    } == {
        "zoom_in": (1.0, 0.0),
        "mark": (0.0, 1.0),
    }
    assert found["zoom_in"]["helped"]["count"] == 3
    assert read_summary(out).by_operation["mark"].net.value == -1.0
    # Once before the first call, once between both, once after the second.
    assert model.num_forced == 9


def test_a_stopped_run_of_forced_answers_repeats_none(questions, tmp_path):
    model, out = Forgetful(), tmp_path / "run"
    run(questions, out, model)
    traces = partial(api_load, out)
    first = force_answers(traces, model, CONFIG, out)
    lines = (out / FORCED).read_text().splitlines()
    assert len(lines) == 9 == num_forced(traces())
    (out / FORCED).write_text("\n".join(lines[:4]) + '\n{"question": "2", "sam')
    asked = model.num_forced
    assert force_answers(traces, model, CONFIG, out) == first
    assert model.num_forced == asked + 5
    assert all("answer" in json.loads(line) for line in (out / FORCED).read_text().splitlines())


def api_load(out):
    from pixel_reasoner.runs.folder import load_run

    return load_run(out)


def test_calls_and_tokens_are_counted_per_operation(questions):
    texts = [get_dialect("compact").write_call(one) for one in (BAD, ZOOM, MARK)]
    model = ScriptedModel([*texts, r"\boxed{2}"], dialect="compact")
    trace = ask(questions[0], model, CONFIG)
    tokens = [
        {"num_prompt_tokens": 100, "num_completion_tokens": 10},
        {"num_prompt_tokens": 130, "num_completion_tokens": 12},
        {"num_prompt_tokens": 200, "num_completion_tokens": 14},
        {"num_prompt_tokens": 260, "num_completion_tokens": 5},
    ]
    turns = tuple(
        turn.model_copy(update=one) for turn, one in zip(trace.turns, tokens, strict=True)
    )
    found = summarize([trace.model_copy(update={"turns": turns})])["by_operation"]
    assert found["zoom_in"] == {
        "calls": 2,
        "executed": 1,
        "rejected": 1,
        "questions": 1,
        "accuracy": 1.0,
        "new_tokens_per_call": 11.0,
        "result_tokens_per_call": 200 - 130 - 12,
    }
    assert found["mark"]["result_tokens_per_call"] == 260 - 200 - 14


def test_failed_and_unanswered_questions_count_nowhere(questions):
    numbers = OperationNumbers()
    numbers.add(Trace(question=questions[0], stop=StopReason.FAILED), is_right=None)
    numbers.add(
        Trace(question=questions[0], stop=StopReason.NO_ANSWER, turns=(Turn(text="?"),)),
        is_right=False,
    )
    assert numbers.result() == {}


def test_without_calls_there_is_no_table_and_without_forced_answers_no_effect():
    assert operations_section({}) is None
    columns = [one.title for one in operations_section({"mark": OperationMetrics(calls=2)}).columns]
    assert "helped" not in columns
    pairs = [ForcedPair("mark", cluster, False, cluster < 3) for cluster in range(4)]
    metrics = add_forced({"mark": {"calls": 4}}, pairs)["mark"]
    assert metrics["helped"]["value"] == 0.75
    section = operations_section({"mark": OperationMetrics.model_validate(metrics)})
    [row] = section.rows
    titles = [one.title for one in section.columns]
    assert row[titles.index("helped")] == 0.75
    low, high = row[titles.index("95 % of helped")]
    assert low < 0.75 < high


def test_forced_answers_need_operations():
    with pytest.raises(UsageError, match="forced-answers"):
        api.EvalSpec(
            benchmark="pixelworld",
            out="x",
            config=RolloutConfig(operations=()),
            forced_answers=True,
        )
