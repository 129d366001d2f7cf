"""Training of the bundled model: correct labels, and a killed run resumes to the same weights."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pixel_reasoner.data.encode import encode
from pixel_reasoner.data.expert import classify_trace
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.operations.registry import default_operations
from pixel_reasoner.schema.question import Evidence, MediaItem, with_media_root
from pixel_reasoner.schema.trace import ToolCall, Trace
from pixel_reasoner.tiny import train as training, validate as validation
from pixel_reasoner.tiny.attention import (
    NUMBERING_HEAD,
    OBSERVED_ATTENTION,
    POINTING_HEAD,
    observe_attention,
    observed_attention,
)
from pixel_reasoner.tiny.batches import TOWER_STAGES, shift_view
from pixel_reasoner.tiny.build import (
    BUDGETS,
    SHAPES,
    build_model,
    build_processor,
    build_tokenizer,
    shape_of,
)
from pixel_reasoner.tiny.config import SIZES, TinyConfig
from pixel_reasoner.tiny.examples import (
    SHARE_WITHOUT_OPERATIONS,
    ExampleBuilder,
    without_operations,
)
from pixel_reasoner.tiny.labels import (
    CELL_PX,
    IGNORE,
    LabelledPicture,
    compute_labels,
    position,
    sparse_labels,
)
from pixel_reasoner.tiny.language import language_loss
from pixel_reasoner.tiny.loop import Stage, run_stage
from pixel_reasoner.tiny.pointing import find_mentions
from pixel_reasoner.tiny.precision import orthogonalize
from pixel_reasoner.tiny.scene_cache import SceneCache
from pixel_reasoner.tiny.token_cache import VisualTokens, cache_tokens
from pixel_reasoner.tiny.tower import embed, make_probes, shrink_tokens, tower_loss
from pixel_reasoner.tiny.train import tokenizer_texts, train
from pixel_reasoner.tiny.version_cache import VersionCache
from pixel_reasoner.world import FAMILIES, all_questions, make_scene, v2
from pixel_reasoner.world.scene import DIGITS, WORDS

EMPTY_MEDIA = MediaItem(kind="image", path="")


@pytest.fixture(scope="module")
def scene_cache(tmp_path_factory) -> SceneCache:
    counts = {"attribute": 12, "infographic": 6, "video": 6}
    versions = VersionCache(
        tmp_path_factory.mktemp("versions"), {"pictures": 10, "crowds": 4, "clips": 6}
    )
    return SceneCache(tmp_path_factory.mktemp("scenes"), counts, versions)


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    return synthesized(tmp_path_factory.mktemp("traces"), 120)


@pytest.fixture(scope="module")
def few_traces(tmp_path_factory) -> Path:
    return synthesized(tmp_path_factory.mktemp("few_traces"), 40)


@pytest.fixture(scope="module")
def version_traces(tmp_path_factory) -> Path:
    return synthesized(tmp_path_factory.mktemp("version_traces"), 140, 2)


def synthesized(folder: Path, count: int, world: int = 1) -> Path:
    settings = SynthSettings(
        source="pixelworld",
        world_version=world,
        count=count,
        families=FAMILIES if world == 1 else v2.FAMILIES,
        per_scene=4,
        text_share=0.4,
        refused_share=0.2,
        budgets=BUDGETS,
        margin=0.0,
        min_side=0.18,
    )
    synthesize(settings, scene_units(settings), folder)
    return folder


@pytest.fixture(scope="module")
def processor(traces):
    return build_processor(build_tokenizer(tokenizer_texts(traces / "traces.jsonl")))


@pytest.fixture(scope="module")
def builder(traces, processor, tmp_path_factory) -> ExampleBuilder:
    return _builder(traces, processor, tmp_path_factory)


@pytest.fixture(scope="module")
def version_builder(version_traces, processor, tmp_path_factory) -> ExampleBuilder:
    return _builder(version_traces, processor, tmp_path_factory)


def _builder(traces, processor, tmp_path_factory) -> ExampleBuilder:
    path = tmp_path_factory.mktemp("tokens") / "tokens.pt"
    visual = build_model(processor.tokenizer, 3).model.visual
    cache = cache_tokens(visual, processor.image_processor, traces, path)
    return ExampleBuilder(cache.traces, processor, COMPACT)


def numbers_of(builder: ExampleBuilder) -> range:
    return range(len(builder.index.offsets))


def test_dense_labels_are_at_the_cells_of_the_items(scene_cache):
    view = scene_cache.picture(3)
    labels = compute_labels(view)
    assert int((labels.classes["color"] > 0).sum()) == len(view.scene.items)
    for item in view.scene.items:
        x, y = position(view, item)
        token = int(y * 6) * 6 + int(x * 6)
        assert labels.classes["color"][token] > 0
        assert labels.place[token, 0] == pytest.approx(x * 6 - int(x * 6), abs=1e-5)
    assert (labels.classes["glyph"] == IGNORE).all(), "no character is legible in an overview"


def test_a_page_has_labels_at_its_words_and_numbers(scene_cache):
    scene = scene_cache.scenes["infographic"][2]
    overview = compute_labels(scene_cache.page(2)).classes
    assert overview["word"].tolist().count(IGNORE) == 35, "the heading alone is legible"
    assert overview["word"][3] == WORDS.index(scene.page.heading)
    for nth, item in enumerate(scene.items):
        view = scene_cache.page_crop(2, nth)
        labels = compute_labels(view).classes
        x, y = position(view, item)
        token = int(y * 5) * 5 + int(x * 5)
        if item.glyph.isdigit():
            text = DIGITS[labels["tens"][token]] + DIGITS[labels["ones"][token]]
        else:
            text = WORDS[labels["word"][token]]
        assert text == item.glyph


def test_crops_and_selected_frames_have_character_labels(scene_cache):
    for view in (scene_cache.crop(2, 1), scene_cache.selected_frame(1, 0, 0)):
        assert (compute_labels(view).classes["glyph"] != IGNORE).sum() >= 1


def test_a_shifted_view_has_shifted_labels(scene_cache):
    whole = scene_cache.selected_frame(1, 0, 0)
    for seed in range(20):
        view = shift_view(whole, random.Random(seed))
        side = view.pixels.shape[0]
        cells, left = side // 32, round(view.box.x1 * whole.pixels.shape[0])
        top = round(view.box.y1 * whole.pixels.shape[0])
        assert (view.pixels == whole.pixels[top : top + side, left : left + side]).all()
        labels = compute_labels(view).classes
        (at,) = (labels["shape"] > 0).nonzero().flatten().tolist()
        x, y = position(view, view.item)
        assert at == int(y * cells) * cells + int(x * cells)
        # The middle of the card moves by the shift of the edge.
        assert x * side == pytest.approx(position(whole, whole.item)[0] * 224 - left, abs=1e-6)
        ball = whole.scene.ball
        is_visible = 0 <= ball.x(view.frame) * 224 - left < side and 0 <= ball.y * 224 - top < side
        assert int((labels["ball"] > 0).sum()) == is_visible


def test_a_character_is_legible_from_five_pixels_on(scene_cache):
    versions, rng = scene_cache.versions, random.Random(0)
    for draw in (versions.picture, versions.crowd, versions.crop, versions.frame):
        for _ in range(8):
            view = draw(rng)
            labels = compute_labels(view).classes
            side = view.box.x2 - view.box.x1
            height = (
                view.scene.params.detail_px
                * view.pixels.shape[0]
                / view.scene.params.size_px
                / side
            )
            known = labels["legible"] != IGNORE
            assert set(labels["legible"][known].tolist()) <= {int(height >= 5)}
            assert ((labels["glyph"] != IGNORE) == (known & torch.tensor(height >= 6))).all()


def test_orthogonalize_in_32_bits_is_close_to_the_polar_factor():
    """Its singular values are near one (Muon's iteration does not converge fully), and its direction is right."""
    for shape in ((8, 24), (24, 8), (16, 16)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        found = orthogonalize(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
        values = torch.linalg.svdvals(found)
        assert 0.5 < values.min() <= values.max() < 1.3
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        assert (found @ (left @ right).T).trace() / min(shape) > 0.7


def test_batches_are_a_function_of_their_seed(scene_cache):
    for stage in TOWER_STAGES:
        first, again = (stage.batch(lambda: scene_cache, random.Random(5)) for _ in range(2))
        assert first.keys() == again.keys()
        assert stage.weights.keys() <= first.keys(), "a weight names no group"
        for name, pictures in first.items():
            both = zip(pictures, again[name], strict=True)
            assert all((a.pixels == b.pixels).all() for a, b in both)


def test_a_training_example_has_the_loss_mask_of_sft(builder, traces, processor):
    """The mask equals that of `data.sft`, except for answers without operations."""
    kinds = set()
    for number in numbers_of(builder):
        trace = builder.index.trace(number)
        if classify_trace(trace) in kinds:
            continue
        kinds.add(classify_trace(trace))
        example = builder.example(trace, builder.index.images(number))
        asked = with_media_root(trace.question, traces)
        encoded = encode(trace.model_copy(update={"question": asked}), processor)
        assert example.ids == encoded.token_ids
        assert example.trained == encoded.trained
    assert len(kinds) == 7


def test_without_operations_the_assistant_answers_directly(builder, processor):
    rng = random.Random(0)
    for number in numbers_of(builder):
        trace = builder.index.trace(number)
        alone = without_operations(trace, rng)
        [turn] = alone.turns
        assert turn.text.endswith(f"\\boxed{{{trace.question.answer[0]}}}")
        assert "<tool_call>" not in turn.text
        first = builder.index.images(number)[: len(trace.pictures)]
        text = processor.tokenizer.decode(builder.example(alone, first).ids)
        assert COMPACT.system_with_operations not in text


def test_attention_targets_are_the_latest_views_of_the_named_items(builder):
    """The target token of a phrase contains the middle of the named item."""
    for number in numbers_of(builder):
        trace = builder.index.trace(number)
        scene = make_scene(*_family_and_seed(trace))
        names = {item.name: item for item in scene.items}
        images = builder.index.images(number)
        pictures = list(trace.all_pictures.values())
        for pieces in builder.segments(trace, images):
            for piece in pieces:
                named = [name for name in names if name in piece.text]
                if not piece.trained or len(named) != 1:
                    continue
                item = names[named[0]]
                assert piece.visual_tokens, piece
                for at, cell in piece.visual_tokens:
                    picture, (rows, columns) = pictures[at], images[at].grid
                    assert not item.frames or picture.frame in item.frames
                    box = picture.box
                    x = (item.x - box.x1) / (box.x2 - box.x1)
                    y = (item.y - box.y1) / (box.y2 - box.y1)
                    assert (cell // columns, cell % columns) == (int(y * rows), int(x * columns))


def test_the_description_of_a_crop_attends_to_the_crop(builder):
    for number in numbers_of(builder):
        trace = builder.index.trace(number)
        if trace.question.needs_look:
            *_, answer = builder.segments(trace, builder.index.images(number))
            targets = {at for piece in answer for at, _ in piece.visual_tokens}
            assert min(targets) >= len(trace.pictures)


def _family_and_seed(trace: Trace) -> tuple[str, int]:
    family, seed, *_ = trace.question.id.split("-")
    return family, int(seed)


def test_attention_targets_are_at_trained_tokens(builder):
    for number in numbers_of(builder):
        example = builder.draw(number, random.Random(number))
        for target in example.attention:
            assert all(place < target.end for place in target.targets)
            if target.head == POINTING_HEAD:
                # A position predicts the next token.
                assert all(example.trained[target.first + 1 : target.end + 1])


def test_a_turn_is_split_at_every_mention_without_loss_of_text():
    for family in FAMILIES:
        for seed in range(20):
            for question in all_questions(make_scene(family, seed), EMPTY_MEDIA):
                for words in (question.reasoning, *(question.evidence or Evidence()).findings):
                    pieces = find_mentions(question, words)
                    assert "".join(piece.text for piece in pieces) == words
                    assert [piece.is_last for piece in pieces] == [
                        *[False] * (len(pieces) - 1),
                        True,
                    ]


def test_questions_of_world_2_are_split_without_loss_of_text():
    for family in v2.FAMILIES:
        for seed in range(12):
            params = v2.Params(size_px=1024, overview_px=192, evidence_px=(2, 8)[seed % 2])
            for question in v2.all_questions(v2.make_scene(family, seed, params), EMPTY_MEDIA):
                evidence = question.evidence
                for words in filter(None, (question.reasoning, *evidence.findings)):
                    words = f"{words}. \\boxed{{{question.answer[0]}}}"
                    pieces = find_mentions(question, words)
                    assert "".join(piece.text for piece in pieces) == words
                    assert pieces[-1].is_last
                    assert not any(piece.is_last for piece in pieces[:-1])
                    assert any(piece.item for piece in pieces)


def test_coordinates_attend_to_the_overview_and_findings_to_the_latest_view(version_builder):
    seen = set()
    for number in numbers_of(version_builder):
        trace = version_builder.index.trace(number)
        family = trace.question.id.split("-")[1]
        images = version_builder.index.images(number)
        first = set(range(len(trace.pictures)))
        for segments in version_builder.segments(trace, images):
            for segment in segments:
                targets = {at for at, _ in segment.visual_tokens}
                if segment.text.startswith(", at "):
                    assert targets == {0}, segment
                    seen.add(family)
                elif (
                    re.match(r"(: \d+ to \d+)?(, )?frame", segment.text)
                    and trace.question.needs_look
                ):
                    assert targets, segment
                    assert not targets & first, "a frame is read at the size of a selected frame"
                    seen.add(family)
    assert seen == {"where", "parts", "moments"}


def test_the_tokens_of_a_call_are_marked_from_its_opening_to_its_end(builder, processor):
    for number in range(0, 120, 7):
        trace = builder.index.trace(number)
        example = builder.example(trace, builder.index.images(number))
        marked = [n for n, inside in zip(example.ids, example.in_call, strict=True) if inside]
        calls = [
            COMPACT.write_call(turn.call).strip()
            for turn in trace.turns
            if turn.call and not turn.mistake
        ]
        assert processor.tokenizer.decode(marked).replace("\n", "") == "".join(calls).replace(
            "\n", ""
        )


def test_weighted_calls_move_the_loss_toward_the_loss_of_calls(builder, processor):
    model = build_model(processor.tokenizer, 3)
    model.model.language_model.set_attn_implementation(OBSERVED_ATTENTION)
    tokens = {
        size: VisualTokens(*(torch.randn(4000, size[0] * size[1] // 32**2, 128) for _ in range(2)))
        for size in builder.index.sizes
    }
    examples = [builder.example(builder.index.trace(n), builder.index.images(n)) for n in (0, 3)]
    with torch.no_grad():
        plain, more, most = (
            language_loss(model, tokens, examples, call_weight=weight)[0] for weight in (1, 5, 1e6)
        )
    assert min(plain, most) < more < max(plain, most)


def test_a_readable_question_is_answered_alike_without_operations(version_builder):
    for number in numbers_of(version_builder):
        trace = version_builder.index.trace(number)
        alone = without_operations(trace, random.Random(0))
        if not trace.question.needs_look:
            assert alone.turns == trace.turns
        else:
            assert "guess" in alone.turns[0].text


def test_every_frame_has_an_attention_target_at_its_own_number(builder, processor):
    number = builder.index.families["video"][0]
    example = builder.example(builder.index.trace(number), builder.index.images(number))
    numbers = [target for target in example.attention if target.head == NUMBERING_HEAD]
    text = [
        processor.tokenizer.decode([example.ids[place] for place in target.targets])
        for target in numbers
    ]
    assert text == [str(number) for number in range(1, 17)]
    assert all(target.end - target.first == 4 for target in numbers)


def test_cached_tokens_equal_the_output_of_the_vision_tower(traces, processor, tmp_path):
    visual = build_model(processor.tokenizer, 3).model.visual
    cache = cache_tokens(visual, processor.image_processor, traces, tmp_path / "tokens.pt")
    again = cache_tokens(visual, None, traces, tmp_path / "tokens.pt")
    for number in (0, 40, 119):
        trace = again.traces.trace(number)
        asked = with_media_root(trace.question, traces)
        context = MediaContext.of_trace(trace.model_copy(update={"question": asked}))
        for picture, image in zip(trace.all_pictures, again.traces.images(number), strict=True):
            pixels = np.asarray(context.view(picture))
            with torch.no_grad():
                alone = embed(visual, processor.image_processor, [pixels]).pooler_output
            kept = again.tokens[image.size].final[image.row].float()
            torch.testing.assert_close(kept, alone, rtol=0.05, atol=0.05)
    assert again.traces.rows == cache.traces.rows
    assert len(list(tmp_path.iterdir())) == 1


def test_cached_tokens_of_other_traces_or_another_tower_are_not_used(traces, processor, tmp_path):
    towers = [build_model(processor.tokenizer, seed).model.visual for seed in (1, 2)]
    other = tmp_path / "other"
    other.mkdir()
    (other / "media").symlink_to(traces / "media")
    lines = (traces / "traces.jsonl").read_text().splitlines(keepends=True)
    (other / "traces.jsonl").write_text("".join(lines[:4]))
    for tower, folder in ((towers[0], other), (towers[1], other)):
        cache_tokens(tower, processor.image_processor, folder, tmp_path / "tokens.pt")
    (other / "traces.jsonl").write_text("".join(lines[4:8]))
    cache_tokens(towers[0], processor.image_processor, other, tmp_path / "tokens.pt")
    assert len(list(tmp_path.glob("tokens-*.pt"))) == 3


def test_recorded_attention_equals_plain_attention_and_returns_its_weights():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8)
    allowed = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7).clone()
    allowed[1, :, :, 5:] = False  # padding
    allowed[1, :, 5:, :1] = True
    weights = (query @ key.transpose(2, 3) * 0.3).masked_fill(~allowed, -1e9).softmax(-1)
    module = SimpleNamespace(layer_idx=POINTING_HEAD[0], num_key_value_groups=1, training=False)
    with observe_attention() as observed:
        out, _ = observed_attention(module, query, key, value, allowed, 0.3)
    torch.testing.assert_close(out, (weights @ value).transpose(1, 2))
    assert set(observed) == {POINTING_HEAD}
    torch.testing.assert_close(observed[POINTING_HEAD], weights[:, POINTING_HEAD[1]])


def test_a_label_without_a_cell_adds_nothing_to_the_loss(processor, scene_cache):
    visual = build_model(processor.tokenizer, 3).model.visual
    probes = make_probes(visual)
    ground = np.full((4 * CELL_PX, 4 * CELL_PX, 3), 255, np.uint8)
    labels = sparse_labels({"glyph": np.zeros((4, 4), np.int64)}, 4)
    empty = LabelledPicture(ground, labels)
    loss, metrics = tower_loss(probes, visual, processor.image_processor, [empty])
    assert loss.isfinite()
    assert "offset" not in metrics


def test_padding_and_batch_composition_do_not_change_the_loss(builder, processor):
    model = build_model(processor.tokenizer, 3)
    model.model.language_model.set_attn_implementation(OBSERVED_ATTENTION)
    tokens = {
        size: VisualTokens(*(torch.randn(4000, size[0] * size[1] // 32**2, 128) for _ in range(2)))
        for size in builder.index.sizes
    }
    examples = [
        builder.example(builder.index.trace(n), builder.index.images(n)) for n in (0, 3, 30, 60, 90)
    ]
    with torch.no_grad():
        losses = []
        for together in (1, 2, 5):
            losses.append(language_loss(model, tokens, examples, per_pass=together)[0].item())
    assert losses == pytest.approx([losses[0]] * 3, rel=5e-3)


def test_scaled_visual_tokens_equal_the_originals_times_the_factor(processor):
    visual = build_model(processor.tokenizer, 3).model.visual
    patches, grid = torch.randn(16, 3 * 2 * 16 * 16), torch.tensor([[1, 4, 4]])
    before = visual(patches, grid_thw=grid, return_dict=True)
    shrink_tokens(visual, 0.25)
    after = visual(patches, grid_thw=grid, return_dict=True)
    torch.testing.assert_close(after.pooler_output, before.pooler_output / 4)
    torch.testing.assert_close(after.deepstack_features[0], before.deepstack_features[0] / 4)


def test_patch_embedding_of_the_bundled_model_by_matmul_equals_the_convolution(processor):
    visual = build_model(processor.tokenizer, 3).model.visual
    patches = torch.randn(8, 3 * 2 * 16 * 16)
    convolved = visual.patch_embed(patches)
    embed_patches_by_matmul(visual)
    torch.testing.assert_close(visual.patch_embed(patches), convolved, rtol=1e-4, atol=1e-5)


def test_text_round_trips_through_the_tokenizer(processor):
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.1, 0.2, 0.35, 1.0], "target_image": 1})
    for text in ("Grüße, 100 %!\n", f"I look.\n{COMPACT.write_call(call)}"):
        ids = processor.tokenizer(text)["input_ids"]
        assert processor.tokenizer.decode(ids) == text


def test_budgets_give_sizes_that_the_image_processor_does_not_resize(processor, scene_cache):
    for view, tokens in (
        (scene_cache.picture(0), 36),
        (scene_cache.crop(0, 0), 25),
        (scene_cache.frame(0, 1), 4),
    ):
        pixels = torch.tensor(view.pixels).permute(2, 0, 1)
        grid = processor.image_processor(images=[pixels], return_tensors="pt")["image_grid_thw"]
        assert int(grid.prod()) // 4 == tokens
    assert BUDGETS.picture.max_px == 192 * 192


def test_an_operation_returns_the_pixels_of_the_scene_cache(scene_cache, tmp_path):
    from pixel_reasoner.schema.question import Question
    from pixel_reasoner.world import write_media

    scene = scene_cache.scenes["video"][1]
    path = tmp_path / "clip.mp4"
    write_media(scene, path)
    question = Question(id="1", text="?", media=(MediaItem(kind="video", path=str(path)),))
    context = MediaContext(question, BUDGETS)
    number = scene.items[0].frames[0]
    call = ToolCall(name="select_frames", arguments={"target_frames": [number]})
    observation = default_operations().run(call, context)
    cached = torch.tensor(scene_cache.selected_frame(1, 0, 0).pixels).int()
    returned = torch.tensor(np.asarray(context.view(observation.pictures[0].number))).int()
    assert (cached - returned).abs().max() <= 2


def test_a_stopped_stage_resumes_to_the_same_weights(tmp_path):
    def stage_run(folder: Path, stop_at: int | None) -> list[float]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1)
        stage = Stage(name="s", steps=20, lr=0.1, warmup=3, log_every=5, save_every=5)

        def losses(step: int) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
            if step == stop_at:
                raise KeyboardInterrupt
            for x in torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(step)):
                yield (layer(x) - x.sum(1, keepdim=True)).square().mean(), {}

        run_stage(stage, {"layer": layer}, losses, folder)
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


FEW_SCENES = """
from pixel_reasoner import cli
from pixel_reasoner.tiny import train, validate
train.MIN_SCENES, validate.FAMILIES = 8, ("attribute", "video")
cli.main()
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_a_model_that_answers(tmp_path, monkeypatch, run):
    """Runs the whole pipeline at a thousandth of its size and kills it in the fourth stage."""
    synthesized(tmp_path / "synth", 60)
    synthesized(tmp_path / "synth2", 70, 2)
    command = ["train", "tiny", "--traces", str(tmp_path / "synth"), "--out", str(tmp_path)]
    command += ["--traces", str(tmp_path / "synth2")]
    command += ["--scale", "0.001", "--steps", "1400", "--batch-share", "0.03"]
    process = subprocess.Popen(
        [sys.executable, "-c", FEW_SCENES, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "characters.pt").exists():
        assert time.monotonic() < deadline, "the training did not get going"
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.kill()
    process.wait()
    monkeypatch.setattr(training, "MIN_SCENES", 8)
    monkeypatch.setattr(validation, "FAMILIES", ("attribute", "video"))
    code, _, err = run(*command)
    assert code == 0, err
    for name in (*(stage.name for stage in TOWER_STAGES), "conclude", "reason"):
        steps = [
            json.loads(line)["step"]
            for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
        ]
        assert steps == list(range(1, len(steps) + 1))
    last = json.loads((tmp_path / "reason.jsonl").read_text().splitlines()[-1])
    assert {"attribute_pointing", "video_reading", "attribute_looks_when_not"} <= set(last)
    assert {"w2-where_accuracy", "w2-moments_looks_when_needed"} <= set(last)
    assert json.loads((tmp_path / "model" / "pixel_reasoner.json").read_text())["worlds"] == [1, 2]
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 16 * 2**20


def test_sizes_have_the_documented_number_of_parameters(processor):
    counts = {
        name: sum(p.numel() for p in build_model(processor.tokenizer, 0, shape).parameters()) / 1e6
        for name, shape in SHAPES.items()
    }
    assert counts == pytest.approx({"s": 5.7, "m": 17, "l": 55}, rel=0.03)
    assert tuple(SHAPES) == SIZES
    model = build_model(processor.tokenizer, 0, SHAPES["m"])
    assert shape_of(model.config) == SHAPES["m"]


def test_an_unknown_size_is_refused(run, tmp_path):
    code, _, err = run("train", "tiny", "--size", "xl", "--out", tmp_path)
    assert (code, "s, m, l" in err) == (2, True)


def test_the_same_seed_builds_the_same_weights(processor):
    first, again = (build_model(processor.tokenizer, 7).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(("how", "is_new"), [({"tower": "tiny"}, True), ({"start": "tiny"}, False)])
def test_a_copied_tower_is_used_with_a_new_or_a_continued_language_model(
    tmp_path, few_traces, monkeypatch, how, is_new
):
    monkeypatch.setattr(validation, "FAMILIES", ("attribute",))
    size = {"steps": 100, "scale": 0.02, "batch_share": 0.03}
    folder = train(TinyConfig(traces=few_traces, out=tmp_path, words=0.5, **how, **size))
    weights, ours = (LocalModel(source).model.state_dict() for source in ("tiny", str(folder)))
    tower = [name for name in ours if ".visual." in name]
    assert tower
    # Weights are stored in 16 bits.
    assert all(torch.equal(ours[name], weights[name].half().float()) for name in tower)
    for name in (n for n in ours if "language_model.layers" in n and ours[n].ndim == 2):
        moved = torch.dist(ours[name], weights[name]) / weights[name].norm()
        assert moved > 0.5 if is_new else 0 < moved < 0.2
    log = [json.loads(line) for line in (tmp_path / "reason.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 2
    assert 0 <= log[-1]["attribute_overview"] <= 1
    assert not (tmp_path / "gallery").exists()


def test_direct_answers_with_tool_definitions_are_drawn_with_their_share(builder, processor):
    with_call = next(n for n in numbers_of(builder) if builder.index.trace(n).turns[0].call)
    habit = ExampleBuilder(builder.index, processor, COMPACT, words=0.5)
    for seed in range(40):
        drawn = random.Random(seed).random()
        text = processor.tokenizer.decode(habit.draw(with_call, random.Random(seed)).ids)
        assert (COMPACT.system_with_operations in text) == (drawn >= SHARE_WITHOUT_OPERATIONS)
        assert ("<tool_call>" in text) == (drawn >= SHARE_WITHOUT_OPERATIONS + 0.5)
        plain = builder.draw(with_call, random.Random(seed)).ids
        in_habit = SHARE_WITHOUT_OPERATIONS <= drawn < SHARE_WITHOUT_OPERATIONS + 0.5
        assert (processor.tokenizer.decode(plain) == text) == (not in_habit)
