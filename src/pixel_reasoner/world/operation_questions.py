"""Questions of the families for single operations, with exact answers and evidence."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.world.question_parts import (
    NEEDS_OPERATION,
    Detail,
    Overview,
    Overviews,
    detail_question,
    picture_overviews,
    place_questions,
    sorted_by_name,
)
from pixel_reasoner.world.scene import LETTERS, Family, Item, Scene

_MIN_RATIO, _MAX_RATIO = 1.12, 2.0
"""ratio of two distances that are compared: larger ones are seen at once"""
_MAX_QUESTIONS = 4


def _detail_questions(
    scene: Scene, media_item: MediaItem, rng: random.Random
) -> Iterator[Question]:
    for item in scene.items:
        kind = "letter" if item.glyph in LETTERS else "digit"
        text = rng.choice(
            (f"Which {kind} is on the {item.name}?", f"Read the {kind} on the {item.name}.")
        )
        question = detail_question(scene, media_item, "read", text, item.glyph, [item])
        yield question.model_copy(update={"labels": {"detail": scene.family}})


def _distance_questions(
    scene: Scene, media_item: MediaItem, rng: random.Random
) -> Iterator[Question]:
    """Yield questions which of two shapes is nearer to a third one."""
    found = []
    for first, second, third in itertools.permutations(scene.items, 3):
        one, other = _distance(first, second), _distance(first, third)
        if _MIN_RATIO <= max(one, other) / min(one, other) <= _MAX_RATIO:
            found.append((first, second, third))
    for first, second, third in rng.sample(found, min(_MAX_QUESTIONS, len(found))):
        nearer = min((second, third), key=lambda item: _distance(first, item))
        finding = f"the {nearer.name} is nearer"
        evidence = Evidence(
            segments=(_segment(first, second), _segment(first, third)),
            subjects=(
                f"the distance to the {second.name}",
                f"the distance to the {third.name}",
            ),
            findings=(finding, finding),
        )
        yield _question(
            scene,
            media_item,
            f"nearer-{_id(first)}-{_id(second)}-{_id(third)}",
            f"Which is nearer to the {first.name}, the {second.name} or the {third.name}?",
            nearer.name,
            evidence,
            finding,
        )


def _crowd_questions(scene: Scene, media_item: MediaItem, rng: random.Random) -> Iterator[Question]:
    """Yield questions about the number of all shapes, and of those of one colour."""
    for color in (None, *sorted({item.color for item in scene.items})):
        alike = [item for item in _in_reading_order(scene.items) if color in (None, item.color)]
        if len(alike) < 2:
            continue
        name = f"{color} shapes" if color else "shapes"
        evidence = Evidence(
            points=tuple((item.x, item.y) for item in alike),
            subjects=(f"the {name}",),
            findings=(f"the numbers end at {len(alike)}",),
        )
        named = ", ".join(f"{n} {item.name}" for n, item in enumerate(sorted_by_name(alike), 1))
        text = rng.choice((f"How many {name} are there?", f"Count the {name}."))
        yield _question(
            scene, media_item, f"number-{color or 'all'}", text, str(len(alike)), evidence, named
        )


def _brief_questions(scene: Scene, media_item: MediaItem, rng: random.Random) -> Iterator[Question]:
    for item in scene.items:
        kind = "letter" if item.glyph in LETTERS else "digit"
        # Sampled frame n has the number 4 n - 1 in the clip.
        before = (min(item.frames) + 1) // 4
        where = f"the card between frames {before} and {before + 1}"
        text = rng.choice((f"Which {kind} is on {where}?", f"Read the {kind} on {where}."))
        evidence = Evidence(
            clip_indices=tuple(number - 1 for number in item.frames),
            subjects=(where,),
            findings=(f"{where} carries {item.glyph}",),
        )
        yield Question(
            id=f"{scene.id}-read-{item.color}-card",
            text=text,
            media=(media_item,),
            answer=(item.glyph,),
            category=f"{NEEDS_OPERATION}/brief",
            needs_look=True,
            evidence=evidence,
        )


def _question(  # noqa: PLR0913 - the parts of a question
    scene: Scene,
    media_item: MediaItem,
    name: str,
    text: str,
    answer: str,
    evidence: Evidence,
    reasoning: str,
) -> Question:
    """Return a question that the overview may answer, and an operation answers exactly."""
    kind = name.partition("-")[0]
    return Question(
        id=f"{scene.id}-{name}",
        text=text,
        media=(media_item,),
        answer=(answer,),
        answer_type=AnswerType.NUMBER if kind == "number" else AnswerType.TEXT,
        category=f"{NEEDS_OPERATION}/{kind}",
        evidence=evidence,
        reasoning=reasoning,
    )


def _ball_overviews(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    del rng
    assert scene.ball is not None, "only clips have a ball"
    color = scene.ball.color
    yield Overview("ball", "What colour is the ball?", color, f"the ball is {color}")
    start, end = ("left", "right") if scene.ball.rightwards else ("right", "left")
    reasoning = f"the ball starts on the {start} and ends on the {end}"
    yield Overview("direction", "Does the ball move left or right?", end, reasoning)


def _no_overviews(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    del scene, rng
    yield from ()


def _segment(one: Item, other: Item) -> tuple[float, float, float, float]:
    return one.x, one.y, other.x, other.y


def _distance(one: Item, other: Item) -> float:
    return float(((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5)


def _id(item: Item) -> str:
    return item.name.replace(" ", "-")


def _in_reading_order(items: tuple[Item, ...]) -> list[Item]:
    """Return items by rows from top to bottom, and from left to right within a row."""
    return sorted(items, key=lambda item: (int(item.y * 5), item.x))


OPERATION_GENERATORS: dict[Family, tuple[Detail, Overviews]] = {
    "turned": (_detail_questions, picture_overviews),
    "faint": (_detail_questions, picture_overviews),
    "distance": (_distance_questions, place_questions),
    "crowd": (_crowd_questions, _no_overviews),
    "brief": (_brief_questions, _ball_overviews),
}
