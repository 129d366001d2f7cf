"""Time of attention in training on a CPU: torch's fused attention against products of matrices, forwards and backwards.

    python benchmarks/training_attention.py [--threads 1]

Each line has the best of some runs, alternating, in milliseconds. Lengths are those of the bundled model's language model
(causal) and vision tower.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from pixel_reasoner.models.matmul_attention import matmul_attention

DIM = 32
SCALING = DIM**-0.5
CASES = (
    ("language model", 6, 4, 256, True),
    ("language model", 4, 4, 640, True),
    ("language model", 3, 4, 1440, True),
    ("vision tower", 24, 8, 144, False),
    ("vision tower", 16, 8, 64, False),
)
"""name, examples, heads, tokens, causal"""
RUNS = 8


def main(threads: int) -> None:
    """Print one line per case and type."""
    torch.set_num_threads(threads)
    for name, examples, heads, length, causal in CASES:
        for dtype in (torch.bfloat16, torch.float32):
            inputs = [
                torch.randn(examples, heads, length, DIM, dtype=dtype, requires_grad=True)
                for _ in range(3)
            ]
            ways: dict[str, Callable[[], torch.Tensor]] = {
                "fused": lambda inputs=inputs, causal=causal: F.scaled_dot_product_attention(
                    *inputs, is_causal=causal, scale=SCALING
                ),
                "matrices": lambda inputs=inputs, causal=causal: matmul_attention(
                    *inputs, SCALING, causal=causal
                ),
            }
            best = dict.fromkeys(ways, float("inf"))
            for _ in range(RUNS):
                for way, attend in ways.items():
                    start = time.perf_counter()
                    out = attend()
                    torch.autograd.grad(out.float().sum(), inputs)
                    best[way] = min(best[way], 1000 * (time.perf_counter() - start))
            ratio = best["fused"] / best["matrices"]
            print(
                f"{name}: {examples} x {heads} heads x {length} tokens, {dtype}: "
                f"fused {best['fused']:.1f} ms, matrices {best['matrices']:.1f} ms, ratio {ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args().threads)
