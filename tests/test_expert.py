"""Expert traces: each kind has its purpose and equals what the rollout loop would record."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.data.check import find_problems
from pixel_reasoner.data.expert import (
    ExpertConfig,
    Kind,
    NoTrace,
    classify_trace,
    expert_trace,
    zoom_box,
)
from pixel_reasoner.data.wording import describe_place
from pixel_reasoner.dialects import COMPACT, DIALECTS
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Evidence, Question, with_media_root
from pixel_reasoner.schema.trace import CallErrorKind
from pixel_reasoner.world import FAMILIES, all_questions, make_scene, write_media
from pixel_reasoner.world.render import build_media_item

BUDGETS = folder_settings(BUNDLED_MODELS["tiny"]).budgets
CONFIG = ExpertConfig(COMPACT, BUDGETS)
PICTURE_KINDS = [Kind.SINGLE, Kind.WRONG_ONCE, Kind.WRONG_TWICE, Kind.TOO_WIDE, Kind.REFUSED]
VIDEO_KINDS = [Kind.SINGLE, Kind.RESELECT, Kind.REFUSED]


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> dict[str, list[Question]]:
    """All questions about a scene of each family, with their files."""
    folder = tmp_path_factory.mktemp("scenes")
    found = {}
    for family in FAMILIES:
        scene = make_scene(family, 4)
        write_media(scene, folder / build_media_item(scene).path)
        found[family] = [
            with_media_root(q, folder) for q in all_questions(scene, build_media_item(scene))
        ]
    return found


def write(question: Question, kind: Kind, seed: int = 0, config: ExpertConfig = CONFIG):
    return expert_trace(question, kind, random.Random(seed), config)


@pytest.mark.medium
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (family, kind)
        for family in FAMILIES
        for kind in (VIDEO_KINDS if family == "video" else PICTURE_KINDS)
    ],
)
def test_every_kind_of_trace_passes_the_check_in_every_dialect(questions, family, kind, dialect):
    config = ExpertConfig(DIALECTS.get(dialect), DIALECTS.get(dialect).budgets)
    for seed in range(3 if dialect == COMPACT.name else 1):
        trace = write(questions[family][0], kind, seed, config)
        assert not list(find_problems(trace))
        assert classify_trace(trace) == kind
        assert trace.turns[0].mistake == (kind not in (Kind.SINGLE, Kind.TOO_WIDE))


def crops(trace):
    return [picture.box for observation in trace.executed for picture in observation.pictures]


@pytest.mark.parametrize(("kind", "times"), [(Kind.WRONG_ONCE, 1), (Kind.WRONG_TWICE, 2)])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_region_contains_no_evidence(questions, kind, times, dialect):
    config = ExpertConfig(DIALECTS.get(dialect), DIALECTS.get(dialect).budgets)
    for seed in range(20):
        trace = write(questions["attribute"][0], kind, seed, config)
        (evidence_box,) = trace.question.evidence.boxes
        *wrong, right = crops(trace)
        assert len(wrong) == times
        assert all(box.intersection(evidence_box) == 0 for box in wrong)
        assert right.intersection(evidence_box) == pytest.approx(evidence_box.area)
        assert [turn.mistake for turn in trace.turns] == [True] * times + [False, False]


def test_a_too_wide_region_contains_the_evidence_and_the_second_crop(questions):
    for seed in range(20):
        trace = write(questions["attribute"][0], Kind.TOO_WIDE, seed)
        (evidence_box,) = trace.question.evidence.boxes
        wide, close = crops(trace)
        assert wide.intersection(evidence_box) == pytest.approx(evidence_box.area)
        assert close.intersection(evidence_box) == pytest.approx(evidence_box.area)
        assert wide.intersection(close) == pytest.approx(close.area)
        assert wide.area > 2 * close.area
        assert trace.turns[1].call.arguments["target_image"] == 2, "a zoom into the crop"
        assert not any(turn.mistake for turn in trace.turns)


def test_without_picture_numbers_the_second_zoom_uses_the_first_picture(questions):
    config = ExpertConfig(DIALECTS.get("deepeyes"), DIALECTS.get("deepeyes").budgets)
    asked = questions["attribute"][0]
    wide, close = crops(write(asked, Kind.TOO_WIDE, 0, config))
    assert wide.intersection(close) == pytest.approx(close.area, rel=0.05)
    second = asked.model_copy(
        update={
            "media": asked.media * 2,
            "evidence": asked.evidence.model_copy(update={"image": 2}),
        }
    )
    with pytest.raises(NoTrace, match="picture_without_a_name"):
        write(second, Kind.SINGLE, 0, config)


def test_calls_have_a_label_in_families_that_use_one(questions):
    config = ExpertConfig(DIALECTS.get("qwen3_vl"), DIALECTS.get("qwen3_vl").budgets)
    trace = write(questions["attribute"][0], Kind.SINGLE, 0, config)
    (subject,) = trace.question.evidence.subjects
    assert f'"label": "{subject}"' in trace.turns[0].text


def test_a_reselection_trace_selects_other_frames_first(questions):
    for seed in range(20):
        trace = write(questions["video"][0], Kind.RESELECT, seed)
        wrong, right = trace.executed
        wanted = set(trace.question.evidence.frames)
        assert not wanted & {picture.frame for picture in wrong.pictures}
        assert {picture.frame for picture in right.pictures} == wanted


@pytest.mark.medium
def test_a_rejected_call_gets_an_error_and_is_repaired(questions):
    error_kinds = set()
    for family in ("attribute", "video"):
        for seed in range(30):
            trace = write(questions[family][0], Kind.REFUSED, seed)
            (refused,) = trace.rejected
            error_kinds.add(refused.error)
            assert trace.turns[0].mistake
            assert not trace.turns[1].mistake
            assert len(trace.executed) == 1
    assert error_kinds == {
        CallErrorKind.BAD_BOX,
        CallErrorKind.NO_SUCH_PICTURE,
        CallErrorKind.BAD_FRAMES,
    }


@pytest.mark.medium
def test_questions_that_need_no_operation_are_answered_directly(questions):
    for family, asked in questions.items():
        for question in asked:
            if question.needs_look:
                with pytest.raises(NoTrace, match="needs_look"):
                    write(question, Kind.TEXT)
            else:
                trace = write(question, Kind.TEXT)
                assert len(trace.turns) == 1, family
                assert not list(find_problems(trace))


def test_several_evidence_boxes_are_cropped_in_order(questions):
    first, second = questions["attribute"][:2]
    evidence = Evidence(
        boxes=(first.evidence.boxes[0], second.evidence.boxes[0]),
        subjects=("the one", "the other"),
        findings=("the one carries A", "the other carries B"),
    )
    question = first.model_copy(update={"evidence": evidence, "answer": ("A and B",)})
    for kind in PICTURE_KINDS:
        trace = write(question, kind)
        assert not list(find_problems(trace))
        text = " ".join(turn.text for turn in trace.turns)
        assert text.lower().count("the one carries a") == 1
        assert text.index("carries A") < text.index("carries B")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_thought_before_a_zoom_states_the_place_of_the_evidence(questions, family):
    for question in questions[family]:
        if not question.needs_look or family == "video":
            continue
        trace = write(question, Kind.SINGLE)
        calls = [turn for turn in trace.turns if turn.call]
        assert len(calls) == len(question.evidence.boxes)
        for turn, box, subject in zip(
            calls, question.evidence.boxes, question.evidence.subjects, strict=True
        ):
            assert f"{subject} in the {describe_place(box)}".lower() in turn.text.lower()


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_crops_of_evidence_of_equal_size_have_equal_size(x, y):
    crop = zoom_box(Box(x, y, x + 0.1, y + 0.1), ExpertConfig(COMPACT, BUDGETS, 0.0, 0.18))
    assert (crop.x2 - crop.x1, crop.y2 - crop.y1) == pytest.approx((0.18, 0.18))


def test_equal_seeds_give_equal_bytes_for_any_media_context(questions):
    question = questions["attribute"][0]
    context = MediaContext(question, BUDGETS)
    alone = write(question, Kind.WRONG_TWICE, 3).to_line()
    shared = [
        expert_trace(question, Kind.WRONG_TWICE, random.Random(3), CONFIG, context).to_line()
        for _ in range(2)
    ]
    assert shared == [alone, alone]
    assert len(context) == 1


@pytest.mark.parametrize("answer", ["}", "a {b", "\\frac{1}{2"])
def test_an_answer_that_is_graded_as_wrong_gives_no_trace(questions, answer):
    question = questions["attribute"][0].model_copy(update={"answer": (answer,)})
    with pytest.raises(NoTrace, match="answer_does_not_score"):
        write(question, Kind.SINGLE)


def test_evidence_that_fills_the_picture_allows_no_deliberate_mistake(questions):
    whole = Evidence(boxes=(Box(0.0, 0.0, 1.0, 1.0),))
    question = questions["attribute"][0].model_copy(update={"evidence": whole})
    for kind in (Kind.WRONG_ONCE, Kind.TOO_WIDE):
        with pytest.raises(NoTrace, match="no_room"):
            write(question, kind)
    assert not list(find_problems(write(question, Kind.SINGLE)))


@settings(max_examples=200)
@given(st.tuples(*[st.integers(0, 999)] * 4), st.floats(0, 1), st.floats(0.01, 0.5))
def test_a_crop_contains_its_evidence_and_is_inside_the_picture(corners, margin, min_side):
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    evidence_box = Box.of([x1 / 1000, y1 / 1000, (x2 + 1) / 1000, (y2 + 1) / 1000])
    box = Box.of(zoom_box(evidence_box, ExpertConfig(COMPACT, BUDGETS, margin, min_side)))
    assert box.intersection(evidence_box) == pytest.approx(evidence_box.area)
    assert all(round(value, 2) == value for value in box)
    assert min(box.x2 - box.x1, box.y2 - box.y1) >= min_side - 1e-9
