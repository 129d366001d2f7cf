"""Sizes: within the pixel budget, whole multiples, closest aspect ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st
from PIL import Image

from pixel_reasoner.media.resize import fit_size, region_px, resize_region
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.settings import PixelBudget

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)
multiples = st.sampled_from([14, 28, 32])


@st.composite
def budgets(draw) -> PixelBudget:
    """Draw budgets of at least four multiples and a range of at least a factor of four."""
    max_px = draw(st.integers(16 * 32 * 32, 4096 * 32 * 32))
    return PixelBudget(min_px=draw(st.integers(1, max_px // 4)), max_px=max_px)


@given(sizes, budgets(), multiples)
def test_sides_are_whole_multiples_within_the_budget(size, budget, multiple):
    fitted = fit_size(size, budget, multiple)
    assert all(side > 0 and side % multiple == 0 for side in fitted)
    assert math.prod(fitted) <= budget.max_px


@given(st.tuples(sides, sides), budgets(), multiples)
def test_the_smallest_size_is_reached_for_ordinary_shapes(size, budget, multiple):
    assume(max(size) <= 4 * min(size))
    assert math.prod(fit_size(size, budget, multiple)) >= budget.min_px


@given(sizes, budgets(), multiples)
def test_fitting_a_fitted_size_changes_nothing(size, budget, multiple):
    fitted = fit_size(size, budget, multiple)
    assume(math.prod(fitted) >= budget.min_px)
    assert fit_size(fitted, budget, multiple) == fitted


@given(sizes, budgets(), multiples)
def test_width_and_height_are_symmetric(size, budget, multiple):
    assume(size[0] != size[1])
    width, height = fit_size(size, budget, multiple)
    turned = fit_size(size[::-1], budget, multiple)
    assert turned == (height, width) or width == height


@given(st.tuples(st.integers(64, 4000), st.integers(64, 4000)), budgets())
def test_the_aspect_ratio_is_kept_within_one_multiple_per_side(size, budget):
    assume(max(size) <= 4 * min(size))
    width, height = fit_size(size, budget, 32)
    assume(min(width, height) > 32)
    shape = size[0] / size[1]
    assert (width - 32) / (height + 32) < shape < (width + 32) / (height - 32)


spans = st.lists(st.integers(0, 10_000), min_size=2, max_size=2, unique=True).map(sorted)


@given(sizes, spans, spans)
def test_a_region_covers_its_box_inside_the_picture(size, across, down):
    (x1, x2), (y1, y2) = ([number / 10_000 for number in span] for span in (across, down))
    left, top, right, bottom = region_px(size, Box(x1, y1, x2, y2))
    width, height = size
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    near = 1e-5
    assert left - near <= x1 * width
    assert x2 * width <= right + near
    assert top - near <= y1 * height
    assert y2 * height <= bottom + near


@pytest.mark.parametrize("size", [(64, 64), (10, 10), (20, 60)])
def test_a_crop_is_the_region_at_the_requested_size(size):
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[20:, 20:] = (10, 200, 30)
    image = resize_region(Image.fromarray(pixels), Box(0.5, 0.5, 1, 1), size)
    assert image.size == size
    # Scaling blends a few pixels of the surroundings into the border.
    inner = np.asarray(image)[size[1] // 3 :, size[0] // 3 :]
    assert np.allclose(inner, (10, 200, 30), atol=2)


def test_a_picture_of_the_requested_size_is_not_changed():
    image = Image.effect_noise((64, 32), 60).convert("RGB")
    assert resize_region(image, WHOLE, (64, 32)).tobytes() == image.tobytes()
