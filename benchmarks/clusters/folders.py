"""Model folders of Qwen2.5-VL and Qwen3-VL with random weights: the classes and templates of the real ones, tiny sizes.

    python -m clusters.folders qwen2_5_vl FOLDER

Configuration, processor, tokenizer and chat template have the classes of a real folder, and there is no `pixel_reasoner.json`, so
that dialect and pixel budgets are detected as they are for a model of the hub.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer, Qwen2VLImageProcessor

from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.patches import select_cpu_of_deepspeed
from pixel_reasoner.tiny.build import SPECIAL_TOKENS

CLASSES = {
    "qwen2_5_vl": ("Qwen2_5_VL", "Qwen2VLVideoProcessor", 14),
    "qwen3_vl": ("Qwen3VL", "Qwen3VLVideoProcessor", 16),
}
"""model type -> prefix of its classes, video processor, patch size"""
MAX_PIXELS = 96 * 96
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 32,
}


def build_folder(model_type: str, folder: Path, seed: int = 0) -> Path:
    """Write a model folder with random weights, and return it."""
    select_cpu_of_deepspeed()
    prefix, video, patch_size = CLASSES[model_type]
    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{prefix}ForConditionalGeneration")(
            _config(model_type, tokenizer)
        )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    size = {"shortest_edge": 32 * 32, "longest_edge": MAX_PIXELS}
    patches = {"patch_size": patch_size, "merge_size": 2, "temporal_patch_size": 2}
    template = Path(trl.__file__).parent / "chat_templates" / f"{model_type}.jinja"
    getattr(transformers, f"{prefix}Processor")(
        image_processor=Qwen2VLImageProcessor(size=size, **patches),
        video_processor=getattr(transformers, video)(size=size, **patches),
        tokenizer=tokenizer,
        chat_template=template.read_text(encoding="utf-8"),
    ).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    """Return a Qwen tokenizer with the byte pairs of the bundled model."""
    bundled = PreTrainedTokenizerFast.from_pretrained(BUNDLED_MODELS["tiny"])
    model = json.loads(bundled.backend_tokenizer.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        model_max_length=8192,
        extra_special_tokens=SPECIAL_TOKENS[1:],
    )
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    return tokenizer


def _config(model_type: str, tokenizer: Any) -> Any:
    prefix, _, patch_size = CLASSES[model_type]
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    ids = {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    text: dict[str, Any] = {**_TEXT, **ends, "vocab_size": len(tokenizer), "rope_parameters": rope}
    vision: dict[str, Any] = {**_VISION, "patch_size": patch_size}
    if model_type == "qwen2_5_vl":
        vision |= {"window_size": 4 * patch_size, "fullatt_block_indexes": [1]}
    else:
        text["head_dim"] = 8
        text["rope_parameters"] = {**rope, "mrope_interleaved": True}
        vision |= {"num_position_embeddings": 36, "deepstack_visual_indexes": [0]}
    config = getattr(transformers, f"{prefix}Config")
    return config(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=model_type == "qwen3_vl",
        **ids,
    )


if __name__ == "__main__":
    build_folder(sys.argv[1], Path(sys.argv[2]))
