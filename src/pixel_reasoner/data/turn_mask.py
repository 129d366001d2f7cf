"""Loss mask of a conversation whose chat template has no `{% generation %}` markers.

The spans of the assistant's turns come from the template itself: a turn begins where the prompt of that turn ends, and ends with
its text and the special token after it. A template that changes earlier turns has no such spans, and is refused.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from pixel_reasoner.errors import ModelError

Span = tuple[int, int]
"""first character, and the one after the last"""
Messages = list[dict[str, Any]]

_LONGEST_HEADER = 100
"""characters of a template between the messages before a turn and its text"""
_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


def has_markers(template: str) -> bool:
    """Return whether a chat template marks the turns of the assistant.

    >>> has_markers("{%- generation %}{{ text }}{% endgeneration %}"), has_markers("{{ text }}")
    (True, False)
    """
    return _MARKER.search(template) is not None


def turn_spans(
    render: Callable[..., str],
    messages: Messages,
    turns: Sequence[str],
    special_tokens: Sequence[str],
) -> list[Span]:
    """Return the span of each turn of the assistant in a rendered conversation, with the special token that ends it.

    Args:
        render: (messages, add_generation_prompt=...) -> text of the chat template.
        messages: whole conversation.
        turns: texts of the assistant's messages, as the model writes them.
        special_tokens: special tokens of the tokenizer.

    Raises:
        ModelError: the template changes earlier turns or their texts.

    >>> def render(messages, add_generation_prompt=False):
    ...     lines = [f"<{m['role']}>{m['content'][0]['text']}<end>" for m in messages]
    ...     return "".join(lines) + "<assistant>" * add_generation_prompt
    >>> said = [("user", "Red?"), ("assistant", "Yes."), ("user", "Sure?"), ("assistant", "No.")]
    >>> messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    >>> text = render(messages)
    >>> [text[first:end] for first, end in turn_spans(render, messages, ["Yes.", "No."], ["<end>"])]
    ['Yes.<end>', 'No.<end>']
    """
    whole = render(messages)
    spans = []
    places = [number for number, one in enumerate(messages) if one["role"] == "assistant"]
    if len(places) != len(turns):
        raise _changed(f"merges the {len(turns)} turns of the assistant into {len(places)}")
    for number, text in zip(places, turns, strict=True):
        first, end = _turn_span(render, messages[:number], text, whole)
        ending = [one for one in special_tokens if whole.startswith(one, end)]
        spans.append((first, end + max(map(len, ending), default=0)))
    return spans


def _turn_span(render: Callable[..., str], before: Messages, text: str, whole: str) -> Span:
    """Return the span of the text of a turn after some messages."""
    prompt, history = render(before, add_generation_prompt=True), render(before)
    # Some templates begin a turn of the history in another way than its prompt, for example with another space.
    place = len(prompt if whole.startswith(prompt) else history)
    if not whole.startswith(history):
        raise _changed("changes the messages before a turn")
    for said in (text, text.strip()):
        first = whole.find(said, place)
        if 0 <= first <= place + _LONGEST_HEADER:
            return first, first + len(said)
    shown = whole[place : place + 80]
    raise _changed(f"changes the text of a turn: {shown!r} instead of {text[:80]!r}")


def tokens_within(
    spans: Sequence[Span], offsets: Sequence[Sequence[int]], replacements: Sequence[dict[str, Any]]
) -> list[bool]:
    """Return for each token whether it is in one of the spans.

    Args:
        spans: spans of the rendered text.
        offsets: first and last character of each token, in the text with all tokens of its pictures.
        replacements: from transformers: `span` of a placeholder in the rendered text, and its `new_span`.

    >>> replaced = [{"span": (0, 2), "new_span": (0, 6)}]
    >>> tokens_within([(3, 5)], [(0, 2), (2, 4), (4, 6), (6, 7), (7, 8), (8, 9)], replaced)
    [False, False, False, False, True, True]
    """
    ends = [one["span"][1] for one in replacements]
    growth = [0, *(one["new_span"][1] - one["span"][1] for one in replacements)]
    moved = [
        (first + growth[bisect_right(ends, first)], end + growth[bisect_right(ends, end)])
        for first, end in spans
    ]
    return [any(start < end and stop > first for first, end in moved) for start, stop in offsets]


def _changed(what: str) -> ModelError:
    return ModelError(
        expected="a chat template that keeps the turns of the assistant, or marks them",
        got=f"one that {what}",
        fix="put {% generation %} and {% endgeneration %} around the assistant's text and end token",
    )
