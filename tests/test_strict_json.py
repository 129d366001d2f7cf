"""Bounded JSON parser: results can be serialized again, and errors have a short reason."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.strict_json import MAX_DEPTH, parse_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half of a surrogate pair is not text.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab[{\\"', max_size=3), inner),
    max_leaves=20,
)


@given(values, st.booleans())
def test_a_value_is_unchanged_by_a_round_trip(value, ensure_ascii):
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    assert parse_json(text) == value
    assert parse_json(text.encode()) == value
    assert parse_json(b"\xef\xbb\xbf" + text.encode()) == value


@settings(max_examples=50)
@given(st.text() | st.binary() | st.text('[]{}",:\\ue0123456789dD+-. NaInfity', max_size=40))
def test_any_text_is_a_value_that_can_be_written_or_a_value_error(text):
    kind, reason = ValueError, ""
    try:
        json.dumps(parse_json(text), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        kind, reason = type(error), str(error)
    assert kind in (ValueError, json.JSONDecodeError)
    assert len(reason) < 100


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("1e999", "out of range"),
        ("-1E+00400", "out of range"),
        ("9" * 400, "out of range"),
        ("9" * 5000, "out of range"),
        ("1" + "0" * 250 + "e99", "out of range"),
        (r'{"\uD800": 1}', "surrogate"),
        (r'["a", "\udc00x"]', "surrogate"),
        ('"\udc00"', "surrogate"),
        (b'"\xff"', "not UTF-8"),
        ("[" * 100_000, "levels deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "levels deep"),
        ("", "Expecting value"),
    ],
)
def test_an_unrepresentable_value_is_an_error_with_its_reason(text, why):
    with pytest.raises(ValueError, match=why):
        parse_json(text)


def test_brackets_are_limited_by_depth_and_only_outside_strings():
    assert len(parse_json("[" + ",".join(["[]"] * 1000) + "]")) == 1000
    assert parse_json(json.dumps(["[{" * 100, '\\"[' * 100]))[0] == "[{" * 100
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deepest)
    with pytest.raises(ValueError, match="levels deep"):
        parse_json(f"[{deepest}]")


def test_surrogate_pairs_and_large_finite_numbers_are_read():
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"
    assert parse_json("1" + "0" * 300) == 10**300
    assert parse_json("1e-999") == 0.0
    assert parse_json("1e300") == 1e300


def test_numbers_beyond_float_range_are_an_option():
    read = parse_json(f"[{'9' * 400}, -1e999, NaN, 7]", is_finite=False)
    assert read[:2] == [int("9" * 400), -math.inf]
    assert math.isnan(read[2])
    assert read[3] == 7
    with pytest.raises(ValueError, match="out of range"):
        parse_json("9" * 5000, is_finite=False)


@pytest.mark.parametrize("unit", ['"', '\\"', '["', '[{"a', "9", "{", "1e", "\\ud800", '"\\', " "])
def test_the_time_is_proportional_to_the_length(unit):
    text = '"[' * 40 + unit * (1_000_000 // len(unit))
    start = time.thread_time()
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    assert time.thread_time() - start < 1
