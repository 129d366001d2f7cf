"""Questions about photos and their answers: one task per photo with proposals, one per tile without references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.inspection.decide import (
    Decided,
    TileReply,
    decide_by_reply,
    decide_by_tiles,
)
from pixel_reasoner.workflows.inspection.examine import Examined
from pixel_reasoner.workflows.inspection.questions import (
    free_question,
    proposal_question,
    read_free_reply,
    read_proposal_reply,
)
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import Verdict
from pixel_reasoner.workflows.survey.engine import Task, TaskResult


@dataclass
class Conversation:
    """All questions about one photo."""

    examined: Examined
    position: int
    first: str
    """id of an earlier photo with the same bytes"""
    num_tasks: int
    results: dict[int, TaskResult] = field(default_factory=dict)
    """number of the tile, 0 for a photo with proposals -> result"""

    @property
    def traces(self) -> list[Trace]:
        """All traces, tile by tile."""
        return [trace for _, one in sorted(self.results.items()) for trace in one.traces]

    @property
    def agreement(self) -> float:
        """Smallest agreement of all questions."""
        return min(one.agreement for one in self.results.values())


class Dialogue:
    """Makes the tasks of photos, and collects their results.

    Args:
        spec: the inspection.
        out: folder of the run, which contains the numbered pictures.
    """

    def __init__(self, spec: InspectionSpec, out: Path) -> None:
        self.spec, self.out = spec, out
        self._open: dict[str, Conversation] = {}

    def tasks(self, examined: Examined, position: int, first: str) -> Iterator[Task]:
        """Yield the tasks of a photo."""
        questions = list(self._questions(examined))
        conversation = Conversation(examined, position, first, len(questions))
        self._open[examined.sample.id] = conversation
        for number, question in enumerate(questions):
            about = {"photo": examined.sample.id, "number": number}
            yield Task(question.id, question, about)

    def add(self, result: TaskResult) -> Conversation | None:
        """Add a result, and return the photo's conversation if it is complete."""
        photo = result.task.about["photo"]
        conversation = self._open[photo]
        conversation.results[result.task.about["number"]] = result
        if len(conversation.results) < conversation.num_tasks:
            return None
        return self._open.pop(photo)

    def decide(self, conversation: Conversation) -> Decided:
        """Return the verdict of a photo with all answers."""
        examined, results = conversation.examined, conversation.results
        if failed := [one.error for one in results.values() if one.error is not None]:
            return Decided(Verdict.ERROR, failed[0])
        if examined.proposals:
            reply = read_proposal_reply(
                results[0].answer, [one.number for one in examined.proposals], self.spec
            )
            said = _last_words(results[0])
            return decide_by_reply(examined, reply, conversation.agreement, self.spec, said)
        replies = []
        for number, tile in enumerate(examined.tiles or (WHOLE,)):
            one = results[number]
            pictures = one.trace.all_pictures if one.trace else {}
            reply = read_free_reply(one.answer, max(pictures, default=1), self.spec)
            replies.append(TileReply(tile, reply, pictures))
        return decide_by_tiles(examined, replies, conversation.agreement, self.spec)

    def _questions(self, examined: Examined) -> Iterator[Question]:
        sample, size = examined.sample, examined.size
        assert size is not None
        photo = _item(sample.path)
        if examined.proposals:
            pictures = [_item(self.out / name) for name in examined.pictures]
            text = proposal_question(self.spec, examined.proposals, size)
            yield _question(sample.id, text, (photo, *pictures))
            return
        tiles: tuple[Box, ...] = examined.tiles or (WHOLE,)
        if len(tiles) == 1:
            yield _question(sample.id, free_question(self.spec, is_tile=False), (photo,))
            return
        for number, name in enumerate(examined.pictures, start=1):
            text = free_question(self.spec, is_tile=True)
            yield _question(f"{sample.id}#tile{number}", text, (_item(self.out / name),))


def _question(id_: str, text: str, media: tuple[MediaItem, ...]) -> Question:
    return Question(id=id_, text=text, media=media, category="inspection")


def with_boxes(question: Question, boxes: tuple[Box, ...]) -> Question:
    """Return a question with boxes as evidence on the photo, for reports."""
    return question.model_copy(update={"evidence": Evidence(boxes=boxes)} if boxes else {})


def _item(path: Path) -> MediaItem:
    return MediaItem(kind="image", path=str(path.absolute()))


def _last_words(result: TaskResult, limit: int = 300) -> str:
    """Return what the model wrote before its answer."""
    turns = result.trace.turns if result.trace else ()
    text = turns[-1].text.split("\\boxed")[0] if turns else ""
    words = " ".join(text.replace("<think>", " ").replace("</think>", " ").split())
    return words if len(words) <= limit else words[: limit - 1] + "…"
