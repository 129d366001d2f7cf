"""One photograph of a part: a pure function of its description.

A shot with a defect differs from the same shot of the good part inside the mask alone.
"""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.world.parts.camera import Placement, View, project, projection, warp
from pixel_reasoner.world.parts.defects import (
    SEVERITIES,
    DefectClass,
    Request,
    Severity,
    make_defect,
)
from pixel_reasoner.world.parts.design import HEIGHT, Design
from pixel_reasoner.world.parts.kinds import Kind, make_design
from pixel_reasoner.world.parts.light import Light, expose, shade
from pixel_reasoner.world.parts.surface import (
    Floats,
    Surface,
    Window,
    make_texture,
    paint_kind,
)

VERSION = 1
"""incremented when a seed gives another picture"""
Condition = Literal["steady", "shifted", "rotated", "relit", "misaligned", "wrong_part"]
NOISE_LEVELS = 1.3
"""standard deviation of the noise of the camera"""
_MIN_CONTRAST = 26.0
"""grey levels by which the clearest pixels of a defect differ, times its severity"""
_MASK_LEVEL = 64
"""coverage from which a pixel belongs to a mask, of 255"""
_SHADOW = 0.5


class Defect(NamedTuple):
    """A defect to be made."""

    kind: DefectClass
    severity: Severity
    length_px: float
    """wanted longer side in pixels of the picture"""


class Shot(NamedTuple):
    """Description of one photograph."""

    kind: Kind
    """of the part that is photographed"""
    seed: int
    view: View
    condition: Condition
    width: int
    placement: Placement
    light: Light
    defect: Defect | None = None

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return self.width, round(self.width * HEIGHT)

    def rng(self, purpose: str) -> random.Random:
        """Return a random generator that depends on the part and the purpose alone."""
        return random.Random(f"pixelworld/parts/{VERSION}/{self.kind}/{self.seed}/{purpose}")


class Photo(NamedTuple):
    """Pixels of a shot."""

    pixels: NDArray[np.uint8]
    """shape (height, width, 3)"""
    mask: NDArray[np.bool_]
    """shape (height, width): the defect"""
    detail: str
    """what the defect is, such as `missing R3`; empty for a good part"""


class _Patch(NamedTuple):
    """Lit window of a part with a defect."""

    window: Window
    colors: NDArray[np.uint8]
    """shape (height, width, 4), with coverage"""
    mask: NDArray[np.uint8]
    detail: str


def take_photo(shot: Shot) -> Photo:
    """Render a shot."""
    design, size = make_design(shot.kind), shot.size
    good = paint_kind(shot.kind, shot.width)
    texture = make_texture(design, size, shot.rng("texture").getrandbits(63))
    matrix = projection(shot.view, shot.placement, size)
    lit = _lit(good, texture, shot.light)
    frame = (0, 0, *size)
    part = warp(lit, matrix, frame)
    mat = _mat(design, size, part[..., 3], shot)
    noise = _noise(shot)
    pixels = expose(_over(part, mat), shot.light, noise, (0, 0), shot.width)
    mask = np.zeros((size[1], size[0]), np.bool_)
    if shot.defect is None:
        return Photo(pixels, mask, "")
    patch = _patch(shot, good, texture, lit)
    window = project(matrix, patch.window, size)
    left, top, right, bottom = window
    if left >= right or top >= bottom:
        return Photo(pixels, mask, patch.detail)
    at = (slice(top, bottom), slice(left, right))
    coverage = warp(patch.mask, matrix, window, patch.window[:2])
    inside = coverage >= min(_MASK_LEVEL, max(1, coverage.max()))
    colors = _over(warp(patch.colors, matrix, window, patch.window[:2]), mat[at])
    changed = expose(colors, shot.light, noise[at], (left, top), shot.width)
    pixels[at][inside] = changed[inside]
    mask[at] = inside
    return Photo(pixels, mask, patch.detail)


def _lit(surface: Surface, texture: Floats, light: Light) -> NDArray[np.uint8]:
    cover = (surface.cover * 255 + 0.5).astype(np.uint8)
    return np.dstack([shade(surface, texture, light), cover])


def _patch(shot: Shot, good: Surface, texture: Floats, lit: NDArray[np.uint8]) -> _Patch:
    """Return the lit window of the defect, with at least the contrast of its severity."""
    assert shot.defect is not None
    strength = SEVERITIES[shot.defect.severity]
    request = Request(
        make_design(shot.kind),
        good,
        shot.size,
        shot.defect.length_px,
        strength,
        shot.rng("defect"),
    )
    change, detail = make_defect(shot.defect.kind, request)
    left, top, right, bottom = change.window
    at = (slice(top, bottom), slice(left, right))
    before, after = lit[at].astype(np.float32), _lit(change.surface, texture[at], shot.light)
    inside = change.mask > 0.25
    difference = after.astype(np.float32) - before
    contrast = np.abs(difference[inside][:, :3]).max(axis=1) if inside.any() else np.zeros(1)
    reached = max(1.0, float(np.quantile(contrast, 0.8)))
    if not np.abs(difference[inside][:, 3]).max(initial=0) > 128:
        difference[..., :3] *= max(1.0, _MIN_CONTRAST * strength * 1.6 / reached)
    after = np.clip(before + difference, 0, 255).astype(np.uint8)
    return _Patch(change.window, after, (change.mask * 255).astype(np.uint8), detail)


def _mat(design: Design, size: Size, cover: NDArray[np.uint8], shot: Shot) -> NDArray[np.uint8]:
    """Return the mat with the shadow of the part: shape (height, width, 3)."""
    small = Image.fromarray(cover).resize((size[0] // 8, size[1] // 8), Image.Resampling.BOX)
    shadow = small.filter(ImageFilter.GaussianBlur(size[0] / 8 / 90))
    lx, ly, _ = shot.light.direction
    far = size[0] / 8 * 0.011
    moved = shadow.transform(
        shadow.size,
        Image.Transform.AFFINE,
        (1, 0, lx * far, 0, 1, ly * far),
        Image.Resampling.BILINEAR,
    )
    dark = np.asarray(moved, np.float32) / np.float32(255)
    x = np.linspace(-1, 1, small.width, dtype=np.float32)
    y = np.linspace(-1, 1, small.height, dtype=np.float32)[:, None]
    level: Floats = (1 - np.float32(0.13) * (x**2 + y**2)) * (1 - np.float32(_SHADOW) * dark)
    colors = np.clip(level[..., None] * np.array(design.mat, np.float32), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(colors).resize(size, Image.Resampling.BILINEAR))


def _noise(shot: Shot) -> Floats:
    rng = np.random.default_rng(shot.rng(f"noise {shot.view}").getrandbits(63))
    noise = rng.standard_normal(shot.size[::-1], np.float32)
    noise *= np.float32(NOISE_LEVELS)
    noise += np.float32(0.5)
    return noise


def _over(part: NDArray[np.uint8], mat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a part (4 channels) over the mat."""
    picture = Image.fromarray(part)
    return np.asarray(
        Image.composite(picture.convert("RGB"), Image.fromarray(mat), picture.getchannel("A"))
    )
