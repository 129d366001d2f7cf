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
    for number, (kind, text, answer) in enumerate(kinds, start=1):
        yield Question(
            id=f"{scene.id}-{kind}-{number}",
            text=text,
            media=(medium,),
            answer=(answer,),
            answer_type=AnswerType.NUMBER if kind == "count" else AnswerType.TEXT,
            category=f"{OVERVIEW}/{kind}",
            needs_look=False,
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
    evidence = Evidence(frames=item.frames) if item.frames else Evidence(boxes=(item.box,))
    return Question(
        id=f"{scene.id}-read-{item.color}-{item.shape}",
        text=text,
        media=(medium,),
        answer=(item.glyph,),
        category=f"{NEEDS_LOOK}/read",
        needs_look=True,
        evidence=evidence,
    )


def _about_picture(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """(kind, text, answer) of the overview questions of a picture."""
    count = str(len(scene.items))
    yield "count", rng.choice(("How many shapes are there?", "Count the shapes.")), count
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
        yield "exists", rng.choice((f"Is there a {name}?", f"Can you see a {name}?")), answer
    largest = max(scene.items, key=lambda item: item.size)
    yield "largest", "What colour is the largest shape?", largest.color
    colors = [item.color for item in scene.items]
    for item in scene.items:
        if colors.count(item.color) == 1:
            yield "shape", f"What shape is the {item.color} object?", item.shape


def _about_clip(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """(kind, text, answer) of the overview questions of a clip."""
    assert scene.ball is not None, "only clips have a ball"
    yield "count", rng.choice(("How many cards appear?", "Count the cards.")), str(len(scene.items))
    shown = {item.color for item in scene.items}
    present = rng.choice(sorted(shown))
    absent = rng.choice(sorted(set(COLORS) - shown))
    for color, answer in ((present, "yes"), (absent, "no")):
        yield (
            "exists",
            rng.choice((f"Is there a {color} card?", f"Can you see a {color} card?")),
            answer,
        )
    yield "ball", "What colour is the ball?", scene.ball.color
    way = "right" if scene.ball.rightwards else "left"
    yield "direction", "Does the ball move left or right?", way
