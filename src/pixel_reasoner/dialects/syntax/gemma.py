"""Call syntax of Gemma 4: `call:name{key:value}` with bare sorted keys, and strings between marks of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_json
from pixel_reasoner.dialects.syntax.native import NativeSyntax

QUOTE = '<|"|>'


def write_value(value: Any) -> str:
    """Return a value in the notation of Gemma 4.

    >>> write_value({"b": [1, True], "a": "x"})
    '{a:<|"|>x<|"|>,b:[1,true]}'
    """
    if isinstance(value, str):
        return f"{QUOTE}{value}{QUOTE}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{write_value(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(write_value, value)) + "]"
    return dump_json(value)


def _write(calls: Sequence[WrittenCall], decimals: int) -> str:
    del decimals  # boxes of the family are whole numbers
    return "".join(
        f"<|tool_call>call:{call.name}{write_value(call.arguments)}<tool_call|>" for call in calls
    )


GEMMA = NativeSyntax(
    name="gemma",
    open="<|tool_call>",
    close="<tool_call|>",
    shape='<|tool_call>call:name{argument:value,text:<|"|>value<|"|>}<tool_call|>',
    forms=frozenset({Form.GEMMA}),
    write=_write,
    reserved=(QUOTE, "<tool_call|>"),
    special_tokens=frozenset(
        {"<|tool_call>", "<tool_call|>", QUOTE, "<|tool_response>", "<tool_response|>"}
    ),
)


def declare_tool(tool: Mapping[str, Any]) -> str:
    """Return a tool definition as the chat template of Gemma 4 renders it.

    >>> declare_tool({"function": {"name": "f", "description": "Do it.", "parameters": {"type": "object", "properties": {}}}})
    '<|tool>declaration:f{description:<|"|>Do it.<|"|>,parameters:{type:<|"|>OBJECT<|"|>}}<tool|>'
    """
    function, schema = tool["function"], tool["function"]["parameters"]
    fields = []
    if schema.get("properties"):
        listed = ",".join(
            f"{name}:{_declare(one)}" for name, one in sorted(schema["properties"].items())
        )
        fields.append(f"properties:{{{listed}}}")
    if schema.get("required"):
        fields.append(f"required:{write_value(schema['required'])}")
    fields.append(f"type:{write_value(str(schema['type']).upper())}")
    about = write_value(function["description"])
    parameters = f"parameters:{{{','.join(fields)}}}"
    return f"<|tool>declaration:{function['name']}{{description:{about},{parameters}}}<tool|>"


def _declare(schema: Mapping[str, Any]) -> str:
    """Return the schema of one argument. The template omits keywords that are not listed here."""
    kind = str(schema.get("type", "")).upper()
    fields = []
    if schema.get("description"):
        fields.append(f"description:{write_value(schema['description'])}")
    if kind == "STRING" and schema.get("enum"):
        fields.append(f"enum:{write_value(schema['enum'])}")
    if kind == "ARRAY" and schema.get("items"):
        items = ",".join(
            f"{key}:{write_value(value.upper() if key == 'type' else value)}"
            for key, value in sorted(schema["items"].items())
        )
        fields.append(f"items:{{{items}}}")
    fields.append(f"type:{write_value(kind)}")
    return "{" + ",".join(fields) + "}"


def list_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    """Return the system message that the chat template of Gemma 4 renders: the system text, then the tools."""
    return system + "".join(map(declare_tool, tools))
