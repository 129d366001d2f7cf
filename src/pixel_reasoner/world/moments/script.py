"""Script of a clip: shots, events and the moving person or van; a pure function of seed and parameters.

object    a coloured ball rolls through the picture
light     a lamp is on
number    a board shows a number
placed    a coloured part lies on the tray
"""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from typing import Literal, NamedTuple

from pixel_reasoner.world.moments.params import MomentsParams, frame_times
from pixel_reasoner.world.scene import COLORS, split_seed

VERSION = 1
"""incremented when a seed gives another clip"""
EventKind = Literal["object", "light", "number", "placed"]
EVENT_KINDS: tuple[EventKind, ...] = ("object", "light", "number", "placed")
TargetKind = Literal["face", "plate"]
BACKDROPS = ("bench", "hall", "office", "gate")
BALL_COLORS = ("red", "yellow", "purple", "orange")
PART_COLORS = ("green", "blue", "orange", "red")
TARGET_Y = {"face": 0.385, "plate": 0.62}
"""centre of the target, fraction of the height"""
TARGET_SIZE = {"face": (0.066, 0.156), "plate": (0.112, 0.062)}
"""width and height of its box, fractions of the picture"""
_MARGIN_S = 0.7
"""time between an event and the next cut"""
_DISSOLVE_S = 0.5
_LETTERS = "ACEFHJKLMNPRTUXY"


class Shot(NamedTuple):
    """Frames between two cuts."""

    first: int
    """number of the first frame, from 0"""
    end: int
    """number after the last frame"""
    dissolve: int
    """frames, from the first one, in which the picture changes from the previous shot; 0 for a hard cut"""
    backdrop: str
    variant: int
    """random seed of the backdrop"""
    has_target: bool


class Event(NamedTuple):
    """Something that is visible in consecutive frames."""

    kind: EventKind
    value: str
    """a colour or a number; empty for a light"""
    first: int
    end: int
    """number after the last frame"""
    shot: int


class Clip(NamedTuple):
    """Content of a clip."""

    id: str
    seed: int
    params: MomentsParams
    times: tuple[Fraction, ...]
    """start of each frame in seconds, and the end of the last one"""
    shots: tuple[Shot, ...]
    events: tuple[Event, ...]
    target: TargetKind
    target_text: str
    """name on the badge, or number on the plate"""

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.times) - 1

    def rng(self, purpose: str) -> random.Random:
        """Return a random generator that depends on the clip and the purpose alone."""
        return _rng(self.seed, purpose)

    def target_x(self, shot: Shot, frame: int) -> float | None:
        """Return the x coordinate of the centre of the target, fraction of the width; None in a shot without it."""
        if not shot.has_target:
            return None
        time = float(self.times[frame] - self.times[0])
        speed = 0.16 if self.target == "face" else 0.11
        phase = shot.variant % 628 / 100
        return 0.5 + 0.4 * math.sin(speed * math.tau * time + phase)


def make_clip(params: MomentsParams, split: str, seed: int, index: int = 0) -> Clip:
    """Return the clip of a seed.

    Args:
        params: duration, frame rate and others.
        split: train, validation or test.
        seed: number of the first clip within the split.
        index: number of the clip after the first one.

    Raises:
        UsageError: unknown split, or a seed outside the split.
    """
    number = split_seed(split, seed, index)
    rng = _rng(number, "script")
    times = frame_times(params, _rng(number, "times"))
    target: TargetKind = rng.choice(("face", "plate"))
    shots = _shots(params, times, target, rng)
    return Clip(
        f"moments-{number}",
        number,
        params,
        times,
        shots,
        tuple(_events(params, times, shots, rng)),
        target,
        _name(rng, target),
    )


def _rng(seed: int, purpose: str) -> random.Random:
    return random.Random(f"pixelworld/moments/{VERSION}/{seed}/{purpose}")


def _name(rng: random.Random, target: TargetKind) -> str:
    if target == "face":
        return rng.choice(("A. NOVAK", "M. OKORO", "L. HANSEN", "P. SILVA", "K. TANAKA"))
    letters = "".join(rng.choice(_LETTERS) for _ in range(2))
    return f"{letters} {rng.randint(100, 999)} {rng.choice(_LETTERS)}"


def _frame_at(times: tuple[Fraction, ...], seconds: float) -> int:
    """Return the number of the first frame that starts at or after a time since the start of the clip."""
    low, high = 0, len(times) - 1
    while low < high:
        middle = (low + high) // 2
        if times[middle] - times[0] < seconds:
            low = middle + 1
        else:
            high = middle
    return low


def _shots(
    params: MomentsParams, times: tuple[Fraction, ...], target: TargetKind, rng: random.Random
) -> tuple[Shot, ...]:
    length_s = float(times[-1] - times[0])
    cuts_s = [0.0]
    while (cut := cuts_s[-1] + rng.uniform(params.min_shot_s, params.max_shot_s)) < (
        length_s - params.min_shot_s
    ):
        cuts_s.append(cut)
    edges = [_frame_at(times, cut) for cut in cuts_s] + [len(times) - 1]
    shots: list[Shot] = []
    for number, (first, end) in enumerate(itertools.pairwise(edges)):
        others = [one for one in BACKDROPS if not shots or one != shots[-1].backdrop]
        dissolve = 0
        if number and rng.random() < params.dissolve_share:
            dissolve = _frame_at(times, cuts_s[number] + _DISSOLVE_S) - first
        backdrop, variant = rng.choice(others), rng.getrandbits(30)
        # A van is seen outdoors and in the hall.
        fits = target == "face" or backdrop in ("hall", "gate")
        has_target = fits and (rng.random() < 0.75 or not number)
        shots.append(Shot(first, end, dissolve, backdrop, variant, has_target))
    return tuple(shots)


def _events(
    params: MomentsParams,
    times: tuple[Fraction, ...],
    shots: tuple[Shot, ...],
    rng: random.Random,
) -> list[Event]:
    """Return events in the order of time. A share `event_share` of the shots has one or two, of different kinds."""
    events = []
    for number, shot in enumerate(shots):
        start_s = float(times[shot.first] - times[0]) + _MARGIN_S + _DISSOLVE_S
        end_s = float(times[shot.end] - times[0]) - _MARGIN_S - _DISSOLVE_S
        if rng.random() > params.event_share or end_s - start_s < params.min_event_s:
            continue
        for kind in rng.sample(EVENT_KINDS, rng.choice((1, 1, 2))):
            length = min(rng.uniform(params.min_event_s, params.max_event_s), end_s - start_s)
            begin = rng.uniform(start_s, end_s - length)
            first = _frame_at(times, begin)
            end = max(first + 1, _frame_at(times, begin + length))
            events.append(Event(kind, _value(kind, rng), first, end, number))
    return sorted(events, key=lambda event: (event.first, event.kind))


def _value(kind: EventKind, rng: random.Random) -> str:
    if kind == "number":
        return str(rng.randint(10, 99))
    if kind == "light":
        return ""
    return rng.choice(BALL_COLORS if kind == "object" else PART_COLORS)


def query_text(kind: EventKind, value: str) -> str:
    """Return the description of an event in words.

    >>> query_text("object", "red")
    'a red ball rolls through the picture'
    """
    return {
        "object": f"{_article(value)} {value} ball rolls through the picture",
        "light": "the lamp is on",
        "number": f"the board shows the number {value}",
        "placed": f"{_article(value)} {value} part lies on the tray",
    }[kind]


def _article(word: str) -> str:
    return "an" if word[:1] in "aeiou" else "a"


assert set(BALL_COLORS) | set(PART_COLORS) <= set(COLORS)
