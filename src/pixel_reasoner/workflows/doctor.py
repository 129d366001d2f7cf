"""Diagnosis of an installation: working, missing and broken parts, with the commands that need them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner import __version__
from pixel_reasoner.errors import PixelReasonerError, install_command
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.workflows.plugins import installed_plugins

GIB = 2**30
MIN_MEMORY_GIB = 1.0
"""available memory for `ask` with the bundled model"""
MIN_DISK_GIB = 0.5


class Status(StrEnum):
    """Result of a check."""

    OK = "ok"
    MISSING = "missing"
    """optional part is missing: some commands do not work"""
    BROKEN = "broken"
    """required part is missing, or an installed part is unusable"""


class Finding(NamedTuple):
    """Result of one check."""

    subject: str
    status: Status
    detail: str


EXTRAS = {
    "local": (
        ("torch", "torchvision", "transformers", "accelerate"),
        "ask, eval and demo with a model in this process; train; check --model",
    ),
    "train": (
        ("trl", "peft", "datasets", "tensorboard"),
        "train; export --to trl",
    ),
    "remote": (("httpx2",), "ask, eval and probe with --endpoint"),
    "labeller": (("httpx2",), "synth with --labeller"),
    "workflows": (
        ("pypdfium2", "pi_heif", "scenedetect", "pyarrow"),
        "survey: PDF, HEIC, --shots, rows.parquet",
    ),
    "ocr": (("rapidocr", "onnxruntime"), "--operations read_text"),
    "released": (("math_verify",), "--scorer released"),
    "ray": (("ray",), "integrations.ray_data"),
}
"""extra -> its modules, and the commands that need them"""
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "gif")
_IMAGE_FEATURES = ("jpg", "zlib", "webp", "freetype2")


def diagnose(model: ModelSpec) -> Iterator[Finding]:
    """Yield the result of each check. A failed check does not stop the others.

    Args:
        model: model to use; if it has `endpoints`, its servers are checked too; if it is a folder, whether the engine runs it.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "bundled model": _bundled_model,
        "memory": _memory,
        "devices": _devices,
        "images": _images,
        "videos": _videos,
        "fonts": _fonts,
        "write access": _write_access,
        "commands": _extras,
        "plug-ins": _plugins,
    }
    if not model.endpoints and model.name not in BUNDLED_MODELS and Path(model.name).is_dir():
        checks["engine"] = lambda: _engine(Path(model.name))
    if model.endpoints:
        checks["endpoint"] = lambda: _endpoint(model)
    for subject, check in checks.items():
        try:
            yield from check()
        except PixelReasonerError as error:
            yield Finding(subject, Status.BROKEN, str(error))
        except Exception as error:  # noqa: BLE001 - whatever is broken is a finding
            yield Finding(subject, Status.BROKEN, f"{type(error).__name__}: {error}")


def _versions() -> Iterator[Finding]:
    yield Finding("pixel-reasoner", Status.OK, f"{__version__} in {Path(__file__).parents[1]}")
    version = f"{platform.python_version()} on {platform.platform()}"
    is_new = sys.version_info >= (3, 11)
    yield Finding("Python", Status.OK if is_new else Status.BROKEN, version)
    names = "av numpy pillow pydantic torch transformers trl peft datasets huggingface_hub httpx2"
    found = [f"{name} {version}" for name in names.split() if (version := _version(name))]
    yield Finding("packages", Status.OK, ", ".join(found))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _bundled_model() -> Iterator[Finding]:
    for name, folder in BUNDLED_MODELS.items():
        has_weights = (folder / "model.safetensors").is_file()
        detail = str(folder) if has_weights else f"no model.safetensors in {folder}: install again"
        yield Finding(f"model {name}", Status.OK if has_weights else Status.BROKEN, detail)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    available = _available_memory_gib() or total
    status = Status.OK if available >= MIN_MEMORY_GIB else Status.BROKEN
    cores = f"{os.cpu_count()} CPU cores"
    yield Finding("memory", status, f"{available:.1f} of {total:.1f} GiB available, {cores}")


def _available_memory_gib() -> float | None:
    """Return the available memory; None if the operating system does not report it (macOS)."""
    table = Path("/proc/meminfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else int(kib) * 1024 / GIB


def _devices() -> Iterator[Finding]:
    if find_spec("torch") is None:
        return  # reported by `_extras`
    import torch

    yield Finding("device cpu", Status.OK, f"{torch.get_num_threads()} threads")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        detail = f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        yield Finding(f"device cuda:{number}", Status.OK, detail)
    if not torch.cuda.is_available():
        built = f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else ""
        detail = f"no usable GPU. {built or 'PyTorch is built without CUDA'}"
        yield Finding("device cuda", Status.MISSING, detail)


def _images() -> Iterator[Finding]:
    from PIL import features

    lacking = [name for name in _IMAGE_FEATURES if not features.check(name)]
    detail = (
        f"without {', '.join(lacking)}" if lacking else f"Pillow with {', '.join(_IMAGE_FEATURES)}"
    )
    yield Finding("images", Status.BROKEN if lacking else Status.OK, detail)


def _videos() -> Iterator[Finding]:
    """Encode and decode a clip, and check the decoders."""
    import av
    from PIL import Image

    from pixel_reasoner.media.videos import sample_video
    from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
    from pixel_reasoner.world import encode_clip

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        path.write_bytes(encode_clip([Image.new("RGB", (64, 48), (90, 90, 90))] * 4))
        frames = len(list(sample_video(path, DEFAULT_MEDIA_LIMITS)))
    lacking = [name for name in _DECODERS if name not in av.codecs_available]
    detail = f"encoded a clip and decoded {frames} frames"
    yield Finding("videos", Status.OK, detail)
    if lacking:
        yield Finding("decoders", Status.MISSING, f"no {', '.join(lacking)} in this build of PyAV")


def _fonts() -> Iterator[Finding]:
    from pixel_reasoner.world.fonts import scaled_font
    from pixel_reasoner.world.scene import FONTS

    for number in range(FONTS):
        scaled_font(12, number)
    yield Finding("fonts", Status.OK, f"{FONTS}, for pages of PixelWorld")


def _write_access() -> Iterator[Finding]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for name, folder in (
        ("this folder", Path.cwd()),
        ("temporary files", Path(tempfile.gettempdir())),
        ("cache", cache),
    ):
        existing = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(existing).free / GIB
        can_write = os.access(existing, os.W_OK)
        is_fine = can_write and free >= MIN_DISK_GIB
        detail = f"{folder}: {free:.1f} GiB free{'' if can_write else ', not writable'}"
        yield Finding(f"write: {name}", Status.OK if is_fine else Status.BROKEN, detail)


def _extras() -> Iterator[Finding]:
    for extra, (modules, commands) in EXTRAS.items():
        lacking = [name for name in modules if find_spec(name) is None]
        if lacking:
            detail = f"{commands}: no {', '.join(lacking)}; {install_command(extra)}"
            yield Finding(f"extra {extra}", Status.MISSING, detail)
        else:
            yield Finding(f"extra {extra}", Status.OK, commands)


def _plugins() -> Iterator[Finding]:
    for kind, name, place, error in installed_plugins():
        status = Status.OK if error is None else Status.BROKEN
        yield Finding(f"{kind} {name}", status, place if error is None else str(error))


def _engine(folder: Path) -> Iterator[Finding]:
    """Yield whether the engine runs the model in a folder. Only its config is read."""
    from pixel_reasoner.models.engine import fallback_note, folder_support

    reason = folder_support(folder)
    if reason is None:
        yield Finding("engine", Status.OK, f"runs {folder}")
    else:
        yield Finding("engine", Status.MISSING, fallback_note(reason))


def _endpoint(model: ModelSpec) -> Iterator[Finding]:
    served = model.connect()
    urls = ", ".join(endpoint.url for endpoint in served.pool.endpoints)
    detail = f"{urls} serves {model.name}, as {served.server.value}"
    yield Finding("endpoint", Status.OK, f"{detail}; `pixel-reasoner probe` tests what it supports")
