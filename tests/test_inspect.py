"""Benchmarks in inspect_ai: equal questions, prompts and scores, and a log with every crop. Needs the extra `inspect`."""

from __future__ import annotations

import pytest

pytest.importorskip("inspect_ai", reason="the extra `inspect` has an environment of its own")

from inspect_ai import Task, eval as run
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import ModelOutput
from inspect_ai.solver import solver

from benchmarks_fixture import write
from pixel_reasoner.evals.run import Evaluation, evaluate
from pixel_reasoner.integrations.inspect_ai_tasks import benchmark, look_again, sample, typed, world
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inspect_ai's own

ZOOM = (
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1}}\n'
    "</tool_call>"
)


def model() -> ScriptedModel:
    return ScriptedModel([ZOOM, r"\boxed{X}"])


def logged(task: Task, folder):
    (log,) = run(task, model="mockllm/model", log_dir=str(folder / "logs"), display="none")
    assert log.status == "success", log.error
    return log


def test_the_loop_gives_the_same_accuracy_as_our_runner(tmp_path):
    questions = world("attribute", 12, tmp_path / "media")
    task = Task(
        dataset=MemoryDataset([sample(question) for question in questions]),
        solver=look_again(model()),
        scorer=typed(),
    )
    log = logged(task, tmp_path)
    ours = evaluate(Evaluation(questions, model(), RolloutConfig(), {}), tmp_path / "run")
    metrics = log.results.scores[0].metrics
    assert metrics["accuracy"].value == pytest.approx(ours["accuracy"], abs=1e-4)
    assert {"stderr", "lower", "upper"} <= set(metrics)


def test_a_log_shows_every_turn_and_crop(tmp_path):
    questions = world("attribute", 1, tmp_path / "media")
    task = Task(
        dataset=MemoryDataset([sample(questions[0])]), solver=look_again(model()), scorer=typed()
    )
    (one,) = logged(task, tmp_path).samples
    assert [message.role for message in one.messages] == ["user", "assistant", "user", "assistant"]
    (crop,) = (part for part in one.messages[2].content if part.type == "image")
    # A log stores each picture once, outside of the messages.
    kept = one.attachments[crop.image.removeprefix("attachment://")]
    assert kept.startswith("data:image/png;base64,")
    assert one.scores["typed"].metadata["executed"] == 1
    assert Question.model_validate(one.metadata["question"]).answer == questions[0].answer


@solver
def mock_model(text: str):
    """Return a model of inspect_ai that needs no network: the real one downloads a tokenizer."""

    async def solve(state, generate):
        state.output = ModelOutput.from_content("says", text)
        return state

    return solve


def test_replies_of_an_inspect_ai_model_are_scored_by_our_scorer(tmp_path):
    data = write("vstar_jsonl", tmp_path / "data")
    task = benchmark(task="vstar", data=str(data), media=str(tmp_path / "media"), loop=False)
    task.solver = mock_model("The first looks like rubber. The answer is (B).")
    log = logged(task, tmp_path)
    first, second = log.samples
    assert (
        first.input[0].content[-1].text.startswith("What is the material of the glove?\nA. rubber")
    )
    assert (first.target, second.target) == (["B"], ["A"])
    assert [one.scores["typed"].value for one in (first, second)] == [1, 0]


def test_the_task_is_found_by_its_name():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="inspect_ai", name="pixel_reasoner")
    assert found.load().benchmark


def test_pixelworld_2_is_a_task_with_the_difference_of_rapr(tmp_path):
    task = benchmark(
        task="pixelworld2", family="attribute", count=12, media=str(tmp_path / "media")
    )
    task.solver = look_again(model())
    log = logged(task, tmp_path)
    metrics = log.results.scores[0].metrics
    assert metrics["rapr_difference"].value == 0  # the script always zooms
    needs = {one.metadata["evidence_px"]: one.metadata["needs_operation"] for one in log.samples}
    assert needs == {"2": True, "3": True, "4": True, "6": False, "8": False, "12": False}
