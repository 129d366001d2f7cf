"""A lesson as a Jupyter notebook that needs Python alone: guess in one cell, reveal in the next.

The answers are sealed in the first code cell, which notebooks show folded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixel_reasoner.files import atomic_writer
from pixel_reasoner.text import visible
from pixel_reasoner.workflows.lessons.images import Illustrations
from pixel_reasoner.workflows.lessons.lesson import LessonStep, data_address, seal
from pixel_reasoner.workflows.lessons.page import read
from pixel_reasoner.workflows.lessons.papers import (
    correct_answer,
    first_view_alt,
    marked_alt,
    where_in_words,
)


def write_notebook(shown: Illustrations, path: Path) -> None:
    """Write the notebook (nbformat 4.5).

    Raises:
        OutputError: the path cannot be written.
    """
    sealed = {str(step.number): seal(_reveal(step, shown)) for step in shown.lesson.steps}
    cells = [
        _text(
            f"# {_plain(shown.lesson.title)}\n\nRun the cells in order. Guess before you reveal: a guess that you commit to "
            f"helps, also a wrong one.\n\n{_plain(shown.lesson.about)}"
        ),
        _code(
            f"{read('reveal.py.txt')}\nSEALED = {json.dumps(sealed, indent=1)}\n",
            metadata={"jupyter": {"source_hidden": True}, "tags": ["hide-input"]},
        ),
    ]
    for step in shown.lesson.steps:
        cells += _step_cells(step, shown)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"language_info": {"name": "python"}},
        "cells": cells,
    }
    with atomic_writer(path) as file:
        file.write(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _step_cells(step: LessonStep, shown: Illustrations) -> list[dict[str, Any]]:
    image = data_address(shown.plain(step)[0])
    mark = "**✗ Worked example: the model makes a mistake here.**\n\n" if step.has_mistake else ""
    options = "".join(f"- {_plain(a)}: {_plain(b)}\n" for a, b in step.options.items())
    text = (
        f"## Question {step.number}: {_plain(step.question)}\n\n{mark}{options}\n"
        f"![{_plain(first_view_alt(step))}](attachment:picture)"
    )
    guess = (
        "guess = 1  # number of the picture that you would look at closer"
        if step.is_choice
        else "guess = (0.4, 0.4, 0.6, 0.6)  # left, top, right, bottom, each from 0 to 1"
    )
    mime, data = image.removeprefix("data:").split(";base64,")
    return [
        {**_text(text), "attachments": {"picture": {mime: data}}},
        _code(guess),
        _code(f"reveal({step.number}, guess)"),
        _text(f"**{_plain(step.prompt)}**\n\n(write here)"),
    ]


def _reveal(step: LessonStep, shown: Illustrations) -> dict[str, Any]:
    """Return what the cell `reveal` shows."""
    reveal = step.reveal
    signs = {"right": " ✓ right place", "wrong": " ✗ wrong place", "unknown": ""}
    looks = [
        f"{look.number}. {look.action}{f', {look.place}' if look.place else ''}{signs[look.verdict]}"
        for look in reveal.looks
    ]
    pictures = [one for one in (reveal.before, reveal.after) if one is not None]
    return {
        "answer": reveal.answer or "none",
        "is_right": reveal.is_right,
        "correct": correct_answer(step),
        "has_mistake": step.has_mistake,
        "where": where_in_words(step),
        "looks": looks,
        "conclusion": reveal.conclusion,
        "targets": [] if step.is_choice else [list(box) for box in reveal.targets],
        "images": list(reveal.target_frames or (reveal.target_image,)) if step.is_choice else [],
        "marked": data_address(shown.marked(step)[0]),
        "marked_alt": marked_alt(step),
        "compared": [[one.alt, data_address(shown.pictures[one.ref])] for one in pictures],
    }


def _plain(text: str) -> str:
    r"""Return untrusted text for Markdown: as one line, without markup.

    >>> print(_plain("a *b* <i>"))
    a \*b\* &lt;i>
    """
    shown = visible(" ".join(text.split())).replace("\\", "\\\\").replace("<", "&lt;")
    for sign in "`*_[]#!|$":
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def _text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": metadata or {},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }
