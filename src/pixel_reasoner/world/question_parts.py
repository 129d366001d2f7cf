"""Questions that several families of PixelWorld share: details of shapes, positions, counts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.world.scene import COLORS, SHAPES, Item, Scene

_COLORS = list(COLORS)
NEEDS_OPERATION = "needs_look"
OVERVIEW = "overview"
_MIN_DISTANCE = 0.2
"""minimum distance of two shapes whose positions are compared, fraction of the picture"""


def text_type(scene: Scene) -> AnswerType:
    """Return how an answer about a scene is compared: text on pages by its similarity."""
    return AnswerType.TEXT if scene.page is None else AnswerType.ANLS


def detail_question(
    scene: Scene,
    media_item: MediaItem,
    kind: str,
    text: str,
    answer: str,
    items: Sequence[Item],
    *conclusions: str,
) -> Question:
    """Return a question that needs an operation on some items. `conclusions` are appended to the last findings."""
    readings = [f"the {item.name} carries {item.glyph}" for item in items]
    more = [""] * (len(readings) - len(conclusions)) + list(conclusions)
    evidence = Evidence(
        frames=items[0].frames,
        boxes=() if items[0].frames else tuple(item.box for item in items),
        subjects=tuple(f"the {item.name}" for item in items),
        findings=tuple(map("".join, zip(readings, more, strict=True))),
    )
    names = "-".join(f"{item.color}-{item.shape}" for item in items)
    is_number = kind in ("sum", "count")
    return Question(
        id=f"{scene.id}-{kind}-{names}",
        text=text,
        media=(media_item,),
        answer=(answer,),
        answer_type=AnswerType.NUMBER if is_number else text_type(scene),
        category=f"{NEEDS_OPERATION}/{kind}",
        needs_look=True,
        evidence=evidence,
    )


class Overview(NamedTuple):
    """Overview question."""

    kind: str
    text: str
    answer: str
    reasoning: str


def place_questions(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    """Yield questions about the relative position of two shapes."""
    pairs = list(itertools.permutations(scene.items, 2))
    rng.shuffle(pairs)
    for first, second in pairs:
        if abs(first.x - second.x) >= _MIN_DISTANCE:
            reasoning = (
                f"the {first.name} is {first.x:.1f} from the left, the {second.name} {second.x:.1f}"
            )
            text = f"Is the {first.name} left or right of the {second.name}?"
            yield Overview("side", text, "left" if first.x < second.x else "right", reasoning)
        if abs(first.y - second.y) >= _MIN_DISTANCE:
            reasoning = (
                f"the {first.name} is {first.y:.1f} from the top, the {second.name} {second.y:.1f}"
            )
            text = f"Is the {first.name} above or below the {second.name}?"
            yield Overview("height", text, "above" if first.y < second.y else "below", reasoning)


def picture_overviews(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    """Yield questions about shapes that the overview answers."""
    yield count_question(
        scene.items, rng.choice(("How many shapes are there?", "Count the shapes."))
    )
    present = rng.choice(scene.items)
    absent = rng.choice(
        [
            (c, s)
            for c in COLORS
            for s in SHAPES
            if all((c, s) != (i.color, i.shape) for i in scene.items)
        ]
    )
    for name, answer in ((present.name, "yes"), (" ".join(absent), "no")):
        text = rng.choice((f"Is there a {name}?", f"Can you see a {name}?"))
        yield exists_question(text, name, answer)
    largest = max(scene.items, key=lambda item: item.size)
    yield Overview(
        "largest",
        "What colour is the largest shape?",
        largest.color,
        f"the largest shape is the {largest.name}",
    )
    colors = [item.color for item in scene.items]
    for item in scene.items:
        if colors.count(item.color) == 1:
            yield Overview(
                "shape",
                f"What shape is the {item.color} object?",
                item.shape,
                f"the {item.color} object is a {item.shape}",
            )


def count_question(items: Iterable[Item], text: str) -> Overview:
    """Return a counting question whose reasoning names every item once."""
    named = [f"{number} {item.name}" for number, item in enumerate(sorted_by_name(items), 1)]
    return Overview("count", text, str(len(named)), ", ".join(named))


def sorted_by_name(items: Iterable[Item]) -> list[Item]:
    """Return items sorted by colour and shape: a fixed order, independent of the positions."""
    return sorted(items, key=lambda item: (_COLORS.index(item.color), item.shape))


def exists_question(text: str, name: str, answer: str) -> Overview:
    """Return a question whether something is in a scene."""
    reasoning = f"there is {'a' if answer == 'yes' else 'no'} {name}"
    return Overview("exists", text, answer, reasoning)


Detail = Callable[[Scene, MediaItem, random.Random], Iterator[Question]]
Overviews = Callable[[Scene, random.Random], Iterator[Overview]]
