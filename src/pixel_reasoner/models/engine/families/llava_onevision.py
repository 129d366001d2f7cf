"""LLaVA-OneVision: a single image has tiles; several images in one prompt have their base tile only."""

from __future__ import annotations

import hashlib
from collections import abc

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.sequence import ImageInput


class LlavaOnevision(DecoderFamily):
    """LLaVA-OneVision. A second image changes the visual tokens of the first, so nothing of that prefix is reused."""

    def link_images(self, images: abc.Sequence[ImageInput]) -> tuple[ImageInput, ...]:
        """Return images whose digests differ between a prompt with one image and a prompt with several."""
        if len(images) < 2:
            return tuple(images)
        return tuple(
            one._replace(digest=_digest_among_several(one.digest), is_single=False)
            if one.is_single
            else one
            for one in images
        )


def _digest_among_several(digest: bytes) -> bytes:
    return hashlib.sha256(b"among several:" + digest).digest()[:16]


FAMILIES.register("llava_onevision", LlavaOnevision())
