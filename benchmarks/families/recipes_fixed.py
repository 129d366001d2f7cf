"""Recipes of families with a fixed number of visual tokens per picture: Gemma, PaliGemma, DeepSeek-VL, Florence-2."""

from __future__ import annotations

from typing import Any

from families.recipe import VOCAB, Mark, Recipe, VocabSize
from families.recipes_grid import TEXT, VISION
from families.recipes_tiles import SIGLIP, TILES

GEMMA_ENDS = {
    "bos_token_id": Mark("<bos>"),
    "eos_token_id": Mark("<end_of_turn>"),
    "pad_token_id": Mark("<pad>"),
}
GEMMA_TEXT = {
    **TEXT,
    **GEMMA_ENDS,
    "head_dim": 16,
    "sliding_window": 32,
    "layer_types": ["sliding_attention", "full_attention"],
}
GEMMA_MARKS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
GEMMA_SOUND = {
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
    "audio_token": "<audio_soft_token>",
}


def _gemma(model_type: str, config: dict[str, Any], **more: Any) -> Recipe:
    return Recipe(
        **{
            "model_type": model_type,
            "config": config,
            "marks": GEMMA_MARKS,
            "special": ("<start_of_turn>", "<end_of_turn>"),
            "bos": "<bos>",
            "eos": "<end_of_turn>",
            "pad": "<pad>",
            "tokenizer": "GemmaTokenizer",
            **more,
        }
    )


GEMMA4_MARKS = {
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "image_token": "<|image|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "audio_token": "<|audio|>",
}
GEMMA4_SPECIAL = (
    "<|turn>",
    "<turn|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|channel>",
    "<channel|>",
    "<|think|>",
    '<|"|>',
    "<|video|>",
)
GEMMA4_IDS = {
    "boi_token_id": Mark("<|image>"),
    "eoi_token_id": Mark("<image|>"),
    "image_token_id": Mark("<|image|>"),
    "video_token_id": Mark("<|video|>"),
    "boa_token_id": Mark("<|audio>"),
    "eoa_token_index": Mark("<audio|>"),
    "audio_token_id": Mark("<|audio|>"),
}
_GEMMA4_TEXT = {
    **GEMMA_TEXT,
    "eos_token_id": Mark("<turn|>"),
    "global_head_dim": 16,
    "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 8,
}
_GEMMA4_VISION = {
    **VISION,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "position_embedding_size": 256,
}


def _gemma4(model_type: str, config: dict[str, Any], parts: dict[str, str]) -> Recipe:
    return _gemma(
        model_type,
        {**config, **GEMMA4_IDS, "audio_config": None},
        marks=GEMMA4_MARKS,
        special=GEMMA4_SPECIAL,
        eos="<turn|>",
        image={"max_soft_tokens": 70},
        video={},
        parts=parts,
        template="gemma4_v5.jinja",
    )


GEMMA = (
    _gemma(
        "gemma3",
        {
            "text_config": GEMMA_TEXT,
            "vision_config": SIGLIP,
            "mm_tokens_per_image": 4,
            "boi_token_index": Mark("<start_of_image>"),
            "eoi_token_index": Mark("<end_of_image>"),
            "image_token_index": Mark("<image_soft_token>"),
        },
        image={"size": TILES, "image_seq_length": 4},
        processor={"image_seq_length": 4},
        template="gemma3.jinja",
    ),
    _gemma(
        "gemma3n",
        {
            "text_config": {
                **GEMMA_TEXT,
                "vocab_size_per_layer_input": VOCAB,
                "hidden_size_per_layer_input": 8,
                "num_kv_shared_layers": 0,
                "laurel_rank": 8,
                "activation_sparsity_pattern": [0.0, 0.0],
                "altup_num_inputs": 2,
            },
            "vision_config": {
                "hidden_size": 2048,
                "vocab_size": 8,
                "vocab_offset": VOCAB,
                "model_args": {"channel_multiplier": 0.1},
            },
            "audio_config": {
                "vocab_size": 8,
                "vocab_offset": VocabSize(8),
                "hidden_size": 32,
                "conf_num_attention_heads": 2,
                "conf_num_hidden_layers": 1,
                "sscp_conv_channel_size": [8, 8],
            },
            "vision_soft_tokens_per_image": 256,
            "boi_token_id": Mark("<start_of_image>"),
            "eoi_token_id": Mark("<end_of_image>"),
            "image_token_id": Mark("<image_soft_token>"),
            "boa_token_id": Mark("<start_of_audio>"),
            "eoa_token_id": Mark("<end_of_audio>"),
            "audio_token_id": Mark("<audio_soft_token>"),
        },
        marks={**GEMMA_MARKS, **GEMMA_SOUND},
        image={"size": {"height": 64, "width": 64}},
        # The number is a constant of the vision encoder.
        processor={"image_seq_length": 256},
        parts={"feature_extractor": "Gemma3nAudioFeatureExtractor"},
        needs=("timm",),
    ),
    _gemma4(
        "gemma4",
        {"text_config": _GEMMA4_TEXT, "vision_config": _GEMMA4_VISION},
        {"feature_extractor": "Gemma4AudioFeatureExtractor"},
    ),
    _gemma4(
        "gemma4_unified",
        {
            "text_config": {
                name: one for name, one in _GEMMA4_TEXT.items() if "per_layer" not in name
            },
            "vision_config": {"mm_embed_dim": 64, "mm_posemb_size": 256, "output_proj_dims": 64},
        },
        {"feature_extractor": "Gemma4UnifiedAudioFeatureExtractor"},
    ),
)

DEEPSEEK = Recipe(
    model_type="deepseek_vl",
    config={
        "text_config": {
            **TEXT,
            "model_type": "llama",
            "bos_token_id": Mark("<|begin_of_sentence|>"),
            "eos_token_id": Mark("<|end_of_sentence|>"),
            "pad_token_id": Mark("<|end_of_sentence|>"),
        },
        "vision_config": SIGLIP,
        "image_token_id": Mark("<image_placeholder>"),
    },
    marks={"image_token": "<image_placeholder>"},
    special=("<|begin_of_sentence|>", "<|end_of_sentence|>"),
    bos="<|begin_of_sentence|>",
    eos="<|end_of_sentence|>",
    pad="<|end_of_sentence|>",
    image={"size": TILES},
    processor={"num_image_tokens": 16},
)

FIXED_RECIPES = (*GEMMA, DEEPSEEK)
