"""Transformed pictures: pixels are transformed exactly, and boxes on them are mapped back to the source."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner.errors import InputError, PluginError, UnknownNameError
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.resize import resize_region
from pixel_reasoner.media.transforms import (
    TRANSFORMS,
    apply_transforms,
    check_transforms,
    source_box,
    transform,
    transformed_size,
    untransformed_size,
)
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.settings import PixelBudget
from pixel_reasoner.schema.trace import Observation, StopReason, Trace, Transform, Turn
from test_media_context import BUDGETS, boxes, build_question, context_of, same

WIDTH, HEIGHT = 96, 48
"""sides of which every test box is a whole number of pixels"""

transforms = st.lists(
    st.integers(-5, 5).map(lambda n: Transform(name="rotate", arguments={"quarter_turns": n}))
    | st.sampled_from(["horizontal", "vertical"]).map(
        lambda axis: Transform(name="flip", arguments={"axis": axis})
    ),
    max_size=3,
)


def crop(image: Image.Image, box: Box) -> Image.Image:
    width, height = image.size
    sides = (box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height)
    return image.crop(tuple(map(round, sides)))


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "a.png"
    values = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


@settings(deadline=None)
@given(transforms, boxes())
def test_a_crop_of_a_transformed_picture_is_the_transformed_crop_of_the_source(noise, chain, box):
    image = Image.open(noise)
    transformed = apply_transforms(image, chain)
    region = source_box(box, chain)
    assert same(crop(transformed, box), apply_transforms(crop(image, region), chain))
    assert transformed.size == transformed_size(image.size, chain)
    assert untransformed_size(transformed.size, chain) == image.size


@settings(deadline=None, max_examples=60)
@given(transforms, boxes(), transforms, boxes())
def test_a_zoom_into_a_transformed_picture_inherits_its_transforms(
    noise, first, outer, second, inner
):
    context = MediaContext(build_question(("image", noise)), UNSCALED)
    parent = context.add_region(1, outer, first)
    child = context.add_region(parent.number, inner, second)
    assert child.transforms == (*first, *second)
    region = source_box(inner, first).within(outer)
    assert child.box == pytest.approx(region)
    expected = apply_transforms(crop(Image.open(noise), outer), first)
    if all(side >= 1 for side in (outer.area * WIDTH * HEIGHT, inner.area * WIDTH * HEIGHT)):
        assert same(context.pixels(parent.number), expected)
    assert context.view(child.number).size == child.seen_px
    assert context.pixels(child.number).size == transformed_size(child.source_px, child.transforms)


@settings(deadline=None, max_examples=40)
@given(transforms, boxes())
def test_a_view_is_scaled_from_the_source_and_then_transformed(noise, chain, box):
    context = context_of(("image", noise))
    picture = context.add_region(1, box, chain)
    size = untransformed_size(picture.seen_px, chain)
    scaled = resize_region(Image.open(noise), box, size)
    assert same(context.view(picture.number), apply_transforms(scaled, chain))


def test_a_region_size_refers_to_the_transformed_picture(noise):
    context = context_of(("image", noise))
    quarter = Transform(name="rotate", arguments={"quarter_turns": 1})
    turned = context.add_region(1, WHOLE, [quarter])
    assert context.region_size(1, Box(0, 0, 0.5, 1)) == (48, 48)
    assert context.region_size(turned.number, Box(0, 0, 0.5, 1)) == (24, 96)


def test_a_quarter_turn_is_clockwise(noise):
    context = MediaContext(build_question(("image", noise)), UNSCALED)
    quarter = Transform(name="rotate", arguments={"quarter_turns": 1})
    turned = context.view(context.add_region(1, WHOLE, [quarter]).number)
    assert turned.getpixel((HEIGHT - 1, 0)) == context.view(1).getpixel((0, 0))


def test_a_pixel_budget_of_an_operation_is_applied(noise):
    own = PixelBudget(min_px=64 * 64, max_px=64 * 64)
    picture = context_of(("image", noise)).add_region(1, Box(0, 0, 0.5, 1), budget=own)
    assert picture.seen_px == (64, 64)


def test_a_trace_with_transforms_is_replayed_through_its_json(noise):
    context = context_of(("image", noise))
    quarter = Transform(name="rotate", arguments={"quarter_turns": 1})
    first = tuple(context.pictures)
    turned = context.add_region(1, Box(0, 0, 0.5, 1), [quarter])
    inner = context.add_crop(turned.number, Box(0, 0, 1, 0.5))
    observation = Observation(text="", pictures=(turned, inner))
    trace = Trace(
        question=context.question,
        pictures=first,
        turns=(Turn(text="", observations=(observation,)),),
        stop=StopReason.ANSWERED,
    )
    again = MediaContext.of_trace(Trace.from_line(trace.to_line()), BUDGETS)
    assert again.pictures == context.pictures
    assert all(same(again.view(n), context.view(n)) for n in range(1, len(context) + 1))


def test_the_error_of_an_unknown_transform_lists_the_known_ones():
    assert TRANSFORMS.names()[:2] == ["rotate", "flip"]
    with pytest.raises(UnknownNameError, match="use 'rotate'"):
        apply_transforms(Image.new("RGB", (2, 2)), [Transform(name="rotat")])


def test_a_trace_with_a_transform_of_a_missing_package_names_the_fix():
    with pytest.raises(
        InputError,
        match=r"'gone', whose package is not installed\. Fix: install the package that provid",
    ):
        check_transforms([Transform(name="gone")])


@given(boxes(), boxes())
def test_relative_coordinates_are_the_inverse_of_within(inner, outer):
    assert inner.within(outer).relative_to(outer) == pytest.approx(inner)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda image: image.convert("L"), r"4 x 3 px; got L, 4 x 3 px"),
        (lambda image: image.resize((3, 3)), r"4 x 3 px; got RGB, 3 x 3 px"),
        (lambda image: None, r"got NoneType"),
        (lambda image: 1 / 0, r"got ZeroDivisionError: division by zero"),
    ],
)
def test_a_transform_that_returns_no_picture_of_the_right_size_is_named(result, message):
    def odd(image):
        return result(image)

    transform(odd)
    try:
        with pytest.raises(PluginError, match=message):
            apply_transforms(Image.new("RGB", (4, 3)), [Transform(name="odd")])
    finally:
        TRANSFORMS.unregister("odd")
