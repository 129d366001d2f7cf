"""Registry of model families of the engine, by model type (`config.model_type`)."""

from pixel_reasoner.models.engine.families.base import EncodedImage, ModelFamily, PromptText
from pixel_reasoner.registry import Registry

FAMILIES: Registry[ModelFamily] = Registry(
    "model family",
    package="pixel_reasoner.models.engine.families",
    group="pixel_reasoner.model_families",
    plural="model families",
)
"""model type -> family; other packages register families in the entry point group `pixel_reasoner.model_families`"""

__all__ = ["FAMILIES", "EncodedImage", "ModelFamily", "PromptText"]
