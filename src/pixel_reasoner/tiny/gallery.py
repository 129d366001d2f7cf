"""Rendered training views of many scenes, kept on disk as plain arrays.

Rendering is a third of the work of a vision step, and the same views serve every stage, so each is made once. A
view is what a model would see in a rollout: clips go through the video codec, crops through the same resampling.
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

from pixel_reasoner.budget import shown
from pixel_reasoner.files import write_json
from pixel_reasoner.tiny.lessons import LOOK_SIDE, look_box
from pixel_reasoner.trace import WHOLE, Box
from pixel_reasoner.world import Family, Scene, draw_frames, draw_picture, encode_clip, make_scene
from pixel_reasoner.world.scene import NUM_FRAMES, Item

PICTURE_PX, CROP_PX, FRAME_PX, SELECTED_PX = 192, 160, 64, 224
"""sides of the four kinds of view, those of `build.BUDGETS`"""
JITTER = 0.03
"""standard deviation by which training crops miss their item, share of the picture"""


class View(NamedTuple):
    """One picture as the model sees it, and what lies where in it."""

    pixels: np.ndarray
    """(side, side, 3) uint8"""
    scene: Scene
    box: Box
    """the region of the scene that is shown"""
    frame: int = 0
    """number of the frame, 0 for pictures"""
    item: Item | None = None
    """what a crop or a selected frame was made to show"""


class Gallery:
    """All views of the training scenes of both families.

    Args:
        folder: where the arrays lie; rendered there if they are missing.
        num_pictures: scenes of family `attribute`, seeds 0, 1, ...
        num_clips: scenes of family `video`, seeds 0, 1, ...
        workers: rendering processes.
    """

    def __init__(self, folder: Path, num_pictures: int, num_clips: int, workers: int = 2) -> None:
        self.scenes: dict[Family, list[Scene]] = {
            "attribute": [make_scene("attribute", seed) for seed in range(num_pictures)],
            "video": [make_scene("video", seed) for seed in range(num_clips)],
        }
        if not (folder / "complete.json").exists():
            self._render(folder, workers)
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
        self.crops = _first_index(self.scenes["attribute"], lambda scene: len(scene.items))
        self.selected = _first_index(self.scenes["video"], num_selected)

    def picture(self, index: int) -> View:
        """The overview of a picture."""
        scene = self.scenes["attribute"][index]
        return View(self.arrays["pictures"][index], scene, WHOLE)

    def crop(self, index: int, item: int) -> View:
        """A zoom into one item of a picture, a little off."""
        scene = self.scenes["attribute"][index]
        pixels = self.arrays["crops"][self.crops[index] + item]
        return View(pixels, scene, crop_box(scene, scene.items[item]), item=scene.items[item])

    def frame(self, index: int, number: int) -> View:
        """A frame of a clip in the overview."""
        scene = self.scenes["video"][index]
        return View(self.arrays["frames"][index * NUM_FRAMES + number - 1], scene, WHOLE, number)

    def selected_frame(self, index: int, item: int, nth: int) -> View:
        """The `nth` frame (from 0) of those that show an item, at the size of a selected frame."""
        scene = self.scenes["video"][index]
        before = sum(len(other.frames) for other in scene.items[:item])
        pixels = self.arrays["selected"][self.selected[index] + before + nth]
        return View(pixels, scene, WHOLE, scene.items[item].frames[nth], scene.items[item])

    def _render(self, folder: Path, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pictures, clips = self.scenes["attribute"], self.scenes["video"]
        with ProcessPoolExecutor(workers) as pool:
            rendered = pool.map(_picture_views, pictures, chunksize=16)
            shape = [(len(pictures), PICTURE_PX), (sum(len(s.items) for s in pictures), CROP_PX)]
            _fill(folder, ("pictures", "crops"), shape, track(rendered, "pictures", len(pictures)))
            rendered = pool.map(_clip_views, clips, chunksize=16)
            shape = [
                (len(clips) * NUM_FRAMES, FRAME_PX),
                (sum(map(num_selected, clips)), SELECTED_PX),
            ]
            _fill(folder, ("frames", "selected"), shape, track(rendered, "clips", len(clips)))
        write_json({"pictures": len(pictures), "clips": len(clips)}, folder / "complete.json")


def num_selected(scene: Scene) -> int:
    """How many frames of a clip show a card."""
    return sum(len(item.frames) for item in scene.items)


def crop_box(scene: Scene, item: Item) -> Box:
    """The box of a training crop: the expert's, missed by a little."""
    rng = scene.rng(f"crop/{item.name}")
    box = look_box(item)
    x1 = min(max(box.x1 + rng.gauss(0, JITTER), 0.0), 1 - LOOK_SIDE)
    y1 = min(max(box.y1 + rng.gauss(0, JITTER), 0.0), 1 - LOOK_SIDE)
    return Box(x1, y1, x1 + LOOK_SIDE, y1 + LOOK_SIDE)


def _picture_views(scene: Scene) -> tuple[list[np.ndarray], list[np.ndarray]]:
    image = draw_picture(scene)
    crops = [_pixels(image, crop_box(scene, item), CROP_PX) for item in scene.items]
    return [_pixels(image, WHOLE, PICTURE_PX)], crops


def _clip_views(scene: Scene) -> tuple[list[np.ndarray], list[np.ndarray]]:
    with av.open(io.BytesIO(encode_clip(draw_frames(scene))), "r") as clip:
        frames = [frame.to_image() for frame in clip.decode(video=0)]
    overview = [_pixels(frame, WHOLE, FRAME_PX) for frame in frames]
    numbers = [number for item in scene.items for number in item.frames]
    return overview, [_pixels(frames[number - 1], WHOLE, SELECTED_PX) for number in numbers]


def _pixels(image: Image.Image, box: Box, side: int) -> np.ndarray:
    return np.asarray(shown(image, box, (side, side)))


def _fill(
    folder: Path,
    names: tuple[str, str],
    shapes: list[tuple[int, int]],
    rendered: Iterable[tuple[list[np.ndarray], list[np.ndarray]]],
) -> None:
    """Write two arrays of square views as they come."""
    arrays = [
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (count, side, side, 3))
        for name, (count, side) in zip(names, shapes, strict=True)
    ]
    at = [0, 0]
    for views in rendered:
        for kind, more in enumerate(views):
            for pixels in more:
                arrays[kind][at[kind]] = pixels
                at[kind] += 1


def _first_index(scenes: list[Scene], count: Callable[[Scene], int]) -> list[int]:
    """Where each scene's views begin in an array that holds `count(scene)` of them for every scene."""
    return [0, *np.cumsum([count(scene) for scene in scenes])]
