"""Questions of the search, and the answers to them: which frames show a description, and where.

A: 2-4, 7?; B: none        frames by number, `?` for an uncertain one
120 300 450 620            a box: left, top, right, bottom in thousandths of the frame; several are separated by `;`
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pixel_reasoner.schema.geometry import Box

_ENTRY = re.compile(r"(?:^|[;\n,.\s])\(?([A-Z]{1,2})\)?\s*[:=]\s*", re.ASCII)
_NONE = re.compile(
    r"\b(none|no frames?|not found|nothing|never|0)\b|^\s*(no|-|–)?\s*$", re.IGNORECASE
)
_RANGE = re.compile(r"(\d+)\s*(?:(?:-|–|—|\.\.\.?|to|through|until)\s*(\d+))?\s*(\?)?")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
UNCERTAIN = Fraction(1, 2)
"""score of a frame that is named with `?`"""


@dataclass(frozen=True)
class Query:
    """Description of what is searched.

    Attributes:
        label: letter in questions.
        text: the description, such as `a red car enters`.
    """

    label: str
    text: str


def labelled(texts: Sequence[str]) -> list[Query]:
    """Return queries with labels: A to Z, then AA, AB, ...

    >>> [query.label for query in labelled(["x"] * 28)][24:]
    ['Y', 'Z', 'AA', 'AB']
    """
    return [Query(_label(number), text) for number, text in enumerate(texts)]


def _label(number: int) -> str:
    letter = chr(ord("A") + number % 26)
    return letter if number < 26 else chr(ord("A") + number // 26 - 1) + letter


def frames_question(queries: Sequence[Query], times_s: Sequence[Fraction]) -> str:
    """Return the question which frames show each description.

    Args:
        queries: at least one.
        times_s: time of each frame.
    """
    times = ", ".join(
        f"{number} at {float(time):.3f} s" for number, time in enumerate(times_s, start=1)
    )
    lines = "\n".join(f"{query.label}: {query.text}" for query in queries)
    first = queries[0].label
    example = f"{first}: 2-4, 7?" + (f"; {queries[1].label}: none" if len(queries) > 1 else "")
    return (
        f"These are frames of one clip, in the order of time: {times}. Which frames show each of these descriptions?\n"
        f"{lines}\n"
        "Answer with frame numbers or ranges for each letter, a ? after an uncertain number, and none if no frame shows it, "
        f"for example: {example}"
    )


def box_question(query: Query) -> str:
    """Return the question where a description is in one frame."""
    return (
        f"Where in this frame is this: {query.text}? Zoom in on it if it is small. Answer with its box as four numbers, "
        "left top right bottom, in thousandths of the width and height of the whole frame. Separate several boxes by a "
        "semicolon. Answer none if it is not visible."
    )


def parse_frames(
    answer: str | None, queries: Sequence[Query], num_frames: int
) -> dict[str, dict[int, Fraction]] | None:
    """Return label -> frame number from 1 -> score: 1 for named frames, 1/2 for uncertain ones.

    Numbers outside the frames are ignored. With one query the label may be missing. None: the answer has no readable entry.

    >>> parse_frames("A: 2-3, 5?; B: none", labelled(["x", "y"]), 8)
    {'A': {2: Fraction(1, 1), 3: Fraction(1, 1), 5: Fraction(1, 2)}, 'B': {}}
    >>> parse_frames("frames 4 to 9", labelled(["x"]), 5)
    {'A': {4: Fraction(1, 1), 5: Fraction(1, 1)}}
    """
    if answer is None:
        return None
    labels = [query.label for query in queries]
    entries = dict(_entries(answer, labels))
    if not entries and len(queries) == 1:
        entries = {labels[0]: answer}
    found: dict[str, dict[int, Fraction]] = {}
    for label, text in entries.items():
        scores = _scores(text, num_frames)
        if scores is not None:
            found[label] = scores
    return found or None


def _entries(answer: str, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    matches = [match for match in _ENTRY.finditer(answer) if match[1] in labels]
    for match, after in zip(matches, [*matches[1:], None], strict=False):
        yield match[1], answer[match.end() : after.start() if after else None]


def _scores(text: str, num_frames: int) -> dict[int, Fraction] | None:
    """Return the scores in one entry; None if it contains neither numbers nor `none`."""
    scores: dict[int, Fraction] = {}
    ranges = list(_RANGE.finditer(text))
    for match in ranges:
        first, last = int(match[1]), int(match[2] or match[1])
        score = UNCERTAIN if match[3] else Fraction(1)
        for number in range(max(1, first), min(last, num_frames) + 1):
            scores[number] = max(score, scores.get(number, score))
    if scores or _NONE.search(text):
        return scores
    return {} if ranges else None


def parse_boxes(answer: str | None) -> list[Box]:
    """Return the boxes of an answer; empty if there are none.

    Numbers up to 1 are fractions, others thousandths.

    >>> parse_boxes("[100, 200, 300, 400]; 0.5 0.5 1.0 0.75"), parse_boxes("none")
    ([Box(x1=0.1, y1=0.2, x2=0.3, y2=0.4), Box(x1=0.5, y1=0.5, x2=1.0, y2=0.75)], [])
    """
    if answer is None:
        return []
    numbers = [float(text) for text in _NUMBER.findall(answer)]
    boxes = []
    for place in range(0, len(numbers) - 3, 4):
        values = numbers[place : place + 4]
        unit = 1.0 if max(values) <= 1 else 1000.0
        x1, y1, x2, y2 = (min(1.0, max(0.0, value / unit)) for value in values)
        if x1 < x2 and y1 < y2 and all(map(math.isfinite, values)):
            boxes.append(Box(x1, y1, x2, y2))
    return boxes


def mean_scores(answers: Sequence[Mapping[int, Fraction]], num_frames: int) -> list[Fraction]:
    """Return the mean score of each frame over the samples of a task.

    >>> mean_scores([{1: Fraction(1)}, {}], 2)
    [Fraction(1, 2), Fraction(0, 1)]
    """
    zero = Fraction(0)
    return [
        sum((one.get(number, zero) for one in answers), zero) / max(1, len(answers))
        for number in range(1, num_frames + 1)
    ]
