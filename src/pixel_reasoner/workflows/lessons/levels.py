"""PixelWorld exercises of five levels: larger to smaller evidence, fewer to more shapes, one to several places.

A level and a seed determine the exercises.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.data.expert import ExpertConfig, Kind, NoTrace, expert_trace
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.world import (
    Family,
    Scene,
    WorldParams,
    all_questions,
    make_scene,
    overview_detail_px,
    split_seed,
    write_media,
)
from pixel_reasoner.world.render import build_media_item

LEVELS = (1, 2, 3, 4, 5)
FIRST_VIEW_PX, FRAME_PX = 160, 96
"""sides of the picture and of a frame that the learner and the model see first"""
MAX_SEED = 9_999
_SCENES_PER_SEED = 100
"""scenes to choose from"""


class Level(NamedTuple):
    """Difficulty of exercises."""

    summary: str
    families: tuple[Family, ...]
    size_px: int
    detail_px: int
    """from level 2 on less than 2 pixels in the first view, where nobody can read it"""
    shapes: tuple[int, int]
    """fewest and most shapes in a picture, of which most are distractors"""
    mistakes: tuple[Kind, ...]
    """kinds of worked examples with a mistake: every third exercise"""

    def describe(self, number: int) -> str:
        """Return the level in words.

        >>> level_of(1).describe(1)
        'Level 1: one large detail among few shapes. Pictures with 3 to 4 shapes. The detail is 32 of 1,024 pixels high, 5 in the first view. One place to look.'
        """
        first_px = overview_detail_px(self.families[0], BUDGETS, self.params(self.families[0]))
        seen = "less than 2" if first_px < 2 else f"{first_px:.0f}"
        kinds = [_FAMILY_WORDS[family].format(*self.shapes) for family in self.families]
        kinds = list(dict.fromkeys(kinds))
        has_several = bool({"relation", "count"} & set(self.families))
        sentences = [
            f"Level {number}: {self.summary}",
            f"{', '.join(kinds[:-1]) + ' and ' if kinds[1:] else ''}{kinds[-1]}".capitalize(),
            f"The detail is {self.detail_px} of {self.size_px:,} pixels high, {seen} in the first view",
            "One or more places to look" if has_several else "One place to look",
        ]
        if self.mistakes:
            sentences.append("Every third exercise contains a mistake and its correction")
        return ". ".join(sentences) + "."

    def params(self, family: Family) -> WorldParams:
        """Return the sizes of a family. Frames of clips are smaller."""
        if family == "video":
            return WorldParams(size_px=640, detail_px=12)
        return WorldParams(size_px=self.size_px, detail_px=min(self.detail_px, self._most(family)))

    def _most(self, family: Family) -> int:
        """Return the largest detail that the text fields of a family have room for."""
        return 18 * self.size_px // 1024 if family == "infographic" else self.detail_px

    def fits(self, scene: Scene) -> bool:
        """Return whether a scene has as many shapes as the level allows."""
        if scene.family in ("video", "infographic"):
            return True
        return self.shapes[0] <= len(scene.items) <= self.shapes[1]


BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=32 * 32, max_px=FIRST_VIEW_PX**2),
    crop=PixelBudget(min_px=448 * 448, max_px=640 * 640),
    frame=PixelBudget(min_px=32 * 32, max_px=FRAME_PX**2),
    selected_frame=PixelBudget(min_px=320 * 320, max_px=640 * 640),
    multiple=32,
)
_FAMILY_WORDS: dict[Family, str] = {
    "attribute": "pictures with {} to {} shapes",
    "relation": "pictures with {} to {} shapes",
    "count": "pictures with {} to {} shapes",
    "infographic": "pages",
    "video": "clips",
}
_LEVELS = {
    1: Level("one large detail among few shapes", ("attribute",), 1024, 32, (3, 4), ()),
    2: Level(
        "one small detail among more shapes",
        ("attribute",),
        1024,
        12,
        (4, 6),
        (Kind.WRONG_ONCE,),
    ),
    3: Level(
        "several small details to compare, to add or to count",
        ("relation", "count"),
        1024,
        11,
        (4, 6),
        (Kind.WRONG_ONCE,),
    ),
    4: Level(
        "small print on pages, and clips where the right frame has to be found",
        ("infographic", "video"),
        1024,
        11,
        (3, 6),
        (Kind.TOO_WIDE, Kind.RESELECT),
    ),
    5: Level(
        "tiny details on large pictures of all kinds",
        ("attribute", "relation", "count", "infographic", "video"),
        2048,
        20,
        (5, 6),
        (Kind.WRONG_TWICE, Kind.RESELECT),
    ),
}


def level_of(number: int) -> Level:
    """Return a level.

    Raises:
        UsageError: not 1 to 5.

    >>> level_of(6)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a level from 1 to 5; got 6. Fix: 1 is the easiest
    """
    if number not in _LEVELS:
        raise UsageError(expected="a level from 1 to 5", got=str(number), fix="1 is the easiest")
    return _LEVELS[number]


def level_traces(number: int, seed: int, folder: Path) -> Iterator[Trace]:
    """Yield expert traces of a level without end, each about another scene. Media are written into a folder.

    Raises:
        UsageError: a level or a seed out of range.
        OutputError: the folder cannot be written.
    """
    level = level_of(number)
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(
            expected=f"a seed from 0 to {MAX_SEED:,}", got=str(seed), fix="choose another seed"
        )
    config = ExpertConfig(COMPACT, BUDGETS)
    rng = random.Random(f"lesson/{number}/{seed}")
    num_traces = 0
    for index in range(_SCENES_PER_SEED):
        family = level.families[num_traces % len(level.families)]
        scene = make_scene(
            family, split_seed("train", seed * _SCENES_PER_SEED, index), level.params(family)
        )
        if not level.fits(scene):
            continue
        is_example = bool(level.mistakes) and num_traces % 3 == 2
        kinds = (*level.mistakes, Kind.SINGLE) if is_example else (Kind.SINGLE,)
        question = _question(scene, rng, folder)
        if (trace := _first_possible(question, kinds, rng, config)) is not None:
            num_traces += 1
            yield trace


def _question(scene: Scene, rng: random.Random, folder: Path) -> Question:
    """Return a question that needs an operation, with the media of its scene in a folder."""
    item = build_media_item(scene)
    write_media(scene, folder / item.path)
    questions = [one for one in all_questions(scene, item) if one.needs_look]
    return with_media_root(rng.choice(questions), folder)


def _first_possible(
    question: Question, kinds: tuple[Kind, ...], rng: random.Random, config: ExpertConfig
) -> Trace | None:
    for kind in kinds:
        try:
            return expert_trace(question, kind, rng, config)
        except NoTrace:  # a kind that this question does not allow
            continue
    return None
