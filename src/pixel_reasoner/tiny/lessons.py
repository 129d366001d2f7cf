r"""What the embedded model is taught to say: short expert traces about PixelWorld.

Thin on purpose: one look and an answer, or an answer at once. Mistakes and their correction come with trace
synthesis.
"""

from __future__ import annotations

from pixel_reasoner.dialects import HermesDialect
from pixel_reasoner.trace import Box, OpCall, Question
from pixel_reasoner.world.scene import Item, Scene

ROWS = ("upper", "middle", "lower")
COLUMNS = ("left", "centre", "right")
LOOK_SIDE = 0.18
"""side of the box an expert zooms into, share of the picture: a shape and some room for error"""


def look_box(item: Item) -> Box:
    """The square around an item that an expert zooms into, to two decimals."""
    x1 = min(max(round(item.x - LOOK_SIDE / 2, 2), 0.0), 1 - LOOK_SIDE)
    y1 = min(max(round(item.y - LOOK_SIDE / 2, 2), 0.0), 1 - LOOK_SIDE)
    return Box(x1, y1, round(x1 + LOOK_SIDE, 2), round(y1 + LOOK_SIDE, 2))


def look_turn(item: Item, dialect: HermesDialect) -> str:
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
    return f"I need a closer look at the {item.name}{where}.\n{dialect.write_call(call)}"


def _third(place: float, *names: str) -> str:
    return names[min(int(place * len(names)), len(names) - 1)]


def answer_turn(question: Question, item: Item | None) -> str:
    """The turn that answers: after a look at an item, or at once."""
    answer = question.answer[0]
    if item is not None:
        return f"The {item.name} carries {answer}. \\boxed{{{answer}}}"
    return f"I can see this at once. \\boxed{{{answer}}}"


def guess_turn(question: Question) -> str:
    """The turn that answers a question that needs a look when operations are not offered."""
    return f"It is too small to read, so I guess. \\boxed{{{question.answer[0]}}}"


def subject(question: Question, scene: Scene) -> Item | None:
    """The item that an overview question is about, if it is about one that is there.

    >>> from pixel_reasoner.trace import Medium
    >>> from pixel_reasoner.world import all_questions, make_scene
    >>> scene = make_scene("attribute", 7)
    >>> largest = [q for q in all_questions(scene, Medium(kind="image", path="")) if "largest" in q.text]
    >>> subject(largest[0], scene).color == largest[0].answer[0]
    True
    """
    kind = question.category.rpartition("/")[2]
    if kind == "largest":
        return max(scene.items, key=lambda item: item.size)
    if kind not in ("shape", "exists"):
        return None
    part = "color" if kind == "shape" else "name"
    return next((item for item in scene.items if getattr(item, part) in question.text), None)
