"""PixelWorld under the id `pixelworld-env`: verifiers imports an environment by the name of its module."""

from pixel_reasoner.integrations.verifiers_env import (
    PixelWorldEnv,
    PixelWorldHarness,
    PixelWorldTaskset,
)

__all__ = ["PixelWorldEnv", "PixelWorldHarness", "PixelWorldTaskset"]
