"""Questions of a survey: every mistake in the file is one line, and answers are typed."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.survey.question_file import KEYS, parse_questions, read_question_file
from pixel_reasoner.workflows.survey.questions import (
    AnswerKind,
    Condition,
    SurveyQuestion,
    yes_or_no,
)

GOOD = """
unsure = 0.7
[[question]]
id = "rust"
text = "Is there rust?"
type = "yes_no"
[[question]]
text = "Where?"
type = "choice"
choices = ["edge", "surface"]
when = 'rust == "Yes"'
region = [0, 0.5, 1.0, 1.0]
unsure = 0.9
[[question]]
id = "holes"
text = "How many holes?"
type = "count"
[[question]]
text = "Why?"
when = "holes>=3"
"""


def mistakes(text: str) -> list[str]:
    """Return the lines about mistakes in a file."""
    with pytest.raises(UsageError) as found:
        parse_questions(tomllib.loads(text))
    lines = str(found.value).splitlines()
    assert lines[0].startswith(f"expected questions without mistakes; got {len(lines) - 2} in")
    return [line.strip() for line in lines[1:-1]]


def test_all_keys_are_read():
    rust, where, holes, why = parse_questions(tomllib.loads(GOOD))
    assert (rust.id, rust.type, rust.unsure) == ("rust", AnswerKind.YES_NO, 0.7)
    assert where == SurveyQuestion(
        id="q2",
        text="Where?",
        type=AnswerKind.CHOICE,
        choices=("edge", "surface"),
        when=Condition("rust", "==", "yes"),
        region=Box(0, 0.5, 1, 1),
        unsure=0.9,
    )
    assert (holes.when, why.when, why.type) == (None, Condition("holes", ">=", 3), AnswerKind.TEXT)


FIRST = '[[question]]\nid = "a"\ntext = "A?"\ntype = "yes_no"\n[[question]]\ntext = "B?"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "question: expected at least one; got none. Fix: add [[question]] and its text"),
        ("question = 3", "question: expected a list of tables. Fix: write [[question]] above each"),
        ('unsur = 1\n[[question]]\ntext = "?"', "unsur: expected one of unsure, question; got unsur. Fix: rename it to unsure"),
        ('unsure = 2\n[[question]]\ntext = "?"', "unsure: expected a share from 0 to 1; got 2. Fix: unsure = 0.6"),
        ("[[question]]\ntext = 5", 'question 1, text: expected a text; got 5. Fix: text = "What is it?"'),
        ('[[question]]\nid = "a b"\ntext = "?"', 'question 1 (a b), id: expected 1 to 64 letters, digits, _ or -; got a b. Fix: for example id = "rust"'),
        ('[[question]]\ntext = "?"\ntype = "chioce"', 'question 1, type: expected yes_no, choice, number, count, text; got chioce. Fix: type = "choice"'),
        ('[[question]]\ntext = "?"\ntype = "choice"', 'question 1, choices: expected a list of texts for the type choice; got none. Fix: choices = ["red", "blue"]'),
        ('[[question]]\ntext = "?"\ntype = "choice"\nchoices = ["a"]', 'question 1, choices: expected 2 to 26 choices; got 1. Fix: choices = ["red", "blue"]'),
        ('[[question]]\ntext = "?"\ntype = "choice"\nchoices = ["a", "A"]', "question 1, choices: expected different choices; got ['a', 'A']. Fix: remove the repeated one"),
        ('[[question]]\ntext = "?"\nchoices = ["a", "b"]', "question 1, choices: expected no choices for the type text; got ['a', 'b']. Fix: type = \"choice\", or remove it"),
        (FIRST + 'when = "b == yes"', "question 2, when: expected the id of an earlier question (a); got b. Fix: move that question before this one"),
        (FIRST + 'when = "a == maybe"', "question 2, when: expected an answer to a: yes, no; got maybe. Fix: a == yes"),
        (FIRST + 'when = "a > yes"', "question 2, when: expected == or != for the type yes_no; got >. Fix: a == yes"),
        (FIRST + 'when = "a"', 'question 2, when: expected QUESTION OPERATOR VALUE with ==, !=, <, <=, >, >=; got a. Fix: for example when = "rust == yes"'),
        (FIRST + 'id = "a"', "question 2 (a), id: expected a unique id; got a again. Fix: choose another one"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_with_the_key_the_allowed_values_and_the_fix(text, line):
    assert mistakes(text) == [line]


def test_a_region_in_pixels_is_one_line_that_explains_fractions():
    (line,) = mistakes('[[question]]\ntext = "?"\nregion = [0, 0, 640, 480]')
    assert "question 1, region: expected [x1, y1, x2, y2] as fractions of the picture" in line
    assert "divide pixels by the width and height" in line


def test_the_fix_is_the_last_line_of_a_message_with_several_lines():
    with pytest.raises(UsageError) as error:
        parse_questions({"question": [{"text": ""}]}, "survey.toml")
    first, mistake, fix = str(error.value).splitlines()
    assert first == "expected questions without mistakes; got 1 in survey.toml:"
    assert mistake.startswith("  question 1, text: expected a text; got ''. Fix: ")
    assert fix.startswith("Fix: correct these lines")


def test_a_condition_on_a_number_needs_a_number():
    (line,) = mistakes(
        '[[question]]\nid = "n"\ntext = "?"\ntype = "number"\n[[question]]\ntext = "?"\nwhen = "n == x"'
    )
    assert line == "question 2, when: expected a number, the type of n; got x. Fix: n == 1"


def test_all_mistakes_are_listed_at_once():
    lines = mistakes('[[question]]\ntyp = "x"\n[[question]]\ntext = ""\nunsure = "high"\nid = 4')
    assert [line.partition(":")[0] for line in lines] == [
        "question 1, typ",
        "question 1, text",
        "question 2, id",
        "question 2, text",
        "question 2, unsure",
    ]


@pytest.mark.parametrize("content", [b"[[question", b"\xff\xfe", None])
def test_a_file_that_is_no_toml_is_an_input_error(tmp_path, content):
    path = tmp_path / "survey.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="pixel-reasoner init survey"):
        read_question_file(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), VALUES), max_size=4))
def test_any_table_gives_questions_or_a_list_of_mistakes(rows):
    try:
        assert len(parse_questions({"question": rows})) == len(rows)
    except UsageError as error:
        messages = str(error)
    else:
        messages = "Fix: "
    assert "Fix: " in messages


def test_the_settings_of_questions_are_json_values_that_are_read_again():
    questions = parse_questions(tomllib.loads(GOOD))
    rows = [
        {key: value for key, value in one.to_dict().items() if value not in (None, [])}
        for one in questions
    ]
    assert parse_questions({"question": rows}) == questions


# --- answers ---


@pytest.mark.parametrize(
    ("kind", "answer", "value"),
    [
        ("yes_no", "Yes.", "yes"),
        ("yes_no", "no, I see none", "no"),
        ("yes_no", "A", None),
        ("number", "about 2.5 mm", 2.5),
        ("number", "2 or 3", None),
        ("count", "twelve", 12),
        ("count", "-1", None),
        ("count", "1.5", None),
        ("text", "  EXIT \n door ", "EXIT door"),
        ("text", " ", None),
    ],
)
def test_an_answer_is_typed_or_none(kind, answer, value):
    assert SurveyQuestion(id="q", text="?", type=AnswerKind(kind)).value(answer) == value


@pytest.mark.parametrize("answer", ["B", "(b)", "surface", "B. surface", "The surface."])
def test_a_choice_is_named_by_its_letter_or_its_text(answer):
    question = SurveyQuestion(id="q", text="?", type=AnswerKind.CHOICE, choices=("edge", "surface"))
    assert question.value(answer) == "surface"
    assert question.for_media("id", ()).text == "?\nA. edge\nB. surface"


@given(st.text(max_size=40))
def test_any_text_is_an_answer_of_its_type_or_none(text):
    assert yes_or_no(text) in ("yes", "no", None)
    for kind in AnswerKind:
        choices = ("red", "blue") if kind is AnswerKind.CHOICE else ()
        question = SurveyQuestion(id="q", text="?", type=kind, choices=choices)
        value = question.value(text)
        expected = {AnswerKind.NUMBER: float, AnswerKind.COUNT: int}.get(kind, str)
        assert value is None or isinstance(value, expected)


@pytest.mark.parametrize(
    ("condition", "answer", "holds"),
    [
        (Condition("a", "==", "yes"), "yes", True),
        (Condition("a", "!=", "red"), "Red", False),
        (Condition("a", "<", 3), 2.5, True),
        (Condition("a", ">=", 3), 2, False),
    ],
)
def test_a_condition_compares_typed_values(condition, answer, holds):
    assert condition.holds(answer) is holds
