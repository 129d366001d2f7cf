"""Vision cache: encoded images by content, so that an image in several prompts is encoded once."""

from __future__ import annotations

from collections import OrderedDict

from pixel_reasoner.models.engine.families import EncodedImage


class VisionCache:
    """LRU cache of encoded images.

    Args:
        max_bytes: limit of all visual features.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._images: OrderedDict[bytes, EncodedImage] = OrderedDict()

    def get(self, digest: bytes) -> EncodedImage | None:
        """Return an encoded image, and mark it as used; None if it is not cached."""
        if digest in self._images:
            self._images.move_to_end(digest)
        return self._images.get(digest)

    def put(self, digest: bytes, image: EncodedImage) -> None:
        """Cache an encoded image. Evicts the least recently used above the limit."""
        # A clone, because a view of a batch would keep the whole batch.
        image = EncodedImage(
            image.grid, image.tokens.clone(), [one.clone() for one in image.deepstack]
        )
        if digest in self._images or image.num_bytes > self.max_bytes:
            return
        self._images[digest] = image
        self.num_bytes += image.num_bytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._images.popitem(last=False)
            self.num_bytes -= oldest.num_bytes

    def clear(self) -> None:
        """Drop all images. Required after a change of the weights."""
        self._images.clear()
        self.num_bytes = 0
