"""Views of training scenes: pixels as in a rollout, and files of them.

A view has the same pixels as a rollout's picture: clips pass through the video codec, crops through the same
resampling. Rendering takes a third of a training step of the vision tower, and all stages use the same views, so each is
rendered once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import av
import numpy as np
from PIL import Image
from rich.progress import track

from pixel_reasoner.data.parallel import map_in_order
from pixel_reasoner.files import write_json
from pixel_reasoner.media.resize import resize_region
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.world import Scene, encode_clip, v2
from pixel_reasoner.world.scene import Item

PICTURE_PX, CROP_PX, FRAME_PX, SELECTED_PX = 192, 160, 64, 224
"""sides of the four kinds of views, from `build.BUDGETS`"""
CROP_SIDE = 0.18
"""side of a training crop around an item, fraction of the picture: a shape and a margin"""
CROP_JITTER = 0.03
"""standard deviation of the offset of training crops, fraction of the picture"""
NUM_RANDOM_CROPS = 2
"""random crops per picture"""

AnyScene = Scene | v2.Scene
S = TypeVar("S", bound=AnyScene)


class View(NamedTuple):
    """Pixels of one picture in the model's input format, and the scene that they show."""

    pixels: np.ndarray
    """(side, side, 3) uint8"""
    scene: AnyScene
    box: Box
    """region of the scene"""
    frame: int = 0
    """frame number, 0 for pictures"""
    item: Item | None = None
    """item at the centre of a crop or a selected frame"""


class ViewKind(NamedTuple, Generic[S]):
    """Group of views that are rendered together."""

    name: str
    render: Callable[[S], tuple[list[np.ndarray], ...]]
    """scene -> the views for each array"""
    arrays: tuple[tuple[str, int, Callable[[S], int]], ...]
    """name, side in pixels, and function that counts a scene's views"""


def render_views(kind: ViewKind[S], scenes: Sequence[S], folder: Path, workers: int) -> None:
    """Render the views of scenes into arrays, `NAME.npy`, unless they exist."""
    done = folder / f"{kind.name}.json"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rendered = map_in_order(kind.render, scenes, workers)
    shapes = [(sum(map(count, scenes)), side) for _, side, count in kind.arrays]
    names = [name for name, _, _ in kind.arrays]
    _fill(folder, names, shapes, track(rendered, kind.name, len(scenes)))
    write_json({"scenes": len(scenes)}, done)


def open_views(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a folder by name."""
    return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}


def first_views(scenes: Sequence[S], count: Callable[[S], int]) -> list[int]:
    """Return the index of the first view of each scene in an array of `count(scene)` views per scene."""
    return [0, *np.cumsum([count(scene) for scene in scenes])]


def crop_box(scene: AnyScene, item: Item) -> Box:
    """Return the box of a training crop: around its item, with jitter."""
    rng = scene.rng(f"crop/{item.name}")
    side = max(CROP_SIDE, round(item.size + 0.005, 2))
    x1, y1 = (
        min(max(_start(middle, side) + rng.gauss(0, CROP_JITTER), 0.0), 1 - side)
        for middle in (item.x, item.y)
    )
    return Box(x1, y1, x1 + side, y1 + side)


def random_boxes(scene: AnyScene) -> list[Box]:
    """Return random squares of 0.15 to 0.55 of the picture."""
    rng = scene.rng("strays")
    sides = [rng.uniform(0.15, 0.55) for _ in range(NUM_RANDOM_CROPS)]
    corners = [(rng.uniform(0, 1 - side), rng.uniform(0, 1 - side), side) for side in sides]
    return [Box(x, y, x + side, y + side) for x, y, side in corners]


def decode_frames(frames: Iterator[Image.Image]) -> list[Image.Image]:
    """Return frames after the video codec."""
    with av.open(io.BytesIO(encode_clip(list(frames))), "r") as clip:
        return [frame.to_image() for frame in clip.decode(video=0)]


def pixels_of(image: Image.Image, box: Box, side: int) -> np.ndarray:
    """Return the pixels of a region as a square view."""
    return np.asarray(resize_region(image, box, (side, side)))


def picture_views(image: Image.Image, scene: AnyScene) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the overview of a picture, and the crops around its items."""
    crops = [pixels_of(image, crop_box(scene, item), CROP_PX) for item in scene.items]
    return [pixels_of(image, WHOLE, PICTURE_PX)], crops


def clip_views(
    frames: list[Image.Image], selected: Iterable[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return all frames at overview size, and selected ones by number, from 1."""
    overview = [pixels_of(frame, WHOLE, FRAME_PX) for frame in frames]
    return overview, [pixels_of(frames[number - 1], WHOLE, SELECTED_PX) for number in selected]


def random_views(image: Image.Image, scene: AnyScene) -> tuple[list[np.ndarray], ...]:
    """Return crops of any size at any position."""
    return ([pixels_of(image, box, CROP_PX) for box in random_boxes(scene)],)


def one_view(_: AnyScene) -> int:
    """Return the number of overviews of a picture."""
    return 1


def num_items(scene: AnyScene) -> int:
    """Return the number of crops of a picture."""
    return len(scene.items)


def num_random_crops(_: AnyScene) -> int:
    """Return the number of random crops of a picture."""
    return NUM_RANDOM_CROPS


def _start(middle: float, side: float) -> float:
    """Return the start of a crop with this centre."""
    return min(max(round(middle - side / 2, 2), 0.0), 1 - side)


def _fill(
    folder: Path,
    names: list[str],
    shapes: list[tuple[int, int]],
    rendered: Iterable[tuple[list[np.ndarray], ...]],
) -> None:
    """Render square views and write them to arrays one by one."""
    arrays = [
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (count, side, side, 3))
        for name, (count, side) in zip(names, shapes, strict=True)
    ]
    at = [0] * len(names)
    for views in rendered:
        for kind, more in enumerate(views):
            for pixels in more:
                arrays[kind][at[kind]] = pixels
                at[kind] += 1
