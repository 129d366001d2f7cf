"""Recipes of families that cut a picture into tiles of one size: InternVL, LLaVA, Idefics, LFM2, Molmo2 and others."""

from __future__ import annotations

from typing import Any

from families.recipe import VOCAB, Mark, Recipe, VocabSize
from families.recipes_grid import (
    CALL_TAGS,
    ENDS,
    HYBRID,
    QWEN_SPECIAL,
    QWEN_VISION,
    SIZE,
    TEXT,
    THINK_TAGS,
    VISION,
)

SIGLIP = {
    **VISION,
    "model_type": "siglip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "vision_use_head": False,
}
QWEN_TEXT = {**TEXT, **ENDS, "model_type": "qwen2"}
TILES = {"height": 56, "width": 56}
SQUARE = {"size": TILES, "max_patches": 4}
PINPOINTS = [[56, 112], [112, 56], [112, 112]]
ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
LFM_ROWS = tuple(
    f"<|img_row_{row}_col_{column}|>" for row in range(1, 11) for column in range(1, 11)
)

INTERNVL_MARKS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
INTERNVL = Recipe(
    model_type="internvl",
    config={
        "text_config": QWEN_TEXT,
        "vision_config": {**VISION, "image_size": [56, 56], "patch_size": [14, 14]},
        "image_token_id": Mark("<IMG_CONTEXT>"),
        "image_seq_length": 4,
    },
    marks=INTERNVL_MARKS,
    special=QWEN_SPECIAL[:3],
    tags=CALL_TAGS,
    eos="<|im_end|>",
    pad="<|endoftext|>",
    tokenizer="Qwen2Tokenizer",
    image={"size": TILES, "crop_to_patches": True, "max_patches": 4},
    video={"size": TILES},
    processor={"image_seq_length": 4},
)

LLAVA_MARKS = {"image_token": "<image>", "video_token": "<video>"}


def _llava(model_type: str, vision: dict[str, Any], **more: Any) -> Recipe:
    config = {
        "text_config": more.pop("text", QWEN_TEXT),
        "vision_config": vision,
        "image_token_index": Mark("<image>"),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        **more.pop("config", {}),
    }
    return Recipe(
        **{
            "model_type": model_type,
            "config": config,
            "marks": LLAVA_MARKS,
            "special": QWEN_SPECIAL[:3],
            "tags": CALL_TAGS,
            "eos": "<|im_end|>",
            "pad": "<|endoftext|>",
            "tokenizer": "Qwen2Tokenizer",
            **more,
        }
    )


_CLIP = {
    **VISION,
    "model_type": "clip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "projection_dim": 32,
}
_CROP = {"shortest_edge": 56}
LLAVA = (
    _llava(
        "llava",
        _CLIP,
        template="llava_next.jinja",
        config={"vision_feature_select_strategy": "default", "image_seq_length": 16},
        image={"size": _CROP, "crop_size": TILES},
        processor={
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    ),
    _llava(
        "llava_next",
        _CLIP,
        config={
            "vision_feature_select_strategy": "default",
            "image_grid_pinpoints": PINPOINTS,
            "image_seq_length": 16,
        },
        image={"size": _CROP, "crop_size": TILES, "image_grid_pinpoints": PINPOINTS},
        processor={
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        template="llava_next.jinja",
    ),
    _llava(
        "llava_onevision",
        SIGLIP,
        config={"video_token_index": Mark("<video>"), "image_grid_pinpoints": PINPOINTS},
        image={"size": TILES, "image_grid_pinpoints": PINPOINTS},
        video={"size": TILES},
        processor={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    ),
    _llava(
        "granite4_vision",
        {**SIGLIP, "hidden_size": 128},
        text={
            **TEXT,
            "hidden_size": 256,
            "logits_scaling": 2.0,
            "bos_token_id": None,
            "eos_token_id": Mark("<|end_of_text|>"),
            "pad_token_id": Mark("<|end_of_text|>"),
        },
        config={
            "vision_feature_layer": -1,
            "image_grid_pinpoints": PINPOINTS,
            "image_seq_length": 16,
            "downsample_rate": "2/4",
            "deepstack_layer_map": [[-1, 0]],
            "spatial_vision_layer": -1,
            "spatial_target_layers": [1],
            "qformer_config": {
                "hidden_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "encoder_hidden_size": 128,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            "projector_dropout": 0.0,
        },
        marks={"image_token": "<image>"},
        special=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>"),
        eos="<|end_of_text|>",
        pad="<|end_of_text|>",
        tokenizer="PreTrainedTokenizerFast",
        image={
            "size": {"height": 56, "width": 56},
            "crop_size": TILES,
            "image_grid_pinpoints": PINPOINTS,
        },
        processor={
            "patch_size": 14,
            "vision_feature_select_strategy": "full",
            "downsample_rate": "2/4",
        },
    ),
)


def _idefics(model_type: str, **more: Any) -> Recipe:
    ends = {
        "bos_token_id": Mark("<|im_start|>"),
        "eos_token_id": Mark("<end_of_utterance>"),
        "pad_token_id": Mark("<|im_end|>"),
    }
    return Recipe(
        model_type=model_type,
        config={
            "text_config": {**TEXT, **ends, "model_type": "llama"},
            "vision_config": {**VISION, "image_size": 56, "patch_size": 14},
            "image_token_id": Mark("<image>"),
            "pad_token_id": Mark("<|im_end|>"),
            "scale_factor": 2,
        },
        special=(
            "<|im_start|>",
            "<|im_end|>",
            "<fake_token_around_image>",
            "<image>",
            "<end_of_utterance>",
            "<global-img>",
            *ROWS,
        ),
        bos="<|im_start|>",
        eos="<end_of_utterance>",
        pad="<|im_end|>",
        image={"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}},
        processor={"image_seq_len": 4},
        template=f"{model_type}.jinja",
        **more,
    )


IDEFICS = (
    _idefics("idefics3"),
    _idefics(
        "smolvlm",
        video={"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 56}},
        needs=("num2words",),
    ),
)

MINICPM_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}
LFM2 = Recipe(
    model_type="lfm2_vl",
    config={
        "text_config": {
            **TEXT,
            **ENDS,
            "model_type": "lfm2",
            "layer_types": ["conv", "full_attention"],
        },
        "vision_config": {
            **VISION,
            "model_type": "siglip2_vision_model",
            "patch_size": 16,
            "num_patches": 64,
            "vision_use_head": False,
        },
        "image_token_id": Mark("<image>"),
        "projector_hidden_size": 32,
    },
    marks={
        "image_token": "<image>",
        "image_start_token": "<|image_start|>",
        "image_end_token": "<|image_end|>",
        "image_thumbnail_token": "<|img_thumbnail|>",
    },
    special=(
        "<|pad|>",
        "<|startoftext|>",
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|tool_call_start|>",
        "<|tool_call_end|>",
        *LFM_ROWS,
    ),
    tags=THINK_TAGS,
    bos="<|startoftext|>",
    eos="<|im_end|>",
    pad="<|endoftext|>",
    image={
        "tile_size": 64,
        "max_image_tokens": 16,
        "min_image_tokens": 4,
        "encoder_patch_size": 16,
        "max_tiles": 4,
    },
    template="lfm2_2_5_vl.jinja",
)


def _minicpm(model_type: str, **more: Any) -> Recipe:
    tiles = {"scale_resolution": 112, "max_slice_nums": 4}
    return Recipe(
        model_type=model_type,
        config={
            "text_config": {**TEXT, **ENDS, **HYBRID, "model_type": "qwen3_5_text"},
            "vision_config": {**VISION, "image_size": 112, "patch_size": 14, "insert_layer_id": 0},
            "insert_layer_id": 0,
            "image_size": 112,
            "image_token_id": Mark("<|image_pad|>"),
            "video_token_id": Mark("<|video_pad|>"),
        },
        marks=MINICPM_MARKS,
        special=QWEN_SPECIAL[:3],
        tags=CALL_TAGS + THINK_TAGS,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image=tiles,
        video=tiles,
        **more,
    )


MOLMO_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|image|>",
    "<|video|>",
    "<im_patch>",
    "<im_col>",
    "<im_start>",
    "<im_end>",
    "<low_res_im_start>",
    "<frame_start>",
    "<frame_end>",
    "<im_low>",
)
_MOLMO_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
MOLMO = Recipe(
    model_type="molmo2",
    config={
        "text_config": {
            **TEXT,
            "head_dim": 16,
            "vocab_size": VocabSize(),
            "additional_vocab_size": 8,
            **ENDS,
        },
        "vision_config": {
            **VISION,
            **_MOLMO_HEADS,
            "num_hidden_layers": 4,
            "image_size": [56, 56],
            "patch_size": 14,
            "num_position_embeddings": 16,
            "initializer_range": 0.2,
        },
        "adapter_config": {
            **_MOLMO_HEADS,
            "vision_feature_layer": [-1, -2],
            "hidden_size": 32,
            "intermediate_size": 64,
            "text_hidden_size": 64,
            # With the default the features of pictures round to zero.
            "initializer_range": 0.2,
        },
        "image_start_token_id": Mark("<im_start>"),
        "low_res_image_start_token_id": Mark("<low_res_im_start>"),
        "image_end_token_id": Mark("<im_end>"),
        "image_patch_id": Mark("<im_patch>"),
        "image_col_id": Mark("<im_col>"),
        "frame_start_token_id": Mark("<frame_start>"),
        "frame_end_token_id": Mark("<frame_end>"),
    },
    special=MOLMO_SPECIAL,
    bos="<|im_end|>",
    eos="<|im_end|>",
    pad="<|endoftext|>",
    tokenizer="Qwen2Tokenizer",
    image={"size": TILES, "max_crops": 4, "overlap_margins": [1, 1]},
    video={"size": TILES},
)

COHERE_SPECIAL = (
    "<PAD>",
    "<BOS_TOKEN>",
    "<EOS_TOKEN>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
    "<|START_OF_IMG|>",
    "<|END_OF_IMG|>",
    "<|IMG_PATCH|>",
    "<|IMG_LINE_BREAK|>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_TOOL_RESULT|>",
    "<|END_TOOL_RESULT|>",
    "<image>",
    "<|IMAGE_PAD|>",
    "<|VIDEO_PAD|>",
)
_COHERE_ENDS = {
    "bos_token_id": Mark("<BOS_TOKEN>"),
    "eos_token_id": Mark("<|END_OF_TURN_TOKEN|>"),
    "pad_token_id": Mark("<PAD>"),
}
_COHERE_TEXT = {
    **TEXT,
    **_COHERE_ENDS,
    "model_type": "cohere2",
    "sliding_window": 32,
    "layer_types": ["sliding_attention", "full_attention"],
}


def _cohere(model_type: str, config: dict[str, Any], **more: Any) -> Recipe:
    return Recipe(
        model_type=model_type,
        config={"text_config": _COHERE_TEXT, **config},
        special=COHERE_SPECIAL,
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        pad="<PAD>",
        **more,
    )


COMPASS_ROPE = {
    "rope_type": "default",
    "rope_theta": 1e4,
    "mrope_section": [4, 2, 2],
    "mrope_interleaved": True,
}
COHERE = (
    _cohere(
        "aya_vision",
        {
            "vision_config": SIGLIP,
            "downsample_factor": 2,
            "image_token_index": Mark("<|IMG_PATCH|>"),
            "vision_feature_layer": -1,
        },
        image={"size": TILES, "crop_to_patches": True, "max_patches": 4},
        processor={"patch_size": 14, "img_size": 56, "downsample_factor": 2},
    ),
    _cohere(
        "cohere2_vision",
        {
            "vision_config": SIGLIP,
            "downsample_factor": 2,
            "image_token_id": Mark("<|IMG_PATCH|>"),
            "alignment_intermediate_size": 64,
        },
        marks={
            "image_token": "<|IMG_PATCH|>",
            "boi_token": "<|START_OF_IMG|>",
            "eoi_token": "<|END_OF_IMG|>",
            "img_line_break_token": "<|IMG_LINE_BREAK|>",
        },
        image={"size": TILES, "max_patches": 4, "patch_size": 2},
    ),
    Recipe(
        model_type="cohere_compass",
        config={
            "text_config": {
                **{key: one for key, one in _COHERE_TEXT.items() if key != "model_type"},
                "rope_parameters": {
                    "sliding_attention": COMPASS_ROPE,
                    "full_attention": COMPASS_ROPE,
                },
            },
            "vision_config": {
                **QWEN_VISION,
                "patch_size": 16,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0],
            },
            "image_token_id": Mark("<|IMAGE_PAD|>"),
            "video_token_id": Mark("<|VIDEO_PAD|>"),
            "vision_start_token_id": Mark("<|START_OF_IMG|>"),
            "vision_end_token_id": Mark("<|END_OF_IMG|>"),
        },
        special=COHERE_SPECIAL,
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        pad="<PAD>",
        image={"size": SIZE, "patch_size": 16, "temporal_patch_size": 2},
        video={"size": SIZE, "patch_size": 16},
    ),
)

LLAMA_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|eom|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|python_tag|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|image|>",
    "<|image_start|>",
    "<|image_end|>",
    "<|patch|>",
    "<|tile_x_separator|>",
    "<|tile_y_separator|>",
    "<|finetune_right_pad|>",
)
_LLAMA_ENDS = {
    "bos_token_id": Mark("<|begin_of_text|>"),
    "eos_token_id": Mark("<|eot|>"),
    "pad_token_id": Mark("<|finetune_right_pad|>"),
}
LLAMA = (
    Recipe(
        model_type="llama4",
        config={
            "text_config": {
                **TEXT,
                **_LLAMA_ENDS,
                "head_dim": 16,
                "num_hidden_layers": 4,
                "intermediate_size_mlp": 128,
                "num_local_experts": 2,
                "attention_chunk_size": 64,
                "interleave_moe_layer_step": 2,
            },
            "vision_config": {
                **VISION,
                "image_size": 56,
                "patch_size": 14,
                "intermediate_size": 128,
                "vision_output_dim": 64,
                "projector_input_dim": 64,
                "projector_output_dim": 64,
            },
            "boi_token_index": Mark("<|image_start|>"),
            "eoi_token_index": Mark("<|image_end|>"),
            "image_token_index": Mark("<|patch|>"),
        },
        special=LLAMA_SPECIAL,
        bos="<|begin_of_text|>",
        eos="<|eot|>",
        pad="<|finetune_right_pad|>",
        image=SQUARE,
        processor={"patch_size": 14, "pixel_shuffle_ratio": 0.5},
        dtype="bfloat16",
    ),
)

PHI = Recipe(
    model_type="phi4_multimodal",
    config={
        **TEXT,
        "bos_token_id": Mark("<|endoftext|>"),
        "eos_token_id": Mark("<|end|>"),
        "pad_token_id": Mark("<|endoftext|>"),
        # The sizes of pictures are constants of the model.
        "vision_config": {
            **VISION,
            "image_size": 448,
            "crop_size": 448,
            "image_token_id": Mark("<|image|>"),
        },
        "audio_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 32,
            "audio_token_id": Mark("<|endoftext11|>"),
        },
    },
    marks={"image_token": "<|image|>", "audio_token": "<|endoftext11|>"},
    special=(
        "<|endoftext|>",
        "<|end|>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|tool|>",
        "<|/tool|>",
        "<|tool_call|>",
        "<|/tool_call|>",
        "<|tool_response|>",
    ),
    bos="<|endoftext|>",
    eos="<|end|>",
    pad="<|endoftext|>",
    image={"dynamic_hd": 4},
    parts={"audio_processor": "Phi4MultimodalFeatureExtractor"},
)

STEP = Recipe(
    model_type="step3p7",
    config={
        "text_config": {
            **TEXT,
            "head_dim": 16,
            "num_local_experts": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "share_expert_dim": 32,
            "layer_types": ["full_attention", "sliding_attention"],
            "sliding_window": 64,
            "num_sliding_attention_heads": 4,
            "mlp_layer_types": ["dense", "sparse"],
            **ENDS,
        },
        "vision_config": {**VISION, "image_size": 728, "mlp_ratio": 2.0},
        "image_token_id": Mark("<im_patch>"),
    },
    special=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<im_patch>",
        "<im_start>",
        "<im_end>",
        "<patch_start>",
        "<patch_end>",
        "<patch_newline>",
    ),
    tags=CALL_TAGS + THINK_TAGS,
    eos="<|im_end|>",
    pad="<|endoftext|>",
)

OVIS_MARKS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
OVIS = Recipe(
    model_type="ovis2",
    config={
        "text_config": QWEN_TEXT,
        "vision_config": {
            **VISION,
            "image_size": 56,
            "patch_size": 14,
            "vocab_size": 64,
            "hidden_stride": 2,
        },
        "image_token_id": Mark("<IMG_ATOM>"),
        "visual_indicator_token_ids": [Mark(one) for one in OVIS_MARKS],
        "hidden_size": 64,
        "vocab_size": VOCAB,
    },
    special=(*QWEN_SPECIAL[:3], "<image>", "<IMG_ATOM>", *OVIS_MARKS),
    tags=CALL_TAGS,
    template="llava_onevision.jinja",
    eos="<|im_end|>",
    pad="<|endoftext|>",
    tokenizer="Qwen2Tokenizer",
    image={"size": TILES},
    processor={"image_seq_length": 4},
)

NEMOTRON = Recipe(
    model_type="nemotron_h_omni",
    config={
        "text_config": {
            **TEXT,
            **ENDS,
            "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "moe", "full_attention"],
            "head_dim": 16,
            "ssm_state_size": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 1,
            "chunk_size": 32,
            "n_routed_experts": 4,
            "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 32,
        },
        "vision_config": {
            **VISION,
            "patch_size": 16,
            "video_temporal_patch_size": 2,
            "max_img_size": 512,
        },
        "image_token_id": Mark("<image>"),
        "video_token_id": Mark("<video>"),
        "audio_token_id": Mark("<so_embedding>"),
        "projector_hidden_size": 32,
        "vision_hidden_size": 32,
    },
    special=(
        *QWEN_SPECIAL[:3],
        "<image>",
        "<video>",
        "<so_embedding>",
        "<so_start>",
        "<so_end>",
        "<img>",
        "</img>",
    ),
    tags=CALL_TAGS + THINK_TAGS,
    eos="<|im_end|>",
    pad="<|endoftext|>",
    image={"min_num_patches": 4, "max_num_patches": 64},
    video={},
    parts={"feature_extractor": "ParakeetFeatureExtractor"},
)

PERCEPTION = Recipe(
    model_type="perception_lm",
    config={
        "text_config": {
            **TEXT,
            **_LLAMA_ENDS,
            "model_type": "llama",
            "eos_token_id": Mark("<|eot_id|>"),
        },
        "vision_config": {
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "do_pooling": False,
            "model_args": {
                "embed_dim": 32,
                "depth": 2,
                "num_heads": 2,
                "img_size": [56, 56],
                "global_pool": "",
                "use_post_transformer_norm": False,
                "init_values": 0.1,
                "ref_feat_shape": [4, 4],
                "class_token": True,
            },
        },
        "image_token_id": Mark("<|image|>"),
        "video_token_id": Mark("<|video|>"),
        "projector_pooling_ratio": 2,
    },
    marks={"image_token": "<|image|>", "video_token": "<|video|>"},
    special=LLAMA_SPECIAL,
    template="llama4.jinja",
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    pad="<|finetune_right_pad|>",
    image={"tile_size": 56, "max_num_tiles": 4},
    video={"size": TILES},
    processor={"patch_size": 14, "pooling_ratio": 2},
    needs=("timm",),
)

TILE_RECIPES = (
    INTERNVL,
    *LLAVA,
    *IDEFICS,
    LFM2,
    _minicpm("minicpmv4_6"),
    _minicpm("minicpmv4_7", template="minicpmv4_6.jinja"),
    MOLMO,
    *COHERE,
    *LLAMA,
    PHI,
    STEP,
    OVIS,
    NEMOTRON,
    PERCEPTION,
)
