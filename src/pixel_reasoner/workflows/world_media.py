"""PixelWorld families `parts` and `moments`: folders of photographs, and clips of minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pixel_reasoner.errors import UsageError
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.record import Record
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.world.moments import RATES, MomentsParams, make_clip, write_moments
from pixel_reasoner.world.parts import (
    CONDITIONS,
    DEFECT_CLASSES,
    KINDS,
    PartsParams,
    plan_parts,
    write_parts,
)
from pixel_reasoner.world.scene import split_seed

P = TypeVar("P", bound=Record)
_STARTS_S = (0.0, 1.4, 0.0, 2.5, 0.5)
_ROTATIONS = (0, 0, 90, 180, 270)
_CONTAINERS = ("mp4", "mov", "mov", "mp4", "mp4")
_TIMECODES = (None, "01:00:00:00", "01:00:00;00", None, None)
"""of clips in turn, with the rates in their order"""


@dataclass(frozen=True)
class PartsSpec:
    """Photographs of parts in the layout of MVTec AD.

    >>> PartsSpec(kinds="gear", width_px=4000).params().size
    (4000, 3000)
    """

    kinds: str = "all"
    """kinds of parts, separated by commas; `all` for all"""
    width_px: int = 2048
    """width of the photographs, 320 to 4,000; the height is three quarters of it"""
    references: int = 8
    """good parts in `train/good` of each kind"""
    validation: int = 10
    """parts of each kind in the validation split, half of them with a defect"""
    test: int = 20
    """parts of each kind in the test split, half of them with a defect"""
    unaligned: int = 4
    """photographs of each kind that cannot be aligned with the references"""
    views: int = 1
    """photographs of each part from different cameras, 1 to 3"""
    conditions: str = "all"
    """of validation and test: steady, shifted, rotated, relit, misaligned, wrong_part, separated by commas"""
    defects: str = "all"
    """classes of defects, separated by commas"""
    min_defect: float = 1.0
    """size of the smallest defect in pixels of the overview"""
    max_defect: float = 40.0
    """size of the largest defect in pixels of the overview"""
    seed: int = 0
    """number of the first part within each split"""

    def params(self) -> PartsParams:
        """Return the parameters of the renderer.

        Raises:
            UsageError: an unknown name, or a value outside its range.
        """
        params = _checked(
            PartsParams,
            kinds=_names(self.kinds, KINDS, "kinds of parts"),
            width_px=self.width_px,
            references=self.references,
            validation=self.validation,
            test=self.test,
            unaligned=self.unaligned,
            views=self.views,
            conditions=_names(self.conditions, CONDITIONS, "conditions"),
            defects=_names(self.defects, DEFECT_CLASSES, "classes of defects"),
            min_overview_px=self.min_defect,
            max_overview_px=self.max_defect,
            seed=self.seed,
        )
        params.check()
        return params


@dataclass(frozen=True)
class MomentsSpec:
    """Clips with events at exact times.

    >>> [params.rate for params in MomentsSpec(count=3).params()]
    ['23.976', '25', '29.97']
    """

    count: int = 5
    """number of clips"""
    duration_s: float = 120.0
    """length of each clip, 2 to 1,800 seconds"""
    rates: str = "all"
    """frame rates of the clips, in turn, separated by commas: 23.976, 25, 29.97, 60, variable"""
    split: str = "test"
    """train, validation or test"""
    seed: int = 0
    """number of the first clip within the split"""
    plain: bool = False
    """whether all clips are mp4, start at 0, are not rotated and have no time code; otherwise these take turns"""

    def params(self) -> list[MomentsParams]:
        """Return the parameters of each clip.

        Raises:
            UsageError: an unknown name, or a value outside its range.
        """
        if self.count < 1:
            raise UsageError(
                expected="a count of 1 or more", got=str(self.count), fix="ask for more"
            )
        split_seed(self.split, self.seed, self.count - 1)
        rates = _names(self.rates, tuple(RATES), "frame rates")
        return [self._clip(number, rates[number % len(rates)]) for number in range(self.count)]

    def _clip(self, number: int, rate: str) -> MomentsParams:
        if self.plain:
            return _checked(MomentsParams, duration_s=self.duration_s, rate=rate)
        turn = number % len(_STARTS_S)
        timecode = _TIMECODES[turn] if rate != "variable" else None
        if timecode is not None and rate != "29.97":
            timecode = timecode.replace(";", ":")
        return _checked(
            MomentsParams,
            duration_s=self.duration_s,
            rate=rate,
            start_s=_STARTS_S[turn],
            rotation=_ROTATIONS[turn],
            container=_CONTAINERS[turn],
            timecode=timecode,
        )


def render_parts(spec: PartsSpec, out: Path, progress: ProgressReporter | None = None) -> Path:
    """Write photographs, masks and `parts.jsonl`, and return the path of that file.

    Args:
        spec: what is rendered.
        out: the folder.
        progress: receives the number of photographs.

    Raises:
        UsageError: an unknown name, or a value outside its range.
        OutputError: the folder cannot be written.
    """
    params = spec.params()
    update = (progress or NoProgress()).start("rendering", sum(1 for _ in plan_parts(params)))
    with FolderLock(out):
        return write_parts(params, out, update)


def render_moments(spec: MomentsSpec, out: Path, progress: ProgressReporter | None = None) -> Path:
    """Write clips and `moments.jsonl`, and return the path of that file.

    Args:
        spec: what is rendered.
        out: the folder.
        progress: receives the number of frames.

    Raises:
        UsageError: an unknown name, or a value outside its range.
        OutputError: the folder cannot be written.
    """
    params = spec.params()
    lengths = [
        make_clip(one, spec.split, spec.seed, number).num_frames
        for number, one in enumerate(params)
    ]
    update = (progress or NoProgress()).start("rendering", sum(lengths))

    def report(clip: int, frame: int) -> None:
        update(sum(lengths[: clip - 1]) + frame, f"clip {clip} of {len(lengths)}")

    with FolderLock(out):
        return write_moments(params, out, split=spec.split, seed=spec.seed, on_frame=report)


def _names(text: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list; `all` means all.

    Raises:
        UsageError: an unknown name.
    """
    names = tuple(known) if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            expected=f"{what}: {', '.join(known)}",
            got=repr(unknown[0]),
            fix="name some of these, separated by commas",
        )
    return names


def _checked(record: type[P], **values: Any) -> P:
    """Return a record.

    Raises:
        UsageError: a value outside its range; the message contains its option.
    """
    try:
        return record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        raise UsageError(
            expected=f"{option}: {first['msg'].replace('Input should be', '').strip()}",
            got=str(values.get(name)),
            fix="choose another value",
        ) from error


_OPTIONS = {"min_overview_px": "--min-defect", "max_overview_px": "--max-defect", "rate": "--rates"}
