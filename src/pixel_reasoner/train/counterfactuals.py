"""Counterfactual results of calls: the same conversation, in which the result of a call shows other pixels of equal size.

    elsewhere   a crop of the same picture that does not overlap the called box; for selected frames, other frames
    twin        the same boxes and frames of the twin's picture or clip (PixelWorld 2)

Token ids, texts and sizes are unchanged, so a difference of log-probabilities comes from the pixels alone. The result is a
trace: batches compute its pixels as those of any other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.resize import region_px
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import FrameSampling, Picture, Trace
from pixel_reasoner.scoring.rewards import DeltaBaseline
from pixel_reasoner.world.v2.draw import write_media
from pixel_reasoner.world.v2.render import build_media_item
from pixel_reasoner.world.v2.twins import scene_of, twin_answer, twin_of


class Counterfactual(Protocol):
    """Function that returns a trace in which the results of a turn's calls show other pixels."""

    def __call__(self, trace: Trace, turn: int) -> Trace | None:
        """Return the trace; None if there are no such pixels."""


def counterfactual_of(baseline: DeltaBaseline, folder: Path) -> Counterfactual | None:
    """Return the function of a baseline; None for the baseline without counterfactuals.

    Args:
        baseline: which pixels.
        folder: for rendered pictures and clips of twins.
    """
    if baseline is DeltaBaseline.NONE:
        return None
    return elsewhere if baseline is DeltaBaseline.ELSEWHERE else partial(in_twin, folder=folder)


def check_twins(questions: Sequence[Question]) -> None:
    """Raise an error that names the first question whose answer is not another one in a twin's picture.

    Raises:
        UsageError: there is such a question.
    """
    for question in questions:
        answer = twin_answer(question)
        if answer is None or answer == question.answer:
            why = "has no twin" if answer is None else "has the same answer in its twin"
            raise UsageError(
                expected="questions of PixelWorld 2 whose answers differ between twins, with delta_baseline twin",
                got=f"{question.id}, which {why}",
                fix="use [pixelworld] with world = 2 alone, or set delta_baseline to elsewhere",
            )


# --- elsewhere ---


def elsewhere(trace: Trace, turn: int) -> Trace | None:
    """Return the trace in which the results of a turn show other places. Depends on the seed of the trace alone.

    Returns:
        None if there is no room, for example because a crop covers most of the picture.
    """
    rng = random.Random(f"elsewhere/{trace.settings.sampling.seed}/{trace.question.id}/{turn}")
    shown = _shown(trace, turn)
    frames = _other_frames(trace, shown, rng)
    changed = {}
    for picture in shown:
        other = _moved(picture, trace, rng) if picture.box != WHOLE else frames.get(picture.number)
        if other is None:
            return None
        changed[picture.number] = other
    return _with_pictures(trace, turn, changed) if changed else None


def _moved(picture: Picture, trace: Trace, rng: random.Random) -> Picture | None:
    """Return a crop of the same picture or frame, elsewhere."""
    whole = next(
        one
        for one in trace.pictures
        if (one.medium, one.frame) == (picture.medium, picture.frame) and one.box == WHOLE
    )
    box = box_elsewhere(picture.box, whole.source_px, rng)
    return box and picture.model_copy(update={"box": box})


def _other_frames(trace: Trace, shown: Sequence[Picture], rng: random.Random) -> dict[int, Picture]:
    """Return for each whole frame of a result the number of its picture -> a frame that the result does not show."""
    whole = [one for one in shown if one.frame is not None and one.box == WHOLE]
    known = {one.frame for one in whole}
    others = [one for one in trace.pictures if one.frame is not None and one.frame not in known]
    if len(others) < len(whole):
        return {}
    drawn = sorted(rng.sample(others, len(whole)), key=lambda one: one.number)
    return {
        one.number: one.model_copy(
            update={"medium": other.medium, "frame": other.frame, "time_s": other.time_s}
        )
        for one, other in zip(whole, drawn, strict=True)
    }


def box_elsewhere(box: Box, size: Size, rng: random.Random) -> Box | None:
    """Return a random box with as many pixels as another and no pixel in common; None if there is no room.

    Args:
        box: in fractions of the picture.
        size: (width, height) of the picture in pixels.
        rng: selects the place.

    >>> box_elsewhere(Box(0.0, 0.0, 0.5, 1.0), (100, 80), random.Random(0))
    Box(x1=0.5, y1=0.0, x2=1.0, y2=1.0)
    >>> box_elsewhere(Box(0.2, 0.2, 0.8, 0.8), (100, 80), random.Random(0)) is None
    True
    """
    left, top, right, bottom = region_px(size, box)
    width, height = right - left, bottom - top
    last_x, last_y = size[0] - width, size[1] - height
    # First and last position of the left and of the upper side: left of the box, right of it, above, below.
    areas = [
        (0, left - width, 0, last_y),
        (right, last_x, 0, last_y),
        (0, last_x, 0, top - height),
        (0, last_x, bottom, last_y),
    ]
    areas = [(a, b, c, d) for a, b, c, d in areas if a <= b and c <= d]
    if not areas:
        return None
    weights = [(b - a + 1) * (d - c + 1) for a, b, c, d in areas]
    ((x_from, x_to, y_from, y_to),) = rng.choices(areas, weights)
    x, y = rng.randint(x_from, x_to), rng.randint(y_from, y_to)
    return Box(x / size[0], y / size[1], (x + width) / size[0], (y + height) / size[1])


# --- twins ---


def in_twin(trace: Trace, turn: int, folder: Path) -> Trace | None:
    """Return the trace in which the results of a turn show the same boxes and frames of the twin.

    Args:
        trace: about a question of PixelWorld 2.
        turn: number of the turn.
        folder: for the medium of the twin; an existing file is kept.
    """
    item = _twin_medium(trace.question, folder)
    num_frames = sum(one.frame is not None for one in trace.pictures)
    changed = {
        one.number: one.model_copy(
            update={"medium": 1, "frame": one.frame and one.frame + num_frames}
        )
        for one in _shown(trace, turn)
    }
    if not changed:
        return None
    media = (*trace.question.media, item)
    more = (FrameSampling(medium=1, num_frames=one.num_frames) for one in trace.sampling)
    both = trace.model_copy(
        update={
            "question": trace.question.model_copy(update={"media": media}),
            "sampling": (*trace.sampling, *more),
        }
    )
    return _with_pictures(both, turn, changed)


def _twin_medium(question: Question, folder: Path) -> MediaItem:
    scene = scene_of(question)
    assert scene is not None, "the questions of the run were checked"
    twin = twin_of(scene)
    item = build_media_item(twin)
    path = folder / item.path
    if not path.exists():
        write_media(twin, path)
    return item.model_copy(update={"path": str(path)})


# --- results of a turn ---


def _shown(trace: Trace, turn: int) -> list[Picture]:
    """Return the pictures that the calls of a turn added."""
    return [picture for one in trace.turns[turn].observations for picture in one.pictures]


def _with_pictures(trace: Trace, turn: int, changed: dict[int, Picture]) -> Trace:
    """Return a trace that ends after a turn, with other pictures in its results."""
    last = trace.turns[turn]
    observations = tuple(
        one.model_copy(update={"pictures": tuple(changed[p.number] for p in one.pictures)})
        for one in last.observations
    )
    turns = (*trace.turns[:turn], last.model_copy(update={"observations": observations}))
    return trace.model_copy(update={"turns": turns})
