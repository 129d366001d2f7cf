"""Rendered views of training scenes, in arrays on disk.

Rendering takes a third of a training step of the vision tower, and all stages use the same views, so each is rendered
once.
A view has the same pixels as a rollout's picture: clips pass through the video codec, crops through the same
resampling.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image
from rich.progress import track

from pixel_reasoner.files import write_json
from pixel_reasoner.media.resize import resize_region
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.world import Family, Scene, draw_frames, draw_picture, encode_clip, make_scene
from pixel_reasoner.world.scene import NUM_FRAMES, Item

PICTURE_PX, CROP_PX, FRAME_PX, SELECTED_PX = 192, 160, 64, 224
"""sides of the four kinds of views, from `build.BUDGETS`"""
CROP_SIDE = 0.18
"""side of a training crop around an item, fraction of the picture: a shape and a margin"""
CROP_JITTER = 0.03
"""standard deviation of the offset of training crops, fraction of the picture"""
NUM_RANDOM_CROPS = 2
"""random crops per picture"""


class View(NamedTuple):
    """Pixels of one picture in the model's input format, and the scene that they show."""

    pixels: np.ndarray
    """(side, side, 3) uint8"""
    scene: Scene
    box: Box
    """region of the scene"""
    frame: int = 0
    """frame number, 0 for pictures"""
    item: Item | None = None
    """item at the centre of a crop or a selected frame"""


class SceneCache:
    """Views of scenes of `attribute`, `infographic` and `video`, which cover the contents of all five families.

    Args:
        folder: folder of the arrays; missing ones are rendered.
        counts: family -> number of scenes, with seeds 0, 1, ...
        workers: rendering processes.
    """

    def __init__(self, folder: Path, counts: dict[Family, int], workers: int = 2) -> None:
        self.scenes = {
            family: [make_scene(family, seed) for seed in range(count)]
            for family, count in counts.items()
        }
        for kind in _KINDS:
            if not (folder / f"{kind.name}.json").exists():
                self._render(kind, folder, workers)
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
        self.crops = _first_index(self.scenes["attribute"], _num_items)
        self.page_crops = _first_index(self.scenes["infographic"], _num_items)
        self.selected = _first_index(self.scenes["video"], num_selected)

    def picture(self, index: int) -> View:
        """Return the overview of a picture."""
        scene = self.scenes["attribute"][index]
        return View(self.arrays["pictures"][index], scene, WHOLE)

    def crop(self, index: int, item: int) -> View:
        """Return a crop around one item of a picture, with jitter."""
        scene = self.scenes["attribute"][index]
        pixels = self.arrays["crops"][self.crops[index] + item]
        return View(pixels, scene, crop_box(scene, scene.items[item]), item=scene.items[item])

    def frame(self, index: int, number: int) -> View:
        """Return a frame of a clip at overview size."""
        scene = self.scenes["video"][index]
        return View(self.arrays["frames"][index * NUM_FRAMES + number - 1], scene, WHOLE, number)

    def selected_frame(self, index: int, item: int, nth: int) -> View:
        """Return the `nth` frame (from 0) that shows an item, at the size of a selected frame."""
        scene = self.scenes["video"][index]
        before = sum(len(other.frames) for other in scene.items[:item])
        pixels = self.arrays["selected"][self.selected[index] + before + nth]
        return View(pixels, scene, WHOLE, scene.items[item].frames[nth], scene.items[item])

    def page(self, index: int) -> View:
        """Return the overview of a page."""
        scene = self.scenes["infographic"][index]
        return View(self.arrays["pages"][index], scene, WHOLE)

    def page_crop(self, index: int, item: int) -> View:
        """Return a crop around one part of a page, with jitter."""
        scene = self.scenes["infographic"][index]
        pixels = self.arrays["page_crops"][self.page_crops[index] + item]
        return View(pixels, scene, crop_box(scene, scene.items[item]), item=scene.items[item])

    def random_crop(self, family: Family, index: int, nth: int) -> View:
        """Return a crop of any size at any position, as in a deliberate mistake of a trace."""
        scene = self.scenes[family][index]
        pixels = self.arrays[f"strays_{family}"][index * NUM_RANDOM_CROPS + nth]
        return View(pixels, scene, random_boxes(scene)[nth])

    def _render(self, kind: _Kind, folder: Path, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        scenes = self.scenes[kind.family]
        with ProcessPoolExecutor(workers) as pool:
            rendered = pool.map(kind.render, scenes, chunksize=16)
            shapes = [(sum(map(count, scenes)), side) for _, side, count in kind.arrays]
            names = [name for name, _, _ in kind.arrays]
            _fill(folder, names, shapes, track(rendered, kind.name, len(scenes)))
        write_json({"scenes": len(scenes)}, folder / f"{kind.name}.json")


def num_selected(scene: Scene) -> int:
    """Return the number of frames of a clip that show a card."""
    return sum(len(item.frames) for item in scene.items)


def crop_box(scene: Scene, item: Item) -> Box:
    """Return the box of a training crop: around its item, with jitter."""
    rng = scene.rng(f"crop/{item.name}")
    x1, y1 = (
        min(max(_start(middle) + rng.gauss(0, CROP_JITTER), 0.0), 1 - CROP_SIDE)
        for middle in (item.x, item.y)
    )
    return Box(x1, y1, x1 + CROP_SIDE, y1 + CROP_SIDE)


def _start(middle: float) -> float:
    """Return the start of a crop with this centre."""
    return min(max(round(middle - CROP_SIDE / 2, 2), 0.0), 1 - CROP_SIDE)


def random_boxes(scene: Scene) -> list[Box]:
    """Return random squares of 0.15 to 0.55 of the picture."""
    rng = scene.rng("strays")
    sides = [rng.uniform(0.15, 0.55) for _ in range(NUM_RANDOM_CROPS)]
    corners = [(rng.uniform(0, 1 - side), rng.uniform(0, 1 - side), side) for side in sides]
    return [Box(x, y, x + side, y + side) for x, y, side in corners]


def _random_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    image = draw_picture(scene)
    return ([_pixels(image, box, CROP_PX) for box in random_boxes(scene)],)


def _picture_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    image = draw_picture(scene)
    crops = [_pixels(image, crop_box(scene, item), CROP_PX) for item in scene.items]
    return [_pixels(image, WHOLE, PICTURE_PX)], crops


def _clip_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    with av.open(io.BytesIO(encode_clip(draw_frames(scene))), "r") as clip:
        frames = [frame.to_image() for frame in clip.decode(video=0)]
    overview = [_pixels(frame, WHOLE, FRAME_PX) for frame in frames]
    numbers = [number for item in scene.items for number in item.frames]
    return overview, [_pixels(frames[number - 1], WHOLE, SELECTED_PX) for number in numbers]


def _pixels(image: Image.Image, box: Box, side: int) -> np.ndarray:
    return np.asarray(resize_region(image, box, (side, side)))


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


class _Kind(NamedTuple):
    """Group of views that are rendered together."""

    name: str
    family: Family
    render: Callable[[Scene], tuple[list[np.ndarray], ...]]
    arrays: tuple[tuple[str, int, Callable[[Scene], int]], ...]
    """name, side in pixels, and function that counts a scene's views"""


def _one(_: Scene) -> int:
    return 1


def _num_items(scene: Scene) -> int:
    return len(scene.items)


def _num_frames(_: Scene) -> int:
    return NUM_FRAMES


def _num_random_crops(_: Scene) -> int:
    return NUM_RANDOM_CROPS


_KINDS = (
    _Kind(
        "pictures",
        "attribute",
        _picture_views,
        (("pictures", PICTURE_PX, _one), ("crops", CROP_PX, _num_items)),
    ),
    _Kind(
        "pages",
        "infographic",
        _picture_views,
        (("pages", PICTURE_PX, _one), ("page_crops", CROP_PX, _num_items)),
    ),
    _Kind(
        "clips",
        "video",
        _clip_views,
        (("frames", FRAME_PX, _num_frames), ("selected", SELECTED_PX, num_selected)),
    ),
    _Kind(
        "strays", "attribute", _random_views, (("strays_attribute", CROP_PX, _num_random_crops),)
    ),
    _Kind(
        "page_strays",
        "infographic",
        _random_views,
        (("strays_infographic", CROP_PX, _num_random_crops),),
    ),
)


def _first_index(scenes: list[Scene], count: Callable[[Scene], int]) -> list[int]:
    """Return the index of the first view of each scene in an array of `count(scene)` views per scene."""
    return [0, *np.cumsum([count(scene) for scene in scenes])]
