r"""Call syntax of Qwen3.5 to 3.8, Step-3.7, Nemotron and MiniCPM-V 4.6: one XML element per argument, in `<tool_call>`.

Texts are written verbatim, lists and objects as JSON. The values have no types and no escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_texts
from pixel_reasoner.dialects.syntax.native import NativeSyntax, signatures


def _write(calls: Sequence[WrittenCall], decimals: int) -> str:
    return "\n".join(_element(call, decimals) for call in calls)


def _element(call: WrittenCall, decimals: int) -> str:
    parameters = "".join(
        f"<parameter={name}>\n{text}\n</parameter>\n"
        for name, text in dump_texts(call, decimals).items()
    )
    return f"<tool_call>\n<function={call.name}>\n{parameters}</function>\n</tool_call>"


FUNCTION_XML = NativeSyntax(
    name="function_xml",
    open="<tool_call>",
    close="</tool_call>",
    shape="<tool_call><function=name><parameter=argument>value</parameter></function></tool_call>",
    forms=frozenset({Form.ELEMENTS}),
    write=_write,
    reserved=("</parameter>", "</function>", "</tool_call>", "<parameter="),
    special_tokens=frozenset({"<tool_call>", "</tool_call>"}),
)

_FORMAT = (
    "\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n<tool_call>\n"
    "<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified "
    "format: an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n- You may provide optional reasoning for your function call in natural "
    "language BEFORE the function call, but NOT after\n- If there is no function call available, answer the question "
    "like normal with your current knowledge and do not tell the user about function calls\n</IMPORTANT>"
)


def list_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    r"""Return the system message that the chat templates of Qwen3.5 to 3.8 render: the tools, then the system text.

    >>> list_tools([{"type": "function"}], "Be brief.").endswith("</IMPORTANT>\n\nBe brief.")
    True
    """
    head = "# Tools\n\nYou have access to the following functions:\n\n<tools>\n"
    after = f"\n\n{system}" if system else ""
    return f"{head}{signatures(tools)}\n</tools>{_FORMAT}{after}"
