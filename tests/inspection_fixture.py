"""Small photos of a plate with known defects, for tests of the inspection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = (480, 360)
DEFECT = (300, 200, 318, 212)
"""left, top, right, bottom of the defect in a photo that is not moved"""


def plate(
    number: int = 0,
    *,
    defect: bool = False,
    shift: tuple[float, float] = (0, 0),
    rotation_deg: float = 0.0,
    light: float = 0.0,
    size: tuple[int, int] = SIZE,
) -> Image.Image:
    """Return a photo: a grey plate with holes and marks on a dark table."""
    picture = Image.new("RGB", size, (52, 58, 66))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((60, 50, 420, 310), 18, fill=(176, 180, 184))
    for x, y in ((95, 85), (385, 85), (95, 275), (385, 275), (240, 90)):
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), fill=(30, 32, 36))
    for n in range(7):
        draw.rectangle((130 + 22 * n, 240, 130 + 22 * n + 5 + n, 268), fill=(40, 50 + 8 * n, 90))
    draw.text((150, 120), "PX-204 REV C", fill=(30, 34, 40), font_size=26)
    draw.polygon(((330, 110), (370, 180), (300, 175)), fill=(196, 140, 60))
    if defect:
        draw.ellipse(DEFECT, fill=(60, 20, 24))
    moved = picture.rotate(
        -rotation_deg, Image.Resampling.BICUBIC, translate=shift, fillcolor=(52, 58, 66)
    )
    values = np.asarray(moved).astype(float)
    slope = np.linspace(-1, 1, size[0])[None, :, None]
    noise = np.random.default_rng(number).normal(0, 1.5, (size[1], size[0], 1))
    values = values * (1 + light * slope) * (1 + light / 3) + noise
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def other_part() -> Image.Image:
    """Return a photo of something else."""
    picture = Image.new("RGB", SIZE, (120, 90, 60))
    draw = ImageDraw.Draw(picture)
    for n in range(24):
        draw.line((20 * n, 0, 480 - 13 * n, 360), fill=(20 + 9 * n, 40, 200 - 7 * n), width=5)
    return picture


def save(picture: Image.Image, path: Path, **options: object) -> Path:
    """Write a picture with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def mask(box: tuple[int, int, int, int] = DEFECT, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a mask with an ellipse."""
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).ellipse(box, fill=255)
    return picture


def write_data_set(root: Path, *, good: int = 3, bad: int = 3, references: int = 3) -> Path:
    """Write a data set in the layout of MVTec AD."""
    for number in range(references):
        save(plate(number), root / "train" / "good" / f"{number:03d}.png")
    for number in range(good):
        save(
            plate(50 + number, shift=(3 * number, 2)), root / "test" / "good" / f"{number:03d}.png"
        )
    for number in range(bad):
        photo = plate(80 + number, defect=True, light=0.05 * number)
        save(photo, root / "test" / "hole" / f"{number:03d}.png")
        save(mask(), root / "ground_truth" / "hole" / f"{number:03d}_mask.png")
    return root
