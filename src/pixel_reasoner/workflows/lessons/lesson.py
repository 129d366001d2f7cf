"""Records of a lesson: steps with a question, the places where the model looked, and the answer.

Everything that gives the answer away is in `Reveal`. In files for learners it is stored sealed: as Base64, so that neither the
page, a screen reader nor a glance at the source shows it. Sealing is no encryption: a learner who wants to can decode it.
"""

from __future__ import annotations

import base64
import json
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field, PositiveInt

from pixel_reasoner.schema.geometry import RecordedBox, RecordedSize
from pixel_reasoner.schema.record import Record, VersionedRecord


class LessonPicture(Record):
    """Picture of a lesson."""

    ref: str
    """neutral name, such as `p3`"""
    px: RecordedSize
    alt: str
    """what the picture shows, without the answer if it is shown before the reveal"""


class Verdict(StrEnum):
    """Whether a look shows the evidence."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """the question has no annotated evidence"""


class Look(Record):
    """One call of the model, and its result."""

    number: PositiveInt
    action: str
    """call in words"""
    place: str = ""
    """place in words: `upper left, 4 % of the picture`"""
    words: str = ""
    """what the model wrote before the call"""
    box: RecordedBox | None = None
    """region of the question's picture"""
    image: PositiveInt = 1
    """number of the picture or frame of the question, from 1"""
    frames: tuple[int, ...] = ()
    """chosen frames, from 1"""
    pictures: tuple[LessonPicture, ...] = ()
    verdict: Verdict = Verdict.UNKNOWN
    problem: str = ""
    """why the call was rejected"""


class Reveal(Record):
    """Part of a step that is shown after the learner has committed to a guess."""

    looks: tuple[Look, ...]
    conclusion: str = ""
    """what the model wrote at the end"""
    answer: str
    """answer of the model; empty if there is none"""
    is_right: bool | None
    """None: the expected answer is unknown"""
    expected: str = ""
    targets: tuple[RecordedBox, ...] = ()
    """regions that a good guess covers, on picture `target_image`"""
    target_image: PositiveInt = 1
    target_frames: tuple[int, ...] = ()
    findings: tuple[str, ...] = ()
    before: LessonPicture | None = None
    """region of the last look in the first view, enlarged: what is visible without looking"""
    after: LessonPicture | None = None
    """the same region as the model received it"""
    answer_without: str = ""
    """answer of the same model without operations, if it was measured"""
    is_right_without: bool | None = None

    @property
    def wrong_looks(self) -> list[Look]:
        """Looks that missed the evidence, and rejected calls."""
        return [look for look in self.looks if look.verdict is Verdict.WRONG]


class LessonStep(Record):
    """One question of a lesson."""

    number: PositiveInt
    question: str
    options: dict[str, str] = Field(default_factory=dict)
    """letter -> text"""
    pictures: tuple[LessonPicture, ...]
    """first view: what the model received with the question; several are frames of a clip, or pictures"""
    is_clip: bool = False
    has_mistake: bool = False
    """whether the model looks at a wrong place or gives a wrong answer: the step is a worked example of a mistake"""
    prompt: str
    """question that the learner answers in own words"""
    reveal: Reveal

    @property
    def is_choice(self) -> bool:
        """Whether the guess is one of several pictures, and not a place in one picture."""
        return len(self.pictures) > 1


class Lesson(VersionedRecord):
    """A lesson without the pixels of its pictures."""

    record_name: ClassVar[str] = "lesson"

    title: str
    about: str
    """what the exercises are, in one or two sentences"""
    steps: tuple[LessonStep, ...]


class LessonContent(NamedTuple):
    """A lesson with its pictures."""

    lesson: Lesson
    pictures: dict[str, bytes]
    """ref -> PNG or JPEG file"""

    @property
    def payload(self) -> dict[str, Any]:
        """The lesson as JSON values for a page: answers are sealed, pictures are `data:` addresses."""
        fields = self.lesson.model_dump(mode="json")
        for step in fields["steps"]:
            step["reveal"] = seal(step["reveal"])
        addresses = {ref: data_address(content) for ref, content in self.pictures.items()}
        return {**fields, "pictures": addresses}

    @classmethod
    def of_payload(cls, payload: dict[str, Any]) -> Self:
        """Return the lesson of a page; the inverse of `payload`.

        Raises:
            InputError: not a lesson.
            ValueError: a sealed part that cannot be decoded.
        """
        fields = {name: value for name, value in payload.items() if name != "pictures"}
        steps = [{**step, "reveal": unseal(step["reveal"])} for step in fields["steps"]]
        lesson = Lesson.from_object({**fields, "steps": steps, "schema_version": 2})
        pictures = {
            ref: base64.b64decode(address.partition(",")[2])
            for ref, address in payload["pictures"].items()
        }
        return cls(lesson, pictures)


def seal(value: Any) -> str:
    """Return a JSON value in the sealed form.

    >>> seal({"answer": "K"}), unseal(seal({"answer": "K"}))
    ('eyJhbnN3ZXIiOiAiSyJ9', {'answer': 'K'})
    """
    return base64.b64encode(json.dumps(value).encode()).decode()


def unseal(text: str) -> Any:
    """Return the value of the sealed form."""
    return json.loads(base64.b64decode(text))


def data_address(content: bytes) -> str:
    """Return a PNG or JPEG file as a `data:` address."""
    return f"data:{media_type(content)};base64,{base64.b64encode(content).decode()}"


def media_type(content: bytes) -> str:
    r"""Return the type of a PNG or JPEG file.

    >>> media_type(b"\x89PNG"), media_type(b"\xff\xd8\xff")
    ('image/png', 'image/jpeg')
    """
    return "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
