"""Adapters for inspect_ai, lmms-eval and Ray Data. Each needs its own extra; the first two need an environment of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def lmms_eval_manifest() -> ModelManifest:
    """What lmms-eval finds under its entry point.

    A function, and not beside the class: lmms-eval looks while it is imported itself, which the module of the class imports.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    place = f"{__name__}.lmms_eval_model.PixelReasoner"
    return ModelManifest(model_id="pixel_reasoner", chat_class_path=place)
