"""Models and data sets of the Hugging Face hub as local folders. Without a network this fails within seconds.

transformers would look up every file separately, each with retries. Here one request is enough, and everything is loaded
from the folder of the snapshot.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from pathlib import Path

from pixel_reasoner.errors import InputError, ModelError, PixelReasonerError, require_extra
from pixel_reasoner.models.folder import BUNDLED_MODELS, model_folder

CONNECT_TIMEOUT_S = 5.0
SETTINGS_FILES = ("*.json", "*.jinja")
"""files of a model that determine dialect, pixel budgets and chat template"""
MODEL_FILES = (*SETTINGS_FILES, "*.txt", "*.model", "*.tiktoken", "*.safetensors")
"""files of a model to load; no code"""
SIZES_GB = {
    "Qwen/Qwen2.5-VL-3B-Instruct": 7.5,
    "Qwen/Qwen2.5-VL-7B-Instruct": 16.6,
    "TIGER-Lab/PixelReasoner-RL-v1": 16.6,
    "TIGER-Lab/PixelReasoner-WarmStart": 16.6,
    "Qwen/Qwen3-VL-4B-Instruct": 8.9,
    "Qwen/Qwen3-VL-8B-Instruct": 17.5,
}
"""download sizes of common models in GB, for error messages"""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `owner/name`. Only such names are looked up on the hub.

    >>> [is_hub_id(name) for name in ("Qwen/Qwen2.5-VL-7B-Instruct", "./folder", "tiny", "a/b/c")]
    [True, False, False, False]
    """
    return bool(_HUB_ID.fullmatch(name))


def local_model(name: str, *, settings_only: bool = False) -> Path:
    """Return the folder of a model. A model of the hub is downloaded or found in the cache.

    Args:
        name: a bundled model, a folder, or a hub id.
        settings_only: download only the files that determine dialect and pixel budgets.

    Raises:
        ModelError: no such folder, or the download failed.
        UsageError: the package for downloads is not installed.
    """
    folder = model_folder(name)
    if name and folder.is_dir():  # an empty name would be the current folder
        _check_not_a_run(folder)
        return folder
    if not is_hub_id(name):
        raise ModelError(
            expected=f"a bundled model ({', '.join(BUNDLED_MODELS)}), a model folder, or a hub id owner/name",
            got=f"{name!r}, which is no folder",
            fix=_fix_of_name(name),
        )
    return _snapshot(name, "model", SETTINGS_FILES if settings_only else MODEL_FILES)


def _check_not_a_run(folder: Path) -> None:
    """Raise an error for the folder of a training run, whose model is one level below."""
    model = folder / "model"
    if not (folder / "config.json").exists() and (model / "config.json").exists():
        raise ModelError(
            expected="the folder of a model",
            got=f"{folder}, which is the folder of a training run",
            fix=f"use {model}",
        )


def _fix_of_name(name: str) -> str:
    near = difflib.get_close_matches(name, BUNDLED_MODELS, 1, 0.7)
    return f"did you mean {near[0]!r}? Otherwise check the path" if near else "check the path"


def local_dataset(name: str) -> Path:
    """Return the folder of a data set of the hub, downloaded or from the cache.

    Raises:
        InputError: the download failed.
        UsageError: the package for downloads is not installed.
    """
    return _snapshot(name, "dataset", None)


@cache
def _snapshot(name: str, kind: str, patterns: tuple[str, ...] | None) -> Path:
    with require_extra("local", "download from the hub"):
        from huggingface_hub import snapshot_download
    try:
        folder = snapshot_download(
            name,
            repo_type=kind,
            allow_patterns=list(patterns) if patterns else None,
            etag_timeout=CONNECT_TIMEOUT_S,
        )
    except Exception as error:  # errors of the HTTP library, the hub, or the disk
        raise _snapshot_error(name, kind, error) from error
    return Path(folder)


def _snapshot_error(name: str, kind: str, error: Exception) -> PixelReasonerError:
    from huggingface_hub.constants import HF_HUB_CACHE

    size = f" (about {SIZES_GB[name]:g} GB)" if name in SIZES_GB else ""
    option = "--model" if kind == "model" else "--data"
    type_ = "" if kind == "model" else "--repo-type dataset "
    made = ModelError if kind == "model" else InputError
    return made(
        expected=f"a folder, or a {kind} of the hub that is in {HF_HUB_CACHE} or can be downloaded",
        got=f"{name}: no such folder, not in the cache, and from the hub: {_reason(error)}",
        fix=f"where there is a network, run `hf download {type_}{name} --local-dir DIR`{size}, copy DIR here "
        f"and give {option} DIR",
    )


def _reason(error: Exception) -> str:
    r"""Return the reason of a failed download in one line.

    >>> _reason(ValueError("Got: HTTPError: 404 Not Found for url 'http://a'\nFor more information"))
    "404 Not Found for url 'http://a'"
    """
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    text = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return re.sub(r"^Got: \w+: ", "", text)[:200]
