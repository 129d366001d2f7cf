"""Work on one video: the search, then boxes of the subjects if an output needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.moments.moment import NEAR, Moment, VideoMoments, moment_of
from pixel_reasoner.workflows.moments.replies import box_question, parse_boxes
from pixel_reasoner.workflows.moments.scores import merge_runs
from pixel_reasoner.workflows.moments.search import VideoSearch
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.survey.engine import Task, TaskResult

MAX_NEAR = 5
"""nearest misses per description"""


@dataclass
class VideoJob:
    """Search of one video and, after it, questions where its subjects are.

    Attributes:
        video: path as given.
        search: frames that show the descriptions.
        merge_gap: frames between two runs up to which they are one moment.
        box_every_s: time between two frames of a moment in which its subjects are located; None if they are not.
    """

    video: Path
    search: VideoSearch
    merge_gap: int
    box_every_s: Fraction | None
    traces: list[Trace] = field(default_factory=list)
    _moments: tuple[Moment, ...] | None = None
    _waiting: dict[str, tuple[int, int]] = field(default_factory=dict)
    """id of a question -> number of the moment, frame"""
    _boxes: dict[int, dict[int, tuple[Box, ...]]] = field(default_factory=dict)
    _num_located: int = 0

    @property
    def is_done(self) -> bool:
        """Whether no question is open."""
        return self.search.is_done and not self._waiting

    def start(self) -> list[Task]:
        """Return the first questions."""
        return self.search.start()

    def add(self, result: TaskResult) -> list[Task]:
        """Add an answer and return the questions that depend on it."""
        self.traces.extend(result.traces)
        if result.task.id in self._waiting:
            self._add_boxes(result)
            return []
        tasks = self.search.add(result)
        if tasks or not self.search.is_done:
            return tasks
        self._moments = tuple(self._found())
        return self._box_tasks(self.box_every_s) if self.box_every_s else []

    def result(self) -> VideoMoments:
        """Return what was found. All questions must be answered."""
        search = self.search
        moments = self._moments if self._moments is not None else tuple(self._found())
        located = tuple(
            replace(one, boxes=self._boxes.get(number, {})) for number, one in enumerate(moments)
        )
        return VideoMoments(
            video=self.video,
            queries=search.queries,
            index=search.index,
            shots=tuple(search.shots) or (Span(0, search.index.num_frames),),
            moments=located,
            near=tuple(self._near()),
            unsampled=tuple(self._unsampled()),
            num_asked=search.num_asked + self._num_located,
            traces=tuple(self.traces),
            error=self._error(),
        )

    # --- moments ---

    def _found(self) -> list[Moment]:
        search, found = self.search, []
        for query in search.queries:
            for run in merge_runs(search.scores[query.label].runs(), self.merge_gap):
                found.append(
                    moment_of(
                        search.index,
                        query,
                        run.span,
                        tuple(search.shots),
                        score=run.score,
                        uncertain_frames=run.unknown,
                    )
                )
        return sorted(found, key=lambda one: (one.span, one.query.label))

    def _near(self) -> list[Moment]:
        search, found = self.search, []
        for query in search.queries:
            scores = search.scores[query.label]
            shown = [run.span for run in merge_runs(scores.runs(), self.merge_gap)]
            apart = [
                run
                for run in scores.near_misses()
                if not any(
                    run.span.first <= span.end + self.merge_gap
                    and span.first <= run.span.end + self.merge_gap
                    for span in shown
                )
            ]
            for run in apart[:MAX_NEAR]:
                found.append(
                    moment_of(
                        search.index,
                        query,
                        run.span,
                        tuple(search.shots),
                        score=run.best,
                        state=NEAR,
                        uncertain_frames=run.unknown,
                    )
                )
        return sorted(found, key=lambda one: (-one.score, one.span))

    def _unsampled(self) -> list[tuple[Span, str]]:
        failed = self.search.failed
        reasons = dict.fromkeys(reason for _, reason in failed)
        why = "; ".join(reasons) or "no frame sampled"
        return [(span, why) for span in self.search.unsampled()]

    def _error(self) -> str | None:
        """Return the reason if no question of the video could be used."""
        search = self.search
        if search.failed and not any(one.frames for one in search.scores.values()):
            return search.failed[0][1]
        return None

    # --- boxes ---

    def _box_tasks(self, every_s: Fraction) -> list[Task]:
        tasks = []
        for number, moment in enumerate(self._moments or ()):
            for frame in box_frames(moment, self.search, every_s):
                start, end = self.search.part_of(Span(frame, frame + 1))
                item = MediaItem(
                    kind="video", path=str(self.search.index.path), start_s=start, end_s=end
                )
                id_ = f"{self.search.name}#box.{moment.query.label}.{frame}"
                if id_ in self._waiting:
                    continue
                question = Question(id=id_, text=box_question(moment.query), media=(item,))
                tasks.append(Task(id_, question, self.search.about(1)))
                self._waiting[id_] = (number, frame)
        return tasks

    def _add_boxes(self, result: TaskResult) -> None:
        number, frame = self._waiting.pop(result.task.id)
        if result.error is not None:
            return
        self._num_located += 1
        boxes = parse_boxes(result.answer)
        crop = evidence_box(result.trace) if result.trace else None
        if not boxes and crop is not None and result.answer and not _says_none(result.answer):
            boxes = [crop]
        if boxes:
            self._boxes.setdefault(number, {})[frame] = tuple(boxes)


def box_frames(moment: Moment, search: VideoSearch, every_s: Fraction) -> list[int]:
    """Return the frames of a moment in which its subject is located: both ends, evenly between, and both ends of each shot."""
    span, index = moment.span, search.index
    num_parts = max(1, round(moment.duration_s / every_s))
    frames = {span.first + (len(span) - 1) * part // num_parts for part in range(num_parts + 1)}
    for shot in search.shots:
        if span.intersection(shot):
            frames |= {max(shot.first, span.first), min(shot.end, span.end) - 1}
    return sorted(frame for frame in frames if 0 <= frame < index.num_frames)


def evidence_box(trace: Trace) -> Box | None:
    """Return the region that the model last zoomed into, in fractions of the whole frame; None if it did not zoom."""
    crops = [
        picture.box
        for step in trace.steps
        if step.observation is not None
        for picture in step.observation.pictures
        if picture.box.area < 1
    ]
    return crops[-1] if crops else None


def nearest_boxes(boxes: Mapping[int, Sequence[Box]], frame: int) -> Sequence[Box]:
    """Return the boxes of the nearest frame with any; empty without one.

    >>> nearest_boxes({0: [Box(0, 0, 1, 1)]}, 7)
    [Box(x1=0, y1=0, x2=1, y2=1)]
    """
    return boxes[min(boxes, key=lambda one: abs(one - frame))] if boxes else []


def _says_none(answer: str) -> bool:
    return answer.strip().lower().startswith(("none", "no", "not"))
