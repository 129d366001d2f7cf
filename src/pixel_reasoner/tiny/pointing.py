"""Targets of the pointing head: the object of each phrase of a trace, and the visual tokens that show it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture
from pixel_reasoner.tiny.labels import position_in
from pixel_reasoner.world import Scene, make_scene
from pixel_reasoner.world.page import HEADING_Y
from pixel_reasoner.world.scene import NUM_FRAMES, Item

_CLAUSE_END = re.compile(r"[,.;:](?=\s|$)")


class Mention(NamedTuple):
    """Part of the text of a turn. All parts together are the whole text."""

    text: str
    item: Item | None
    """item that the part names"""
    is_last: bool
    """whether it is the last part of its turn"""


def find_mentions(question: Question, words: str) -> list[Mention]:
    r"""Split a text at the items that it names. Each part ends with the clause that names its item.

    >>> from pixel_reasoner.world import all_questions
    >>> from pixel_reasoner.schema.question import MediaItem
    >>> question = next(all_questions(make_scene("attribute", 5), MediaItem(kind="image", path="")))
    >>> [m.text for m in find_mentions(question, "I see: 1 red square, 2 purple square. \\boxed{2}")]
    ['I see: 1 red square', ', 2 purple square. \\boxed{2}']
    """
    items = _items_by_name(question.id)
    found = [(match, items[match[0]]) for match in _name_pattern(question.id).finditer(words)]
    parts, start = [], 0
    for number, (match, item) in enumerate(found):
        clause = _CLAUSE_END.search(words, match.end())
        is_last = number == len(found) - 1
        end = len(words) if is_last or clause is None else clause.start()
        if not is_last:
            end = min(end, found[number + 1][0].start())
        parts.append(Mention(words[start:end], item, is_last))
        start = end
    return parts or [Mention(words, None, is_last=True)]


def count_visual_tokens(
    mention: Mention, pictures: Sequence[Picture], grids: Mapping[int, tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the visual tokens that show the item of a mention in its latest picture.

    Args:
        mention: part of a text.
        pictures: pictures in the context, the latest last.
        grids: picture number -> rows and columns of its visual tokens.

    Yields:
        Picture number, and token number in row-major order.
    """
    item = mention.item
    if item is None:
        return
    seen_px = None
    for picture in reversed(pictures):
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


@lru_cache(maxsize=4096)
def _name_pattern(question_id: str) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, _items_by_name(question_id))))


def _scene(question_id: str) -> Scene:
    family, seed, *_ = question_id.split("-")
    return make_scene(family, int(seed))  # type: ignore[arg-type]
