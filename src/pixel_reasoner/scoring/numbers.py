"""Normalisation of answer texts and numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from pixel_reasoner.scoring.latex import latex_to_text
from pixel_reasoner.scoring.number_words import NONE, spelled_numbers

MAX_ANSWER_CHARS = 2000
"""maximum length of a text that is searched for a number or an option; it bounds the time per message"""

_AROUND = " .,;:!?'\"()[]$*`_\\¿¡。、「」『』《》"
_SIGNS = str.maketrans(
    dict.fromkeys("‐‑‒–—−", "-") | dict.fromkeys("‘’", "'") | dict.fromkeys("“”„", '"')
)


def strip_latex(text: str) -> str:
    r"""Return a text without LaTeX, with uniform dashes and quotation marks."""
    return latex_to_text(text).translate(_SIGNS)


def normalise_text(text: str) -> str:
    """Return a text in lower case, with single spaces, without LaTeX and surrounding punctuation."""
    return stripped(strip_latex(text))


def stripped(text: str) -> str:
    """Return a text without LaTeX in lower case, with single spaces, without surrounding punctuation."""
    return " ".join(text.lower().split()).strip(_AROUND)


# "C++", "C#" and "x^2=4" are words.
_WORDS = re.compile(r"[^\W_]+(?:[.,:'/=^*+<>-][^\W_]+)*[+#]*")
_OPERATOR = re.compile(r"(?<=[\w)]) ?([=^*<>]|\+(?!\+)) ?(?=[\w(])")


def join_words(text: str) -> str:
    """Return the words of a text, separated by single spaces, for a search of one text in another."""
    return " ".join(_WORDS.findall(_OPERATOR.sub(r"\1", normalise_text(text))))


class NumberWithUnit(NamedTuple):
    """A number and its unit, "" for none."""

    value: float
    unit: str = ""

    @property
    def share(self) -> float:
        """The value; a percentage as a share."""
        return self.value / 100 if self.unit == "%" else self.value


_DECIMAL = r"(?:(?:\d{1,3}(?:[, ]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    # No number starts after a letter or a full stop, except after Chinese and Japanese letters.
    r"(?<![^\W\u3040-\u30ff\u4e00-\u9fff])(?<!\.)(?P<sign>[-+]?)(?:"
    r"(?:(?P<whole>\d{1,9})\s)?(?P<above>\d{1,15})\s?/\s?(?P<below>\d{1,15})(?![/.,]?\d)"
    rf"|(?:(?:(?P<mantissa>{_DECIMAL})\s?[×x*·⋅]\s?)?10\s?\^\s?|(?P<significand>{_DECIMAL})[eE])"
    r"(?P<exponent>[-+]?\d{1,4})(?!\w)"
    rf"|(?P<decimal>{_DECIMAL}))"
)
_SCALES = {
    "hundred": 1e2,
    "thousand": 1e3,
    "million": 1e6,
    "mn": 1e6,
    "billion": 1e9,
    "bn": 1e9,
    "trillion": 1e12,
}
_UNITS = {
    **dict.fromkeys(("%", "percent", "pct", "percentage"), "%"),
    **dict.fromkeys(("$", "us$", "usd", "dollar", "dollars"), "$"),
    **dict.fromkeys(("€", "eur", "euro", "euros"), "€"),
    **dict.fromkeys(("£", "gbp"), "£"),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"), "km"),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), "cm"),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), "mm"),
    **dict.fromkeys(("mi", "mile", "miles"), "mi"),
    **dict.fromkeys(("ft", "foot", "feet"), "ft"),
    **dict.fromkeys(("kg", "kilogram", "kilograms"), "kg"),
    **dict.fromkeys(("g", "gram", "grams"), "g"),
    **dict.fromkeys(("mg", "milligram", "milligrams"), "mg"),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), "lb"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "day"),
    **dict.fromkeys(("year", "years"), "year"),
    **dict.fromkeys(("°c", "celsius"), "°c"),
    **dict.fromkeys(("°f", "fahrenheit"), "°f"),
    **dict.fromkeys(("l", "liter", "liters", "litre", "litres"), "l"),
    **dict.fromkeys(("ml", "milliliter", "milliliters"), "ml"),
    **dict.fromkeys(("mph",), "mph"),
    **dict.fromkeys(("km/h", "kmh", "kph"), "km/h"),
}


_SCALE_LETTERS = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}
_CURRENCIES = "$€£"
_UNIT_WORDS = re.compile(r"[%$€£]|°[cf]|[a-z]+(?:/[a-z]+)?")
_MAX_UNIT_CHARS = 100


def parse_number(text: str) -> NumberWithUnit | None:
    r"""Return the only number in a text, with its unit; None if there is none or several, or if the text is too long.

    Thousands separators, fractions, powers of ten, number words, `%`, common units and scales are parsed. For `2 + 3 =
    5` the
    result is parsed. A number repeated in parentheses, as in `twelve (12)`, counts once. Other words are ignored. A
    word for zero is 0.

    >>> parse_number("about 3.5 million dollars").value, parse_number("3 or 4")
    (3500000.0, None)
    >>> parse_number("twenty-one people"), parse_number(r"\frac12").value, parse_number("1.2k").value
    (NumberWithUnit(value=21.0, unit=''), 0.5, 1200.0)
    """
    if len(text) > MAX_ANSWER_CHARS:
        return None
    text = strip_latex(text)[: MAX_ANSWER_CHARS + 1]  # NFKC can make it longer
    text = re.sub(r"\bper cent\b", "percent", text, flags=re.IGNORECASE)
    text = text.rpartition("=")[2]
    found = _without_repetition(
        text, sorted([*_written_numbers(text), *spelled_numbers(text)], key=_start)
    )
    if not found and NONE.search(text):
        return NumberWithUnit(0.0)
    if len(found) != 1 or not math.isfinite(found[0][0]):
        return None
    ((value, start, end),) = found
    return _with_unit(value, text[:start].rstrip(), text[end : end + _MAX_UNIT_CHARS])


_Found = tuple[float, int, int]
"""value, start, end"""


def _start(found: _Found) -> int:
    return found[1]


def _with_unit(value: float, before: str, after: str) -> NumberWithUnit | None:
    letter = re.match(r"[kKMB](?![^\W\d_])", after)
    if letter:
        value *= _SCALE_LETTERS[letter[0]]
        after = after[1:]
    elif before[-1:] in _CURRENCIES and before and re.match(r"m\b", after):
        value *= 1e6
        after = after[1:]
    words = _UNIT_WORDS.findall(after.lower())
    while words and words[0] in _SCALES:
        value *= _SCALES[words.pop(0)]
    unit = _UNITS.get(words[0], "") if words else ""
    if not unit and before and before[-1] in _CURRENCIES:
        unit = before[-1]
    return NumberWithUnit(value, unit) if math.isfinite(value) else None


def _without_repetition(text: str, found: list[_Found]) -> list[_Found]:
    """Return the numbers, without a number in parentheses that repeats the one before it."""
    kept: list[_Found] = []
    for one in found:
        if kept and kept[-1][0] == one[0] and text[kept[-1][2] : one[1]].strip() == "(":
            kept[-1] = (one[0], kept[-1][1], one[2] + text.startswith(")", one[2]))
        else:
            kept.append(one)
    return kept


def _written_numbers(text: str) -> Iterator[_Found]:
    for found in _NUMBER.finditer(text):
        if found["above"]:
            below = int(found["below"])
            value = int(found["whole"] or 0) + int(found["above"]) / below if below else math.nan
        else:
            digits = re.sub(
                r"[, ]", "", found["mantissa"] or found["significand"] or found["decimal"] or "1"
            )
            value = float(f"{digits}e{found['exponent'] or 0}")
        yield -value if found["sign"] == "-" else value, found.start(), found.end()
