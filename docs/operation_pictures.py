"""Draws the pictures of docs/operations.md: a call of each operation on PixelWorld, next to its result.

PYTHONPATH=src python docs/operation_pictures.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.registry import OPERATIONS
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import ToolCall, Transform
from pixel_reasoner.world import all_questions, make_scene, write_media
from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.render import build_media_item

FOLDER = Path(__file__).parent
HEIGHT, GAP, TEXT_PX = 300, 14, 9
INK, PAPER = (40, 44, 50), (255, 255, 255)
_PX = PixelBudget(min_px=1, max_px=HEIGHT * HEIGHT)
BUDGETS = PixelBudgets(picture=_PX, crop=_PX, frame=_PX, selected_frame=_PX, multiple=1)


class Example(NamedTuple):
    """A call on a scene of PixelWorld."""

    operation: str
    family: str
    seed: int
    choose: Callable[[Question], bool]
    """which question of the scene"""
    arguments: Callable[[Question], dict[str, object]]


def _padded(box: tuple[float, ...], by: float = 0.03) -> list[float]:
    low, high = box[:2], box[2:]
    return [round(max(0.0, v - by), 2) for v in low] + [round(min(1.0, v + by), 2) for v in high]


def _boxes(question: Question) -> list[list[float]]:
    assert question.evidence is not None, "a question with evidence"
    return [_padded(box) for box in question.evidence.boxes]


EXAMPLES = (
    Example(
        "zoom_variants",
        "turned",
        2,
        lambda one: bool(one.evidence) and one.answer[0] in "AEFKPRT47",
        lambda one: {"bbox_2d": _boxes(one)[0], "show": "turns"},
    ),
    Example(
        "zoom_variants",
        "faint",
        3,
        lambda one: bool(one.evidence),
        lambda one: {"bbox_2d": _boxes(one)[0], "show": "contrast"},
    ),
    Example(
        "compare",
        "relation",
        1,
        lambda one: "larger" in one.id,
        lambda one: dict(zip(("bbox_2d", "other_bbox_2d"), _boxes(one), strict=True)),
    ),
    Example(
        "mark",
        "crowd",
        5,
        lambda one: one.id.endswith("all"),
        lambda one: {"points": [list(point) for point in one.evidence.points]},  # type: ignore[union-attr]
    ),
    Example(
        "measure",
        "distance",
        2,
        lambda one: "nearer" in one.id,
        lambda one: {"segments": [list(one) for one in one.evidence.segments]},  # type: ignore[union-attr]
    ),
    Example(
        "read_text",
        "infographic",
        4,
        lambda one: bool(one.evidence) and "print" in one.id,
        lambda one: {"bbox_2d": _padded(_boxes(one)[0], 0.06)},
    ),
    Example(
        "zoom_time",
        "brief",
        1,
        lambda one: bool(one.evidence),
        lambda one: {
            "start_frame": int(one.text.split("frames ")[1].split(" ")[0]),
            "end_frame": int(one.text.split("frames ")[1].split(" ")[0]) + 1,
        },
    ),
)


def main() -> None:
    """Write one picture per example."""
    with tempfile.TemporaryDirectory() as folder:
        for example in EXAMPLES:
            name = example.arguments(_question(example)).get("show", example.operation)
            name = str(name).replace("_", "-")
            draw(example, Path(folder)).save(
                FOLDER / f"operation-{name}.webp", quality=72, method=6
            )


def _question(example: Example) -> Question:
    scene = make_scene(example.family, example.seed)  # type: ignore[arg-type]
    return next(filter(example.choose, all_questions(scene, build_media_item(scene))))


def draw(example: Example, folder: Path) -> Image.Image:
    """Return the question's picture, the result, the question and the call."""
    scene = make_scene(example.family, example.seed)  # type: ignore[arg-type]
    question = _question(example)
    write_media(scene, folder / question.media[0].path)
    context = MediaContext(with_media_root(question, folder), BUDGETS)
    spec = OPERATIONS.get(example.operation)
    call = ToolCall(name=example.operation, arguments=example.arguments(question))
    shown = [_before(context, call)]
    observation = spec.execute(call, context)
    assert observation.error is None, observation.text
    shown += [context.view(one.number) for one in observation.pictures][:4]
    for drawing in spec.draw(call, observation):
        added = context.add_region(drawing.picture, drawing.box, drawing.transforms)
        shown.append(context.view(added.number))
    lines = [question.text, spec.describe(call)]
    lines += [line for line in observation.text.splitlines() if line][:3]
    lines += [f'"{one.text}"  {one.score:.2f}' for one in observation.lines[:4]]
    return sheet(shown, lines)


def _before(context: MediaContext, call: ToolCall) -> Image.Image:
    """Return the first picture with the boxes of the call, or the frames of the interval."""
    if "start_frame" in call.arguments:
        numbers = [
            context.frames[int(call.arguments[name])] for name in ("start_frame", "end_frame")
        ]
        frames = [context.view(number) for number in numbers]
        canvas = Image.new("RGB", (sum(one.width for one in frames) + 4, frames[0].height), PAPER)
        canvas.paste(frames[0], (0, 0))
        canvas.paste(frames[1], (frames[0].width + 4, 0))
        return canvas
    boxes = [
        call.arguments[name] for name in ("bbox_2d", "other_bbox_2d") if name in call.arguments
    ]
    steps = [Transform(name="draw_marks", arguments={"marks": boxes})] if boxes else []
    marked = context.fork().add_region(1, transforms=steps)
    drawn = context.fork()
    drawn.pictures.append(marked)
    return drawn.view(marked.number)


def sheet(pictures: list[Image.Image], lines: list[str]) -> Image.Image:
    """Return pictures of the same height in a row, with lines of text below."""
    scaled = [
        one.resize(
            (max(1, round(one.width * HEIGHT / one.height)), HEIGHT), Image.Resampling.LANCZOS
        )
        for one in pictures
    ]
    font = scaled_font(TEXT_PX, 2)
    step = round(2.1 * TEXT_PX)
    width = max(
        sum(one.width for one in scaled) + GAP * (len(scaled) - 1),
        *(round(font.getlength(line)) + 8 for line in lines),
    )
    canvas = Image.new("RGB", (width, HEIGHT + GAP + step * len(lines)), PAPER)
    left = 0
    for one in scaled:
        canvas.paste(one, (left, 0))
        left += one.width + GAP
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        pen.text((4, HEIGHT + GAP // 2 + number * step), line, font=font, fill=INK)
    return canvas


if __name__ == "__main__":
    main()
