"""PixelWorld: synthetic pictures and clips with exact evidence that is illegible in the overview."""

from pixel_reasoner.world.draw import draw_frames, draw_picture, encode_clip, write_media
from pixel_reasoner.world.questions import all_questions, build_question
from pixel_reasoner.world.render import overview_detail_px, render, scenes
from pixel_reasoner.world.scene import (
    DEFAULTS,
    FAMILIES,
    OPERATION_FAMILIES,
    SPLITS,
    VERSION,
    Family,
    Scene,
    WorldParams,
    make_scene,
    split_seed,
)

__all__ = [
    "DEFAULTS",
    "FAMILIES",
    "OPERATION_FAMILIES",
    "SPLITS",
    "VERSION",
    "Family",
    "Scene",
    "WorldParams",
    "all_questions",
    "build_question",
    "draw_frames",
    "draw_picture",
    "encode_clip",
    "make_scene",
    "overview_detail_px",
    "render",
    "scenes",
    "split_seed",
    "write_media",
]
