r"""Training examples without pictures: what the pictures show is given in words, and the loss covers what follows from it.

Whether a character is the one of the question, how many there are so far, and from which to which frame it lasts are
a few tokens among many that describe pictures. A small model that trains on all of them at once learns to read pictures, and
then hardly these. It learns them in minutes if they come first and alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pixel_reasoner.data import wording
from pixel_reasoner.data.wording import fill_template
from pixel_reasoner.dialects import Dialect
from pixel_reasoner.schema.question import Question
from pixel_reasoner.tiny.examples import Example, Segment, tokenize_segments
from pixel_reasoner.tiny.mixture import Part

FAMILIES = ("w2-count", "w2-where", "w2-parts", "w2-moments")
"""families whose conclusions compare characters"""
EXAMPLES_PER_FAMILY = 24
"""examples of a step of the stage `conclude`"""
KEPT_PER_FAMILY = 6
"""examples of a step of the stage `reason`: without them most of the stage is forgotten within 300 steps"""
_GIVEN = re.compile(
    r" carries (?:no character|\w\b)(?=[,;:.])"  # what an item carries
    r"| frame \d+ \w\b(?=[,:.])"  # what a frame shows
    r"|(?<=, at) \[?0[0-9., ]*[0-9]\]?(?=[;.] )"  # its place
    r"|(?<=;) the [a-z ]+?(?= carries)"  # the next item
)


def conclusion_segments(question: Question, rng: random.Random) -> Iterator[Segment]:
    r"""Yield the answer to a question of these families in pieces; what only its pictures could tell is not trained.

    >>> from pixel_reasoner.schema.question import Evidence
    >>> found = Evidence(findings=("the red square carries 4: 1 so far", "the red circle carries K: 1 so far"))
    >>> question = Question(id="w2-count-1", text="How many?", media=(), answer=("1",), evidence=found)
    >>> [one.text for one in conclusion_segments(question, random.Random(1)) if one.trained]
    [': 1 so far;', '', ': 1 so far. \\boxed{1}']
    """
    evidence = question.evidence
    assert evidence is not None, "questions of PixelWorld have evidence"
    finding = "; ".join((*(step.finding for step in evidence.search), *evidence.findings))
    words = fill_template(rng, wording.AT_ONCE, finding=finding)
    words += f" \\boxed{{{question.answer[0]}}}"
    start = None
    for given in _GIVEN.finditer(words):
        # Before the first reading nothing follows from anything.
        yield Segment(words[start or 0 : given.start()], trained=start is not None)
        yield Segment(given[0])
        start = given.end()
    yield Segment(words[start or 0 :], trained=start is not None)


def conclusion_example(
    question: Question, processor: Any, dialect: Dialect, rng: random.Random
) -> Example:
    """Return an example without pictures."""
    messages = dialect.messages(question, (), (), lambda n: n, operations=False)
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    end = Segment(processor.tokenizer.eos_token, trained=True)
    segments = [Segment(prompt), *conclusion_segments(question, rng), end]
    ids, trained, _ = tokenize_segments(processor.tokenizer, segments)
    return Example(ids, trained, [False] * len(ids), [], [])


def draw_conclusions(
    parts: Mapping[str, Sequence[Part]], rng: random.Random, count: int
) -> Iterator[tuple[str, list[Example]]]:
    """Yield the examples of one step: family, and `count` examples of it."""
    for family, of_family in parts.items():
        examples = []
        for _ in range(count):
            (builder, _), numbers = rng.choice(of_family)
            question = builder.index.trace(rng.choice(numbers)).question
            examples.append(conclusion_example(question, builder.processor, builder.dialect, rng))
        yield family, examples
