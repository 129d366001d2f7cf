"""Pass fuzzed replies through the distinct parsers of all dialects, answer extraction, grading, and the arguments of operations.

    python -m attacks.replies --count 1000000 --seed 0

A reply is parsed as a whole and in random pieces, and the results must be equal and valid JSON. Failures: any exception, and more than
50 ms in one function for a hostile reply of 32 KB. Prints one line.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

from pixel_reasoner.dialects import DIALECTS, Dialect
from pixel_reasoner.dialects.conformance import distinct_dialects
from pixel_reasoner.operations.base import CallRejected
from pixel_reasoner.operations.registry import default_operations, describe_call
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import Picture
from pixel_reasoner.scoring.extraction import extract
from pixel_reasoner.scoring.grading import Scorer, grade

LONG_CHARS = 32 * 1024
MAX_SECONDS = 0.05
PICTURES = tuple(
    Picture(
        number=n, medium=0, source_px=(640, 480), seen_px=(640, 480), parent=None if n == 1 else 1
    )
    for n in (1, 2)
)
OPTIONS = (
    {"A": "red", "B": "blue", "C": "dark blue"},
    {"a-": "a^b", "]": "(((", "\\": "***", "[^": "C++"},
    {"A": "红色", "B": "No", "C": "\\frac{1}{2}", "D": ""},
)
QUESTIONS = tuple(
    Question(id="1", text="How many dogs? 多少人？", media=(), answer=("7",), answer_type=kind)
    for kind in AnswerType
    if kind is not AnswerType.CHOICE
) + tuple(
    Question(
        id="1",
        text="Which colour?",
        media=(),
        answer=(next(iter(options)),),
        answer_type=AnswerType.CHOICE,
        options=options,
    )
    for options in OPTIONS
)

# fmt: off
TAGS = [
    "<think>", "</think>", "<answer>", "</answer>", "<AnSwEr>", "<tool_call>", "</tool_call>", "<grounding>",
    "</grounding>", "[TOOL_CALLS]", "\\boxed{", "\\boxed {", "\\fbox{", "\x08oxed{", "}", "<think", "</", "<tool_cal",
]
NEIGHBOURS = [
    "<function=zoom_in>", "<function=image_zoom_in_tool>\n", "</function>", "<parameter=bbox_2d>\n", "</parameter>", "<parameter=img_idx>",
    "<arg_key>bbox_2d</arg_key>", "<arg_value>[0, 0, 1, 1]</arg_value>", "<arg_key>", "<invoke name=\"zoom_in\">", "</invoke>",
    "<parameter name=\"bbox_2d\">", "<|tool_call>call:zoom_in{", "<tool_call|>", "<|\"|>", "bbox_2d:[0,0,1,1]", "}", "[TOOL_CALLS]zoom_in[ARGS]",
    "<|tool_call_start|>[", "<|tool_call_end|>", "zoom_in(bbox_2d=[0, 0, 1, 1])", "[zoom_in(", ")", ")]", "functools[", "```", "```json\n", "\n```",
    "functions.zoom_in:0<|tool_call_argument_begin|>", "<|tool_call_begin|>", "{'name': 'zoom_in', 'arguments': {'bbox_2d': (0, 0, 1, 1),}}",
    '{"name": "zoom_in", "arguments": "{\\"bbox\\": [[0, 0, 1, 1]]}"}', "“name”: “zoom_in”", "{“name”: “zoom_in”}", "'", "None", "`", ",}", ",]",
    "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "]<]minimax[>[<tool_call>\n", "]<]minimax[>[</tool_call>", "]<]minimax[>[<bbox_2d>",
    "]<]minimax[>[</bbox_2d>", "]<]minimax[>[<invoke name=\"zoom_in\">\n", "]<]minimax[>[</invoke>\n", "<atem:function_calls>\n", "</atem:function_calls>",
    "<atem:invoke name=\"zoom_in\">\n", "</atem:invoke>\n", "<atem:parameter name=\"bbox_2d\">", "</atem:parameter>\n", "<｜tool_calls_begin｜>",
    "<｜tool_call_begin｜>function<｜tool_sep｜>", "<steptml:invoke name=\"zoom_in\">", "</steptml:invoke>", "<｜tool_call_end｜>", "<｜tool_calls_end｜>",
    "<|action_start|><|plugin|>", "<|action_end|>", "functools[{\"name\": \"zoom_in\", \"arguments\": {}}]", "<|channel>thought\n", "<channel|>", "[THINK]",
    "[/THINK]", " to=self<|message|>", "<|eom|>", "<|start|>assistant to=user<|message|>", "◁think▷", "◁/think▷", "<|python_start|>", "<|python_end|>",
    "box_2d:[0,0,500,500]", "<parameter=label>\n5\n</parameter>\n", "<arg_key>img_idx</arg_key>\n<arg_value>0</arg_value>\n", "\n[zoom_in(",
    '{"bbox_2d": "0 0 1 1"}', '{"bbox_2d": [[0, 0], [1, 1]]}', '{"name": "zoom_in", "parameters": {"box": [0, 0, 500, 500]}}', "\n", "\n",
]
NUMBERS = [
    "0", "7", "-3", "1,250", "1 250", "3,5", "1/4", "1/0", "1½", "10⁸", "\\frac12", "\\frac{1}{", "3 \\times 10^8", "1e999",
    "9" * 400, "1.2k", "$5M", "NaN", "-Infinity", "seven", "twenty-one", "七", "四五", "二万", "sieben", "null", "0.5", "1e9999",
]
WORDS = [
    "The answer is ", "Answer: ", "**Answer:** ", "答案是", "La respuesta es ", "Die Antwort ist ", "answer", "A", "(B)", "C.", "option ",
    "red", "dark blue", "not ", "no dogs", "没有人", " or ", ", ", ". ", "。", "\n", "| ", "**", "$", "\\", "\\text{", "^{", '"', "'", "`",
    " because ", " so ", "in total ", "says ", ":", "=", "a-", "[^", "]", "(((", "C++", "\u0301", "ﷺ", "\ud800", "\x00", "\u202e", " ",
]
VALUES = [
    "[0, 0, 1, 1]", "[0.1, 0.2, 0.5]", "[0, 0, 1e999, 1]", f"[0, 0, 1, {'9' * 400}]", "[NaN, 0, 1, 1]", "[[0, 0], [1, 1]]", "[true, 0, 1, 1]",
    '"original_image"', '"observation_9"', "1", "2", "-1", "1.5", "1e400", "null", "true", "{}", "[]", '"\\ud800"', "[" * 60 + "]" * 60,
    '["1"]', "[1, 2]", "[1, 1]", "[0, 0, 1200, 1]", "[640, 480, 0, 0]",
]
NAMES = ["zoom_in", "select_frames", "image_zoom_in_tool", "crop_image_normalized", "", "rm", "\\ud800"]
ARGUMENTS = ["bbox_2d", "target_image", "target_frames", "img_idx", "label", "source", "operation", "x", "__class__"]
GOOD_CALLS = [
    '<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 1, 1], "target_image": 1}}</tool_call>',
    '<tool_call>{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [0, 0, 99, 99], "label": "", "img_idx": 0}}</tool_call>',
    '<grounding>{"bbox_2d": [0, 0, 0.5, 1.0], "source": "original_image"}</grounding>',
    '<tool_call>{"name": "select_frames", "arguments": {"target_frames": [1, 2]}}</tool_call>',
    "<tool_call>\n<function=zoom_in>\n<parameter=bbox_2d>\n[0, 0, 500, 500]\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>zoom_in\n<arg_key>bbox_2d</arg_key>\n<arg_value>[0, 0, 500, 500]</arg_value>\n</tool_call>",
    '<|tool_call>call:zoom_in{box_2d:[0,0,500,500],target_image:1}<tool_call|>', '[TOOL_CALLS]zoom_in[ARGS]{"bbox_2d": [0, 0, 1, 1]}',
    '<|tool_calls_section_begin|><|tool_call_begin|>functions.zoom_in:0<|tool_call_argument_begin|>{"bbox_2d": [0, 0, 1, 1]}<|tool_call_end|>'
    "<|tool_calls_section_end|>", "<|tool_call_start|>[zoom_in(bbox_2d=[0, 0, 1, 1], target_image=1)]<|tool_call_end|>", "\n[zoom_in(bbox_2d=[0, 0, 1, 1])]",
    ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="zoom_in">\n]<]minimax[>[<bbox_2d>[0, 0, 1, 1]]<]minimax[>[</bbox_2d>\n]<]minimax[>[</invoke>\n'
    "]<]minimax[>[</tool_call>", '<atem:function_calls>\n<atem:invoke name="zoom_in">\n<atem:parameter name="bbox_2d">[0, 0, 1, 1]</atem:parameter>\n'
    "</atem:invoke>\n</atem:function_calls>", 'functools[{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 1, 1]}}]',
    '<|action_start|><|plugin|>{"name": "zoom_in", "parameters": {"bbox_2d": [0, 0, 500, 500]}}<|action_end|>',
]
FORMS = [
    '<tool_call>\n{{"name": "{name}", "arguments": {{{arguments}}}}}\n</tool_call>',
    '<tool_call>{{"name": "{name}", "arguments": "{{}}"}}</tool_call>',
    "<grounding>{{{arguments}}}</grounding>",
    '<tool_call>{{"arguments": {{{arguments}}}, "name": ["{name}"]}}</tool_call>',
    "<tool_call>{arguments}</tool_call>",
]
ANSWERS = ["\\boxed{{{}}}", "<answer>{}</answer>", "The answer is {}.", "**Answer:** {}\n", "答案是{}。", '{{"answer": "{}"}}', "{}."]
HOSTILE = [
    "\\boxed{", "<AnSwEr>", "<answer>", "</answer>", "<answer></answer>", "<think>", "</think>", "<think></think>", "<tool_call>", "</tool_call>",
    "<tool_call>{", "<grounding>", "<grounding>[", "{", "[", "(", "[]", "{}", '{"a":', "}", "9", "9 ", "1,111", "111,", "1/", "1/1 ", "1.", ".1",
    " ", "\n", "\t", "\u3000", "a. ", "A ", "(A)", "A, ", "A or ", "*", "**A", "|", "| A ", "-", "--", "$", "$1$", "\\frac", "\\frac{", "\\frac11",
    "\\text{", "\\text{a}", "^{", "^{1}", "{,}", "answer", "answer is ", "Answer:\n", "answer to ", '"answer":"', '"answer":"\\', "=", "x=", "no ",
    "no a ", "not ", "not any", "n't ", " so ", " total ", "one ", "twenty-", "四", "四个", "没有", "答案是", "选", "选A", "。", 'is "', "says **a",
    *NEIGHBOURS, '"', "\\", '\\"', "because ", ", because", "，因为", "3×10^", "3e9", "½", "²", "1²", "ﷺ", "\u0301", "None ", "ningun", "a-", "İ", "red ", "red or ",
    "x ^ ", "x + ", "C++ ", "el la ", "respuesta a ", "option ", "A选项", "\\boxed a", "\x08oxed{", "<", "<t", "<a", "\ud800", "NaN,", "1e", "0x",
]
AROUND = [
    ("", ""), ("The answer is ", ""), ("\\boxed{", "}"), ("<answer>", "</answer>"), ("x\n", ""), ("There are ", "."), ('{"answer": "', '"}'),
    ('<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": ', "}}</tool_call>"), ('<grounding>{"bbox_2d": "', '"}</grounding>'),
    ("<think>", "</think>7"), ('It says "', '"'), ("A", "A"), ("1", "1"),
]
# fmt: on


class Failure(NamedTuple):
    """One failed check."""

    kind: str
    """name of the exception, `pieces` or `slow`"""
    what: str


def fuzzed_reply(rng: random.Random) -> str:
    """Return a random reply of fragments, calls and characters."""
    pieces = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.random()
        if kind < 0.15:
            pieces.append(_call(rng))
        elif kind < 0.3:
            pieces.append(rng.choice(ANSWERS).format(rng.choice(rng.choice((NUMBERS, WORDS)))))
        elif kind < 0.5:
            pieces.append(rng.choice(NEIGHBOURS))
        elif kind < 0.9:
            pieces.append(rng.choice(rng.choice((TAGS, NUMBERS, WORDS, VALUES))))
        else:
            pieces.append("".join(chr(rng.randrange(1, 0x2FF)) for _ in range(rng.randint(1, 5))))
    text = "".join(pieces)
    if text and rng.random() < 0.3:  # delete a character, or truncate
        place = rng.randrange(len(text))
        text = text[:place] + (text[place + 1 :] if rng.random() < 0.5 else "")
    return text


def _call(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(GOOD_CALLS)
    arguments = ", ".join(
        f'"{rng.choice(ARGUMENTS)}": {rng.choice(VALUES)}' for _ in range(rng.randint(0, 3))
    )
    return rng.choice(FORMS).format(name=rng.choice(NAMES), arguments=arguments)


def hostile_replies(rng: random.Random, share: float = 1.0) -> Iterator[str]:
    """Yield replies of 32 KB that repeat one fragment, alone or inside an answer or a call."""
    for unit in HOSTILE:
        for before, after in AROUND:
            if rng.random() < share:
                room = LONG_CHARS - len(before) - len(after)
                yield before + (unit * (room // len(unit) + 1))[:room] + after


Step = tuple[str, Callable[[], object]]
"""name of a function that reads a reply, and its call"""


def all_steps(text: str, rng: random.Random) -> list[Step]:
    """Return all functions that process a reply: parsers of all dialects, extraction and grading of all types."""
    parsers = [step for dialect in _dialects() for step in _parse_steps(text, rng, dialect)]
    return parsers + [step for question in QUESTIONS for step in _grade_steps(text, question)]


def sampled_steps(text: str, rng: random.Random) -> list[Step]:
    """Return the functions for a random dialect and a random question."""
    parsers = _parse_steps(text, rng, rng.choice(_dialects()))
    return parsers + _grade_steps(text, rng.choice(QUESTIONS))


@cache
def _dialects() -> list[Dialect]:
    """Return one dialect for each distinct parser and grid: the others differ only in prompts and names."""
    return list(distinct_dialects().values())


def _parse_steps(text: str, rng: random.Random, dialect: Dialect) -> list[Step]:
    return [
        (f"parse {dialect.name}", lambda: _parse(dialect, text)),
        (f"repair {dialect.name}", lambda: _parse(dialect, text, strict=False)),
        (f"stream {dialect.name}", lambda: _stream(dialect, text, rng)),
    ]


def _grade_steps(text: str, question: Question) -> list[Step]:
    kind = question.answer_type
    scorers = Scorer.TYPED, Scorer.HARNESS
    return [
        (f"extract {kind}", lambda: extract(text, question)),
        *((f"grade {kind} {scorer}", partial(grade, text, question, scorer)) for scorer in scorers),
    ]


class StreamMismatch(AssertionError):
    """A streamed reply has another parse result than the whole reply."""


def _parse(dialect: Dialect, text: str, *, strict: bool = True) -> None:
    """Parse a reply, check and describe its calls, and serialize the result."""
    turn = dialect.parse(text, PICTURES, strict=strict)
    turn.model_dump_json().encode()
    for call in turn.calls:
        describe_call(call)
        spec = default_operations().get(call.name)
        if spec is not None:
            with contextlib.suppress(CallRejected):
                spec.check_arguments(call.arguments)


def _stream(dialect: Dialect, text: str, rng: random.Random) -> None:
    """Parse a reply in random pieces, and compare."""
    parser = dialect.parser(PICTURES)
    position, longest = 0, max(8, len(text) // 20)
    while position < len(text):
        size = rng.randint(1, longest)
        parser.feed(text[position : position + size])
        position += size
    # Compare as text: nan is not equal to itself.
    strict = rng.random() < 0.5
    whole = dialect.parse(text, PICTURES, strict=strict)
    if parser.finish(strict=strict).model_dump_json() != whole.model_dump_json():
        raise StreamMismatch(dialect.name)


class Slowest(NamedTuple):
    """Seconds of the slowest function, and its name."""

    seconds: float = 0.0
    name: str = ""


def check(
    steps: list[Step], text: str, limit_s: float | None = None
) -> tuple[list[Failure], Slowest]:
    """Return the failures on a reply, and the slowest function."""
    failures, slowest = [], Slowest()
    for name, run in steps:
        try:
            # CPU time would be right, but reading it takes longer than most of these functions.
            seconds = _elapsed(run, time.perf_counter)
            if limit_s is not None and seconds > limit_s:
                seconds = min(_elapsed(run, time.process_time) for _ in range(2))
                if seconds > limit_s:
                    what = f"{name}: {1000 * seconds:.0f} ms: {text[:80]!r}"
                    failures.append(Failure("slow", what))
        except Exception as error:
            what = f"{name}: {error!s:.60}: {text[:80]!r}"
            failures.append(Failure(type(error).__name__, what))
            continue
        slowest = max(slowest, Slowest(seconds, name))
    return failures, slowest


def _elapsed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def attack(
    count: int, seed: int, hostile_share: float = 1.0, *, sampled: bool = False
) -> tuple[str, list[Failure]]:
    """Return one line of results, and the failures.

    Args:
        count: number of fuzzed replies.
        seed: random seed of the replies and their pieces.
        hostile_share: share of the hostile replies of 32 KB that is used.
        sampled: whether a fuzzed reply goes through one dialect and one question instead of all.
    """
    logging.disable(logging.ERROR)
    rng = random.Random(seed)
    failures: list[Failure] = []
    steps_of = sampled_steps if sampled else all_steps
    for _ in range(count):
        text = fuzzed_reply(rng)
        failures += check(steps_of(text, rng), text)[0]
    slowest, where, num_hostile = Slowest(), "", 0
    for text in hostile_replies(rng, hostile_share):
        found, one = check(all_steps(text, rng), text, MAX_SECONDS)
        failures += found
        num_hostile += 1
        if one > slowest:
            slowest, where = one, text[:30]
    logging.disable(logging.NOTSET)
    kinds = dict(Counter(one.kind for one in failures))
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return (
        f"replies: {count} fuzzed, {num_hostile} hostile of 32 KB, {len(_dialects())} of {len(DIALECTS)} dialects; "
        f"{len(failures)} failed "
        f"{kinds}; slowest of 32 KB {1000 * slowest.seconds:.0f} ms ({slowest.name}: {where!r}); {memory_mb} MB"
    ), failures


def main() -> int:
    """Run the attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="number of fuzzed replies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hostile-share", type=float, default=1.0, help="share of the hostile replies that is used"
    )
    parser.add_argument(
        "--sampled", action="store_true", help="use one random dialect and question per reply"
    )
    parser.add_argument("--show", type=int, default=0, help="number of failures to print")
    given = parser.parse_args()
    line, failures = attack(given.count, given.seed, given.hostile_share, sampled=given.sampled)
    for failure in failures[: given.show]:
        print(f"{failure.kind}: {failure.what}")
    print(line)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
