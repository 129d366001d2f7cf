"""PixelWorld family `moments`: clips of minutes with events at exact times, for the search of moments in video.

This family is not in `world.FAMILIES`: a clip has several queries whose answers are times, and it is too long for the
training and evaluation of questions.

    moments.jsonl           annotation of every clip (`ClipRow`)
    media/moments-SEED.mp4  the clip, with a beep at the start of each event

Every frame contains its number in machine-readable form (`frame_code`), so the frames of a cut or an export can be
compared with the annotation.
"""

from pixel_reasoner.world.moments.frame_code import FrameCode, clip_code, read_frame_code
from pixel_reasoner.world.moments.params import RATES, MomentsParams
from pixel_reasoner.world.moments.rows import (
    MOMENTS_FILE,
    ClipRow,
    QueryRow,
    SpanRow,
    TargetRow,
    read_moments,
)
from pixel_reasoner.world.moments.script import EVENT_KINDS, make_clip
from pixel_reasoner.world.moments.write import write_moments

__all__ = [
    "EVENT_KINDS",
    "MOMENTS_FILE",
    "RATES",
    "ClipRow",
    "FrameCode",
    "MomentsParams",
    "QueryRow",
    "SpanRow",
    "TargetRow",
    "clip_code",
    "make_clip",
    "read_frame_code",
    "read_moments",
    "write_moments",
]
