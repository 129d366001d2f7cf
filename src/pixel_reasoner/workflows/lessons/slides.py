"""Slides of a lesson (PPTX): question, reveal, and comparison of each step. Answers are in the notes of the reveal.

Every slide has a title and every picture an alt text. The slide with the question, its notes included, contains no answer.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import require_extra
from pixel_reasoner.files import atomic_path
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.workflows.lessons.images import Illustrations
from pixel_reasoner.workflows.lessons.lesson import LessonStep, Verdict
from pixel_reasoner.workflows.lessons.papers import (
    correct_answer,
    first_view_alt,
    marked_alt,
    where_in_words,
)

WIDTH_IN, HEIGHT_IN = 13.333, 7.5
_MARGIN_IN, _TOP_IN, _BOTTOM_IN = 0.6, 1.55, 0.45
_TITLE_ONLY = 5
"""number of this layout in the default template"""
_INK, _SOFT, _WRONG, _RIGHT = "1B1F24", "57606A", "A3400A", "10623F"
_TITLE_PT, _TEXT_PT, _SMALL_PT = 32, 24, 18
MAX_TITLE_CHARS = 110


def write_slides(shown: Illustrations, path: Path) -> None:
    """Write the slides.

    Raises:
        UsageError: python-pptx is not installed.
        OutputError: the path cannot be written.
    """
    with require_extra("workflows", "write slides"):
        from pptx import Presentation
        from pptx.util import Inches
    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(WIDTH_IN), Inches(HEIGHT_IN)
    deck.core_properties.title = shown.lesson.title
    writer = _SlideWriter(deck, shown)
    writer.write_title()
    for step in shown.lesson.steps:
        writer.write_question(step)
        writer.write_reveal(step)
        if step.reveal.before and step.reveal.after:
            writer.write_comparison(step)
    writer.write_end()
    with atomic_path(path) as part:
        deck.save(str(part))


class _SlideWriter:
    """Writer of slides into a presentation."""

    def __init__(self, deck: Any, shown: Illustrations) -> None:
        self.deck, self.shown = deck, shown

    # --- slides ---

    def write_title(self) -> None:
        lesson = self.shown.lesson
        slide = self._slide(lesson.title, "Welcome. Collect guesses before every reveal.")
        lines = [
            "A computer model looks at pictures. First it sees only a small one.",
            "1.  Guess: where would you look closer?",
            "2.  Reveal: where did the model look?",
            "3.  Explain: why does that place matter?",
        ]
        self._text(slide, lines, (_MARGIN_IN, 2.0, WIDTH_IN - 2 * _MARGIN_IN, 3.2), 28)
        about = (_MARGIN_IN, 5.6, WIDTH_IN - 2 * _MARGIN_IN, 1.3)
        self._text(slide, [lesson.about], about, _SMALL_PT, color=_SOFT)

    def write_question(self, step: LessonStep) -> None:
        notes = "Give one minute. Everybody commits to a place before the next slide. The answer is in the notes there."
        slide = self._slide(f"Question {step.number}: {step.question}", notes)
        right = self._picture(
            slide, self.shown.plain(step), first_view_alt(step), (_MARGIN_IN, 7.0)
        )
        lines = [*(f"{letter}  {text}" for letter, text in step.options.items())]
        kind = "frame" if step.is_clip else "picture"
        lines += [
            f"Which {kind} would you look at closer?"
            if step.is_choice
            else "Where would you look closer?",
            "What is your answer, if you have to guess?",
        ]
        self._text(slide, lines, self._column(right, _TOP_IN + 0.7 * step.has_mistake), 28)
        self._mistake_mark(slide, step, right, "Worked example: the model makes a mistake")

    def write_reveal(self, step: LessonStep) -> None:
        slide = self._slide(f"Question {step.number}: where the model looked", _notes(step))
        right = self._picture(slide, self.shown.marked(step), marked_alt(step), (_MARGIN_IN, 7.0))
        lines = []
        for look in step.reveal.looks[:5]:
            sign = {Verdict.RIGHT: "  ✓", Verdict.WRONG: "  ✗ wrong", Verdict.UNKNOWN: ""}
            place = f": {look.place}" if look.place else ""
            lines.append(f"{look.number}.  {look.action}{place}{sign[look.verdict]}")
        if len(step.reveal.looks) > 5:
            lines.append(f"… and {len(step.reveal.looks) - 5} more")
        self._text(slide, lines, self._column(right, _TOP_IN + 0.7 * step.has_mistake), _TEXT_PT)
        self._mistake_mark(slide, step, right, "This example contains a mistake")

    def write_comparison(self, step: LessonStep) -> None:
        reveal = step.reveal
        assert reveal.before is not None, "the caller has checked it"
        assert reveal.after is not None, "the caller has checked it"
        slide = self._slide(f"Question {step.number}: without and with looking", _notes(step))
        left = _MARGIN_IN
        for title, picture in (("Without looking", reveal.before), ("With looking", reveal.after)):
            image = self.shown.pictures[picture.ref], picture.px
            self._text(slide, [title], (left, _TOP_IN - 0.1, 4.2, 0.5), _TEXT_PT, is_bold=True)
            self._picture(slide, image, picture.alt, (left, 4.1), top=_TOP_IN + 0.5)
            left += 4.4
        outcome = {True: "  ✓ right", False: "  ✗ wrong", None: ""}[reveal.is_right]
        lines = [f"The model: {reveal.answer or 'no answer'}{outcome}"]
        if reveal.is_right is False:
            lines.append(f"Correct: {correct_answer(step)}")
        lines.append(step.prompt)
        box = (
            left + 0.1,
            _TOP_IN + 0.4 + 0.7 * step.has_mistake,
            WIDTH_IN - left - _MARGIN_IN,
            4.6,
        )
        self._text(slide, lines, box, _TEXT_PT)
        self._mistake_mark(slide, step, left + 0.1, "Remember: it contained a mistake")

    def write_end(self) -> None:
        slide = self._slide(
            "What did you learn?", "Let two or three learners read their words aloud."
        )
        lines = [
            "When was it necessary to look closer?",
            "Which place surprised you?",
            "How would you check whether a model looked at the right place?",
        ]
        self._text(slide, lines, (_MARGIN_IN, 2.0, WIDTH_IN - 2 * _MARGIN_IN, 4.0), 30)

    # --- parts of a slide ---

    def _slide(self, title: str, notes: str) -> Any:
        from pptx.util import Inches, Pt

        slide = self.deck.slides.add_slide(self.deck.slide_layouts[_TITLE_ONLY])
        shape = slide.shapes.title
        shape.left, shape.top = Inches(_MARGIN_IN), Inches(0.35)
        shape.width, shape.height = Inches(WIDTH_IN - 2 * _MARGIN_IN), Inches(1.05)
        if len(title) > MAX_TITLE_CHARS:
            title = title[: MAX_TITLE_CHARS - 1].rstrip() + "…"
        shape.text_frame.word_wrap = True
        shape.text_frame.text = title
        size = _TITLE_PT if len(title) <= 70 else 26
        _style(shape.text_frame.paragraphs[0], Pt(size), _INK, is_bold=True)
        slide.notes_slide.notes_text_frame.text = notes
        return slide

    def _picture(
        self,
        slide: Any,
        image: tuple[bytes, Size],
        alt: str,
        place: tuple[float, float],
        top: float = _TOP_IN,
    ) -> float:
        """Add a picture below the title, and return its right edge. `image` is its file and size, `place` the left edge and the largest width."""
        from pptx.util import Inches

        (content, size), (left, room) = image, place
        height = HEIGHT_IN - top - _BOTTOM_IN
        width = min(room, height * size[0] / size[1])
        shape = slide.shapes.add_picture(
            io.BytesIO(content), Inches(left), Inches(top), width=Inches(width)
        )
        # python-pptx has no alt text; its default is the name of the file.
        properties = shape._element._nvXxPr.cNvPr
        properties.set("descr", alt)
        properties.set("name", f"Picture {len(slide.shapes)}")
        return left + width

    def _column(self, left: float, top: float) -> tuple[float, float, float, float]:
        """Return the place right of a picture."""
        left += 0.5
        return left, top, WIDTH_IN - left - _MARGIN_IN, HEIGHT_IN - top - _BOTTOM_IN

    def _text(
        self,
        slide: Any,
        lines: list[str],
        place: tuple[float, float, float, float],
        size_pt: int,
        *,
        color: str = _INK,
        is_bold: bool = False,
    ) -> None:
        from pptx.util import Inches, Pt

        box = slide.shapes.add_textbox(*map(Inches, place))
        box.text_frame.word_wrap = True
        for number, line in enumerate(lines):
            frame = box.text_frame
            paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
            paragraph.text = line
            paragraph.space_after = Pt(size_pt * 0.5)
            tone = _WRONG if "✗" in line else _RIGHT if "✓" in line else color
            _style(paragraph, Pt(size_pt), tone, is_bold=is_bold)

    def _mistake_mark(self, slide: Any, step: LessonStep, right: float, text: str) -> None:
        if step.has_mistake:
            left, top, width, _ = self._column(right, _TOP_IN)
            self._text(slide, [f"✗ {text}"], (left, top, width, 0.6), _SMALL_PT, is_bold=True)


def _style(paragraph: Any, size: Any, color: str, *, is_bold: bool) -> None:
    from pptx.dml.color import RGBColor
    from pptx.enum.text import PP_ALIGN

    paragraph.alignment = PP_ALIGN.LEFT
    paragraph.font.size, paragraph.font.bold = size, is_bold
    paragraph.font.color.rgb = RGBColor.from_string(color)


def _notes(step: LessonStep) -> str:
    """Return the notes of a reveal: the answer, the places, the words of the model, and what to ask."""
    reveal = step.reveal
    lines = [f"Answer: {correct_answer(step)}", f"Where: {where_in_words(step)}"]
    if step.has_mistake:
        lines.append("This is a worked example of a mistake. Say so before and after.")
    if reveal.is_right is False:
        lines.append(f"The model answered: {reveal.answer or 'nothing'} (wrong)")
    lines += [f"Look {look.number}: {look.words}" for look in reveal.looks if look.words]
    if reveal.conclusion:
        lines.append(f"At the end: {reveal.conclusion}")
    if reveal.answer_without:
        lines.append(f"The same model without looking: {reveal.answer_without}")
    return "\n".join([*lines, f"Ask: {step.prompt}"])
