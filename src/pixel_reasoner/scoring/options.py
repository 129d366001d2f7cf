"""Options of a multiple-choice question that a text names, by letter or by text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from pixel_reasoner.scoring.numbers import MAX_ANSWER_CHARS, join_words, normalise_text, strip_latex

_NAME = "(?:option|choice|letter|answer|opción|opcion|选项|选)"
_REASON = "(?:since|because|as|so|which|not|given|porque|ya que|weil|da|denn|no|nicht)"
_OR = r"(?:or|and|oder|und|o|u|y|或者?|和|/)"
_VERDICT = r"(?:is|would be|ist|es|是)\s*(?:the |la |die |el )?(?:correct|right|best|answer|richtig|correct[ao]|正确)"
# "isn't in the kitchen", "no es rojo": a negation, and a few words before the negated words.
_NOT = (
    r"(?:\b(?:not|cannot|nicht|keine?|no(?= es\b)|rather than|instead of|(?:an)?statt|en (?:lugar|vez) de)\b|n't\b|"
    r"而?不是|并非|而非)"
)
_FILLERS = r"(?:[\s*\"'(]{1,3}(?:in|on|at|the|an?|es|el|la|en|im|an|der|die|das|option|it|is|be)\b){0,3}[\s*\"'(]{0,3}"
_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


class _Patterns(NamedTuple):
    """Patterns for the letters and texts of one question's options."""

    lead: re.Pattern[str]
    """a letter at the start of an answer, and the characters that mark it as a letter"""
    alone: re.Pattern[str]
    key: re.Pattern[str]
    signs: tuple[re.Pattern[str], ...]
    """letters in a sentence that name options; not any capital: "A look", "I see\""""
    denied: re.Pattern[str]


@lru_cache(maxsize=256)
def _patterns(letters: tuple[str, ...], texts: tuple[str, ...]) -> _Patterns:
    key = rf"({_alternatives(letters)})(?![+#])"  # not the C of "C++"
    end = r"(?![^\W\u3040-\u30ff\u4e00-\u9fff])"  # Chinese is written without spaces
    lead = (
        rf"\W*?(?:(?:la|el|die|der|the)\s+)?(?:{_NAME}\s*)?[(\[]?{key}(?:[).:;\]、。；]|\W*$|\s+[-–—]\s|"
        rf"\s+{_REASON}\b|,\s+(?!(?:{_OR}\s+)?(?:{_alternatives(letters)})(?!\w))|[,，]?\s*(?:因为|不是|而不是|选项))"
    )
    signs = (
        (rf"[(（]{key}[)）]", re.IGNORECASE),
        (rf"(?<!\w){_NAME}\s*[(（]?{key}{end}", re.IGNORECASE),
        (rf"^\W*?{key}(?:[.:)]\s|[、。])", 0),
        (rf"^\W*?{key}(?:[;；]|,\s+{_REASON}\b|\s+(?:because|since|porque|weil)\b)", 0),
        (rf"^\W*?{key}\s+{_VERDICT}", 0),
        (rf"(?<![^\s*`>\"|\u4e00-\u9fff]){key}\W*$", 0),
        (rf"\*\*{key}\*\*", 0),
        (rf"{key}选项", 0),
        (rf"(?<!\w){key}\W{{0,3}}{_OR}\W{{0,3}}{key}{end}", 0),
    )
    denied = rf"{_NOT}{_FILLERS}(?:{_NAME}\W{{0,2}})?(?:{_alternatives((*letters, *texts))}){end}"
    return _Patterns(
        re.compile(lead, re.IGNORECASE),
        re.compile(rf"\W*?{key}\W*", re.IGNORECASE),
        re.compile(key, re.IGNORECASE),
        tuple(re.compile(sign, flags) for sign, flags in signs),
        re.compile(denied, re.IGNORECASE),
    )


def _alternatives(texts: tuple[str, ...]) -> str:
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return "|".join(map(re.escape, longest_first)) or "(?!)"


def _build_patterns(options: dict[str, str], default: str) -> _Patterns:
    letters = tuple(letter for letter in options if letter.strip()) or tuple(default)
    return _patterns(letters, tuple(text for text in options.values() if text.strip()))


def options_stated(answer: str, options: dict[str, str]) -> set[str]:
    """Return the letters, in lower case, that an answer may name by a letter, `(A) red`, `A: red`, or the text of an option."""
    answer = answer[:MAX_ANSWER_CHARS]
    given = normalise_text(answer)
    named = {normalise_text(letter): normalise_text(option) for letter, option in options.items()}
    if given in named or not given:  # before the texts: the text of an option may be "B"
        return {given}
    bare = answer.strip().lower()
    exact = [
        letter.lower() for letter in options if bare in (letter.lower(), f"({letter.lower()})")
    ]
    if exact:  # a letter that `normalise_text` changes, such as "a-"
        return set(exact)
    patterns = _build_patterns(options, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if len({one.lower() for one in patterns.signs[0].findall(answer)}) > 1:
        return set()
    compact = _without_spaces(given)
    same = {
        letter
        for letter, option in named.items()
        if given in (option, f"{letter} {option}") or compact == _without_spaces(option)
    }
    if same:
        return same
    # A space alone after the letter is not enough: "a car" is not A.
    lead = patterns.lead.match(strip_latex(answer)[:MAX_ANSWER_CHARS])
    if lead:
        return {lead[1].lower()}
    return {letter for letter, option in named.items() if option and same_words(given, option)}


def _without_spaces(text: str) -> str:
    """Return a formula without the spaces around its operators; any other text unchanged."""
    return "".join(text.split()) if re.search(r"[=^+*<>]", text) else text


def options_mentioned(text: str, options: dict[str, str]) -> set[str]:
    """Return the options that a sentence names by letter, or else by text, without negated options."""
    patterns = _build_patterns(options, "ABCDEFGHIJ")
    known = {letter.lower(): letter for letter in options}
    text = patterns.denied.sub(" ", strip_latex(text[-MAX_ANSWER_CHARS:])[-MAX_ANSWER_CHARS:])
    if patterns.alone.fullmatch(text):
        return {known.get(one.lower(), one.upper()) for one in patterns.key.findall(text)}
    named: set[str] = set()
    for sign in patterns.signs:
        for match in sign.finditer(text):
            named |= {known.get(one.lower(), one.upper()) for one in match.groups()}
    if named:
        return named
    words = join_words(text)
    found = {
        letter: option
        for letter, option in ((letter, join_words(text)) for letter, text in options.items())
        if _is_within(option, words)
    }
    # "dark blue" contains "blue": the longer text wins.
    return {
        letter
        for letter, option in found.items()
        if not any(option != other and _is_within(option, other) for other in found.values())
    }


def _is_within(words: str, others: str) -> bool:
    if words and _CJK.search(words):
        return words in others
    return bool(words) and f" {words} " in f" {others} "


def same_words(answer: str, accepted: str) -> bool:
    """Return whether two texts are equal up to case, articles and surrounding punctuation."""
    given, known = normalise_text(answer), normalise_text(accepted)
    if given == known:
        return True
    if known in ("yes", "no"):  # "Yes, it is."
        first, _, rest = given.partition(" ")
        return first.rstrip(",.;:") == known and not {"yes", "no"} & set(rest.split())
    return _ARTICLE.sub("", given) == _ARTICLE.sub("", known)


_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)")
