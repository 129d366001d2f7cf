"""One request to the engine: its token ids, images and sampling parameters, and how far it is."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import torch

from pixel_reasoner.schema.settings import SamplingParams

_digests: dict[int, tuple[weakref.ref[Any], bytes]] = {}
"""digest of each image object that is alive, by its `id()`"""


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
    """Image as the model receives it, and its content digest."""

    digest: bytes
    image: Any
    """PIL image"""

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
    """Where a sequence is in the engine."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class Sequence:
    """A prompt and the tokens generated after it."""

    ids: list[int]
    """the prompt, followed by generated ids"""
    images: tuple[ImageInput, ...]
    """in the order of their placeholders"""
    max_new_tokens: int
    id: Any = None
    """chosen by the caller; `Engine.cancel` accepts it"""
    sampling: SamplingParams | None = None
    """for the engine's own sampler; None is greedy"""
    generator: torch.Generator | None = None
    """random state of this sequence, set by the sampler"""
    logprobs: list[float] = field(default_factory=list)
    """of each generated id"""
    state: SequenceState = field(init=False, default=SequenceState.WAITING)
    num_prompt_tokens: int = field(init=False)
    num_cached: int = field(init=False, default=0)
    """ids whose keys and values are in the cache"""
    position_offset: int = field(init=False, default=0)
    """position of a generated token minus its index: an image takes fewer positions than tokens"""
    grids: list[torch.Tensor] = field(init=False, default_factory=list)
    """(3,) patches in time, height and width of each image that is in the cache"""
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
        """Whether the first ids and images of both are the same; compares the ids themselves."""
        return (
            len(self.ids) >= num_tokens
            # One comparison rejects most candidates without copying two lists.
            and self.ids[num_tokens - 1] == other.ids[num_tokens - 1]
            and self.ids[:num_tokens] == other.ids[:num_tokens]
            and [one.digest for one in self.images[:num_images]]
            == [one.digest for one in other.images[:num_images]]
        )
