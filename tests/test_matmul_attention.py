"""Attention as products of matrices: equal to that of torch, forwards and backwards."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional as F

from pixel_reasoner.models.matmul_attention import BLOCK, matmul_attention, trainable_attention

LENGTHS = st.one_of(
    st.integers(1, 40), st.sampled_from((BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5))
)


@settings(max_examples=25, deadline=None)
@given(length=LENGTHS, heads=st.integers(1, 3), causal=st.booleans(), seed=st.integers(0, 9))
def test_output_and_gradients_equal_those_of_torch(length, heads, causal, seed):
    torch.manual_seed(seed)
    inputs = [torch.randn(2, heads, length, 8, requires_grad=True) for _ in range(3)]
    chosen = torch.randn(2, heads, length, 8)
    results = []
    for out in (
        matmul_attention(*inputs, 0.3, causal=causal),
        F.scaled_dot_product_attention(*inputs, is_causal=causal, scale=0.3),
    ):
        results.append((out, *torch.autograd.grad((out * chosen).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_under_autocast_products_have_16_bits_and_gradients_the_type_of_the_inputs():
    inputs = [torch.randn(1, 2, 5, 8, requires_grad=True) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        out = trainable_attention(*inputs, 0.3, causal=True)
    assert out.dtype == torch.bfloat16
    exact = F.scaled_dot_product_attention(*inputs, is_causal=True, scale=0.3)
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
    assert torch.autograd.grad(out.sum(), inputs)[0].dtype == torch.float32


@pytest.mark.parametrize("causal", [True, False])
def test_without_gradients_or_autocast_attention_is_that_of_torch(causal):
    inputs = torch.randn(3, 1, 2, 5, 8)
    out = trainable_attention(*inputs, 0.3, causal=causal)
    torch.testing.assert_close(
        out, F.scaled_dot_product_attention(*inputs, is_causal=causal, scale=0.3), rtol=0, atol=0
    )
