"""Hindsight questions: recorded rollouts become expert traces by asking about what their first call shows.

A clumsy call misses the item of its question. Where its crop contains another item whole and legible, the question about
that item makes the call right. The generator of PixelWorld knows all items, so it asks this question.

    hindsight   the question about the item in the crop, the recorded call, its result, the right answer
    kept        a rollout with the right answer, unchanged: its first call shows the item of its question; if the question is
                about several, its calls show all; if the overview answers it, there is no call

Each question occurs once, in the first rollout that gives it. Every trace passes `data.check`.

The idea follows hindsight experience replay (arXiv 1707.01495): a reached goal replaces the intended one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.data import wording
from pixel_reasoner.data.check import find_problems
from pixel_reasoner.data.recorded_scenes import AskedItem, RecordedScene, recorded_scene
from pixel_reasoner.data.regions import ExpertConfig, NoTrace
from pixel_reasoner.data.trace_writer import TraceWriter
from pixel_reasoner.data.unit_files import PARTIAL_TRACES, UnitResult
from pixel_reasoner.data.wording import describe_place, fill_template
from pixel_reasoner.evals.stats import num_executed
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.operations.frames import select_frames
from pixel_reasoner.operations.zoom import zoom_in
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import FIXED
from pixel_reasoner.schema.trace import Observation, Picture, ToolCall, Trace, load_traces
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import is_right
from pixel_reasoner.sources.rows import SkippedRow

if TYPE_CHECKING:
    from pixel_reasoner.data.synth import SynthSettings

HINDSIGHT, KEPT = "hindsight", "kept"
"""kinds of traces"""
VERSION = 2
"""incremented when a rollout gives another trace"""
LEGIBLE_PX = 8.0
"""default height in pixels of a legible character in a crop; expert crops of the smallest evidence have 9"""
_TOLERANCE = 1e-6


class HindsightSettings(Record):
    """Settings of a run on recorded rollouts."""

    keep_hits: bool = True
    """whether rollouts whose first call is right, with a right answer, are kept"""
    legible_px: float = LEGIBLE_PX
    """height of a legible character in a crop, in pixels of the prompt"""
    version: int = VERSION


class RolloutUnit(NamedTuple):
    """Recorded rollout."""

    where: str
    """file, and number in the file"""
    trace: Trace


class FirstResult(NamedTuple):
    """First executed call of a rollout, and its result."""

    turn: int
    call: ToolCall
    observation: Observation

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Pictures that the call added."""
        return self.observation.pictures


class HindsightWriter:
    """Writer of the traces of a run (`data.synth.MapUnits`). It writes each question once.

    Args:
        out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.contexts = MediaCache(max_entries=1)

    def __call__(
        self, units: Iterable[Any], settings: SynthSettings, folder: Path
    ) -> Generator[UnitResult, None, None]:
        """Yield the result of each rollout, in order, with its media in `folder`."""
        known = {trace.question.id for trace in load_traces(self.out / PARTIAL_TRACES)}
        for unit in units:
            try:
                scene, trace, kind = self._relabelled(unit.trace, settings, folder, known)
            except NoTrace as error:
                where = f"{unit.where}: {unit.trace.question.id}"
                dropped = SkippedRow(where, error.reason, str(error))
                yield UnitResult([], [], [dropped], [])
                continue
            known.add(trace.question.id)
            yield UnitResult([trace.to_line() + "\n"], [kind], [], [scene.media_item.path])

    def _relabelled(
        self, trace: Trace, settings: SynthSettings, folder: Path, known: set[str]
    ) -> tuple[RecordedScene, Trace, str]:
        """Return the scene of a rollout, its trace with relative media paths, and the kind of the trace."""
        assert settings.hindsight is not None, "the run is one on rollouts"
        _check_format(trace, settings)
        scene = recorded_scene(trace)
        miss = _first_miss(trace, scene)
        if miss is None:
            _check_kept(trace, settings.hindsight)
            question, kind = scene.question, KEPT
        else:
            question = best_item(scene, miss, settings.hindsight.legible_px).question
            kind = HINDSIGHT
        if question.id in known:
            raise NoTrace("known_question", question.id)
        asked = with_media_root(question, self._media_root(scene, folder))
        if miss is None:
            written = trace.model_copy(update={"question": asked})
        else:
            written = self._written(asked, miss, settings.expert)
        for problem in find_problems(written, contexts=self.contexts):
            raise NoTrace(f"check_{problem.check}", problem.detail)
        return scene, written.model_copy(update={"question": question}), kind

    def _media_root(self, scene: RecordedScene, folder: Path) -> Path:
        """Return the folder below which the medium of a scene is. It is rendered once."""
        path = scene.media_item.path
        if (self.out / path).exists():
            return self.out
        if not (folder / path).exists():
            scene.write_media(folder / path)
        return folder

    def _written(self, question: Question, result: FirstResult, config: ExpertConfig) -> Trace:
        """Return the expert trace that answers a question after a recorded call."""
        rng = random.Random(f"hindsight/{VERSION}/{question.id}")
        context = self.contexts.open(question, config.budgets)
        writer = TraceWriter(question, rng, config, context)
        is_zoom = result.call.name == zoom_in.name
        about = writer.subject(0) if is_zoom else ""
        observation = writer.turn(_words(writer, result), result.call, about=about)
        if observation is None or observation.pictures != result.pictures:
            raise NoTrace("other_result", "the call gives another crop when it is written again")
        writer.answer(writer.finding(-1))
        return writer.finish(HINDSIGHT)


def _words(writer: TraceWriter, result: FirstResult) -> str:
    """Return the words before the call."""
    if result.call.name == select_frames.name:
        return writer.select_words()
    if writer.evidence.boxes:
        return writer.zoom_words(0)
    where = describe_place(result.pictures[0].box)  # of a frame
    return fill_template(writer.rng, wording.ZOOM, subject=writer.subject(0), where=where)


# --- rollouts ---


def first_result(trace: Trace) -> FirstResult:
    """Return the first executed call of a rollout.

    Raises:
        NoTrace: there is none, or its result is not plain crops or frames.
    """
    for number, turn in enumerate(trace.turns):
        for observation in turn.observations:
            if observation.error is not None:
                continue
            call = turn.calls[observation.call]
            is_plain = all(picture.is_plain_region for picture in observation.pictures)
            if call.name not in (zoom_in.name, select_frames.name) or not is_plain:
                raise NoTrace("other_operation", call.name)
            if turn.scripted:
                raise NoTrace("other_operation", "a strategy wrote the call")
            return FirstResult(number, call, observation)
    raise NoTrace("no_call", f"the rollout stopped with {trace.stop}")


def _check_format(trace: Trace, settings: SynthSettings) -> None:
    """Fail on a rollout that a trace of the run cannot equal."""
    own = trace.settings
    if own.control is not None:
        raise NoTrace("control", f"the control condition {own.control}")
    if trace.exchange or own.budget != FIXED:
        raise NoTrace("other_format", "a later question, or adaptive budgets")
    expert = settings.expert
    budgets = own.budgets or expert.dialect.budgets
    if (own.dialect, budgets) != (settings.dialect, settings.budgets):
        raise NoTrace("other_format", "another dialect, or other pixel budgets, than the first")
    if own.operations != settings.operations:
        raise NoTrace("other_format", "other operations than the first")


def _first_miss(trace: Trace, scene: RecordedScene) -> FirstResult | None:
    """Return the first executed call, if it shows another item than the one asked about. Else the rollout may be kept.

    Raises:
        NoTrace: no executed call; or a question about several items, not all of which were shown; or a call although the
            overview answers the question.
    """
    if trace.question.needs_look is False:
        if num_executed(trace):
            raise NoTrace("needless_call", "the overview answers the question")
        return None
    result = first_result(trace)
    if not scene.items:
        if not evidence_hit(trace):
            raise NoTrace("other_family", "a question about several items; not all were shown")
        return None
    return None if _shows_asked_item(trace, result) else result


def _shows_asked_item(trace: Trace, result: FirstResult) -> bool:
    """Return whether a call shows what its question asks about.

    Raises:
        NoTrace: it shows some of the frames.
    """
    turn = trace.turns[result.turn].model_copy(update={"observations": (result.observation,)})
    if evidence_hit(trace.model_copy(update={"turns": (*trace.turns[: result.turn], turn)})):
        return True
    evidence = trace.question.evidence
    frames = set(evidence.frames) if evidence is not None else set()
    if frames & {picture.frame for picture in result.pictures if picture.frame is not None}:
        raise NoTrace("partly_shown", "some of the frames that the question asks about")
    return False


def _check_kept(trace: Trace, settings: HindsightSettings) -> None:
    """Fail on a rollout with right calls that is not kept."""
    if not is_right(trace):
        raise NoTrace("wrong_answer", f"the calls are right, the answer {trace.answer!r} is not")
    if not settings.keep_hits:
        raise NoTrace("hit", "calls and answer are right")


# --- items ---


def best_item(scene: RecordedScene, result: FirstResult, legible_px: float) -> AskedItem:
    """Return the item that a call shows whole and legible; of several the one nearest to the centre of the crop.

    Raises:
        NoTrace: there is none.
    """
    whole = [(item, px) for item in scene.items if (px := _shown_px(item, result, scene))]
    if not whole:
        raise NoTrace("no_item", "no item is whole in the result of the call")
    legible = [item for item, px in whole if px >= legible_px]
    if not legible:
        highest = max(px for _, px in whole)
        raise NoTrace("illegible", f"characters of {highest:.1f} px in the result of the call")
    return min(legible, key=lambda item: _distance(item.box, result.pictures[0].box))


def _shown_px(item: AskedItem, result: FirstResult, scene: RecordedScene) -> float | None:
    """Return the height of an item's character in the result of a call; None if the item is not whole in it."""
    heights: dict[int | None, float] = {}
    for picture in result.pictures:
        if _contains(picture.box, item.box):
            height = scene.detail_px * picture.seen_px[1] / picture.source_px[1]
            heights[picture.frame] = max(height, heights.get(picture.frame, 0.0))
    needed = item.frames or (None,)
    if not all(frame in heights for frame in needed):
        return None
    return min(heights[frame] for frame in needed)


def _contains(outer: Box, box: Box) -> bool:
    return all(
        low - _TOLERANCE <= one for low, one in zip(outer[:2], box[:2], strict=True)
    ) and all(one <= high + _TOLERANCE for high, one in zip(outer[2:], box[2:], strict=True))


def _distance(one: Box, other: Box) -> float:
    """Return the distance of the centres of two boxes."""
    return math.hypot(
        (one.x1 + one.x2 - other.x1 - other.x2) / 2, (one.y1 + one.y2 - other.y1 - other.y2) / 2
    )
