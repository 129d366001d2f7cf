r"""What the embedded model is taught to say: short expert traces about PixelWorld.

Thin on purpose: one look and an answer, or an answer at once. Mistakes and their correction come with trace
synthesis.
"""

from __future__ import annotations

from typing import NamedTuple

from pixel_reasoner.dialects import HermesDialect
from pixel_reasoner.trace import Box, OpCall, Question
from pixel_reasoner.world.questions import in_order_of_names
from pixel_reasoner.world.scene import NUM_FRAMES, Ball, Item, Scene

ROWS = ("upper", "middle", "lower")
COLUMNS = ("left", "centre", "right")
LOOK_SIDE = 0.18
"""side of the box an expert zooms into, share of the picture: a shape and some room for error"""


class Phrase(NamedTuple):
    """A part of what an expert says in a turn."""

    text: str
    about: Item | None = None
    """what it is about: where attention is to rest while it is written"""


def look_box(item: Item) -> Box:
    """The square around an item that an expert zooms into, to two decimals."""
    x1 = min(max(round(item.x - LOOK_SIDE / 2, 2), 0.0), 1 - LOOK_SIDE)
    y1 = min(max(round(item.y - LOOK_SIDE / 2, 2), 0.0), 1 - LOOK_SIDE)
    return Box(x1, y1, round(x1 + LOOK_SIDE, 2), round(y1 + LOOK_SIDE, 2))


def look_turn(item: Item, dialect: HermesDialect) -> list[Phrase]:
    """The turn that calls the operation which shows the item's character.

    In a picture it first says roughly where the item is: once a small model can say that, it has found the item,
    and the digits of the box are a detail.
    """
    if item.frames:
        where = ""
        call = OpCall(name="select_frames", arguments={"target_frames": list(item.frames)})
    else:
        where = f" in the {_third(item.y, *ROWS)} {_third(item.x, *COLUMNS)}"
        arguments = {"bbox_2d": list(look_box(item)), "target_image": 1}
        call = OpCall(name="zoom_in", arguments=arguments)
    return [
        Phrase(f"I need a closer look at the {item.name}{where}.\n{dialect.write_call(call)}", item)
    ]


def _third(place: float, *names: str) -> str:
    return names[min(int(place * len(names)), len(names) - 1)]


def answer_turn(question: Question, scene: Scene, item: Item | None = None) -> list[Phrase]:
    r"""The turn that answers: after a look at an item, or at once.

    >>> from pixel_reasoner.trace import Medium
    >>> from pixel_reasoner.world import all_questions, make_scene
    >>> scene = make_scene("attribute", 7)
    >>> count = [q for q in all_questions(scene, Medium(kind="image", path="")) if "count" in q.category]
    >>> spoken(answer_turn(count[0], scene))
    '1 red circle, 2 green circle, 3 blue square, 4 orange circle. \\boxed{4}'
    """
    answer = question.answer[0]
    boxed = f"\\boxed{{{answer}}}"
    if item is not None:
        return [Phrase(f"The {item.name} carries {answer}. {boxed}", item)]
    kind = question.category.rpartition("/")[2]
    if kind == "count":
        return [*_enumeration(scene), Phrase(f". {boxed}")]
    if kind == "direction":
        assert scene.ball is not None, "only clips are asked for a direction"
        ends = [ball_as_item(scene.ball, frame) for frame in (1, NUM_FRAMES)]
        sides = ["left" if end.x < 0.5 else "right" for end in ends]
        return [
            Phrase(f"The ball starts on the {sides[0]}", ends[0]),
            Phrase(f" and ends on the {sides[1]}. {boxed}", ends[1]),
        ]
    return [Phrase(f"I can see this at once. {boxed}", _subject(question, scene))]


def guess_turn(question: Question, item: Item) -> list[Phrase]:
    """The turn that answers a question that needs a look when operations are not offered."""
    return [Phrase(f"It is too small to read, so I guess. \\boxed{{{question.answer[0]}}}", item)]


def spoken(phrases: list[Phrase]) -> str:
    """What the phrases say together."""
    return "".join(phrase.text for phrase in phrases)


def _enumeration(scene: Scene) -> list[Phrase]:
    """All items by name, numbered."""
    items = in_order_of_names(scene)
    names = [f"{number} {item.name}" for number, item in enumerate(items, start=1)]
    texts = [names[0], *(f", {name}" for name in names[1:])]
    return [Phrase(text, item) for text, item in zip(texts, items, strict=True)]


def ball_as_item(ball: Ball, frame: int) -> Item:
    """The ball where it is in a frame."""
    return Item(ball.color, "ball", ball.x(frame), ball.y, ball.size, "", (frame,))


def _subject(question: Question, scene: Scene) -> Item | None:
    """The item that an overview question is about, if it is about one that is there."""
    kind = question.category.rpartition("/")[2]
    if kind == "largest":
        return max(scene.items, key=lambda item: item.size)
    if kind not in ("shape", "exists"):
        return None
    part = "color" if kind == "shape" else "name"
    return next((item for item in scene.items if getattr(item, part) in question.text), None)
