"""Call syntaxes with `invoke` elements: MiniMax-M3, Muse and Step3. Values have no types and no escapes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_texts
from pixel_reasoner.dialects.syntax.native import NativeSyntax, list_tools_in_own_words

_NAMESPACE = "]<]minimax[>["


def _write_minimax(calls: Sequence[WrittenCall], decimals: int) -> str:
    written = []
    for call in calls:
        parameters = "".join(
            f"{_NAMESPACE}<{name}>{text}{_NAMESPACE}</{name}>\n"
            for name, text in dump_texts(call, decimals).items()
        )
        written.append(
            f'{_NAMESPACE}<invoke name="{call.name}">\n{parameters}{_NAMESPACE}</invoke>\n'
        )
    return f"{_NAMESPACE}<tool_call>\n{''.join(written)}{_NAMESPACE}</tool_call>"


MINIMAX = NativeSyntax(
    name="minimax",
    open=f"{_NAMESPACE}<tool_call>",
    close=f"{_NAMESPACE}</tool_call>",
    shape=(
        f'{_NAMESPACE}<tool_call>{_NAMESPACE}<invoke name="name">{_NAMESPACE}<argument>value{_NAMESPACE}</argument>'
        f"{_NAMESPACE}</invoke>{_NAMESPACE}</tool_call>"
    ),
    forms=frozenset({Form.ELEMENTS}),
    write=_write_minimax,
    reserved=(_NAMESPACE,),
    special_tokens=frozenset({_NAMESPACE, "<tool_call>", "</tool_call>"}),
)
"""Every tag follows a mark, and the tag of a value is the name of its argument."""


def _invokes(calls: Sequence[WrittenCall], decimals: int, prefix: str, gap: str) -> list[str]:
    written = []
    for call in calls:
        parameters = "".join(
            f'<{prefix}parameter name="{name}">{text}</{prefix}parameter>{gap}'
            for name, text in dump_texts(call, decimals).items()
        )
        written.append(f'<{prefix}invoke name="{call.name}">{gap}{parameters}</{prefix}invoke>')
    return written


def _write_muse(calls: Sequence[WrittenCall], decimals: int) -> str:
    written = "\n".join(_invokes(calls, decimals, "atem:", "\n"))
    return f"<atem:function_calls>\n{written}\n</atem:function_calls>"


MUSE = NativeSyntax(
    name="muse",
    open="<atem:function_calls>",
    close="</atem:function_calls>",
    shape=(
        '<atem:function_calls><atem:invoke name="name"><atem:parameter name="argument">value</atem:parameter>'
        "</atem:invoke></atem:function_calls>"
    ),
    forms=frozenset({Form.ELEMENTS}),
    write=_write_muse,
    reserved=("</atem:parameter>", "</atem:invoke>", "</atem:function_calls>", "<atem:parameter"),
)

_STEP_OPEN, _STEP_CLOSE = "<｜tool_calls_begin｜>", "<｜tool_calls_end｜>"
_STEP_BEGIN, _STEP_GAP, _STEP_END = (
    "<｜tool_call_begin｜>",
    "<｜tool_sep｜>",
    "<｜tool_call_end｜>",
)


def _write_step(calls: Sequence[WrittenCall], decimals: int) -> str:
    written = "".join(
        f"{_STEP_BEGIN}function{_STEP_GAP}{one}{_STEP_END}"
        for one in _invokes(calls, decimals, "steptml:", "")
    )
    return f"{_STEP_OPEN}{written}{_STEP_CLOSE}"


STEP = NativeSyntax(
    name="step",
    open=_STEP_OPEN,
    close=_STEP_CLOSE,
    shape=(
        f'{_STEP_OPEN}{_STEP_BEGIN}function{_STEP_GAP}<steptml:invoke name="name"><steptml:parameter name="argument">'
        f"value</steptml:parameter></steptml:invoke>{_STEP_END}{_STEP_CLOSE}"
    ),
    forms=frozenset({Form.ELEMENTS}),
    write=_write_step,
    reserved=("</steptml:parameter>", "</steptml:invoke>", "<steptml:parameter", _STEP_END),
    special_tokens=frozenset({_STEP_OPEN, _STEP_CLOSE, _STEP_BEGIN, _STEP_GAP, _STEP_END}),
)

list_minimax_tools = list_tools_in_own_words(MINIMAX.shape)
list_step_tools = list_tools_in_own_words(STEP.shape)


def list_muse_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    """Return a system message with the tools as the chat template of Muse Glimmer renders them, after the system text.

    >>> tool = {"function": {"name": "f", "description": "Do it.", "parameters": {}}}
    >>> list_muse_tools([tool], "Be brief.").splitlines()[0]
    'Be brief.'
    """
    functions = [tool["function"] for tool in tools]
    spaces = "".join(
        f'{{"name": {json.dumps(one["name"].split(".")[0])}, "description": ""}}\n'
        for one in functions
    )
    listed = "".join(
        f'\n{{"name": {json.dumps(one["name"])}, "description": {json.dumps(one["description"], ensure_ascii=False)}, '
        f'"parameters": {json.dumps(one["parameters"], ensure_ascii=False)}}}'
        for one in functions
    )
    example = "".join(
        f'<atem:parameter name="{name}">{value}</atem:parameter>\n'
        for name, value in (
            ("example_parameter_1", "value_1"),
            (
                "example_parameter_2",
                'This is the value for the second parameter\nthat can span\n"multiple" lines\n',
            ),
        )
    )
    return (
        (f"{system}\n\n" if system else "")
        + "In this environment you have access to a set of tools you can use to answer the user's question.\n\n"
        + 'You can invoke a function by writing a "<atem:function_calls>" block like the following:\n'
        + '<atem:function_calls>\n<atem:invoke name="$FUNCTION_NAME">\n'
        + '<atem:parameter name="$PARAMETER_NAME">$PARAMETER_VALUE</atem:parameter>\n...\n</atem:invoke>\n'
        + "</atem:function_calls>\n\nString and scalar parameters should be specified as is, while lists and objects "
        + "should use JSON format. Note that spaces for string values are not stripped. The output is not expected to "
        + "be valid XML and is parsed with regular expressions.\nHere are the functions available in JSONSchema format:\n"
        + f"// Tool metadata\n{spaces}// Function schemas{listed}\n\nHere's an example of how to call a function in the "
        + "tool set:\n(If the tool namespace is not specified, invoke the function directly as `example_function_name` "
        + "rather than `example_tool_name.example_function_name`)\n\nto=example_tool_name.example_function_name\n\n"
        + '<atem:function_calls>\n<atem:invoke name="example_tool_name.example_function_name">\n'
        + f"{example}</atem:invoke>\n</atem:function_calls>"
    )
