"""Where attention is to rest while a trace is written: on what its words name, known from the scene."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture
from pixel_reasoner.tiny.tower import within
from pixel_reasoner.world import Scene, make_scene
from pixel_reasoner.world.page import HEADING_Y
from pixel_reasoner.world.scene import NUM_FRAMES, Item

_CLAUSE_END = re.compile(r"[,.;:](?=\s|$)")


class Mention(NamedTuple):
    """A piece of what is said in a turn; all pieces together are the turn."""

    text: str
    thing: Item | None
    """what it is about: the item that it names"""
    last: bool
    """whether it is the last of its turn"""


def mentions(question: Question, words: str) -> list[Mention]:
    r"""The clauses of a turn by what they name. Each ends with the clause in which its item is named.

    >>> from pixel_reasoner.world import all_questions
    >>> from pixel_reasoner.schema.question import MediaItem
    >>> question = next(all_questions(make_scene("attribute", 5), MediaItem(kind="image", path="")))
    >>> [m.text for m in mentions(question, "I see: 1 red square, 2 purple square. \\boxed{2}")]
    ['I see: 1 red square', ', 2 purple square. \\boxed{2}']
    """
    things = _things(question.id)
    found = [(match, things[match[0]]) for match in _pattern(question.id).finditer(words)]
    pieces, start = [], 0
    for number, (match, thing) in enumerate(found):
        clause = _CLAUSE_END.search(words, match.end())
        is_last = number == len(found) - 1
        end = len(words) if is_last or clause is None else clause.start()
        if not is_last:
            end = min(end, found[number + 1][0].start())
        pieces.append(Mention(words[start:end], thing, is_last))
        start = end
    return pieces or [Mention(words, None, last=True)]


def spots_of(
    mention: Mention, pictures: Sequence[Picture], grids: Mapping[int, tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The visual tokens that show what is mentioned, as it was last seen: (number of the picture, token row by row).

    Args:
        mention: what is said.
        pictures: those that may be looked at, the latest last.
        grids: number of a picture -> rows and columns of its visual tokens.
    """
    thing = mention.thing
    if thing is None:
        return
    seen_px = None
    for picture in reversed(pictures):
        if thing.frames and picture.frame not in thing.frames:
            continue
        x, y = within(picture.box, thing.x, thing.y)
        if not (0 <= x < 1 and 0 <= y < 1):
            continue
        # Frames alone show a thing several times: all that were selected do, or all of the first look.
        if seen_px is not None and not (thing.frames and picture.seen_px == seen_px):
            return
        seen_px = picture.seen_px
        rows, columns = grids[picture.number]
        yield picture.number, int(y * rows) * columns + int(x * columns)


@lru_cache(maxsize=4096)
def _things(question_id: str) -> dict[str, Item]:
    """Everything in a question's scene that has a name."""
    scene = _scene(question_id)
    things = {f"{item.color} object": item for item in scene.items}
    things |= {item.name: item for item in scene.items}
    if scene.page is not None:
        things["heading"] = Item("", "heading", 0.5, HEADING_Y, 0.3, "")
    if scene.ball is not None:
        ball = scene.ball
        ends = {"ball starts": 1, "and ends": NUM_FRAMES, "ball is": NUM_FRAMES // 2}
        for words, frame in ends.items():
            things[words] = Item(ball.color, "ball", ball.x(frame), ball.y, ball.size, "", (frame,))
    return things


@lru_cache(maxsize=4096)
def _pattern(question_id: str) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, _things(question_id))))


def _scene(question_id: str) -> Scene:
    family, seed, *_ = question_id.split("-")
    return make_scene(family, int(seed))  # type: ignore[arg-type]
