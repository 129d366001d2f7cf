"""How the chat template of a family carries a conversation: roles, thoughts, calls and results.

Most families carry a conversation as text: a system message, turns word for word, and results in user messages. A family
declares what its template does otherwise. Converted messages have the keys that templates and servers read:
`reasoning_content`, `tool_calls` (arguments as an object), and the role `tool`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from pixel_reasoner.dialects.syntax.base import CallSyntax, WrittenCall
from pixel_reasoner.dialects.thoughts import ThoughtTags

Message = dict[str, Any]
"""{"role": ..., "content": [{"type": "text", "text": ...} | {"type": "image", "image": ...}, ...]}"""

_MAX_CALLS = 64
"""maximum number of calls in one turn; a turn with more calls is carried as text"""


@dataclass(frozen=True, kw_only=True)
class Carriage:
    """What the chat template of a family does with a conversation."""

    system_role: bool = True
    """whether it accepts a system message; otherwise the system text starts the first user message"""
    result_role: str = "user"
    """role of the results of operations: `user` or `tool`"""
    pictures_in_tool: bool = False
    """whether native results of calls, in the role `tool`, contain their pictures; otherwise a user message follows with them"""
    reasoning_field: str = ""
    """key of the thought of a turn, for templates that would repeat or delete a thought in the text; empty for none"""
    native_calls: bool = False
    """whether calls are in `tool_calls`, for templates that write results of calls only then"""
    words_in_reasoning: bool = False
    """whether words before a call belong to the thought, because the template moves words behind the result"""
    writes_blank: bool = False
    """whether it writes a blank before the text of a turn, so that blanks at the start of a turn are left out"""
    joins_texts: bool = False
    """whether texts in a row become one, because the template trims every text"""
    keeps_thoughts: bool = True
    """whether the template keeps the thoughts of earlier turns of a rollout; if not, training is refused"""
    keeps_tokens: bool = True
    """whether the prompt and the text of a turn are the start of the next prompt; if not, training samples are single turns"""

    @property
    def declared(self) -> dict[str, Any]:
        """Fields that differ from the default.

        >>> Carriage(system_role=False).declared
        {'system_role': False}
        """
        usual = {one.name: one.default for one in fields(self)}
        return {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}


TEXT = Carriage()
"""word for word, with results in user messages"""


class SplitTurn(NamedTuple):
    """Thought, words and calls of a turn, with names and coordinates of the family."""

    thought: str
    words: str
    calls: tuple[WrittenCall, ...] = ()


def split_calls(text: str, syntax: CallSyntax) -> tuple[str, tuple[WrittenCall, ...]]:
    """Split text into the words before its calls and the calls.

    Returns:
        The whole text and no calls if a call cannot be parsed.
    """
    parser = syntax.parser(max_calls=_MAX_CALLS)
    parser.feed(text)
    raw = parser.finish()
    calls = tuple(part for part in raw.parts if not isinstance(part, str))
    if raw.problem or not calls:
        return text, ()
    return next((part for part in raw.parts if isinstance(part, str)), ""), calls


def split_thought(text: str, tags: ThoughtTags) -> tuple[str, str]:
    r"""Split a turn into the thought before the first end tag, possibly empty, and the rest.

    >>> from pixel_reasoner.dialects.thoughts import THINK_TAGS
    >>> split_thought("\nSmall.\n</think>\n\nRed.", THINK_TAGS)
    ('Small.', 'Red.')
    """
    thought, tag, rest = text.partition(tags.close)
    if not tag:
        return "", text
    return thought.strip().removeprefix(tags.open).strip("\n"), rest.lstrip("\n")


def joined(content: Sequence[Message]) -> list[Message]:
    """Return the parts of a message with texts in a row as one.

    >>> joined([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    [{'type': 'text', 'text': 'ab'}]
    """
    parts: list[Message] = []
    for part in content:
        if parts and part["type"] == parts[-1]["type"] == "text":
            parts[-1] = {"type": "text", "text": parts[-1]["text"] + part["text"]}
        else:
            parts.append(part)
    return parts


def call_id(message_number: int, nth: int = 0) -> str:
    """Return the id of a call: nine letters or digits, as Mistral requires.

    >>> call_id(3), call_id(3, 1)
    ('call00003', 'call01003')
    """
    return f"call{nth % 100:02d}{message_number % 1000:03d}"
