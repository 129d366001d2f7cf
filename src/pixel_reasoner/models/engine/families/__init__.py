"""Model families of the engine. A family registers itself under each of its model types (`config.model_type`)."""

from pixel_reasoner.models.engine.families.base import EncodedImage, ModelFamily
from pixel_reasoner.registry import Registry

FAMILIES: Registry[ModelFamily] = Registry(
    "model family",
    package="pixel_reasoner.models.engine.families",
    group="pixel_reasoner.model_families",
    plural="model families",
)
"""by model type; a package adds one by an entry point of the group `pixel_reasoner.model_families`"""

__all__ = ["FAMILIES", "EncodedImage", "ModelFamily"]
