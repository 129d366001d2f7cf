"""Legibility of PixelWorld 2 by height: accuracy of a template matcher that knows the font but not the position.

    PYTHONPATH=src python benchmarks/legibility.py

Each of the 23 characters is drawn at full resolution, resized as an overview (Lanczos), and compared with templates of all
characters at 16 other offsets within a pixel. Noise is added per pixel, as a share of the contrast. The matcher knows the
place within a pixel, the size, the font, and the colours, so it is an upper bound of what a model without an operation
can read; the loss with noise shows which heights depend on a perfect picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.v2 import HEIGHTS
from pixel_reasoner.world.v2.scene import CHARACTERS

SCALE = 16 / 3
"""canvas of 1024 px, overview of 192 px"""
SIDE = 24
"""side of the compared region in overview pixels"""
NOISE = (0.0, 0.05, 0.1, 0.2)
TRIALS = 40
OFFSETS = [((i + 0.5) / 4, (j + 0.5) / 4) for i in range(4) for j in range(4)]


def patch(character: str, height: float, dx: float, dy: float) -> np.ndarray:
    """Return a character in an overview, 0 for the background and 1 for ink."""
    px = round(SIDE * SCALE)
    image = Image.new("L", (px, px))
    place = (px / 2 + dx * SCALE, px / 2 + dy * SCALE)
    font = scaled_font(height * SCALE)
    ImageDraw.Draw(image).text(place, character, font=font, fill=255, anchor="mm")
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=float).ravel() / 255


def accuracy(height: float, noise: float, rng: np.random.Generator) -> float:
    """Return the share of characters that the nearest template names."""
    bank = np.stack([patch(c, height, dx, dy) for c in CHARACTERS for dx, dy in OFFSETS])
    norms = (bank**2).sum(1)
    right = 0
    for n in range(TRIALS * len(CHARACTERS)):
        character = n % len(CHARACTERS)
        seen = patch(CHARACTERS[character], height, *rng.random(2))
        seen = seen + rng.normal(0, noise, seen.shape) if noise else seen
        nearest = int((norms - 2 * bank @ seen).argmin())
        right += nearest // len(OFFSETS) == character
    return right / (TRIALS * len(CHARACTERS))


def main() -> None:
    """Print a table: height by noise."""
    rng = np.random.default_rng(0)
    print("height  " + "  ".join(f"noise {noise:4.2f}" for noise in NOISE))
    for height in HEIGHTS:
        print(f"{height:4} px " + "  ".join(f"{accuracy(height, n, rng):10.3f}" for n in NOISE))


if __name__ == "__main__":
    main()
