"""Adapters: inspect_ai and lmms-eval (evaluation), Ray Data, verl and SkyRL (RL), verifiers and OpenEnv (environments).

Most need an environment of their own, because their frameworks need other versions of packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def lmms_eval_manifest() -> ModelManifest:
    """Return the manifest that lmms-eval loads through its entry point.

    It is not defined in the class's module, because that module imports lmms_eval, which loads entry points during its
    own import.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    path = f"{__name__}.lmms_eval_model.PixelReasoner"
    return ModelManifest(model_id="pixel_reasoner", chat_class_path=path)
