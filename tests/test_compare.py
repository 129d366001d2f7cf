"""Comparison of runs with and without operations, and of any two runs: gain, harm, different settings."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from killed import run_with_kills, start, without_times
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.compare import compare, compare_runs, diff_settings
from pixel_reasoner.evals.merge import merge
from pixel_reasoner.evals.run import Evaluation, evaluate, evaluate_compared, load_run
from pixel_reasoner.evals.stats import cyclic_accuracy, repeats, summarize
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.runs.cache import ResponseCache
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import Observation, Picture, StopReason, Trace, Turn
from pixel_reasoner.scoring.evidence import iou
from pixel_reasoner.scoring.grading import Scorer

ZOOM = (
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1}}\n'
    "</tool_call>"
)


def trace(name: str, answer: str | None, **more) -> Trace:
    fields = {"group": name} | more
    asked = Question(id=name, text="?", media=(), answer=("yes",), **fields)
    stop = StopReason.NO_ANSWER if answer is None else StopReason.ANSWERED
    return Trace(question=asked, stop=stop, answer=answer)


def both(with_: str, without: str) -> tuple[list[Trace], list[Trace]]:
    """Return two runs from texts with one letter per question: `y` is right, `n` wrong."""
    answers = {"y": "yes", "n": "no", "-": None}
    return tuple(
        [trace(str(number), answers[sign]) for number, sign in enumerate(signs)]
        for signs in (with_, without)
    )


def test_gain_and_harm_equal_counts_by_hand():
    found = compare(*both("yyyyn-nn", "ynnynnny"))
    shares = {
        name: found[name]["value"]
        for name in ("with", "without", "gain", "harm", "both", "neither")
    }
    assert shares == {
        "with": 0.5,
        "without": 0.375,
        "gain": 0.25,
        "harm": 0.125,
        "both": 0.25,
        "neither": 0.375,
    }
    assert found["difference"]["value"] == 0.125
    assert all(found[name]["count"] == 8 for name in shares)
    assert all(len(found[name]["interval"]) == 2 for name in shares)


def test_a_question_that_failed_in_one_run_is_excluded_from_both():
    with_, without = both("yyy", "nnn")
    lost = without[1].model_copy(update={"stop": StopReason.FAILED})
    assert compare(with_, [without[0], lost])["with"]["count"] == 1


def test_partial_scores_count_in_the_difference_and_outcomes_in_gain():
    def one(answer: str) -> Trace:
        return trace("1", answer, answer_type=AnswerType.ANLS)

    first = one("yesx")  # 3 of 4 letters
    found = compare([first], [one("nothing")])
    assert found["with"]["value"] == found["difference"]["value"] == 0.75
    assert found["gain"]["value"] == 1.0


def test_categories_are_compared_separately():
    with_, without = both("yn", "ny")
    with_ = [
        t.model_copy(update={"question": t.question.model_copy(update={"category": c})})
        for t, c in zip(with_, "ab", strict=True)
    ]
    found = compare(with_, without)["compared_by_category"]
    assert {name: one["gain"]["value"] for name, one in found.items()} == {"a": 1.0, "b": 0.0}


# --- metrics of benchmarks ---


def test_the_cyclic_accuracy_is_the_mean_of_the_cycles():
    traces = [
        trace(f"{n}", "yes" if n % 3 else "no", labels={"cycle": str(n % 2)}) for n in range(5)
    ]
    summary = summarize(traces)
    cycles = {name: one["accuracy"] for name, one in summary["by_label"]["cycle"].items()}
    assert cycles == {"0": 0.6667, "1": 0.5}
    assert summary["cyclic_accuracy"] == pytest.approx(
        cyclic_accuracy(list(cycles.values())), abs=1e-4
    )
    assert summary["accuracy"] == 0.6


def _zoomed(*boxes: Box, text: str = "") -> Trace:
    crops = [
        Picture(number=2 + n, medium=0, box=box, source_px=(9, 9), seen_px=(9, 9), parent=1)
        for n, box in enumerate(boxes)
    ]
    whole = Picture(number=1, medium=0, source_px=(100, 100), seen_px=(50, 50))
    evidence = Evidence(boxes=(Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 1)))
    return Trace(
        question=Question(id="1", text="?", media=(), evidence=evidence),
        pictures=(whole,),
        turns=(
            Turn(text=text),
            *(Turn(text="", observations=(Observation(text="", pictures=(p,)),)) for p in crops),
        ),
        stop=StopReason.NO_ANSWER,
    )


def test_mean_iou_uses_the_best_crop_of_each_box():
    assert iou(_zoomed(Box(0, 0, 0.5, 0.5))) == 0.5
    assert iou(_zoomed(Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 0.75))) == 0.75
    assert iou(_zoomed(Box(0, 0, 1, 1))) == 0.25
    assert iou(_zoomed()) == 0.0
    assert iou(_zoomed(text="It is at <box>[0,0,50,50]</box> or <box>[a]</box>.")) == 0.5
    assert iou(_zoomed(Box(0, 0, 1, 1), text="<box>[0,0,50,50]</box>")) == 0.25, (
        "a look counts first"
    )


def test_repeats_give_mean_accuracy_and_pass_at_k():
    first, second = both("yyn", "ynn")
    traces = [*first, *(t.model_copy(update={"sample": 1}) for t in second)]
    found = repeats(traces)
    assert found["k"] == 2
    assert found["avg@2"]["value"] == 0.5
    assert found["pass@2"]["value"] == 0.6667
    found_in_summary = summarize(traces)["repeats"]
    assert found_in_summary.pop("by_category").keys() <= {
        trace.question.category for trace in traces
    }
    assert found_in_summary == found


def test_metrics_of_repeats_are_given_by_category():
    first, second = both("yyn", "ynn")
    names = ("easy", "hard", "hard")
    traces = [
        trace.model_copy(
            update={"sample": n, "question": trace.question.model_copy(update={"category": name})}
        )
        for n, some in enumerate((first, second))
        for trace, name in zip(some, names, strict=True)
    ]
    found_in_summary = summarize(traces)["repeats"]["by_category"]
    assert {name: group["avg@2"]["value"] for name, group in found_in_summary.items()} == {
        "easy": 1.0,
        "hard": 0.25,
    }
    assert found_in_summary["hard"]["pass@2"]["value"] == 0.5


# --- runs ---


@pytest.fixture
def asked(photo) -> list[Question]:
    medium = MediaItem(kind="image", path=str(photo))
    return [
        Question(id=f"q{n}", text=f"Question {n}?", media=(medium,), answer=("red",), group=f"{n}")
        for n in range(6)
    ]


def _number(conversation) -> int:
    text = next(
        part["text"]
        for message in conversation
        if message["role"] == "user"
        for part in message["content"]
        if part["type"] == "text" and part["text"].startswith("Question")
    )
    return int(text.split()[1].rstrip("?"))


def reply(conversation) -> str:
    """Zoom and answer correctly for even questions. Without operations, only question 1 is correct."""
    offered = "zoom_in" in str(conversation[0]["content"])
    turn = sum(message["role"] == "assistant" for message in conversation)
    number = _number(conversation)
    if offered and number % 2 == 0:
        return ZOOM if turn == 0 else r"\boxed{red}"
    return r"\boxed{red}" if number == 1 and not offered else r"\boxed{blue}"


def plan(asked, model=None, rules: RolloutConfig | None = None, **more) -> Evaluation:
    return Evaluation(
        asked, model or ScriptedModel(reply), rules or RolloutConfig(), {"name": "t"}, **more
    )


def test_one_command_evaluates_with_and_without_operations(asked, tmp_path):
    summary = evaluate_compared(plan(asked), tmp_path / "run")
    assert summary["with"]["value"] == summary["accuracy"] == 0.5
    assert (summary["gain"]["value"], summary["harm"]["value"]) == (0.5, 0.1667)
    without = json.loads((tmp_path / "run/without/summary.json").read_text())
    assert (without["accuracy"], without["rapr"]) == (0.1667, 0.0)
    assert json.loads((tmp_path / "run/summary.json").read_text()) == summary


def test_a_summary_contains_all_settings_that_affect_its_metrics(asked, tmp_path):
    summary = evaluate(plan(asked, scorer=Scorer.HARNESS, rows={"read": 9}), tmp_path / "run")
    assert summary["scorer"] == "harness"
    assert summary["rows"] == {"read": 9, "failed": 0}
    assert set(summary["settings"]) >= {
        "task",
        "model",
        "dialect",
        "dialect_hash",
        "budgets",
        "limits",
        "sampling",
    }
    assert summary["versions"]["pixel-reasoner"]
    assert summary["hardware"]["cores"]
    assert len(summary["data"]) == 16


def test_runs_with_different_questions_are_not_compared(asked, tmp_path):
    evaluate(plan(asked), tmp_path / "a")
    evaluate(plan(asked[:4]), tmp_path / "b")
    with pytest.raises(UsageError, match=r"2 only in .*/a, 0 only in .*4 in both"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    assert compare_runs(tmp_path / "a", tmp_path / "b", anyway=True)["with"]["count"] == 4
    other = [q.model_copy(update={"id": f"x{q.id}"}) for q in asked]
    evaluate(plan(other), tmp_path / "c")
    with pytest.raises(InputError, match="questions that both runs contain"):
        compare_runs(tmp_path / "a", tmp_path / "c", anyway=True)
    with pytest.raises(InputError, match="folder of a run"):
        compare_runs(tmp_path / "a", tmp_path / "nowhere")


def test_different_settings_of_two_runs_are_named(asked, tmp_path):
    evaluate(plan(asked), tmp_path / "a")
    evaluate(plan(asked, rules=RolloutConfig(limits=RolloutLimits(max_turns=2))), tmp_path / "b")
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert found["differing"] == {"limits.max_turns": [6, 2]}
    assert diff_settings({"a": {"b": 1}}, {"a": {}, "c": 2}) == {"a.b": [1, None], "c": [None, 2]}


def test_an_id_with_another_question_is_an_error(asked, tmp_path):
    evaluate(plan(asked), tmp_path / "a")
    changed = [q.model_copy(update={"text": "Question 7?"}) if q.id == "q3" else q for q in asked]
    with pytest.raises(UsageError, match="another question with id 'q3'"):
        evaluate(plan(changed), tmp_path / "a")


def test_a_finished_run_has_the_order_of_its_questions(asked, tmp_path):
    evaluate(plan(asked, batch_size=6), tmp_path / "a")
    evaluate(plan(asked, batch_size=1), tmp_path / "b")
    for name in "ab":
        assert [t.question.id for t in load_run(tmp_path / name)] == [q.id for q in asked]


# --- samples, cache, shards ---


def test_each_sample_has_its_own_random_seed(asked, tmp_path):
    rules = RolloutConfig(sampling=SamplingParams(temperature=0.7, seed=5))
    summary = evaluate(plan(asked, rules=rules, samples=3), tmp_path / "run")
    traces = list(load_run(tmp_path / "run"))
    assert [t.sample for t in traces] == [0] * 6 + [1] * 6 + [2] * 6
    assert {t.sample: t.settings.sampling.seed for t in traces} == {0: 5, 1: 6, 2: 7}
    assert summary["repeats"]["k"] == 3


def test_a_cached_response_is_not_generated_again(asked, tmp_path):
    cache = ResponseCache(tmp_path / "responses.db")
    first = evaluate(plan(asked, cache=cache), tmp_path / "a")
    silent = ScriptedModel(reply)
    second = evaluate(plan(asked, silent, cache=cache), tmp_path / "b")
    assert silent.conversations == []
    assert second["accuracy"] == first["accuracy"]


def test_everything_that_affects_a_response_changes_its_cache_key(asked, tmp_path):
    cache = ResponseCache(tmp_path / "responses.db")
    evaluate(plan(asked, cache=cache), tmp_path / "a")
    for number, rules in enumerate(
        (
            RolloutConfig(operations=False),
            RolloutConfig(limits=RolloutLimits(max_turns=3)),
            RolloutConfig(sampling=SamplingParams(seed=1)),
        )
    ):
        model = ScriptedModel(reply)
        evaluate(plan(asked, model, rules, cache=cache), tmp_path / f"other-{number}")
        assert model.conversations
    # The file has the same name and other pixels.
    path = Path(asked[0].media[0].path)
    path.write_bytes(path.read_bytes() + b"\0")
    model = ScriptedModel(reply)
    evaluate(plan(asked, model, cache=ResponseCache(cache.path)), tmp_path / "c")
    assert model.conversations


def test_another_file_instead_of_a_cache_is_an_input_error(tmp_path):
    (tmp_path / "x.db").write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(InputError, match="use another --cache"):
        ResponseCache(tmp_path / "x.db")


def test_merged_shards_equal_the_whole_run(asked, tmp_path):
    whole = evaluate(plan(asked), tmp_path / "whole")
    for nth in range(3):
        part = plan(asked[nth::3])._replace(task={"name": "t", "shard": f"{nth + 1}/3"})
        evaluate(part, tmp_path / f"{nth}")
    joined = merge([tmp_path / n for n in "201"], tmp_path / "joined")
    assert [t.question.id for t in load_run(tmp_path / "joined")] == [q.id for q in asked]
    assert (joined["accuracy"], joined["data"]) == (whole["accuracy"], whole["data"])
    with pytest.raises(UsageError, match="no 2/3"):
        merge([tmp_path / n for n in "20"], tmp_path / "x")
    other = plan(asked[1::3], rules=RolloutConfig(limits=RolloutLimits(max_turns=2)))
    evaluate(other._replace(task={"name": "t", "shard": "2/3"}), tmp_path / "other")
    with pytest.raises(UsageError, match=r"limits\.max_turns"):
        merge([tmp_path / "0", tmp_path / "other", tmp_path / "2"], tmp_path / "x")


def test_pictures_of_a_merged_run_are_found_from_any_working_directory(
    asked, tmp_path, monkeypatch
):
    for nth, folder in enumerate(("a", "b")):
        (tmp_path / folder / "media").mkdir(parents=True)
        path = Path(shutil.copy(asked[nth].media[0].path, tmp_path / folder / "media"))
        item = asked[nth].media[0].model_copy(update={"path": f"media/{path.name}"})
        question = asked[nth].model_copy(update={"media": (item,)})
        part = plan([question])._replace(task={"name": "t", "shard": f"{nth + 1}/2"})
        evaluate(part, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    merge([Path("a"), Path("b")], Path("joined"))
    monkeypatch.chdir("/")
    for trace in load_run(tmp_path / "joined"):
        assert MediaContext.of_trace(trace).view(1).size == trace.pictures[0].seen_px
    written = (tmp_path / "joined" / "traces.jsonl").read_text()
    assert str(tmp_path) not in written, "the folders can be moved"


# --- killed at any time ---


@pytest.mark.slow
def test_a_run_that_is_killed_several_times_equals_an_uninterrupted_one(tmp_path, photo):
    assert start(photo, tmp_path / "uninterrupted", 40).wait() == 0
    run_with_kills(photo, tmp_path / "killed", 40, 3, random.Random(1))
    expected = without_times(tmp_path / "uninterrupted")
    assert without_times(tmp_path / "killed") == expected
    assert [len(expected[name]) for name in ("traces.jsonl", "without/traces.jsonl")] == [40, 40]
