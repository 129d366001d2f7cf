"""Answers of the model: every number needs a decision, and what is not understood is unsure, never ok."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.workflows.inspection.places import Proposal
from pixel_reasoner.workflows.inspection.questions import (
    free_question,
    proposal_question,
    read_free_reply,
    read_proposal_reply,
)
from pixel_reasoner.workflows.inspection.spec import DefectClass, InspectionSpec

SPEC = InspectionSpec(
    product="plate",
    good="four holes.",
    defects={
        "missing_hole": DefectClass(aliases=("no hole",)),
        "scratch": DefectClass(description="thin line"),
    },
)


@pytest.mark.parametrize(
    ("answer", "classes", "rejected", "unsure"),
    [
        ("1: scratch; 2: none", {1: "scratch"}, {2}, set()),
        ("1: Missing hole\n2: No-Hole.", {1: "missing_hole", 2: "missing_hole"}, set(), set()),
        ("1 = scratch (thin line), 2 - ok", {1: "scratch"}, {2}, set()),
        ("crop 1: none; picture 2: scratch", {2: "scratch"}, {1}, set()),
        ("none", {}, {1, 2}, set()),
        ("OK.", {}, {1, 2}, set()),
        ("unsure", {}, set(), {1, 2}),
        ("1: unsure; 2: none", {}, {2}, {1}),
        ("1: none", {}, {1}, {2}),
        ("1: rust; 2: none", {}, {2}, {1}),
        ("1: other; 2: none", {1: "other"}, {2}, set()),
        ("1: none; 2: none; 7: scratch", {}, {1, 2}, set()),
        ("it looks fine to me", {}, set(), {1, 2}),
        ("", {}, set(), {1, 2}),
        (None, {}, set(), {1, 2}),
    ],
)
def test_an_answer_about_proposals(answer, classes, rejected, unsure):
    found = read_proposal_reply(answer, [1, 2], SPEC)
    assert (dict(found.classes), set(found.rejected), set(found.unsure)) == (
        classes,
        rejected,
        unsure,
    )
    is_clean = not unsure and answer != "1: none; 2: none; 7: scratch"
    assert (found.problem == "") == (is_clean or answer == "1: unsure; 2: none")


@given(answer=st.text(max_size=60), count=st.integers(1, 5))
def test_every_number_has_exactly_one_decision(answer, count):
    numbers = list(range(1, count + 1))
    found = read_proposal_reply(answer, numbers, SPEC)
    decided = [*found.classes, *found.rejected, *found.unsure]
    assert sorted(decided) == numbers


@pytest.mark.parametrize(
    ("answer", "classes", "has_problem"),
    [
        ("ok", {}, False),
        ("2: scratch", {2: "scratch"}, False),
        ("9: scratch", {}, True),
        ("unsure", {}, True),
        ("scratch", {}, True),
        (None, {}, True),
    ],
)
def test_an_answer_about_a_whole_photo_names_pictures(answer, classes, has_problem):
    found = read_free_reply(answer, 3, SPEC)
    assert (dict(found.classes), bool(found.problem)) == (classes, has_problem)


def test_the_question_names_classes_places_and_the_form_of_the_answer():
    text = proposal_question(SPEC, [Proposal(1, (10, 20, 30, 60), 2.0)], (100, 200))
    assert (
        "1: picture 2, from 10.0 % to 30.0 % of the width and from 10.0 % to 30.0 % of the height"
        in text
    )
    for words in (
        "four holes",
        "`missing_hole`",
        "thin line",
        "`none`",
        "\\boxed{1: missing_hole}",
    ):
        assert words in text
    assert "tile" not in free_question(SPEC, is_tile=True)
    assert "`anomaly`" in free_question(InspectionSpec(), is_tile=False)
