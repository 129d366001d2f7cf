"""Recipes of Qwen and GLM: one visual token for each patch area of a picture of any size. Also sizes that all recipes share."""

from __future__ import annotations

from typing import Any

from families.recipe import MAX_TOKENS, VOCAB, Mark, Recipe

TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_TOKENS,
}
"""sizes of every language model"""
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
"""sizes of every vision encoder"""
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
}
SIZE = {"shortest_edge": 56 * 56, "longest_edge": 224 * 224}
"""pixels of a picture at the least and at the most"""
QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CALL_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
THINK_TAGS = ("<think>", "</think>")
QWEN_IDS = {
    "image_token_id": Mark("<|image_pad|>"),
    "video_token_id": Mark("<|video_pad|>"),
    "vision_start_token_id": Mark("<|vision_start|>"),
    "vision_end_token_id": Mark("<|vision_end|>"),
}
ENDS = {
    "bos_token_id": None,
    "eos_token_id": Mark("<|im_end|>"),
    "pad_token_id": Mark("<|endoftext|>"),
}
HYBRID = {
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e6,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
}
"""text model of Qwen3.5: three of four layers are linear attention in checkpoints, one of two here"""


def mrope(*section: int, **more: Any) -> dict[str, Any]:
    """Return rotary embeddings with sections for time, height and width."""
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(section), **more}


def qwen(model_type: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Recipe:
    """Return the recipe of a model type with the tokenizer and the processors of Qwen-VL."""
    patch = vision.get("patch_size", 16)
    grid = {"size": SIZE, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    tags = more.pop("tags", CALL_TAGS)
    return Recipe(
        model_type=model_type,
        config={
            "text_config": {**TEXT, **ENDS, **text},
            "vision_config": {**QWEN_VISION, "patch_size": patch, **vision},
            "tie_word_embeddings": False,
            **QWEN_IDS,
        },
        special=QWEN_SPECIAL,
        tags=tags,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        tokenizer="Qwen2Tokenizer",
        image=grid,
        video=grid,
        **more,
    )


_QWEN3_TEXT = {"head_dim": 16, "rope_parameters": mrope(4, 2, 2, mrope_interleaved=True)}
_QWEN3_VISION = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
_QWEN3_TAGS = CALL_TAGS + THINK_TAGS
QWEN = (
    qwen(
        "qwen2_vl",
        {"rope_parameters": mrope(2, 3, 3)},
        {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "patch_size": 14},
        template="qwen2_5_vl.jinja",
    ),
    qwen(
        "qwen2_5_vl",
        {"rope_parameters": mrope(2, 3, 3)},
        {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
        template="qwen2_5_vl.jinja",
    ),
    qwen("qwen3_vl", _QWEN3_TEXT, _QWEN3_VISION, template="qwen3_vl.jinja", tags=_QWEN3_TAGS),
    qwen(
        "qwen3_vl_moe",
        {**_QWEN3_TEXT, **EXPERTS, "decoder_sparse_step": 1},
        _QWEN3_VISION,
        template="qwen3_vl.jinja",
        like="qwen3_vl",
        tags=_QWEN3_TAGS,
    ),
    qwen(
        "qwen3_5",
        HYBRID,
        {"num_position_embeddings": 64},
        template="qwen3_6.jinja",
        tags=_QWEN3_TAGS,
    ),
    qwen(
        "qwen3_5_moe",
        {**HYBRID, **EXPERTS, "shared_expert_intermediate_size": 32},
        {"num_position_embeddings": 64},
        template="qwen3_6.jinja",
        tags=_QWEN3_TAGS,
    ),
    qwen(
        "qwen4_exp",
        {
            **HYBRID,
            **EXPERTS,
            "shared_expert_intermediate_size": 32,
            "hc_count": 2,
            "hc_lowrank": 16,
            "ngram_vocab_size_base": 1000,
            "split_ngram_parts": 2,
            "heads_per_ngram": 2,
            "indexer_n_heads": 4,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 4096,
            "indexer_compress_ratio": 4,
        },
        {"num_position_embeddings": 64},
        template="qwen3_8.jinja",
        tags=_QWEN3_TAGS,
    ),
)

GLM_SPECIAL = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
    "<|begin_of_box|>",
    "<|end_of_box|>",
)
GLM_TAGS = (
    *CALL_TAGS,
    *THINK_TAGS,
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "/nothink",
)
GLM_IDS = {
    "image_token_id": Mark("<|image|>"),
    "video_token_id": Mark("<|video|>"),
    "image_start_token_id": Mark("<|begin_of_image|>"),
    "image_end_token_id": Mark("<|end_of_image|>"),
    "video_start_token_id": Mark("<|begin_of_video|>"),
    "video_end_token_id": Mark("<|end_of_video|>"),
}
_GLM_ENDS = {
    "bos_token_id": None,
    "eos_token_id": Mark("<|user|>"),
    "pad_token_id": Mark("<|endoftext|>"),
}
_GLM_VISION = {**QWEN_VISION, "patch_size": 14, "image_size": 56}
_GLM_TEXT = {"rope_parameters": mrope(1, 1, 2, partial_rotary_factor=0.5)}
_GLM_EXPERTS = {
    **_GLM_TEXT,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "head_dim": 16,
    "n_group": 1,
    "topk_group": 1,
}


def _glm(model_type: str, text: dict[str, Any], **more: Any) -> Recipe:
    grid = {"size": SIZE, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    return Recipe(
        **{
            "model_type": model_type,
            "config": {
                "text_config": {**TEXT, **_GLM_ENDS, **text},
                "vision_config": _GLM_VISION,
                "tie_word_embeddings": False,
                **GLM_IDS,
            },
            "special": GLM_SPECIAL,
            "tags": GLM_TAGS,
            "eos": "<|user|>",
            "pad": "<|endoftext|>",
            "image": grid,
            "video": grid,
            **more,
        }
    )


GLM = (
    _glm("glm4v", _GLM_TEXT),
    _glm("glm4v_moe", _GLM_EXPERTS, like="glm4v", template="glm4v.jinja"),
    _glm("glm46v", {**_GLM_TEXT, "model_type": "glm4v_text"}, template="glm4v.jinja"),
    _glm(
        "glm5_next",
        {
            "num_key_value_heads": 4,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "index_head_dim": 16,
            "index_n_heads": 2,
            "index_topk": 16,
            "linear_head_dim": 16,
            "linear_num_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "mlp_layer_types": ["dense", "sparse"],
            "layer_types": ["linear_attention", "full_attention"],
        },
        image={
            "patch_size": 14,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "min_image_tokens": 4,
            "max_image_tokens": 64,
        },
    ),
)
