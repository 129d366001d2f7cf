"""Malformed calls of models, and their expected treatment, decided before the parser was written.

The classes are the defects that users of vLLM, SGLang, llama.cpp, Ollama and other projects reported. A treatment is

    repaired    one meaning is certain: the call is executed, and the repairs are counted by kind
    error       the meaning is uncertain: the model receives a tool error whose text contains the fix
    valid       the turn needs no repair: it contains a call, or only words

Boxes of `qwen3_vl` are thousandths and its pictures are numbered from 0; boxes of `compact` and `mini_o3` are fractions;
boxes of `deepeyes` are pixels of a copy of 644 x 476.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# --- kinds of repairs, as written in traces ---

CLAMPED = "clamped_box"
ARGS_STRING = "arguments_as_string"
BOX_STRING = "box_as_string"
NESTED = "nested_box"
TYPE = "value_type"
MISSING = "missing_argument"
NAME = "argument_name"
FENCE = "code_fence"
END_TAG = "end_tag"
PYTHON = "python_literal"
COMMA = "trailing_comma"
QUOTES = "typographic_quotes"
SEVERAL = "several_calls"
NEIGHBOUR = "neighbour_syntax"
AFTER = "text_after_call"
UNCLOSED = "unclosed_thought"
IN_THOUGHT = "call_in_thought"
QUOTED = "quoted_call"


class Case(NamedTuple):
    """One malformed turn and its treatment."""

    defect: str
    dialect: str
    text: str
    treatment: str
    """repaired, error or valid"""
    kinds: tuple[str, ...] = ()
    """kinds of the repairs"""
    call: tuple[str, dict[str, Any]] | None = None
    """executed call, with names and coordinates of the project; None without one"""
    error: str = ""
    """kind of the error"""
    message: str = ""
    """text that the error message contains"""
    num_pictures: int = 1
    why: str = ""


BOX = [0.25, 0.5, 0.75, 1.0]
ZOOM = ("zoom_in", {"bbox_2d": BOX, "target_image": 1})
ZOOM_2 = ("zoom_in", {"bbox_2d": BOX, "target_image": 2})
NO_PICTURE = ("zoom_in", {"bbox_2d": BOX})
FRAMES = ("select_frames", {"target_frames": [1, 2]})

CASES: list[Case] = []


def repaired(defect, dialect, text, kinds, why, call=ZOOM, pictures=1):
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    CASES.append(
        Case(defect, dialect, text, "repaired", kinds, call, num_pictures=pictures, why=why)
    )


def error(defect, dialect, text, kind, message, why, pictures=1):
    CASES.append(
        Case(
            defect,
            dialect,
            text,
            "error",
            error=kind,
            message=message,
            num_pictures=pictures,
            why=why,
        )
    )


def valid(defect, dialect, text, why, call=None, pictures=1):
    CASES.append(Case(defect, dialect, text, "valid", (), call, num_pictures=pictures, why=why))


def tag(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def hermes(arguments: str, name: str = "image_zoom_in_tool") -> str:
    return tag(f'{{"name": "{name}", "arguments": {arguments}}}')


Q_ARGS = '{"bbox_2d": [250, 500, 750, 1000], "label": "sign", "img_idx": 0}'
Q = hermes(Q_ARGS)
Q_BODY = f'{{"name": "image_zoom_in_tool", "arguments": {Q_ARGS}}}'
C_ARGS = '{"bbox_2d": [0.25, 0.5, 0.75, 1], "target_image": 1}'
C = hermes(C_ARGS, "zoom_in")
C_BODY = f'{{"name": "zoom_in", "arguments": {C_ARGS}}}'
D_ARGS = '{"bbox_2d": [161, 238, 483, 476], "label": "sign"}'
D = hermes(D_ARGS)
G_BODY = '{"bbox_2d": [0.25, 0.5, 0.75, 1.0], "source": "original_image"}'
G = f"<grounding>{G_BODY}</grounding>"
XML_ARGS = (
    "<parameter=bbox_2d>\n[250, 500, 750, 1000]\n</parameter>\n"
    "<parameter=label>\nsign\n</parameter>\n<parameter=img_idx>\n0\n</parameter>\n"
)
XML = f"<function=image_zoom_in_tool>\n{XML_ARGS}</function>"
GLM = (
    "image_zoom_in_tool\n<arg_key>bbox_2d</arg_key>\n<arg_value>[250, 500, 750, 1000]</arg_value>\n"
    "<arg_key>label</arg_key>\n<arg_value>sign</arg_value>\n<arg_key>img_idx</arg_key>\n<arg_value>0</arg_value>"
)
PY = 'image_zoom_in_tool(bbox_2d=[250, 500, 750, 1000], label="sign", img_idx=0)'
INVOKE = (
    '<invoke name="image_zoom_in_tool"><parameter name="bbox_2d">[250, 500, 750, 1000]</parameter>'
    '<parameter name="label">sign</parameter><parameter name="img_idx">0</parameter></invoke>'
)
GEMMA = '<|tool_call>call:image_zoom_in_tool{bbox_2d:[250,500,750,1000],img_idx:0,label:<|"|>sign<|"|>}<tool_call|>'
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.image_zoom_in_tool:0"
    f"<|tool_call_argument_begin|>{Q_ARGS}<|tool_call_end|><|tool_calls_section_end|>"
)

# --- 1: call inside the thought, never outside ---
one = "call inside the thought"
text = "a call inside a closed thought was only considered; the model is asked once to continue"
error(one, "qwen3_vl", f"<think>Small. {Q}</think>", "thought_only", "after the thought", text)
error(one, "qwen3_vl", f"<think>{Q}\n</think>\n\n", "thought_only", "after the thought", text)
error(one, "qwen3_vl", f"Perhaps {Q}</think>", "thought_only", "after the thought", text)
error(one, "mini_o3", f"<think>{G}</think>", "thought_only", "after the thought", text)
error(one, "deepeyes", f"<think>{D}</think>", "thought_only", "after the thought", text)
error(one, "plain", f"<think>{C}</think>\n", "thought_only", "after the thought", text)
error(one, "qwen3_vl", f"<think>{tag(XML)}</think>", "thought_only", "after the thought", text)
error(
    one, "qwen3_vl", "<think>It is red, I think.</think>", "thought_only", "after the thought", text
)
text = "what follows the thought counts"
valid(one, "qwen3_vl", f"<think>{Q} no.</think>It is \\boxed{{red}}", text)
valid(one, "deepeyes", f"<think>{D}</think><answer>red</answer>", text)
valid(one, "qwen3_vl", f"<think>{C}</think>I look. {Q}", text, ZOOM)
text = "a later closed thought is a thought too"
repaired(
    one, "qwen3_vl", f"<think>a</think>Hm. <think>{Q}</think>\\boxed{{red}}", IN_THOUGHT, text, None
)
repaired(one, "qwen3_vl", f"<think>a</think><think>{C}</think>{Q}", IN_THOUGHT, text)
repaired(one, "mini_o3", f"<think>a</think><think>{G}</think>{G}", IN_THOUGHT, text)

# --- 2: thought not closed, call follows ---
one = "thought not closed"
text = "a complete call ends a thought that has no end tag"
repaired(one, "qwen3_vl", f"<think>Small.\n{Q}", UNCLOSED, text)
repaired(one, "mini_o3", f"<think>Small. {G}", UNCLOSED, text)
repaired(one, "deepeyes", f"<think>Small. {D}", UNCLOSED, text, NO_PICTURE)
repaired(one, "plain", f"<think>Small. {C}", UNCLOSED, text)
repaired(one, "qwen3_vl", f"<think>Small. {tag(XML)}", (UNCLOSED, NEIGHBOUR), text)
repaired(one, "qwen3_vl", f"<think>a</think>Hm.<think>b {Q}", UNCLOSED, text)
valid(one, "qwen3_vl", f"Small.\n{Q}", "the prompt may end with <think>: the tag is absent", ZOOM)
error(
    one,
    "qwen3_vl",
    '<think>Small.\n<tool_call>{"name": "image_zoom_in_tool", "arguments": {"bbox',
    "malformed_call",
    "cut off",
    "an incomplete call is no call",
)

# --- 3: XML where JSON is expected, or the reverse ---
one = "neighbour syntax"
text = "the content of the tag decides: { is JSON, <function= is XML, <arg_key> is GLM"
for name in ("qwen3_vl", "deepeyes"):
    where, call = (
        (XML, ZOOM)
        if name == "qwen3_vl"
        else (
            "<function=image_zoom_in_tool>\n<parameter=bbox_2d>[161, 238, 483, 476]</parameter></function>",
            NO_PICTURE,
        )
    )
    repaired(one, name, f"I look.\n{tag(where)}", NEIGHBOUR, text, call)
repaired(one, "qwen3_vl", tag(GLM), NEIGHBOUR, text)
repaired(one, "qwen3_vl", f"<tool_call>{GLM.replace(chr(10), '')}</tool_call>", NEIGHBOUR, text)
repaired(
    one,
    "compact",
    tag(
        "zoom_in\n<arg_key>bbox_2d</arg_key><arg_value>[0.25, 0.5, 0.75, 1]</arg_value>"
        "<arg_key>target_image</arg_key><arg_value>1</arg_value>"
    ),
    NEIGHBOUR,
    text,
)
repaired(one, "qwen3_vl", tag(PY), NEIGHBOUR, text)
repaired(one, "qwen3_vl", tag(INVOKE), NEIGHBOUR, text)
text = "a call of another family whose function is one of ours"
repaired(one, "qwen3_vl", f"I look. [TOOL_CALLS]image_zoom_in_tool[ARGS]{Q_ARGS}", NEIGHBOUR, text)
repaired(
    one,
    "qwen3_vl",
    f'[TOOL_CALLS] [{{"name": "image_zoom_in_tool", "arguments": {Q_ARGS}, "id": "abcdefghi"}}]',
    NEIGHBOUR,
    text,
)
repaired(one, "qwen3_vl", f"I look. {GEMMA}", NEIGHBOUR, text)
repaired(one, "qwen3_vl", f"I look. {KIMI}", NEIGHBOUR, text)
repaired(one, "qwen3_vl", f"<|tool_call_start|>[{PY}]<|tool_call_end|>", NEIGHBOUR, text)
repaired(one, "qwen3_vl", f"[{PY}]", NEIGHBOUR, text)
repaired(one, "qwen3_vl", f"I look.\n[{PY}]", NEIGHBOUR, text)
repaired(
    one,
    "qwen3_vl",
    f'functools[{{"name": "image_zoom_in_tool", "arguments": {Q_ARGS}}}]',
    NEIGHBOUR,
    text,
)
repaired(one, "qwen3_vl", f"I look.\n{INVOKE}", NEIGHBOUR, text)
repaired(
    one, "qwen3_vl", f"]<]minimax[>[<tool_call>{INVOKE}]<]minimax[>[</tool_call>", NEIGHBOUR, text
)
repaired(
    one,
    "qwen3_vl",
    "<atem:function_calls>"
    + INVOKE.replace("<", "<atem:").replace("<atem:/", "</atem:")
    + "</atem:function_calls>",
    NEIGHBOUR,
    text,
)
repaired(
    one,
    "qwen3_vl",
    '<function name="image_zoom_in_tool"><param name="bbox_2d">[250, 500, 750, 1000]</param>'
    '<param name="img_idx">0</param></function>',
    NEIGHBOUR,
    text,
)
repaired(
    one,
    "qwen3_vl",
    f'<|action_start|><|plugin|>{{"name": "image_zoom_in_tool", "parameters": {Q_ARGS}}}<|action_end|>',
    NEIGHBOUR,
    text,
)
repaired(
    one,
    "compact",
    f"I look. {GEMMA.replace('image_zoom_in_tool', 'zoom_in').replace('250,500,750,1000', '0.25,0.5,0.75,1').replace('img_idx:0', 'target_image:1').partition(',label')[0]}}}<tool_call|>",
    NEIGHBOUR,
    text,
)
repaired(one, "compact", "[zoom_in(bbox_2d=[0.25, 0.5, 0.75, 1], target_image=1)]", NEIGHBOUR, text)
repaired(one, "compact", f"[TOOL_CALLS]zoom_in[ARGS]{C_ARGS}", NEIGHBOUR, text)
repaired(
    one,
    "compact",
    f"I look.\n{C_BODY}",
    NEIGHBOUR,
    "the tags are special tokens that a server deleted",
)
repaired(one, "qwen3_vl", Q_BODY, NEIGHBOUR, "the tags are special tokens that a server deleted")
repaired(one, "qwen3_vl", f"<think>Small.</think>\n{Q_BODY}", NEIGHBOUR, "the tags were deleted")
repaired(
    one,
    "mini_o3",
    f"<think>Small.</think>{hermes(G_BODY, 'bbox_2d')}",
    NEIGHBOUR,
    "the named form of the family",
)
repaired(
    one,
    "qwen3_vl",
    tag(f'{{"type": "function", "function": {Q_BODY}}}'),
    NEIGHBOUR,
    "form of OpenAI messages",
)
repaired(
    one,
    "compact",
    tag(f'{{"name": "zoom_in", "parameters": {C_ARGS}}}'),
    NEIGHBOUR,
    "key of Llama 3",
)
repaired(
    one,
    "qwen3_vl",
    tag("<function=select_frames>\n<parameter=target_frames>\n[1, 2]\n</parameter>\n</function>"),
    NEIGHBOUR,
    "frames",
    FRAMES,
)
text = "a function that is not ours is not certainly a call to us"
valid(one, "qwen3_vl", "[TOOL_CALLS]search[ARGS]{}", text)
valid(one, "qwen3_vl", "[search(query='sign')]", text)
valid(one, "compact", '{"name": "search", "arguments": {}}', text)
valid(
    one, "mini_o3", f"The box is {G_BODY}", "a box in words is an answer, not a call without tags"
)
valid(
    one,
    "qwen3_vl",
    f"The options are [TOOL_CALLS]. {Q}",
    "text of another format before a call of the own one",
    ZOOM,
)
error(
    one,
    "qwen3_vl",
    tag("<function=search>\n</function>"),
    "unknown_operation",
    "search",
    "in the own tags, it is a call",
)
error(
    one,
    "qwen3_vl",
    tag("I look at the sign"),
    "malformed_call",
    "write",
    "words in tags are no call",
)
error(
    one,
    "qwen3_vl",
    tag("image_zoom_in_tool(250, 500, 750, 1000)"),
    "malformed_call",
    "write",
    "positional arguments have no names",
)
error(
    one,
    "qwen3_vl",
    tag("__import__('os').system('rm')"),
    "malformed_call",
    "write",
    "code is never executed",
)

# --- 4: function without tool_call ---
one = "function without tags"
text = "one of our functions at a line start"
repaired(one, "qwen3_vl", f"I look.\n{XML}", NEIGHBOUR, text)
repaired(one, "qwen3_vl", f"{XML}\n</tool_call>", NEIGHBOUR, "the end tag alone changes nothing")
repaired(
    one,
    "qwen3_vl",
    f"I look.\n<function=image_zoom_in_tool>\n{XML_ARGS}",
    (NEIGHBOUR, END_TAG),
    "every value has its end tag",
)
repaired(
    one,
    "qwen3_vl",
    f"<tool_call>\n<function=image_zoom_in_tool>\n{XML_ARGS}</tool_call>",
    (NEIGHBOUR, END_TAG),
    "every value has its end tag",
)
valid(
    one, "qwen3_vl", "I look.\n<function=search>\n<parameter=q>a</parameter></function>", "not ours"
)
valid(
    one,
    "qwen3_vl",
    f"One writes {XML.replace(chr(10), '')} for this. \\boxed{{red}}",
    "inside a line it is quoted",
)

# --- 5: missing end tag ---
one = "missing end tag"
text = "the object is balanced"
repaired(one, "qwen3_vl", f"I look. <tool_call>\n{Q_BODY}", END_TAG, text)
repaired(one, "qwen3_vl", f"<tool_call>{Q_BODY}\n", END_TAG, text)
repaired(one, "compact", f"<tool_call>{C_BODY}", END_TAG, text)
repaired(
    one,
    "compact",
    f"<tool_call>{C_BODY}</tool_cal",
    END_TAG,
    "the object is balanced; the tag is cut off",
)
repaired(one, "mini_o3", f"<think>a</think><grounding>{G_BODY}", END_TAG, text)
repaired(one, "deepeyes", f"<think>a</think><tool_call>\n{D[12:-13]}", END_TAG, text, NO_PICTURE)
repaired(
    one,
    "qwen3_vl",
    f"<tool_call>{Q_BODY}<tool_call>{Q_BODY}</tool_call>",
    (END_TAG, SEVERAL),
    "the first of two",
)
repaired(
    one, "qwen3_vl", f"<tool_call>\n{GLM}", (NEIGHBOUR, END_TAG), "every value has its end tag"
)
text = "a bracket is missing: the rest is unknown"
error(one, "qwen3_vl", f"<tool_call>{Q_BODY[:-1]}", "malformed_call", "cut off", text)
error(one, "qwen3_vl", f"<tool_call>{Q_BODY[:-2]}", "malformed_call", "cut off", text)
error(
    one, "mini_o3", f"<think>a</think><grounding>{G_BODY[:-1]}", "malformed_call", "cut off", text
)

# --- 6: truncated arguments ---
one = "truncated arguments"
text = "the rest of a call is never guessed"
for end in (
    '{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [250, 500, 750',
    Q_BODY[:40],
    '{"name": "image_zo',
    "{",
):
    error(one, "qwen3_vl", f"I look. <tool_call>{end}", "malformed_call", "cut off", text)
    error(
        one, "qwen3_vl", f"I look. <tool_call>{end}</tool_call>", "malformed_call", "cut off", text
    )
error(one, "mini_o3", '<grounding>{"bbox_2d": [0.25, 0.5, 0.75', "malformed_call", "cut off", text)
error(
    one,
    "qwen3_vl",
    "<tool_call>\n<function=image_zoom_in_tool>\n<parameter=bbox_2d>\n[250, 500, 7",
    "malformed_call",
    "cut off",
    text,
)
error(
    one,
    "qwen3_vl",
    "<tool_call>\n<function=image_zoom_in_tool>\n<parameter=bbox_2d>\n[250, 500, 750\n</parameter>\n</function>\n</tool_call>",
    "bad_arguments",
    "bbox_2d",
    "three of four numbers, and no end",
)
error(
    one,
    "qwen3_vl",
    "<tool_call>image_zoom_in_tool\n<arg_key>bbox_2d</arg_key>\n<arg_value>[250, 500",
    "malformed_call",
    "cut off",
    text,
)
error(
    one,
    "qwen3_vl",
    "[TOOL_CALLS]image_zoom_in_tool[ARGS]" + Q_ARGS[:20],
    "malformed_call",
    "cut off",
    text,
)
error(
    one,
    "qwen3_vl",
    "<|tool_call>call:image_zoom_in_tool{bbox_2d:[250,500",
    "malformed_call",
    "cut off",
    text,
)
error(
    one,
    "compact",
    hermes('{"bbox_2d": [0.25, 0.5, 0.75], "target_image": 1}', "zoom_in"),
    "bad_box",
    "4 numbers",
    "a box of three numbers",
)

# --- 7: duplicate end tags ---
one = "duplicate end tag"
repaired(
    one,
    "qwen3_vl",
    tag(
        XML.replace(
            "\n</parameter>\n<parameter=label>", "\n</parameter>\n</parameter>\n<parameter=label>"
        )
    ),
    NEIGHBOUR,
    "the second is ignored",
)
valid(one, "qwen3_vl", f"<think>a</think></think>{Q}", "the second is ignored", ZOOM)
repaired(one, "qwen3_vl", f"{Q}</tool_call>", END_TAG, "the second is ignored")
repaired(one, "mini_o3", f"{G}</grounding>", END_TAG, "the second is ignored")
error(
    one,
    "qwen3_vl",
    f"{Q}\n</think>",
    "thought_only",
    "after the thought",
    "text up to the first end tag is a thought, as without a start tag",
)

# --- 8: tags or quotes inside a value ---
one = "tag inside a value"
repaired(
    one,
    "qwen3_vl",
    tag(XML.replace("sign", "the </parameter> tag")),
    NEIGHBOUR,
    "the last end tag before the next parameter counts",
)
repaired(
    one, "qwen3_vl", tag(XML.replace("sign", 'a "red" sign')), NEIGHBOUR, "values are raw text"
)
repaired(
    one,
    "qwen3_vl",
    Q.replace("sign", "the </tool_call> tag"),
    END_TAG,
    "a tag in a JSON string ends no call",
)
repaired(one, "qwen3_vl", tag(GLM.replace("sign", "<b> & 'c'")), NEIGHBOUR, "values are raw text")
valid(one, "qwen3_vl", Q.replace("sign", 'a \\"red\\" sign'), "escaped quotes are JSON", ZOOM)
error(
    one,
    "qwen3_vl",
    Q.replace("sign", 'a "red" sign'),
    "malformed_call",
    "JSON",
    "where the text ends is unknown",
)

# --- 9: arguments as a JSON string ---
one = "arguments as string"
text = "a string that contains an object is that object"
once = Q_ARGS.replace('"', '\\"')
twice = ('"' + once + '"').replace("\\", "\\\\").replace('"', '\\"')
repaired(one, "qwen3_vl", hermes(f'"{once}"'), ARGS_STRING, text)
repaired(one, "qwen3_vl", hermes(f'"{twice}"'), ARGS_STRING, "encoded twice")
repaired(
    one,
    "compact",
    hermes(f'"{C_ARGS.replace(chr(34), chr(92) + chr(34))}"', "zoom_in"),
    ARGS_STRING,
    text,
)
repaired(
    one,
    "qwen3_vl",
    tag(f'"{Q_BODY.replace(chr(34), chr(92) + chr(34))}"'),
    ARGS_STRING,
    "the whole call as a string",
)
repaired(
    one,
    "qwen3_vl",
    hermes("\"{'bbox_2d': [250, 500, 750, 1000], 'img_idx': 0}\""),
    (ARGS_STRING, PYTHON),
    text,
)
error(
    one,
    "qwen3_vl",
    hermes('"the sign"'),
    "malformed_call",
    "not an object",
    "a string without an object",
)
error(
    one,
    "qwen3_vl",
    hermes("[250, 500, 750, 1000]"),
    "malformed_call",
    "not an object",
    "a list has no names",
)
error(
    one,
    "qwen3_vl",
    hermes('"{\\"bbox_2d\\": [250, 500"'),
    "malformed_call",
    "not an object",
    "a truncated object in a string",
)

# --- 10: list or number as a string ---
one = "value as string"
text = "the schema requires four numbers"
for value in (
    "[250, 500, 750, 1000]",
    "250, 500, 750, 1000",
    "250 500 750 1000",
    "(250, 500, 750, 1000)",
    "250,500,750,1000",
):
    repaired(one, "qwen3_vl", hermes(f'{{"bbox_2d": "{value}", "img_idx": 0}}'), BOX_STRING, text)
repaired(
    one,
    "compact",
    hermes('{"bbox_2d": "0.25 0.5 0.75 1", "target_image": 1}', "zoom_in"),
    BOX_STRING,
    text,
)
repaired(
    one,
    "mini_o3",
    G.replace("[0.25, 0.5, 0.75, 1.0]", '"[0.25, 0.5, 0.75, 1.0]"'),
    BOX_STRING,
    text,
)
repaired(
    one, "qwen3_vl", hermes('{"bbox_2d": ["250", "500", "750", "1000"], "img_idx": 0}'), TYPE, text
)
repaired(
    one,
    "qwen3_vl",
    Q.replace('"img_idx": 0', '"img_idx": "0"'),
    TYPE,
    "the schema requires a number",
)
repaired(
    one,
    "compact",
    C.replace('"target_image": 1', '"target_image": "1"'),
    TYPE,
    "the schema requires an integer",
)
repaired(
    one,
    "qwen3_vl",
    hermes('{"target_frames": "[1, 2]"}', "select_frames"),
    TYPE,
    "a list of integers",
    FRAMES,
)
repaired(
    one,
    "qwen3_vl",
    hermes('{"target_frames": "1, 2"}', "select_frames"),
    TYPE,
    "a list of integers",
    FRAMES,
)
repaired(
    one,
    "qwen3_vl",
    hermes('{"target_frames": ["1", "2"]}', "select_frames"),
    TYPE,
    "integers",
    FRAMES,
)
text = "a unit is never guessed"
error(
    one,
    "qwen3_vl",
    hermes('{"bbox_2d": "25%, 50%, 75%, 100%", "img_idx": 0}'),
    "bad_arguments",
    "bbox_2d",
    text,
)
error(
    one,
    "qwen3_vl",
    hermes('{"bbox_2d": ["250px", "500px", "750px", "1000px"], "img_idx": 0}'),
    "bad_arguments",
    "bbox_2d",
    text,
)
error(
    one,
    "qwen3_vl",
    hermes('{"bbox_2d": "upper left", "img_idx": 0}'),
    "bad_arguments",
    "bbox_2d",
    "words are no box",
)
error(
    one,
    "qwen3_vl",
    hermes('{"bbox_2d": "250 500 750", "img_idx": 0}'),
    "bad_arguments",
    "bbox_2d",
    "three numbers",
)
error(
    one,
    "compact",
    hermes('{"bbox_2d": [true, 0, 1, 1], "target_image": 1}', "zoom_in"),
    "bad_arguments",
    "bbox_2d",
    "a boolean is no number of a box",
)
error(
    one,
    "compact",
    C.replace('"target_image": 1', '"target_image": "first"'),
    "bad_arguments",
    "target_image",
    "a word is no number",
)
error(
    one,
    "qwen3_vl",
    hermes('{"target_frames": "the first two"}', "select_frames"),
    "bad_arguments",
    "target_frames",
    "words are no frames",
)
error(
    one,
    "qwen3_vl",
    hermes('{"bbox_2d": "[250, 500, NaN, 1000]", "img_idx": 0}'),
    "bad_arguments",
    "bbox_2d",
    "not a number",
)

# --- 11: Python literals ---
one = "Python literals"
text = "a literal of Python has one value"
repaired(one, "qwen3_vl", Q.replace('"', "'"), PYTHON, text)
repaired(one, "compact", C.replace('"', "'"), PYTHON, text)
repaired(one, "mini_o3", G.replace('"', "'"), PYTHON, text)
repaired(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "(250, 500, 750, 1000)"),
    PYTHON,
    "a tuple is a list",
)
repaired(one, "qwen3_vl", Q.replace('"sign"', "None"), PYTHON, text)
repaired(one, "qwen3_vl", Q.replace('"', "'").replace("sign", 'the "sign"'), PYTHON, text)
valid(
    one, "qwen3_vl", Q.replace("sign", "the driver's sign"), "an apostrophe in a JSON string", ZOOM
)
repaired(
    one,
    "qwen3_vl",
    tag(PY.replace('"sign"', "None")),
    NEIGHBOUR,
    "calls of Python have literals of Python",
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "{250, 500, 750, 1000}"),
    "malformed_call",
    "JSON",
    "a set has no order",
)
error(
    one, "qwen3_vl", Q.replace('"sign"', "b'sign'"), "malformed_call", "JSON", "bytes are no text"
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[250, 500, 250*3, 1000]"),
    "malformed_call",
    "JSON",
    "expressions are not evaluated",
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "np.array([250, 500, 750, 1000])"),
    "malformed_call",
    "JSON",
    "code is never executed",
)

# --- 12: None as text ---
one = "None as text"
valid(one, "qwen3_vl", Q.replace("sign", "None"), "a string stays a string", ZOOM)
error(
    one,
    "compact",
    C.replace('"target_image": 1', '"target_image": "None"'),
    "bad_arguments",
    "target_image",
    "the word None is no number",
    pictures=2,
)

# --- 13: trailing commas ---
one = "trailing comma"
text = "a comma before a closing bracket, outside of strings, has no meaning"
repaired(one, "qwen3_vl", Q.replace("1000]", "1000,]"), COMMA, text)
repaired(one, "qwen3_vl", Q.replace('"img_idx": 0}', '"img_idx": 0,}'), COMMA, text)
repaired(one, "qwen3_vl", Q.replace("}}", "},}"), COMMA, text)
repaired(one, "compact", C.replace("1}}", "1, }\n, }"), COMMA, text)
repaired(one, "mini_o3", G.replace("}", ",}"), COMMA, text)
repaired(
    one,
    "qwen3_vl",
    Q.replace("1000]", "1000,]").replace("sign", "a,] sign"),
    COMMA,
    "the comma in the string stays",
)
error(
    one,
    "qwen3_vl",
    Q.replace("250,", "250,,"),
    "malformed_call",
    "JSON",
    "a value is missing between two commas",
)
error(
    one,
    "qwen3_vl",
    Q.replace(
        '"label": "sign"',
        '"label": {"name": "select_frames", "arguments": {"target_frames": [1]} x}',
    ),
    "malformed_call",
    "JSON",
    "an object inside a rejected one is no call",
)
error(
    one,
    "qwen3_vl",
    Q.replace("250, 500", "250 500"),
    "malformed_call",
    "JSON",
    "a comma is missing: 250500 or two numbers",
)

# --- 14: typographic quotes ---
one = "typographic quotes"


def curled(call: str) -> str:
    parts = call.split('"')
    return parts[0] + "".join("“”"[n % 2] + part for n, part in enumerate(parts[1:]))


curly = curled(Q)
repaired(one, "qwen3_vl", curly, QUOTES, "they delimit every string")
repaired(one, "mini_o3", curled(G), QUOTES, "they delimit every string")
valid(
    one, "qwen3_vl", Q.replace("sign", "the “red” sign"), "inside a JSON string they are text", ZOOM
)
error(
    one,
    "qwen3_vl",
    curly.replace("sign", 'a "red" sign'),
    "malformed_call",
    "JSON",
    "where the text ends is unknown",
)

# --- 15: code fences ---
one = "code fence"
text = "one fence around the call, and nothing after it"
repaired(one, "qwen3_vl", tag(f"```json\n{Q_BODY}\n```"), FENCE, text)
repaired(one, "compact", tag(f"```\n{C_BODY}\n```"), FENCE, text)
repaired(one, "mini_o3", f"<grounding>```json\n{G_BODY}\n```</grounding>", FENCE, text)
repaired(one, "qwen3_vl", f"I look.\n```xml\n{Q}\n```", FENCE, text)
repaired(
    one,
    "qwen3_vl",
    f"```json\n{Q_BODY}\n```",
    (FENCE, NEIGHBOUR),
    "the whole reply is a call of ours",
)
repaired(
    one,
    "compact",
    f"I look.\n```json\n{C_BODY}\n```",
    (FENCE, NEIGHBOUR),
    "the fence ends the turn",
)
repaired(
    one,
    "qwen3_vl",
    f"```python\n{PY}\n```",
    (FENCE, NEIGHBOUR),
    "the whole reply is a call of ours",
)
text = "a call that words quote is not meant to be executed"
valid(
    one, "compact", f"The format is ```json\n{C_BODY}\n``` but I need no call. \\boxed{{red}}", text
)
repaired(one, "qwen3_vl", f"I could write `{Q}` but I see it. \\boxed{{red}}", QUOTED, text, None)
repaired(
    one,
    "qwen3_vl",
    f"For example:\n```\n{Q}\n```\nIt is not needed. \\boxed{{red}}",
    QUOTED,
    text,
    None,
)
valid(one, "qwen3_vl", '```json\n{"colour": "red"}\n```', "JSON that is no call")

# --- 16: two objects in one tag, or a list of calls ---
one = "several objects in a tag"
text = "the first is executed; the model reads that the others were not"
repaired(one, "qwen3_vl", tag(f"{Q_BODY}\n{Q_BODY}"), SEVERAL, text)
repaired(one, "qwen3_vl", tag(f"{Q_BODY}, {Q_BODY}"), SEVERAL, text)
repaired(one, "qwen3_vl", tag(f"[{Q_BODY}, {Q_BODY}]"), (NEIGHBOUR, SEVERAL), text)
repaired(one, "qwen3_vl", tag(f"[{Q_BODY}]"), NEIGHBOUR, "a list of one")
repaired(one, "mini_o3", f"<grounding>{G_BODY} {G_BODY}</grounding>", SEVERAL, text)
error(one, "qwen3_vl", tag("[]"), "malformed_call", "write", "an empty list")

# --- 17: several calls in a turn ---
one = "several calls"
repaired(one, "qwen3_vl", f"{Q}\n{Q}", SEVERAL, text)
repaired(one, "compact", f"I look. {C}\n{C}\n{C}", SEVERAL, text)
repaired(one, "mini_o3", f"{G}\n{G}", SEVERAL, text)
repaired(one, "deepeyes", f"<think>a</think>{D}\n{D}", SEVERAL, text, NO_PICTURE)
repaired(one, "qwen3_vl", f"<tool_call>\n</tool_call>\n{Q}", SEVERAL, "the first valid one")
repaired(one, "qwen3_vl", f"{tag('{')}\n{Q}", SEVERAL, "the first valid one")
repaired(
    one, "qwen3_vl", f"{Q}\n{tag('{')}", SEVERAL, "a broken second call does not lose the first"
)
repaired(one, "qwen3_vl", tag(f"{XML}\n{XML}"), (NEIGHBOUR, SEVERAL), text)
repaired(
    one,
    "qwen3_vl",
    f"[TOOL_CALLS]image_zoom_in_tool[ARGS]{Q_ARGS}[TOOL_CALLS]image_zoom_in_tool[ARGS]{Q_ARGS}",
    (NEIGHBOUR, SEVERAL),
    text,
)
repaired(one, "qwen3_vl", f"[{PY}, {PY}]", (NEIGHBOUR, SEVERAL), text)
repaired(one, "qwen3_vl", f"{GEMMA}{GEMMA}", (NEIGHBOUR, SEVERAL), text)
error(
    one,
    "qwen3_vl",
    "<tool_call></tool_call>\n<tool_call></tool_call>",
    "malformed_call",
    "write",
    "two empty calls",
)

# --- 18: text before or after the call ---
one = "text after the call"
text = "words after a call are words of the turn"
repaired(one, "qwen3_vl", f"{Q} It shows a car.", AFTER, text)
repaired(one, "compact", f"{C}\nNow I wait for the result.", AFTER, text)
repaired(
    one,
    "compact",
    f"{C}\n\\boxed{{red}}",
    AFTER,
    "the call is executed; the answer before its result does not count",
)
repaired(
    one, "mini_o3", f"{G}<answer>red</answer>", AFTER, "the answer before the result does not count"
)
repaired(
    one,
    "qwen3_vl",
    f"{Q}<tool_response>a car</tool_response>{Q}",
    (AFTER, SEVERAL),
    "an invented result is text",
)
valid(
    one, "qwen3_vl", f"I look at the sign first.\n\n{Q}\n\n", "words before and blanks after", ZOOM
)

# --- 19: call without arguments ---
one = "no arguments"
text = "an empty object; the schema says what is missing"
error(
    one,
    "qwen3_vl",
    tag('{"name": "image_zoom_in_tool"}'),
    "bad_arguments",
    "bbox_2d is missing",
    text,
)
error(one, "qwen3_vl", hermes("{}"), "bad_arguments", "bbox_2d is missing", text)
error(one, "qwen3_vl", hermes("null"), "bad_arguments", "bbox_2d is missing", text)
error(one, "qwen3_vl", hermes('""'), "bad_arguments", "bbox_2d is missing", text)
error(
    one,
    "qwen3_vl",
    tag("<function=image_zoom_in_tool>\n</function>"),
    "bad_arguments",
    "bbox_2d is missing",
    text,
)
error(one, "qwen3_vl", tag("image_zoom_in_tool"), "bad_arguments", "bbox_2d is missing", text)
error(one, "qwen3_vl", "[image_zoom_in_tool()]", "bad_arguments", "bbox_2d is missing", text)
error(one, "qwen3_vl", tag("{}"), "malformed_call", "no name", "neither name nor arguments")

# --- 20: Gemma 4 ---
one = "string marks of Gemma 4"
text = "its grammar accepts its marks and quotes of JSON and Python alike"
for arguments in (
    '<|"|>bbox_2d<|"|>:[250,500,750,1000],img_idx:0',
    '"bbox_2d": [250, 500, 750, 1000], "img_idx": 0',
    "'bbox_2d': [250, 500, 750, 1000], 'img_idx': 0",
    'bbox_2d:[250, 500, 750, 1000],img_idx:0,label:"sign"',
    "bbox_2d:[250, 500, 750, 1000],img_idx:0,label:'sign'",
    'bbox_2d:[250,500,750,1000],img_idx:0,label:<|"|>a {b}, c:d<|"|>',
):
    repaired(
        one,
        "qwen3_vl",
        f"<|tool_call>call:image_zoom_in_tool{{{arguments}}}<tool_call|>",
        NEIGHBOUR,
        text,
    )
repaired(
    one,
    "qwen3_vl",
    GEMMA.removesuffix("<tool_call|>"),
    (NEIGHBOUR, END_TAG),
    "the braces are balanced",
)
error(
    one,
    "qwen3_vl",
    "<|tool_call>call:image_zoom_in_tool{bbox_2d:250,500,750,1000}<tool_call|>",
    "malformed_call",
    "write",
    "where the value ends is unknown",
)

# --- 21: required argument left out ---
one = "missing argument"
no_index = hermes('{"bbox_2d": [250, 500, 750, 1000], "label": "sign"}')
repaired(one, "qwen3_vl", no_index, MISSING, "there is one picture")
repaired(
    one,
    "qwen3_vl",
    Q.replace('"img_idx": 0', '"img_idx": null'),
    MISSING,
    "null is no value; there is one picture",
)
repaired(
    one,
    "pixel_reasoner",
    hermes('{"bbox_2d": [0.25, 0.5, 0.75, 1]}', "crop_image_normalized"),
    MISSING,
    "there is one picture",
    ("zoom_in", {"bbox_2d": [0.15, 0.4, 0.85, 1.0], "target_image": 1}),
)
error(
    one,
    "qwen3_vl",
    no_index,
    "bad_arguments",
    "img_idx is missing; there are 2 pictures",
    "which of two is unknown",
    pictures=2,
)
error(
    one,
    "qwen2_5_vl",
    no_index.replace("[250, 500, 750, 1000]", "[161, 238, 483, 476]"),
    "bad_arguments",
    "img_idx is missing; there are 2 pictures",
    "which of two is unknown",
    pictures=2,
)
valid(
    one,
    "compact",
    hermes('{"bbox_2d": [0.25, 0.5, 0.75, 1]}', "zoom_in"),
    "the schema has a default",
    NO_PICTURE,
    pictures=2,
)
valid(
    one,
    "qwen3_vl",
    hermes('{"bbox_2d": [250, 500, 750, 1000], "img_idx": 0}'),
    "the label has no effect",
    ZOOM,
)
valid(
    one,
    "deepeyes",
    hermes('{"bbox_2d": [161, 238, 483, 476]}'),
    "the label is optional",
    NO_PICTURE,
)
error(
    one,
    "qwen3_vl",
    hermes('{"label": "sign", "img_idx": 0}'),
    "bad_arguments",
    "bbox_2d is missing",
    "no box",
)

# --- 22: other names and nesting of boxes ---
one = "other form of a box"
text = "an alias, in the order of the dialect"
for alias in ("bbox", "box", "box_2d"):
    repaired(one, "qwen3_vl", Q.replace("bbox_2d", alias), NAME, text)
repaired(one, "compact", C.replace("bbox_2d", "bbox"), NAME, text)
repaired(one, "mini_o3", G.replace("bbox_2d", "bbox"), NAME, text)
repaired(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[[250, 500, 750, 1000]]"),
    NESTED,
    "one box in a list",
)
repaired(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[[250, 500], [750, 1000]]"),
    NESTED,
    "two corners",
)
repaired(
    one,
    "compact",
    C.replace("[0.25, 0.5, 0.75, 1]", "[[0.25, 0.5, 0.75, 1]]"),
    NESTED,
    "one box in a list",
)
repaired(
    one,
    "mini_o3",
    G.replace("[0.25, 0.5, 0.75, 1.0]", "[[0.25, 0.5], [0.75, 1.0]]"),
    NESTED,
    "two corners",
)
repaired(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", '"[[250, 500, 750, 1000]]"'),
    (BOX_STRING, NESTED),
    "both",
)
repaired(
    one, "qwen3_vl", hermes('{"box": "250 500 750 1000", "img_idx": 0}'), (NAME, BOX_STRING), "both"
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[[0, 0, 9, 9], [250, 500, 750, 1000]]"),
    "bad_arguments",
    "bbox_2d",
    "two boxes: which one is unknown",
)
error(
    one,
    "qwen3_vl",
    hermes('{"bbox": [250, 500, 750, 1000], "box": [0, 0, 500, 500], "img_idx": 0}'),
    "bad_arguments",
    "use label, bbox_2d, img_idx",
    "two names: which one is unknown",
)
error(
    one,
    "qwen3_vl",
    Q.replace("bbox_2d", "region"),
    "bad_arguments",
    "use label, bbox_2d, img_idx",
    "no known alias",
)
error(
    one,
    "qwen3_vl",
    Q.replace("img_idx", "target_image"),
    "bad_arguments",
    "use label, bbox_2d, img_idx",
    "from 0 or from 1 is unknown",
    pictures=2,
)
error(
    one,
    "compact",
    C.replace("target_image", "img_idx"),
    "bad_arguments",
    "use bbox_2d, target_image",
    "from 0 or from 1 is unknown",
    pictures=2,
)

# --- 23: wrong scale or order ---
one = "scale or order"
repaired(one, "qwen3_vl", Q.replace("1000]", "1015]"), CLAMPED, "at most 2 % beyond the border")
repaired(
    one,
    "qwen2_5_vl",
    hermes('{"bbox_2d": [161, 238, 483, 480], "img_idx": 0}'),
    CLAMPED,
    "at most 2 % beyond the border",
)
text = "the message names the grid; neither unit nor corners are guessed"
error(one, "qwen3_vl", Q.replace("1000]", "1500]"), "bad_box", "0 to 1000", text)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[480, 540, 1440, 1080]"),
    "bad_box",
    "0 to 1000",
    text,
)
error(
    one,
    "qwen2_5_vl",
    hermes('{"bbox_2d": [480, 540, 1440, 1080], "img_idx": 0}'),
    "bad_box",
    "pixels of the picture",
    text,
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[750, 500, 250, 1000]"),
    "bad_box",
    "inverted",
    text,
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[250, 1000, 750, 500]"),
    "bad_box",
    "inverted",
    text,
)
error(
    one,
    "compact",
    C.replace("[0.25, 0.5, 0.75, 1]", "[250, 500, 750, 1000]"),
    "bad_box",
    "[0, 1]",
    text,
)
error(
    one,
    "compact",
    C.replace("[0.25, 0.5, 0.75, 1]", "[25, 50, 75, 100]"),
    "bad_box",
    "[0, 1]",
    text,
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[0.25, 0.5, 0.75, 1.0]"),
    "box_too_small",
    "",
    "a fraction in thousandths is a box of less than a pixel",
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[250, 500, 750]"),
    "bad_box",
    "4 numbers",
    "the fourth number is unknown",
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[250, 500, 750, 1000, 9]"),
    "bad_box",
    "4 numbers",
    "five numbers",
)
error(
    one,
    "qwen3_vl",
    Q.replace("[250, 500, 750, 1000]", "[500, 750]"),
    "bad_box",
    "4 numbers",
    "a point is no box",
)
repaired(
    one,
    "deepeyes",
    hermes('{"bbox_2d": [161, 238, 483, 600]}'),
    CLAMPED,
    "the tool of DeepEyes clamps every box",
    NO_PICTURE,
)

# Two more classes are not defects of a text: an error 500 of a server that contains the call, and a server that
# rejects pictures in the result of a tool. They are tested with servers.
