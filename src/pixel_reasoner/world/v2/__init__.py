"""PixelWorld 2: the same scenes and wordings at several heights of the evidence, with twins.

Only pixels decide whether a question needs an operation, so the use of operations can be measured against legibility.
"""

from pixel_reasoner.world.v2.draw import draw_frames, draw_picture, encode, write_media
from pixel_reasoner.world.v2.params import (
    CLIPS,
    FAMILIES,
    HEIGHTS,
    HELD_OUT_PX,
    READABLE_FROM_PX,
    TRAINING_HEIGHTS,
    TWINS,
    VERSION,
    Family,
    Params,
    Twin,
    default_size_px,
    overview_side_px,
)
from pixel_reasoner.world.v2.questions import NOTHING, all_questions, build_question
from pixel_reasoner.world.v2.render import Variants, build_media_item, make_scenes, render
from pixel_reasoner.world.v2.scene import Scene, make_scene

__all__ = [
    "CLIPS",
    "FAMILIES",
    "HEIGHTS",
    "HELD_OUT_PX",
    "NOTHING",
    "READABLE_FROM_PX",
    "TRAINING_HEIGHTS",
    "TWINS",
    "VERSION",
    "Family",
    "Params",
    "Scene",
    "Twin",
    "Variants",
    "all_questions",
    "build_media_item",
    "build_question",
    "default_size_px",
    "draw_frames",
    "draw_picture",
    "encode",
    "make_scene",
    "make_scenes",
    "overview_side_px",
    "render",
    "write_media",
]
