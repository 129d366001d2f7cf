"""Questions about pages: candidates whose text is legible, in a mixture of kinds.

A question needs an operation if its text is illegible in the overview. Then its evidence is the anchor and the answer, or the
answer alone where the crop of both would be illegible, too. A candidate that no crop shows legibly is not used.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from pixel_reasoner.media.page_text import enclosing_box, join_words
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.scoring.grading import Outcome, grade
from pixel_reasoner.sources.documents.absent import absent_candidates
from pixel_reasoner.sources.documents.candidates import (
    Candidate,
    Page,
    is_quotable,
)
from pixel_reasoner.sources.documents.labels import cells, key_values, next_to, titles
from pixel_reasoner.sources.documents.legibility import Legibility
from pixel_reasoner.sources.documents.sentences import (
    contained,
    continuations,
    counts,
    numbers,
    occurring,
)

KINDS: dict[str, Callable[[Page, random.Random], Iterator[Candidate]]] = {
    "key_value": key_values,
    "next_to": next_to,
    "cell": cells,
    "title": titles,
    "continue": continuations,
    "number": numbers,
    "contains": contained,
    "occurs": occurring,
    "count": counts,
}
"""kinds of questions about one page"""
_MAX_PER_KIND = 24
"""candidates of a kind that are tested for legibility"""
_UNKNOWN_ANSWER = "wrong"


class Mixture(NamedTuple):
    """Number of questions about a page, and the share of those that the overview answers."""

    per_page: int
    overview_share: float


class OpenPage(NamedTuple):
    """Page with its name and its picture."""

    name: str
    """of the page, for ids: `scan.pdf#page=3`"""
    document: str
    """name of its file, as a group of questions that depend on each other"""
    media: MediaItem
    page: Page


def page_questions(
    opened: OpenPage, legibility: Legibility, mixture: Mixture, rng: random.Random
) -> list[Question]:
    """Return questions about one page; none if it has no suitable text."""
    page = opened.page
    candidates = {kind: list(build(page, rng)) for kind, build in KINDS.items()}
    for found in candidates.values():
        rng.shuffle(found)
    absent = absent_candidates(page, legibility, rng)
    candidates["occurs"] = _yes_and_no(candidates["occurs"], list(absent), rng)
    questions = {
        kind: list(_legible(found[:_MAX_PER_KIND], opened, legibility))
        for kind, found in candidates.items()
    }
    if len({one.answer for one in questions.get("occurs", ())}) < 2:
        questions.pop("occurs", None)  # an answer that is always yes teaches nothing
    chosen = _mixture(questions, mixture, rng)
    return [
        question.model_copy(update={"id": f"text-{opened.name}-{number}"})
        for number, question in enumerate(chosen, start=1)
    ]


def _yes_and_no(yes: list[Candidate], no: list[Candidate], rng: random.Random) -> list[Candidate]:
    """Return as many candidates of both answers, in random order within each pair."""
    return [one for pair in zip(yes, no, strict=False) for one in rng.sample(pair, 2)]


def _legible(
    candidates: Iterable[Candidate], opened: OpenPage, legibility: Legibility
) -> Iterator[Question]:
    for candidate in candidates:
        question = build_question(candidate, opened, legibility)
        if question is not None and _has_gradable_answer(question):
            yield question


def build_question(
    candidate: Candidate, opened: OpenPage, legibility: Legibility
) -> Question | None:
    """Return the question of a candidate, without an id; None if neither the overview nor crops show its text."""
    size = opened.page.text.size_px
    needs_operation = not all(legibility.in_overview(size, part.height) for part in candidate.parts)
    boxes = _evidence_boxes(candidate, size, legibility) if needs_operation else []
    if boxes is None:
        return None
    evidence = Evidence(
        boxes=tuple(boxes),
        subjects=tuple(part.subject for part in candidate.parts),
        findings=tuple(part.finding for part in candidate.parts),
    )
    return Question(
        id="",
        text=candidate.question,
        media=(opened.media,),
        answer=(candidate.answer,),
        answer_type=candidate.answer_type,
        category=f"{'needs_look' if needs_operation else 'overview'}/{candidate.kind}",
        labels={"text": str(opened.page.text.origin)},
        group=opened.document,
        needs_look=needs_operation,
        evidence=evidence if needs_operation else None,
        reasoning="" if needs_operation else candidate.parts[-1].finding,
    )


def _evidence_boxes(candidate: Candidate, size: Size, legibility: Legibility) -> list[Box] | None:
    """Return the place of each part that its crop shows legibly; None if one has none."""
    boxes = []
    for part in candidate.parts:
        for box in (part.box, part.answer_box):
            if legibility.in_crop(size, box, part.height):
                boxes.append(box)
                break
        else:
            return None
    return boxes


def _has_gradable_answer(question: Question) -> bool:
    """Return whether the answer scores 1 and another one does not."""
    right, wrong = grade(question.answer[0], question), grade(_UNKNOWN_ANSWER, question)
    return (
        right is not None
        and wrong is not None
        and right.score == 1
        and wrong.outcome is Outcome.WRONG
    )


def _mixture(
    questions: dict[str, list[Question]], mixture: Mixture, rng: random.Random
) -> list[Question]:
    """Return questions of all kinds in turn, with the share of overview questions if there are others."""
    visual = _in_turn(questions, rng, needs_operation=True)
    overview = _in_turn(questions, rng, needs_operation=False)
    share = mixture.overview_share
    num_visual = min(len(visual), _rounded(mixture.per_page * (1 - share), rng))
    wanted = mixture.per_page * share
    if visual and share < 1:
        wanted = num_visual * share / (1 - share)
    num_overview = min(len(overview), _rounded(wanted, rng))
    chosen = visual[:num_visual] + overview[:num_overview]
    rng.shuffle(chosen)
    return chosen


def _in_turn(
    questions: dict[str, list[Question]], rng: random.Random, *, needs_operation: bool
) -> list[Question]:
    """Return the questions of all kinds: the first of each kind, then the second of each, ..."""
    by_kind = [
        [one for one in found if one.needs_look is needs_operation] for found in questions.values()
    ]
    rng.shuffle(by_kind)
    return [one for turn in zip_longest(*by_kind) for one in turn if one is not None]


def _rounded(number: float, rng: random.Random) -> int:
    """Return a whole number whose expected value is `number`."""
    return int(number + rng.random())


# --- several pages ---


def find_page_questions(
    pages: Sequence[OpenPage], legibility: Legibility, count: int, rng: random.Random
) -> list[Question]:
    """Return questions which of several pages has a phrase that occurs once on all of them."""
    found: list[Question] = []
    for _ in range(4 * count):
        if len(found) == count:
            break
        number = rng.randrange(len(pages))
        question = _find_page_question(pages, number, legibility, rng)
        if question is not None and all(question.text != one.text for one in found):
            name = f"text-{pages[0].name}-pages-{len(found) + 1}"
            found.append(question.model_copy(update={"id": name}))
    return found


def _find_page_question(
    pages: Sequence[OpenPage], number: int, legibility: Legibility, rng: random.Random
) -> Question | None:
    opened = pages[number]
    lines = [line for line in opened.page.clean_lines if len(line.words) >= 3]
    if not lines:
        return None
    line = rng.choice(lines)
    words = line.words[: rng.choice((3, 4, 5))]
    text = join_words(list(words))
    counts = [one.page.words.count(text) for one in pages]
    is_phrase = text[0].isalnum() and text[-1].isalnum() and is_quotable(text)
    if not is_phrase or counts[number] != 1 or sum(counts) != 1:
        return None
    size, box = opened.page.text.size_px, enclosing_box([word.box for word in words])
    needs_operation = not legibility.in_overview(size, line.height)
    if needs_operation and not legibility.in_crop(size, box, line.height):
        return None
    answer = str(number + 1)
    finding = f'picture {answer} has the words "{text}"'
    return Question(
        id="",
        text=f'Which of the {len(pages)} pictures has the words "{text}"? Answer with its number, counted from 1.',
        media=tuple(one.media for one in pages),
        answer=(answer,),
        answer_type=AnswerType.INTEGER,
        category=f"{'needs_look' if needs_operation else 'overview'}/find_page",
        labels={"text": str(opened.page.text.origin)},
        group=opened.document,
        needs_look=needs_operation,
        evidence=Evidence(
            boxes=(box,),
            image=number + 1,
            subjects=(f'the words "{text}"',),
            findings=(finding,),
        )
        if needs_operation
        else None,
        reasoning="" if needs_operation else finding,
    )
