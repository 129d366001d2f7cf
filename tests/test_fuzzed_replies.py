"""Fuzzed and hostile replies: no exception, equal results in pieces, bounded time. `attacks/replies.py` is the full form."""

from __future__ import annotations

import random

import pytest
from attacks import replies

from pixel_reasoner.dialects import DIALECTS
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.scoring.extraction import extract
from pixel_reasoner.scoring.grading import Outcome, grade, grade_upstream

SLOW_S = 1.0
"""A function of quadratic time takes many seconds for 32 KB; the limit of 50 ms is for a machine without other work."""


@pytest.mark.medium
def test_fuzzed_replies_raise_nothing_and_parse_equally_in_pieces():
    _, failures = replies.attack(count=800, seed=5, hostile_share=0, sampled=True)
    assert failures == []


def test_fuzzed_replies_contain_calls_answers_and_mistakes():
    rng = random.Random(3)
    turns = [
        dialect.parse(replies.fuzzed_reply(rng), replies.PICTURES)
        for _ in range(60)
        for _, dialect in DIALECTS.items()
    ]
    assert sum(bool(turn.executable_calls) for turn in turns) > 10
    assert sum(turn.answer is not None for turn in turns) > 20
    assert len({turn.error.kind for turn in turns if turn.error}) >= 3


@pytest.mark.medium
def test_the_time_for_a_hostile_reply_is_proportional_to_its_length():
    rng = random.Random(7)
    for text in replies.hostile_replies(rng, share=0.0015):
        assert replies.check(replies.all_steps(text, rng), text, SLOW_S)[0] == []


@pytest.mark.parametrize("unit", ["<answer>", "\\boxed{", "{", "9", "$1$", "<answer>\n"])
def test_the_upstream_scorer_needs_bounded_time(unit):
    text = (unit * replies.LONG_CHARS)[: replies.LONG_CHARS]
    asked = Question(id="1", text="?", media=(), answer=("7",))
    assert grade_upstream(text, asked).outcome in (Outcome.WRONG, Outcome.UNPARSED)


@pytest.mark.parametrize(
    "text", ["\ud800", "I look. \udc00\\boxed{a\ud83d}", "<think>\ud800</think>"]
)
def test_half_of_a_surrogate_pair_in_a_reply_is_replaced(text):
    for _, dialect in DIALECTS.items():
        turn = dialect.parse(text)
        assert "\ufffd" in turn.model_dump_json()
        parser = dialect.parser()
        for character in text:
            parser.feed(character)
        assert parser.finish() == turn


@pytest.mark.parametrize("letters", ["a-", "]", "\\", "^", "(", "a-z", "[^", "*", "A|B"])
def test_letters_and_options_may_contain_regex_characters(letters):
    options = {letters: "(((", "Z": "***", "Q": letters}
    asked = Question(
        id="1",
        text="?",
        media=(),
        answer=(letters,),
        answer_type=AnswerType.CHOICE,
        options=options,
    )
    for text in (f"\\boxed{{{letters}}}", f"Answer: {letters}", f"The answer is ({letters})."):
        assert (text, grade(extract(text, asked), asked).outcome) == (text, Outcome.CORRECT)
    assert grade(extract("Answer: Z", asked), asked).outcome is Outcome.WRONG
