"""Questions about PixelWorld 2 scenes. The wording depends on the family and the seed, never on height or twin.

`needs_look` is the renderer's label: whether the decisive characters are too small to read in the overview
(`Params.is_readable`). Labels of a question, for metrics: `evidence_px`, `twin`, `present` (`no` where the answer is
that nothing is there) and `trained_height` (`no` for the height that the training split leaves out).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import (
    AnswerType,
    Evidence,
    MediaItem,
    Question,
    SearchStep,
)
from pixel_reasoner.world.questions import NEEDS_OPERATION, OVERVIEW
from pixel_reasoner.world.scene import DIGITS, NUM_FRAMES, Item
from pixel_reasoner.world.v2.params import CLIPS, HELD_OUT_PX
from pixel_reasoner.world.v2.scene import BLANK, Content, Scene, padded_box

ITEM_FAMILIES = ("attribute", "where", "video")
"""families with a question about each single item"""
NOTHING = "none"
"""answer where nothing is there"""
_OR_NONE = f"Answer {NOTHING} if there is none."


class _Draft(NamedTuple):
    """Question before it is combined with its scene."""

    kind: str
    text: str
    answer: str
    items: tuple[Item, ...]
    """evidence, in the order in which it is looked at"""
    findings: tuple[str, ...]
    """observation at each evidence item"""
    answer_type: AnswerType = AnswerType.TEXT
    search: tuple[Item, ...] = ()
    """items that a search visits before"""


def build_question(scene: Scene, media_item: MediaItem) -> Question:
    """Return the question whose answer differs between the twins of a scene.

    >>> from pixel_reasoner.world.v2 import Params, make_scene
    >>> params = Params(size_px=1024, overview_px=192, evidence_px=3)
    >>> scene = make_scene("attribute", 2, params)
    >>> question = build_question(scene, MediaItem(kind="image", path="x.png"))
    >>> question.needs_look, question.labels["evidence_px"]
    (True, '3')
    """
    return next(all_questions(scene, media_item))


def all_questions(scene: Scene, media_item: MediaItem) -> Iterator[Question]:
    """Yield the question of `build_question`, then further ones about the same picture, for training."""
    names = set[str]()
    for draft in _DRAFTS[scene.family](scene.content, scene.rng("wording")):
        question = _question(scene, media_item, draft)
        if question.text not in names:  # a crowd contains equal names
            names.add(question.text)
            yield question.model_copy(update={"id": f"{question.id}-{len(names)}"})


def item_question(scene: Scene, media_item: MediaItem, item: Item) -> Question:
    """Return the question about one item of a scene of `ITEM_FAMILIES`.

    >>> from pixel_reasoner.world.v2 import Params, make_scene
    >>> scene = make_scene("where", 2, Params(size_px=1024, overview_px=192, evidence_px=3))
    >>> media_item = MediaItem(kind="image", path="x.png")
    >>> [item_question(scene, media_item, item).evidence.subjects for item in scene.items[:2]]
    [('the green square',), ('the purple diamond',)]
    """
    assert scene.family in ITEM_FAMILIES, "other families ask about several items"
    for question in all_questions(scene, media_item):
        if question.evidence is not None and question.evidence.subjects == (f"the {item.name}",):
            return question
    # `all_questions` searches only for some of the characters.
    draft = _search(scene.content, scene.rng("wording").choice(_WHERE), item.glyph)
    question = _question(scene, media_item, draft)
    return question.model_copy(update={"id": f"{question.id}-{item.color}-{item.shape}"})


def _question(scene: Scene, media_item: MediaItem, draft: _Draft) -> Question:
    readable = scene.params.is_readable
    is_clip = scene.family in CLIPS
    frames = tuple(sorted({frame for item in draft.items for frame in item.frames}))
    evidence = Evidence(
        frames=frames if is_clip else (),
        boxes=() if is_clip else tuple(map(padded_box, draft.items)),
        subjects=tuple(f"the {item.name}" for item in draft.items),
        findings=draft.findings,
        search=tuple(
            SearchStep(
                box=padded_box(item), subject=f"the {item.name}", finding=_finding(item.name, item)
            )
            for item in draft.search
        ),
    )
    group = OVERVIEW if readable else NEEDS_OPERATION
    return Question(
        id=f"{scene.id}-{scene.params.evidence_px}px-{scene.twin}-{draft.kind}",
        text=draft.text,
        media=(media_item,),
        answer=(draft.answer,),
        answer_type=draft.answer_type,
        category=f"{group}/{draft.kind}",
        labels={
            "evidence_px": str(scene.params.evidence_px),
            "twin": scene.twin,
            "present": "no" if draft.answer == NOTHING else "yes",
            "trained_height": "no" if scene.params.evidence_px == HELD_OUT_PX else "yes",
        },
        group=scene.id,
        needs_look=not readable,
        evidence=evidence,
        reasoning=_reasoning(draft) if readable else "",
    )


def _reasoning(draft: _Draft) -> str:
    """Return what the overview shows: every visited item and the conclusion."""
    visited = [_finding(item.name, item) for item in draft.search]
    return "; ".join((*visited, *draft.findings))


def _finding(name: str, item: Item) -> str:
    carried = "no character" if item.glyph == BLANK else item.glyph
    return f"the {name} carries {carried}"


def _answer(item: Item) -> str:
    return NOTHING if item.glyph == BLANK else item.glyph


# --- families ---


def _read(content: Content, rng: random.Random) -> Iterator[_Draft]:
    """Yield questions about the character on one shape or card."""
    order = [*content.targets, *(n for n in range(len(content.items)) if n not in content.targets)]
    pattern = rng.choice(("Which character is on the {}?", "Read the character on the {}."))
    for index in order:
        item = content.items[index]
        text = f"{pattern.format(item.name)} {_OR_NONE}"
        yield _Draft("read", text, _answer(item), (item,), (_finding(item.name, item),))


def _compare(content: Content, rng: random.Random) -> Iterator[_Draft]:
    """Yield the comparison of the scene, then those of other pairs."""
    pattern = rng.randrange(2)
    asked = tuple(content.items[n] for n in content.targets)
    rest = [pair for pair in itertools.permutations(content.items, 2) if pair != asked]
    pairs = [(asked, content.wanted)]
    pairs += [(pair, rng.choice(("larger", "sum"))) for pair in rng.sample(rest, min(4, len(rest)))]
    for (first, second), kind in pairs:
        readings = [_finding(item.name, item) for item in (first, second)]
        if kind == "sum":
            total = int(first.glyph) + int(second.glyph)
            text = (
                f"What do the digits on the {first.name} and the {second.name} add up to?",
                f"Add the digits on the {first.name} and the {second.name}.",
            )[pattern]
            readings[1] += f", and {first.glyph} + {second.glyph} = {total}"
            kind_of_answer, answer = AnswerType.NUMBER, str(total)
        elif first.glyph != second.glyph:
            larger = max((first, second), key=lambda item: item.glyph)
            text = (
                f"Which carries the larger digit, the {first.name} or the {second.name}?",
                f"The {first.name} or the {second.name}: whose digit is larger?",
            )[pattern]
            readings[1] += f", so the {larger.name} carries the larger digit"
            kind_of_answer, answer = AnswerType.TEXT, larger.name
        else:
            continue
        yield _Draft(kind, text, answer, (first, second), tuple(readings), kind_of_answer)


def _count(content: Content, rng: random.Random) -> Iterator[_Draft]:
    items = tuple(content.items[n] for n in content.targets)
    color = items[0].color
    text = rng.choice(
        (
            f"How many of the {color} shapes carry a digit?",
            f"On how many {color} shapes is a digit?",
        )
    )
    marked = list(itertools.accumulate(int(item.glyph in DIGITS) for item in items))
    findings = tuple(
        f"{_finding(item.name, item)}: {number} so far"
        for item, number in zip(items, marked, strict=True)
    )
    yield _Draft("count", text, str(marked[-1]), items, findings, AnswerType.NUMBER)


def _where(content: Content, rng: random.Random) -> Iterator[_Draft]:
    """Yield the search for the character of the scene, then searches for others that are there."""
    pattern = rng.choice(_WHERE)
    others = [item.glyph for item in content.items if item.glyph != content.wanted]
    for wanted in (content.wanted, *rng.sample(others, min(3, len(others)))):
        yield _search(content, pattern, wanted)


_WHERE = ("Where is the shape with {}?", "Find the shape that carries {}.")


def _search(content: Content, pattern: str, wanted: str) -> _Draft:
    """Return the search for a character."""
    text = (
        f"{pattern.format(wanted)} Give its centre as x, y from 0 to 1. "
        f"Answer {NOTHING} if no shape carries it."
    )
    places = [n for n, item in enumerate(content.items) if item.glyph == wanted]
    if not places:
        readings = [_finding(item.name, item) for item in content.items]
        readings[-1] += f", so no shape carries {wanted}"
        return _Draft("where", text, NOTHING, content.items, tuple(readings), AnswerType.POINT)
    item = content.items[places[0]]
    finding = f"{_finding(item.name, item)}, at {item.x:.2f}, {item.y:.2f}"
    return _Draft(
        "where",
        text,
        f"{item.x:.2f}, {item.y:.2f}",
        (item,),
        (finding,),
        AnswerType.POINT,
        search=content.items[: places[0]],
    )


def _parts(content: Content, rng: random.Random) -> Iterator[_Draft]:
    name = f"{content.items[0].color} {content.items[0].shape}"
    text = rng.choice(
        (
            f"Every {name} should carry {content.wanted}.",
            f"The {name}s should all carry {content.wanted}.",
        )
    )
    text += (
        " Give a box [x1, y1, x2, y2] from 0 to 1 around each one that carries something else. "
        f"Answer {NOTHING} if all are right."
    )
    wrong = [content.items[n] for n in content.answer_items]
    answer = ", ".join(_as_text(padded_box(item)) for item in wrong) or NOTHING
    findings = tuple(
        f"the {place_in_order(n, len(content.items))} {name} carries {item.glyph}"
        + ("" if item.glyph == content.wanted else f", at {_as_text(padded_box(item))}")
        for n, item in enumerate(content.items)
    )
    yield _Draft("parts", text, answer, content.items, findings, AnswerType.BOXES)


def _moments(content: Content, rng: random.Random) -> Iterator[_Draft]:
    pattern = rng.choice(
        ("In which frames does the card show {}?", "When does {} appear on the card?")
    )
    text = (
        f"{pattern.format(content.wanted)} Give the first and the last frame as first to last. "
        f"Answer {NOTHING} if it never does."
    )
    shown = [content.items[n] for n in content.answer_items]
    # Frame by frame: whether a character changes can be seen only by reading it in both frames.
    seen = []
    for frame, item in ((frame, one) for one in content.items for frame in one.frames):
        span = f": {item.frames[0]} to {frame}" if item in shown else ""
        seen.append(f"frame {frame} {item.glyph}{span}")
    answer = f"{shown[0].frames[0]} to {shown[0].frames[-1]}" if shown else NOTHING
    items = (shown[0],) if shown else (content.items[0]._replace(frames=_ALL_FRAMES),)
    yield _Draft(
        "moments", text, answer, items, (f"the frames show: {', '.join(seen)}",), AnswerType.SPAN
    )


_ALL_FRAMES = tuple(range(1, NUM_FRAMES + 1))
_NUMBERS = ("first", "second", "third", "fourth", "fifth", "sixth")


def place_in_order(index: int, count: int) -> str:
    """Return the place of a part in reading order, as in findings.

    >>> place_in_order(1, 4), place_in_order(6, 12)
    ('second', '7th')
    """
    return _NUMBERS[index] if count <= len(_NUMBERS) else f"{index + 1}th"


def _as_text(box: Box) -> str:
    return "[" + ", ".join(f"{value:.2f}" for value in box) + "]"


_DRAFTS: dict[str, Callable[[Content, random.Random], Iterator[_Draft]]] = {
    "attribute": _read,
    "relation": _compare,
    "count": _count,
    "where": _where,
    "parts": _parts,
    "video": _read,
    "moments": _moments,
}
