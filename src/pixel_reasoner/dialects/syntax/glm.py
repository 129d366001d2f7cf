"""Call syntax of GLM: a name, then tags around each key and each value, in `<tool_call>`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_texts
from pixel_reasoner.dialects.syntax.hermes import list_signatures
from pixel_reasoner.dialects.syntax.native import NativeSyntax


def _writer(gap: str) -> Any:
    """Return the function that writes calls with this text between tags."""

    def write(calls: Sequence[WrittenCall], decimals: int) -> str:
        return (gap or "\n").join(_element(call, decimals) for call in calls)

    def _element(call: WrittenCall, decimals: int) -> str:
        pairs = "".join(
            f"<arg_key>{name}</arg_key>{gap}<arg_value>{text}</arg_value>{gap}"
            for name, text in dump_texts(call, decimals).items()
        )
        return f"<tool_call>{call.name}{gap}{pairs}</tool_call>"

    return write


GLM = NativeSyntax(
    name="glm",
    open="<tool_call>",
    close="</tool_call>",
    shape="<tool_call>name<arg_key>argument</arg_key><arg_value>value</arg_value></tool_call>",
    forms=frozenset({Form.KEY_VALUES}),
    write=_writer("\n"),
    reserved=("</arg_value>", "<arg_key>", "</tool_call>"),
    special_tokens=frozenset(
        {"<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"}
    ),
)

GLM_COMPACT = replace(GLM, write=_writer(""))
"""GLM-4.7 and 5.3, without line breaks"""


def list_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    """Return the system message that the text templates of GLM render: the tools, then the system text.

    >>> list_tools([{"type": "function"}]).splitlines()[-1]
    '</tool_call>'
    """
    after = f"\n{system}" if system else ""
    return (
        list_signatures(tools)
        + "\n\nFor each function call, output the function name and arguments within the following XML format:\n"
        + "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
        + "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n...\n</tool_call>"
        + after
    )
