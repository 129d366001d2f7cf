"""Control conditions: rollouts in which one property of operations is changed, to see what a gain depends on.

    forced       a turn that answers before any operation gets an error, and the model is asked again (at most twice)
    random-crop  every box is moved to a random place, and every selected frame is replaced: equal size, other pixels
    blank        every result of an operation is grey, at its usual size: the format is kept, the information is removed
    oracle       the evidence is zoomed into, item by item, before the model's own turns count
    tiling       no operations; the prompt contains tiles of each picture, together as large as one result of an operation
    forbidden    no operations

Everything depends on the question and the pictures alone, so a replay of a trace gives the same pixels.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.transforms import BLANK
from pixel_reasoner.models.api import Completion
from pixel_reasoner.operations.base import ArgumentRole
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES, select_frames
from pixel_reasoner.operations.registry import OperationSet
from pixel_reasoner.operations.zoom import zoom_in
from pixel_reasoner.rollout.usable import usable_operations
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import Control, PixelBudget, RolloutConfig
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    ToolCall,
    Transform,
)

if TYPE_CHECKING:
    from pixel_reasoner.rollout.state import Rollout

MAX_REQUESTS = 2
"""how often a forced rollout is asked to use an operation"""
ORACLE_MARGIN = 0.125
"""margin of an oracle crop on every side, as a fraction of the evidence"""
_TILES_PER_SIDE, _TILE_SIDE = 2, 0.55
"""tiles of a picture; they overlap, so that an object at an edge is whole in one of them"""
_FRAME_RESULTS = 2
"""selected frames whose pixels the frames of a tiled clip share"""


def control_config(config: RolloutConfig, control: Control) -> RolloutConfig:
    """Return the configuration of a control condition.

    >>> control_config(RolloutConfig(), Control.FORBIDDEN).operations
    ()
    """
    if not config.operations:
        raise UsageError(
            expected="controls of a run with operations",
            got=f"--control {control} with --no-operations",
            fix="leave out --no-operations",
        )
    if control is Control.FORBIDDEN:
        return config.model_copy(update={"operations": ()})
    if control is Control.TILING:
        return config.model_copy(update={"operations": (), "control": control})
    return config.model_copy(update={"control": control})


def controlled_operations(dialect: str, config: RolloutConfig, question: Question) -> OperationSet:
    """Return the operations of a configuration that a dialect can use, changed by the control."""
    operations = OperationSet.of(usable_operations(dialect, config.operations))
    if config.control is Control.RANDOM_CROP:
        return _RandomCrops(operations.specs, question.id)
    if config.control is Control.BLANK:
        return _BlankResults(operations.specs)
    return operations


@dataclasses.dataclass(frozen=True)
class _RandomCrops(OperationSet):
    """Operations whose boxes and frames are replaced by random ones of equal size."""

    question: str = ""

    def run(self, call: ToolCall, context: MediaContext) -> Observation:
        """Execute a call at a random place. An invalid call is rejected as usual."""
        spec = self.get(call.name)
        if spec is None:
            return super().run(call, context)
        rng = random.Random(f"random-crop/{self.question}/{len(context)}")
        arguments = dict(call.arguments)
        for name in spec.arguments_with_role(ArgumentRole.BOX):
            if name in arguments:
                arguments[name] = _moved(arguments[name], rng)
        for name in spec.arguments_with_role(ArgumentRole.FRAMES):
            frames, known = arguments.get(name), sorted(context.frames)
            if (
                isinstance(frames, list)
                and frames
                and set(map(str, frames)) <= set(map(str, known))
            ):
                arguments[name] = sorted(rng.sample(known, len(set(map(str, frames)))))
        return super().run(ToolCall(name=call.name, arguments=arguments), context)


def _moved(value: object, rng: random.Random) -> object:
    """Return a box of equal size at a random place; an invalid one unchanged."""
    try:
        box = Box.of(value)  # type: ignore[arg-type]
    except (BoxError, TypeError):
        return value
    width, height = box.x2 - box.x1, box.y2 - box.y1
    x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return [round(one, 4) for one in (x, y, min(1.0, x + width), min(1.0, y + height))]


@dataclasses.dataclass(frozen=True)
class _BlankResults(OperationSet):
    """Operations whose results are grey."""

    def run(self, call: ToolCall, context: MediaContext) -> Observation:
        """Execute a call and blank its pictures."""
        observation = super().run(call, context)
        blank = tuple(_blanked(picture, context) for picture in observation.pictures)
        return observation.model_copy(update={"pictures": blank})


def _blanked(picture: Picture, context: MediaContext) -> Picture:
    transforms = (*picture.transforms, Transform(name=BLANK.name))
    blank = picture.model_copy(update={"transforms": transforms})
    context.pictures[picture.number - 1] = blank  # not rendered yet
    return blank


class OracleCrops:
    """Hook that replaces the first turns by zooms into the evidence, one for each item."""

    def after_generation(self, rollout: Rollout, completion: Completion) -> Completion:
        """Return the call of the next evidence item; the unchanged completion after the last one."""
        call = _oracle_call(rollout)
        if call is None:
            return completion
        text = rollout.dialect.write_call(call, rollout.context.pictures)
        return Completion(text=text, num_prompt_tokens=completion.num_prompt_tokens)


def _oracle_call(rollout: Rollout) -> ToolCall | None:
    evidence, number = rollout.question.evidence, len(rollout.turns)
    if evidence is None or number >= rollout.config.limits.max_turns - 1:
        return None
    if evidence.frames:
        start = number * MAX_SELECTED_FRAMES
        frames = list(evidence.frames[start : start + MAX_SELECTED_FRAMES])
        return (
            ToolCall(name=select_frames.name, arguments={"target_frames": frames})
            if frames
            else None
        )
    if number >= len(evidence.boxes):
        return None
    box = _with_margin(evidence.boxes[number])
    arguments = {"bbox_2d": [round(one, 2) for one in box], "target_image": evidence.image}
    return ToolCall(name=zoom_in.name, arguments=arguments)


def _with_margin(box: Box) -> Box:
    x, y = ORACLE_MARGIN * (box.x2 - box.x1), ORACLE_MARGIN * (box.y2 - box.y1)
    return Box(
        max(0.0, box.x1 - x), max(0.0, box.y1 - y), min(1.0, box.x2 + x), min(1.0, box.y2 + y)
    )


def operation_request(rollout: Rollout) -> Observation | None:
    """Return the error of an answer before any operation in a forced rollout; None to accept the answer."""
    if rollout.config.control is not Control.FORCED or not rollout.config.operations:
        return None
    results = [one for turn in rollout.turns for one in turn.observations]
    num_requests = sum(one.error == CallErrorKind.OPERATION_REQUIRED for one in results)
    if any(one.error is None for one in results) or num_requests >= MAX_REQUESTS:
        return None
    names = rollout.operations.for_media(rollout.question.media).names
    return Observation(
        text=f"use {' or '.join(names)} before you answer", error=CallErrorKind.OPERATION_REQUIRED
    )


def add_tiles(context: MediaContext, config: RolloutConfig) -> None:
    """Add tiles of every picture to the prompt, if the configuration asks for them.

    The tiles of a picture have together as many pixels as one crop, the frames of a clip as many as two selected frames.
    """
    if config.control is not Control.TILING:
        return
    originals = list(context.pictures)
    for picture in originals:
        if picture.frame is None:
            budget = _share(context.budgets.crop, 1 / _TILES_PER_SIDE**2)
            for y in (0.0, 1 - _TILE_SIDE):
                for x in (0.0, 1 - _TILE_SIDE):
                    tile = Box(x, y, min(1.0, x + _TILE_SIDE), min(1.0, y + _TILE_SIDE))
                    context.add_region(picture.number, tile, budget=budget)
        else:
            share = _FRAME_RESULTS / max(1, context.num_frames)
            budget = _share(context.budgets.selected_frame, share)
            context.add_region(picture.number, budget=budget)


def _share(budget: PixelBudget, share: float) -> PixelBudget:
    """Return a budget for a share of the pixels."""
    max_px = max(1, round(budget.max_px * share))
    return PixelBudget(min_px=min(budget.min_px, max_px), max_px=max_px)
