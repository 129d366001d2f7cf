"""Dialect of the Mini-o3 checkpoints (arXiv 2509.07969), identical to upstream.

The system message, the texts of results and the budgets (40,000 to 2,000,000 pixels for every picture) are copied from
the upstream code (`verl/trainer/constants.py`), including misspellings. A call is a JSON object without a name between
`<grounding>` tags, boxes are fractions, and pictures are named `original_image` or `observation_i`.

Intentional differences from the upstream code:

1. `observation_i` is the i-th picture returned by an operation. Upstream numbers are too high after a failed call.
2. The second picture of a question is `original_image_2`, and so on. Upstream supports one picture per question.
3. For videos `target_frames` is available in the same tags. Upstream does not have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pixel_reasoner.dialects.answers import TAGGED
from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.boxes import BoxCoordinates
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._qwen import frame_label
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.dialects.syntax.bare_json import BareJsonSyntax
from pixel_reasoner.dialects.syntax.base import OPERATION_KEY
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

_CONTINUE_ZOOMING = "zoom in on the original image or any of the observations"


def _continue(what: str) -> str:
    return (
        f".\nContinue your reasoning process inside <think> and </think>. If needed, you can continue to {what}, "
        "by outputting <grounding> and </grounding> as before. If the final "
        "answer is confirmed, put your final answer inside <answer> and </answer>."
    )


def _texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
    """Return the texts for a set of operations. Operations that are new to the family are called by name."""
    own = {"zoom_in": _ZOOM, "select_frames": _SELECT}
    listed = [own.get(name) or _offer(name, one) for name, one in definitions.items()]
    what = _CONTINUE_ZOOMING if "zoom_in" in definitions else "use these operations"
    return OperationTexts(_THINK + "".join(listed) + _ANSWER, result_end=_continue(what))


def _offer(operation: str, definition: ToolDefinition) -> str:
    """Return the sentence that describes an operation that is new to the family."""
    function = definition["function"]
    properties = function["parameters"]["properties"]
    examples = {
        name: one.get("default", f"<{one.get('type')}>") for name, one in properties.items()
    }
    call = json.dumps({OPERATION_KEY: operation, **examples}, ensure_ascii=False)
    about = str(function["description"]).rstrip(".")
    where = "; ".join(f"'{name}': {one.get('description', '')}" for name, one in properties.items())
    where = f", where {where.rstrip('.')}" if where else ""
    return f"You can also {about[:1].lower()}{about[1:]} by outputing <grounding>{call}</grounding>{where}. "


class SourceNames:
    """Picture names of Mini-o3: `original_image` for pictures of questions, `observation_i` for results of operations.

    >>> SourceNames().number("observation_2", ()), SourceNames().name(1, ()), SourceNames().name(3, ())
    (3, 'original_image', 'observation_2')
    """

    @property
    def description(self) -> str:
        """See `PictureNames`."""
        return "'original_image' or 'observation_i'"

    def number(self, name: Any, pictures: Sequence[Picture]) -> Any:
        """See `PictureNames`; 0 for an invalid name."""
        found = re.fullmatch(r"(original_image|observation)(?:_(\d{1,9}))?", str(name))
        if found is None or (found[1] == "observation") > (found[2] is not None):
            return 0
        nth = int(found[2] or 1)
        originals, results = _originals_and_results(pictures)
        if found[1] == "original_image":
            return originals[nth - 1] if 1 <= nth <= len(originals) else 0
        if not nth:
            return 0
        beyond = len(originals) + nth  # a number without a picture
        return results[nth - 1] if nth <= len(results) else beyond

    def name(self, number: int, pictures: Sequence[Picture]) -> Any:
        """See `PictureNames`."""
        originals, results = _originals_and_results(pictures)
        if number in results:
            return f"observation_{results.index(number) + 1}"
        if number not in originals:
            return f"observation_{number - len(originals)}"
        nth = originals.index(number) + 1
        return "original_image" if nth == 1 else f"original_image_{nth}"

    def valid_names(self, pictures: Sequence[Picture]) -> str:
        """See `PictureNames`."""
        originals, results = _originals_and_results(pictures)
        count = len(originals)
        first = (
            "'original_image'" if count == 1 else f"'original_image_1' to 'original_image_{count}'"
        )
        seen = f" or 'observation_1' to 'observation_{len(results)}'" if results else ""
        return f"source is {first}{seen}"


def _originals_and_results(pictures: Sequence[Picture]) -> tuple[list[int], list[int]]:
    """Return the numbers of the pictures of questions (at least one), and of the results of operations."""
    originals = [one.number for one in pictures if one.parent is None]
    return originals or [1], [one.number for one in pictures if one.parent is not None]


def _result_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    nth = pictures[0].number - num_question_pictures
    if len(pictures) == 1 and pictures[0].frame is None:
        is_changed = pictures[0].transforms or pictures[0].beside
        what = "resulting" if is_changed else "zoom-in"
        return [
            f"After the above Action {nth - 1}, here is the the {what} image (Observation {nth}):\n"
        ]
    labels = [
        f"{frame_label(picture)[:-1]} (Observation {picture.number - num_question_pictures}):\n"
        for picture in pictures
    ]
    return [f"After the above Action {nth - 1}, here is {labels[0]}", *labels[1:]]


MINI_O3 = register(
    Dialect(
        name="mini_o3",
        models="the released checkpoints of Mini-o3",
        match=ModelMatch(
            model_types=("qwen2_5_vl",), checkpoints=r"mini-?_?o3", template="<grounding>"
        ),
        budgets=PixelBudgets(
            picture=_BUDGET, crop=_BUDGET, frame=_BUDGET, selected_frame=_BUDGET, multiple=28
        ),
        system_with_operations=_THINK + _ZOOM + _ANSWER,
        system_with_video=_THINK + _ZOOM + _SELECT + _ANSWER,
        system_without_operations=_THINK + _ANSWER,
        texts_for=_texts_for,
        question_prefix="\n",
        picture_label=frame_label,
        result_labels=_result_labels,
        result_end=_continue(_CONTINUE_ZOOMING),
        text_result_template="After the above Action, here is the result: {text}",
        error_template=(
            "ERROR occurs during grounding. Error Information: {why}.\nPlease analyze the error information obtained from "
            "the function tool and adjust your response. Countinue your reasoning process inside <think> and </think>."
        ),
        syntax=BareJsonSyntax(
            open="<grounding>",
            close="</grounding>",
            shape='{"bbox_2d": [x0, y0, x1, y1], "source": "original_image"}',
            implied=frozenset({"bbox_2d", "target_frames"}),
        ),
        answer_format=TAGGED,
        thought_template="<think>{words}</think>",
        separates_thoughts=True,
        grid=BoxCoordinates(
            words="fractions of the picture, three decimals",
            per_side=1,
            decimals=3,
            clamps=True,
        ),
        picture_names=SourceNames(),
        operation_names={"bbox_2d": "zoom_in", "target_frames": "select_frames"},
        argument_names={
            "zoom_in": {"bbox_2d": "bbox_2d", "source": "target_image"},
            "select_frames": {"target_frames": "target_frames"},
        },
    )
)
