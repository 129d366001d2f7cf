"""Replies that were generated anywhere: parsed, their answers extracted and graded, without a model."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.parsed_turn import ParsedTurn
from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import Picture, StopReason, Trace, Turn
from pixel_reasoner.scoring.extraction import extract
from pixel_reasoner.scoring.grading import Grade, Scorer, grade_reply


def parse_reply(
    text: str, dialect: str = "pixel_reasoner", pictures: Sequence[Picture] = ()
) -> ParsedTurn:
    r"""Return the thoughts, texts, calls, answer and errors of one message of a model.

    Args:
        text: the message as it was generated, without the end token.
        dialect: name of the format, see `pixel-reasoner dialects`.
        pictures: all pictures in the context of the model. Without them, boxes in pixels stay as they are.

    Raises:
        UsageError: no dialect of this name.

    >>> turn = parse_reply('I look. <tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 0.5, 0.5]}}</tool_call>', "compact")
    >>> turn.call.name, turn.answer
    ('zoom_in', None)
    >>> parse_reply(r"It is \boxed{red}.", "compact").answer
    'red'
    """
    return get_dialect(dialect).parse(text, pictures)


def extract_answer(
    text: str,
    answer_type: AnswerType | str = AnswerType.TEXT,
    choices: Sequence[str] | Mapping[str, str] = (),
) -> str | None:
    r"""Return the answer in the last message of a model; None when there is none, or when it contradicts itself.

    Args:
        text: the message.
        answer_type: text, number, integer, choice, list, anls or relaxed.
        choices: options of a `choice`, as texts in the order of their letters, or as letter -> text.

    Raises:
        UsageError: an unknown type, or a choice without options.

    >>> extract_answer("Looking at the crop, A is not it. The answer is (C).", "choice", ["red", "blue", "green"])
    'C'
    >>> extract_answer(r"There are \boxed{4} of them.", "integer")
    '4'
    >>> extract_answer("It is 7 or 8.", "integer") is None
    True
    """
    return extract(text, _question(answer_type, choices))


def grade(question: Question, text: str, scorer: Scorer | str = Scorer.TYPED) -> Grade | None:
    r"""Return the grade of the last message of a model; None when the question has no accepted answer.

    Args:
        question: with accepted answers and their type.
        text: the message.
        scorer: typed, harness or released (`scoring.grading.Scorer`).

    Raises:
        UsageError: an unknown scorer.

    >>> question = Question(id="1", text="How many?", media=(), answer=("4",), answer_type=AnswerType.INTEGER)
    >>> grade(question, "I count four dogs. The answer is 4.").outcome.value
    'correct'
    """
    try:
        scorer = Scorer(scorer)
    except ValueError as error:
        raise UsageError(
            expected=f"a scorer: {', '.join(Scorer)}", got=str(scorer), fix="use one of these"
        ) from error
    trace = Trace(question=question, turns=(Turn(text=text),), stop=StopReason.NO_ANSWER)
    return grade_reply(trace, scorer)


def _question(
    answer_type: AnswerType | str, choices: Sequence[str] | Mapping[str, str]
) -> Question:
    try:
        answer_type = AnswerType(answer_type)
    except ValueError as error:
        raise UsageError(
            expected=f"an answer type: {', '.join(AnswerType)}",
            got=str(answer_type),
            fix="use one of these",
        ) from error
    if answer_type is AnswerType.CHOICE and not choices:
        raise UsageError(
            expected="the options of a choice", got="none", fix='pass choices=["red", "blue", ...]'
        )
    if isinstance(choices, Mapping):
        options = dict(choices)
    elif len(choices) <= len(string.ascii_uppercase):
        options = dict(zip(string.ascii_uppercase, choices, strict=False))
    else:
        raise UsageError(
            expected="at most 26 options", got=f"{len(choices)}", fix="pass letter -> text"
        )
    return Question(id="", text="", media=(), answer_type=answer_type, options=options)
