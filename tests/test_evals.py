"""Metrics computed by hand, and runs that survive kills, full disks and a move of their folder."""

from __future__ import annotations

import json
import shutil

import pytest

import pixel_reasoner as pr
from conftest import draw_photo, full_disk
from pixel_reasoner import api
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.evals.run import Evaluation, evaluate, load_run
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.rollout.strategies import STRATEGIES, ask_by_strategy, ask_many_by_strategy
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.runs.store import RunStore
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, StopReason, Trace, Turn
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.workflows.evaluate import EvalSpec

RED = r"\boxed{red}"
TASK = {"name": "by hand", "seeds": (1, 2)}


# --- metrics ---

REFUSED = Observation(text="box is inverted", error=CallErrorKind.BAD_BOX)


def crop(*box: float, medium: int = 0, frame: int | None = None) -> Observation:
    picture = Picture(
        number=9, medium=medium, frame=frame, box=Box(*box), source_px=(9, 9), seen_px=(9, 9)
    )
    return Observation(text="", pictures=(picture,))


def frames(*numbers: int) -> Observation:
    pictures = tuple(
        Picture(number=20 + n, medium=0, frame=n, source_px=(9, 9), seen_px=(9, 9)) for n in numbers
    )
    return Observation(text="", pictures=pictures)


def overviews(kind: str, count: int) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            number=n,
            medium=0 if kind == "video" else n - 1,
            frame=n if kind == "video" else None,
            source_px=(9, 9),
            seen_px=(9, 9),
        )
        for n in range(1, count + 1)
    )


def trace(
    answer: str | None,
    *observations: Observation,
    name: str = "1",
    needs_look: bool | None = None,
    evidence: Evidence | None = None,
    kind: str = "image",
    seconds: float = 0.0,
) -> Trace:
    """A trace of a question whose answer is `red`."""
    return Trace(
        question=Question(
            id=name, text="?", media=(), answer=("red",), needs_look=needs_look, evidence=evidence
        ),
        pictures=overviews(kind, 4),
        turns=tuple(Turn(text="", observations=(observation,)) for observation in observations),
        stop=StopReason.NO_ANSWER if answer is None else StopReason.ANSWERED,
        answer=answer,
        seconds=seconds,
    )


def failed(name: str) -> Trace:
    return Trace(
        question=Question(id=name, text="?", media=()), stop=StopReason.FAILED, error="broken"
    )


COSTS = (
    "tokens_per_question",
    "visual_tokens_per_question",
    "rollouts_per_question",
    "ece",
)


def test_metrics_equal_values_computed_by_hand():
    here = Evidence(boxes=(Box(0.25, 0.25, 0.5, 0.5),))
    hit, missed = crop(0.25, 0.25, 0.5, 0.5), crop(0.5, 0.5, 1, 1)
    needs_operation, overview = {"needs_look": True, "evidence": here}, {"needs_look": False}
    traces = [
        trace("red", hit, **needs_operation, seconds=1),
        trace("red", REFUSED, hit, **needs_operation, seconds=2),
        trace("blue", missed, missed, **needs_operation, seconds=3),
        trace(None, REFUSED, REFUSED, **needs_operation, seconds=4),
        trace("Red.", **overview, seconds=5),
        trace("blue", missed, **overview, seconds=9),
        failed("lost"),
    ]
    metrics = summarize(traces)
    # One picture, so one cluster: the widest interval.
    assert metrics.pop("accuracy_interval") == metrics.pop("score_interval") == [0.0, 1.0]
    assert (metrics.pop("score"), metrics.pop("mean_iou")) == (metrics["accuracy"], 0.5)
    assert metrics.pop("new_tokens_per_question") is None  # scripted turns have no tokens
    assert (metrics.pop("repaired_rate"), metrics.pop("repaired_by_kind")) == (0.0, {})
    assert metrics.pop("strict_accuracy") == metrics["accuracy"]
    costs = [metrics.pop(name) for name in COSTS]
    assert costs == [None, None, 1.0, None], "scripted turns have no tokens, and no confidence"
    for group in metrics["by_category"].values():
        more = (
            "accuracy_interval",
            "score",
            "score_interval",
            "mean_iou",
            "new_tokens_per_question",
            "repaired_rate",
            "repaired_by_kind",
            "strict_accuracy",
            *COSTS,
        )
        assert all(group.pop(name, "missing") != "missing" for name in more)
    assert metrics == {
        "count": 6,
        "accuracy": 0.5,
        "rapr": 0.6667,
        "evidence_hit_rate": 0.5,
        "operation_error_rate": 0.375,  # 3 of 8
        "unparsed_rate": 0.1667,
        "mean_operations": 0.8333,
        "seconds_per_question": 4.0,
        "stops": {"answered": 5, "no_answer": 1},
        "failed": {"lost": "broken"},
        "by_category": {
            "needs_look": {
                "count": 4,
                "accuracy": 0.5,
                "rapr": 0.75,
                "evidence_hit_rate": 0.5,
                "operation_error_rate": 0.4286,
                "unparsed_rate": 0.25,
                "mean_operations": 1.0,
                "seconds_per_question": 2.5,
            },
            "overview": {
                "count": 2,
                "accuracy": 0.5,
                "rapr": 0.5,
                "evidence_hit_rate": None,
                "operation_error_rate": 0.0,
                "unparsed_rate": 0.0,
                "mean_operations": 0.5,
                "seconds_per_question": 7.0,
            },
        },
    }


def test_a_run_with_only_failures_has_no_metrics_and_names_all_failures():
    summary = summarize([failed("a"), failed("b")])
    assert summary["count"] == 0
    assert summary["accuracy"] is summary["rapr"] is summary["mean_operations"] is None
    assert summary["failed"] == {"a": "broken", "b": "broken"}
    assert summary["by_category"] == {}


def test_questions_with_unknown_answer_or_kind_are_counted():
    unknown = Trace(
        question=Question(id="1", text="?", media=()), stop=StopReason.ANSWERED, answer="a cat"
    )
    summary = summarize([unknown, trace("red")])
    assert (summary["count"], summary["accuracy"], summary["by_category"]) == (2, 1.0, {})


BOX = Box(0.25, 0.25, 0.5, 0.5)
OTHER_BOX = Box(0.75, 0.75, 1, 1)


@pytest.mark.parametrize(
    ("boxes", "observations", "hit"),
    [
        ((BOX,), [crop(*BOX)], True),
        ((BOX,), [crop(*WHOLE)], True),
        ((BOX,), [crop(0.375, 0, 1, 1)], True),  # exactly half of it
        ((BOX,), [crop(0.3751, 0, 1, 1)], False),
        ((BOX,), [crop(0, 0, 0.25, 0.25)], False),
        ((BOX,), [], False),
        ((BOX,), [REFUSED], False),
        ((BOX,), [crop(0.25, 0.25, 0.35, 0.5), crop(0.35, 0.25, 0.45, 0.5)], False),  # not one crop
        ((BOX, OTHER_BOX), [crop(*BOX)], False),
        ((BOX, OTHER_BOX), [crop(*BOX), crop(*OTHER_BOX)], True),
        ((BOX,), [crop(*BOX, medium=1)], False),  # of another picture
    ],
)
def test_evidence_is_hit_when_half_of_each_box_is_inside_one_crop(boxes, observations, hit):
    assert evidence_hit(trace("red", *observations, evidence=Evidence(boxes=boxes))) is hit


def test_boxes_on_the_second_picture_are_hit_there():
    on_second = Evidence(boxes=(BOX,), image=2)
    assert evidence_hit(trace("red", crop(*BOX, medium=1), evidence=on_second)) is True
    assert evidence_hit(trace("red", crop(*BOX, medium=0), evidence=on_second)) is False
    assert evidence_hit(trace("red", evidence=Evidence(boxes=(BOX,), image=7))) is False


@pytest.mark.parametrize(
    ("observations", "hit"),
    [
        ([frames(2, 3)], True),
        ([frames(1, 2, 3, 4)], True),
        ([frames(2), frames(3)], True),
        ([frames(2), crop(0, 0, 0.5, 0.5, frame=3)], True),
        ([frames(2)], False),
        ([frames(1, 4)], False),
        ([REFUSED], False),
    ],
)
def test_evidence_frames_are_hit_when_each_was_selected(observations, hit):
    asked = trace("red", *observations, evidence=Evidence(frames=(2, 3)), kind="video")
    assert evidence_hit(asked) is hit


def test_a_question_without_evidence_is_neither_hit_nor_missed():
    assert evidence_hit(trace("red", crop(*BOX))) is None
    assert evidence_hit(trace("red", crop(*BOX), evidence=Evidence())) is None


# --- a run ---


@pytest.fixture
def out(tmp_path):
    """Folder of a run with one picture."""
    (tmp_path / "run").mkdir()
    draw_photo(tmp_path / "run" / "photo.png")
    return tmp_path / "run"


def questions(count: int, path: str = "photo.png") -> list[Question]:
    medium = MediaItem(kind="image", path=path)
    return [
        Question(id=str(index), text="Which colour?", media=(medium,), answer=("red",))
        for index in range(count)
    ]


def run(asked, model, out, rules: RolloutConfig | None = None, **more):
    on_trace = more.pop("on_trace", lambda trace: None)
    return evaluate(Evaluation(asked, model, rules or RolloutConfig(), TASK, **more), out, on_trace)


def lines(out) -> list[str]:
    return (out / "traces.jsonl").read_text(encoding="utf-8").splitlines()


def ids(out) -> list[str]:
    return sorted(json.loads(line)["question"]["id"] for line in lines(out))


class Killed(ScriptedModel):
    """Model that raises KeyboardInterrupt in the given round."""

    def __init__(self, last_round: int) -> None:
        super().__init__([RED])
        self.rounds_left = last_round

    def generate(self, conversations, decoding, on_text=None):
        if not self.rounds_left:
            raise KeyboardInterrupt
        self.rounds_left -= 1
        return super().generate(conversations, decoding, on_text)


def test_a_run_writes_traces_settings_and_a_summary(out, scripted):
    reported = []
    summary = run(questions(3), scripted(RED), out, on_trace=reported.append)
    assert ids(out) == ["0", "1", "2"]
    assert [one.question.id for one in reported] == ["0", "1", "2"]
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    settings = json.loads((out / "settings.json").read_text())
    assert settings["model"] == {"name": "scripted"}
    assert settings == json.loads(json.dumps(summary["settings"]))
    assert (summary["count"], summary["accuracy"]) == (3, 1.0)


def test_a_killed_run_resumes_without_loss_and_without_duplicates(out, scripted):
    with pytest.raises(KeyboardInterrupt):
        run(questions(7), Killed(2), out, batch_size=2)
    assert ids(out) == ["0", "1", "2", "3"]
    cut = (out / "traces.jsonl").read_bytes()
    (out / "traces.jsonl").write_bytes(cut[: -len(lines(out)[-1]) // 2])
    model, reported = scripted(RED), []
    summary = run(questions(7), model, out, batch_size=2, on_trace=reported.append)
    assert len(model.conversations) == 4
    assert ids(out) == [str(index) for index in range(7)]
    assert [one.question.id for one in reported][:3] == ["0", "1", "2"]
    assert (summary["count"], len(reported)) == (7, 7)


def test_a_finished_run_generates_nothing_again(out, scripted):
    first = run(questions(3), scripted(RED), out)
    model = scripted(RED)
    assert run(questions(3), model, out) == first
    assert model.conversations == []


def test_duplicate_ids_are_an_error_before_generation(out, scripted):
    model = scripted(RED)
    with pytest.raises(InputError, match="2 questions with id '0'"):
        run([*questions(2), *questions(1)], model, out)
    assert model.conversations == []


def test_failed_questions_are_retried(out, scripted):
    asked = [
        *questions(2),
        *[q.model_copy(update={"id": "late"}) for q in questions(1, "late.png")],
    ]
    summary = run(asked, scripted(RED), out)
    assert summary["count"] == 2
    assert "late.png" in summary["failed"]["late"]
    draw_photo(out / "late.png")
    model = scripted(RED)
    summary = run(asked, model, out)
    assert (summary["count"], summary["failed"], len(model.conversations)) == (3, {}, 1)
    assert ids(out) == ["0", "1", "late"]


@pytest.mark.parametrize(
    ("rules", "task", "named"),
    [
        (RolloutConfig(limits=RolloutLimits(max_turns=3)), TASK, "limits.max_turns = 6; got 3"),
        (RolloutConfig(operations=False), TASK, "operations = "),
        (RolloutConfig(), {**TASK, "name": "another"}, 'task.name = "by hand"; got "another"'),
    ],
)
def test_the_error_of_a_run_with_other_settings_names_them(out, scripted, rules, task, named):
    run(questions(1), scripted(RED), out)
    before = lines(out)
    with pytest.raises(UsageError, match=named):
        evaluate(Evaluation(questions(1), scripted(RED), rules, task), out)
    assert lines(out) == before


def test_settings_that_cannot_be_read_are_an_input_error(out, scripted):
    for broken in ("", "[1]", "3", "{"):
        (out / "settings.json").write_text(broken)
        with pytest.raises(InputError, match=r"settings\.json"):
            run(questions(1), scripted(RED), out)


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path, scripted):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="file"):
        run(questions(1), scripted(RED), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_in_place_of_the_log_is_an_output_error(out, scripted):
    (out / "traces.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"traces\.jsonl"):
        run(questions(1), scripted(RED), out)


def test_a_full_disk_is_an_output_error_and_the_run_can_continue(out, scripted):
    with full_disk(5000), pytest.raises(OutputError, match=r"traces\.jsonl"):
        run(questions(9), scripted(RED), out)
    kept = ids(out)
    assert 0 < len(kept) < 9
    assert (out / "traces.jsonl").read_bytes().endswith(b"\n")
    model = scripted(RED)
    assert run(questions(9), model, out)["count"] == 9
    assert len(model.conversations) == 9 - len(kept)


def test_a_log_on_a_full_disk_contains_only_complete_lines(tmp_path):
    path = tmp_path / "traces.jsonl"
    line = trace("red").to_line() + "\n"
    with Segment(path) as log:
        log.append_record(trace("red"))
        with full_disk(len(line) + 100):
            for _ in range(2):
                with pytest.raises(OutputError, match="room for one more record"):
                    log.append_record(trace("red"))
        assert path.read_text() == line
        log.append_record(trace("red"))
    assert path.read_text() == line * 2


def test_removing_failures_on_a_full_disk_is_an_output_error_that_keeps_the_log(out, scripted):
    run(
        [*questions(3), *[q.model_copy(update={"id": "late"}) for q in questions(1, "late.png")]],
        scripted(RED),
        out,
    )
    before = lines(out)
    with full_disk(1000), pytest.raises(OutputError), RunStore(out) as store:
        store.discard_failed()
    assert lines(out) == before
    assert not list(out.glob("*.part"))


def test_the_error_of_an_invalid_line_has_its_number(out, scripted):
    run(questions(2), scripted(RED), out)
    (out / "traces.jsonl").write_text("\n".join([lines(out)[0], "{}", ""]))
    with pytest.raises(InputError, match="line 2"):
        run(questions(2), scripted(RED), out)


def test_a_folder_can_be_moved_with_its_media(out, tmp_path, scripted):
    run(questions(2), scripted(RED), out)
    shutil.move(out, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "traces.jsonl"):
        traces = list(load_run(path))
        assert len(traces) == 2
        assert MediaContext.of_trace(traces[0]).view(1).size == traces[0].pictures[0].seen_px
    model = scripted(RED)
    run(questions(3), model, tmp_path / "elsewhere")
    assert len(model.conversations) == 1


def test_media_of_every_reported_trace_can_be_opened(out, scripted):
    run(questions(2), scripted(RED), out)
    reported = []
    run(questions(3), scripted(RED), out, on_trace=reported.append)
    assert [MediaContext.of_trace(one).view(1).size for one in reported] == [
        reported[0].pictures[0].seen_px
    ] * 3


def test_a_folder_without_a_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"traces\.jsonl"):
        list(load_run(tmp_path))


# --- strategies ---


SAMPLED = RolloutConfig(sampling=SamplingParams(temperature=0.7))


def questions_named(*names: str) -> list[Question]:
    return [Question(id=name, text="?", media=(), answer=("red",)) for name in names]


def test_majority_vote_runs_five_rollouts_and_keeps_one_trace_per_question(
    tmp_path,
):
    model = ScriptedModel([RED])
    evaluation = Evaluation(
        questions_named("a", "b", "c"), model, SAMPLED, TASK, strategy="majority_vote"
    )
    assert evaluate(evaluation, tmp_path)["count"] == 3
    assert {trace.notes for trace in load_run(tmp_path)} == {("majority vote: red 5",)}
    assert len(model.conversations) == 15
    assert evaluate(evaluation, tmp_path)["count"] == 3
    assert len(model.conversations) == 15, "a finished run asks nothing"


def test_a_strategy_that_is_stopped_early_cancels_its_requests(tmp_path):
    model = ScriptedModel([RED])
    traces = ask_many_by_strategy("majority_vote", questions_named(*"abcdefgh"), model, SAMPLED)
    assert next(traces).answer == "red"
    traces.close()
    assert get_scheduler(model).num_unfinished == 0
    assert ask_by_strategy("majority_vote", questions_named("z")[0], model, SAMPLED).answer == "red"


def test_a_vote_at_temperature_0_is_refused_before_a_model_is_loaded(tmp_path):
    spec = EvalSpec(benchmark="pixelworld", out=tmp_path / "run", strategy="majority_vote")
    question, unloaded = questions_named("a")[0], ModelSpec("no/such-model")
    for refused in (
        lambda: pr.evaluate(spec),
        lambda: api.ask(question, unloaded, strategy="majority_vote"),
        lambda: pr.Model(ScriptedModel([RED])).ask(question, strategy="majority_vote"),
        lambda: list(ask_many_by_strategy("majority_vote", [question], ScriptedModel([RED]))),
    ):
        with pytest.raises(UsageError, match="set --temperature above 0"):
            refused()
    assert not (tmp_path / "run" / "media").exists()


def test_a_comparison_names_single_and_only_the_settings_that_differ(tmp_path):
    for name, config in (("single", RolloutConfig()), ("majority_vote", SAMPLED)):
        questions, model = questions_named("a", "b"), ScriptedModel([RED])
        task = TASK | ({"strategy": name} if name != "single" else {})
        evaluate(Evaluation(questions, model, config, task, strategy=name), tmp_path / name)
    found = api.compare(tmp_path / "single", tmp_path / "majority_vote")
    assert found["differing"] == {
        "task.strategy": ["single", "majority_vote"],
        "sampling.temperature": [0.0, 0.7],
    }
    plan = Evaluation(questions_named("a", "b"), ScriptedModel([RED]), SAMPLED, TASK)
    with pytest.raises(UsageError, match=r"sampling\.temperature = 0\.0; got 0\.7"):
        evaluate(plan, tmp_path / "single")


def test_a_model_answers_by_a_strategy():
    question, model = questions_named("a")[0], pr.Model(ScriptedModel([RED, r"\boxed{blue}"]))
    trace = model.ask(question, strategy="majority_vote", temperature=0.7)
    assert trace.notes[0].startswith("majority vote: ")
    with pytest.raises(UsageError, match="on_text with the strategy single"):
        model.ask(question, strategy="majority_vote", temperature=0.7, on_text=print)


def test_an_error_of_a_strategy_ends_the_evaluation_and_keeps_its_traces(tmp_path, request):
    request.addfinalizer(lambda: STRATEGIES.unregister("breaks_at_c"))

    @STRATEGIES.decorator(name="breaks_at_c")
    def breaks(question, scheduler, config):
        if question.id == "c":
            raise UsageError(expected="another", got="c", fix="leave it out")
        return scheduler.submit(RolloutRequest(question=question, config=config)).result()

    plan = Evaluation(
        questions_named("a", "b", "c"),
        ScriptedModel([RED]),
        RolloutConfig(),
        TASK,
        batch_size=1,
        strategy="breaks_at_c",
    )
    with pytest.raises(UsageError, match="leave it out"):
        evaluate(plan, tmp_path)
    assert [one.question.id for one in load_run(tmp_path)] == ["a", "b"]
