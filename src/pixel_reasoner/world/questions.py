"""Questions about a scene, with exact answers and evidence.

Half of the questions of a family need an operation: the answer is a character, a comparison, a sum or a count of
characters that
are illegible in the overview. The others (*overview*) can be answered from the overview. They measure whether a model
avoids unnecessary operations.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from pixel_reasoner.schema.question import AnswerType, MediaItem, Question
from pixel_reasoner.world.operation_questions import OPERATION_GENERATORS
from pixel_reasoner.world.question_parts import (
    NEEDS_OPERATION as NEEDS_OPERATION,
    OVERVIEW as OVERVIEW,
    Detail,
    Overview,
    Overviews,
    count_question,
    detail_question,
    exists_question,
    picture_overviews,
    place_questions,
    sorted_by_name as sorted_by_name,
    text_type,
)
from pixel_reasoner.world.scene import BANDS, COLORS, DIGITS, LETTERS, Family, Item, Scene

_BAND_NAMES = {"cards": "row of cards", "bars": "bar chart", "line": "line chart", "table": "table"}


def build_question(scene: Scene, media_item: MediaItem) -> Question:
    """Return the question of a scene: with or without operation at equal probability, then a random question of that kind."""
    rng = scene.rng("question")
    wanted = NEEDS_OPERATION if rng.random() < 0.5 else OVERVIEW
    by_kind: dict[str, list[Question]] = {}
    other: dict[str, list[Question]] = {}
    for question in all_questions(scene, media_item):
        group, kind = question.category.split("/")
        kinds = by_kind if group == wanted else other
        kinds.setdefault(kind, []).append(question)
    kind = rng.choice(sorted(by_kind or other))
    return rng.choice((by_kind or other)[kind])


def all_questions(scene: Scene, media_item: MediaItem) -> Iterator[Question]:
    """Yield all questions about a scene, or a sample if there are very many. Wording depends on the seed of the scene."""
    rng = scene.rng("wording")
    with_operation, overviews = _GENERATORS[scene.family]
    yield from with_operation(scene, media_item, rng)
    for number, one in enumerate(overviews(scene, rng), start=1):
        is_count = one.kind.startswith("count")
        yield Question(
            id=f"{scene.id}-{one.kind}-{number}",
            text=one.text,
            media=(media_item,),
            answer=(one.answer,),
            answer_type=AnswerType.NUMBER if is_count else text_type(scene),
            category=f"{OVERVIEW}/{one.kind}",
            needs_look=False,
            reasoning=one.reasoning,
        )


ITEM_FAMILIES: tuple[Family, ...] = ("attribute", "infographic", "video")
"""families with a question about each single item"""


def item_question(scene: Scene, media_item: MediaItem, item: Item) -> Question:
    """Return the question about one item of a scene of `ITEM_FAMILIES`.

    >>> from pixel_reasoner.world.scene import make_scene
    >>> scene = make_scene("attribute", 7)
    >>> question = item_question(scene, MediaItem(kind="image", path="x.png"), scene.items[0])
    >>> question.evidence.subjects == (f"the {scene.items[0].name}",)
    True
    """
    assert scene.family in ITEM_FAMILIES, "other families ask about several items"
    subjects = (f"the {item.name}",)
    asked = all_questions(scene, media_item)
    return next(one for one in asked if one.evidence and one.evidence.subjects == subjects)


# --- questions that need an operation ---


def _read_questions(scene: Scene, media_item: MediaItem, rng: random.Random) -> Iterator[Question]:
    for item in scene.items:
        kind = "letter" if item.glyph in LETTERS else "digit"
        text = rng.choice(
            (
                f"Which {kind} is on the {item.name}?",
                f"Read the {kind} on the {item.name}.",
                f"What {kind} does the {item.name} carry?",
            )
        )
        yield detail_question(scene, media_item, "read", text, item.glyph, [item])


def _page_read_questions(
    scene: Scene, media_item: MediaItem, rng: random.Random
) -> Iterator[Question]:
    for item in scene.items:
        kind = "number" if item.glyph.isdigit() else "city"
        where = (
            f"in the first row of the {item.name}"
            if item.shape == "column"
            else f"on the {item.name}"
        )
        texts: tuple[str, ...] = (f"Which {kind} is {where}?", f"Read the {kind} {where}.")
        if item.shape == "print":
            texts = ("Which city does the small print name?", "Read the city in the small print.")
        yield detail_question(scene, media_item, "read", rng.choice(texts), item.glyph, [item])


def _pair_questions(scene: Scene, media_item: MediaItem, rng: random.Random) -> Iterator[Question]:
    """Yield questions about the larger of two digits, and about their sum."""
    for pair in rng.sample(list(itertools.permutations(scene.items, 2)), 3):
        first, second = pair
        if first.glyph != second.glyph:
            larger = max(pair, key=lambda item: item.glyph)
            text = rng.choice(
                (
                    f"Which carries the larger digit, the {first.name} or the {second.name}?",
                    f"The {first.name} or the {second.name}: whose digit is larger?",
                )
            )
            conclusion = f", so the {larger.name} carries the larger digit"
            yield detail_question(scene, media_item, "larger", text, larger.name, pair, conclusion)
        total = int(first.glyph) + int(second.glyph)
        text = rng.choice(
            (
                f"What do the digits on the {first.name} and the {second.name} add up to?",
                f"Add the digits on the {first.name} and the {second.name}.",
            )
        )
        conclusion = f", and {first.glyph} + {second.glyph} = {total}"
        yield detail_question(scene, media_item, "sum", text, str(total), pair, conclusion)


def _count_questions(scene: Scene, media_item: MediaItem, rng: random.Random) -> Iterator[Question]:
    """Yield questions about the number of shapes of one colour with a digit."""
    for color in COLORS:
        alike = [item for item in sorted_by_name(scene.items) if item.color == color]
        if len(alike) < 2:
            continue
        text = rng.choice(
            (
                f"How many of the {color} shapes carry a digit?",
                f"On how many {color} shapes is a digit?",
            )
        )
        marked = [int(item.glyph in DIGITS) for item in alike]
        conclusions = [f": {number} so far" for number in itertools.accumulate(marked)]
        yield detail_question(
            scene, media_item, "count", text, str(sum(marked)), alike, *conclusions
        )


# --- overview questions ---


def _number_questions(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    """Yield questions about the number of shapes, of one colour and in total."""
    yield count_question(
        scene.items, rng.choice(("How many shapes are there?", "Count the shapes."))
    )
    colors = [item.color for item in scene.items]
    several = next(color for color in colors if colors.count(color) > 1)
    one = rng.choice([color for color in colors if colors.count(color) == 1])
    absent = rng.choice([color for color in COLORS if color not in colors])
    for color in (several, one, absent):
        text = rng.choice((f"How many {color} shapes are there?", f"Count the {color} shapes."))
        alike = [item for item in scene.items if item.color == color]
        counted = count_question(alike, text)._replace(kind="count_of_colour")
        yield counted if alike else counted._replace(reasoning=f"there is no {color} shape")


def _page_overviews(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    page = scene.page
    assert page is not None, "only pages have bands"
    yield Overview(
        "heading", "What is the heading?", page.heading, f"the heading is {page.heading}"
    )
    absent = rng.choice([band for band in BANDS if band not in page.bands])
    for band, answer in ((rng.choice(page.bands), "yes"), (absent, "no")):
        name = _BAND_NAMES[band]
        text = rng.choice((f"Is there a {name}?", f"Can you see a {name}?"))
        yield exists_question(text, name, answer)
    parts = {kind: [i for i in scene.items if i.shape == kind] for kind in ("card", "bar", "point")}
    if parts["card"]:
        yield count_question(
            parts["card"], rng.choice(("How many cards are there?", "Count the cards."))
        )
    if parts["bar"]:
        tallest = min(parts["bar"], key=lambda item: item.y)
        reasoning = f"the tallest bar is the {tallest.name}"
        yield Overview("tallest", "What colour is the tallest bar?", tallest.color, reasoning)
    if parts["point"]:
        first, *_, last = parts["point"]
        reasoning = f"the line goes from the {first.name} to the {last.name}"
        yield Overview(
            "trend", "Does the line rise or fall?", "rises" if page.rising else "falls", reasoning
        )


def _clip_overviews(scene: Scene, rng: random.Random) -> Iterator[Overview]:
    assert scene.ball is not None, "only clips have a ball"
    yield count_question(scene.items, rng.choice(("How many cards appear?", "Count the cards.")))
    colors = {item.color for item in scene.items}
    present = rng.choice(sorted(colors))
    absent = rng.choice(sorted(set(COLORS) - colors))
    for color, answer in ((present, "yes"), (absent, "no")):
        text = rng.choice((f"Is there a {color} card?", f"Can you see a {color} card?"))
        yield exists_question(text, f"{color} card", answer)
    color = scene.ball.color
    yield Overview("ball", "What colour is the ball?", color, f"the ball is {color}")
    start, end = ("left", "right") if scene.ball.rightwards else ("right", "left")
    reasoning = f"the ball starts on the {start} and ends on the {end}"
    yield Overview("direction", "Does the ball move left or right?", end, reasoning)


_GENERATORS: dict[Family, tuple[Detail, Overviews]] = {
    "attribute": (_read_questions, picture_overviews),
    "relation": (_pair_questions, place_questions),
    "count": (_count_questions, _number_questions),
    "infographic": (_page_read_questions, _page_overviews),
    "video": (_read_questions, _clip_overviews),
    **OPERATION_GENERATORS,
}
