"""Check of traces: valid traces pass, and each kind of damage is found by its own check."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from pixel_reasoner.data.check import check_traces, find_problems
from pixel_reasoner.data.expert import ExpertConfig, Kind, expert_trace
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.world import all_questions, make_scene, write_media
from pixel_reasoner.world.render import build_media_item


@pytest.fixture
def trace(tmp_path) -> Trace:
    """A valid trace with one wrong region, and its file."""
    scene = make_scene("attribute", 5)
    write_media(scene, tmp_path / build_media_item(scene).path)
    question = with_media_root(next(all_questions(scene, build_media_item(scene))), tmp_path)
    config = ExpertConfig(COMPACT, folder_settings(BUNDLED_MODELS["tiny"]).budgets)
    return expert_trace(question, Kind.WRONG_ONCE, random.Random(0), config)


def failed(trace: Trace) -> set[str]:
    return {problem.check for problem in find_problems(trace)}


def with_question(trace: Trace, **changes) -> Trace:
    question = trace.question.model_copy(update=changes)
    return trace.model_copy(update={"question": question})


def with_turn(trace: Trace, number: int, **changes) -> Trace:
    turns = list(trace.turns)
    turns[number] = turns[number].model_copy(update=changes)
    return trace.model_copy(update={"turns": tuple(turns)})


def test_a_valid_trace_passes(trace):
    assert check_traces([trace]).passed
    assert check_traces([Trace.from_line(trace.to_line())]).passed


def test_an_empty_set_of_traces_fails():
    assert not check_traces([]).passed


def test_an_unexpected_answer_is_found(trace):
    assert failed(with_question(trace, answer=("?",))) == {"gold"}
    assert failed(with_question(trace, answer=())) == {"gold"}


def test_evidence_outside_the_crops_is_found(trace):
    wrong = trace.executed[0].pictures[0].box
    evidence = trace.question.evidence.model_copy(update={"boxes": (wrong, Box(0, 0, 0.01, 0.01))})
    assert failed(with_question(trace, evidence=evidence)) == {"evidence"}


def test_a_changed_text_or_call_is_found_by_replaying(trace):
    text = trace.turns[1].text.replace("[0.", "[0.0")
    assert failed(with_turn(trace, 1, text=text)) == {"replay"}
    crop = trace.turns[1].observation
    moved = crop.pictures[0].model_copy(update={"box": Box(0.1, 0.1, 0.3, 0.3)})
    observation = crop.model_copy(update={"pictures": (moved,)})
    assert "replay" in failed(with_turn(trace, 1, observations=(observation,)))


def test_another_picture_under_the_same_name_is_found(trace):
    path = trace.question.media[0].path
    Image.new("RGB", (1000, 1024)).save(path)
    assert "replay" in failed(trace)


def test_marks_of_deliberate_mistakes_are_checked(trace):
    assert failed(with_turn(trace, -1, mistake=True)) == {"mistakes"}


@pytest.mark.parametrize("name", ["attribute-1000000-read-red-circle", "video-2000017-count-1"])
def test_evaluation_scenes_are_rejected_for_training(trace, name):
    assert failed(with_question(trace, id=name)) == {"held_out"}


def test_questions_of_an_excluded_file_are_rejected_for_training(trace):
    verdict = check_traces([trace], held_out=frozenset({trace.question.id}))
    assert verdict.problems == {"held_out": 1}


def test_a_repeated_question_is_found(trace):
    verdict = check_traces([trace, trace])
    assert verdict.problems == {"distinct": 1}
    assert verdict.named[0].question == trace.question.id
