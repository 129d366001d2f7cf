"""The training of the embedded model: what it is taught is true, and a killed run goes on to the same end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.ops import run
from pixel_reasoner.tiny.build import BUDGETS, build_model, build_processor, build_tokenizer
from pixel_reasoner.tiny.gallery import Gallery
from pixel_reasoner.tiny.language import LOOKS, NUMBERS, School
from pixel_reasoner.tiny.lessons import answer_turn, ball_as_item, look_box, look_turn, spoken
from pixel_reasoner.tiny.loop import Stage, run_stage
from pixel_reasoner.tiny.tower import (
    IGNORE,
    focusing_batch,
    labels_of,
    looking_batch,
    patches_as_product,
    position,
    reading_batch,
    seeing_batch,
    shifted,
    shrink_tokens,
)
from pixel_reasoner.trace import Medium, OpCall
from pixel_reasoner.world import FAMILIES, all_questions, make_scene


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Gallery:
    return Gallery(tmp_path_factory.mktemp("gallery"), 12, 6)


@pytest.fixture(scope="module")
def processor(gallery):
    texts = [
        spoken(look_turn(item, COMPACT))
        for scene in gallery.scenes["attribute"]
        for item in scene.items
    ]
    return build_processor(build_tokenizer([*texts, COMPACT.system_with]))


def test_an_expert_looks_at_what_was_asked():
    for seed in range(50):
        for item in make_scene("attribute", seed).items:
            call = COMPACT.parse(spoken(look_turn(item, COMPACT)))
            assert isinstance(call, OpCall)
            assert call.arguments["bbox_2d"] == pytest.approx(list(look_box(item)))
            assert look_box(item).intersection(item.box) >= 0.9 * item.box.area


def test_dense_labels_stand_where_the_items_are(gallery):
    view = gallery.picture(3)
    labels = labels_of(view)
    assert int((labels.classes["color"] > 0).sum()) == len(view.scene.items)
    for item in view.scene.items:
        x, y = position(view, item)
        token = int(y * 6) * 6 + int(x * 6)
        assert labels.classes["color"][token] > 0
        assert labels.place[token, 0] == pytest.approx(x * 6 - int(x * 6), abs=1e-5)
    assert (labels.classes["glyph"] == IGNORE).all(), "no character is legible in an overview"


def test_crops_and_selected_frames_ask_for_the_character(gallery):
    for view in (gallery.crop(2, 1), gallery.selected_frame(1, 0, 0)):
        assert (labels_of(view).classes["glyph"] != IGNORE).sum() >= 1


def test_a_shifted_view_shows_the_same_elsewhere_and_is_labelled_there(gallery):
    whole = gallery.selected_frame(1, 0, 0)
    for seed in range(20):
        view = shifted(whole, random.Random(seed))
        side = view.pixels.shape[0]
        cells, left = side // 32, round(view.box.x1 * whole.pixels.shape[0])
        top = round(view.box.y1 * whole.pixels.shape[0])
        assert (view.pixels == whole.pixels[top : top + side, left : left + side]).all()
        labels = labels_of(view).classes
        (at,) = (labels["shape"] > 0).nonzero().flatten().tolist()
        x, y = position(view, view.item)
        assert at == int(y * cells) * cells + int(x * cells)
        # The middle of the card is as far from the shifted edge as it was from the old one, less the shift.
        assert x * side == pytest.approx(position(whole, whole.item)[0] * 224 - left, abs=1e-6)
        ball = whole.scene.ball
        seen = 0 <= ball.x(view.frame) * 224 - left < side and 0 <= ball.y * 224 - top < side
        assert int((labels["ball"] > 0).sum()) == seen


def test_batches_are_a_function_of_their_seed(gallery):
    for batch in (seeing_batch, reading_batch, focusing_batch, looking_batch):
        first, again = (batch(gallery, random.Random(5)) for _ in range(2))
        assert all((a.pixels == b.pixels).all() for a, b in zip(first, again, strict=True))


def test_a_lesson_trains_what_the_assistant_writes_and_its_end_token_once(gallery, processor):
    school = School(gallery, processor, COMPACT)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for seed in range(30):
        example = school.lesson("video" if seed % 2 else "attribute", 2, random.Random(seed))
        trained = [token for token, yes in zip(example.ids, example.trained, strict=True) if yes]
        text = processor.tokenizer.decode(trained)
        assert trained.count(end) in (1, 2)
        assert trained[-1] == end
        assert "boxed" in text
        assert "user" not in text
        assert example.ids.count(processor.image_token_id) == sum(
            {"pictures": 36, "crops": 25, "frames": 4, "selected": 49}[shown.kind]
            for shown in example.shown
        )


def test_attention_is_told_to_rest_where_the_item_is(gallery, processor):
    school = School(gallery, processor, COMPACT)
    for seed in range(40):
        family, cells = ("video", 2) if seed % 2 else ("attribute", 6)
        scene = gallery.scenes[family][3]
        example = school.lesson(family, 3, random.Random(seed))
        ends = [ball_as_item(scene.ball, frame) for frame in (1, 16)] if scene.ball else []
        visual = [at for at, token in enumerate(example.ids) if token == school.image_id]
        looks = [gaze for gaze in example.gazes if gaze.head == LOOKS]
        for gaze in looks[:1]:
            said = processor.tokenizer.decode(example.ids[gaze.first : gaze.end])
            cells_told = [visual.index(place) % cells**2 for place in gaze.places]
            items = [i for i in scene.items if i.name in said] or [*scene.items, *ends]
            possible = [int(i.y * cells) * cells + int(i.x * cells) for i in items]
            assert set(cells_told) <= set(possible)
        for gaze in looks:
            # The token that a place predicts is the one after it.
            assert all(example.trained[gaze.first + 1 : gaze.end + 1])
            assert all(place < gaze.first for place in gaze.places)


def test_an_expert_counts_by_naming_everything_once():
    nowhere = Medium(kind="image", path="")
    for family in FAMILIES:
        for seed in range(30):
            scene = make_scene(family, seed)
            count = next(q for q in all_questions(scene, nowhere) if q.category.endswith("count"))
            phrases = answer_turn(count, scene)
            assert {phrase.about for phrase in phrases} == {*scene.items, None}
            assert all(p.about.name in p.text for p in phrases if p.about)
            assert spoken(phrases).endswith(f"\\boxed{{{len(scene.items)}}}")


def test_phrases_are_tokenized_as_the_whole_turn_is(gallery, processor):
    tokenizer = processor.tokenizer
    nowhere = Medium(kind="image", path="")
    for family in FAMILIES:
        for scene in gallery.scenes[family]:
            for question in list(all_questions(scene, nowhere))[len(scene.items) :]:
                turn = answer_turn(question, scene)
                apart = [i for phrase in turn for i in tokenizer(phrase.text)["input_ids"]]
                assert apart == tokenizer(spoken(turn))["input_ids"]


def test_every_frame_is_told_to_look_at_its_own_number(gallery, processor):
    example = School(gallery, processor, COMPACT).lesson("video", 1, random.Random(0))
    numbers = [gaze for gaze in example.gazes if gaze.head == NUMBERS]
    told = [
        processor.tokenizer.decode([example.ids[place] for place in gaze.places])
        for gaze in numbers
    ]
    assert told == [str(number) for number in range(1, 17)]
    assert all(gaze.end - gaze.first == 4 for gaze in numbers)


def test_shrunken_tokens_are_the_same_but_smaller(processor):
    visual = build_model(processor.tokenizer, 3).model.visual
    patches, grid = torch.randn(16, 3 * 2 * 16 * 16), torch.tensor([[1, 4, 4]])
    before = visual(patches, grid_thw=grid, return_dict=True)
    shrink_tokens(visual, 0.25)
    after = visual(patches, grid_thw=grid, return_dict=True)
    torch.testing.assert_close(after.pooler_output, before.pooler_output / 4)
    torch.testing.assert_close(after.deepstack_features[0], before.deepstack_features[0] / 4)


def test_a_product_embeds_patches_as_the_convolution_does(processor):
    visual = build_model(processor.tokenizer, 3).model.visual
    patches = torch.randn(8, 3 * 2 * 16 * 16)
    convolved = visual.patch_embed(patches)
    patches_as_product(visual)
    torch.testing.assert_close(visual.patch_embed(patches), convolved, rtol=1e-4, atol=1e-5)


def test_text_round_trips_through_the_tokenizer(processor):
    for text in ("Grüße, 100 %!\n", spoken(look_turn(make_scene("video", 1).items[0], COMPACT))):
        ids = processor.tokenizer(text)["input_ids"]
        assert processor.tokenizer.decode(ids) == text


def test_budgets_leave_the_image_processor_nothing_to_resize(processor, gallery):
    for view, tokens in (
        (gallery.picture(0), 36),
        (gallery.crop(0, 0), 25),
        (gallery.frame(0, 1), 4),
    ):
        pixels = torch.tensor(view.pixels).permute(2, 0, 1)
        grid = processor.image_processor(images=[pixels], return_tensors="pt")["image_grid_thw"]
        assert int(grid.prod()) // 4 == tokens
    assert BUDGETS.picture.max_px == 192 * 192


def test_an_operation_shows_what_the_gallery_shows(gallery, tmp_path):
    from pixel_reasoner.album import Album
    from pixel_reasoner.trace import Medium, Question
    from pixel_reasoner.world import write_media

    scene = gallery.scenes["video"][1]
    path = tmp_path / "clip.mp4"
    write_media(scene, path)
    question = Question(id="1", text="?", media=(Medium(kind="video", path=str(path)),))
    album = Album(question, BUDGETS)
    number = scene.items[0].frames[0]
    seen = run(OpCall(name="select_frames", arguments={"target_frames": [number]}), album)
    shown = torch.tensor(gallery.selected_frame(1, 0, 0).pixels).int()
    import numpy as np

    there = torch.tensor(np.asarray(album.view(seen.pictures[0].number))).int()
    assert (shown - there).abs().max() <= 2


def test_a_stopped_stage_resumes_to_the_same_weights(tmp_path):
    def stage_run(folder: Path, stop_at: int | None) -> list[float]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1)
        stage = Stage(name="s", steps=20, lr=0.1, warmup=3, log_every=5, save_every=5)

        def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
            if step == stop_at:
                raise KeyboardInterrupt
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            return (layer(x) - x.sum(1, keepdim=True)).square().mean(), {}

        run_stage(stage, {"layer": layer}, loss, folder)
        return layer.weight.tolist()[0]

    whole = stage_run(_made(tmp_path / "whole"), None)
    with pytest.raises(KeyboardInterrupt):
        stage_run(_made(tmp_path / "cut"), 13)
    assert stage_run(tmp_path / "cut", None) == whole
    logs = [
        [
            json.loads(line)["loss"]
            for line in (tmp_path / name / "s.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "cut")
    ]
    assert logs[0] == logs[1]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_killed_training_goes_on_to_a_model_that_answers(tmp_path):
    """The whole pipeline at a two-hundredth of its size, killed in the middle of its second stage."""
    command = [sys.executable, "-m", "pixel_reasoner.cli", "train", "tiny", "--scale", "0.005"]
    command += ["--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not (tmp_path / "read.pt").exists():
        assert time.monotonic() < deadline, "the training did not get going"
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    for name in ("see", "read", "focus", "look", "reason"):
        steps = [
            json.loads(line)["step"]
            for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
        ]
        assert steps == list(range(1, len(steps) + 1))
    last = json.loads((tmp_path / "reason.jsonl").read_text().splitlines()[-1])
    assert {"attribute_pointing", "video_reading", "attribute_looks_when_not"} <= set(last)
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 16 * 2**20


def test_the_same_seed_builds_the_same_weights(processor):
    first, again = (build_model(processor.tokenizer, 7).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
