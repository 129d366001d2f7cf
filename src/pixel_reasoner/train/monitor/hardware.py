"""Peak FLOP/s, memory and bandwidth of devices, and memory of this process. Does not need a GPU.

Peaks are those of dense matrix products in 16 bits (bf16, or fp16 where a GPU has no bf16) from the data sheets of the
vendors. Real products reach 70 to 80 % of them. A GPU that is not listed, and a CPU, are measured with a matrix
product: then 100 % of the peak is about what a program can reach.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

GIB = 2**30


class Gpu(NamedTuple):
    """Data sheet of a GPU."""

    peak_flops: float
    """of dense 16-bit matrix products, per second"""
    memory_gib: float
    bytes_per_s: float
    """bandwidth of its memory"""


GPUS = {
    "B200": Gpu(2250e12, 180, 8000e9),
    "H200": Gpu(989e12, 141, 4800e9),
    "H100 NVL": Gpu(835e12, 94, 3900e9),
    "H100 PCIe": Gpu(756e12, 80, 2000e9),
    "H100": Gpu(989e12, 80, 3350e9),
    "H800": Gpu(989e12, 80, 3350e9),
    "H20": Gpu(148e12, 96, 4000e9),
    "GH200": Gpu(989e12, 96, 4000e9),
    "A100": Gpu(312e12, 80, 2039e9),
    "A800": Gpu(312e12, 80, 2039e9),
    "L40S": Gpu(362e12, 48, 864e9),
    "L40": Gpu(181e12, 48, 864e9),
    "L20": Gpu(119.5e12, 48, 864e9),
    "L4": Gpu(121e12, 24, 300e9),
    "A40": Gpu(149.7e12, 48, 696e9),
    "A10G": Gpu(70e12, 24, 600e9),
    "A10": Gpu(125e12, 24, 600e9),
    "RTX 6000 Ada": Gpu(364e12, 48, 960e9),
    "RTX A6000": Gpu(154.8e12, 48, 768e9),
    "RTX 4090": Gpu(165.2e12, 24, 1008e9),
    "RTX 3090": Gpu(71e12, 24, 936e9),
    "V100": Gpu(125e12, 32, 900e9),
    "T4": Gpu(65e12, 16, 320e9),
    "MI300X": Gpu(1307e12, 192, 5300e9),
}
"""part of the name that the driver gives -> data sheet"""


def find_gpu(name: str) -> Gpu | None:
    """Return the data sheet of a GPU by the name that its driver gives; None if it is not listed.

    >>> find_gpu("NVIDIA H100 80GB HBM3").memory_gib, find_gpu("NVIDIA A10G").memory_gib
    (80, 24)
    >>> find_gpu("NVIDIA GH200 480GB").peak_flops == find_gpu("H200").peak_flops
    True
    >>> find_gpu("GeForce 256") is None
    True
    """
    words = f" {name.lower().replace('-', ' ')} "
    found = [key for key in GPUS if f" {key.lower()} " in words]
    return GPUS[max(found, key=len)] if found else None


def peak_flops(device: Any, dtype: Any, given_tflops: float = 0.0) -> float:
    """Return the peak FLOP/s of a device: given, of the data sheet, or measured.

    Args:
        device: a torch device.
        dtype: type in which the run computes; measured on a device without a data sheet.
        given_tflops: peak of the user, in TFLOP/s; 0 for none.
    """
    import torch

    if given_tflops:
        return given_tflops * 1e12
    if device.type == "cuda" and (gpu := find_gpu(torch.cuda.get_device_name(device))):
        return gpu.peak_flops
    return measure_flops(device, dtype)


def measure_flops(device: Any, dtype: Any, size: int = 1024, seconds: float = 0.1) -> float:
    """Return the FLOP/s of square matrix products: the fastest of those that fit into some seconds, after one."""
    import torch

    one = torch.ones((size, size), device=device, dtype=dtype)
    fastest, end = float("inf"), time.perf_counter() + seconds
    with torch.inference_mode():
        one @ one
        while True:
            synchronize(device)
            started = time.perf_counter()
            one @ one
            synchronize(device)
            fastest = min(fastest, time.perf_counter() - started)
            if time.perf_counter() > end:
                return 2 * size**3 / fastest


def synchronize(device: Any) -> None:
    """Wait for the kernels of a GPU, so that the clock measures them."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Return the largest resident memory of this process since its start, in bytes."""
    try:  # Linux: `ru_maxrss` would be at least the memory of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int:
    """Return the resident memory of this process, in bytes; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory()
    return pages * resource.getpagesize()
