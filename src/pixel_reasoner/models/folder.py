"""Settings of a model folder: dialect, pixel budgets and note in `pixel_reasoner.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from pixel_reasoner.dialects import detect_dialect, get_dialect
from pixel_reasoner.errors import ModelError
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import PixelBudgets


class FolderSettings(Record):
    """What `pixel_reasoner.json` in a model folder may say."""

    dialect: str = "pixel_reasoner"
    """where the file does not say, what `detect_dialect` makes of the model's name, config and chat template"""
    budgets: PixelBudgets | None = None
    note: str = ""
    """one line for whoever asks this model"""


BUNDLED_MODELS = {"tiny": Path(__file__).parents[1] / "tiny" / "weights"}
"""names of models that are in the package"""


def model_folder(source: str) -> Path:
    """Where a model lies that is named by the name of an embedded one or by its folder."""
    return BUNDLED_MODELS.get(source, Path(source))


def model_source(name: str) -> str:
    """What transformers is to load for a name: the folder of an embedded model, a folder, or a hub id as it is."""
    folder = model_folder(name)
    return str(folder) if folder.is_dir() else name


def folder_settings(
    folder: Path, dialect: str | None = None, *, config: Mapping[str, Any] | None = None
) -> FolderSettings:
    """How a model is to be asked: as its folder says, and where it says nothing, by what the model looks like.

    PixelBudgets are those that the folder's image processor leaves as they are (`budgets_for_processor`).

    Args:
        folder: of the model, or its hub id.
        dialect: overrides whatever the folder says.
        config: of a model whose folder is not at hand.

    Raises:
        ModelError: its `pixel_reasoner.json` cannot be read.
        UsageError: no dialect of that name; nothing is said, and two dialects fit.
    """
    settings = _said(folder / "pixel_reasoner.json")
    if dialect is None and "dialect" not in settings.model_fields_set:
        config = config or _json(folder / "config.json")
        dialect = detect_dialect(str(folder), config, _template(folder)).name
    if dialect:
        settings = settings.model_copy(update={"dialect": dialect})
    return settings.model_copy(
        update={"budgets": budgets_for_processor(settings, _image_processor(folder))}
    )


def budgets_for_processor(settings: FolderSettings, image_processor: Any) -> PixelBudgets | None:
    """PixelBudgets that a model's own image processor leaves as they are: pictures that it scaled once more would have other coordinates.

    None, for the dialect's, where those fit or it does not count in pixels.
    """
    budgets = settings.budgets or get_dialect(settings.dialect).budgets
    size = getattr(image_processor, "size", None) or {}
    least, most = size.get("shortest_edge"), size.get("longest_edge")
    counts_pixels = hasattr(image_processor, "merge_size")  # Qwen-VL's do
    if not counts_pixels or least is None or most is None:
        return settings.budgets
    fitting = budgets.within(least, most)
    return settings.budgets if fitting == budgets else fitting


def _image_processor(folder: Path) -> Any:
    """What a folder says of its image processor, with the older names of its limits under the newer ones."""
    said = _json(folder / "preprocessor_config.json")
    said = said or _json(folder / "processor_config.json").get("image_processor") or {}
    ends = {"shortest_edge": said.get("min_pixels"), "longest_edge": said.get("max_pixels")}
    size = dict(said.get("size") or {}) | {name: px for name, px in ends.items() if px}
    return SimpleNamespace(**{**said, "size": size})


def _said(path: Path) -> FolderSettings:
    """What a folder says of its own accord."""
    if not path.is_file():
        return FolderSettings()
    try:
        return FolderSettings.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ModelError(
            expected=f"{path} with dialect, budgets and note",
            got=str(error).splitlines()[0],
            fix="mend or delete this file",
        ) from error


def _json(path: Path) -> dict[str, Any]:
    """An object of a model's folder; empty where it is missing or broken, which whoever loads the model will tell."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _template(folder: Path) -> str:
    """The chat template of a model's folder."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        names = ("chat_template.json", "tokenizer_config.json")
        return next(
            (str(t) for name in names if (t := _json(folder / name).get("chat_template"))), ""
        )
