"""PixelWorld scenes of recorded questions: the items of a scene, and the question about each of them.

A scene follows from the name of the medium, so the medium itself is not read. The generator must give the recorded
question again: otherwise another version of PixelWorld asked it.

Not covered: pictures of PixelWorld 1 with another `--detail-px`, which nothing records. They are rendered with the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from pixel_reasoner.data.regions import NoTrace
from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.pixelworld2 import world_of_question
from pixel_reasoner.world import questions as questions1
from pixel_reasoner.world.draw import write_media as write_media1
from pixel_reasoner.world.render import build_media_item as build_media_item1
from pixel_reasoner.world.scene import DEFAULTS, SPLITS, Family, make_scene
from pixel_reasoner.world.shapes import Item
from pixel_reasoner.world.v2 import questions as questions2
from pixel_reasoner.world.v2.draw import write_media as write_media2
from pixel_reasoner.world.v2.render import build_media_item as build_media_item2
from pixel_reasoner.world.v2.twins import scene_of

_NAME = re.compile(r"([a-z]+)-(\d{1,9})")


class AskedItem(NamedTuple):
    """Item of a scene, and the question about it."""

    question: Question
    """its media path is relative"""
    box: Box
    frames: tuple[int, ...]
    """frames of a clip that show it; empty for pictures"""


class RecordedScene(NamedTuple):
    """Scene of a recorded question."""

    question: Question
    """the recorded question with a relative media path"""
    items: tuple[AskedItem, ...]
    """empty if the questions of the family are about several items"""
    detail_px: float
    """height of the characters in the file"""
    write_media: Callable[[Path], None]
    """function that renders the medium to a path"""

    @property
    def media_item(self) -> MediaItem:
        """Medium of the scene, with a relative path."""
        return self.question.media[0]


class _World(NamedTuple):
    """Scene of either version of PixelWorld, with the functions of its version."""

    scene: Any
    media_item: MediaItem
    module: Any
    """its `all_questions`, `item_question` and `ITEM_FAMILIES`"""
    detail_px: float
    write_media: Callable[[Path], None]


def recorded_scene(trace: Trace) -> RecordedScene:
    """Return the scene of a trace's question.

    Raises:
        NoTrace: not a scene of PixelWorld's training split.
    """
    world = _world_of(trace)
    scene, module = world.scene, world.module
    if not SPLITS["train"][0] <= scene.seed < SPLITS["train"][1]:
        raise NoTrace("held_out", "a scene of the validation or test split")
    question = _same_question(trace.question, module.all_questions(scene, world.media_item))
    items = tuple(_asked_items(world)) if scene.family in module.ITEM_FAMILIES else ()
    return RecordedScene(question, items, world.detail_px, world.write_media)


def _world_of(trace: Trace) -> _World:
    version = world_of_question(trace.question.id)
    if version is None or len(trace.question.media) != 1:
        raise NoTrace("not_pixelworld")
    found = _world1(trace) if version == 1 else _world2(trace)
    if found is None:
        path = trace.question.media[0].path
        raise NoTrace("other_medium", f"{PurePosixPath(path).name} is no medium of PixelWorld")
    return found


def _world1(trace: Trace) -> _World | None:
    found = _NAME.fullmatch(PurePosixPath(trace.question.media[0].path).stem)
    if found is None or found[1] not in DEFAULTS or not trace.pictures:
        return None
    family = cast(Family, found[1])
    size_px = trace.pictures[0].source_px[0]
    params = DEFAULTS[family].model_copy(update={"size_px": size_px})
    try:
        scene = make_scene(family, int(found[2]), params)
    except UsageError:  # no canvas of this size
        return None
    item = build_media_item1(scene)
    return _World(scene, item, questions1, params.detail_px, partial(write_media1, scene))


def _world2(trace: Trace) -> _World | None:
    scene = scene_of(trace.question)
    if scene is None:
        return None
    item = build_media_item2(scene)
    write = partial(write_media2, scene)
    return _World(scene, item, questions2, scene.params.detail_px, write)


def _same_question(recorded: Question, asked: Iterator[Question]) -> Question:
    """Return the generator's question that equals a recorded one."""
    for question in asked:
        if question.id == recorded.id:
            if question != recorded.model_copy(update={"media": question.media}):
                raise NoTrace("other_question", "the generator asks it in another way")
            return question
    raise NoTrace("other_question", "the generator does not ask it")


def _asked_items(world: _World) -> Iterator[AskedItem]:
    items: tuple[Item, ...] = world.scene.items
    for item in items:
        question = world.module.item_question(world.scene, world.media_item, item)
        boxes = question.evidence.boxes
        yield AskedItem(question, boxes[0] if boxes else item.box, item.frames)
