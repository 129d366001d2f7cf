"""Conversations of every dialect in the chat template of its family: nothing is lost, and earlier tokens stay.

Where no package contains the real template, a stand-in takes its place (`family_templates`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from family_templates import family_template, model_types, renderer, trl_template
from pixel_reasoner.dialects import Dialect, Exchange, detect_dialect, get_dialect
from pixel_reasoner.dialects.template_check import assert_template_supports, thought_problem
from pixel_reasoner.errors import ModelError
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, ToolCall, Turn

IMAGE_MARKS = (
    "<|image_pad|>", "<start_of_image>", "<image_soft_token>", "<|image|>", "<IMG_CONTEXT>", "[IMG]", "<|media_pad|>",
    "<image>", "<|IMG_PATCH|>", "<|IMAGE_PAD|>", "<|IMAGE_PLACEHOLDER|>", "<im_patch>", "]<]image[>[", "<image_placeholder>",
    "<|patch|>",
)  # fmt: skip
QUESTION = Question(id="1", text="Which colour?", media=(MediaItem(kind="image", path="a"),))
OTHER_TEMPLATES = {
    "gemma4": ("gemma4_v4",),
    "qwen3_5": ("qwen3_6", "qwen3_5_nothink"),
}
"""revisions of the template of a family besides the newest"""


def dialect_of(model_type: str) -> Dialect:
    """Return the dialect that is detected for a model type and its template."""
    template = family_template(model_type).text
    if model_type == "qwen3_8":
        return detect_dialect("a/model", {"model_type": "qwen3_5"}, template)
    if model_type == "pixtral":
        return detect_dialect("a/model", {"model_type": "llava"}, template)
    return detect_dialect("a/model", {"model_type": model_type}, template)


class Family:
    """Dialect, and the template of one model type."""

    def __init__(self, model_type: str, template: str | None = None) -> None:
        self.dialect = dialect_of(model_type)
        text = trl_template(template).text if template else family_template(model_type).text
        self.render = renderer(text, current_date="2026-11-30")

    def prompt(self, turns: list[Turn], **more: Any) -> str:
        messages = self.dialect.messages(QUESTION, pictures()[:1], turns, str, **more)
        return self.render(messages, add_generation_prompt=True)

    def turn(self, number: int, words: str, observation: Observation | None = None) -> Turn:
        """Return a turn with a call and its result: by default a crop."""
        crop = pictures()[number]
        call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5]})
        text = self.dialect.write_turn(words, call, pictures()[:1])
        parts = self.dialect.parse(text, pictures()[:1]).parts
        result = observation or Observation(text="", pictures=(crop,))
        return Turn(text=text, parts=parts, observations=(result,))


def pictures() -> list[Picture]:
    size = 672, 448
    return [
        Picture(number=n, medium=0, source_px=size, seen_px=size, parent=None if n == 1 else 1)
        for n in range(1, 5)
    ]


@pytest.fixture(params=model_types())
def family(request) -> Family:
    return Family(request.param)


def count_pictures(text: str) -> int:
    marks = {mark: text.count(mark) for mark in IMAGE_MARKS}
    return max(marks.values())


def test_every_model_type_of_the_templates_has_a_dialect_of_its_own():
    assert {dialect_of(one).name for one in model_types()} >= {
        "qwen3_5", "qwen3_8", "gemma3", "gemma4", "internvl", "glm4v", "glm5", "llava", "smolvlm", "mistral3", "pixtral",
        "minicpm_v", "kimi_k25", "lfm2_vl", "molmo2", "phi4_multimodal", "granite_vision", "cohere_vision", "ernie4_5_vl",
        "llama4", "step3p7", "minimax_m3", "muse", "nemotron_omni", "deepseek_vl",
    }  # fmt: skip
    assert "plain" not in {dialect_of(one).name for one in model_types()}


def test_the_template_supports_operations(family):
    assert_template_supports(family.render, family.dialect, "a model")


def test_thoughts_stay_or_the_dialect_declares_that_they_do_not(family):
    problem = thought_problem(family.render, family.dialect)
    expected = (
        None if family.dialect.carriage.keeps_thoughts else "deletes the thoughts of earlier turns"
    )
    assert problem == expected


def test_every_word_picture_and_result_is_carried(family):
    error = Observation(text="it is empty", error=CallErrorKind.BAD_BOX)
    words = Observation(text="five words of text")
    turns = [
        family.turn(1, "look-once"),
        family.turn(1, "look-again", error),
        family.turn(1, "look-third", words),
    ]
    text = family.prompt(turns)
    for wanted in ("Which colour?", "it is empty", "five words of text", "zoom in"[:4]):
        assert wanted in text
    assert count_pictures(text) == 2
    said = ["look-once", "look-again", "look-third"]
    if family.dialect.carriage.keeps_thoughts or "</think>" not in turns[0].text:
        assert [text.count(one) for one in said] == [1, 1, 1]
    assert text.count("I look closer") == 0


def test_the_tokens_of_a_turn_are_a_prefix_of_the_next_prompt(family):
    turns = [family.turn(1, "I look once."), family.turn(2, "I look again.")]
    prompts = [family.prompt(turns[:count]) for count in range(3)]
    for number, (shorter, longer) in enumerate(pairwise(prompts)):
        is_prefix = longer.startswith(shorter + turns[number].text)
        carriage = family.dialect.carriage
        is_expected = carriage.keeps_tokens and carriage.keeps_thoughts
        # A new model turn starts only after the first result.
        is_expected |= family.dialect.name == "diffusion_gemma" and number == 0
        assert is_prefix == is_expected


def test_a_second_question_follows_a_result(family):
    ended = Exchange(QUESTION, pictures()[:1], [family.turn(1, "I look once.")])
    text = family.prompt([], history=[ended])
    assert text.count("Which colour?") == 2
    assert count_pictures(text) == 3


@pytest.mark.parametrize(
    ("model_type", "template"),
    [(name, one) for name, others in OTHER_TEMPLATES.items() for one in others],
)
def test_other_revisions_of_a_template_carry_conversations_alike(model_type, template):
    other = Family(model_type, template)
    assert_template_supports(other.render, other.dialect, "a model")
    assert thought_problem(other.render, other.dialect) is None


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("gemma4", "pictures of operation results"),
        ("gemma4_v2", "assistant messages"),
        ("gemma4_v3", "pictures of operation results"),
    ],
)
def test_a_revision_that_drops_words_or_pictures_is_an_error(template, what):
    other = Family("gemma4", template)
    with pytest.raises(ModelError, match=f"whose template leaves out {what}"):
        assert_template_supports(other.render, other.dialect, "a model")


NATIVE = {
    "qwen3_5": "qwen3_5_think",
    "qwen3_8": "qwen3_8",
    "gemma4": "gemma4_v5",
    "lfm2_vl": "lfm2_2_5_vl",
    "muse": "muse_glimmer",
    "glm4v": "glm4moe",
}
"""dialect -> real template that writes tools and calls of the family"""


@pytest.mark.parametrize("name", NATIVE)
def test_tools_and_calls_are_written_as_the_real_template_writes_them(name):
    dialect, render = get_dialect(name), renderer(trl_template(NATIVE[name]).text)
    tools = [dialect.tool_definition(one) for one in ("zoom_in", "select_frames")]
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1})
    written = dialect.to_family(call, pictures()[:1], about="a sign")
    function = {"name": written.name, "arguments": dict(written.arguments)}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": function}],
        },
    ]
    native = render(messages, tools=tools)
    listed = dialect.texts(True, has_video=True).system
    without_advice = listed.replace(dialect.native_system, "").strip()
    assert without_advice in native
    assert dialect.encode(written).replace("0.50", "0.5") in native.replace(
        "\n\n<arg_key>", "\n<arg_key>"
    )


WITHOUT_DIALECT = frozenset(
    [
        "aria",
        "blip",
        "blip-2",
        "chameleon",
        "cosmos3_edge",
        "cosmos3_omni",
        "dots3_note",
        "emu3",
        "evolla",
        "exaone4_5",
        "fast_vlm",
        "fuyu",
        "git",
        "glm_ocr",
        "glmga",
        "got_ocr2",
        "granite_docling",
        "hunyuan_vl",
        "hyperclovax_vision_v2",
        "idefics",
        "idefics2",
        "inkling2",
        "inkling_mm_model",
        "instructblip",
        "instructblipvideo",
        "janus",
        "kosmos-2",
        "kosmos-2.5",
        "lighton_ocr",
        "llava",
        "llava_next_video",
        "minicpm_ocr",
        "mllama",
        "ovis2",
        "paddleocr_vl",
        "perception_lm",
        "pi0",
        "pix2struct",
        "pp_chart2table",
        "pp_formulanet",
        "qianfan_ocr",
        "qwen2_5_omni_thinker",
        "qwen3_omni_moe_thinker",
        "shieldgemma2",
        "t5gemma2",
        "udop",
        "unlimited_ocr",
        "video_llama_3",
        "video_llava",
        "vipllava",
        "vision-encoder-decoder",
    ]
)
"""model types of transformers that use `plain`"""


def test_every_model_type_of_transformers_has_a_dialect_is_refused_or_is_known_to_have_none():
    auto = pytest.importorskip("transformers.models.auto.modeling_auto")
    found = {}
    for model_type in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        try:
            found[model_type] = detect_dialect("a/folder", {"model_type": model_type}).name
        except ModelError:
            found[model_type] = "refused"
    without = {key for key, name in found.items() if name == "plain"}
    fix = "write a dialect for a new family, or add its model type to WITHOUT_DIALECT"
    assert without <= WITHOUT_DIALECT, fix
    assert {key for key, name in found.items() if name == "refused"} <= {
        "paligemma", "florence2", "deepseek_ocr2",
    }  # fmt: skip
