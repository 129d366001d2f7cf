"""Fingerprint of questions: texts, options, accepted answers and names of media."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pixel_reasoner.schema.question import Question


class QuestionDigest:
    """Incremental fingerprint of a sequence of questions."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, question: Question) -> None:
        """Add the next question."""
        # The file name without its folder, because a run may be moved.
        media = [
            (m.kind, Path(m.path).name, m.start_s, m.end_s, *([m.page] if m.page else []))
            for m in question.media
        ]
        asked = (question.id, question.text, question.answer, question.answer_type, media)
        self._digest.update(json.dumps([*asked, question.options]).encode())

    def hexdigest(self) -> str:
        """Return the fingerprint of the questions so far, 16 hexadecimal digits."""
        return self._digest.hexdigest()[:16]


def fingerprint(questions: Iterable[Question]) -> str:
    """Return the fingerprint of questions. It depends on their order.

    >>> one = Question(id="1", text="How many?", media=(), answer=("2",))
    >>> fingerprint([one]) == fingerprint([one]) != fingerprint([one, one])
    True
    """
    digest = QuestionDigest()
    for question in questions:
        digest.add(question)
    return digest.hexdigest()
