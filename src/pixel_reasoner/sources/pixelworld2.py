"""PixelWorld 2 source: questions about scenes whose evidence has a chosen height in the overview.

A unit is one version of a scene: family, seed, height of the evidence, twin. Evaluation asks every version of a seed
before the next seed. Training draws one version per seed, without the held-out height, and may ask several questions
about its picture. The source has no name of its own on the command line: it is `pixelworld --world 2`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.sources.base import Source
from pixel_reasoner.sources.scene_selection import ALL_FAMILIES as ALL_FAMILIES_1, Selection

if TYPE_CHECKING:
    from pixel_reasoner.world.v2 import Scene

Unit = tuple[str, int, int, str]
"""family, seed, height of the evidence in the overview, twin"""
WORLD = 2
ALL_FAMILIES = ("attribute", "relation", "count", "where", "parts", "video", "moments")


class PixelWorld2Source(Source):
    """Questions about scenes of PixelWorld 2.

    >>> source = PixelWorld2Source(families=("attribute",), count=3)
    >>> [unit[2:] for unit in source.units(Path("unused"))]
    [(2, 'a'), (2, 'b'), (3, 'a')]
    """

    name: ClassVar[str] = "pixelworld2"
    summary: ClassVar[str] = "generated scenes at several heights of the evidence; no files needed"

    families: tuple[str, ...] = ALL_FAMILIES
    split: str = "test"
    seed: NonNegativeInt = 0
    """number of the first seed within the split"""
    count: PositiveInt | None = 48
    """questions of each family, one family after another; None: endless, with all families of a seed in turn"""
    shard: tuple[int, int] = (0, 1)
    """(index, number of shards); only without a count"""
    selection: Selection = Selection.OWN
    per_scene: PositiveInt = 1
    """questions about each picture"""
    overview_share: float = 0.5
    """share of pictures with readable evidence; not for the selection `own`"""
    heights: tuple[int, ...] | None = None
    """heights of the evidence in overview pixels; None: all of the split"""
    twins: bool = True
    """whether both twins are asked"""
    twin_questions: bool = False
    """whether only the question is asked whose answer differs between the twins; the selection `own` always does so"""
    overview_px: PositiveInt = 192
    """side of a picture's overview"""
    frame_px: PositiveInt = 64
    """side of a frame's overview"""
    size_px: int | None = None
    """side of the canvas; None: chosen for the overview"""

    def units(self, folder: Path) -> Iterator[Unit]:
        """Yield the versions of the scenes.

        Raises:
            UsageError: unknown names, or sizes that do not fit.
        """
        del folder
        if self.selection is Selection.OWN and self.count is not None:
            for family in self.families:
                for scene in self._own(family):
                    yield family, scene.seed, scene.params.evidence_px, scene.twin
            return
        yield from self._drawn()

    def _own(self, family: str) -> list[Scene]:
        from pixel_reasoner.world.v2 import make_scenes

        return make_scenes(
            family,  # type: ignore[arg-type]
            self.split,
            self.seed,
            self.count or 1,
            self._overview_px(family),
            size_px=self.size_px,
            variants=self._variants(),
        )

    def _variants(self) -> Any:
        from pixel_reasoner.world.v2 import HEIGHTS, TRAINING_HEIGHTS, TWINS, Variants

        every = TRAINING_HEIGHTS if self.split == "train" else HEIGHTS
        return Variants(self.heights or every, TWINS if self.twins else TWINS[:1])

    def _drawn(self) -> Iterator[Unit]:
        """Yield one version per seed; the height is readable with probability `overview_share`."""
        from pixel_reasoner.world.scene import split_seed
        from pixel_reasoner.world.v2 import READABLE_FROM_PX

        variants = self._variants()
        variants.check(self.split)
        groups = [
            [px for px in variants.heights if (px >= READABLE_FROM_PX) is readable]
            for readable in (False, True)
        ]
        numbers = count_from(*self.shard) if self.count is None else range(self.count)
        outer = [None] if self.count is None else list(self.families)
        for chosen in outer:
            for number in numbers:
                seed = split_seed(self.split, self.seed, number)
                for family in self.families if chosen is None else (chosen,):
                    rng = random.Random(f"version/{family}/{seed}/{self.overview_share}")
                    wanted = groups[rng.random() < self.overview_share]
                    heights = wanted or list(variants.heights)
                    yield family, seed, rng.choice(heights), rng.choice(variants.twins)

    def rows(self, unit: Unit, folder: Path) -> Iterator[Question]:
        """Render one version of a scene, unless its file exists, and yield its questions with relative paths."""
        from pixel_reasoner.world.v2 import all_questions, build_media_item, write_media

        scene = self.scene(unit)
        media_item = build_media_item(scene)
        if not (folder / media_item.path).exists():
            write_media(scene, folder / media_item.path)
        questions = list(all_questions(scene, media_item))
        if self.selection is not Selection.OWN and not self.twin_questions:
            rng = random.Random(f"seeds/{self.seed}/{scene.name}")
            rng.shuffle(questions)
        yield from questions[: 1 if self.twin_questions else self.per_scene]

    def scene(self, unit: Unit) -> Scene:
        """Return the scene of a unit."""
        from pixel_reasoner.world.v2 import Params, default_size_px, make_scene

        family, seed, evidence_px, twin = unit
        overview_px = self._overview_px(family)
        size_px = self.size_px or default_size_px(family, overview_px)
        params = Params.of(size_px, overview_px, evidence_px)
        return make_scene(family, seed, params, twin)  # type: ignore[arg-type]

    def _overview_px(self, family: str) -> int:
        from pixel_reasoner.world.v2 import CLIPS

        return self.frame_px if family in CLIPS else self.overview_px

    def describe(self) -> dict[str, Any]:
        """Return the values that determine the questions, for the settings of an evaluation."""
        variants = self._variants()
        return {
            "name": "pixelworld",
            "version": WORLD,
            "family": "all" if self.families == ALL_FAMILIES else ",".join(self.families),
            "split": self.split,
            "seed": self.seed,
            "count": self.count,
            "heights": list(variants.heights),
            "twins": self.twins,
            "overview_px": self.overview_px,
            "frame_px": self.frame_px,
            "size_px": self.size_px,
        }


def overview_sides(budgets: PixelBudgets, size_px: int | None = None) -> dict[str, int]:
    """Return `overview_px` and `frame_px` of a model's budgets, as options of the source.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> overview_sides(COMPACT.budgets)
    {'overview_px': 1024, 'frame_px': 320}
    """
    from pixel_reasoner.world.v2 import overview_side_px

    return {
        "overview_px": overview_side_px("attribute", budgets, size_px),
        "frame_px": overview_side_px("video", budgets, size_px),
    }


def world_of_question(id_: str) -> int | None:
    """Return the version of PixelWorld of a question, from its id; None for other questions.

    >>> world_of_question("w2-where-7-3px-a-where-1"), world_of_question("attribute-7-read"), world_of_question("row-7-1")
    (2, 1, None)
    """
    rest = id_.removeprefix("w2-")
    version = 1 if rest == id_ else WORLD
    family, _, more = rest.partition("-")
    families = ALL_FAMILIES if version == WORLD else ALL_FAMILIES_1
    is_scene = family in families and more.partition("-")[0].isdigit()
    return version if is_scene else None
