"""Transform `local_contrast`: differences to the surroundings, amplified where they are small."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from pixel_reasoner.media.transforms import transform

_RADIUS_SHARE = 8
"""sides of the picture per radius of the surroundings"""
_SPREAD = 48
"""mean difference to the surroundings after amplification, in grey values"""
_MAX_GAIN = 12
_UNIT = 16
"""gains are integers in sixteenths, so that every machine computes the same pixels"""


@transform
def local_contrast(image: Image.Image) -> Image.Image:
    """Return the picture with more contrast in regions of little contrast. Colours keep their hue as far as possible."""
    radius = max(2, min(image.size) // _RADIUS_SHARE)
    grey = image.convert("L")
    difference = np.asarray(grey, np.int32) - _blurred(grey, radius)
    spread = _blurred(Image.fromarray(np.abs(difference).astype(np.uint8), "L"), radius)
    gain = np.clip(_SPREAD * _UNIT // (spread + 1), _UNIT, _MAX_GAIN * _UNIT)
    change = ((gain - _UNIT) * difference) // _UNIT
    pixels = np.asarray(image, np.int32) + change[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


def _blurred(grey: Image.Image, radius: int) -> np.ndarray:
    return np.asarray(grey.filter(ImageFilter.BoxBlur(radius)), np.int32)
