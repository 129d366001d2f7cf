"""Strategies: their options, what they look at, their answers, confidence, cost, and their place in runs and the server."""

import itertools
import json
import sys
from array import array

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from pixel_reasoner import api
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.run import Evaluation, evaluate, write_calibration
from pixel_reasoner.evals.stats import repeats
from pixel_reasoner.models.api import Completion, collect_images
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations._ocr import check_installed
from pixel_reasoner.reports.strategies import candidate_entries, reliability_section
from pixel_reasoner.reports.summary import RunSummary
from pixel_reasoner.rollout.replay import replay_trace
from pixel_reasoner.rollout.strategies import ask_by_strategy, check_strategy, parse_strategy
from pixel_reasoner.rollout.strategies.regions import centred, grid, quadrants
from pixel_reasoner.rollout.usage import answer_usage
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.strategy import CandidateKind
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.confidence import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    load_calibration,
    reliability,
    save_calibration,
)
from pixel_reasoner.scoring.voting import AnswerGroups, majority
from server_fixture import chat, serving

SAMPLED = RolloutConfig(sampling=SamplingParams(temperature=0.7))
OFF = RolloutConfig(operations=False)
RED_BOX = Box(0.7, 0.15, 0.78, 0.23)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A grey picture of 800 x 800 pixels with a small red square."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    image = Image.new("RGB", (800, 800), "grey")
    image.paste("red", tuple(round(800 * side) for side in RED_BOX))
    image.save(path)
    return path


def asked(path, text="Which letter is on the red square?", **fields) -> Question:
    return Question(
        id="1", text=text, media=(MediaItem(kind="image", path=str(path)),), answer=("K",), **fields
    )


def redness(image) -> float:
    pixels = np.asarray(image.convert("RGB"), int)
    return float(((pixels[..., 0] > 180) & (pixels[..., 1] < 60)).mean())


def reader(conversation) -> Completion:
    """Reply of a model that reads a region only if the red square is large in it."""
    image = collect_images(conversation)[-1]
    text = str(conversation[-1]["content"]) + str(conversation[1]["content"])
    if "Is there" in text:
        sees = redness(image) > 0
        return Completion(r"\boxed{yes}" if sees else r"\boxed{no}", logprobs=array("f", [-0.1]))
    if redness(image) < 0.03:
        return Completion(r"I guess. \boxed{B}", logprobs=array("f", [-3.0]))
    return Completion(r"\boxed{K}", logprobs=array("f", [-0.2]))


class CompletingModel(ScriptedModel):
    """Scripted model whose function returns completions, with log-probabilities and tokens."""

    def generate(self, conversations, decoding, on_text=None):
        self.conversations += conversations
        return [self.script(one) for one in conversations]


def voter(*answers: str) -> ScriptedModel:
    """A model whose samples give these answers in turn."""
    endless = itertools.cycle(answers)
    return ScriptedModel(lambda conversation: rf"\boxed{{{next(endless)}}}")


# --- options ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("majority_vote:k=1", "greater than or equal to 2; got '1'"),
        ("majority_vote:k=many", "valid integer"),
        ("majority_vote:n=3", "an option of the strategy majority_vote: k, weights; got 'n'"),
        ("majority_vote:k", "NAME:key=value"),
        ("majority_vote:k=2,k=3", "each key once"),
        ("single:k=2", "an option of the strategy single: it has none"),
        ("proposals:source=x", "'difference' or 'ocr'"),
        ("majority", "use 'majority_vote'"),
    ],
)
def test_an_invalid_strategy_is_one_line_with_the_fix(text, message):
    with pytest.raises(UsageError) as error:
        parse_strategy(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_canonical_text_of_a_strategy_leaves_out_defaults_and_is_stable():
    assert parse_strategy("majority_vote:k=5").text == "majority_vote"
    text = parse_strategy("tree_search: nodes=8, depth=2").text
    assert text == "tree_search:depth=2,nodes=8" == parse_strategy(text).text


# --- regions ---


@given(st.integers(1, 6), st.floats(0, 0.8))
def test_tiles_and_quadrants_cover_a_region_and_stay_inside(tiles, overlap):
    side = 1 / (tiles - (tiles - 1) * overlap)
    for boxes, within in ((grid(side, overlap), WHOLE), (quadrants(RED_BOX, overlap), RED_BOX)):
        for x, y in np.random.default_rng(0).uniform(0, 1, (20, 2)):
            x = within.x1 + x * (within.x2 - within.x1)
            y = within.y1 + y * (within.y2 - within.y1)
            assert any(one.x1 <= x <= one.x2 and one.y1 <= y <= one.y2 for one in boxes)
        assert all(0 <= one.x1 < one.x2 <= 1 and 0 <= one.y1 < one.y2 <= 1 for one in boxes)


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.1), st.floats(0.05, 1))
def test_a_centred_region_contains_its_box_and_has_the_least_side(x, y, size, side):
    box = Box(x, y, x + size, y + size)
    found = centred(box, side)
    assert found.x2 - found.x1 >= side - 1e-3
    assert found.x1 <= box.x1 + 1e-3
    assert found.x2 >= box.x2 - 1e-3
    assert found.x1 >= 0
    assert found.x2 <= 1 + 1e-9


# --- votes ---


def test_equivalent_answers_are_one_vote_and_the_confidence_is_its_share():
    question = Question(id="1", text="How many?", media=(), answer_type=AnswerType.NUMBER)
    trace = ask_by_strategy(
        "majority_vote:k=5", question, voter("5", "4", "four", "4.0", "5"), SAMPLED
    )
    assert trace.answer in ("4", "four", "4.0")
    assert trace.strategy.confidence == pytest.approx(0.6)
    assert sorted(one.votes for one in trace.strategy.candidates) == [2, 2, 3, 3, 3]
    assert [one.is_selected for one in trace.strategy.candidates].count(True) == 1
    assert trace.strategy.options == {"k": 5, "weights": "count"}


def test_of_equally_frequent_answers_the_more_probable_one_wins():
    assert majority([0, 1, 0, 1], [0.1, 0.5, 0.2, 0.4]) == 1
    assert majority([0, 1, 1], [0.9, 0.1, 0.1]) == 1, "probability decides only between equals"


def test_a_weighted_vote_counts_a_vote_as_much_as_its_answer_is_probable():
    replies = itertools.cycle([("A", -2.0), ("A", -2.0), ("B", -0.1)])

    def reply(conversation) -> Completion:
        answer, logprob = next(replies)
        return Completion(rf"\boxed{{{answer}}}", logprobs=array("f", [logprob]))

    question = Question(id="1", text="Which?", media=())
    found = {
        weights: ask_by_strategy(
            f"majority_vote:k=3,weights={weights}", question, CompletingModel(reply), SAMPLED
        )
        for weights in ("count", "probability")
    }
    assert {weights: trace.answer for weights, trace in found.items()} == {
        "count": "A",
        "probability": "B",
    }
    share = np.exp(-0.1) / (np.exp(-0.1) + 2 * np.exp(-2))
    assert found["probability"].strategy.confidence == pytest.approx(share, abs=1e-4)


def test_similar_answers_are_not_equivalent_votes_although_the_grader_accepts_both():
    groups = AnswerGroups(Question(id="1", text="?", media=(), answer_type=AnswerType.ANLS))
    assert [groups.add(one) for one in ("Parsi", "Paris", "paris")] == [0, 1, 1]


def test_maj_at_k_is_the_accuracy_of_the_most_frequent_answer():
    def sample(name: str, number: int, answer: str | None) -> Trace:
        question = Question(id=name, text="?", media=(), answer=("red",))
        return Trace(question=question, sample=number, answer=answer, stop=StopReason.ANSWERED)

    answers = {"a": ["blue", "red", "Red."], "b": ["red", "blue", "blue"], "c": [None, None, None]}
    traces = [
        sample(name, n, one) for name, given in answers.items() for n, one in enumerate(given)
    ]
    found = repeats(traces)
    assert (found["avg@3"]["value"], found["maj@3"]["value"]) == (0.3333, 0.3333)
    assert found["pass@3"]["value"] == 0.6667


# --- regions of a picture ---


def test_tree_search_finds_the_region_of_the_object_and_answers_from_it(scene):
    model = CompletingModel(reader)
    trace = ask_by_strategy("tree_search", asked(scene), model, OFF)
    assert trace.answer == "K"
    probes = [one for one in trace.strategy.candidates if one.kind is CandidateKind.PROBE]
    assert {one.text for one in probes} == {"Is there a red square?"}
    seen = trace.executed[0].pictures[0].box
    assert RED_BOX.intersection(seen) > 0.3 * RED_BOX.area
    assert seen.area < 0.1
    assert all(trace.strategy.candidates[one.parent].score > 0.5 for one in probes if one.parent)


@pytest.mark.parametrize("strategy", ["best_of_crops:tiles=4", "proposals:k=3,side=0.2"])
def test_the_most_probable_answer_of_the_crops_wins(scene, strategy):
    trace = ask_by_strategy(strategy, asked(scene), CompletingModel(reader), OFF)
    assert trace.answer == "K"
    chosen = next(one for one in trace.strategy.candidates if one.is_selected)
    assert RED_BOX.intersection(chosen.regions[0].box) > 0
    assert trace.strategy.confidence == pytest.approx(np.exp(-0.2), abs=1e-3)


def test_tiling_shows_the_picture_and_all_tiles_in_one_prompt(scene):
    model = ScriptedModel([r"\boxed{K}"])
    trace = ask_by_strategy("tiling:tiles=3", asked(scene), model, OFF)
    assert len(collect_images(model.conversations[0])) == 10
    assert [one.number for one in trace.pictures] == list(range(1, 11))


@pytest.mark.parametrize(
    "strategy", ["tiling", "best_of_crops:tiles=2", "tree_search", "proposals"]
)
def test_a_question_without_pictures_is_answered_by_an_ordinary_rollout(strategy):
    question = Question(id="1", text="What is the red square?", media=())
    trace = ask_by_strategy(strategy, question, ScriptedModel([r"\boxed{4}"]), OFF)
    assert (trace.answer, trace.strategy.usage.num_rollouts) == ("4", 1)


def test_a_broken_picture_fails_the_question_with_its_reason(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    trace = ask_by_strategy(
        "best_of_crops", asked(tmp_path / "broken.png"), CompletingModel(reader), OFF
    )
    assert trace.stop is StopReason.FAILED
    assert "broken.png" in trace.error


@pytest.mark.parametrize("strategy", ["tiling", "tree_search"])
@pytest.mark.parametrize("config", [OFF, RolloutConfig()])
def test_a_trace_of_a_strategy_survives_its_file_and_can_be_replayed(scene, strategy, config):
    model = CompletingModel(reader)
    trace = ask_by_strategy(strategy, asked(scene), model, config)
    same = Trace.from_line(trace.to_line())
    assert same.strategy == trace.strategy
    rollout = replay_trace(same)
    assert (rollout.answer, rollout.pictures) == (trace.answer, trace.pictures)
    assert [one.observations for one in rollout.turns] == [one.observations for one in trace.turns]


def test_ocr_without_its_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    check_installed.cache_clear()
    with pytest.raises(UsageError, match=r"rapidocr is not installed.*\[ocr\]"):
        check_strategy("proposals:source=ocr")


# --- cost ---


def test_the_cost_of_a_strategy_is_the_sum_of_its_rollouts(scene):
    def reply(conversation) -> Completion:
        return Completion(r"\boxed{K}", token_ids=array("i", [1, 2, 3]), num_prompt_tokens=100)

    one = api.ask(asked(scene), CompletingModel(reply), SAMPLED)
    many = ask_by_strategy("majority_vote:k=4", asked(scene), CompletingModel(reply), SAMPLED)
    single, usage = answer_usage(one), answer_usage(many)
    assert (single.num_rollouts, single.prompt_tokens, single.new_tokens) == (1, 100, 3)
    assert (usage.num_rollouts, usage.prompt_tokens, usage.new_tokens) == (4, 400, 12)
    assert usage.visual_tokens == 4 * single.visual_tokens > 0


# --- confidence ---


def test_a_calibration_is_monotone_and_lowers_the_error_on_other_answers():
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[list[float], list[bool]]:
        confidences = rng.uniform(0, 1, count)
        return confidences.tolist(), (rng.uniform(0, 1, count) < 0.5 * confidences).tolist()

    fitted = fit_calibration(*draw(2000), strategy="majority_vote")
    confidences, correct = draw(2000)
    calibrated = [fitted.apply(one) for one in confidences]
    assert expected_calibration_error(confidences, correct) > 0.2
    assert expected_calibration_error(calibrated, correct) < 0.05
    order = np.argsort(confidences)
    assert (np.diff(np.asarray(calibrated)[order]) >= 0).all()
    assert sum(one.num_answers for one in reliability(calibrated, correct)) == 2000


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_a_fitted_calibration_is_a_valid_file_with_values_between_0_and_1(answers):
    confidences, correct = zip(*answers, strict=True)
    fitted = fit_calibration(confidences, correct, strategy="s")
    assert Calibration.from_line(fitted.to_line()) == fitted
    assert all(0 < fitted.apply(one) < 1 for one in (0.0, *confidences, 1.0))


def test_a_calibration_of_another_strategy_or_of_no_strategy_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    save_calibration(fit_calibration([0.5], [True], strategy="majority_vote:k=8"), path)
    check_strategy("majority_vote:k=8", SAMPLED, path)
    with pytest.raises(UsageError, match=r"--strategy majority_vote:k=8 with --calibration"):
        check_strategy("majority_vote", SAMPLED, path)
    with pytest.raises(UsageError, match="a strategy that records its confidence"):
        check_strategy("single", SAMPLED, path)
    path.write_text("{}")
    with pytest.raises(InputError, match="one calibration"):
        load_calibration(path)


def test_a_run_fits_a_calibration_that_another_run_applies_and_records(tmp_path, scene):
    questions = [asked(scene).model_copy(update={"id": name}) for name in "abcd"]
    plan = Evaluation(
        questions, voter("K", "K", "B"), SAMPLED, {"name": "t"}, strategy="majority_vote:k=3"
    )
    summary = evaluate(plan, tmp_path / "fit")
    path = tmp_path / "calibration.json"
    write_calibration(plan, tmp_path / "fit", path)
    assert summary["rollouts_per_question"] == 3
    assert json.loads(path.read_text())["strategy"] == "majority_vote:k=3"
    evaluate(plan._replace(calibration=path), tmp_path / "use")
    records = [trace.strategy for trace in load_run(tmp_path / "use")]
    fitted = load_calibration(path)
    assert [one.calibrated for one in records] == pytest.approx(
        [fitted.apply(one.confidence) for one in records], abs=1e-4
    )


@pytest.mark.extras
@pytest.mark.medium
def test_the_cli_records_strategy_and_calibration_in_the_settings_of_the_run(tmp_path, run):
    common = ("eval", "pixelworld", "--count", 1, "--temperature", 0.7, "--sample-seed", 1)
    vote = ("--strategy", "majority_vote:k=2")
    path = tmp_path / "calibration.json"
    code, out, _ = run(*common, *vote, "--fit-calibration", path, "--out", tmp_path / "a")
    assert (code, path.exists()) == (0, True)
    assert "cost per answer: 2 rollouts, " in out
    code, _, _ = run(*common, *vote, "--calibration", path, "--out", tmp_path / "b")
    task = json.loads((tmp_path / "b" / "settings.json").read_text())["task"]
    assert task["strategy"] == "majority_vote:k=2"
    assert task["calibration"] == load_calibration(path).fingerprint
    code, _, err = run(*common, "--strategy", "majority_vote:k=3", "--out", tmp_path / "a")
    assert (code, "majority_vote:k=2" in err) == (2, True)
    code, _, err = run("eval", "pixelworld", "--fit-calibration", path, "--out", tmp_path / "c")
    assert (code, "--strategy single" in err) == (2, True)


# --- reports and the server ---


def test_a_report_shows_candidates_with_pictures_and_the_reliability_of_the_confidence(scene):
    from pixel_reasoner.reports.pictures import PictureStore, TracePictures

    trace = ask_by_strategy("tree_search", asked(scene), CompletingModel(reader), OFF)
    (scene.parent / "store").mkdir()
    store = PictureStore(scene.parent / "store")
    entries = list(candidate_entries(trace, TracePictures(trace, store)))
    assert len(entries) == len(trace.strategy.candidates)
    assert all(region.view.ref for one in entries for region in one.regions)
    bins = [one._asdict() for one in reliability([0.9, 0.8, 0.1], [True, True, False])]
    section = reliability_section(RunSummary.model_validate({"reliability": bins, "ece": 0.1}))
    assert section.charts[0].series[0].y == (0.0, 1.0, 1.0)
    assert reliability_section(RunSummary()) is None


def test_the_server_answers_by_its_strategy_and_counts_all_rollouts(scene):
    model = voter("K", "K", "B")
    settings = {"strategy": "majority_vote:k=3", "config": SAMPLED}
    with serving(model, **settings) as server:
        body = chat("Which letter?", scene)
        reply = server.post("/v1/chat/completions", body).json()
        streamed = server.post("/v1/chat/completions", {**body, "stream": True}).text
        greedy = server.post("/v1/chat/completions", {**body, "temperature": 0}).json()
    extra = reply["choices"][0]["message"]["pixel_reasoner"]
    assert (extra["answer"], extra["strategy"], extra["num_rollouts"]) == ("K", "majority_vote", 3)
    assert extra["confidence"] == pytest.approx(2 / 3, abs=1e-3)
    assert r"\\boxed{K}" in streamed
    assert "[DONE]" in streamed
    assert greedy["choices"][0]["message"]["pixel_reasoner"]["num_rollouts"] == 3
    assert len(model.conversations) == 9


def test_the_server_names_the_error_of_a_broken_picture_also_with_a_strategy(tmp_path):
    image = Image.effect_noise((64, 64), 50)
    image.save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with serving(voter("K"), strategy="majority_vote:k=2", config=SAMPLED) as server:
        reply = server.post("/v1/chat/completions", chat("What?", tmp_path / "cut.png"))
    assert reply.status_code == 400
    assert "image" in reply.json()["error"]["message"].lower()
