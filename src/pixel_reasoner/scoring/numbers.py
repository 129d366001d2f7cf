"""Normalised texts and numbers of answers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\{([^{}]*)\}")
_AROUND = " .,;:!?'\"()[]$*`_\\"
_SIGNS = str.maketrans(
    dict.fromkeys("‐‑‒–—−", "-") | dict.fromkeys("‘’", "'") | dict.fromkeys("“”", '"')
)


def unwrapped(text: str) -> str:
    r"""Return a text without `\text{}`, with one kind of dash and of quotation mark."""
    return unicodedata.normalize("NFKC", _WRAPPED.sub(r"\1", text)).translate(_SIGNS)


def plain(text: str) -> str:
    """Return a text in lower case, with single spaces, without punctuation around it."""
    text = unwrapped(text)
    return " ".join(text.lower().split()).strip(_AROUND)


def words_of(text: str) -> str:
    """Return the words of a text, to find one text in another."""
    return " ".join(re.findall(r"[^\W_]+(?:[.,:'/-][^\W_]+)*", plain(text)))


class NumberWithUnit(NamedTuple):
    """A number and its unit, "" for none."""

    value: float
    unit: str = ""

    @property
    def share(self) -> float:
        """The value; a percentage as a share."""
        return self.value / 100 if self.unit == "%" else self.value


_DIGITS = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:[, ]\d{3})+(?![\d])|\d+)(?:\.\d+)?|(?<![\w.])[-+]?\.\d+"
)
_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORD_VALUES = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
    **{
        f"{ten}-{one}": 10 * value + number
        for value, ten in enumerate(_TENS, start=2)
        for number, one in enumerate(_ONES[1:10], start=1)
    },
}
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


def parse_number(text: str) -> NumberWithUnit | None:
    r"""Return the only number in a text, with its unit; None when there is none or several.

    Separators of thousands, number words, `%`, common units and scales are parsed; of `2 + 3 = 5` the result. Other words are
    ignored.

    >>> parse_number("about 3.5 million dollars").value, parse_number("3 or 4")
    (3500000.0, None)
    >>> parse_number("twenty-one people")
    NumberWithUnit(value=21.0, unit='')
    """
    text = unwrapped(text).lower()
    text = text.replace("\\%", "%").replace("\\$", "$").replace("per cent", "percent")
    text = text.rpartition("=")[2]
    found = [*_digits(text), *_spelled(text)]
    if len(found) != 1:
        return None
    ((value, start, end),) = found
    before, after = text[:start].rstrip(), text[end:].lstrip()
    words = re.findall(r"[%$€£]|°[cf]|[a-z]+(?:/[a-z]+)?", after)
    while words and words[0] in _SCALES:
        value *= _SCALES[words.pop(0)]
    unit = _UNITS.get(words[0], "") if words else ""
    if not unit and before[-1:] in ("$", "€", "£"):
        unit = before[-1]
    return NumberWithUnit(value, unit)


def _digits(text: str) -> Iterator[tuple[float, int, int]]:
    for found in _DIGITS.finditer(text):
        yield float(re.sub(r"[, ]", "", found[0])), found.start(), found.end()


def _spelled(text: str) -> Iterator[tuple[float, int, int]]:
    for found in re.finditer(r"[a-z]+(?:-[a-z]+)?", text):
        if found[0] in _WORD_VALUES:
            yield float(_WORD_VALUES[found[0]]), found.start(), found.end()
