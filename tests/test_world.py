"""PixelWorld: a seed determines everything, every answer is correct, and evidence is at its stated place."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.media.images import open_image
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.question import MediaItem, Question, load_questions
from pixel_reasoner.schema.settings import MediaLimits, PixelBudget, PixelBudgets
from pixel_reasoner.scoring.grading import Outcome, anls, grade
from pixel_reasoner.world import (
    FAMILIES,
    SPLITS,
    VERSION,
    Scene,
    WorldParams,
    all_questions,
    build_question,
    draw_frames,
    draw_picture,
    encode_clip,
    make_scene,
    overview_detail_px,
    render,
    scenes,
    split_seed,
)
from pixel_reasoner.world.scene import BANDS, COLORS, FONTS, NUM_FRAMES, SHAPES, WORDS, Item

GOLDEN = Path(__file__).parent / "golden" / "scenes.json"
MEDIUM = MediaItem(kind="image", path="it")
NUM_SEEDS = 400

# Input sizes of the bundled model.
_SMALL = PixelBudget(min_px=32 * 32, max_px=128 * 128)
BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=32 * 32, max_px=192 * 192),
    crop=_SMALL,
    frame=PixelBudget(min_px=32 * 32, max_px=64 * 64),
    selected_frame=_SMALL,
    multiple=32,
)

shapes = pytest.mark.parametrize("family", ["attribute", "relation", "count"])
each_family = pytest.mark.parametrize("family", FAMILIES)


@lru_cache
def many(family: str) -> list[Scene]:
    return [make_scene(family, seed) for seed in range(NUM_SEEDS)]


@lru_cache
def asked(family: str) -> list[Question]:
    return [build_question(scene, MEDIUM) for scene in many(family)]


def pixels(scene: Scene) -> np.ndarray:
    if scene.family == "video":
        return np.stack([np.asarray(frame) for frame in draw_frames(scene)]).astype(int)
    return np.asarray(draw_picture(scene)).astype(int)


# --- seeds ---


@each_family
def test_a_seed_determines_the_scene_the_question_and_the_pixels(family):
    for seed in (0, 2_000_007):
        first, second = make_scene(family, seed), make_scene(family, seed)
        assert first == second
        assert build_question(first, MEDIUM) == build_question(second, MEDIUM)
        assert np.array_equal(pixels(first), pixels(second))


@each_family
def test_another_seed_gives_another_scene_and_other_pixels(family):
    assert len({scene.items for scene in many(family)}) == NUM_SEEDS
    assert not np.array_equal(pixels(many(family)[0]), pixels(many(family)[1]))


def described(scene: Scene) -> str:
    # The first fields are those of the default families; characters of others may be turned or faint.
    items = [item[:7] for item in scene.items]
    text = json.dumps([scene.id, items, scene.ball, *([scene.page] if scene.page else [])])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_scenes_equal_the_golden_scenes():
    """After a change of the scenes: raise VERSION, then write the found values to the file."""
    found = {"version": VERSION} | {
        scene.id: described(scene)
        for family in FAMILIES
        for scene in (make_scene(family, seed) for seed in (0, 1, 1_000_000, 2_000_123))
    }
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_splits_do_not_overlap():
    ranges = sorted(SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))


@pytest.mark.parametrize("split", SPLITS)
def test_seeds_stay_within_their_split(split):
    first, end = SPLITS[split]
    assert split_seed(split, 0, 0) == first
    assert split_seed(split, 10, end - first - 11) == end - 1
    for seed, index in ((10, end - first - 10), (end - first, 0), (-1, 0)):
        with pytest.raises(UsageError, match=f"split {split}"):
            split_seed(split, seed, index)


def test_scenes_of_a_run_have_consecutive_seeds_within_the_split():
    found = scenes("video", "test", 5, 3)
    assert [scene.seed for scene in found] == [2_000_005, 2_000_006, 2_000_007]


@pytest.mark.parametrize(
    ("family", "split", "seed", "count", "named"),
    [
        (
            "atribute",
            "test",
            0,
            1,
            "attribute, relation, count, infographic, video, .*; got 'atribute'",
        ),
        ("video", "tset", 0, 1, "train, validation, test; got 'tset'"),
        ("video", "test", 0, 0, "a count of 1 or more"),
        ("video", "test", 999_999, 2, "seed 999999, question 1"),
    ],
)
def test_unknown_names_and_impossible_counts_are_usage_errors(family, split, seed, count, named):
    with pytest.raises(UsageError, match=named):
        scenes(family, split, seed, count)


@each_family
@pytest.mark.parametrize("detail_px", [3, 80, 4000])
def test_a_detail_size_beyond_the_picture_is_a_usage_error(family, detail_px):
    with pytest.raises(UsageError, match=f"got {detail_px} px"):
        make_scene(family, 0, WorldParams(size_px=320, detail_px=detail_px))


# --- questions ---


def right_answer(scene: Scene, text: str) -> str:
    """Return the answer to a question, computed from its text and the scene."""
    words = re.findall(r"[a-z]+", text.lower())
    pair = [
        i for name in re.findall(r"[Tt]he (\w+ \w+)", text) for i in scene.items if i.name == name
    ]
    colors = [word for word in words if word in COLORS]
    kinds = (*SHAPES, "card", "bar", "point", "column", "print")
    named = [
        item
        for item in scene.items
        if (not colors or item.color in colors)
        and (item.shape in words or item.shape + "s" in words or not set(kinds) & set(words))
        and (item.shape == "card" or "cards" not in words)
    ]
    if len(pair) == 2:
        return answer_about_two(*pair, words)
    if ({"carry", "digit"} <= set(words) and "many" in words) or words[:3] == ["on", "how", "many"]:
        return str(sum(item.glyph.isdigit() for item in named))
    if {"letter", "digit", "number", "city"} & set(words):
        [item] = named
        assert ("digit" in words or "number" in words) == item.glyph.isdigit()
        return item.glyph
    return answer_at_once(scene, named, words)


def answer_about_two(first: Item, second: Item, words: list[str]) -> str:
    if "left" in words:
        return "left" if first.x < second.x else "right"
    if "above" in words:
        return "above" if first.y < second.y else "below"
    if "larger" in words:
        return max(first, second, key=lambda item: item.glyph).name
    assert "add" in words
    return str(int(first.glyph) + int(second.glyph))


def answer_at_once(scene: Scene, named: list[Item], words: list[str]) -> str:
    if words[0] in ("is", "can") and scene.page is not None:
        [band] = [band for band in BANDS if band.removesuffix("s") in words or band in words]
        return "yes" if band in scene.page.bands else "no"
    if words[0] in ("is", "can"):
        return "yes" if named else "no"
    if words[0] in ("how", "count"):
        return str(len(named))
    if "largest" in words:
        return sorted(scene.items, key=lambda item: item.box.area)[-1].color
    if "tallest" in words:
        return min((i for i in scene.items if i.shape == "bar"), key=lambda item: item.y).color
    if "ball" in words and "colour" in words:
        return scene.ball.color
    return answer_about_a_way(scene, named, words)


def answer_about_a_way(scene: Scene, named: list[Item], words: list[str]) -> str:
    if "heading" in words:
        return scene.page.heading
    if "rise" in words:
        first, *_, last = (item for item in scene.items if item.shape == "point")
        return "rises" if first.y > last.y else "falls"
    if "move" in words:
        return "right" if scene.ball.x(NUM_FRAMES) > scene.ball.x(1) else "left"
    assert words[:3] == ["what", "shape", "is"], words
    [item] = named
    return item.shape


@each_family
def test_every_answer_is_correct(family):
    for scene in many(family):
        for question in all_questions(scene, MEDIUM):
            assert question.answer == (right_answer(scene, question.text),), (scene, question.text)
            assert grade(question.answer[0], question).outcome is Outcome.CORRECT


@each_family
def test_questions_of_a_scene_have_different_ids(family):
    for scene in many(family)[:50]:
        found = [question.id for question in all_questions(scene, MEDIUM)]
        assert len(found) == len(set(found))


@each_family
def test_questions_that_need_an_operation_have_the_matching_kind_and_evidence(family):
    for scene in many(family)[:50]:
        for question in all_questions(scene, MEDIUM):
            assert question.needs_look == question.category.startswith("needs_look/")
            assert (question.evidence is not None) == question.needs_look


def test_evidence_contains_every_item_of_the_answer_and_its_place():
    for family in FAMILIES:
        for scene in many(family)[:50]:
            by_name = {item.name: item for item in scene.items}
            for question in (q for q in all_questions(scene, MEDIUM) if q.needs_look):
                items = [by_name[name.removeprefix("the ")] for name in question.evidence.subjects]
                assert len(question.evidence.findings) == len(items)
                for item, finding in zip(items, question.evidence.findings, strict=True):
                    assert finding.startswith(f"the {item.name} carries {item.glyph}")
                if family != "video":
                    assert question.evidence.boxes == tuple(item.box for item in items)


@shapes
def test_one_shape_is_larger_than_all_others_by_three_tenths(family):
    for scene in many(family):
        *_, second, largest = sorted(item.size for item in scene.items)
        assert largest >= 1.3 * second


@shapes
def test_shapes_are_inside_the_picture_and_do_not_overlap(family):
    for scene in many(family):
        boxes = [item.box for item in scene.items]
        assert all(0 <= value <= 1 for box in boxes for value in box)
        assert not any(a.intersection(b) for a in boxes for b in boxes if a is not b)


def test_parts_of_a_page_have_unique_names_and_do_not_overlap():
    for scene in many("infographic"):
        assert len({item.name for item in scene.items}) == len(scene.items)
        boxes = [item.box for item in scene.items]
        assert all(0 <= value <= 1 for box in boxes for value in box)
        assert not any(a.intersection(b) for a in boxes for b in boxes if a is not b)


def test_words_of_a_page_score_zero_against_each_other():
    for word, other in itertools.combinations(WORDS, 2):
        assert anls(word, other) == 0


@pytest.mark.medium
def test_words_and_numbers_of_a_page_are_inside_their_evidence_in_every_font():
    """Written text changes no pixel outside of its box."""
    fonts = {scene.page.font: scene for scene in many("infographic")}
    assert len(fonts) == FONTS
    for scene in fonts.values():
        drawn = pixels(scene)
        for index, item in enumerate(scene.items):
            for text in (item.glyph, *WORDS) if item.glyph in WORDS else (item.glyph,):
                others = list(scene.items)
                others[index] = item._replace(glyph="")
                blank = pixels(scene._replace(items=tuple(others)))
                others[index] = item._replace(glyph=text)
                written = pixels(scene._replace(items=tuple(others)))
                rows, columns = np.nonzero(np.abs(written - blank).sum(axis=2))
                left, top, right, bottom = (value * scene.params.size_px for value in item.box)
                assert left <= columns.min() <= columns.max() <= right
                assert top <= rows.min() <= rows.max() <= bottom
                if item.shape != "bar":
                    break
        assert drawn.shape == (1024, 1024, 3)


def test_any_number_of_the_counted_shapes_has_a_digit():
    answers = Counter(
        (len(question.evidence.boxes), question.answer[0])
        for scene in many("count")
        for question in all_questions(scene, MEDIUM)
        if question.needs_look
    )
    assert set(answers) == {(n, str(k)) for n in (2, 3) for k in range(n + 1)}
    assert min(answers.values()) > 0.5 * max(answers.values())


def test_cards_are_shown_in_sequence_within_the_clip():
    for scene in many("video"):
        frames = [number for item in scene.items for number in item.frames]
        assert len(frames) == len(set(frames))
        assert set(frames) <= set(range(1, NUM_FRAMES + 1))
        assert all(0 <= value <= 1 for item in scene.items for value in item.box)


@each_family
def test_half_of_the_questions_need_an_operation(family):
    share = sum(question.needs_look for question in asked(family)) / NUM_SEEDS
    assert 0.45 <= share <= 0.55


@each_family
def test_answers_of_each_kind_are_nearly_uniform(family):
    """Answers of every kind of question are nearly uniformly distributed."""
    by_kind: dict[str, Counter[str]] = {}
    for question in asked(family):
        by_kind.setdefault(question.category, Counter())[question.answer[0]] += 1
    for kind, answers in by_kind.items():
        most = max(answers.values()) / answers.total()
        assert len(answers) > 1, kind
        assert most <= (0.65 if len(answers) == 2 else 0.5), (kind, answers)


# --- evidence ---


@pytest.mark.medium
def test_the_evidence_box_contains_the_character_and_its_shape():
    for scene in many("attribute")[:4]:
        drawn, empty = pixels(scene), pixels(scene._replace(items=()))
        for index, item in enumerate(scene.items):
            blank = list(scene.items)
            blank[index] = item._replace(glyph="")
            changed = np.abs(drawn - pixels(scene._replace(items=tuple(blank)))).sum(axis=2) > 200
            rows, columns = np.nonzero(changed)
            left, top, right, bottom = (value * scene.params.size_px for value in item.box)
            assert left < columns.min() < columns.max() < right
            assert top < rows.min() < rows.max() < bottom
            assert rows.max() - rows.min() + 1 == pytest.approx(scene.params.detail_px, abs=4)
            inside = np.s_[round(top) : round(bottom), round(left) : round(right)]
            assert np.abs(drawn - empty)[inside].mean() > 30


def test_evidence_boxes_equal_the_boxes_of_the_shapes():
    for scene in many("attribute")[:20]:
        by_glyph = [q for q in all_questions(scene, MEDIUM) if q.needs_look]
        assert [q.evidence.boxes for q in by_glyph] == [(item.box,) for item in scene.items]


@pytest.mark.parametrize("seed", [0, 1, 2, 2_000_000, 2_000_001])
def test_evidence_frames_are_exactly_the_frames_with_the_card(seed, tmp_path):
    scene = make_scene("video", seed)
    (tmp_path / "clip.mp4").write_bytes(encode_clip(draw_frames(scene)))
    clip = sample_video(tmp_path / "clip.mp4", MediaLimits())
    assert len(clip) == NUM_FRAMES
    reads = [question for question in all_questions(scene, MEDIUM) if question.needs_look]
    for item, question in zip(scene.items, reads, strict=True):
        box = [round(value * scene.params.size_px) for value in item.box]
        color = np.array(COLORS[item.color])
        frames = []
        for number, frame in enumerate(clip, start=1):
            inside = np.asarray(frame.image.crop(box)).astype(int)
            alike = (np.abs(inside - color).max(axis=2) < 40).mean()
            if alike > 0.5:  # a ball of the same colour covers a sixth
                frames.append(number)
        assert question.evidence.frames == tuple(frames)


@each_family
def test_a_detail_is_unreadable_in_the_overview_of_the_bundled_model(family):
    assert overview_detail_px(family, BUDGETS) < 4
    larger = WorldParams(size_px=320, detail_px=19)
    assert overview_detail_px(family, BUDGETS, larger) == pytest.approx(
        19 * (64 if family == "video" else 192) / 320
    )


# --- files ---


@each_family
def test_a_rendered_folder_has_valid_media_and_questions(family, tmp_path):
    params = WorldParams(size_px=320, detail_px=5 if family == "infographic" else 12)
    rendered = list(render(scenes(family, "test", 0, 3, params), tmp_path))
    lines = "".join(question.model_dump_json() + "\n" for question in rendered)
    (tmp_path / "questions.jsonl").write_text(lines, encoding="utf-8")
    loaded = list(load_questions(tmp_path / "questions.jsonl"))
    assert [q.model_copy(update={"media": ()}) for q in loaded] == [
        q.model_copy(update={"media": ()}) for q in rendered
    ]
    for question in loaded:
        path = Path(question.media[0].path)
        assert path.parent == tmp_path / "media"
        if family == "video":
            images = [frame.image for frame in sample_video(path, MediaLimits())]
        else:
            images = [open_image(path, MediaLimits())]
        assert {image.size for image in images} == {(320, 320)}


def test_a_picture_file_contains_the_drawn_pixels(tmp_path):
    [scene] = scenes("attribute", "train", 3, 1, WorldParams(size_px=320, detail_px=12))
    [question] = render([scene], tmp_path)
    assert np.array_equal(Image.open(tmp_path / question.media[0].path), draw_picture(scene))


def test_existing_files_are_kept(tmp_path):
    [scene] = scenes("attribute", "train", 3, 1, WorldParams(size_px=320, detail_px=12))
    list(render([scene], tmp_path))
    [path] = (tmp_path / "media").iterdir()
    path.write_text("mine")
    list(render([scene], tmp_path))
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="file"):
        list(render(scenes("video", "test", 0, 1), tmp_path / "file"))
