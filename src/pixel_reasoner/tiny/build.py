"""Bundled model before training: tokenizer, chat template, processor and a small Qwen3-VL.

Everything is stock transformers. A model folder of any size may also contain `pixel_reasoner.json`: the model's dialect
and
the pixel budgets of its training (see `models.local`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.files import atomic_folder, write_json
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.patches import select_cpu_of_deepspeed
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets

BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=192 * 192, max_px=192 * 192),
    crop=PixelBudget(min_px=160 * 160, max_px=160 * 160),
    frame=PixelBudget(min_px=64 * 64, max_px=64 * 64),
    selected_frame=PixelBudget(min_px=224 * 224, max_px=224 * 224),
    multiple=32,
)
"""36, 25, 4 and 49 visual tokens. Crops have an odd number of cells per side, so that their centre is inside one cell"""

NOTE = (
    "This small model only supports PixelWorld: coloured shapes and cards that carry a character, and simple pages. For real pictures "
    "use a larger model: --model FOLDER or a hub id such as TIGER-Lab/PixelReasoner-RL-v1."
)

SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CALL_FRAGMENTS = [
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [',
    '<tool_call>\n{"name": "select_frames", "arguments": {"target_frames": [',
    '], "target_image": ',
    "}}\n</tool_call>",
    "]}}\n</tool_call>",
    "<tool_call>",
    "</tool_call>",
    "\\boxed{",
    ", 0.",
    "0.",
]
"""fixed parts of a call, one token each, so that a call has 20 tokens instead of 60"""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.role == 'assistant' %}{% generation %}{{ content(message) }}<|im_end|>{% endgeneration %}
{%- else %}{{ content(message) }}<|im_end|>{% endif %}
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""
_CONTENT_MACRO = """\
{%- macro content(message) -%}
{%- if message.content is string %}{{ message.content }}
{%- else %}{% for part in message.content -%}
{%- if part.type == 'image' or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>
{%- else %}{{ part.text }}{% endif -%}
{%- endfor %}{% endif -%}
{%- endmacro -%}
"""


def build_tokenizer(texts: Iterable[str], vocab_size: int = 1200) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE trained on texts. Every digit is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d| ?\w+| ?[^\s\w]|\s+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in CALL_FRAGMENTS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        extra_special_tokens=SPECIAL_TOKENS[1:],
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """Return the processor: tokenizer, image processor and chat template. Size limits are wide: pictures are already scaled."""
    size = {"shortest_edge": 32 * 32, "longest_edge": 2048 * 2048}
    shape = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    normalization = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, **shape, **normalization),
        video_processor=Qwen3VLVideoProcessor(size=size, **shape, **normalization),
        tokenizer=tokenizer,
        chat_template=_CONTENT_MACRO + CHAT_TEMPLATE,
    )


class Shape(NamedTuple):
    """Width and depth of a model. Heads have 32 dimensions, feed-forward layers three times the width."""

    width: int
    layers: int
    vision_width: int
    vision_layers: int


SHAPES = {"s": Shape(128, 4, 256, 3), "m": Shape(256, 6, 384, 4), "l": Shape(512, 8, 512, 6)}
"""Sizes: 5.7 (bundled), 17 and 55 million parameters. `m` and `l` are for training on a GPU. A tower of width 128 does not
learn to read characters of 6 pixels."""


def build_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, shape: Shape = SHAPES["s"]
) -> Qwen3VLForConditionalGeneration:
    """Return an untrained Qwen3-VL of a shape."""
    ids = tokenizer.convert_tokens_to_ids
    width = shape.width
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": width // 32,
            "num_key_value_heads": width // 32,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 500_000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_width,
            "intermediate_size": 3 * shape.vision_width,
            "num_heads": shape.vision_width // 32,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": width,
            "num_position_embeddings": 144,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def shape_of(config: Qwen3VLConfig) -> Shape:
    """Return the shape of a model that `build_model` built."""
    text, vision = config.text_config, config.vision_config
    return Shape(text.hidden_size, text.num_hidden_layers, vision.hidden_size, vision.depth)


def save_folder(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    folder: Path,
    worlds: tuple[int, ...] = (1,),
) -> None:
    """Write a `from_pretrained` folder atomically, with dialect, pixel budgets and worlds in `pixel_reasoner.json`.

    Weights are stored in 16 bits, half of the size. Training and CPUs without 16-bit products load them in 32.
    """
    settings = FolderSettings(dialect=COMPACT.name, budgets=BUDGETS, note=NOTE, worlds=worlds)
    select_cpu_of_deepspeed()
    with atomic_folder(folder) as part:
        copy.deepcopy(model).half().save_pretrained(part)
        processor.save_pretrained(part)
        write_json(settings.model_dump(mode="json"), part / "pixel_reasoner.json")
