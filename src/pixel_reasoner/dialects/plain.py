r"""For any other model that follows instructions: hosted services, families with no dialect here. The words are ours.

Boxes are fractions, since nobody tells at what size such a model sees a picture. Pictures are numbered where they are shown. The tools
are the project's own operations, listed by the server (`system_native`) or in the system message.
"""

from __future__ import annotations

from collections.abc import Sequence

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.hermes import offered
from pixel_reasoner.operations.registry import default_operations
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_ADVICE = (
    "You answer questions about pictures and videos. What is too small to see at first can be looked at again: zoom_in "
    "shows a region of a picture from the original at full resolution, select_frames shows frames of a video in more "
    "detail. Look closer before you answer whenever the answer rests on a small detail; where it does not, answer at "
    "once. Call one tool at a time and wait for what it shows. Put the final answer, alone, within \\boxed{}."
)
_TOOLS = default_operations().tool_schemas


def _label(picture: Picture) -> str:
    if picture.frame is None:
        return f"Picture {picture.number}:"
    return f"Picture {picture.number}, frame {picture.frame}:"


def _reply(pictures: Sequence[Picture], shown: int) -> list[str]:
    del shown
    return [_label(picture) for picture in pictures]


PLAIN = Dialect(
    name="plain",
    models="hosted services, and every model that is none of the others",
    budgets=PixelBudgets(
        picture=PixelBudget(min_px=256 * 256, max_px=1536 * 1536),
        crop=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
        frame=PixelBudget(min_px=64 * 64, max_px=512 * 512),
        selected_frame=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
        multiple=32,
    ),
    system_with=offered(_TOOLS, _ADVICE),
    system_without="You answer questions about pictures and videos. Put the final answer, alone, within \\boxed{}.",
    label=_label,
    reply=_reply,
    complaint="That call was refused: {why}",
    tools=_TOOLS,
    system_native=_ADVICE,
    thinks=True,
)
