"""Registry of model backends of other packages: `--model NAME` or `NAME:CHECKPOINT` loads one.

@model_backend
def parrot(spec: ModelSpec) -> Parrot: ...

[project.entry-points."pixel_reasoner.models"]
parrot = "my_package:parrot"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import PixelReasonerError, PluginError, one_line
from pixel_reasoner.models.api import GenerationModel, SupportsBackend
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.plugin_checks import described, has_attributes, is_function
from pixel_reasoner.registry import Registry

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec


class LoadedModel(GenerationModel, Protocol):
    """Model that commands can use."""

    note: str
    """one line for the user; may be empty"""


ModelLoader = Callable[["ModelSpec"], GenerationModel]
"""function or class that returns a model; `spec` contains name, device, dtype and dialect of the command line"""


def _check_loader(name: str, item: Any) -> None:
    if name in BUNDLED_MODELS:
        raise PluginError(
            expected=f"one model named {name!r}",
            got="two: this one and the bundled one",
            fix="rename the model of your package",
        )
    is_function("model", "spec")(name, item)


MODELS = Registry[ModelLoader]("model", check=_check_loader)
model_backend = MODELS.decorator
"""decorator that registers a function or class as a model, under its name or `name=`"""


def is_registered(name: str) -> bool:
    """Return whether a package provides a model; a checkpoint may follow its name after a colon."""
    return name not in BUNDLED_MODELS and name.partition(":")[0] in MODELS


def check_registered(name: str) -> None:
    """Import the function that loads a model, and check it.

    Raises:
        PluginError: it cannot be used.
    """
    MODELS.get(name.partition(":")[0])


def load_registered(spec: ModelSpec) -> LoadedModel:
    """Return a model of another package.

    Raises:
        PluginError: it cannot be loaded, or is no model.
        UnknownNameError: its dialect is unknown.
    """
    name = spec.name.partition(":")[0]
    loader = MODELS.get(name)
    try:
        model: Any = loader(spec)
    except PixelReasonerError:
        raise
    except Exception as error:
        raise PluginError(
            expected=f"the model {spec.name!r}",
            got=f"{type(error).__name__}: {one_line(error)}, from {described(loader)}",
            fix="see the documentation of its package",
        ) from error
    has_attributes("model", name, model, ("name", "dialect", "budgets", "describe"))
    if not isinstance(model, SupportsBackend) and not hasattr(model, "generate"):
        raise PluginError(
            expected=f"the model {name!r} with generate() or open_backend()",
            got=f"{described(model)} without both",
            fix="add one of them",
        )
    if spec.dialect is not None:
        model.dialect = spec.dialect
    get_dialect(model.dialect)
    if not hasattr(model, "note"):
        model.note = ""
    loaded: LoadedModel = model
    return loaded
