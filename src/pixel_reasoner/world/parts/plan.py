"""Plan of a folder of parts: which photographs it contains.

    train        good parts, steady (references)
    validation   good parts and parts with defects, in turn
    test         the same
    unaligned    turned parts that are half outside of the picture, and wrong parts

Defect classes and conditions take turns; sizes of defects are spread evenly on a logarithmic scale. All views of one part
are in one split, and the seeds of the splits are disjoint.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import Field, NonNegativeInt, PositiveInt

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import PixelBudget
from pixel_reasoner.world.parts.camera import VIEWS, Placement
from pixel_reasoner.world.parts.defects import DEFECT_CLASSES, SEVERITIES, DefectClass
from pixel_reasoner.world.parts.design import HEIGHT
from pixel_reasoner.world.parts.kinds import KINDS, Kind
from pixel_reasoner.world.parts.light import Light
from pixel_reasoner.world.parts.shot import VERSION, Condition, Defect, Shot
from pixel_reasoner.world.scene import split_seed

ALIGNED: tuple[Condition, ...] = ("steady", "shifted", "rotated", "relit")
UNALIGNED: tuple[Condition, ...] = ("misaligned", "wrong_part")
CONDITIONS: tuple[Condition, ...] = (*ALIGNED, *UNALIGNED)
MIN_WIDTH_PX, MAX_WIDTH_PX = 320, 4000
"""4,000 x 3,000 are 12 megapixels"""
_OVERVIEW_MULTIPLE = 32
_GOLDEN = 0.6180339887


class PartsParams(Record):
    """Content of a folder of parts.

    >>> PartsParams(width_px=4000).size, PartsParams(width_px=4000).overview
    ((4000, 3000), (1152, 864))
    """

    kinds: tuple[Kind, ...] = KINDS
    width_px: int = Field(2048, ge=MIN_WIDTH_PX, le=MAX_WIDTH_PX)
    """width of the photographs; the height is three quarters of it"""
    references: PositiveInt = 8
    """good parts in `train/good` of each kind"""
    validation: NonNegativeInt = 10
    """parts of each kind in the validation split, half of them with a defect"""
    test: NonNegativeInt = 20
    """parts of each kind in the test split, half of them with a defect"""
    unaligned: NonNegativeInt = 4
    """photographs of each kind that cannot be aligned"""
    views: int = Field(1, ge=1, le=len(VIEWS))
    """photographs of each part, from different cameras"""
    conditions: tuple[Condition, ...] = CONDITIONS
    """conditions of validation and test"""
    defects: tuple[DefectClass, ...] = DEFECT_CLASSES
    min_overview_px: float = Field(1.0, ge=0.5, le=40)
    """size of the smallest defect in pixels of the overview"""
    max_overview_px: float = Field(40.0, ge=0.5, le=40)
    seed: NonNegativeInt = 0
    """number of the first part within each split"""
    overview_max_px: PositiveInt = 1024 * 1024
    """pixels of the overview by which defects are measured; the default is that of the bundled model"""

    @property
    def size(self) -> Size:
        """Width and height of the photographs."""
        return self.width_px, round(self.width_px * HEIGHT)

    @property
    def overview(self) -> Size:
        """Width and height of the overview."""
        budget = PixelBudget(min_px=1024, max_px=self.overview_max_px)
        return fit_size(self.size, budget, _OVERVIEW_MULTIPLE)

    def check(self) -> None:
        """Check values that depend on each other.

        Raises:
            UsageError: a largest defect below the smallest, or no condition or defect class.
        """
        if self.max_overview_px < self.min_overview_px:
            raise UsageError(
                expected=f"a largest defect of at least {self.min_overview_px:g} overview pixels",
                got=f"{self.max_overview_px:g}",
                fix="make it larger, or the smallest defect smaller",
            )
        if not self.defects or not set(self.conditions) & set(ALIGNED) or not self.kinds:
            raise UsageError(
                expected="at least one kind, one defect class and one of the conditions "
                + ", ".join(ALIGNED),
                got="none",
                fix="name one",
            )


class PlannedShot(NamedTuple):
    """A photograph and its place in the folder."""

    kind: Kind
    """folder; a wrong part is of another kind"""
    split: str
    folder: str
    """`test/scratch`"""
    name: str
    """`S0001_C1`"""
    shot: Shot

    @property
    def image(self) -> str:
        """Path of the photograph."""
        return f"{self.kind}/{self.folder}/{self.name}.png"

    @property
    def mask(self) -> str:
        """Path of its mask."""
        parent, _, defect = self.folder.partition("/")
        truth = "ground_truth" if parent == "test" else f"{parent}/ground_truth"
        return f"{self.kind}/{truth}/{defect}/{self.name}_mask.png"


def plan_parts(params: PartsParams) -> Iterator[PlannedShot]:
    """Yield the photographs of a folder, kind by kind.

    Raises:
        UsageError: inconsistent values, or seeds outside a split.
    """
    params.check()
    for kind in params.kinds:
        yield from _references(params, kind)
        yield from _inspected(params, kind, "validation", params.validation)
        yield from _inspected(params, kind, "test", params.test)
        yield from _unaligned(params, kind)


def _references(params: PartsParams, kind: Kind) -> Iterator[PlannedShot]:
    for number in range(params.references):
        seed = split_seed("train", params.seed, number)
        yield from _views(params, kind, "train", "train/good", number, seed, "steady", None)


def _inspected(params: PartsParams, kind: Kind, split: str, count: int) -> Iterator[PlannedShot]:
    conditions = [one for one in ALIGNED if one in params.conditions]
    for number in range(count):
        seed, pair = split_seed(split, params.seed, number), number // 2
        condition = conditions[(pair + number % 2) % len(conditions)]
        defect = _defect(params, kind, split, pair) if number % 2 else None
        folder = f"{split}/{defect.kind if defect else 'good'}"
        yield from _views(params, kind, split, folder, number, seed, condition, defect)


def _unaligned(params: PartsParams, kind: Kind) -> Iterator[PlannedShot]:
    conditions = [one for one in UNALIGNED if one in params.conditions]
    for number in range(params.unaligned if conditions else 0):
        seed = split_seed("test", params.seed, params.test + number)
        condition = conditions[number % len(conditions)]
        yield from _views(params, kind, "test", "unaligned", number, seed, condition, None)


def _defect(params: PartsParams, kind: Kind, split: str, pair: int) -> Defect:
    """Return the defect of the `pair`-th bad part: classes in turn, sizes evenly on a logarithmic scale."""
    rng = random.Random(f"pixelworld/parts/{VERSION}/{kind}/{split}/{params.seed}")
    share = (rng.random() + (pair + 1) * _GOLDEN) % 1
    low, high = params.min_overview_px, params.max_overview_px
    length = low * (high / low) ** share
    severity = random.Random(f"severity/{kind}/{split}/{params.seed + pair}").choice(
        sorted(SEVERITIES)
    )
    scale = params.width_px / params.overview[0]
    return Defect(params.defects[pair % len(params.defects)], severity, length * scale)


def _views(  # noqa: PLR0913 - one place in the folder
    params: PartsParams,
    kind: Kind,
    split: str,
    folder: str,
    number: int,
    seed: int,
    condition: Condition,
    defect: Defect | None,
) -> Iterator[PlannedShot]:
    shown: Kind = kind
    if condition == "wrong_part":
        others = [one for one in KINDS if one != kind]
        shown = others[seed % len(others)]
    for view in VIEWS[: params.views]:
        rng = random.Random(f"pixelworld/parts/{VERSION}/{kind}/{seed}/{view}/{condition}")
        placement = _placement(condition, rng, params)
        shot = Shot(
            shown, seed, view, condition, params.width_px, placement, _light(condition, rng), defect
        )
        yield PlannedShot(kind, split, folder, f"S{number + 1:04d}_{view}", shot)


def _placement(condition: Condition, rng: random.Random, params: PartsParams) -> Placement:
    """Return a random placement: within 1.5 overview pixels and 0.15 degrees unless the condition says otherwise."""
    near = 1.5 / params.overview[0]
    dx, dy = rng.uniform(-near, near), rng.uniform(-near, near)
    turn, scale = rng.uniform(-0.15, 0.15), rng.uniform(0.999, 1.001)
    if condition in ("shifted", "rotated"):
        dx, dy = (rng.choice((-1, 1)) * rng.uniform(0.012, 0.04) for _ in range(2))
    if condition == "rotated":
        turn = rng.choice((-1, 1)) * rng.uniform(2.0, 8.0)
    if condition == "misaligned":
        dx, dy = rng.choice((-1, 1)) * rng.uniform(0.45, 0.55), rng.uniform(-0.25, 0.25)
        turn = rng.choice((-1, 1)) * rng.uniform(40, 140)
    return Placement(
        dx=round(dx, 6), dy=round(dy, 6), rotation_deg=round(turn, 4), scale=round(scale, 6)
    )


def _light(condition: Condition, rng: random.Random) -> Light:
    """Return a random light: within 2 % of brightness unless the part is lit differently."""
    if condition != "relit":
        return Light(
            brightness=round(rng.uniform(0.98, 1.02), 4),
            gradient=round(rng.uniform(0, 0.02), 4),
            gradient_deg=round(rng.uniform(0, 360), 1),
        )
    tint = rng.uniform(-0.05, 0.05)
    dimmer = rng.random() < 0.5
    return Light(
        azimuth_deg=round(225 + rng.uniform(-28, 28), 1),
        elevation_deg=round(58 + rng.uniform(-6, 6), 1),
        brightness=round(rng.uniform(0.7, 0.85) if dimmer else rng.uniform(1.06, 1.18), 4),
        gamma=round(rng.uniform(0.9, 1.12), 4),
        gradient=round(rng.uniform(0.08, 0.3), 4),
        gradient_deg=round(rng.uniform(0, 360), 1),
        tint=(round(1 + tint, 4), 1.0, round(1 - tint, 4)),
    )
