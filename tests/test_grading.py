"""Answers: what is right is right in every spelling, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_reasoner.grading import Outcome, anls, grade, grade_trace
from pixel_reasoner.trace import AnswerType, Question, Stop, Trace

TEXT, NUMBER, CHOICE, LIST, ANLS = AnswerType
OPTIONS = {"A": "red", "B": "a dark blue car", "C": "none of these"}

# Type of the question, accepted answer, what a model says.
RIGHT = [
    (TEXT, "red", "red"),
    (TEXT, "red", "Red"),
    (TEXT, "red", " RED. "),
    (TEXT, "red", '"red"'),
    (TEXT, "red", r"\text{red}"),
    (TEXT, "red", "$red$"),
    (TEXT, "Dark  blue", "dark blue"),
    (TEXT, "K", "(k)"),
    (TEXT, "no", "No!"),
    (TEXT, "7", "7."),
    (TEXT, "F&B", "f&b"),
    (TEXT, "-5", "-5"),
    (NUMBER, "4", "4"),
    (NUMBER, "4", "4.0"),
    (NUMBER, "4", "4 shapes"),
    (NUMBER, "4", "$4$"),
    (NUMBER, "4", "There are 4."),
    (NUMBER, "1,000", "1000.0"),
    (NUMBER, "1000", "1,000"),
    (NUMBER, "1234567.5", "1,234,567.50"),
    (NUMBER, "5000", "5,000kg"),
    (NUMBER, "-3", "-3"),
    (NUMBER, "-3", "−3"),
    (NUMBER, "0.5", ".5"),
    (NUMBER, "45", "45%"),
    (NUMBER, "1/2", "1/2"),
    (CHOICE, "A", "A"),
    (CHOICE, "A", "a"),
    (CHOICE, "A", "(A)"),
    (CHOICE, "A", "(A) red"),
    (CHOICE, "A", "A: red"),
    (CHOICE, "A", "A. Red"),
    (CHOICE, "A", "A) red"),
    (CHOICE, "A", "A red"),
    (CHOICE, "A", "Red."),
    (CHOICE, "B", "a dark blue car"),
    (CHOICE, "B", "A dark blue car."),
    (CHOICE, "b", "(B)"),
    (LIST, "red, blue", "blue, red"),
    (LIST, "red, blue", "Blue and red"),
    (LIST, "red, blue", "RED AND BLUE"),
    (LIST, "red, blue", "[blue; red]"),
    (LIST, "red", "red,"),
    (LIST, "sand, water", "water and sand"),
    (ANLS, "Paris", "paris"),
    (ANLS, "New York", "new  york"),
    (ANLS, "Paris", "Pariss"),
]
WRONG = [
    (TEXT, "no", "on"),
    (TEXT, "red", "dark red"),
    (TEXT, "red", "red, blue"),
    (TEXT, "5", "-5"),
    (TEXT, "K", "X"),
    (NUMBER, "4", "5"),
    (NUMBER, "4", "four"),
    (NUMBER, "4", "3 or 4"),
    (NUMBER, "5", ".5"),
    (NUMBER, "5", "-5"),
    (NUMBER, "5", "−5"),
    (NUMBER, "1000", "1,00"),
    (NUMBER, "1000", "1.000"),
    (NUMBER, "1/2", "2/1"),
    (CHOICE, "A", "B"),
    (CHOICE, "A", "a dark blue car"),
    (CHOICE, "A", "a car"),
    (CHOICE, "A", "blue"),
    (CHOICE, "A", "A and B"),
    (CHOICE, "A", "Apple"),
    (LIST, "red, blue", "red"),
    (LIST, "red, blue", "red, blue, green"),
    (LIST, "red, red", "red"),
    (LIST, "sand", "s, d"),
    (ANLS, "Paris", "Rome"),
    (ANLS, "12", "345"),
]


def question(kind: AnswerType, *gold: str, options: dict[str, str] | None = None) -> Question:
    known = options if options is not None else OPTIONS if kind is CHOICE else {}
    return Question(id="1", text="?", media=(), answer=gold, answer_type=kind, options=known)


def outcome(kind: AnswerType, gold: str, answer: str | None, **more) -> Outcome:
    return grade(answer, question(kind, gold, **more)).outcome


@pytest.mark.parametrize(("kind", "gold", "answer"), RIGHT)
def test_right_answers_are_correct(kind, gold, answer):
    assert outcome(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(("kind", "gold", "answer"), WRONG)
def test_wrong_answers_are_wrong(kind, gold, answer):
    assert outcome(kind, gold, answer) is Outcome.WRONG


# --- laws of every type ---


@given(kind=st.sampled_from([TEXT, NUMBER, LIST, ANLS]), gold=st.text(min_size=1))
def test_gold_is_correct_whatever_it_is(kind, gold):
    if gold.strip():
        assert grade(gold, question(kind, gold)) == (Outcome.CORRECT, 1.0)


@given(options=st.dictionaries(st.sampled_from("ABCDEFG"), st.text(), min_size=1), data=st.data())
def test_the_letter_of_a_choice_is_correct_whatever_the_options_say(options, data):
    letter = data.draw(st.sampled_from(sorted(options)))
    for answer in (letter, letter.lower(), f"({letter})"):
        assert outcome(CHOICE, letter, answer, options=options) is Outcome.CORRECT


def test_a_letter_that_is_also_an_options_text_means_the_letter():
    assert outcome(CHOICE, "A", "A", options={"A": "X", "B": "A"}) is Outcome.CORRECT


def test_a_choice_without_known_options_is_read_by_its_letter():
    assert outcome(CHOICE, "C", "(c) green", options={}) is Outcome.CORRECT


@given(kind=st.sampled_from(AnswerType), gold=st.text(min_size=1), answer=st.none() | st.text())
def test_unparsed_means_that_there_is_no_answer(kind, gold, answer):
    unparsed = outcome(kind, gold, answer) is Outcome.UNPARSED
    assert unparsed == (answer is None or not answer.strip())


@given(
    kind=st.sampled_from(AnswerType),
    gold=st.text(),
    answer=st.text(),
    options=st.dictionaries(st.sampled_from("ABCD"), st.text()),
)
def test_any_text_has_a_grade_whose_score_fits_its_outcome(kind, gold, answer, options):
    result = grade(answer, question(kind, gold, options=options))
    assert 0 <= result.score <= 1
    assert (result.outcome is Outcome.CORRECT) == (result.score >= (0.5 if kind is ANLS else 1))


WORDS = st.text("abcxyz017", min_size=1, max_size=6)
AROUND = st.text(" .,;:!?'\"()[]", max_size=3)


@given(st.lists(WORDS, min_size=1, max_size=3), AROUND, AROUND)
def test_case_space_and_surrounding_punctuation_of_a_text_do_not_matter(words, before, after):
    answer = before + "  ".join(words).upper() + after
    assert outcome(TEXT, " ".join(words), answer) is Outcome.CORRECT


@given(st.integers(-(10**12), 10**12))
def test_a_number_is_the_same_with_separators_and_with_decimals(value):
    for answer in (f"{value:,}", f"{value:.2f}", f"{value:,.1f}", f"about {value} km"):
        assert outcome(NUMBER, str(value), answer) is Outcome.CORRECT
    assert outcome(NUMBER, str(value), str(value + 1)) is Outcome.WRONG


@given(st.lists(WORDS, min_size=1, max_size=5), st.randoms())
def test_the_order_of_a_list_does_not_matter(items, random):
    shuffled = random.sample(items, len(items))
    assert outcome(LIST, ", ".join(items), "; ".join(shuffled)) is Outcome.CORRECT
    assert outcome(LIST, ", ".join(items), ", ".join([*items, "more"])) is Outcome.WRONG


# --- several accepted answers, none, and traces ---


def test_the_best_of_several_accepted_answers_counts():
    accepted = question(TEXT, "grey", "gray")
    assert [grade(text, accepted).outcome for text in ("Gray", "grey", "green")] == [
        Outcome.CORRECT,
        Outcome.CORRECT,
        Outcome.WRONG,
    ]


def test_nothing_is_graded_where_no_answer_is_known():
    assert grade("red", question(TEXT)) is None
    assert grade(None, question(TEXT)) is None


def test_a_trace_is_graded_by_its_answer():
    told = Trace(question=question(TEXT, "red"), stop=Stop.ANSWERED, answer="red")
    silent = Trace(question=question(TEXT, "red"), stop=Stop.MAX_TURNS)
    assert grade_trace(told) == (Outcome.CORRECT, 1.0)
    assert grade_trace(silent) == (Outcome.UNPARSED, 0.0)


# --- ANLS, by hand: 1 - edits / length of the longer text, 0 below one half ---


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("Paris", "paris", 1),
        ("kitten", "sitting", 4 / 7),
        ("abcd", "abcx", 3 / 4),
        ("abcd", "abxy", 1 / 2),
        ("abcde", "abxyz", 0),
        ("", "abc", 0),
        ("10,000", "10000", 5 / 6),
        (" new\nyork ", "New York", 1),
    ],
)
def test_anls_is_the_share_that_needs_no_edit(answer, gold, score):
    assert anls(answer, gold) == pytest.approx(score)
    assert anls(gold, answer) == pytest.approx(score)


def test_anls_is_right_from_one_half_on_and_scores_what_is_alike():
    assert grade("abxy", question(ANLS, "abcd")) == (Outcome.CORRECT, 0.5)
    assert grade("abxyz", question(ANLS, "abcde")) == (Outcome.WRONG, 0.0)
    assert grade("abcx", question(ANLS, "zzzz", "abcd")) == (Outcome.CORRECT, 0.75)
