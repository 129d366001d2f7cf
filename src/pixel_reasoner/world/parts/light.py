"""Light on a surface: diffuse shading, highlights and brightness of a shot."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixel_reasoner.schema.record import Record
from pixel_reasoner.world.parts.surface import Floats, Surface

_SHININESS = 18
_TEXTURE_CONTRAST = 0.075


class Light(Record):
    """Light of one shot."""

    azimuth_deg: float = 225.0
    """direction of the lamp: 0 is right, 90 is down"""
    elevation_deg: float = 58.0
    brightness: float = 1.0
    gamma: float = 1.0
    gradient: float = 0.0
    """difference of brightness between the two sides of the picture"""
    gradient_deg: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """factors of red, green and blue"""

    @property
    def direction(self) -> tuple[float, float, float]:
        """Unit vector towards the lamp."""
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        flat = math.cos(elevation)
        return flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)


def shade(surface: Surface, texture: Floats, light: Light) -> NDArray[np.uint8]:
    """Return the colours of a lit surface: shape (height, width, 3)."""
    lx, ly, lz = (np.float32(value) for value in light.direction)
    slope_y, slope_x = np.gradient(surface.height)
    normal = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    diffuse = np.maximum(0, (lz - slope_x * lx - slope_y * ly) * normal) / lz
    half = np.float32(1 / math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2))
    toward = np.maximum(0, ((lz + 1) - slope_x * lx - slope_y * ly) * normal * half)
    flat = ((lz + 1) * half) ** _SHININESS
    highlight = surface.gloss * (toward**_SHININESS - flat) * np.float32(150)
    factor = np.float32(0.5) + np.float32(0.5) * diffuse
    factor *= 1 + np.float32(_TEXTURE_CONTRAST) * surface.grain * texture
    return np.clip(surface.color * factor[..., None] + highlight[..., None], 0, 255).astype(np.uint8)


def expose(
    picture: NDArray[np.uint8], light: Light, noise: Floats, corner: tuple[int, int], width: int
) -> NDArray[np.uint8]:
    """Return a picture, or a window of it, with the brightness of a shot and the noise of the camera.

    Each pixel depends on its own colour, position and noise alone.

    Args:
        picture: shape (height, width, 3).
        light: light of the shot.
        noise: shape (height, width), in grey levels.
        corner: left and top edge of the window.
        width: of the whole picture.
    """
    angle = math.radians(light.gradient_deg)
    height_px, width_px = picture.shape[:2]
    x = (np.arange(width_px, dtype=np.float32) + corner[0]) / width - 0.5
    y = (np.arange(height_px, dtype=np.float32) + corner[1]) / width - 0.375
    slope = x * math.cos(angle) + y[:, None] * math.sin(angle)
    gain = (light.brightness * (1 + light.gradient * slope)).astype(np.float32)
    levels = picture.astype(np.float32)
    if light.gamma != 1:
        levels = 255 * (levels / 255) ** np.float32(light.gamma)
    levels *= gain[..., None] * np.float32(light.tint)
    levels += noise[..., None] + np.float32(0.5)
    return np.clip(levels, 0, 255).astype(np.uint8)
