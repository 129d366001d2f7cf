"""Loading of processors and weights, with errors for incomplete model folders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor

from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.models.folder import DTYPES


def check_device(device: str) -> None:
    """Raise an error unless a device is available on this machine.

    Raises:
        UsageError: an invalid device name, or a device that PyTorch cannot use here.

    >>> check_device("foo")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected --device cpu, cuda, cuda:1, mps, ...; got 'foo'. Fix: use one of these, or omit it
    """
    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            expected="--device cpu, cuda, cuda:1, mps, ...",
            got=repr(device),
            fix="use one of these, or omit it",
        ) from error
    available = _available_devices()
    types = {name.partition(":")[0] for name in available}
    if str(asked) not in available and (asked.index or asked.type not in types):
        raise UsageError(
            expected=f"a device of this machine: {', '.join(available)}",
            got=f"--device {device}",
            fix="give one of these"
            + (
                "" if asked.type in types else "; a GPU needs its driver and a PyTorch built for it"
            ),
        )


def _available_devices() -> list[str]:
    """Return the devices that PyTorch can use here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{n}" for n in range(torch.accelerator.device_count()))]


def check_dtype(dtype: str | None) -> None:
    """Raise `UsageError` unless a dtype is one of `DTYPES` or None."""
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(
            expected=f"--dtype {', '.join(DTYPES)}",
            got=dtype,
            fix="use one of these, or omit it",
        )


def load_processor(where: str) -> Any:
    """Return the processor of a folder or hub id: tokenizer, image processor and chat template.

    Raises:
        ModelError: one of the three is missing, or the tokenizer has no end token.
    """
    try:
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=False)
    except Exception as error:
        raise _unusable(where, "processor and tokenizer files", error) from error
    if getattr(processor, "image_processor", None) is None:
        raise _unusable(where, "an image processor", "text files only")
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise _unusable(where, "a chat template (chat_template.jinja)", "none")
    if not processor.chat_template:  # the processor of Phi-4 takes none
        processor.chat_template = processor.tokenizer.chat_template
    if processor.tokenizer.pad_token is None:  # padding is masked, so any token works
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    if processor.tokenizer.pad_token is None:
        raise _unusable(where, "a tokenizer with an end token (eos_token)", "none")
    return processor


def load_weights(where: str, dtype: str | None, device: str) -> Any:
    """Return the model of a folder or hub id, on a device.

    Args:
        where: folder or hub id.
        dtype: one of `DTYPES`; None for the dtype of the stored weights, or float32 on a CPU without 16-bit products.
        device: device of the model.

    Raises:
        ModelError: missing or incomplete weights.
        UsageError: an unknown dtype.
    """
    check_dtype(dtype)
    try:
        model, info = AutoModelForMultimodalLM.from_pretrained(
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
        model = model.float()  # CPUs have no float16 matrix products
    return model.to(device)


def _default_dtype(device: str) -> str:
    if torch.device(device).type != "cpu" or has_16_bit_products():
        return "auto"
    return "float32"


def has_16_bit_products() -> bool:
    """Return whether this CPU has bfloat16 instructions (AVX512-BF16, AMX), which at least double the speed of a prefill."""
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
    """Return a hash of the names, sizes, first and last bytes of the weight files. Fast, and distinct in practice."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:16]
