"""Call syntaxes of model families: exact texts, strict parsing, typed values, and what they cannot express."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.dialects import Dialect, RepairKind, get_dialect
from pixel_reasoner.dialects.conformance import distinct_dialects
from pixel_reasoner.dialects.syntax.base import WrittenCall
from pixel_reasoner.dialects.syntax.function_xml import FUNCTION_XML
from pixel_reasoner.dialects.syntax.functools_json import FUNCTOOLS
from pixel_reasoner.dialects.syntax.gemma import GEMMA
from pixel_reasoner.dialects.syntax.glm import GLM, GLM_COMPACT
from pixel_reasoner.dialects.syntax.intern import INTERN
from pixel_reasoner.dialects.syntax.invoke import MINIMAX, MUSE, STEP
from pixel_reasoner.dialects.syntax.kimi import KIMI
from pixel_reasoner.dialects.syntax.mistral import MISTRAL, MISTRAL_LIST
from pixel_reasoner.dialects.syntax.python_list import LFM, PYTHON_LINES
from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.trace import CallErrorKind, Picture, ToolCall

SYNTAXES = {
    "function_xml": FUNCTION_XML, "glm": GLM, "glm_compact": GLM_COMPACT, "gemma": GEMMA, "mistral": MISTRAL,
    "mistral_list": MISTRAL_LIST, "kimi": KIMI, "lfm": LFM, "python_lines": PYTHON_LINES, "minimax": MINIMAX, "muse": MUSE,
    "step": STEP, "functools": FUNCTOOLS, "intern": INTERN,
}  # fmt: skip
EXACT = {
    "function_xml": "<tool_call>\n<function=f>\n<parameter=box>\n[0, 0.50]\n</parameter>\n<parameter=text>\na sign\n</parameter>\n"
    "<parameter=on>\ntrue\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>f\n<arg_key>box</arg_key>\n<arg_value>[0, 0.50]</arg_value>\n<arg_key>text</arg_key>\n<arg_value>a sign</arg_value>\n"
    "<arg_key>on</arg_key>\n<arg_value>true</arg_value>\n</tool_call>",
    "glm_compact": "<tool_call>f<arg_key>box</arg_key><arg_value>[0, 0.50]</arg_value><arg_key>text</arg_key><arg_value>a sign</arg_value>"
    "<arg_key>on</arg_key><arg_value>true</arg_value></tool_call>",
    "gemma": '<|tool_call>call:f{box:[0,0.5],on:true,text:<|"|>a sign<|"|>}<tool_call|>',
    "mistral": '[TOOL_CALLS]f[ARGS]{"box": [0, 0.50], "text": "a sign", "on": true}',
    "mistral_list": '[TOOL_CALLS] [{"name": "f", "arguments": {"box": [0, 0.50], "text": "a sign", "on": true}}]',
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
    '{"box": [0, 0.50], "text": "a sign", "on": true}<|tool_call_end|><|tool_calls_section_end|>',
    "lfm": "<|tool_call_start|>[f(box=[0, 0.50], text='a sign', on=True)]<|tool_call_end|>",
    "python_lines": "[f(box=[0, 0.50], text='a sign', on=True)]",
    "minimax": ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="f">\n]<]minimax[>[<box>[0, 0.50]]<]minimax[>[</box>\n'
    "]<]minimax[>[<text>a sign]<]minimax[>[</text>\n]<]minimax[>[<on>true]<]minimax[>[</on>\n]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
    "muse": '<atem:function_calls>\n<atem:invoke name="f">\n<atem:parameter name="box">[0, 0.50]</atem:parameter>\n'
    '<atem:parameter name="text">a sign</atem:parameter>\n<atem:parameter name="on">true</atem:parameter>\n</atem:invoke>\n</atem:function_calls>',
    "step": '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="f"><steptml:parameter name="box">[0, 0.50]'
    '</steptml:parameter><steptml:parameter name="text">a sign</steptml:parameter><steptml:parameter name="on">true</steptml:parameter>'
    "</steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>",
    "functools": 'functools[{"name": "f", "arguments": {"box": [0, 0.50], "text": "a sign", "on": true}}]',
    "intern": '<|action_start|><|plugin|>{"name": "f", "parameters": {"box": [0, 0.50], "text": "a sign", "on": true}}<|action_end|>',
}  # fmt: skip
CALL = WrittenCall("f", {"box": [0, 0.5], "text": "a sign", "on": True}, ("box",))

every = pytest.mark.parametrize("name", SYNTAXES)


def parsed(name: str, text: str, max_calls: int = 1):
    parser = SYNTAXES[name].parser(max_calls)
    parser.feed(text)
    return parser.finish()


def values(call: WrittenCall) -> dict:
    """Return the arguments, with the texts of XML read as JSON."""
    if not call.is_text:
        return call.arguments
    return {key: one if key == "text" else json.loads(one) for key, one in call.arguments.items()}


@every
def test_a_call_is_written_exactly_and_parsed_back(name):
    assert SYNTAXES[name].encode([CALL]) == EXACT[name]
    raw = parsed(name, f"I look.\n{EXACT[name]}\n")
    assert raw.problem == ""
    words, call = raw.parts
    assert (words, call.name, values(call)) == ("I look.\n", "f", CALL.arguments)


@every
def test_several_calls_are_parsed_in_order_up_to_the_limit(name):
    text = SYNTAXES[name].encode([CALL, CALL._replace(name="g")])
    assert [one.name for one in parsed(name, text, 2).parts if not isinstance(one, str)] == [
        "f",
        "g",
    ]
    assert "2 calls in one turn" in parsed(name, text).problem


@every
def test_a_call_without_arguments_is_parsed_back(name):
    text = SYNTAXES[name].encode([WrittenCall("f", {})])
    (call,) = [one for one in parsed(name, text).parts if not isinstance(one, str)]
    assert (call.name, call.arguments) == ("f", {})


plain_text = st.text(
    st.characters(codec="utf-8", exclude_characters="<>[]｜|\r", exclude_categories=("Cs", "Cc")),
    max_size=12,
)


@every
@given(
    text=plain_text,
    number=st.integers(-(10**6), 10**6),
    items=st.lists(st.integers(0, 999), max_size=4),
)
def test_any_text_and_any_numbers_are_parsed_back(name, text, number, items):
    call = WrittenCall("f", {"text": text, "number": number, "items": items}, ())
    (back,) = [
        one for one in parsed(name, SYNTAXES[name].encode([call])).parts if not isinstance(one, str)
    ]
    assert values(back) == call.arguments


RESERVED = {
    "function_xml": "a</parameter>", "glm": "a</arg_value>", "gemma": 'a<|"|>', "mistral": "[TOOL_CALLS]", "kimi": "<|tool_call_end|>",
    "lfm": "<|tool_call_end|>", "minimax": "]<]minimax[>[", "muse": "</atem:invoke>", "step": "</steptml:invoke>",
    "functools": "functools[", "intern": "<|action_end|>", "python_lines": "<|python_end|>",
}  # fmt: skip


@pytest.mark.parametrize("name", RESERVED)
def test_a_text_that_contains_a_mark_of_the_syntax_cannot_be_written(name):
    call = WrittenCall("f", {"text": RESERVED[name]})
    with pytest.raises(UsageError, match="can express, which has no escapes") as error:
        SYNTAXES[name].encode([call])
    assert "\n" not in str(error.value)


@every
@pytest.mark.parametrize("damage", ["text after", "cut off"])
def test_a_strict_parse_rejects_a_damaged_call_and_shows_the_form(name, damage):
    text = EXACT[name]
    text = f"{text} It shows a car." if damage == "text after" else text[: text.index("sign")]
    raw = parsed(name, text)
    assert raw.num_calls == 1
    assert "write " in raw.problem


@pytest.mark.parametrize("name", ["function_xml", "muse", "step"])
def test_an_argument_that_is_not_read_rejects_the_call(name):
    text = re.sub("parameter(.{1,7})box", "parameter\\1the box", EXACT[name], count=1)
    assert "text between the arguments" in parsed(name, text).problem


@pytest.mark.parametrize("dialect", distinct_dialects().values(), ids=distinct_dialects())
def test_a_call_in_json_is_a_neighbour_syntax_elsewhere(dialect: Dialect):
    shown = [Picture(number=1, medium=0, source_px=(640, 480), seen_px=(640, 480))]
    frames = ToolCall(name="select_frames", arguments={"target_frames": [1, 3]})
    text = (
        '<tool_call>{"name": "select_frames", "arguments": {"target_frames": [1, 3]}}</tool_call>'
    )
    turn = dialect.parse(text, shown, strict=False)
    assert turn.executable_calls == [frames]
    is_own = dialect.syntax.open == "<tool_call>" and dialect.syntax.shape.startswith("{")
    assert [one.kind for one in turn.repairs] == ([] if is_own else [RepairKind.NEIGHBOUR_SYNTAX])


@pytest.mark.parametrize("name", ["qwen3_5", "glm4v", "muse", "minimax_m3", "step3"])
def test_values_of_xml_have_the_types_of_the_schema_in_a_strict_parse(name):
    dialect = get_dialect(name)
    shown = [Picture(number=1, medium=0, source_px=(640, 480), seen_px=(640, 480))]
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.25, 0, 0.5, 1], "target_image": 1})
    text = dialect.write_turn("I look.", call, shown)
    assert dialect.parse(text, shown).executable_calls == [call]
    loose = text.replace("[250, 0, 500, 1000]", "250 0 500 1000").replace(
        "[0.25, 0, 0.50, 1]", "0.25 0 0.5 1"
    )
    assert loose != text
    strict = dialect.parse(loose, shown)
    assert isinstance(strict.calls[0].arguments["bbox_2d"], str)  # the operation rejects it
    (repair,) = dialect.parse(loose, shown, strict=False).repairs
    assert (repair.kind, repair.argument) == (RepairKind.BOX_AS_STRING, "bbox_2d")


def test_an_open_thought_ends_at_its_mark_and_calls_inside_do_not_count():
    dialect = get_dialect("kimi_k25")
    call = dialect.write_call(ToolCall(name="select_frames", arguments={"target_frames": [1]}))
    assert dialect.parse(f"Perhaps {call}</think>\\boxed{{7}}").answer == "7"
    assert dialect.parse(f"Perhaps {call}", strict=False).executable_calls
    alone = dialect.parse(f"Perhaps {call}</think>", strict=False)
    assert [one.kind for one in alone.errors] == [CallErrorKind.THOUGHT_ONLY]


def test_channels_of_muse_are_no_words():
    dialect = get_dialect("muse")
    turn = dialect.parse(
        " to=self<|message|>Small.<|eom|><|start|>assistant to=user<|message|>It is \\boxed{7}"
    )
    assert [getattr(one, "thought", None) or one.text for one in turn.parts] == [
        "Small.",
        "It is \\boxed{7}",
    ]
    assert turn.answer == "7"
