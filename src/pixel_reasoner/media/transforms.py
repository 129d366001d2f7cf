"""Transforms of a region after cropping: rotations by quarter turns, and flips.

A `Picture` stores its region as a box of the untransformed source. A box on the transformed picture is mapped back to
that source, so a crop of a rotated picture uses the original pixels.

    t = Transform(name="rotate", arguments={"quarter_turns": 1})
    source_box(box_on_the_rotated_picture, [t])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.registry import Registry
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.trace import Transform


@dataclass(frozen=True)
class TransformSpec:
    """Transform that maps boxes to boxes."""

    name: str
    apply: Callable[..., Image.Image]
    """(image, **arguments) -> transformed image"""
    source_box: Callable[..., Box]
    """(box on the transformed picture, **arguments) -> box on the untransformed picture"""
    swaps_sides: Callable[..., bool]
    """(**arguments) -> whether width and height are exchanged"""


TRANSFORMS = Registry[TransformSpec]("transform")


def check_transforms(transforms: Sequence[Transform]) -> None:
    """Raise an error unless transforms, for example from a file, can be applied.

    Raises:
        InputError: an unknown transform or invalid arguments.
    """
    for transform in transforms:
        try:
            TRANSFORMS.get(transform.name).source_box(WHOLE, **transform.arguments)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InputError(
                expected=f"transforms of pictures: {', '.join(sorted(TRANSFORMS))}",
                got=f"{transform.name}: {error}",
                fix="run the question again, or install the package that adds this transform",
            ) from error


def apply_transforms(image: Image.Image, transforms: Sequence[Transform]) -> Image.Image:
    """Apply transforms to an image in order.

    >>> turn = Transform(name="rotate", arguments={"quarter_turns": 1})
    >>> apply_transforms(Image.new("RGB", (4, 3)), [turn]).size
    (3, 4)
    """
    for transform in transforms:
        image = TRANSFORMS.get(transform.name).apply(image, **transform.arguments)
    return image


def source_box(box: Box, transforms: Sequence[Transform]) -> Box:
    """Map a box on the transformed picture to the untransformed picture.

    >>> source_box(Box(0, 0, 0.5, 1), [Transform(name="flip", arguments={"axis": "horizontal"})])
    Box(x1=0.5, y1=0, x2=1, y2=1)
    """
    for transform in reversed(transforms):
        box = TRANSFORMS.get(transform.name).source_box(box, **transform.arguments)
    return box


def transformed_size(size: Size, transforms: Sequence[Transform]) -> Size:
    """Return the (width, height) of a picture after transforms."""
    for transform in transforms:
        if TRANSFORMS.get(transform.name).swaps_sides(**transform.arguments):
            size = size[1], size[0]
    return size


def untransformed_size(size: Size, transforms: Sequence[Transform]) -> Size:
    """Return the (width, height) of a picture before transforms.

    >>> untransformed_size((3, 4), [Transform(name="rotate", arguments={"quarter_turns": 1})])
    (4, 3)
    """
    return transformed_size(size, transforms)  # swapping sides is its own inverse


_CLOCKWISE = {
    1: Image.Transpose.ROTATE_270,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_90,
}


def _rotate(image: Image.Image, quarter_turns: int) -> Image.Image:
    turns = quarter_turns % 4
    return image.transpose(_CLOCKWISE[turns]) if turns else image


def _unrotate_box(box: Box, quarter_turns: int) -> Box:
    for _ in range(quarter_turns % 4):
        box = Box(box.y1, 1 - box.x2, box.y2, 1 - box.x1)
    return box


def _rotation_swaps(quarter_turns: int) -> bool:
    return quarter_turns % 2 == 1


def _flip(image: Image.Image, axis: str) -> Image.Image:
    horizontal = axis == "horizontal"
    return image.transpose(
        Image.Transpose.FLIP_LEFT_RIGHT if horizontal else Image.Transpose.FLIP_TOP_BOTTOM
    )


def _unflip_box(box: Box, axis: str) -> Box:
    if axis == "horizontal":
        return Box(1 - box.x2, box.y1, 1 - box.x1, box.y2)
    return Box(box.x1, 1 - box.y2, box.x2, 1 - box.y1)


def _never_swaps(**arguments: Any) -> bool:
    del arguments
    return False


ROTATE = TRANSFORMS.register(
    "rotate", TransformSpec("rotate", _rotate, _unrotate_box, _rotation_swaps)
)
"""clockwise rotation; `quarter_turns` is an integer"""
FLIP = TRANSFORMS.register("flip", TransformSpec("flip", _flip, _unflip_box, _never_swaps))
"""mirroring; `axis` is `horizontal` (left and right) or `vertical` (top and bottom)"""
