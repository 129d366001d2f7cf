"""Targets of the pointing head: the object of each phrase of a trace, and the visual tokens that show it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import Picture
from pixel_reasoner.tiny.labels import position_in
from pixel_reasoner.world import Scene, make_scene, v2
from pixel_reasoner.world.page import HEADING_Y
from pixel_reasoner.world.scene import NUM_FRAMES, Item
from pixel_reasoner.world.v2.questions import place_in_order

_CLAUSE_END = re.compile(r"[,.;:](?=\s|$)")
_PLACE = re.compile(r", at \[?0[0-9., ]*[0-9]\]?")
"""coordinates of the item that was named last, in fractions of the overview"""
_COORDINATES = (AnswerType.POINT, AnswerType.BOXES)
_BOXED = re.compile(r" ?\\boxed")


class Mention(NamedTuple):
    """Part of the text of a turn. All parts together are the whole text."""

    text: str
    item: Item | None
    """item that the part names"""
    is_last: bool
    """whether it is the last part of its turn"""
    is_place: bool = False
    """whether it states coordinates in the overview"""


def find_mentions(question: Question, words: str) -> list[Mention]:
    r"""Split a text at the items that it names. Each part ends with the clause that names its item.

    The coordinates of an item are a part of their own, and an answer of coordinates names no item.

    >>> from pixel_reasoner.world import all_questions
    >>> from pixel_reasoner.schema.question import MediaItem
    >>> question = next(all_questions(make_scene("attribute", 5), MediaItem(kind="image", path="")))
    >>> [m.text for m in find_mentions(question, "I see: 1 red square, 2 purple square. \\boxed{2}")]
    ['I see: 1 red square', ', 2 purple square. \\boxed{2}']
    """
    items = _items_by_name(question.id)
    found: list[tuple[int, int, Item | None, bool]] = [
        (match.start(), match.end(), items[match[0]], False)
        for match in _name_pattern(question.id).finditer(words)
    ]
    if question.answer_type in _COORDINATES:
        found = _with_places(found, words)
    parts, start = [], 0
    for number, (_, name_end, item, is_place) in enumerate(found):
        clause = _CLAUSE_END.search(words, name_end)
        is_last = number == len(found) - 1
        end = len(words) if is_last or clause is None else clause.start()
        if is_place:
            end = name_end
        elif not is_last:
            end = min(end, found[number + 1][0])
        parts.append(Mention(words[start:end], item, is_last, is_place))
        start = end
    if start < len(words) or not parts:
        parts.append(Mention(words[start:], None, is_last=True))
        parts[:-1] = [part._replace(is_last=False) for part in parts[:-1]]
    return parts


def _with_places(
    found: list[tuple[int, int, Item | None, bool]], words: str
) -> list[tuple[int, int, Item | None, bool]]:
    """Return the named items, and the coordinates after them; the answer at the end names no item."""
    more = []
    for match in _PLACE.finditer(words):
        before = [item for _, end, item, _ in found if end <= match.start()]
        more.append((match.start(), match.end(), before[-1] if before else None, True))
    boxed = _BOXED.search(words)
    if boxed:
        more.append((boxed.start(), len(words), None, False))
    return sorted(found + more, key=lambda part: part[0])


def count_visual_tokens(
    mention: Mention, pictures: Sequence[Picture], grids: Mapping[int, tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the visual tokens that show the item of a mention in its latest picture.

    Args:
        mention: part of a text.
        pictures: pictures in the context, the latest last; for coordinates the overview is used.
        grids: picture number -> rows and columns of its visual tokens.

    Yields:
        Picture number, and token number in row-major order.
    """
    item = mention.item
    if item is None:
        return
    seen_px = None
    for picture in pictures[:1] if mention.is_place else reversed(pictures):
        if item.frames and picture.frame not in item.frames:
            continue
        x, y = position_in(picture.box, item.x, item.y)
        if not (0 <= x < 1 and 0 <= y < 1):
            continue
        # Only frames show an item several times: use all selected frames, or else all frames of the overview.
        if seen_px is not None and not (item.frames and picture.seen_px == seen_px):
            return
        seen_px = picture.seen_px
        rows, columns = grids[picture.number]
        yield picture.number, int(y * rows) * columns + int(x * columns)


@lru_cache(maxsize=4096)
def _items_by_name(question_id: str) -> dict[str, Item]:
    """Return all named items in the scene of a question."""
    scene = _scene(question_id)
    if isinstance(scene, v2.Scene):
        return _items_of_version(scene)
    items = {f"{item.color} object": item for item in scene.items}
    items |= {item.name: item for item in scene.items}
    if scene.page is not None:
        items["heading"] = Item("", "heading", 0.5, HEADING_Y, 0.3, "")
    if scene.ball is not None:
        ball = scene.ball
        ends = {"ball starts": 1, "and ends": NUM_FRAMES, "ball is": NUM_FRAMES // 2}
        for words, frame in ends.items():
            items[words] = Item(ball.color, "ball", ball.x(frame), ball.y, ball.size, "", (frame,))
    return items


def _items_of_version(scene: v2.Scene) -> dict[str, Item]:
    """Return the named items of a scene of PixelWorld 2: parts by their place in a row, and a card in each frame."""
    if scene.family == "moments":
        return {
            f"frame {number}": item._replace(frames=(number,))
            for item in scene.items
            for number in item.frames
        }
    if scene.family == "parts":
        return {
            f"{place_in_order(n, len(scene.items))} {item.name}": item
            for n, item in enumerate(scene.items)
        }
    return {item.name: item for item in scene.items}


@lru_cache(maxsize=4096)
def _name_pattern(question_id: str) -> re.Pattern[str]:
    names = sorted(_items_by_name(question_id), key=len, reverse=True)
    return re.compile("|".join(f"{re.escape(name)}(?![0-9])" for name in names))


def _scene(question_id: str) -> Scene | v2.Scene:
    if not question_id.startswith("w2-"):
        family, seed, *_ = question_id.split("-")
        return make_scene(family, int(seed))  # type: ignore[arg-type]
    _, family, seed, height, twin, *_ = question_id.split("-")
    # Names and places depend on no size below the crowded ones, which the bundled model never sees.
    params = v2.Params(size_px=1024, overview_px=192, evidence_px=int(height.removesuffix("px")))
    return v2.make_scene(family, int(seed), params, twin)  # type: ignore[arg-type]
