"""Scripted models of the PixelWorld families `parts` and `moments`: they answer from the annotation.

`parts_model` zooms in on the defect and answers like an inspector; `moments_model` names the frames that show a
description. Another form of the answer is a function of the annotation and the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pixel_reasoner.models.annotated import AnnotatedModel, Prompt
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import ToolCall
from pixel_reasoner.world.moments.rows import ClipRow, PixelBox, QueryRow
from pixel_reasoner.world.moments.table import ClipFrame, ClipTable
from pixel_reasoner.world.parts.rows import PartRow
from pixel_reasoner.world.parts.table import PartTable

PartAnswer = Callable[[PartRow, Prompt], str]
MomentAnswer = Callable[[Sequence["ClipFrame | None"], Prompt], str]
UNKNOWN = "unsure"
"""answer about pictures that are not in the table"""
_PROPOSAL = re.compile(
    r"^(\d+): picture \d+, from ([\d.]+) % to ([\d.]+) % of the width and from ([\d.]+) % to ([\d.]+) % of the height",
    re.MULTILINE,
)
_QUERY = re.compile(r"^([A-Z]{1,2}): (.+)$", re.MULTILINE)
_MAX_FRAMES = 8
_TARGET_WORDS = {"face": ("face", "head", "person"), "plate": ("plate", "registration")}


# --- parts ---


def parts_model(
    *folders: Path,
    answer: PartAnswer | None = None,
    dialect: str = "compact",
    looks: bool = True,
) -> AnnotatedModel:
    """Return a model that inspects parts by their annotation.

    Args:
        folders: written by `world parts`.
        answer: row and prompt -> answer; default `inspection_answer`.
        dialect: format of calls and answers.
        looks: whether it zooms in on each defect before it answers, where the prompt offers this.

    Raises:
        InputError: a folder without annotation.
    """
    table, write = PartTable(*folders), answer or inspection_answer

    def policy(prompt: Prompt) -> str | ToolCall:
        found = prompt.first()
        if found is None:
            return UNKNOWN
        number, row = found
        if looks and "zoom_in" in prompt.operations and prompt.turn < len(row.defects):
            box = _padded(row.defects[prompt.turn].box)
            arguments = {"bbox_2d": [round(value, 4) for value in box], "target_image": number}
            return ToolCall(name="zoom_in", arguments=arguments)
        return write(row, prompt)

    return AnnotatedModel(table.recognise, policy, dialect=dialect)


def inspection_answer(row: PartRow, prompt: Prompt) -> str:
    """Return `ok`, `unsure`, or the class of each numbered proposal or picture: `1: none; 2: scratch`.

    A proposal shows a defect if their boxes overlap. Without proposals the number is that of the picture in which the
    model has zoomed in on the defect, otherwise of the photograph.
    """
    if row.expected == "unsure":
        return UNKNOWN
    proposals = [
        (int(one[1]), _percent_box(one.groups()[1:])) for one in _PROPOSAL.finditer(prompt.text)
    ]
    if proposals:
        return "; ".join(f"{number}: {_class_in(row, box) or 'none'}" for number, box in proposals)
    if not row.defects:
        return "ok"
    first = prompt.num_question_pictures + 1
    numbers = [min(first + n, len(prompt.pictures)) for n in range(len(row.defects))]
    return "; ".join(
        f"{number}: {one.defect}" for number, one in zip(numbers, row.defects, strict=True)
    )


def _class_in(row: PartRow, box: Box) -> str | None:
    """Return the class of the defect that overlaps a box."""
    return next((one.defect for one in row.defects if box.intersection(one.box) > 0), None)


def _percent_box(values: Sequence[str]) -> Box:
    """Return the box of x1, x2, y1, y2 in percent, enlarged by their rounding."""
    x1, x2, y1, y2 = (float(value) / 100 for value in values)
    return Box(x1 - 0.0005, y1 - 0.0005, x2 + 0.0005, y2 + 0.0005)


def _padded(box: Box, least: float = 0.06) -> Box:
    """Return a box with surroundings, at least `least` wide and high, within the picture."""
    sides = []
    for low, high in ((box.x1, box.x2), (box.y1, box.y2)):
        half = max(least, (high - low) * 1.6) / 2
        middle = min(max((low + high) / 2, half), 1 - half)
        sides.append((max(0.0, middle - half), min(1.0, middle + half)))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


# --- moments ---


def moments_model(
    *folders: Path,
    answer: MomentAnswer | None = None,
    dialect: str = "compact",
    looks: bool = False,
) -> AnnotatedModel:
    """Return a model that finds moments by their annotation.

    Args:
        folders: written by `world moments`.
        answer: recognised frames of the question and prompt -> answer; default `moment_answer`.
        dialect: format of calls and answers.
        looks: whether it selects the frames that show something before it answers, where the prompt offers this.

    Raises:
        InputError: a folder without annotation.
    """
    table, write = ClipTable(*folders), answer or moment_answer

    def policy(prompt: Prompt) -> str | ToolCall:
        frames: Sequence[ClipFrame | None] = prompt.pictures[: prompt.num_question_pictures]
        if looks and not prompt.turn and "select_frames" in prompt.operations:
            wanted = _shown(frames, prompt.text)[:_MAX_FRAMES]
            if wanted:
                return ToolCall(name="select_frames", arguments={"target_frames": wanted})
        return write(frames, prompt)

    return AnnotatedModel(table.recognise, policy, dialect=dialect)


def moment_answer(frames: Sequence[ClipFrame | None], prompt: Prompt) -> str:
    """Return the frames that show each lettered description (`A: 2-4; B: none`), or boxes in one frame.

    The form follows the question: with lettered lines the numbers of frames; otherwise the boxes of what the question
    names, in thousandths of the frame (`120 300 450 620; ...`), or `none`.
    """
    known = next((one for one in frames if one is not None), None)
    if known is None:
        return UNKNOWN
    queries = _QUERY.findall(prompt.text)
    if queries:
        return "; ".join(
            f"{label}: {_ranges(frames_with(frames, text)) or 'none'}" for label, text in queries
        )
    width, height = known.clip.size_px
    boxes = (_thousandths(box, width, height) for box in boxes_of(known, prompt.text))
    return "; ".join(boxes) or "none"


def frames_with(frames: Sequence[ClipFrame | None], text: str) -> list[int]:
    """Return the numbers, from 1, of the frames that show what a text names."""
    return [n for n, one in enumerate(frames, start=1) if one is not None and boxes_of(one, text)]


def boxes_of(frame: ClipFrame, text: str) -> tuple[PixelBox, ...]:
    """Return the boxes of what a text names in a frame: an event by its description, or the face or plate."""
    query = _query_in(frame.clip, text)
    if query is not None:
        return frame.boxes(query)
    words = _TARGET_WORDS[frame.clip.target.kind]
    if any(re.search(rf"\b{word}s?\b", text, re.IGNORECASE) for word in words):
        return frame.target_boxes
    return ()


def _query_in(clip: ClipRow, text: str) -> QueryRow | None:
    lowered = text.casefold()
    return next((one for one in clip.queries if one.text.casefold() in lowered), None)


def _shown(frames: Sequence[ClipFrame | None], text: str) -> list[int]:
    wanted = [line for _, line in _QUERY.findall(text)] or [text]
    return sorted({number for line in wanted for number in frames_with(frames, line)})


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers with ranges: `2-4, 7`."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in groups)


def _thousandths(box: PixelBox, width: int, height: int) -> str:
    sides = (width, height, width, height)
    return " ".join(f"{1000 * value / side:.0f}" for value, side in zip(box, sides, strict=True))
