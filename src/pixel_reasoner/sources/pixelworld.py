"""PixelWorld source: questions about generated scenes.

Scenes are rendered into `folder/media`, unless their file exists. There are three ways to select questions of a scene:
evaluation asks the one question that belongs to the scene's seed, RL asks one question with a given probability of an
overview question, synthesis asks several.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import MediaItem, Question, with_media_root
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.sources.base import SOURCES, Source
from pixel_reasoner.sources.scene_selection import ALL_FAMILIES, Selection

__all__ = [
    "ALL_FAMILIES",
    "PixelWorldSource",
    "Selection",
    "WorldMix",
    "scene_questions",
    "world_questions",
]

if TYPE_CHECKING:
    from pixel_reasoner.world import Scene, WorldParams

Unit = tuple[str, int]
"""family and seed of a scene"""


class PixelWorldSource(Source):
    """Questions about scenes of PixelWorld.

    >>> source = PixelWorldSource(families=("attribute",), count=2)
    >>> list(source.units(Path("unused")))
    [('attribute', 2000000), ('attribute', 2000001)]
    """

    name: ClassVar[str] = "pixelworld"
    summary: ClassVar[str] = "generated scenes with exact answers and evidence; no files needed"

    families: tuple[str, ...] = ALL_FAMILIES
    split: str = "test"
    seed: NonNegativeInt = 0
    """number of the first scene within the split"""
    count: PositiveInt | None = 10
    """scenes of each family, one family after another; None: endless, with all families of a seed in turn"""
    shard: tuple[int, int] = (0, 1)
    """(index, number of shards); only without a count"""
    selection: Selection = Selection.OWN
    per_scene: PositiveInt = 1
    overview_share: float = 0.5
    size_px: int | None = None
    """side of the canvas; None: default of the family"""
    detail_px: int | None = None
    """height of the decisive character; None: default of the family"""

    def units(self, folder: Path) -> Iterator[Unit]:
        """Yield the scenes.

        Raises:
            UsageError: unknown family or split, or a seed outside the split.
        """
        del folder
        from pixel_reasoner.world import split_seed

        if self.count is None:
            for number in count_from(*self.shard):
                seed = split_seed(self.split, self.seed, number)
                yield from ((family, seed) for family in self.families)
            return
        for family in self.families:
            split_seed(
                self.split, self.seed, self.count - 1
            )  # fail before the first scene is rendered
            for number in range(self.count):
                yield family, split_seed(self.split, self.seed, number)

    def rows(self, unit: Unit, folder: Path) -> Iterator[Question]:
        """Render a scene, unless its file exists, and yield its questions with relative paths."""
        from pixel_reasoner.world import make_scene, write_media
        from pixel_reasoner.world.render import build_media_item

        family, seed = unit
        scene = make_scene(family, seed, self.params(family))  # type: ignore[arg-type]
        media_item = build_media_item(scene)
        if not (folder / media_item.path).exists():
            write_media(scene, folder / media_item.path)
        yield from self._selected(scene, media_item)

    def _selected(self, scene: Scene, media_item: MediaItem) -> Iterator[Question]:
        from pixel_reasoner.world import build_question

        if self.selection is Selection.OWN:
            yield build_question(scene, media_item)
        elif self.selection is Selection.ONE:
            rng = random.Random(f"questions/{scene.id}/{self.overview_share}")
            share = float(rng.random() < self.overview_share)
            yield from scene_questions(scene, media_item, 1, share, rng)
        else:
            rng = random.Random(f"seeds/{self.seed}/{scene.id}")
            yield from scene_questions(scene, media_item, self.per_scene, self.overview_share, rng)

    def params(self, family: str) -> WorldParams | None:
        """Return the parameters of a family's scenes; None for an unknown family."""
        from pixel_reasoner.world import DEFAULTS

        given = {"size_px": self.size_px, "detail_px": self.detail_px}
        changed = {name: value for name, value in given.items() if value is not None}
        default: WorldParams | None = DEFAULTS.get(family)  # type: ignore[call-overload]
        return default and default.model_copy(update=changed)

    def describe(self) -> dict[str, Any]:
        """Return the values that determine the questions, for the settings of an evaluation."""
        params = {family: self.params(family) for family in self.families}
        return {
            "name": self.name,
            "version": world_version(),
            "family": "all" if self.families == ALL_FAMILIES else ",".join(self.families),
            "split": self.split,
            "seed": self.seed,
            "count": self.count,
            "params": {name: one.model_dump() for name, one in params.items() if one},
        }


SOURCES.register(PixelWorldSource.name, PixelWorldSource)


def world_version() -> int:
    """Return the version of PixelWorld's generator."""
    from pixel_reasoner.world import VERSION

    return VERSION


def scene_questions(
    scene: Scene, media_item: MediaItem, count: int, overview_share: float, rng: random.Random
) -> Iterator[Question]:
    """Yield at most `count` different questions about a scene; about `overview_share` of them are overview questions.

    >>> from pixel_reasoner.world import make_scene
    >>> scene = make_scene("attribute", 7)
    >>> found = scene_questions(scene, MediaItem(kind="image", path="x.png"), 3, 0.0, random.Random(0))
    >>> [question.needs_look for question in found]
    [True, True, True]
    """
    from pixel_reasoner.world import all_questions

    questions = list(all_questions(scene, media_item))
    visual = [question for question in questions if question.needs_look is not False]
    overviews = [question for question in questions if question.needs_look is False]
    # A scene has few details, so their number determines the share.
    num_visual = min(len(visual), _rounded(count * (1 - overview_share), rng))
    wanted = num_visual * overview_share / (1 - overview_share) if overview_share < 1 else count
    num_overviews = min(len(overviews), _rounded(wanted, rng))
    yield from rng.sample(visual, num_visual)
    yield from rng.sample(overviews, num_overviews)


def _rounded(number: float, rng: random.Random) -> int:
    """Return a whole number whose expected value is `number`."""
    return int(number + rng.random())


# --- RL ---


@dataclass(frozen=True, kw_only=True)
class WorldMix:
    """Questions of PixelWorld's training split for RL; one per scene."""

    families: tuple[str, ...] = ALL_FAMILIES
    """families of PixelWorld"""
    count: int = 256
    """questions of each family"""
    seed: int = 0
    """number of the first scene of each family"""
    overview_share: float = 0.5
    """share of overview questions; with world 2 of questions whose evidence is readable"""
    world: int = 1
    """version of PixelWorld, 1 or 2; families `all` are those of the version"""

    def __post_init__(self) -> None:
        """Reject a share outside [0, 1]."""
        if not 0 <= self.overview_share <= 1:
            raise UsageError(
                expected="overview_share from 0 to 1",
                got=str(self.overview_share),
                fix="correct it under [pixelworld]",
            )
        if self.world not in (1, 2):
            raise UsageError(
                expected="world 1 or 2", got=str(self.world), fix="correct it under [pixelworld]"
            )


def world_questions(
    mix: WorldMix,
    folder: Path,
    budgets: PixelBudgets | None = None,
    *,
    twin_questions: bool = False,
) -> Iterator[Question]:
    """Yield one question per scene of the training split. Media are rendered into a folder; existing files are kept.

    Args:
        mix: which questions.
        folder: for the media.
        budgets: of the model, for world 2: its evidence has a height in the overview of the model.
        twin_questions: whether all answers differ between twins; only world 2 has such questions.

    Raises:
        UsageError: an unknown family, or a count beyond the split.
    """
    if mix.count < 1:
        raise UsageError(expected="a count of 1 or more", got=str(mix.count), fix="ask for more")
    source: Any
    if mix.world == 1:
        source = PixelWorldSource(
            families=mix.families,
            split="train",
            seed=mix.seed,
            count=mix.count,
            selection=Selection.ONE,
            overview_share=mix.overview_share,
        )
    else:
        source = _world2_source(mix, budgets, twin_questions=twin_questions)
    return (with_media_root(question, folder) for question in source.questions(folder))


def _world2_source(mix: WorldMix, budgets: PixelBudgets | None, *, twin_questions: bool) -> Any:
    from pixel_reasoner.sources.pixelworld2 import (
        ALL_FAMILIES as FAMILIES_2,
        PixelWorld2Source,
        overview_sides,
    )

    assert budgets is not None, "world 2 needs the budgets of the model"
    is_default = mix.families == ALL_FAMILIES
    return PixelWorld2Source(
        families=FAMILIES_2 if is_default else mix.families,
        split="train",
        seed=mix.seed,
        count=mix.count,
        selection=Selection.ONE,
        overview_share=mix.overview_share,
        twin_questions=twin_questions,
        **overview_sides(budgets),
    )
