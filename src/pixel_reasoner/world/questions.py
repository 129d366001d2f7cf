"""Questions about a scene, with exact answers and evidence.

Half of a family's questions need a look: the answer is a character that is unreadable in the overview. The
others (*overview*) are answered from what the first look shows, so that knowing when not to look again is
measured too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from pixel_reasoner.trace import AnswerType, Evidence, Medium, Question
from pixel_reasoner.world.scene import COLORS, LETTERS, SHAPES, Item, Scene

_COLORS = list(COLORS)
NEEDS_LOOK = "needs_look"
OVERVIEW = "overview"


def question_of(scene: Scene, medium: Medium) -> Question:
    """The one question that stands for this seed: needs a look or not with even odds, then any of the kind."""
    rng = scene.rng("question")
    wanted = NEEDS_LOOK if rng.random() < 0.5 else OVERVIEW
    by_kind: dict[str, list[Question]] = {}
    for question in all_questions(scene, medium):
        group, kind = question.category.split("/")
        if group == wanted:
            by_kind.setdefault(kind, []).append(question)
    kind = rng.choice(sorted(by_kind))
    return rng.choice(by_kind[kind])


def all_questions(scene: Scene, medium: Medium) -> Iterator[Question]:
    """Every question that can be asked about a scene; wording varies with the scene's seed."""
    rng = scene.rng("wording")
    for item in scene.items:
        yield _read(scene, medium, item, rng)
    kinds = _about_clip(scene, rng) if scene.family == "video" else _about_picture(scene, rng)
    for number, (kind, text, answer, reasoning) in enumerate(kinds, start=1):
        yield Question(
            id=f"{scene.id}-{kind}-{number}",
            text=text,
            media=(medium,),
            answer=(answer,),
            answer_type=AnswerType.NUMBER if kind == "count" else AnswerType.TEXT,
            category=f"{OVERVIEW}/{kind}",
            needs_look=False,
            reasoning=reasoning,
        )


def _read(scene: Scene, medium: Medium, item: Item, rng: random.Random) -> Question:
    kind = "letter" if item.glyph in LETTERS else "digit"
    text = rng.choice(
        (
            f"Which {kind} is on the {item.name}?",
            f"Read the {kind} on the {item.name}.",
            f"What {kind} does the {item.name} carry?",
        )
    )
    evidence = Evidence(
        frames=item.frames,
        boxes=() if item.frames else (item.box,),
        subjects=(f"the {item.name}",),
        findings=(f"the {item.name} carries {item.glyph}",),
    )
    return Question(
        id=f"{scene.id}-read-{item.color}-{item.shape}",
        text=text,
        media=(medium,),
        answer=(item.glyph,),
        category=f"{NEEDS_LOOK}/read",
        needs_look=True,
        evidence=evidence,
    )


_Overview = tuple[str, str, str, str]
"""(kind, text, answer, reasoning)"""


def _about_picture(scene: Scene, rng: random.Random) -> Iterator[_Overview]:
    yield _count(scene, rng.choice(("How many shapes are there?", "Count the shapes.")))
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
        yield _exists(text, name, answer)
    largest = max(scene.items, key=lambda item: item.size)
    yield (
        "largest",
        "What colour is the largest shape?",
        largest.color,
        f"the largest shape is the {largest.name}",
    )
    colors = [item.color for item in scene.items]
    for item in scene.items:
        if colors.count(item.color) == 1:
            yield (
                "shape",
                f"What shape is the {item.color} object?",
                item.shape,
                f"the {item.color} object is a {item.shape}",
            )


def _about_clip(scene: Scene, rng: random.Random) -> Iterator[_Overview]:
    assert scene.ball is not None, "only clips have a ball"
    yield _count(scene, rng.choice(("How many cards appear?", "Count the cards.")))
    shown = {item.color for item in scene.items}
    present = rng.choice(sorted(shown))
    absent = rng.choice(sorted(set(COLORS) - shown))
    for color, answer in ((present, "yes"), (absent, "no")):
        text = rng.choice((f"Is there a {color} card?", f"Can you see a {color} card?"))
        yield _exists(text, f"{color} card", answer)
    color = scene.ball.color
    yield "ball", "What colour is the ball?", color, f"the ball is {color}"
    start, end = ("left", "right") if scene.ball.rightwards else ("right", "left")
    told = f"the ball starts on the {start} and ends on the {end}"
    yield "direction", "Does the ball move left or right?", end, told


def _count(scene: Scene, text: str) -> _Overview:
    """Counting by naming everything once."""
    named = [f"{number} {item.name}" for number, item in enumerate(in_order_of_names(scene), 1)]
    return "count", text, str(len(named)), ", ".join(named)


def in_order_of_names(scene: Scene) -> list[Item]:
    """All items in the order of colours and shapes: whoever names them finds each by the one before it."""
    return sorted(scene.items, key=lambda item: (_COLORS.index(item.color), item.shape))


def _exists(text: str, name: str, answer: str) -> _Overview:
    return "exists", text, answer, f"there is {'a' if answer == 'yes' else 'no'} {name}"
