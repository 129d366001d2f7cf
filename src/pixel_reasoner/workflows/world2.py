"""PixelWorld 2 in commands: scenes for the overview of a model, and the match of a model with a world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.sources.pixelworld2 import (
    ALL_FAMILIES,
    WORLD,
    PixelWorld2Source,
    overview_sides,
)
from pixel_reasoner.workflows.progress import Update
from pixel_reasoner.world.v2.sets import Mismatch, fixed_set, verify

if TYPE_CHECKING:
    from pixel_reasoner.workflows.world import WorldSpec

WORLDS = (1, WORLD)


def world2_source(spec: WorldSpec, budgets: PixelBudgets) -> PixelWorld2Source:
    """Return the source of a specification, for a model with these budgets.

    Raises:
        UsageError: unknown names, or options of world 1.
    """
    if spec.detail_px is not None:
        raise UsageError(
            expected="--heights with --world 2: heights in pixels of the overview",
            got=f"--detail-px {spec.detail_px}",
            fix=f"leave out --detail-px, or add --world {WORLDS[0]}",
        )
    return PixelWorld2Source(
        families=world2_families(spec.family),
        split=spec.split,
        seed=spec.seed,
        count=spec.count,
        heights=spec.heights,
        twins=spec.twins,
        size_px=spec.size_px,
        **overview_sides(budgets, spec.size_px),
    )


def world2_families(text: str) -> tuple[str, ...]:
    """Return the families in a comma-separated list; `all` means all families.

    Raises:
        UsageError: an unknown family.

    >>> world2_families("where,count,where")
    ('where', 'count')
    """
    names = ALL_FAMILIES if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ALL_FAMILIES]:
        raise UsageError(
            expected=f"families of PixelWorld {WORLD}: {', '.join(ALL_FAMILIES)}",
            got=repr(unknown[0]),
            fix="name some of these, separated by commas",
        )
    return names


def world2_questions(source: PixelWorld2Source, folder: Path) -> Iterator[Question]:
    """Yield the rendered questions of a source, with paths relative to the folder."""
    for unit in source.units(folder):
        yield from source.rows(unit, folder)


def parse_heights(text: str | None) -> tuple[int, ...] | None:
    """Return the heights in a comma-separated list; None for none.

    Raises:
        UsageError: something that is not a whole number.

    >>> parse_heights("2,12")
    (2, 12)
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise UsageError(
            expected="--heights as whole numbers, separated by commas",
            got=repr(text),
            fix="for example --heights 2,4,8",
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def verify_world(
    name: str,
    split: str = "test",
    families: tuple[str, ...] | None = None,
    count: int | None = None,
    update: Update | None = None,
) -> tuple[int, list[Mismatch]]:
    """Generate a fixed set of PixelWorld 2 again. Returns the number of seeds, and those that differ from the recorded hashes.

    Args:
        name: small, 4k or 8k.
        split: validation or test.
        families: families to verify; None: all of the set.
        count: seeds per family; None: all.
        update: called with the number of verified seeds.

    Raises:
        UsageError: unknown names.

    >>> verify_world("small", families=("where",), count=1)
    (1, [])
    """
    sizes = fixed_set(name)
    num_seeds = min(sizes.num_seeds, count or sizes.num_seeds)
    different = verify(name, split, families, count, update or (lambda number: None))
    return num_seeds * len(families or sizes.families), different
