"""Light on a surface: diffuse shading, highlights and brightness of a shot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixel_reasoner.schema.record import Record
from pixel_reasoner.world.parts.surface import Floats, Surface

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
    lx, ly, lz = (float(value) for value in light.direction)
    slope_y, slope_x = (np.asarray(one, np.float32) for one in np.gradient(surface.height))
    normal = np.asarray(slope_x * slope_x, np.float32)
    normal += slope_y * slope_y
    normal += 1
    np.sqrt(normal, out=normal)
    np.reciprocal(normal, out=normal)
    slope_x *= lx
    slope_x += slope_y * ly  # slope against the lamp
    half = 1 / math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    flat = (lz + 1) * half
    factor = _positive((lz - slope_x) * normal) * np.float32(0.5 / lz)
    factor += np.float32(0.5)
    highlight = _power_18(_positive((flat - slope_x * half) * normal))
    highlight -= _power_18(flat)
    highlight *= surface.gloss
    highlight *= np.float32(150)
    strength = surface.grain * texture
    strength *= np.float32(_TEXTURE_CONTRAST)
    strength += 1
    factor *= strength
    lit = surface.color * factor[..., None]
    lit += highlight[..., None]
    return np.clip(lit, 0, 255, out=lit).astype(np.uint8)


def _positive(values: Floats) -> Floats:
    return np.maximum(values, 0, out=values)


def _power_18(values: Any) -> Any:
    """Return the 18th power, the shininess of highlights; several times faster than `**`."""
    square = values * values
    power = square * square
    power = power * power
    return power * power * square


def expose(
    picture: NDArray[np.uint8], light: Light, noise: Floats, corner: tuple[int, int], width: int
) -> NDArray[np.uint8]:
    """Return a picture, or a window of it, with the brightness of a shot and the noise of the camera.

    Each pixel depends on its own colour, position and noise alone.

    Args:
        picture: shape (height, width, 3).
        light: light of the shot.
        noise: shape (height, width), in grey levels, plus 0.5 for rounding.
        corner: left and top edge of the window.
        width: of the whole picture.
    """
    angle = math.radians(light.gradient_deg)
    height_px, width_px = picture.shape[:2]
    x = (np.arange(width_px, dtype=np.float32) + corner[0]) / width - 0.5
    y = (np.arange(height_px, dtype=np.float32) + corner[1]) / width - 0.375
    slope = x * np.float32(math.cos(angle)) + y[:, None] * np.float32(math.sin(angle))
    slope *= np.float32(light.gradient * light.brightness)
    slope += np.float32(light.brightness)
    curve = 255 * (np.arange(256, dtype=np.float32) / 255) ** np.float32(light.gamma)
    result = np.empty_like(picture)
    for channel, tint in enumerate(light.tint):
        levels = (curve * np.float32(tint))[picture[..., channel]]
        levels *= slope
        levels += noise
        result[..., channel] = np.clip(levels, 0, 255, out=levels)
    return result
