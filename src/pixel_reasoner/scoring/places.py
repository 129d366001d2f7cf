"""Positions, boxes and spans in answers, and their scores.

POINT   1 inside an evidence box of the question, else 0; without evidence within 0.05 of the accepted point
BOXES   F1 of the boxes, matched one to one at an IoU of at least 0.3
SPAN    IoU of the spans of frames; right from 0.5 on

An answer such as `none` states that nothing is there. It scores 1 if this is right, else 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import AnswerType, Question

MATCH_IOU = 0.3
"""minimum IoU of a matched box"""
RIGHT_SPAN_IOU = 0.5
"""minimum IoU of a right span"""
MAX_BOXES = 200
"""boxes of one answer that are read"""
_POINT_TOLERANCE = 0.05
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?|-?\.\d+")
_NOTHING = re.compile(r"\W*(?:none|nothing|never|no|not there)\W*|\[\s*\]", re.IGNORECASE)


def place_score(answer: str, gold: str, question: Question) -> float:
    """Return the score of an answer of type POINT, BOXES or SPAN, in [0, 1].

    >>> q = Question(id="1", text="?", media=(), answer_type=AnswerType.SPAN)
    >>> place_score("frames 3 to 6", "3 to 8", q), place_score("none", "none", q), place_score("none", "3 to 8", q)
    (0.6666666666666666, 1.0, 0.0)
    """
    if states_nothing(gold) or states_nothing(answer):
        return float(states_nothing(gold) and states_nothing(answer))
    match question.answer_type:
        case AnswerType.POINT:
            return float(_is_at(answer, gold, question))
        case AnswerType.BOXES:
            return box_f1(boxes_in(answer), boxes_in(gold))
        case _:
            return span_iou(span_in(answer), span_in(gold))


def is_right_score(score: float, answer_type: AnswerType) -> bool:
    """Return whether a score of `place_score` is a right answer."""
    return score >= (RIGHT_SPAN_IOU if answer_type is AnswerType.SPAN else 1.0)


def states_nothing(answer: str) -> bool:
    """Return whether an answer states that nothing is there.

    >>> states_nothing("None."), states_nothing("[]"), states_nothing("0.1, 0.2")
    (True, True, False)
    """
    return _NOTHING.fullmatch(answer.strip()) is not None


def boxes_in(answer: str) -> list[Box]:
    """Return the boxes in an answer: every four numbers in a row are one, if they are a box in fractions.

    >>> boxes_in("[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.4, 0.6]")
    [Box(x1=0.1, y1=0.2, x2=0.3, y2=0.4)]
    """
    numbers = [float(one) for one in _NUMBER.findall(answer)[: 4 * MAX_BOXES]]
    boxes = []
    for start in range(0, len(numbers) - 3, 4):
        try:
            boxes.append(Box.of(numbers[start : start + 4]))
        except BoxError:
            continue
    return boxes


def box_f1(found: Sequence[Box], gold: Sequence[Box]) -> float:
    """Return the F1 of boxes that are matched greedily, the largest IoU first; 1 if both are empty.

    >>> box_f1([Box(0, 0, 0.5, 0.5), Box(0.6, 0.6, 1, 1)], [Box(0, 0, 0.5, 0.4)])
    0.6666666666666666
    """
    if not found and not gold:
        return 1.0
    pairs = sorted(
        ((_iou(one, other), n, m) for n, one in enumerate(found) for m, other in enumerate(gold)),
        reverse=True,
    )
    used_found, used_gold = set[int](), set[int]()
    for overlap, n, m in pairs:
        if overlap >= MATCH_IOU and n not in used_found and m not in used_gold:
            used_found.add(n)
            used_gold.add(m)
    return 2 * len(used_gold) / (len(found) + len(gold))


def span_in(answer: str) -> tuple[int, int] | None:
    """Return the first and the last frame in an answer; a single number is both.

    >>> span_in("frames 3 to 8"), span_in("5"), span_in("at the end")
    ((3, 8), (5, 5), None)
    """
    numbers = [int(float(one)) for one in re.findall(r"\d{1,6}(?:\.\d+)?", answer)]
    return (numbers[0], numbers[min(1, len(numbers) - 1)]) if numbers else None


def span_iou(found: tuple[int, int] | None, gold: tuple[int, int] | None) -> float:
    """Return the IoU of two spans of frames, both ends included; 0 for an inverted or missing span."""
    if found is None or gold is None or found[0] > found[1]:
        return 0.0
    shared = min(found[1], gold[1]) - max(found[0], gold[0]) + 1
    total = max(found[1], gold[1]) - min(found[0], gold[0]) + 1
    return max(0, shared) / total


def _is_at(answer: str, gold: str, question: Question) -> bool:
    numbers = [float(one) for one in _NUMBER.findall(answer)]
    if len(numbers) != 2:
        return False
    x, y = numbers
    boxes = question.evidence.boxes if question.evidence else ()
    if boxes:
        return any(box.x1 <= x <= box.x2 and box.y1 <= y <= box.y2 for box in boxes)
    known = [float(one) for one in _NUMBER.findall(gold)]
    return all(abs(a - b) <= _POINT_TOLERANCE for a, b in zip(numbers, known, strict=False))


def _iou(one: Box, other: Box) -> float:
    shared = one.intersection(other)
    return shared / (one.area + other.area - shared)
