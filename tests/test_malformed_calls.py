"""Malformed calls: certain ones are repaired and counted, uncertain ones go back to the model (`malformed_calls`)."""

from __future__ import annotations

import re
import time
from collections import Counter
from functools import cache, partial

import pytest
from PIL import Image

from malformed_calls import CASES, Case
from pixel_reasoner.dialects import DIALECTS, get_dialect
from pixel_reasoner.dialects.template_check import (
    assert_template_keeps_thoughts,
    thought_problem,
)
from pixel_reasoner.errors import ModelError
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.openai_schema import Message
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.metrics import metrics_section
from pixel_reasoner.reports.summary import RunSummary
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.rollout.replay import replay_trace
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.repairs import EXPLANATIONS, NOT_REJECTED_STRICTLY, RepairKind
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets, RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Picture,
    StopReason,
    Text,
    Thought,
    ToolCall,
    Trace,
)

SIZES = {"deepeyes": (644, 476), "qwen2_5_vl": (644, 476)}
ONLY_VIDEO = "select_frames"


class Prompt:
    """Dialect, and budgets that keep the size of the pictures."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        budget = PixelBudget(min_px=1, max_px=1_000_000)
        self.budgets = PixelBudgets(
            picture=budget,
            crop=PixelBudget(min_px=1, max_px=64 * 64),
            frame=budget,
            selected_frame=budget,
            multiple=28 if dialect in SIZES else 32,
        )


@pytest.fixture(scope="module")
def rollout_of(tmp_path_factory):
    """Return a new rollout about one or two pictures."""
    folder = tmp_path_factory.mktemp("pictures")

    @cache
    def opened(dialect: str, num_pictures: int, strict: bool) -> Rollout:
        size = SIZES.get(dialect, (640, 480))
        path = folder / f"{size[0]}.png"
        if not path.exists():
            Image.new("RGB", size).save(path)
        media = (MediaItem(kind="image", path=str(path)),) * num_pictures
        question = Question(id="1", text="?", media=media)
        return Rollout(question, Prompt(dialect), RolloutConfig(strict=strict))

    return lambda *asked: opened(*asked).fork()


def take(rollout: Rollout, text: str):
    rollout.take(Completion(text=text))
    return rollout.turns[-1]


# --- the table ---


def test_the_table_has_all_classes_and_treatments():
    assert len(CASES) >= 150
    assert len({one.defect for one in CASES}) == 23  # two more are defects of servers
    assert set(Counter(one.treatment for one in CASES)) == {"repaired", "error", "valid"}
    used = {kind for one in CASES for kind in one.kinds}
    assert used | {"rejected_by_server"} == {str(kind) for kind in RepairKind}


@pytest.mark.parametrize("case", CASES, ids=lambda one: f"{one.defect}-{one.dialect}")
def test_a_malformed_call_is_treated_as_decided(rollout_of, case: Case):
    rollout = rollout_of(case.dialect, case.num_pictures, False)
    assert rollout.pictures[0].seen_px == SIZES.get(case.dialect, (640, 480))
    turn = take(rollout, case.text)
    executed = [one for one in turn.observations if one.error is None]
    errors = [one for one in turn.observations if one.error is not None]
    if case.treatment == "error":
        assert (executed, turn.repairs) == ([], ())
        assert errors[0].error == case.error
        assert case.message in errors[0].text
        assert rollout.stop is None
        return
    if case.call is None:
        assert (turn.calls, turn.observations) == ([], ())
    else:
        assert (turn.calls[0].name, turn.calls[0].arguments) == case.call
        assert turn.calls[1:] == []
        if case.call[0] != ONLY_VIDEO:
            assert len(executed) == 1
            assert {one.error for one in errors} <= {CallErrorKind.SEVERAL_CALLS}
    if case.call is None or case.call[0] != ONLY_VIDEO:
        assert {str(one.kind) for one in turn.repairs} == set(case.kinds)
    else:  # the operation rejects frames of a picture, so the call is not counted as repaired
        parsed = rollout.dialect.parse(case.text, rollout.pictures, strict=False)
        assert {str(one.kind) for one in parsed.repairs} == set(case.kinds)


@pytest.mark.parametrize(
    "case",
    [one for one in CASES if one.treatment == "repaired"],
    ids=lambda one: f"{one.defect}-{one.dialect}",
)
def test_a_strict_run_repairs_nothing(rollout_of, case: Case):
    turn = take(rollout_of(case.dialect, case.num_pictures, True), case.text)
    assert {one.kind for one in turn.repairs} <= NOT_REJECTED_STRICTLY
    # The operation has a default for a missing picture.
    if set(case.kinds) - NOT_REJECTED_STRICTLY - {"missing_argument"} and case.call is not None:
        assert all(one.error is not None for one in turn.observations)


def test_a_turn_without_defects_is_parsed_equally_with_and_without_repairs():
    for _, dialect in DIALECTS.items():
        call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.25, 0.5, 0.75, 1.0]})
        if dialect.can_name_pictures:
            call = ToolCall(name="zoom_in", arguments={**call.arguments, "target_image": 1})
        size = dialect.budgets.multiple * 20
        picture = Picture(number=1, medium=0, source_px=(size, size), seen_px=(size, size))
        for text in (
            dialect.write_turn("I look.", call, [picture]),
            dialect.write_turn("It is red.", answer="red"),
            "I do not know.",
        ):
            assert dialect.parse(text, [picture], strict=False) == dialect.parse(text, [picture])


# --- the next turn ---


def test_the_model_reads_how_many_calls_were_left_out(rollout_of):
    rollout = rollout_of("compact", 1, False)
    call = rollout.dialect.write_call(
        ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1})
    )
    turn = take(rollout, f"{call}\n{call}\n{call}")
    assert [one.error for one in turn.observations] == [None, CallErrorKind.SEVERAL_CALLS]
    last = rollout.messages()[-1]["content"]
    assert sum(one["type"] == "image" for one in last) == 1
    assert any("2 more calls of this turn were not executed" in one.get("text", "") for one in last)


def test_a_turn_of_thought_only_continues_once(rollout_of):
    rollout = rollout_of("qwen3_vl", 1, False)
    first = take(rollout, "<think>It is small.</think>\n")
    assert (rollout.stop, first.observations[0].error) == (None, CallErrorKind.THOUGHT_ONLY)
    assert rollout.messages()[-1]["role"] == "user"
    take(rollout, "<think>It is small.</think>")
    assert rollout.stop is StopReason.NO_ANSWER
    strict = rollout_of("qwen3_vl", 1, True)
    take(strict, "<think>It is small.</think>\n")
    assert strict.stop is StopReason.NO_ANSWER


def test_a_thought_that_a_server_separated_continues_once_too(rollout_of):
    rollout = rollout_of("plain", 1, False)
    rollout.take(Completion(text="<think>Hm.</think>", parts=(Thought(thought="Hm."),)))
    assert rollout.turns[0].observations[0].error == CallErrorKind.THOUGHT_ONLY
    answered = rollout_of("plain", 1, False)
    thought = Thought(thought=r"It is \boxed{red}")
    answered.take(Completion(text="", parts=(thought,)))
    assert (answered.stop, answered.answer) == (StopReason.ANSWERED, "red")


def test_calls_that_a_server_separated_are_repaired_too(rollout_of):
    rollout = rollout_of("plain", 1, False)
    call = ToolCall(name="zoom_in", arguments={"bbox": "0 0 0.5 0.5"})
    rollout.take(Completion(text="", parts=(Text(text="I look."), call, call, Text(text="Red."))))
    (turn,) = rollout.turns
    assert turn.parts == (
        Text(text="I look."),
        ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5]}),
        Text(text="Red."),
    )
    kinds = {"argument_name", "box_as_string", "several_calls", "text_after_call"}
    assert {str(one.kind) for one in turn.repairs} == kinds
    broken = (
        '<tool_call>\n{"name": "zoom_in", "arguments": {\'bbox_2d\': [0, 0, 1, 1]}}\n</tool_call>'
    )
    text = rollout_of("plain", 1, False)
    text.take(Completion(text=broken, parts=(Thought(thought="Hm."), Text(text=broken))))
    assert [one.kind for one in text.turns[0].repairs] == [RepairKind.PYTHON_LITERAL]


def test_a_truncated_turn_is_never_repaired(rollout_of):
    rollout = rollout_of("compact", 1, False)
    rollout.take(Completion(text="I look.\n{'name': 'zoom_in'}", truncated=True))
    assert (rollout.stop, rollout.turns[0].repairs) == (StopReason.MAX_NEW_TOKENS, ())


# --- the record ---


def test_repairs_are_recorded_and_replayed(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    media = (MediaItem(kind="image", path=str(tmp_path / "a.png")),)
    question = Question(id="1", text="?", media=media)
    script = [
        "I look. <tool_call>{'name': 'zoom_in', 'arguments': {'bbox_2d': [0, 0, 1, 1],}}",
        r"It is \boxed{red}.",
    ]
    trace = ask(question, ScriptedModel(script), RolloutConfig())
    kinds = {RepairKind.PYTHON_LITERAL, RepairKind.END_TAG}
    assert {one.kind for one in trace.turns[0].repairs} == kinds
    assert trace.answer == "red"
    again = Trace.from_line(trace.to_line())
    assert again == trace
    assert again.settings.strict is False
    assert replay_trace(again).turns[0].repairs == trace.turns[0].repairs
    strict = ask(question, ScriptedModel(script), RolloutConfig(strict=True))
    assert strict.turns[0].repairs == ()
    assert strict.rejected[0].error is CallErrorKind.MALFORMED_CALL


def test_traces_of_versions_without_repairs_count_as_strict():
    assert RunSettings.model_validate({}).strict
    assert RunSettings.model_validate({"strict": False}).strict is False
    assert RolloutConfig().strict is False


def test_every_kind_is_explained():
    assert set(EXPLANATIONS) == set(RepairKind)


def test_an_evaluation_reports_repairs_by_kind_and_the_accuracy_without_them(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    media = (MediaItem(kind="image", path=str(tmp_path / "a.png")),)
    good = '{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 1, 1], "target_image": 1}}'
    calls = (
        f"<tool_call>{good}</tool_call>",
        f"<tool_call>{good}",
        "<tool_call>{'name': 'zoom_in', 'arguments': {'bbox': [0, 0, 1, 1]}}",
        "<tool_call>{</tool_call>",
    )
    traces = [
        ask(
            Question(id=str(number), text="?", media=media, answer=("red",)),
            ScriptedModel([call, r"\boxed{red}"]),
            RolloutConfig(),
        )
        for number, call in enumerate(calls)
    ]
    metrics = summarize(traces)
    assert (metrics["accuracy"], metrics["strict_accuracy"]) == (1.0, 0.5)
    assert (metrics["repaired_rate"], metrics["operation_error_rate"]) == (0.5, 0.25)
    kinds = {"argument_name": 0.25, "end_tag": 0.5, "python_literal": 0.25}
    assert metrics["repaired_by_kind"] == kinds
    shown = {one.name: one.value for one in metrics_section(RunSummary(**metrics)).metrics}
    assert shown["repaired: end_tag"] == 0.5
    assert shown["accuracy without repairs"] == 0.5
    strict = [
        ask(trace.question, ScriptedModel([calls[1], "No."]), RolloutConfig(strict=True))
        for trace in traces[1:2]
    ]
    assert summarize(strict)["repaired_rate"] == 0.0


def test_a_continued_thought_is_no_rejected_call_and_no_part_of_a_strict_run(tmp_path):
    question = Question(id="1", text="?", media=(), answer=("red",))
    script = ["<think>Hm.</think>", r"\boxed{red}"]
    trace = ask(question, ScriptedModel(script, dialect="qwen3_vl"), RolloutConfig())
    metrics = summarize([trace])
    assert (metrics["accuracy"], metrics["strict_accuracy"]) == (1.0, 0.0)
    assert metrics["operation_error_rate"] is None


# --- templates and servers ---


def test_templates_that_delete_or_repeat_thoughts_are_found():
    dialect = get_dialect("qwen3_vl")

    def render(messages, change=lambda text, is_last: text):
        texts = ["".join(part.get("text", "") for part in one["content"]) for one in messages]
        return "\n".join(change(text, n >= len(texts) - 2) for n, text in enumerate(texts))

    def deleting(text, is_last):
        return text if is_last else re.sub(r"<think>.*?</think>", "", text)

    def doubling(text, is_last):
        return text.replace("<think>", "<think>\n\n</think><think>")

    assert thought_problem(render, dialect) is None
    assert_template_keeps_thoughts(render, dialect, "a model")
    for change, problem in ((deleting, "deletes"), (doubling, "adds a thought")):
        with pytest.raises(ModelError, match=problem):
            assert_template_keeps_thoughts(partial(render, change=change), dialect, "a model")
    assert thought_problem(partial(render, change=deleting), get_dialect("compact")) is None


def test_all_reasoning_fields_of_a_server_are_joined_and_equal_ones_count_once():
    assert Message(reasoning_content="a", reasoning="a", content="b").thought == "a"
    assert Message(reasoning_content="a", reasoning="b").thought == "ab"
    both = [{"type": "thinking", "thinking": "c"}, {"type": "text", "text": "Red."}]
    message = Message(reasoning="a", content=both)
    assert (message.thought, message.text) == ("ac", "Red.")


# --- work ---

HOSTILE = (
    *("<tool_call>", "<tool_call>{", '<tool_call>{"', "<tool_call>{'", "<think>", "</think>"),
    *("```", "```\n{", "\n{", "\n[a(", "\n<function=zoom_in>", "<parameter=a>", "</parameter>"),
    *("[TOOL_CALLS]", "[TOOL_CALLS]zoom_in[ARGS]{", "<|tool_call>call:zoom_in{", '<|"|>', "“", "”"),
    *(
        "<arg_key>a</arg_key><arg_value>",
        "<think></think>",
        "[",
        "{",
        "(",
        "'",
        '"',
        ",",
        ",]",
        "\\",
    ),
    *("<tool_call>zoom_in(a=", "-", "1", " ", "\n", "`", "<|tool_call_start|>[zoom_in(", "1,"),
)


@pytest.mark.parametrize(
    "prefix", ["", "<tool_call>", '<tool_call>{"name": "zoom_in", "arguments": ']
)
def test_the_time_of_a_repair_is_proportional_to_the_text(prefix):
    def seconds(unit: str, size: int) -> float:
        text = prefix + unit * (size // len(unit))
        started = time.process_time()
        get_dialect("qwen3_vl").parse(text, strict=False)
        return time.process_time() - started

    def is_linear(unit: str) -> bool:
        # 8 times in theory, 64 for quadratic work
        return seconds(unit, 32_000) < 0.01 + 24 * seconds(unit, 4_000)

    for unit in HOSTILE:
        assert is_linear(unit) or is_linear(unit) or is_linear(unit), unit
