"""PixelWorld families for single operations: exact answers, evidence, and expert traces with the operation."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pixel_reasoner import api
from pixel_reasoner.data.check import find_problems
from pixel_reasoner.data.expert import ExpertConfig, Kind, NoTrace, expert_trace
from pixel_reasoner.dialects import COMPACT, DIALECTS, get_dialect
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.operations.measure import segment_px
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.world import (
    FAMILIES,
    OPERATION_FAMILIES,
    all_questions,
    build_question,
    draw_frames,
    draw_picture,
    make_scene,
    write_media,
)
from pixel_reasoner.world.operation_scenes import BRIEF_FRAMES, UPRIGHT_GLYPHS
from pixel_reasoner.world.render import build_media_item
from pixel_reasoner.world.shapes import NUM_FRAMES

BUDGETS = folder_settings(BUNDLED_MODELS["tiny"]).budgets
CASES = {
    "compare": "relation",
    "mark": "crowd",
    "measure": "distance",
    "zoom_time": "brief",
    "zoom_variants": "turned",
}
each_case = pytest.mark.parametrize(("operation", "family"), CASES.items(), ids=CASES)


def questions_of(family: str, seed: int) -> list[Question]:
    scene = make_scene(family, seed)
    return list(all_questions(scene, build_media_item(scene)))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """The media of seed 1 of each family that is used below."""
    folder = tmp_path_factory.mktemp("families")
    for family in {*CASES.values(), "faint"}:
        scene = make_scene(family, 1)
        write_media(scene, folder / build_media_item(scene).path)
    return folder


def config(dialect=COMPACT, *operations: str) -> ExpertConfig:
    return ExpertConfig(dialect, BUDGETS, operations=(*DEFAULT_OPERATIONS, *operations))


@pytest.mark.parametrize("family", OPERATION_FAMILIES)
def test_a_seed_determines_the_scene_and_its_question(family):
    assert family not in FAMILIES
    for seed in range(12):
        scene = make_scene(family, seed)
        assert scene == make_scene(family, seed)
        medium = build_media_item(scene)
        assert build_question(scene, medium) == build_question(scene, medium)
        ids = [one.id for one in all_questions(scene, medium)]
        assert len(ids) == len(set(ids)) > 0


def test_brief_cards_are_in_no_sampled_frame_and_their_question_names_the_frames_around_them():
    sampled = [(2 * part + 1) * BRIEF_FRAMES // (2 * NUM_FRAMES) for part in range(NUM_FRAMES)]
    for seed in range(40):
        for question in questions_of("brief", seed):
            if question.evidence is None:
                continue
            indices = question.evidence.clip_indices
            assert not set(indices) & set(sampled)
            before = int(question.text.split("frames ")[1].split(" ")[0])
            assert sampled[before - 1] < indices[0] <= indices[-1] < sampled[before]


def test_the_nearer_shape_is_the_one_with_the_shorter_segment():
    for seed in range(40):
        for question in questions_of("distance", seed):
            if question.evidence is None:
                continue
            first, second = (
                segment_px(list(one), (1024, 1024)) for one in question.evidence.segments
            )
            named = question.text.split(", the ")[1].rstrip("?").split(" or the ")
            assert question.answer[0] == named[first > second]
            assert max(first, second) / min(first, second) >= 1.11


def test_a_crowd_has_as_many_points_as_the_answer():
    for seed in range(40):
        for question in questions_of("crowd", seed):
            assert int(question.answer[0]) == len(question.evidence.points)


def test_turned_characters_are_rotated_and_faint_ones_nearly_have_the_colour_of_their_shape():
    turned = make_scene("turned", 1)
    assert all(item.quarter_turns in (1, 2, 3) for item in turned.items)
    assert {item.glyph for item in turned.items} <= set(UPRIGHT_GLYPHS)
    plain = turned._replace(items=tuple(i._replace(quarter_turns=0) for i in turned.items))
    assert not np.array_equal(np.asarray(draw_picture(turned)), np.asarray(draw_picture(plain)))
    faint = make_scene("faint", 1)
    picture = np.asarray(draw_picture(faint), int)
    for item in faint.items:
        x, y = (round(v * 1024) for v in (item.x, item.y))
        window = picture[y - 10 : y + 10, x - 6 : x + 6].reshape(-1, 3)
        assert 4 < np.ptp(window, axis=0).max() < 40


def test_a_clip_has_the_frames_of_its_scene():
    scene = make_scene("brief", 1)
    assert len(draw_frames(scene)) == BRIEF_FRAMES


# --- expert traces ---


@each_case
@pytest.mark.parametrize("kind", [Kind.OPERATION, Kind.OPERATION_WRONG])
def test_an_expert_trace_calls_the_operation_and_is_valid(media, operation, family, kind):
    found = 0
    for question in questions_of(family, 1):
        if question.needs_look is False:
            continue
        asked = with_media_root(question, media)
        try:
            trace = expert_trace(asked, kind, random.Random(0), config(COMPACT, operation))
        except NoTrace:
            assert kind is Kind.OPERATION_WRONG
            continue
        found += 1
        assert {call.name for turn in trace.turns for call in turn.calls} == {operation}
        assert [turn.mistake for turn in trace.turns[:-1]] == (
            [True, False] if kind is Kind.OPERATION_WRONG else [False]
        )
        assert evidence_hit(trace) in (True, None)
        assert trace.answer == question.answer[0]
        assert trace.settings.operations == (*DEFAULT_OPERATIONS, operation)
        assert list(find_problems(trace)) == []
    can_miss = operation not in ("mark", "measure")
    assert bool(found) == (kind is Kind.OPERATION or can_miss)


@pytest.mark.medium
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_has_traces_with_every_operation(media, dialect):
    for operation, family in CASES.items():
        question = next(
            one
            for one in questions_of(family, 1)
            if one.evidence is not None and (family != "relation" or len(one.evidence.boxes) == 2)
        )
        asked = with_media_root(question, media)
        expert = config(get_dialect(dialect), operation)
        trace = expert_trace(asked, Kind.OPERATION, random.Random(0), expert)
        assert [one.error for one in trace.observations] == [None]
        again = MediaContext.of_trace(trace, BUDGETS)
        assert len(again) == len(trace.all_pictures)


@pytest.mark.medium
def test_synthesis_uses_the_operations_that_it_names(tmp_path):
    spec = api.SynthSpec(
        source="pixelworld",
        out=tmp_path / "run",
        families="distance,crowd",
        count=8,
        text_share=0.0,
        operations=(*DEFAULT_OPERATIONS, "measure", "mark"),
    )
    summary = api.synthesize(spec)
    assert summary["kinds"] == {"operation": 8}
    traces = list(load_traces(tmp_path / "run" / "traces.jsonl"))
    names = [turn.calls[0].name for trace in traces for turn in trace.turns if turn.calls]
    assert set(names) == {"measure", "mark"}
    assert summary["settings"]["operations"] == ["zoom_in", "select_frames", "measure", "mark"]


def test_the_settings_of_a_run_with_the_default_operations_are_those_of_earlier_versions():
    from pixel_reasoner.data.synth import SynthSettings

    settings = SynthSettings(source="pixelworld", count=1, budgets=BUDGETS)
    assert "operations" not in settings.model_dump(mode="json")
