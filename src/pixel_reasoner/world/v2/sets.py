"""Fixed sets of PixelWorld 2: seeds and sizes, and the SHA-256 of what they give.

Pictures are not stored: a seed determines them. `hashes.json` contains one hash for each seed, of its questions and of the
pixels of all its versions (heights and twins), so a set can be verified on any machine. Pixels of clips are hashed before
they are encoded, because video encoders differ between versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.strict_json import parse_json
from pixel_reasoner.world.v2.draw import draw_frames, draw_picture
from pixel_reasoner.world.v2.params import CLIPS, FAMILIES, HEIGHTS, TWINS, Family
from pixel_reasoner.world.v2.questions import build_question
from pixel_reasoner.world.v2.render import build_media_item, make_scenes
from pixel_reasoner.world.v2.scene import Scene

VERSIONS_PER_SEED = len(HEIGHTS) * len(TWINS)
_HASHES = Path(__file__).with_name("hashes.json")


class FixedSet(NamedTuple):
    """Sizes and number of seeds of a set. Each seed gives `VERSIONS_PER_SEED` questions."""

    families: tuple[Family, ...]
    num_seeds: int
    size_px: int | None
    """side of the canvas; None: as small as possible"""
    overview_px: int
    """side of a picture's overview"""
    frame_px: int = 64
    """side of a frame's overview"""

    def side_px(self, family: str) -> int:
        """Return the side of the overview of a family."""
        return self.frame_px if family in CLIPS else self.overview_px


_PICTURES = tuple(family for family in FAMILIES if family not in CLIPS)
SETS: Mapping[str, FixedSet] = {
    "small": FixedSet(FAMILIES, 20, None, 192),
    "4k": FixedSet(_PICTURES, 2, 4096, 1024),
    "8k": FixedSet(_PICTURES, 1, 8192, 2048),
}
"""`small` fits the bundled model; `4k` and `8k` have many shapes, for large models"""
FIXED_SPLITS = ("validation", "test")


def fixed_set(name: str) -> FixedSet:
    """Return a set by name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in SETS:
        raise UsageError(
            expected=f"--set {', '.join(SETS)}", got=repr(name), fix="name one of these"
        )
    return SETS[name]


def hash_seed(family: Family, split: str, number: int, sizes: FixedSet) -> str:
    """Return the SHA-256 of the questions and pixels of all versions of one seed."""
    digest = hashlib.sha256()
    for scene in make_scenes(
        family,
        split,
        number,
        VERSIONS_PER_SEED,
        sizes.side_px(family),
        size_px=None if family in CLIPS else sizes.size_px,
    ):
        digest.update(build_question(scene, build_media_item(scene)).to_line().encode())
        for pixels in _pixels(scene):
            digest.update(pixels)
    return digest.hexdigest()


def _pixels(scene: Scene) -> Iterator[bytes]:
    if scene.family in CLIPS:
        yield from (frame.tobytes() for frame in draw_frames(scene))
    else:
        yield draw_picture(scene).tobytes()


class Mismatch(NamedTuple):
    """Seed that gives something else than recorded."""

    family: str
    number: int


def verify(
    name: str,
    split: str,
    families: tuple[str, ...] | None = None,
    count: int | None = None,
    on_seed: Callable[[int], None] = lambda number: None,
) -> list[Mismatch]:
    """Generate a set again and return the seeds whose hash differs from the recorded one.

    Args:
        name: of the set.
        split: validation or test.
        families: families to verify; None: all of the set.
        count: number of seeds of each family; None: all.
        on_seed: called with the number of verified seeds.

    Raises:
        UsageError: unknown names.
    """
    sizes, recorded = fixed_set(name), recorded_hashes().get(name, {}).get(split)
    if recorded is None:
        raise UsageError(
            expected=f"--split {', '.join(FIXED_SPLITS)} of a fixed set",
            got=repr(split),
            fix="name one of these",
        )
    found, done = [], 0
    for family in families or sizes.families:
        if family not in recorded:
            raise UsageError(
                expected=f"families of the set {name}: {', '.join(recorded)}",
                got=repr(family),
                fix="name some of these, separated by commas",
            )
        for number, known in enumerate(recorded[family][:count]):
            if hash_seed(family, split, number, sizes) != known:  # type: ignore[arg-type]
                found.append(Mismatch(family, number))
            done += 1
            on_seed(done)
    return found


@cache
def recorded_hashes() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the recorded hashes: set -> split -> family -> one for each seed."""
    hashes: dict[str, dict[str, dict[str, list[str]]]] = parse_json(_HASHES.read_bytes())
    return hashes


def compute_hashes(
    names: tuple[str, ...] = tuple(SETS),
) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the hashes of sets, for `hashes.json`."""
    return {
        name: {
            split: {
                family: [
                    hash_seed(family, split, number, SETS[name])
                    for number in range(SETS[name].num_seeds)
                ]
                for family in SETS[name].families
            }
            for split in FIXED_SPLITS
        }
        for name in names
    }


def write_hashes(names: tuple[str, ...] = tuple(SETS)) -> None:
    """Write the hashes of sets into `hashes.json`, after a change of the world."""
    known = recorded_hashes() if _HASHES.exists() else {}
    hashes = {**known, **compute_hashes(names)}
    _HASHES.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
