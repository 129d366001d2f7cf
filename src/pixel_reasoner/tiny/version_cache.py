"""Rendered views of training scenes of PixelWorld 2, in arrays on disk.

pictures  scenes of five families, in turn, each at one of the training heights
crowds    dense pictures: every shape carries a character, so one overview has seven times as many as a scene
clips     cards at one of the training heights
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.tiny.labels import LEGIBLE_PX
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
    pixels_of,
    random_boxes,
    random_views,
    render_views,
)
from pixel_reasoner.world.scene import COLORS, NUM_FRAMES, SHAPES, Item
from pixel_reasoner.world.v2 import (
    TRAINING_HEIGHTS,
    TWINS,
    Params,
    Scene,
    default_size_px,
    draw_frames,
    draw_picture,
    make_scene,
)
from pixel_reasoner.world.v2.scene import BLANK, CHARACTERS, Content

T = TypeVar("T")
PICTURE_FAMILIES = ("attribute", "relation", "count", "where", "parts")
CLIP_FAMILIES = ("video", "moments")
CROWD_HEIGHTS = (4, 5, 6, 6, 7, 8, 10, 12)
"""heights of the characters of crowds; the smallest legible one twice, because it is the hardest"""
CROWD_SIDE = 6
"""shapes per row and column of a crowd"""
NUM_CROWD_CROPS = 6
NUM_SELECTED = 4
"""frames of a clip that are also rendered at the size of a selected frame"""


class VersionCache:
    """Views of scenes of PixelWorld 2.

    Args:
        folder: folder of the arrays; missing ones are rendered.
        counts: `pictures`, `crowds` and `clips` -> number of scenes, with seeds 0, 1, ...
        workers: rendering processes.
    """

    def __init__(self, folder: Path, counts: dict[str, int], workers: int = 2) -> None:
        makers = {
            "pictures": lambda seed: _version(PICTURE_FAMILIES, seed),
            "crowds": make_crowd,
            "clips": lambda seed: _version(CLIP_FAMILIES, seed),
        }
        self.scenes = {
            name: [makers[name](n) for n in range(count)] for name, count in counts.items()
        }
        for name, kinds in _KINDS.items():
            for kind in kinds:
                render_views(kind, self.scenes[name], folder, workers)
        self.arrays = open_views(folder)
        self.crops = first_views(self.scenes["pictures"], num_items)

    def picture(self, rng: random.Random) -> View:
        """Return the overview of a picture."""
        index, scene = _draw(self.scenes["pictures"], rng)
        return View(self.arrays["version_pictures"][index], scene, WHOLE)

    def crop(self, rng: random.Random) -> View:
        """Return a crop around one item of a picture, with jitter."""
        index, scene = _draw(self.scenes["pictures"], rng)
        nth, item = _draw(scene.items, rng)
        pixels = self.arrays["version_crops"][self.crops[index] + nth]
        return View(pixels, scene, crop_box(scene, item), item=item)

    def random_crop(self, rng: random.Random) -> View:
        """Return a crop of any size at any position."""
        index, scene = _draw(self.scenes["pictures"], rng)
        nth = rng.randrange(NUM_RANDOM_CROPS)
        pixels = self.arrays["version_strays"][index * NUM_RANDOM_CROPS + nth]
        return View(pixels, scene, random_boxes(scene)[nth])

    def crowd(self, rng: random.Random) -> View:
        """Return the overview of a crowd."""
        index, scene = _draw(self.scenes["crowds"], rng)
        return View(self.arrays["crowds"][index], scene, WHOLE)

    def crowd_crop(self, rng: random.Random) -> View:
        """Return a crop around one item of a crowd."""
        index, scene = _draw(self.scenes["crowds"], rng)
        nth = rng.randrange(NUM_CROWD_CROPS)
        item = _cropped(scene)[nth]
        pixels = self.arrays["crowd_crops"][index * NUM_CROWD_CROPS + nth]
        return View(pixels, scene, crop_box(scene, item), item=item)

    def frame(self, rng: random.Random) -> View:
        """Return a frame of a clip at overview size: in half of the cases one that shows a card."""
        index, scene = _draw(self.scenes["clips"], rng)
        shown = sorted({number for item in scene.items for number in item.frames})
        number = rng.choice(shown) if rng.random() < 0.5 else rng.randint(1, NUM_FRAMES)
        pixels = self.arrays["version_frames"][index * NUM_FRAMES + number - 1]
        return View(pixels, scene, WHOLE, number)

    def selected_frame(self, rng: random.Random) -> View:
        """Return a frame at the size of a selected frame."""
        index, scene = _draw(self.scenes["clips"], rng)
        nth = rng.randrange(NUM_SELECTED)
        pixels = self.arrays["version_selected"][index * NUM_SELECTED + nth]
        return View(pixels, scene, WHOLE, _selected(scene)[nth])


def make_crowd(
    seed: int, heights: Sequence[int] = CROWD_HEIGHTS, size_px: int | None = None
) -> Scene:
    """Return a picture that is full of shapes with characters.

    Args:
        seed: number of the picture.
        heights: of its characters in the overview, one of these.
        size_px: side of the canvas; None: as in an evaluation.

    >>> len(make_crowd(3).items)
    36
    """
    rng = random.Random(f"crowd/{seed}")
    size = 0.94 / CROWD_SIDE
    items = tuple(
        Item(
            rng.choice(sorted(COLORS)),
            rng.choice(SHAPES),
            (column + 0.5 + rng.uniform(-0.03, 0.03)) / CROWD_SIDE,
            (row + 0.5 + rng.uniform(-0.03, 0.03)) / CROWD_SIDE,
            size * rng.uniform(0.9, 1.0),
            BLANK if rng.random() < 0.08 else rng.choice(CHARACTERS),
        )
        for row in range(CROWD_SIDE)
        for column in range(CROWD_SIDE)
    )
    shift_x, shift_y = (rng.uniform(-0.5, 0.5) / CROWD_SIDE for _ in range(2))
    shifted = (item._replace(x=item.x + shift_x, y=item.y + shift_y) for item in items)
    params = Params(
        size_px=size_px or default_size_px("attribute", PICTURE_PX),
        overview_px=PICTURE_PX,
        evidence_px=rng.choice(heights),
    )
    return Scene("attribute", seed, "a", params, Content(tuple(shifted), ()))


def drawn_crowd(rng: random.Random, heights: Sequence[int] = range(LEGIBLE_PX, 17)) -> View:
    """Return the overview of a new crowd with legible characters, drawn at once on a small canvas."""
    scene = make_crowd(rng.randrange(10**9), heights, 3 * PICTURE_PX)
    return View(pixels_of(draw_picture(scene), WHOLE, PICTURE_PX), scene, WHOLE)


def _version(families: Sequence[str], seed: int) -> Scene:
    """Return a scene of one of the families, at a random training height."""
    family = families[seed % len(families)]
    rng = random.Random(f"version/{family}/{seed}")
    overview_px = FRAME_PX if family in CLIP_FAMILIES else PICTURE_PX
    params = Params(
        size_px=default_size_px(family, overview_px),
        overview_px=overview_px,
        evidence_px=rng.choice(TRAINING_HEIGHTS),
    )
    return make_scene(family, seed, params, rng.choice(TWINS))  # type: ignore[arg-type]


def _draw(values: Sequence[T], rng: random.Random) -> tuple[int, T]:
    index = rng.randrange(len(values))
    return index, values[index]


def _cropped(scene: Scene) -> list[Item]:
    """Return the items of a crowd that have a crop: some that are inside the picture."""
    inside = [item for item in scene.items if 0.1 < item.x < 0.9 and 0.1 < item.y < 0.9]
    return scene.rng("cropped").sample(inside, NUM_CROWD_CROPS)


def _selected(scene: Scene) -> list[int]:
    """Return the numbers of the frames that are rendered large."""
    shown = sorted({number for item in scene.items for number in item.frames})
    rng = scene.rng("selected")
    return sorted(
        rng.sample(shown, NUM_SELECTED)
        if len(shown) >= NUM_SELECTED
        else rng.choices(shown, k=NUM_SELECTED)
    )


def _picture_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    image = draw_picture(scene)
    return *picture_views(image, scene), *random_views(image, scene)


def _crowd_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    image = draw_picture(scene)
    crops = [pixels_of(image, crop_box(scene, item), CROP_PX) for item in _cropped(scene)]
    return [pixels_of(image, WHOLE, PICTURE_PX)], crops


def _clip_views(scene: Scene) -> tuple[list[np.ndarray], ...]:
    return clip_views(decode_frames(draw_frames(scene)), _selected(scene))


_KINDS: dict[str, tuple[ViewKind[Scene], ...]] = {
    "pictures": (
        ViewKind(
            "versions",
            _picture_views,
            (
                ("version_pictures", PICTURE_PX, one_view),
                ("version_crops", CROP_PX, num_items),
                ("version_strays", CROP_PX, num_random_crops),
            ),
        ),
    ),
    "crowds": (
        ViewKind(
            "crowds",
            _crowd_views,
            (("crowds", PICTURE_PX, one_view), ("crowd_crops", CROP_PX, lambda _: NUM_CROWD_CROPS)),
        ),
    ),
    "clips": (
        ViewKind(
            "version_clips",
            _clip_views,
            (
                ("version_frames", FRAME_PX, lambda _: NUM_FRAMES),
                ("version_selected", SELECTED_PX, lambda _: NUM_SELECTED),
            ),
        ),
    ),
}
