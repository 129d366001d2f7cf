"""The dialect of the released Mini-o3 checkpoints (arXiv 2509.07969), word for word.

System message and replies are those of its code (`verl/trainer/constants.py`), slips of the pen included, and so are the budgets:
40,000 to 2,000,000 pixels for every picture. A call is one object without a name between `<grounding>` tags, boxes are fractions,
and a picture is called `original_image` or `observation_i`.

Departures from the released code, on purpose:
1. `observation_i` is the i-th picture that came back. There, after a call that failed, the number in the reply runs ahead of it.
2. Of several pictures of a question the second is `original_image_2`, and so on. There, there is one.
3. For a video, and only for one, `target_frames` is offered in the same tags. It is not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import BoxCoordinates
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.qwen3_vl import frame_label
from pixel_reasoner.dialects.syntax import TAGGED, Calls
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_BUDGET = PixelBudget(min_px=40_000, max_px=2_000_000)

_THINK = (
    "You are a helpful assistant. Answer the user's question based on the image provided. "
    "Output your thinking process within the <think> and </think> tags. "
)
_ZOOM = (
    "Whenever you find anything unclear, you can zoom in a specific region in the given image to see more clearly "
    'by outputing <grounding>{"bbox_2d": [x0, y0, x1, y1], "source": "original_image"}</grounding>, where (x0, y0) '
    "and (x1, y1) are the top-left and bottom-right coordinates of the region that you want to zoom in, "
    "respectively (suppose the width and height of the image are 1.0), and 'source' refers to the image that you "
    "zoom in and could be either 'original_image' or 'observation_i'. "
)
_SELECT = (
    "The images are frames of a video: the k-th of them is 'original_image_k', and you can see up to 8 of them in more "
    'detail by outputing <grounding>{"target_frames": [1, 2]}</grounding>. '
)
_ANSWER = "Once the final answer is confirmed, put it within <answer> and </answer>."

_GO_ON = (
    ".\nContinue your reasoning process inside <think> and </think>. If needed, you can continue to zoom in on the "
    "original image or any of the observations, by outputting <grounding> and </grounding> as before. If the final "
    "answer is confirmed, put your final answer inside <answer> and </answer>."
)


class Sources:
    """Pictures by what they are.

    >>> Sources().number("observation_2", shown=1), Sources().name(1, shown=1), Sources().name(3, shown=2)
    (3, 'original_image', 'observation_1')
    """

    def number(self, name: Any, shown: int) -> Any:
        """See `Numbering`; 0 for what is no name."""
        found = re.fullmatch(r"(original_image|observation)(?:_(\d{1,9}))?", str(name))
        if found is None or (found[1] == "observation") > (found[2] is not None):
            return 0
        nth = int(found[2] or 1)
        if found[1] == "original_image":
            return nth if nth <= shown else 0
        return shown + nth if nth else 0

    def name(self, number: int, shown: int) -> Any:
        """See `Numbering`."""
        if number > shown:
            return f"observation_{number - shown}"
        return "original_image" if number == 1 else f"original_image_{number}"

    def told(self, count: int, shown: int) -> str:
        """See `Numbering`."""
        first = (
            "'original_image'" if shown == 1 else f"'original_image_1' to 'original_image_{shown}'"
        )
        seen = f" or 'observation_1' to 'observation_{count - shown}'" if count > shown else ""
        return f"source is {first}{seen}"


def _reply(pictures: Sequence[Picture], shown: int) -> list[str]:
    nth = pictures[0].number - shown
    if len(pictures) == 1 and pictures[0].frame is None:
        return [
            f"After the above Action {nth - 1}, here is the the zoom-in image (Observation {nth}):\n"
        ]
    words = [
        f"{frame_label(picture)[:-1]} (Observation {picture.number - shown}):\n"
        for picture in pictures
    ]
    return [f"After the above Action {nth - 1}, here is {words[0]}", *words[1:]]


MINI_O3 = Dialect(
    name="mini_o3",
    models="the released checkpoints of Mini-o3",
    speakers=ModelMatch(
        model_types=("qwen2_5_vl",), checkpoints=r"mini-?_?o3", template="<grounding>"
    ),
    budgets=PixelBudgets(
        picture=_BUDGET, crop=_BUDGET, frame=_BUDGET, selected_frame=_BUDGET, multiple=28
    ),
    system_with=_THINK + _ZOOM + _ANSWER,
    system_video=_THINK + _ZOOM + _SELECT + _ANSWER,
    system_without=_THINK + _ANSWER,
    prefix="\n",
    label=frame_label,
    reply=_reply,
    after=_GO_ON,
    complaint=(
        "ERROR occurs during grounding. Error Information: {why}.\nPlease analyze the error information obtained from "
        "the function tool and adjust your response. Countinue your reasoning process inside <think> and </think>."
    ),
    calls=Calls(
        open="<grounding>",
        close="</grounding>",
        shape='{"bbox_2d": [x0, y0, x1, y1], "source": "original_image"}',
        named=False,
    ),
    answers=TAGGED,
    thought="<think>{words}</think>",
    thinks=True,
    grid=BoxCoordinates(
        words="fractions of the picture, three decimals",
        per_side=1,
        decimals=3,
        clamps=True,
    ),
    numbering=Sources(),
    names={"bbox_2d": "zoom_in", "target_frames": "select_frames"},
    arguments={
        "zoom_in": {"bbox_2d": "bbox_2d", "source": "target_image"},
        "select_frames": {"target_frames": "target_frames"},
    },
)
