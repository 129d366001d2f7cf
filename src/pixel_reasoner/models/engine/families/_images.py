"""Images through the processor of a model: text that replaces a placeholder, and inputs of the vision encoder."""

from __future__ import annotations

import inspect
import weakref
from collections import OrderedDict, abc
from dataclasses import dataclass
from typing import Any

import torch

from pixel_reasoner.models.engine.families.base import EncodedImage
from pixel_reasoner.models.engine.sequence import ImageInput

MAX_PREPARED_BYTES = 256 * 2**20
"""limit of the inputs of images that are preprocessed but not yet encoded"""
MAX_TILE_PIXELS = 8_000_000
"""maximum pixels of tiles in one pass of the vision encoder: small images may be enlarged"""
MAX_PREPARED_IMAGES = 4096
"""images whose replacement is remembered"""


@dataclass
class PreparedImage:
    """Image after the processor."""

    replacement: str
    """text that replaces the placeholder, with one visual token for each feature"""
    num_tokens: int
    """number of visual tokens"""
    inputs: dict[str, Any]
    """arguments of `get_image_features`; empty after they were dropped"""

    @property
    def num_bytes(self) -> int:
        """Memory of the inputs."""
        tensors = [one for one in self.inputs.values() if isinstance(one, torch.Tensor)]
        return sum(one.numel() * one.element_size() for one in tensors)


_prepared: weakref.WeakKeyDictionary[Any, OrderedDict[bytes, PreparedImage]] = (
    weakref.WeakKeyDictionary()
)


def prepare_image(processor: Any, image: ImageInput, *, with_inputs: bool = False) -> PreparedImage:
    """Return an image after the processor of a model. Recent results are kept.

    Args:
        processor: of the model.
        image: the image.
        with_inputs: whether the inputs of the vision encoder are needed.
    """
    known = _prepared.setdefault(processor, OrderedDict())
    found = known.get(image.digest)
    if found is None or (with_inputs and not found.inputs):
        found = known[image.digest] = _process(processor, image)
        _limit(known)
    known.move_to_end(image.digest)
    return found


def drop_inputs(processor: Any, images: abc.Iterable[ImageInput]) -> None:
    """Drop the inputs of encoded images, which may be large. Their replacements are kept."""
    known = _prepared.get(processor)
    for image in images:
        if known is not None and image.digest in known:
            known[image.digest].inputs = {}


def _limit(known: OrderedDict[bytes, PreparedImage]) -> None:
    num_bytes = sum(one.num_bytes for one in known.values())
    for one in known.values():
        if num_bytes <= MAX_PREPARED_BYTES:
            break
        num_bytes -= one.num_bytes
        one.inputs = {}
    while len(known) > MAX_PREPARED_IMAGES:
        known.popitem(last=False)


def _process(processor: Any, image: ImageInput) -> PreparedImage:
    # Nested lists are images of one prompt. Where their number matters, a copy takes the place of the others.
    count = 1 if image.is_single else 2
    out = processor(
        text=[processor.image_token * count],
        images=[[image.image] * count],
        return_tensors="pt",
        return_text_replacement_offsets=True,
        return_mm_token_type_ids=False,
    )
    replacement = out.pop("text_replacement_offsets")[0][0]["replacement"]
    visual = visual_token(processor)
    ids = processor.tokenizer(replacement, add_special_tokens=False)["input_ids"]
    names = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
    inputs = {name: one for name, one in out.items() if name not in names}
    return PreparedImage(replacement, ids.count(visual), inputs)


def visual_token(processor: Any) -> int:
    """Return the id of a visual token, which may differ from the placeholder in a chat template."""
    tokenizer = processor.tokenizer
    named = getattr(tokenizer, "image_token_id", None)
    return int(processor.image_token_ids[0] if named is None else named)


def encode_images(
    model: Any, processor: Any, images: abc.Sequence[ImageInput]
) -> list[EncodedImage]:
    """Encode images with `get_image_features` of a model. Images that are tiles of one size share a pass."""
    prepared = [prepare_image(processor, one, with_inputs=True) for one in images]
    if all(_is_tiles(one.inputs) for one in prepared):
        encoded = _encode_tiles(model, [one.inputs["pixel_values"] for one in prepared])
    else:
        # Features of a copy of the image may follow (`_process`).
        encoded = [_features(model, one.inputs)[: one.num_tokens] for one in prepared]
    drop_inputs(processor, images)
    return [EncodedImage(torch.zeros(3, dtype=torch.long), one, []) for one in encoded]


def _is_tiles(inputs: dict[str, Any]) -> bool:
    """Whether an image is (tiles, channels, height, width) pixels and nothing else."""
    return set(inputs) <= {"pixel_values", "num_patches"} and inputs["pixel_values"].dim() == 4


def _encode_tiles(model: Any, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return (visual tokens, hidden) features of images of (tiles, channels, height, width) pixels each."""
    tiles = torch.cat(images)
    size = max(1, MAX_TILE_PIXELS // (tiles.shape[2] * tiles.shape[3]))
    passes = [_features(model, {"pixel_values": some}) for some in tiles.split(size)]
    features = torch.cat(passes)
    num_tokens = len(features) // len(tiles)
    return list(features.split([len(one) * num_tokens for one in images]))


def _features(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Return (visual tokens, hidden) features of the images in the arguments of `get_image_features`."""
    return joined(get_image_features(model, inputs).pooler_output)


def get_image_features(model: Any, inputs: dict[str, Any]) -> Any:
    """Return the output of `get_image_features` of a model, which does not take all that its processor returns."""
    names = inspect.signature(model.model.get_image_features).parameters
    given = {name: _on_device(model, one) for name, one in inputs.items() if name in names}
    return model.model.get_image_features(**given)


def _on_device(model: Any, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)


def joined(features: Any) -> torch.Tensor:
    """Return (visual tokens, hidden) features from those of each image or tile."""
    parts = [features] if isinstance(features, torch.Tensor) else list(features)
    return torch.cat([one.reshape(-1, one.shape[-1]) for one in parts])
