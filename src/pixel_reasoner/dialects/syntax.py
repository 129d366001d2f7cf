"""How calls and answers stand in a text: tags around JSON, and the form that holds an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixel_reasoner.scoring.extraction import boxed, tagged

MAX_BRACKETS = 50
"""A call has three or four. JSON that nests deeply cannot be written to a record, or not read back."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Tags around one JSON object."""

    open: str
    close: str
    shape: str
    """the object, in what a model is told"""
    named: bool = True
    """whether the object is `{"name", "arguments"}`; or the arguments alone, which tell the operation"""

    def write(self, name: str, arguments: dict[str, Any], decimals: int) -> str:
        """The text of a call; numbers that are not whole have that many decimals."""
        value = {"name": name, "arguments": arguments} if self.named else arguments
        # json has no number format: written after the fact, and not in what stands between quotes.
        line = re.sub(
            r'"(?:[^"\\]|\\.)*"|\d+\.\d+',
            lambda m: m[0] if m[0].startswith('"') else f"{float(m[0]):.{decimals}f}",
            json.dumps(value, ensure_ascii=False),
        )
        return (
            f"{self.open}\n{line}\n{self.close}" if self.named else f"{self.open}{line}{self.close}"
        )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The form that holds an answer."""

    open: str
    close: str
    find: Callable[[str], str | None]
    """text -> the last answer in it"""

    def write(self, answer: str) -> str:
        """The text of an answer."""
        return f"{self.open}{answer}{self.close}"


def _in_tags(text: str) -> str | None:
    r"""Some write `<answer>\boxed{B}</answer>`."""
    found = tagged(text)
    if found is None:
        return None
    inner = boxed(found)
    return found.strip() if inner is None else inner


BOXED = Answers(open="\\boxed{", close="}", find=boxed)
TAGGED = Answers(open="<answer>", close="</answer>", find=_in_tags)


def load(body: str) -> Any:
    """The JSON value of a call.

    Raises:
        ValueError: not JSON, or JSON that no record can hold.
    """
    if body.count("[") + body.count("{") > MAX_BRACKETS:
        raise ValueError("too many brackets")
    value = json.loads(body)
    # Half a surrogate pair is legal in JSON and in no file.
    json.dumps(value, ensure_ascii=False).encode()
    return value
