"""Transforms of a region after cropping: rotations by quarter turns, flips, and those of plug-ins.

A `Picture` stores its region as a box of the untransformed source, and the names and arguments of its transforms. A box
on the transformed picture is mapped back to that source, so a crop of a rotated picture uses the original pixels. A
trace contains no pixels: they are computed again, so a transform must always return the same pixels.

    t = Transform(name="rotate", arguments={"quarter_turns": 1})
    source_box(box_on_the_rotated_picture, [t])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

from PIL import Image

from pixel_reasoner.errors import InputError, PluginError, one_line
from pixel_reasoner.plugin_checks import is_instance
from pixel_reasoner.registry import Registry
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.trace import Transform


def _same_box(box: Box, **arguments: Any) -> Box:
    del arguments
    return box


def _never_swaps(**arguments: Any) -> bool:
    del arguments
    return False


@dataclass(frozen=True)
class TransformSpec:
    """Specification of one transform. The defaults are right where every pixel stays in its place."""

    name: str
    apply: Callable[..., Image.Image]
    """(RGB image, **arguments) -> transformed RGB image"""
    source_box: Callable[..., Box] = _same_box
    """(box on the transformed picture, **arguments) -> box on the untransformed picture"""
    swaps_sides: Callable[..., bool] = _never_swaps
    """(**arguments) -> whether width and height are exchanged"""
    of_crop: Callable[..., dict[str, Any]] | None = None
    """(box on the transformed picture, **arguments) -> arguments for a crop of that box; None: the same arguments"""


TRANSFORMS = Registry[TransformSpec](
    "transform",
    package="pixel_reasoner.media.effects",
    check=is_instance("transform", TransformSpec, "@transform"),
)


@overload
def transform(apply: Callable[..., Image.Image]) -> TransformSpec: ...
@overload
def transform(**fields: Any) -> Callable[[Callable[..., Image.Image]], TransformSpec]: ...
def transform(apply: Callable[..., Image.Image] | None = None, **fields: Any) -> Any:
    """Register a function of an image as a transform; the decorated name is its `TransformSpec`.

    Args:
        apply: (RGB image, **arguments) -> RGB image of the same size, computed from its arguments alone.
        fields: other fields of `TransformSpec`, where pixels move.

    Raises:
        PluginError: a name that is taken.

    >>> from PIL import ImageOps
    >>> @transform
    ... def negative(image: Image.Image) -> Image.Image:
    ...     return ImageOps.invert(image)
    >>> apply_transforms(Image.new("RGB", (4, 3), "white"), [Transform(name="negative")]).getpixel((0, 0))
    (0, 0, 0)
    >>> TRANSFORMS.unregister("negative")
    """
    if apply is None:
        return lambda function: transform(function, **fields)
    return TRANSFORMS.register(apply.__name__, TransformSpec(apply.__name__, apply, **fields))


def check_transforms(transforms: Sequence[Transform]) -> None:
    """Raise an error unless transforms, for example from a file, can be applied.

    Raises:
        InputError: an unknown transform or invalid arguments.
    """
    for one in transforms:
        if one.name not in TRANSFORMS:
            raise _missing_transform(one.name)
        try:
            TRANSFORMS.get(one.name).source_box(WHOLE, **one.arguments)
        except PluginError:
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InputError(
                expected=f"transforms of pictures: {', '.join(sorted(TRANSFORMS))}",
                got=f"{one.name}: {error}",
                fix="run the question again with the current version of its package",
            ) from error


def _missing_transform(name: str) -> InputError:
    return InputError(
        expected=f"transforms of pictures: {', '.join(TRANSFORMS)}",
        got=f"the transform {name!r}, whose package is not installed",
        fix="install the package that provides it; it is the one with the operation that was called",
    )


def apply_transforms(image: Image.Image, transforms: Sequence[Transform]) -> Image.Image:
    """Apply transforms to an image in order.

    Raises:
        PluginError: a transform fails, or returns no RGB image of the expected size.

    >>> turn = Transform(name="rotate", arguments={"quarter_turns": 1})
    >>> apply_transforms(Image.new("RGB", (4, 3)), [turn]).size
    (3, 4)
    """
    for one in transforms:
        image = _apply(image, one)
    return image


def _apply(image: Image.Image, step: Transform) -> Image.Image:
    spec, size = TRANSFORMS.get(step.name), transformed_size(image.size, [step])
    try:
        result = spec.apply(image, **step.arguments)
    except Exception as error:
        raise _bad_transform(step, size, f"{type(error).__name__}: {one_line(error)}") from error
    if not isinstance(result, Image.Image):
        raise _bad_transform(step, size, type(result).__name__)
    if result.mode != "RGB" or result.size != size:
        raise _bad_transform(step, size, f"{result.mode}, {result.width} x {result.height} px")
    return result


def _bad_transform(step: Transform, size: Size, got: str) -> PluginError:
    return PluginError(
        expected=f"the transform {step.name} to return an RGB image of {size[0]} x {size[1]} px",
        got=got,
        fix="correct the function of the package that adds it",
    )


def source_box(box: Box, transforms: Sequence[Transform]) -> Box:
    """Map a box on the transformed picture to the untransformed picture.

    >>> source_box(Box(0, 0, 0.5, 1), [Transform(name="flip", arguments={"axis": "horizontal"})])
    Box(x1=0.5, y1=0, x2=1, y2=1)
    """
    for one in reversed(transforms):
        box = TRANSFORMS.get(one.name).source_box(box, **one.arguments)
    return box


def crop_through(box: Box, transforms: Sequence[Transform]) -> tuple[Box, tuple[Transform, ...]]:
    """Map a box on the transformed picture to the untransformed picture, with the transforms of a crop of that box.

    >>> crop_through(Box(0, 0, 0.5, 1), [Transform(name="rotate", arguments={"quarter_turns": 2})])
    (Box(x1=0.5, y1=0, x2=1, y2=1), (Transform(name='rotate', arguments={'quarter_turns': 2}),))
    """
    kept: list[Transform] = []
    for one in reversed(transforms):
        spec = TRANSFORMS.get(one.name)
        if spec.of_crop is not None:
            arguments = spec.of_crop(box, **one.arguments)
            kept.insert(0, Transform(name=one.name, arguments=arguments))
        else:
            kept.insert(0, one)
        box = spec.source_box(box, **one.arguments)
    return box, tuple(kept)


def transformed_size(size: Size, transforms: Sequence[Transform]) -> Size:
    """Return the (width, height) of a picture after transforms."""
    for one in transforms:
        if TRANSFORMS.get(one.name).swaps_sides(**one.arguments):
            size = size[1], size[0]
    return size


def untransformed_size(size: Size, transforms: Sequence[Transform]) -> Size:
    """Return the (width, height) of a picture before transforms.

    >>> untransformed_size((3, 4), [Transform(name="rotate", arguments={"quarter_turns": 1})])
    (4, 3)
    """
    return transformed_size(size, transforms)  # swapping sides is its own inverse


_GREY = (128, 128, 128)
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


ROTATE = TRANSFORMS.register(
    "rotate", TransformSpec("rotate", _rotate, _unrotate_box, _rotation_swaps)
)
"""clockwise rotation; `quarter_turns` is an integer"""
FLIP = TRANSFORMS.register("flip", TransformSpec("flip", _flip, _unflip_box))
"""mirroring; `axis` is `horizontal` (left and right) or `vertical` (top and bottom)"""
BLANK = TRANSFORMS.register(
    "blank", TransformSpec("blank", lambda image: Image.new("RGB", image.size, _GREY))
)
"""grey pixels of the same size, for control conditions"""
