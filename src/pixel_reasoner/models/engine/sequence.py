"""Sequence: token ids, images, sampling parameters and state of one request to the engine."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import torch

from pixel_reasoner.models.engine.recurrent_state import StateTensors
from pixel_reasoner.schema.settings import SamplingParams

_digests: dict[int, tuple[weakref.ref[Any], bytes]] = {}
"""`id()` of each live image object -> its digest"""


def image_digest(image: Any) -> bytes:
    """Return a 128-bit digest of mode, size and pixels of a PIL image.

    The digest is computed once per image object, so an image must not be modified in place afterwards.
    """
    known = _digests.get(id(image))
    if known is not None and known[0]() is image:
        return known[1]
    # Processors have instructions for SHA-256, which makes it twice as fast as BLAKE2.
    hashed = hashlib.sha256(f"{image.mode}:{image.size}:".encode())
    hashed.update(image.tobytes())
    digest, key = hashed.digest()[:16], id(image)
    _digests[key] = (weakref.ref(image, lambda _: _digests.pop(key, None)), digest)
    return digest


class ImageInput(NamedTuple):
    """Preprocessed image and its content digest."""

    digest: bytes
    image: Any
    """PIL image"""
    is_single: bool = True
    """whether the prompt has no other image; some families encode several images in fewer tokens each"""

    @classmethod
    def of(cls, image: Any) -> ImageInput:
        """Return the input of a PIL image.

        >>> from PIL import Image
        >>> red, blue = (Image.new("RGB", (8, 8), name) for name in ("red", "blue"))
        >>> ImageInput.of(red).digest == ImageInput.of(red.copy()).digest
        True
        >>> ImageInput.of(red).digest == ImageInput.of(blue).digest
        False
        """
        return cls(image_digest(image), image)


class SequenceState(Enum):
    """State of a sequence in the engine."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class Sequence:
    """Prompt and generated tokens of one request."""

    ids: list[int]
    """prompt ids, followed by generated ids"""
    images: tuple[ImageInput, ...]
    """images in the order of their placeholders"""
    max_new_tokens: int
    id: Any = None
    """request id set by the caller, for `Engine.cancel`"""
    sampling: SamplingParams | None = None
    """sampling parameters for the default sampler; None for greedy decoding"""
    generator: torch.Generator | None = None
    """random generator of this sequence, set by the sampler"""
    logprobs: list[float] = field(default_factory=list)
    """log-probability of each generated id"""
    state: SequenceState = field(init=False, default=SequenceState.WAITING)
    num_prompt_tokens: int = field(init=False)
    num_cached: int = field(init=False, default=0)
    """number of ids in the KV cache"""
    num_reused: int = field(init=False, default=0)
    """number of prompt ids whose keys and values were in the cache before the prefill"""
    position_offset: int = field(init=False, default=0)
    """position of a generated token minus its index; not zero because an image has fewer positions than tokens"""
    grids: list[torch.Tensor] = field(init=False, default_factory=list)
    """(3,) patches in time, height and width of each cached image"""
    image_lengths: list[int] | None = field(init=False, default=None)
    """number of visual tokens of each image; None if each image is one run of placeholders"""
    is_described: bool = field(init=False, default=False)
    """whether the engine has set the digests and lengths of the images"""
    snapshots: dict[int, StateTensors] = field(init=False, default_factory=dict)
    """number of tokens -> layer states after them; only in models with linear-attention or convolution layers"""
    slot: int = field(init=False, default=-1)
    """index in the batch of running sequences; -1 for none"""

    def __post_init__(self) -> None:
        self.num_prompt_tokens = len(self.ids)

    @property
    def num_uncached(self) -> int:
        """Number of ids to prefill."""
        return len(self.ids) - self.num_cached

    @property
    def new_ids(self) -> list[int]:
        """The generated ids."""
        return self.ids[self.num_prompt_tokens :]

    def starts_with(self, other: Sequence, num_tokens: int, num_images: int) -> bool:
        """Return whether the first ids and images of both sequences are equal."""
        return (
            len(self.ids) >= num_tokens
            # One comparison rejects most candidates without copying two lists.
            and self.ids[num_tokens - 1] == other.ids[num_tokens - 1]
            and self.ids[:num_tokens] == other.ids[:num_tokens]
            and [one.digest for one in self.images[:num_images]]
            == [one.digest for one in other.images[:num_images]]
        )
