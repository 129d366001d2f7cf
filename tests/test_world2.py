"""PixelWorld 2: only pixels decide whether an operation is needed, twins differ in one detail, sets equal their hashes."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.wording_probe import probe_wording
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.scoring.grading import Outcome, grade
from pixel_reasoner.scoring.places import boxes_in
from pixel_reasoner.sources.pixelworld import Selection, WorldMix, world_questions
from pixel_reasoner.sources.pixelworld2 import ALL_FAMILIES, PixelWorld2Source, overview_sides
from pixel_reasoner.workflows.world_probe import question_family
from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.scene import COLORS
from pixel_reasoner.world.v2 import (
    CLIPS,
    FAMILIES,
    HEIGHTS,
    HELD_OUT_PX,
    NOTHING,
    READABLE_FROM_PX,
    Params,
    Scene,
    Variants,
    all_questions,
    build_media_item,
    build_question,
    default_size_px,
    draw_frames,
    draw_picture,
    make_scene,
    make_scenes,
    overview_side_px,
)
from pixel_reasoner.world.v2.scene import BLANK
from pixel_reasoner.world.v2.sets import SETS, hash_seed, recorded_hashes, verify

each_family = pytest.mark.parametrize("family", FAMILIES)
NUM_SEEDS = 12


def side_px(family: str) -> int:
    return 64 if family in CLIPS else 192


def scenes(family: str, seeds: int = NUM_SEEDS, **more) -> list[Scene]:
    return make_scenes(family, "test", 0, 12 * seeds, side_px(family), **more)


def ask(scene: Scene) -> Question:
    return build_question(scene, build_media_item(scene))


def pixels(scene: Scene) -> np.ndarray:
    if scene.family in CLIPS:
        return np.stack([np.asarray(frame) for frame in draw_frames(scene)]).astype(int)
    return np.asarray(draw_picture(scene)).astype(int)


# --- legibility ---


@each_family
def test_wording_and_answer_do_not_depend_on_the_height(family):
    by_twin = defaultdict(set)
    for scene in scenes(family):
        question = ask(scene)
        by_twin[scene.seed, scene.twin].add((question.text, question.answer))
        assert question.needs_look == (scene.params.evidence_px < READABLE_FROM_PX)
    assert {len(found) for found in by_twin.values()} == {1}


@each_family
def test_the_height_changes_the_pixels_of_characters_alone(family):
    small, large = (
        one for one in scenes(family, 1) if one.params.evidence_px in (2, 12) and one.twin == "a"
    )
    changed = (pixels(small) != pixels(large)).any(axis=-1)
    changed = changed.any(axis=0) if family in CLIPS else changed
    assert changed.any()
    side = large.params.size_px
    allowed = np.zeros_like(changed)
    reach = large.params.detail_px
    places = [
        (item.x, item.y + (item.size / 6 if item.shape == "triangle" else 0))
        for item in large.items
    ]
    for x, y in [*places, *((loose.x, loose.y) for loose in large.loose)]:
        left, top = (max(0, int(value * side - reach)) for value in (x, y))
        allowed[top : int(y * side + reach) + 1, left : int(x * side + reach) + 1] = True
    assert not (changed & ~allowed).any()


@pytest.mark.parametrize("height", HEIGHTS)
def test_capitals_have_the_stated_height_in_the_overview(height):
    params = Params(size_px=1024, overview_px=192, evidence_px=height)
    top, bottom = scaled_font(params.detail_px).getbbox("H")[1::2]
    assert (bottom - top) * 192 / 1024 == pytest.approx(height, abs=0.25)


@pytest.mark.parametrize(
    ("family", "overview_px", "canvas_px"),
    [("where", 192, 1024), ("video", 64, 320), ("count", 1024, 4096)],
)
def test_the_canvas_fits_the_overview_of_the_model(family, overview_px, canvas_px):
    assert default_size_px(family, overview_px) == canvas_px


def test_the_overview_follows_from_the_budgets_of_the_model():
    bundled = folder_settings(BUNDLED_MODELS["tiny"]).budgets
    assert overview_sides(bundled) == {"overview_px": 192, "frame_px": 64}
    assert overview_side_px("where", COMPACT.budgets, 640) == 640


def test_an_impossible_size_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"canvas of at least 1024 px with --size-px"):
        Params.of(512, 512, 4)
    with pytest.raises(UsageError, match="an evidence height of 2, 3, 4, 6, 8, 12 px"):
        Params.of(1024, 192, 5)


# --- twins ---


@each_family
def test_twins_have_one_wording_and_two_answers(family):
    by_scene = defaultdict(set)
    for scene in scenes(family, variants=Variants((4,))):
        question = ask(scene)
        by_scene[scene.seed, question.text].add(question.answer)
        assert question.labels["twin"] == scene.twin
    assert {len(answers) for answers in by_scene.values()} == {2}


@each_family
def test_twins_differ_in_the_characters_of_one_or_two_items(family):
    pair = defaultdict(list)
    for scene in scenes(family, variants=Variants((4,))):
        pair[scene.seed].append(scene)
    for one, other in pair.values():
        changed = [(a, b) for a, b in zip(one.items, other.items, strict=True) if a != b]
        assert 1 <= len(changed) <= 2
        assert all(a._replace(glyph="") == b._replace(glyph="") for a, b in changed)
        assert one.loose == other.loose


@each_family
def test_nothing_there_is_an_answer_of_every_family_that_offers_it(family):
    questions = [ask(scene) for scene in scenes(family, 24, variants=Variants((4,)))]
    offers = {NOTHING in question.text for question in questions}
    missing = [question for question in questions if question.answer == (NOTHING,)]
    assert all(question.labels["present"] == "no" for question in missing)
    assert bool(missing) == (offers == {True}), family
    assert len(missing) < len(questions) / 2


# --- the wording gives nothing away ---


def test_a_probe_of_the_wording_is_at_chance_in_every_family():
    questions = [ask(scene) for family in FAMILIES for scene in scenes(family, 8)]
    found = probe_wording(questions, question_family)
    assert set(found) == set(FAMILIES)
    assert all(one["accuracy"] == pytest.approx(0.5, abs=0.02) for one in found.values())


def test_the_probe_finds_a_wording_that_gives_the_need_away():
    questions = [ask(scene) for scene in scenes("attribute", 8)]
    told = [
        one.model_copy(update={"text": f"{one.text} {'Look closely.' if one.needs_look else ''}"})
        for one in questions
    ]
    assert probe_wording(told, question_family)["attribute"]["accuracy"] > 0.95


# --- answers and evidence ---


@each_family
def test_the_expected_answer_scores_one_and_that_of_the_twin_does_not(family):
    pair = defaultdict(list)
    for scene in scenes(family, 20, variants=Variants((4,))):
        pair[scene.seed].append(ask(scene))
    for one, other in pair.values():
        assert grade(one.answer[0], one).outcome is Outcome.CORRECT
        assert grade(other.answer[0], one).outcome is Outcome.WRONG


@each_family
def test_evidence_lies_inside_the_medium_and_names_what_it_shows(family):
    for scene in scenes(family, 6):
        for question in all_questions(scene, build_media_item(scene)):
            evidence = question.evidence
            assert len(evidence.subjects) == len(evidence.findings) or evidence.frames
            if family in CLIPS:
                assert set(evidence.frames) <= set(range(1, 17))
            for box in (*evidence.boxes, *(step.box for step in evidence.search)):
                assert 0 <= box.x1 < box.x2 <= 1
                assert 0 <= box.y1 < box.y2 <= 1
            assert bool(question.reasoning) is not question.needs_look


def test_a_search_visits_the_shapes_before_the_one_that_is_found():
    for scene in scenes("where", 10, variants=Variants((4,))):
        question = ask(scene)
        if question.answer == (NOTHING,):
            assert len(question.evidence.boxes) == len(scene.items)
        else:
            place = next(
                n for n, one in enumerate(scene.items) if one.glyph == scene.content.wanted
            )
            assert len(question.evidence.search) == place
            assert all(
                scene.content.wanted not in step.finding.split()
                for step in question.evidence.search
            )


def test_parts_ask_for_the_boxes_of_the_wrong_ones():
    for scene in scenes("parts", 10, variants=Variants((4,))):
        wrong = [item for item in scene.items if item.glyph != scene.content.wanted]
        question = ask(scene)
        assert question.answer_type is AnswerType.BOXES
        assert len(boxes_in(question.answer[0])) == len(wrong)


def test_loose_characters_never_repeat_one_of_the_scene():
    for family in ("attribute", "where", "parts"):
        for scene in scenes(family, 6, variants=Variants((4,))):
            used = {item.glyph for item in scene.items} | set(scene.content.wanted)
            assert not used & {one.glyph for one in scene.loose}


def test_large_overviews_have_many_shapes():
    params = Params(size_px=4096, overview_px=1024, evidence_px=4)
    for family in ("attribute", "count", "where"):
        scene = make_scene(family, 2_000_001, params)
        assert len(scene.items) >= 12
        assert len(set(map(tuple, ((item.x, item.y) for item in scene.items)))) == len(scene.items)


def test_a_mark_without_character_has_about_the_ink_of_a_letter():
    params = Params(size_px=1024, overview_px=192, evidence_px=12)
    scene = next(
        s
        for s in (make_scene("attribute", n, params) for n in range(50))
        if any(i.glyph == BLANK for i in s.items)
    )
    blank = next(item for item in scene.items if item.glyph == BLANK)
    letter = scene._replace(content=scene.content._replace(items=(blank._replace(glyph="E"),)))
    bars = scene._replace(content=scene.content._replace(items=(blank,)))
    ink = []
    for one in (bars, letter):
        image = np.asarray(draw_picture(one._replace(loose=()))).astype(int)
        side = scene.params.size_px
        x, y, half = int(blank.x * side), int(blank.y * side), int(params.detail_px * 0.6)
        patch = image[y - half : y + half, x - half : x + half]
        ink.append((np.abs(patch - COLORS[blank.color]).sum(-1) > 90).mean())
    assert 0.5 < ink[0] / ink[1] < 2


# --- splits, sources, sets ---


def test_the_training_split_leaves_one_height_out():
    source = PixelWorld2Source(split="train", count=None, selection=Selection.SEVERAL, per_scene=3)
    units = source.units(Path())
    heights = Counter(next(units)[2] for _ in range(700))
    assert HELD_OUT_PX not in heights
    assert set(heights) == set(HEIGHTS) - {HELD_OUT_PX}
    with pytest.raises(
        UsageError, match="evidence heights of the split train: 2, 4, 6, 8, 12; got 3"
    ):
        next(PixelWorld2Source(split="train", heights=(3,), count=None).units(Path()))


def test_the_share_of_readable_pictures_is_that_of_the_source():
    source = PixelWorld2Source(
        split="train", count=None, selection=Selection.ONE, overview_share=0.2
    )
    units = source.units(Path())
    readable = sum(next(units)[2] >= READABLE_FROM_PX for _ in range(700))
    assert 0.12 < readable / 700 < 0.28


def test_shards_are_disjoint_and_complete():
    def first(shard: tuple[int, int], count: int) -> list:
        units = PixelWorld2Source(split="train", count=None, shard=shard).units(Path())
        return [next(units) for _ in range(count)]

    whole = first((0, 1), 28)
    assert sorted(first((0, 2), 14) + first((1, 2), 14)) == sorted(whole)


def test_rl_questions_are_drawn_for_the_overview_of_the_model(tmp_path):
    budgets = folder_settings(BUNDLED_MODELS["tiny"]).budgets
    mix = WorldMix(families=("attribute", "moments"), count=3, world=2)
    questions = list(world_questions(mix, tmp_path, budgets))
    assert len(questions) == 6
    assert all(Path(one.media[0].path).exists() for one in questions)
    assert "-192-" in questions[0].media[0].path
    assert "-64-" in questions[-1].media[0].path
    with Image.open(questions[0].media[0].path) as picture:
        assert picture.size == (1024, 1024)


def test_families_of_the_source_are_those_of_the_world():
    assert ALL_FAMILIES == FAMILIES


@each_family
def test_the_first_seed_of_the_small_set_gives_the_recorded_hash(family):
    assert verify("small", "test", (family,), 1) == []


def test_another_seed_gives_another_hash():
    hashes = recorded_hashes()["small"]["test"]["attribute"]
    assert len(set(hashes)) == SETS["small"].num_seeds
    assert hash_seed("attribute", "test", 1, SETS["small"]) != hashes[0]


def test_recorded_sets_have_a_hash_of_every_seed():
    for name, splits in recorded_hashes().items():
        one = SETS[name]
        assert set(splits) == {"validation", "test"}
        for found in splits.values():
            seeds = {family: len(hashes) for family, hashes in found.items()}
            assert seeds == dict.fromkeys(one.families, one.num_seeds)


def test_unknown_names_are_refused():
    for call in (
        lambda: verify("small", "train"),
        lambda: verify("16k", "test"),
        lambda: verify("4k", "test", ("video",)),
    ):
        with pytest.raises(UsageError):
            call()
