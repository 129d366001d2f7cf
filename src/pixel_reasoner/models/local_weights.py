"""Loading of processors and weights: which dtype, and what is missing in a folder that cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.models.folder import BUNDLED_MODELS

DTYPES = ("float32", "bfloat16", "float16")


def check_hub_id(source: str) -> None:
    """Raise `ModelError` for a name that is not shaped like `owner/name`; only such a name is looked up on the hub."""
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ModelError(
            expected=f"an embedded model ({', '.join(BUNDLED_MODELS)}), a model folder, or a hub id owner/name",
            got=f"{source!r}, which is no folder",
            fix="check the path",
        )


def load_processor(where: str) -> Any:
    """Return the processor of a folder or hub id: tokenizer, image processor and chat template.

    Raises:
        ModelError: one of the three is missing.
    """
    try:
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=False)
    except Exception as error:
        raise _unusable(where, "processor and tokenizer files", error) from error
    if getattr(processor, "image_processor", None) is None:
        raise _unusable(where, "an image processor", "text files only")
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise _unusable(where, "a chat template (chat_template.jinja)", "none")
    return processor


def load_weights(where: str, dtype: str | None, device: str) -> Any:
    """Return the model of a folder or hub id, on a device.

    Args:
        where: folder or hub id.
        dtype: one of `DTYPES`; None for the dtype of the stored weights, or float32 on a CPU without 16-bit products.
        device: to move it to.

    Raises:
        ModelError: there are no complete weights.
        UsageError: an unknown dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(
            expected=f"--dtype {', '.join(DTYPES)}",
            got=dtype,
            fix="name one of these, or leave it out",
        )
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            where,
            dtype=dtype or _default_dtype(device),
            output_loading_info=True,
            trust_remote_code=False,
        )
    except Exception as error:
        raise _unusable(where, "config.json and weights (model.safetensors)", error) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise _unusable(where, "complete weights", f"{len(missing)} missing, such as {missing[0]}")
    if dtype is None and device == "cpu" and model.dtype == torch.float16:
        model = model.float()  # no CPU multiplies float16
    return model.to(device)


def _default_dtype(device: str) -> str:
    if torch.device(device).type != "cpu" or has_16_bit_products():
        return "auto"
    return "float32"


def has_16_bit_products() -> bool:
    """Whether this CPU has instructions for bfloat16 (AVX512-BF16, AMX), which at least double the speed of a prefill."""
    has = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in has)


def _unusable(where: str, what: str, why: object) -> ModelError:
    lines = str(why).strip().splitlines() or [type(why).__name__]
    return ModelError(
        expected=f"a model folder or hub id with {what}",
        got=f"{where}: {lines[0][:300]}",
        fix="copy the whole folder of an image-text-to-text model, or name another",
    )


def weights_fingerprint(folder: Path) -> str:
    """Return a hash of names, sizes and both ends of the weight files: cheap for any size, and different in practice."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:16]
