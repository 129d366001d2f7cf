"""Steps of a trace in words: texts, calls and results. Reports and pictures of a trace use these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from pixel_reasoner.operations.base import call_as_written
from pixel_reasoner.operations.registry import describe_call
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.trace import Observation, Picture, Thought, ToolCall, Turn
from pixel_reasoner.scoring.grading import Grade, Outcome

_OUTCOMES = {Outcome.CORRECT: "right", Outcome.WRONG: "wrong", Outcome.UNPARSED: "unparsed"}


def message_texts(turn: Turn) -> list[str]:
    """Return the thoughts and text of a turn, without calls and tags.

    >>> from pixel_reasoner.schema.trace import Text, Thought
    >>> parts = Thought(thought="It is small."), Text(text="I zoom in.")
    >>> message_texts(Turn(text="<think>It is small.</think>I zoom in.", parts=parts))
    ['It is small.', 'I zoom in.']
    """
    texts = [
        part.thought if isinstance(part, Thought) else part.text
        for part in turn.parts
        if not isinstance(part, ToolCall)
    ] or [turn.text]
    return [text for one in texts if (text := without_tags(one))]


def without_tags(text: str) -> str:
    """Return a text without calls and tags.

    >>> without_tags("<think>It is small.</think>")
    'It is small.'
    """
    return _tags().sub("", text).strip()


@cache
def _tags() -> re.Pattern[str]:
    """Return a pattern of calls and tags in the text of a turn."""
    from pixel_reasoner.dialects import CALL_TAGS, DIALECTS  # loads Pillow and PyAV

    calls = "|".join(
        rf"{re.escape(tag)}.*?(?:{re.escape(end)}|\Z)" if end else rf"{re.escape(tag)}.*\Z"
        for tag, end in CALL_TAGS
    )
    thoughts = {
        tag
        for _, one in DIALECTS.items()
        for tag in (one.thought_tags.open, one.thought_tags.close)
    }
    tags = "|".join(re.escape(tag) for tag in sorted(thoughts))
    return re.compile(rf"{calls}|{tags}|</?answer>", re.DOTALL)


def calls_and_results(turn: Turn) -> Iterator[tuple[ToolCall | None, Observation | None]]:
    """Yield each result with its call (None for an unparsable call), then calls without a result."""
    calls = dict(enumerate(turn.calls))
    for observation in turn.observations:
        yield calls.pop(observation.call, None), observation
    for call in calls.values():
        yield call, None


def call_in_words(call: ToolCall | None, observation: Observation | None) -> str:
    """Return an executed call as words, and a rejected call as generated."""
    if call is None:
        return "a call that could not be parsed"
    is_executed = observation is not None and observation.error is None
    try:
        return describe_call(call) if is_executed else call_as_written(call)
    except (
        LookupError,
        TypeError,
        ValueError,
    ):  # the file marks it as executed, which is impossible
        return call_as_written(call)


def result_in_words(observation: Observation) -> str:
    """Return the text of a result, with the lines that were read."""
    lines = [f"“{one.text}” ({one.score:.2f})" for one in observation.lines]
    return "\n".join([observation.text, *lines])


def outcome_in_words(grade: Grade | None) -> str:
    """Return `right`, `wrong`, `unparsed` or `ungraded`."""
    return _OUTCOMES[grade.outcome] if grade else "ungraded"


def spaced_name(name: str) -> str:
    """Return the name of an enum member with spaces."""
    return name.replace("_", " ")


def size_in_words(size: Size) -> str:
    """Return a width and a height as text."""
    return f"{size[0]} × {size[1]}"


def time_in_words(picture: Picture) -> str:
    """Return the time of a frame in minutes and seconds.

    >>> time_in_words(Picture(number=1, medium=0, time_s=63.25, source_px=(1, 1), seen_px=(1, 1)))
    '1:03.2'
    """
    if picture.time_s is None:
        return ""
    return f"{int(picture.time_s // 60)}:{picture.time_s % 60:04.1f}"
