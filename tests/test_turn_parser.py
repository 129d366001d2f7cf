"""Turn parser: the result does not depend on the split of the text, work is bounded, and parts are separate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.dialects import Dialect, ParsedTurn, RepairKind, get_dialect
from pixel_reasoner.dialects.conformance import distinct_dialects
from pixel_reasoner.dialects.syntax.base import (
    MAX_BRACKETS,
    MAX_TURN_CHARS,
    CallSyntaxError,
    StreamParser,
    WrittenCall,
    dump_arguments,
    load_json,
    num_partial_tag_chars,
)
from pixel_reasoner.dialects.syntax.hermes import HERMES
from pixel_reasoner.dialects.syntax.tagged import TaggedParser, TagGrammar
from pixel_reasoner.schema.events import PartKind
from pixel_reasoner.schema.trace import CallErrorKind, Picture, Text, Thought, ToolCall

COMPACT, QWEN3, DEEPEYES = (get_dialect(name) for name in ("compact", "qwen3_vl", "deepeyes"))


@dataclass(frozen=True, kw_only=True)
class SpecialTokenSyntax:
    """Syntax of Mistral models: calls as one JSON list after a special token, until the end of the turn."""

    open: str = "[TOOL_CALLS]"
    close: str = ""
    shape: str = '[{"name": ..., "arguments": {...}}]'
    has_names: bool = True

    @property
    def special_tokens(self) -> frozenset[str]:
        return frozenset({self.open})

    def encode(self, calls: Sequence[WrittenCall], decimals: int = 2) -> str:
        written = (
            f'{{"name": {json.dumps(call.name)}, "arguments": {dump_arguments(call, decimals)}}}'
            for call in calls
        )
        return f"{self.open}[{', '.join(written)}]"

    def parser(self, max_calls: int = 1) -> StreamParser:
        grammar = TagGrammar(self.open, self.close, self._decode, "write the calls last")
        return TaggedParser(grammar, max_calls)

    def _decode(self, body: str) -> list[WrittenCall]:
        try:
            return [WrittenCall(one["name"], one["arguments"]) for one in load_json(body)]
        except (ValueError, TypeError, KeyError) as error:
            raise CallSyntaxError(
                f"the calls are not valid JSON ({error}); write {self.shape}"
            ) from error


SPECIAL = replace(QWEN3, name="special", syntax=SpecialTokenSyntax(), max_calls_per_turn=3)
SEVERAL = replace(QWEN3, name="several", max_calls_per_turn=3)
ALL = {**distinct_dialects(with_grid=False), "special": SPECIAL, "several": SEVERAL}
every = pytest.mark.parametrize("dialect", ALL.values(), ids=ALL)


def pictures(*sizes: tuple[int, int]) -> list[Picture]:
    return [
        Picture(number=n, medium=0, source_px=size, seen_px=size, parent=None if n == 1 else 1)
        for n, size in enumerate(sizes, start=1)
    ]


SHOWN = pictures((640, 480), (320, 320))


def zoom(*box: float, image: int = 1) -> ToolCall:
    return ToolCall(name="zoom_in", arguments={"bbox_2d": list(box), "target_image": image})


def in_pieces(dialect: Dialect, pieces: Sequence[str]) -> ParsedTurn:
    parser = dialect.parser(SHOWN)
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


# --- splits of the text ---

TAGS = ["<tool_call>", "</tool_call>", "<grounding>", "</grounding>", "[TOOL_CALLS]"]
TAGS += ["<think>", "</think>", "<answer>", "</answer>", r"\boxed{", "<|channel>thought\n"]
TAGS += ["<channel|>", "to=self<|message|>", "<|eom|>", "[THINK]", "[/THINK]", "<|python_start|>"]
TAGS += sorted({tag for one in ALL.values() for tag in (one.syntax.open, one.syntax.close) if tag})
BODIES = [
    '{"name": "select_frames", "arguments": {"target_frames": [1]}}',
    '[{"name": "select_frames", "arguments": {"target_frames": [1]}}]',
    '{"target_frames": [1]}',
    '{"bbox_2d": [0, 0, 1, 1]}',
    "{} {}",
    "\n[select_frames(target_frames=[1])]",
    "call:select_frames{target_frames:[1]}",
    "<function=select_frames><parameter=target_frames>[1]</parameter></function>",
    'select_frames[ARGS]{"target_frames": [1]}',
    "select_frames<arg_key>target_frames</arg_key><arg_value>[1]</arg_value>",
]
texts = st.lists(
    st.sampled_from([*TAGS, *BODIES, *(tag[:-1] for tag in TAGS)])
    | st.text(" <>[]{}/a\n", max_size=3),
    max_size=10,
).map("".join)


@every
@given(text=texts, cuts=st.lists(st.integers(0, 300)))
def test_any_split_of_any_text_gives_the_same_result(dialect, text, cuts):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert in_pieces(dialect, pieces) == dialect.parse(text, SHOWN)
    assert in_pieces(dialect, list(text)) == dialect.parse(text, SHOWN)


@given(text=texts)
def test_deltas_of_a_turn_join_to_its_parts(text):
    """Streamed text equals the text of the turn, unless a thought ends without a start tag."""
    parser = COMPACT.parser(SHOWN)
    deltas = [delta for character in text for delta in parser.feed(character)]
    parser.finish()
    before = text.partition("<tool_call>")[0]
    streamed = "".join(delta.text for delta in deltas if delta.kind is PartKind.TEXT)
    assert before.startswith(streamed)
    assert len(before) - len(streamed) < len("</tool_call>")  # the end may be the start of a tag


def test_thoughts_text_and_calls_are_streamed_separately():
    call = QWEN3.write_call(zoom(0, 0, 0.5, 0.5), SHOWN)
    parser = QWEN3.parser(SHOWN)
    deltas = [
        one for character in f"<think>Hm.</think>I look.{call}" for one in parser.feed(character)
    ]
    streamed = {
        kind: "".join(delta.text for delta in deltas if delta.kind is kind) for kind in PartKind
    }
    assert streamed[PartKind.THOUGHT] == "Hm."
    assert streamed[PartKind.TEXT] == "I look."
    assert json.loads(streamed[PartKind.CALL])["name"] == "image_zoom_in_tool"
    parsed = parser.finish()
    assert [type(part) for part in parsed.parts] == [Thought, Text, ToolCall]


# --- bounds ---

ADVERSARIAL = {
    "opening tags": "<tool_call>",
    "closing tags": "</tool_call>",
    "starts of tags": "<tool_call",
    "empty calls": "<tool_call></tool_call>",
    "thoughts that start": "<think>",
    "thoughts that end": "</think>",
    "starts of the ends of thoughts": "</think",
    "one character": "<",
    "brackets": "{[",
    "white space": " ",
}


@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
@pytest.mark.parametrize("prefix", ["", "<tool_call>", "<think>"])
def test_work_is_proportional_to_the_text_however_it_is_split(unit, prefix):
    longest_tag = len("</tool_call>")
    for size in (1, 7, 10**9):
        text = prefix + unit * 2000
        parser = QWEN3.parser(SHOWN)
        for start in range(0, len(text), size):
            parser.feed(text[start : start + size])
        parser.finish()
        # The parser searches thoughts, then calls. It scans the start of a tag again with each piece.
        pieces = -(-len(text) // size)
        assert parser.num_scanned <= 2 * (len(text) + pieces * longest_tag)


@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_ten_megabytes_are_rejected_after_the_limit_and_not_stored(unit):
    text = unit * (10_000_000 // len(unit))
    parser = QWEN3.parser(SHOWN)
    for start in range(0, len(text), 1 << 16):
        parser.feed(text[start : start + (1 << 16)])
    parsed = parser.finish()
    assert parser.num_scanned <= 3 * MAX_TURN_CHARS
    assert parsed.error.kind is CallErrorKind.MALFORMED_CALL
    assert parsed.error.message.startswith(f"the turn is longer than {MAX_TURN_CHARS} characters")
    assert parsed.parts == ()
    assert parsed == QWEN3.parse(text, SHOWN)


@pytest.mark.parametrize("unit", [r"\boxed{", "{", "}", "<answer>", "</answer>"])
def test_the_search_for_an_answer_is_linear(unit):
    def seconds(count: int) -> float:
        best = 9e9
        for _ in range(3):
            started = time.process_time()
            for name in ("qwen3_vl", "deepeyes"):
                get_dialect(name).parse(r"\boxed{" + unit * count)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(80_000) < 12 * seconds(20_000)  # 4 times in theory, 16 for a quadratic search


def test_the_bracket_depth_of_a_call_is_limited():
    def call(depth: int) -> str:
        value = "[" * depth + "]" * depth
        return f'<tool_call>{{"name": "f", "arguments": {{"x": {value}}}}}</tool_call>'

    assert COMPACT.parse(call(MAX_BRACKETS - 2)).errors == ()
    (error,) = COMPACT.parse(call(MAX_BRACKETS - 1)).errors
    assert "too many brackets" in error.message


# --- several calls ---


def test_calls_up_to_the_limit_of_the_dialect_are_parsed_in_order():
    calls = [zoom(0, 0, 0.5, 0.5), zoom(0.5, 0.5, 1, 1, image=2)]
    for dialect in (SEVERAL, SPECIAL):
        text = "I look twice. " + dialect.encode(*(dialect.to_family(one, SHOWN) for one in calls))
        parsed = dialect.parse(text, SHOWN)
        assert parsed.errors == ()
        assert parsed.executable_calls == parsed.calls == calls
        assert parsed.parts[0] == Text(text="I look twice. ")
    assert QWEN3.parse(SEVERAL.encode(*(QWEN3.to_family(one, SHOWN) for one in calls))).errors


def test_a_bad_argument_rejects_its_call_and_no_other():
    text = SEVERAL.encode(
        SEVERAL.to_family(zoom(0, 0, 0.5, 0.5), SHOWN),
        WrittenCall("image_zoom_in_tool", {"bbox_2d": [750, 0, 250, 10], "img_idx": 0}),
        SEVERAL.to_family(zoom(0, 0, 1, 1), SHOWN),
    )
    parsed = SEVERAL.parse(text, SHOWN)
    assert [(one.kind, one.call) for one in parsed.errors] == [(CallErrorKind.BAD_BOX, 1)]
    assert len(parsed.calls) == 3
    assert parsed.executable_calls == [parsed.calls[0], parsed.calls[2]]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{c}{c}{c}{c}", CallErrorKind.SEVERAL_CALLS, "4 calls in one turn; call at most 3"),
        ("{c} and {c}", CallErrorKind.MALFORMED_CALL, "must end the turn"),
        ("<tool_call>{c}", CallErrorKind.MALFORMED_CALL, "must end the turn"),
        ("{c}<tool_call>[</tool_call>", CallErrorKind.MALFORMED_CALL, "not valid JSON"),
    ],
)
def test_one_malformed_call_rejects_the_turn(text, kind, message):
    call = SEVERAL.write_call(zoom(0, 0, 1, 1), SHOWN)
    parsed = SEVERAL.parse(text.replace("{c}", call), SHOWN)
    assert (parsed.error.kind, parsed.error.call) == (kind, None)
    assert message in parsed.error.message
    assert parsed.calls == parsed.executable_calls == []


# --- special tokens ---


def test_a_syntax_made_of_special_tokens_names_them():
    assert "[TOOL_CALLS]" in SPECIAL.special_tokens
    assert SPECIAL.special_tokens >= {"<think>", "</think>"}
    assert COMPACT.special_tokens == {"<tool_call>", "</tool_call>"}
    call = zoom(0.25, 0.5, 0.75, 1, image=2)
    assert SPECIAL.parse(SPECIAL.write_turn("I look.", call, SHOWN), SHOWN).executable_calls == [
        call
    ]
    bad = SPECIAL.parse("I look.[TOOL_CALLS][{]", SHOWN)
    assert "not valid JSON" in bad.error.message


# --- repairs ---


def test_a_clamped_box_is_a_repair_and_a_rejected_one_is_not():
    def parsed(dialect: Dialect, box: list[float]) -> ParsedTurn:
        return dialect.parse(
            HERMES.encode([WrittenCall("image_zoom_in_tool", {"bbox_2d": box})]), SHOWN
        )

    (repair,) = parsed(QWEN3, [0, 0, 1003, 500]).repairs
    assert (repair.kind, repair.call, repair.argument) == (RepairKind.CLAMPED_BOX, 0, "bbox_2d")
    assert parsed(QWEN3, [0, 0, 1000, 500]).repairs == ()
    assert parsed(DEEPEYES, [0, 0, 641, 480]).repairs[0].kind is RepairKind.CLAMPED_BOX
    assert parsed(QWEN3, [1200, 0, 1300, 10]).repairs == ()  # rejected: empty
    assert (
        COMPACT.parse(HERMES.encode([WrittenCall("zoom_in", {"bbox_2d": [0, 0, 2, 1]})])).repairs
        == ()
    )


# --- parts that a backend separated ---

WRITTEN = ToolCall(name="image_zoom_in_tool", arguments={"bbox_2d": [0, 0, 500, 500], "img_idx": 1})


@every
def test_a_call_in_a_thought_never_counts(dialect):
    call = dialect.write_call(zoom(0, 0, 0.5, 0.5), SHOWN)
    answer = dialect.answer_format.write("7")
    parsed = dialect.parse_parts([Thought(thought=f"Perhaps {call}"), Text(text=answer)], SHOWN)
    assert (parsed.answer, parsed.calls, parsed.errors) == ("7", [], ())
    alone = dialect.parse_parts([Thought(thought=f"Perhaps {call}")], SHOWN)
    assert not alone.has_attempted_call


@every
def test_an_answer_in_a_thought_counts_only_without_other_text(dialect):
    thought = Thought(thought=dialect.answer_format.write("7"))
    assert dialect.parse_parts([thought], SHOWN).answer == "7"
    assert dialect.parse_parts([thought, Text(text="\n")], SHOWN).answer == "7"
    assert dialect.parse_parts([thought, Text(text="I am not sure.")], SHOWN).answer is None


def test_separate_calls_are_converted_once():
    parts = [Thought(thought="Small."), Text(text="I look."), WRITTEN]
    parsed = QWEN3.parse_parts(parts, SHOWN)
    call = zoom(0, 0, 0.5, 0.5, image=2)
    assert parsed == ParsedTurn(parts=(*parts[:2], call))
    assert QWEN3.parse_completion("ignored", parts, SHOWN) == parsed
    text = "I look. " + HERMES.encode([WrittenCall(WRITTEN.name, WRITTEN.arguments)])
    assert QWEN3.parse_completion(text, None, SHOWN).executable_calls == [call]
    # A server may separate the reasoning and leave the call in the text.
    in_text = QWEN3.parse_parts([Thought(thought="Small."), Text(text=text)], SHOWN)
    assert in_text == ParsedTurn(parts=(Thought(thought="Small."), Text(text="I look. "), call))


def test_separate_calls_count_toward_the_limit_and_end_the_turn():
    several = QWEN3.parse_parts([WRITTEN, WRITTEN], SHOWN)
    assert (several.error.kind, several.error.call) == (CallErrorKind.SEVERAL_CALLS, None)
    assert several.error.message.startswith("2 calls in one turn")
    assert len(SEVERAL.parse_parts([WRITTEN, WRITTEN], SHOWN).executable_calls) == 2
    after = QWEN3.parse_parts([WRITTEN, Text(text="It shows a car.")], SHOWN)
    assert after.error.kind is CallErrorKind.MALFORMED_CALL
    bad = QWEN3.parse_parts([ToolCall(name=WRITTEN.name, arguments={"box": 1})], SHOWN)
    assert (bad.error.kind, bad.error.call) == (CallErrorKind.BAD_ARGUMENTS, 0)


def test_thoughts_are_kept_verbatim():
    parsed = QWEN3.parse("<think>\n  One,\n two. \n</think>\n\nThree.")
    assert parsed.parts == (Thought(thought="\n  One,\n two. \n"), Text(text="\n\nThree."))
    unopened = QWEN3.parse("One.</think>Two.")  # the template wrote <think>
    assert unopened.parts == (Thought(thought="One."), Text(text="Two."))
    unclosed = QWEN3.parse("<think>One.")
    assert unclosed.parts == (Text(text="<think>One."),)


@given(
    st.text("ab<.\n", max_size=9),
    st.lists(st.text("ab<.", min_size=1, max_size=6), max_size=3),
)
def test_held_characters_are_the_longest_suffix_that_begins_a_tag(text, tags):
    suffixes = (text[start:] for start in range(len(text)))
    begun = (s for s in suffixes if any(tag.startswith(s) and tag != s for tag in tags))
    assert num_partial_tag_chars(text, tags) == len(next(begun, ""))
