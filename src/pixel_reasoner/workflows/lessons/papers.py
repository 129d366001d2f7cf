"""Pages for printing: a handout without answers, and teacher notes with the answer key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixel_reasoner.files import atomic_writer
from pixel_reasoner.workflows.lessons.images import Illustrations
from pixel_reasoner.workflows.lessons.lesson import LessonStep, data_address
from pixel_reasoner.workflows.lessons.page import read, render

MINUTES_PER_STEP = 4


def write_handout(shown: Illustrations, path: Path) -> None:
    """Write a page for learners: questions, first views, and lines to write on. It contains no answers.

    Raises:
        OutputError: the path cannot be written.
    """
    steps = [_handout_step(step, shown) for step in shown.lesson.steps]
    _write("handout.html", shown, steps, path)


def write_notes(shown: Illustrations, path: Path) -> None:
    """Write a page for the teacher: how to run the lesson, the answer key, and each step with its looks.

    Raises:
        OutputError: the path cannot be written.
    """
    steps = [_notes_step(step, shown) for step in shown.lesson.steps]
    _write("notes.html", shown, steps, path)


def correct_answer(step: LessonStep) -> str:
    """Return the correct answer of a step; without an expected one, that of the model.

    >>> from pixel_reasoner.workflows.lessons.lesson import Reveal
    >>> reveal = Reveal(looks=(), answer="3", is_right=False, expected="4")
    >>> correct_answer(LessonStep(number=1, question="How many?", pictures=(), prompt="Why?", reveal=reveal))
    '4'
    """
    reveal = step.reveal
    return (reveal.answer if reveal.is_right else reveal.expected) or reveal.answer


def where_in_words(step: LessonStep) -> str:
    """Return the places that the model looked at and that matter, in words."""
    looks = [look for look in step.reveal.looks if look not in step.reveal.wrong_looks]
    places = [
        f"frame {', '.join(map(str, look.frames))}" if look.frames else look.place for look in looks
    ]
    return "; ".join(dict.fromkeys(place for place in places if place)) or "–"


def marked_alt(step: LessonStep) -> str:
    """Return the alt text of a picture with all looks."""
    return f"Looks of the model, numbered. Places that matter: {where_in_words(step)}."


def _write(template: str, shown: Illustrations, steps: list[dict[str, Any]], path: Path) -> None:
    from markupsafe import Markup

    text = render(
        template,
        lesson=shown.lesson,
        steps=steps,
        style=Markup(read("paper.css")),
        minutes=MINUTES_PER_STEP * len(steps),
    )
    with atomic_writer(path) as file:
        file.write(text)


def _handout_step(step: LessonStep, shown: Illustrations) -> dict[str, Any]:
    return {
        "number": step.number,
        "question": step.question,
        "options": step.options,
        "has_mistake": step.has_mistake,
        "is_choice": step.is_choice,
        "prompt": step.prompt,
        "image": data_address(shown.plain(step)[0]),
        "alt": first_view_alt(step),
    }


def first_view_alt(step: LessonStep) -> str:
    """Return the alt text of the question pictures as one picture. It does not contain the answer."""
    if not step.is_choice:
        return step.pictures[0].alt
    kind = "frames of a clip" if step.is_clip else "pictures"
    return f"{len(step.pictures)} {kind}, numbered"


def _notes_step(step: LessonStep, shown: Illustrations) -> dict[str, Any]:
    reveal = step.reveal
    return {
        **_handout_step(step, shown),
        "reveal": reveal,
        "correct": correct_answer(step),
        "where": where_in_words(step),
        "findings": "; ".join(reveal.findings),
        "marked": data_address(shown.marked(step)[0]),
        "marked_alt": marked_alt(step),
        "before": data_address(shown.pictures[reveal.before.ref]) if reveal.before else "",
        "after": data_address(shown.pictures[reveal.after.ref]) if reveal.after else "",
    }
