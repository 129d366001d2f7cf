"""Looks that miss: does a model notice that it looked at the wrong place, and look again?

The first look of a rollout is replaced, in the model's own words, by one as large that shows nothing of the
evidence. What the model reads from then on is a mistake that it seems to have made.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from pixel_reasoner.dialects import Dialect
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture, ToolCall

_TRIES = 200


def perturb_turn(
    text: str, question: Question, dialect: Dialect, pictures: Sequence[Picture]
) -> str:
    """A turn whose call looks elsewhere; the turn itself where it calls nothing or the evidence is not known.

    The same question is always disturbed in the same way.

    Args:
        text: what the model wrote.
        question: with evidence.
        dialect: that the model speaks.
        pictures: all that it has seen.
    """
    call = next(iter(dialect.parse(text, pictures).executable_calls), None)
    evidence = question.evidence
    if call is None or evidence is None:
        return text
    rng = random.Random(f"disturb/{question.id}")
    wrong: ToolCall | None = None
    if call.name == "zoom_in" and evidence.boxes:
        seen = next(
            (p for p in pictures if p.number == call.arguments.get("target_image", 1)), None
        )
        slack = dialect.grid.slack(seen.seen_px) if seen else 0.0
        wrong = _look_elsewhere(call, evidence.boxes, rng, dialect.padding, slack)
    elif call.name == "select_frames" and evidence.frames:
        num_frames = len({picture.frame for picture in pictures} - {None})
        wrong = _other_frames(call, evidence.frames, num_frames, rng)
    if wrong is None:
        return text
    return dialect.strip_call(text) + dialect.write_call(wrong, pictures)


def sample_off_target_box(
    like: Box,
    clues: Iterable[Box],
    rng: random.Random,
    padding: float = 0.0,
    avoid: Iterable[Box] = (),
) -> Box | None:
    """A box as large as another, on whole hundredths, that shares nothing with the clues; None where there is no room.

    Args:
        like: whose size it has.
        clues: what it must not show, even when it is grown by `padding` on every side.
        rng: chooses the place.
        padding: share of the picture.
        avoid: boxes that it must not overlap either.

    >>> box = sample_off_target_box(Box(0, 0, 0.5, 0.5), [Box(0, 0, 0.4, 0.4)], random.Random(0))
    >>> box.intersection(Box(0, 0, 0.4, 0.4))
    0.0
    """
    clues, avoid = list(clues), list(avoid)
    width, height = like.x2 - like.x1, like.y2 - like.y1
    for _ in range(_TRIES):
        x1, y1 = (round(rng.uniform(0, 1 - side), 2) for side in (width, height))
        box = Box(x1, y1, min(1.0, x1 + width), min(1.0, y1 + height))
        grown = Box(box.x1 - padding, box.y1 - padding, box.x2 + padding, box.y2 + padding)
        if not any(map(grown.intersection, clues)) and not any(map(box.intersection, avoid)):
            return box
    return None


def _look_elsewhere(
    call: ToolCall, clues: tuple[Box, ...], rng: random.Random, padding: float, slack: float
) -> ToolCall | None:
    try:
        like = Box.of(call.arguments["bbox_2d"])
    except (BoxError, KeyError, TypeError):  # it will be refused anyhow
        return None
    # A parsed box is padded already.
    unpadded = Box(
        0, 0, max(0.02, like.x2 - like.x1 - 2 * padding), max(0.02, like.y2 - like.y1 - 2 * padding)
    )
    box = sample_off_target_box(unpadded, clues, rng, padding + slack)
    if box is None:
        return None
    arguments = {**call.arguments, "bbox_2d": [round(value, 2) for value in box]}
    return ToolCall(name=call.name, arguments=arguments)


def _other_frames(
    call: ToolCall, evidence: tuple[int, ...], num_frames: int, rng: random.Random
) -> ToolCall | None:
    others = sorted(set(range(1, num_frames + 1)) - set(evidence))
    wanted = call.arguments.get("target_frames")
    if not others or not isinstance(wanted, list) or not wanted:
        return None
    frames = sorted(rng.sample(others, min(len(wanted), len(others))))
    return ToolCall(name=call.name, arguments={"target_frames": frames})
