"""Rendered views of training scenes of PixelWorld 1, in arrays on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.tiny.version_cache import VersionCache
from pixel_reasoner.tiny.views import (
    CROP_PX,
    FRAME_PX,
    NUM_RANDOM_CROPS,
    PICTURE_PX,
    SELECTED_PX,
    View,
    ViewKind,
    clip_views,
    crop_box,
    decode_frames,
    first_views,
    num_items,
    num_random_crops,
    one_view,
    open_views,
    picture_views,
    random_boxes,
    random_views,
    render_views,
)
from pixel_reasoner.world import Family, Scene, draw_frames, draw_picture, make_scene
from pixel_reasoner.world.scene import NUM_FRAMES


class SceneCache:
    """Views of scenes of `attribute`, `infographic` and `video`, which cover the contents of all five families.

    Args:
        folder: folder of the arrays; missing ones are rendered.
        counts: family -> number of scenes, with seeds 0, 1, ...
        versions: views of PixelWorld 2, for the stages that use them.
        workers: rendering processes.
    """

    def __init__(
        self,
        folder: Path,
        counts: dict[Family, int],
        versions: VersionCache | None = None,
        workers: int = 2,
    ) -> None:
        self.scenes = {
            family: [make_scene(family, seed) for seed in range(count)]
            for family, count in counts.items()
        }
        for family, kinds in _KINDS.items():
            for kind in kinds:
                render_views(kind, self.scenes[family], folder, workers)
        self.arrays = open_views(folder)
        self.crops = first_views(self.scenes["attribute"], num_items)
        self.page_crops = first_views(self.scenes["infographic"], num_items)
        self.selected = first_views(self.scenes["video"], num_selected)
        self._versions = versions

    @property
    def versions(self) -> VersionCache:
        """Views of PixelWorld 2."""
        assert self._versions is not None, "the stage needs views of PixelWorld 2"
        return self._versions

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


def num_selected(scene: Scene) -> int:
    """Return the number of frames of a clip that show a card."""
    return sum(len(item.frames) for item in scene.items)


def _picture_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    return picture_views(draw_picture(scene), scene)


def _random_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    return random_views(draw_picture(scene), scene)


def _clip_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    numbers = [number for item in scene.items for number in item.frames]
    return clip_views(decode_frames(iter(draw_frames(scene))), numbers)


def _num_frames(_: Scene) -> int:
    return NUM_FRAMES


def _random(family: Family, name: str) -> ViewKind[Scene]:
    return ViewKind(name, _random_views, ((f"strays_{family}", CROP_PX, num_random_crops),))


_KINDS: dict[Family, tuple[ViewKind[Scene], ...]] = {
    "attribute": (
        ViewKind(
            "pictures",
            _picture_views,
            (("pictures", PICTURE_PX, one_view), ("crops", CROP_PX, num_items)),
        ),
        _random("attribute", "strays"),
    ),
    "infographic": (
        ViewKind(
            "pages",
            _picture_views,
            (("pages", PICTURE_PX, one_view), ("page_crops", CROP_PX, num_items)),
        ),
        _random("infographic", "page_strays"),
    ),
    "video": (
        ViewKind(
            "clips",
            _clip_views,
            (("frames", FRAME_PX, _num_frames), ("selected", SELECTED_PX, num_selected)),
        ),
    ),
}
