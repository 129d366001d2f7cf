"""Number words in English, Spanish, German and Chinese, and words for zero."""

from __future__ import annotations

import re
from collections.abc import Iterator


def _words(text: str) -> list[str]:
    return text.split()


_ENGLISH = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ENGLISH_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
# Left out: articles ("un", "una", "ein", "eine") and words that are also English ("once", "elf").
_SPANISH = _words(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez _ doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
_SPANISH_TENS = _words("treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_GERMAN = _words(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn _ zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn"
)
_GERMAN_TENS = _words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_GERMAN_ONES = _words("ein zwei drei vier fünf sechs sieben acht neun")

WORD_VALUES: dict[str, int] = {
    **{word: value for value, word in enumerate(_GERMAN)},
    **{
        f"{one}und{ten}": 10 * value + number
        for value, ten in enumerate(_GERMAN_TENS, start=2)
        for number, one in enumerate(_GERMAN_ONES, start=1)
    },
    **{word: 10 * value for value, word in enumerate(_GERMAN_TENS, start=2)},
    **{word: value for value, word in enumerate(_SPANISH)},
    **{word: 10 * value for value, word in enumerate(_SPANISH_TENS, start=3)},
    **{word: value for value, word in enumerate(_ENGLISH)},
    **{word: 10 * value for value, word in enumerate(_ENGLISH_TENS, start=2)},
    **{
        f"{ten}-{one}": 10 * value + number
        for value, ten in enumerate(_ENGLISH_TENS, start=2)
        for number, one in enumerate(_ENGLISH[1:10], start=1)
    },
}
WORD_VALUES.pop("_")

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")
_CHINESE_DIGITS = {"零": 0, "〇": 0, "两": 2} | {
    digit: value for value, digit in enumerate("一二三四五六七八九", start=1)
}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10_000}
# A numeral is also part of other words (一共, 三角形): it counts before a measure word and at the end of a word.
_CHINESE = re.compile(
    rf"[{''.join((*_CHINESE_DIGITS, *_CHINESE_SCALES))}]{{1,12}}"
    r"(?=[个個只隻位名条张辆头件人匹本棵座台次种块把支朵颗枚双对层扇幅顶元米岁年月日%]|[^\u4e00-\u9fff]|$)"
)
NONE = re.compile(
    r"\b(?:none|nobody|no one|ningun[oa]s?|ningún|nadie|keine[rns]?|niemand)\b|^\W*(?:没有|无)\W*$",
    re.IGNORECASE,
)
"""word for zero"""


def spelled_numbers(text: str) -> Iterator[tuple[float, int, int]]:
    """Yield the value, start and end of each number that is written in words.

    >>> list(spelled_numbers("twenty-one people")), list(spelled_numbers("一共有十二个"))
    ([(21.0, 0, 10)], [(12.0, 3, 5)])
    """
    for found in _WORD.finditer(text):
        value = WORD_VALUES.get(found[0].lower())
        if value is not None:
            yield float(value), found.start(), found.end()
    for found in _CHINESE.finditer(text):
        if _is_estimate(found[0]):
            yield from (
                (float(_CHINESE_DIGITS[sign]), place, place + 1)
                for place, sign in enumerate(found[0], start=found.start())
            )
        else:
            yield float(_chinese_value(found[0])), found.start(), found.end()


def _is_estimate(numeral: str) -> bool:
    """Return whether a numeral means "four or five" (四五)."""
    digits = [_CHINESE_DIGITS.get(sign, 0) for sign in numeral]
    return len(digits) == 2 and digits[0] > 0 and digits[1] == digits[0] + 1


def _chinese_value(numeral: str) -> int:
    total, section, digit = 0, 0, 0
    for sign in numeral:
        if sign == "万":
            total, section, digit = (total + section + digit) * 10_000, 0, 0
        elif scale := _CHINESE_SCALES.get(sign):
            section, digit = section + (digit or 1) * scale, 0
        else:
            digit = 10 * digit + _CHINESE_DIGITS[sign]  # digit by digit: 二〇二五 is 2025
    return total + section + digit
