"""Scenes of recorded questions, and their twins. The name of a media file contains everything that determines a scene."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import cast

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.world.v2.params import FAMILIES, Family, Params, Twin
from pixel_reasoner.world.v2.questions import all_questions
from pixel_reasoner.world.v2.scene import Scene, make_scene

_NAME = re.compile(r"w2-([a-z]+)-(\d{1,9})-(\d{1,5})-(\d{1,5})-(\d{1,3})px-([ab])")


def scene_of(question: Question) -> Scene | None:
    """Return the scene of a question's medium, from the name of its file; None if it is not of PixelWorld 2.

    >>> from pixel_reasoner.schema.question import MediaItem
    >>> item = MediaItem(kind="image", path="/x/media/w2-attribute-7-1024-192-3px-a.png")
    >>> scene_of(Question(id="w2-attribute-7-3px-a-read-1", text="?", media=(item,))).params.evidence_px
    3
    """
    if len(question.media) != 1 or not question.id.startswith("w2-"):
        return None
    found = _NAME.fullmatch(PurePosixPath(question.media[0].path).stem)
    if found is None or found[1] not in FAMILIES:
        return None
    seed, size_px, overview_px, evidence_px = map(int, found.groups()[1:5])
    try:
        params = Params.of(size_px, overview_px, evidence_px)
    except UsageError:
        return None
    return make_scene(cast(Family, found[1]), seed, params, cast(Twin, found[6]))


def twin_of(scene: Scene) -> Scene:
    """Return the other twin of a scene.

    >>> twin_of(make_scene("where", 7, Params(size_px=1024, overview_px=192, evidence_px=3))).twin
    'b'
    """
    return make_scene(scene.family, scene.seed, scene.params, "b" if scene.twin == "a" else "a")


def twin_answer(question: Question) -> tuple[str, ...] | None:
    """Return the accepted answers of a question in the picture of its twin; None if the twin has no such question."""
    scene = scene_of(question)
    if scene is None:
        return None
    asked = all_questions(twin_of(scene), question.media[0])
    return next((one.answer for one in asked if one.text == question.text), None)
