"""Calls as JSON between `<tool_call>` tags: the form that most open models were taught, and how they are offered operations in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pixel_reasoner.dialects.syntax import Calls

OPEN, CLOSE = "<tool_call>", "</tool_call>"

TOOL_CALL = Calls(open=OPEN, close=CLOSE, shape='{"name": ..., "arguments": {...}}')


def offered(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    """A system message that lists tools as the chat templates of Qwen and of many others do.

    >>> print(offered([{"type": "function"}], "Be brief.").splitlines()[0])
    Be brief.
    """
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        (f"{system}\n\n" if system else "")
        + "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        + "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        + f"{listed}\n</tools>\n\n"
        + "For each function call, return a json object with function name and arguments within "
        + f"{OPEN}{CLOSE} XML tags:\n{OPEN}\n"
        + f'{{"name": <function-name>, "arguments": <args-json-object>}}\n{CLOSE}'
    )
