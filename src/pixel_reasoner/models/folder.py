"""Settings of a model folder: dialect, pixel budgets and note in `pixel_reasoner.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from pydantic import ValidationError, model_validator

from pixel_reasoner.dialects import detect_dialect, get_dialect
from pixel_reasoner.dialects.detect import FALLBACK
from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.strict_json import parse_json


class FolderSettings(Record):
    """Content of `pixel_reasoner.json` in a model folder."""

    dialect: str = "pixel_reasoner"
    """name of the dialect; if the file does not set it, the result of `detect_dialect`"""
    budgets: PixelBudgets | None = None
    """pixel budgets of pictures in the prompt; by default those of the dialect"""
    note: str = ""
    """one line for users of this model"""
    worlds: tuple[int, ...] = ()
    """versions of PixelWorld that it was trained on; empty: not recorded, or none"""

    @model_validator(mode="before")
    @classmethod
    def _read_one_world(cls, values: Any) -> Any:
        """Accept `world`, the name of earlier folders with one version."""
        if isinstance(values, dict) and "world" in values:
            values = dict(values)
            world = values.pop("world")
            values.setdefault("worlds", () if world is None else (world,))
        return values


DTYPES = ("float32", "bfloat16", "float16")
"""dtypes for loading the weights of a model"""
BUNDLED_MODELS = {"tiny": Path(__file__).parents[1] / "tiny" / "weights"}
"""names and folders of bundled models"""


def model_folder(source: str) -> Path:
    """Return the folder of a bundled model by name, or the given folder."""
    return BUNDLED_MODELS.get(source, Path(source))


def folder_settings(
    folder: Path, dialect: str | None = None, *, config: Mapping[str, Any] | None = None
) -> FolderSettings:
    """Return the settings of a model folder. A missing dialect is detected from name, config and chat template.

    The image processor of the folder must not resize pictures again, so the budgets are clipped to its limits
    (`budgets_for_processor`).

    Args:
        folder: folder or hub id of the model.
        dialect: overrides the dialect of the folder.
        config: config of a model without a local folder.

    Raises:
        ModelError: its `pixel_reasoner.json` cannot be read.
        UsageError: unknown dialect, or no dialect is set and two dialects match.
    """
    settings = _read_settings(folder / "pixel_reasoner.json")
    if dialect is None and "dialect" not in settings.model_fields_set:
        config = config or _json(folder / "config.json")
        dialect = detect_dialect(str(folder), config, _template(folder)).name
        if dialect == FALLBACK and config.get("model_type") and not settings.note:
            settings = settings.model_copy(update={"note": _fallback_note(config["model_type"])})
    if dialect:
        settings = settings.model_copy(update={"dialect": dialect})
    return settings.model_copy(
        update={"budgets": budgets_for_processor(settings, _image_processor(folder))}
    )


def check_trained_world(model: str, world: int, more: str = "") -> None:
    """Raise an error if a model was trained on another version of PixelWorld.

    Models without a recorded version pass, for example all models of other projects.

    Args:
        model: bundled model, folder or hub id.
        world: version that it is used with.
        more: further way out, for the message.

    Raises:
        UsageError: another version.

    >>> check_trained_world("tiny", 1)
    """
    folder = model_folder(model)
    if not folder.is_dir():
        return
    trained = _read_settings(folder / "pixel_reasoner.json").worlds
    if trained and world not in trained:
        known = " and ".join(map(str, trained))
        raise UsageError(
            expected=f"a model for PixelWorld {world}",
            got=f"{model}, which was trained on PixelWorld {known}",
            fix=f"use world {known} or another model{more}",
        )


def _fallback_note(model_type: Any) -> str:
    return (
        f"No dialect is known for model type {str(model_type)[:60]}: {FALLBACK} is used, with calls in JSON and boxes in "
        "fractions; --dialect names another."
    )


def budgets_for_processor(settings: FolderSettings, image_processor: Any) -> PixelBudgets | None:
    """Return budgets within the limits of an image processor, because a second resize would change box coordinates.

    Returns None, for the defaults of the dialect, if these are within the limits or the limits are not in pixels.
    """
    budgets = settings.budgets or get_dialect(settings.dialect).budgets
    limits = pixel_limits(image_processor)
    if limits is None:
        return settings.budgets
    fitting = budgets.within(limits.min_px, limits.max_px)
    if fitting.multiple % limits.multiple:
        fitting = fitting.model_copy(update={"multiple": limits.multiple})
    return settings.budgets if fitting == budgets else fitting


class PixelLimits(NamedTuple):
    """Limits of an image processor that does not change pictures within them."""

    min_px: int
    max_px: int
    multiple: int
    """sides are multiples of this number of pixels"""


def pixel_limits(image_processor: Any) -> PixelLimits | None:
    """Return the limits of an image processor like that of Qwen-VL; None for processors that resize in another way.

    >>> size = {"shortest_edge": 3136, "longest_edge": 50176}
    >>> pixel_limits(SimpleNamespace(size=size, patch_size=14, merge_size=2))
    PixelLimits(min_px=3136, max_px=50176, multiple=28)
    """
    size = getattr(image_processor, "size", None) or {}
    least, most = size.get("shortest_edge"), size.get("longest_edge")
    patch, merge = (getattr(image_processor, name, None) for name in ("patch_size", "merge_size"))
    if not (isinstance(patch, int) and isinstance(merge, int) and least and most):
        return None
    kind = getattr(image_processor, "image_processor_type", type(image_processor).__name__)
    frames = getattr(image_processor, "temporal_patch_size", 1) if kind in _COUNT_FRAMES else 1
    least = -(-least // frames)
    return PixelLimits(least, max(least, most // frames), patch * merge)


_COUNT_FRAMES = frozenset(
    f"{family}ImageProcessor{backend}"
    for family in ("Glm4v", "Glm46V", "Glmga")
    for backend in ("", "Fast", "Pil")
)
"""image processors whose limits count the pixels of all frames of a patch: a picture is repeated for each of them"""


def _image_processor(folder: Path) -> Any:
    """Return the image processor config of a folder, with old names of its limits converted to new names."""
    path = folder / "preprocessor_config.json"
    fields = _json(path)
    if not fields:
        path = folder / "processor_config.json"
        fields = _object(_json(path).get("image_processor"))
    ends = {"shortest_edge": fields.get("min_pixels"), "longest_edge": fields.get("max_pixels")}
    size = _object(fields.get("size")) | {name: px for name, px in ends.items() if px}
    for name in ends:
        if name in size and not _is_count(size[name]):
            raise ModelError(
                expected=f"{path} with {name} as a number of pixels",
                got=json.dumps(size[name])[:100],
                fix="copy the file of the original model again",
            )
    return SimpleNamespace(**{**fields, "size": size})


def _object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _is_count(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and 1 <= value < 2**63)


def _read_settings(path: Path) -> FolderSettings:
    """Return the settings in `pixel_reasoner.json`; the defaults without a file."""
    if not path.is_file():
        return FolderSettings()
    try:
        return FolderSettings.model_validate(parse_json(path.read_bytes()))
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        place = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else reason(error)
        raise ModelError(
            expected=f"{path} with dialect, budgets and note",
            got=place,
            fix="correct or delete this file",
        ) from error


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a model folder; empty if missing or invalid, because loading the model reports the error."""
    try:
        return _object(parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _template(folder: Path) -> str:
    """Return the chat template of a model folder."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        names = ("chat_template.json", "tokenizer_config.json")
        return next(
            (str(t) for name in names if (t := _json(folder / name).get("chat_template"))), ""
        )
