"""Recipe of a model folder with random weights: the classes of a real folder, tiny sizes.

A recipe is data. `build_folder` creates the tokenizer, the processor and the model that it describes, with the processor classes that
transformers itself registers for the model type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForMultimodalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.models.llama4 import processing_llama4

from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.patches import select_cpu_of_deepspeed

TEMPLATES = Path(__file__).parents[2] / "tests" / "templates"
"""stand-ins of chat templates that no package contains"""
TRL_TEMPLATES = Path(trl.__file__).parent / "chat_templates"
LLAMA4 = "llama4.jinja"
"""name of the template in the source of transformers"""
MAX_TOKENS = 16384
"""context of all models"""


class Mark(str):
    """Special token of a family. In a config it stands for the id of the token."""


class VocabSize:
    """Stands for the number of tokens, plus an extra number, in a config."""

    def __init__(self, extra: int = 0) -> None:
        self.extra = extra


VOCAB = VocabSize()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Description of a tiny model folder of one model type."""

    model_type: str
    config: Mapping[str, Any]
    """arguments of the config class; a `Mark` becomes the id of its token, a `VocabSize` the number of tokens"""
    marks: Mapping[str, str] = field(default_factory=dict)
    """attribute of the tokenizer -> special token, for tokens that a processor looks up by name"""
    special: tuple[str, ...] = ()
    """further special tokens"""
    tags: tuple[str, ...] = ()
    """tokens of the vocabulary that are no special tokens, such as the tags of calls in Qwen folders"""
    bos: str | None = None
    eos: str
    """token that ends a turn"""
    pad: str
    tokenizer: str = "PreTrainedTokenizerFast"
    """class of the tokenizer"""
    image: Mapping[str, Any] = field(default_factory=dict)
    """arguments of the image processor"""
    video: Mapping[str, Any] | None = None
    """arguments of the video processor; None for a family without one"""
    processor: Mapping[str, Any] = field(default_factory=dict)
    """further arguments of the processor"""
    parts: Mapping[str, str] = field(default_factory=dict)
    """argument of the processor -> class of a part that pictures do not need, such as a feature extractor of sound"""
    template: str = ""
    """file in `tests/templates` or in TRL's package; by default the one with the name of the model type"""
    dtype: str = "float32"
    like: str = ""
    """model type with the same processors, for a type without registered ones"""
    needs: tuple[str, ...] = ()
    """packages that the processor or the model imports"""


def build_folder(recipe: Recipe, folder: Path, seed: int = 0) -> Path:
    """Write a model folder with random weights, and return it."""
    select_cpu_of_deepspeed()
    processor = build_processor(recipe)
    model = build_model(recipe, processor.tokenizer, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_processor(recipe: Recipe) -> Any:
    """Return the processor of a recipe, with its tokenizer and its chat template."""
    parts: dict[str, Any] = {
        "image_processor": build_image_processor(recipe),
        "tokenizer": tokenizer_of(recipe),
    }
    if recipe.video is not None:
        parts["video_processor"] = _registered(VIDEO_PROCESSOR_MAPPING_NAMES, recipe)(
            **recipe.video
        )
    for name, kind in recipe.parts.items():
        parts[name] = getattr(transformers, kind)()
    kind = _registered(PROCESSOR_MAPPING_NAMES, recipe)
    processor = kind(**parts, **recipe.processor)
    processor.chat_template = template_of(recipe)
    return processor


def build_image_processor(recipe: Recipe) -> Any:
    """Return the image processor of a recipe."""
    return _registered(IMAGE_PROCESSOR_MAPPING_NAMES, recipe)(**recipe.image)


def build_model(recipe: Recipe, tokenizer: Any, seed: int = 0) -> Any:
    """Return the model of a recipe with random weights."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.get_vocab()}
    options = _resolved(recipe.config, ids)
    config = AutoConfig.for_model(recipe.model_type, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForMultimodalLM.from_config(config, dtype=getattr(torch, recipe.dtype))
        for weight in model.parameters():
            if (
                weight.dim() > 1 and not weight.any()
            ):  # the projector of Gemma 3: pictures would have no effect
                torch.nn.init.normal_(weight, std=0.02)
    generation = model.generation_config
    generation.eos_token_id = tokenizer.eos_token_id
    generation.pad_token_id = tokenizer.pad_token_id
    generation.bos_token_id = tokenizer.bos_token_id
    return model.eval()


def template_of(recipe: Recipe) -> str | None:
    """Return the chat template of a recipe: that of TRL's package, or the stand-in in `tests/templates`."""
    name = recipe.template or f"{recipe.model_type}.jinja"
    own = TEMPLATES / name
    path = own if own.exists() else TRL_TEMPLATES / name
    if path.exists():
        return path.read_text(encoding="utf-8")
    return processing_llama4.chat_template if name == LLAMA4 else None


def tokenizer_of(recipe: Recipe) -> Any:
    """Return a tokenizer of the class of the family, with the byte pairs of the bundled model."""
    vocab, merges = _byte_pairs()
    ends: dict[str, Any] = {
        "bos_token": recipe.bos,
        "eos_token": recipe.eos,
        "pad_token": recipe.pad,
    }
    options = {"model_max_length": MAX_TOKENS, "extra_special_tokens": dict(recipe.marks)}
    if recipe.tokenizer == "GemmaTokenizer":
        tokenizer = transformers.GemmaTokenizer(**_gemma_pairs(recipe), **ends, **options)
    elif recipe.tokenizer == "PreTrainedTokenizerFast":
        backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **ends, **options)
    else:
        kind = getattr(transformers, recipe.tokenizer)
        tokenizer = kind(
            vocab=dict(vocab), merges=list(merges), unk_token=recipe.pad, **ends, **options
        )
    known = {*recipe.marks.values(), recipe.eos, recipe.pad, recipe.bos}
    tokenizer.add_tokens(
        [
            AddedToken(one, special=True, normalized=False)
            for one in recipe.special
            if one not in known
        ]
    )
    tokenizer.add_tokens([AddedToken(one, special=False, normalized=False) for one in recipe.tags])
    return tokenizer


@cache
def _byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    bundled = PreTrainedTokenizerFast.from_pretrained(BUNDLED_MODELS["tiny"])
    model = json.loads(bundled.backend_tokenizer.to_str())["model"]
    return model["vocab"], [(first, second) for first, second in model["merges"]]


def _gemma_pairs(recipe: Recipe) -> dict[str, Any]:
    """Return vocabulary and merges in the spelling of Gemma: characters, a sign for the space, and bytes for other characters."""
    known, merges = _byte_pairs()
    words = [recipe.pad, recipe.eos, recipe.bos, "<unk>", "<mask>"]
    words += [f"<0x{byte:02X}>" for byte in range(256)]
    spelled = {token: token.replace("Ġ", "▁").replace("Ċ", "\n") for token in known}
    spelled = {
        token: one
        for token, one in spelled.items()
        if (one.isascii() or "▁" in one) and one.replace("▁", "").isascii()
    }
    words += list(spelled.values())
    pairs = [
        (spelled[first], spelled[second])
        for first, second in merges
        if first in spelled and second in spelled and first + second in spelled
    ]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return {"vocab": vocab, "merges": pairs}


def _registered(mapping: Mapping[str, Any], recipe: Recipe) -> Any:
    """Return the class that transformers registers for a model type, or for the type that shares its processors."""
    kind = mapping.get(recipe.model_type) or mapping[recipe.like]
    return getattr(
        transformers, kind if isinstance(kind, str) else kind.get("torchvision") or kind["pil"]
    )


def _resolved(value: Any, ids: Mapping[str, int]) -> Any:
    if isinstance(value, VocabSize):
        return max(ids.values()) + 1 + value.extra
    if isinstance(value, Mark):
        return ids[value]
    if isinstance(value, Mapping):
        return {name: _resolved(one, ids) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(one, ids) for one in value]
    return value
