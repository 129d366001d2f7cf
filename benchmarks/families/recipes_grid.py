"""Recipes of families with one visual token for each patch area of a picture of any size: Qwen, GLM, Kimi, Mistral and others."""

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


def _mrope(*section: int, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(section), **more}


def _qwen(model_type: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Recipe:
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


_QWEN3_TEXT = {"head_dim": 16, "rope_parameters": _mrope(4, 2, 2, mrope_interleaved=True)}
_QWEN3_VISION = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
_QWEN3_TAGS = CALL_TAGS + THINK_TAGS
QWEN = (
    _qwen(
        "qwen2_vl",
        {"rope_parameters": _mrope(2, 3, 3)},
        {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "patch_size": 14},
        template="qwen2_5_vl.jinja",
    ),
    _qwen(
        "qwen2_5_vl",
        {"rope_parameters": _mrope(2, 3, 3)},
        {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
        template="qwen2_5_vl.jinja",
    ),
    _qwen("qwen3_vl", _QWEN3_TEXT, _QWEN3_VISION, template="qwen3_vl.jinja", tags=_QWEN3_TAGS),
    _qwen(
        "qwen3_vl_moe",
        {**_QWEN3_TEXT, **EXPERTS, "decoder_sparse_step": 1},
        _QWEN3_VISION,
        template="qwen3_vl.jinja",
        like="qwen3_vl",
        tags=_QWEN3_TAGS,
    ),
    _qwen(
        "qwen3_5",
        HYBRID,
        {"num_position_embeddings": 64},
        template="qwen3_6.jinja",
        tags=_QWEN3_TAGS,
    ),
    _qwen(
        "qwen3_5_moe",
        {**HYBRID, **EXPERTS, "shared_expert_intermediate_size": 32},
        {"num_position_embeddings": 64},
        template="qwen3_6.jinja",
        tags=_QWEN3_TAGS,
    ),
    _qwen(
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
_GLM_TEXT = {"rope_parameters": _mrope(1, 1, 2, partial_rotary_factor=0.5)}
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

MISTRAL_SPECIAL = (
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[THINK]",
    "[/THINK]",
)
_MISTRAL_ENDS = {
    "bos_token_id": Mark("<s>"),
    "eos_token_id": Mark("</s>"),
    "pad_token_id": Mark("<pad>"),
}
_PIXTRAL = {**VISION, "model_type": "pixtral", "image_size": 280, "patch_size": 14, "head_dim": 16}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 1024,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
MISTRAL = (
    Recipe(
        model_type="mistral3",
        config={
            "text_config": {
                **TEXT,
                **_MISTRAL_ENDS,
                "model_type": "ministral3",
                "head_dim": 16,
                "rope_parameters": _YARN,
            },
            "vision_config": _PIXTRAL,
            "image_token_index": Mark("[IMG]"),
            "tie_word_embeddings": False,
        },
        special=MISTRAL_SPECIAL,
        bos="<s>",
        eos="</s>",
        pad="<pad>",
        image={"size": {"longest_edge": 280}, "patch_size": {"height": 14, "width": 14}},
        processor={"patch_size": 14, "spatial_merge_size": 2},
    ),
)

KIMI_SPECIAL = (
    "[BOS]",
    "[EOS]",
    "[PAD]",
    "<|im_end|>",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_system|>",
    "<|im_middle|>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|media_begin|>",
    "<|media_content|>",
    "<|media_end|>",
    "<|media_pad|>",
    "<|kimi_k25_video_placeholder|>",
)
KIMI = (
    Recipe(
        model_type="kimi_k25",
        config={
            "text_config": {
                **TEXT,
                "model_type": "deepseek_v3",
                "num_key_value_heads": 4,
                "kv_lora_rank": 16,
                "q_lora_rank": 16,
                "qk_nope_head_dim": 16,
                "qk_rope_head_dim": 8,
                "v_head_dim": 16,
                "n_routed_experts": 4,
                "n_shared_experts": 1,
                "num_experts_per_tok": 2,
                "n_group": 1,
                "topk_group": 1,
                "moe_intermediate_size": 32,
                "first_k_dense_replace": 1,
                "eos_token_id": Mark("<|im_end|>"),
                "pad_token_id": Mark("[PAD]"),
                "bos_token_id": Mark("[BOS]"),
            },
            "vision_config": {**VISION, "pos_emb_height": 16, "pos_emb_width": 16},
            "projection_hidden_size": 32,
            "image_token_id": Mark("<|media_pad|>"),
            "video_token_id": Mark("<|kimi_k25_video_placeholder|>"),
            "vision_start_token_id": Mark("<|media_begin|>"),
            "vision_end_token_id": Mark("<|media_end|>"),
            "tie_word_embeddings": False,
        },
        special=KIMI_SPECIAL,
        tags=THINK_TAGS,
        bos="[BOS]",
        eos="<|im_end|>",
        pad="[PAD]",
        image={"max_patches": 256},
        video={},
    ),
)

ERNIE_SPECIAL = (
    "<|begin_of_sentence|>",
    "<|end_of_sentence|>",
    "<unk>",
    "<|IMAGE_PLACEHOLDER|>",
    "<|IMAGE_START|>",
    "<|IMAGE_END|>",
    "<|VIDEO_START|>",
    "<|VIDEO_END|>",
    "<|VIDEO_PLACEHOLDER|>",
    "<|im_start|>",
    "<|im_end|>",
)
ERNIE = (
    Recipe(
        model_type="ernie4_5_vl_moe",
        config={
            "text_config": {
                **TEXT,
                "moe_num_experts": 4,
                "moe_k": 2,
                "moe_num_shared_experts": 1,
                "moe_intermediate_size": [32, 16],
                "mlp_layer_types": ["dense", "sparse"],
                "rope_parameters": _mrope(2, 2, 4),
                "eos_token_id": Mark("<|end_of_sentence|>"),
                "pad_token_id": Mark("<unk>"),
                "bos_token_id": Mark("<|begin_of_sentence|>"),
            },
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
            },
            "image_token_id": Mark("<|IMAGE_PLACEHOLDER|>"),
            "image_start_token_id": Mark("<|IMAGE_START|>"),
            "image_end_token_id": Mark("<|IMAGE_END|>"),
            "video_token_id": Mark("<|VIDEO_PLACEHOLDER|>"),
            "video_start_token_id": Mark("<|VIDEO_START|>"),
            "video_end_token_id": Mark("<|VIDEO_END|>"),
        },
        marks={
            "image_token": "<|IMAGE_PLACEHOLDER|>",
            "image_start_token": "<|IMAGE_START|>",
            "image_end_token": "<|IMAGE_END|>",
            "video_token": "<|VIDEO_PLACEHOLDER|>",
            "video_start_token": "<|VIDEO_START|>",
            "video_end_token": "<|VIDEO_END|>",
        },
        special=ERNIE_SPECIAL,
        tags=(*CALL_TAGS, *THINK_TAGS),
        bos="<|begin_of_sentence|>",
        eos="<|end_of_sentence|>",
        pad="<unk>",
        image={"size": SIZE},
        # The font that draws the time into frames is on the hub.
        video={"size": SIZE, "draw_on_frames": False},
    ),
)

LFM3 = (
    Recipe(
        model_type="lfm3_vl",
        config={
            "text_config": {
                **TEXT,
                **ENDS,
                "model_type": "lfm2",
                "layer_types": ["conv", "full_attention"],
            },
            "vision_config": {
                **VISION,
                "num_key_value_heads": 1,
                "layer_types": ["full_attention", "full_attention"],
            },
            "projector_hidden_size": 32,
            **QWEN_IDS,
        },
        special=(*QWEN_SPECIAL, "<|startoftext|>", "<|tool_call_start|>", "<|tool_call_end|>"),
        tags=THINK_TAGS,
        bos="<|startoftext|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image={"size": SIZE, "patch_size": 16},
        video={"size": SIZE, "patch_size": 16},
    ),
)

MINIMAX_SPECIAL = (
    "]!p~[",
    "[e~[",
    "]~b]",
    "]~!b[",
    "]<]image[>[",
    "]<]video[>[",
    "]<]start of image[>[",
    "]<]end of image[>[",
    "]<]start of video[>[",
    "]<]end of video[>[",
)
MUSE_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|eom|>",
    "<|eot|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|image|>",
    "<|image_start|>",
    "<|image_end|>",
    "<|patch|>",
    "<|video|>",
    "<|vid_frame_separator|>",
    "<|vid_start|>",
    "<|vid_end|>",
    "<|finetune_right_pad|>",
)
OTHERS = (
    Recipe(
        model_type="minimax_m3_vl",
        config={
            "text_config": {
                **TEXT,
                **EXPERTS,
                "num_local_experts": 4,
                "head_dim": 16,
                "rotary_dim": 8,
                "dense_intermediate_size": 64,
                "shared_intermediate_size": 32,
                "index_n_heads": 2,
                "index_head_dim": 16,
                "index_block_size": 16,
                "index_topk_blocks": 4,
                "bos_token_id": Mark("]~!b["),
                "eos_token_id": Mark("[e~["),
                "pad_token_id": Mark("]!p~["),
            },
            "vision_config": {**VISION, "hidden_size": 48, "image_size": 224, "patch_size": 14},
            "image_token_index": Mark("]<]image[>["),
            "video_token_index": Mark("]<]video[>["),
            "projector_hidden_size": 64,
        },
        special=MINIMAX_SPECIAL,
        tags=(*CALL_TAGS, *THINK_TAGS),
        bos="]~!b[",
        eos="[e~[",
        pad="]!p~[",
        image={"size": SIZE},
        video={"size": SIZE},
    ),
    Recipe(
        model_type="muse_glimmer",
        config={
            "text_config": {
                **TEXT,
                "head_dim": 16,
                "sliding_window": 64,
                "layer_types": ["sliding_attention", "full_attention"],
                "bos_token_id": Mark("<|begin_of_text|>"),
                "eos_token_id": Mark("<|eot|>"),
                "pad_token_id": Mark("<|finetune_right_pad|>"),
            },
            "vision_config": {
                **VISION,
                "pos_emb_height": 16,
                "pos_emb_width": 16,
                "layer_types": ["full_attention", "full_attention"],
            },
            "image_token_id": Mark("<|patch|>"),
            "video_token_id": Mark("<|video|>"),
            "out_hidden_size": 128,
            "projector_hidden_size": 32,
        },
        special=MUSE_SPECIAL,
        bos="<|begin_of_text|>",
        eos="<|eot|>",
        pad="<|finetune_right_pad|>",
        image={"max_image_tokens": 64},
        video={},
        template="muse_glimmer.jinja",
    ),
    _qwen(
        "exaone4_5",
        {
            "model_type": "exaone4",
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        {
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "num_key_value_heads": 1,
        },
        template="qwen2_5_vl.jinja",
    ),
    Recipe(
        model_type="video_llama_3",
        config={
            "text_config": {**TEXT, **ENDS, "model_type": "qwen2"},
            "vision_config": {**VISION, "patch_size": 14},
            "image_token_id": Mark("<|image_pad|>"),
            "video_token_id": Mark("<|video_pad|>"),
        },
        special=QWEN_SPECIAL,
        tags=CALL_TAGS,
        template="qwen2_5_vl.jinja",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image={"size": SIZE},
        video={"size": SIZE},
    ),
)

GRID_RECIPES = QWEN + GLM + MISTRAL + KIMI + ERNIE + LFM3 + OTHERS
