"""Tiny folders of all model families through questions, batches, training, export and the server.

The folders have the config, processor and tokenizer classes of real ones and random weights (`benchmarks/families`). Their chat
templates are those of TRL and transformers, or stand-ins (`tests/templates`). So these tests prove that a family passes through
every step, not that its checkpoints answer well.
"""

from __future__ import annotations

import importlib.util
import math
import re

import pytest
from transformers import AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MODEL_TYPES,
)

from conftest import draw_clip, draw_photo
from families import RECIPES, build_folder
from families.checks import (
    ask_about_clip,
    ask_together,
    ask_with_zooms,
    load,
    pictures_that_reach_the_model,
    visual_tokens,
)
from families.recipe import build_image_processor, template_of
from families.steps import rl_step, sft_step
from pixel_reasoner.errors import ModelError
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.models.folder import FolderSettings, budgets_for_processor, pixel_limits
from pixel_reasoner.models.known_families import TESTED_TEMPLATES, UNSUPPORTED, template_digest
from pixel_reasoner.models.local import LocalModel
from server_fixture import chat, serving

pytestmark = [
    pytest.mark.medium,
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

REPRESENTATIVE = ("qwen3_5", "gemma3", "internvl", "llava_onevision")
"""families trained in `make test`: hybrid attention, fixed number of tokens, tiles, tiles that depend on the other pictures"""
ANSWERING = (
    *REPRESENTATIVE,
    *("gemma4", "glm4v", "idefics3", "mistral3", "lfm2_vl", "minicpmv4_6", "molmo2", "kimi_k25"),
    *("ernie4_5_vl_moe", "llama4", "muse_glimmer", "video_llama_3"),
)
"""families asked in `make test`: one for each way in which a processor or a model differs"""
UNTRAINED = {
    "llama4": "decoder and output head are one module",
    "nemotron_h_omni": "deletes the thoughts",
    "glm4v": "deletes the thoughts",
    "glm4v_moe": "deletes the thoughts",
    "glm46v": "deletes the thoughts",
    "kimi_k25": "deletes the thoughts",
    "step3p7": "deletes the thoughts",
}
"""families that training refuses, with the reason"""


def cases(fast: tuple[str, ...], *marks: pytest.MarkDecorator) -> list:
    """Return all model types as parameters. Those outside `fast` have the marks."""
    return [pytest.param(name, marks=[] if name in fast else marks) for name in RECIPES]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return draw_photo(tmp_path_factory.mktemp("media") / "photo.png")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return draw_clip(tmp_path_factory.mktemp("media") / "clip.mp4")


@pytest.fixture
def folder(request, tmp_path_factory):
    """Return the folder of a model type."""
    recipe = RECIPES[request.param]
    for package in recipe.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    return build_folder(recipe, tmp_path_factory.mktemp("models") / recipe.model_type)


@pytest.mark.parametrize("folder", cases(ANSWERING, pytest.mark.slow), indirect=True)
def test_a_family_answers_about_pictures_crops_and_clips(folder, photo, clip):
    model = load(folder)
    trace, prompt = ask_with_zooms(model, photo)
    assert [turn.observations[0].error for turn in trace.turns[:2]] == [None, None]
    assert [len(turn.observations[0].pictures) for turn in trace.turns[:2]] == [1, 1]
    assert pictures_that_reach_the_model(model, prompt) == [True, True, True]
    found, expected = visual_tokens(model, prompt)
    assert found == expected > 0

    trace, prompt = ask_about_clip(model, clip)
    assert trace.turns[0].observations[0].error is None
    assert all(pictures_that_reach_the_model(model, prompt))

    single, batched = ask_together(model, photo)
    assert single == batched


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("folder", ["llama4", "gemma3"], indirect=True)
def test_pictures_have_the_dtype_of_the_weights(folder, photo, dtype):
    model = LocalModel(str(folder), dtype=dtype)
    trace, _ = ask_with_zooms(model, photo)
    assert len(trace.turns) == 3


@pytest.mark.parametrize(
    "folder", cases(REPRESENTATIVE, pytest.mark.slow, pytest.mark.families), indirect=True
)
def test_a_family_is_trained_exported_and_served(folder, photo, tmp_path):
    reason = UNTRAINED.get(folder.name)
    if reason is not None:
        with pytest.raises(ModelError, match=reason):
            sft_step(folder, photo, tmp_path)
        answer_over_http(load(folder), photo)
        return
    step = sft_step(folder, photo, tmp_path)
    assert math.isfinite(step.loss)
    assert step.changed > 0.2
    assert without_marks(step.trained_text) == without_marks(step.expected_text)

    AutoProcessor.from_pretrained(step.model)
    exported = AutoModelForMultimodalLM.from_pretrained(step.model)
    assert exported.config.model_type == folder.name

    rl = rl_step(step.model, photo, tmp_path / "rl")
    assert all(map(math.isfinite, rl.losses))
    assert rl.changed > 0.2
    assert sorted(rl.advantages) == [-0.5, 0.5]
    assert max(rl.differences) < 1e-4
    answer_over_http(load(step.model), photo)


def without_marks(text: str) -> str:
    """Return a text without blanks, special tokens and thought tags."""
    marks = r"<\|?[^<>\"]{1,30}\|?>|\[/?[A-Z_]+\]|thought\n|\s"
    return re.sub(marks, "", text)


def answer_over_http(model: LocalModel, photo) -> None:
    with serving(model) as server:
        reply = server.post("/v1/chat/completions", chat("What is it?", photo, max_tokens=4))
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["completion_tokens"] > 0


def test_pictures_within_the_budgets_are_not_resized_again():
    checked = []
    for name, recipe in RECIPES.items():
        processor = build_image_processor(recipe)
        if pixel_limits(processor) is None:
            continue
        budgets = budgets_for_processor(FolderSettings(dialect="plain"), processor)
        for size in ((640, 480), (3000, 200), (20, 31)):
            width, height = fit_size(size, budgets.picture, budgets.multiple)
            patches = processor.get_number_of_image_patches(height, width, {})
            assert patches * processor.patch_size**2 == width * height, (name, size)
        checked.append(name)
    assert {"qwen2_5_vl", "qwen3_5", "glm4v", "glm46v", "ernie4_5_vl_moe"} <= set(checked)


def test_every_model_type_of_transformers_is_tested_or_has_a_reason():
    unknown = set(MODEL_TYPES) - set(RECIPES) - set(UNSUPPORTED)
    assert not unknown, (
        "add a recipe in benchmarks/families, or a reason in models/known_families.py"
    )
    assert not set(UNSUPPORTED) & set(RECIPES)
    assert not set(UNSUPPORTED) - set(MODEL_TYPES)
    assert all(UNSUPPORTED.values())


def test_the_tested_templates_are_those_that_check_model_compares_with():
    for model_type, recipe in RECIPES.items():
        digests = {one.digest for one in TESTED_TEMPLATES[model_type]}
        assert template_digest(template_of(recipe)) in digests, model_type
