"""Phrases around an answer: thoughts, announcements, reasons, words for zero, in English, Spanish, German and Chinese."""

from __future__ import annotations

import json
import re
from collections import deque
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_THINK_TAG = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_CALL_TAG = re.compile(r"<(?:tool_call|grounding|function_call)>")


class Message(NamedTuple):
    """Message, split into content and thoughts."""

    content: str
    """text outside of thoughts"""
    thought: str


def split_thoughts(text: str) -> Message:
    """Return the text outside and inside of thoughts. Text before a `</think>` without `<think>` is a thought.

    >>> split_thoughts("<think>red?</think>It is blue."), split_thoughts("red?</think>blue")
    (Message(content='It is blue.', thought='red?'), Message(content='blue', thought='red?'))
    """
    content: list[str] = []
    thoughts: list[str] = []
    position, is_thought = 0, False
    for tag in _THINK_TAG.finditer(text):
        (thoughts if is_thought else content).append(text[position : tag.start()])
        if tag[1] and not is_thought:
            thoughts += content
            content = []
        position, is_thought = tag.end(), not tag[1]
    (thoughts if is_thought else content).append(text[position:])
    return Message("".join(content).strip(), "\n".join(thoughts).strip())


def has_call(text: str) -> bool:
    """Return whether a message calls an operation."""
    return _CALL_TAG.search(text) is not None


# --- announcements ---

_ANNOUNCED = re.compile(
    r"\b(?:answer|(?:correct|right|best|final|my) (?:option|choice))\b"
    r"(?:\s(?:to|for) [^.:\n]{1,60}?)?"
    r"(?:\s+(?:is|would be|should be|must be|=)(?!\w)\s*:?|\W{0,4}[:=|]|\s+[-–—]\s)"
    r"|\b(?:respuesta|solución)(?:\s\w+){0,2}?(?:\s+(?:es|sería)\b\s*:?|\W{0,4}[:|])"
    r"|\b(?:antwort|lösung)(?:\s\w+){0,2}?(?:\s+(?:ist|lautet|wäre)\b\s*:?|\W{0,4}[:|])"
    r"|答案\s*(?:应该|应|就)?\s*(?:是|为|选|[:：|])\s*[:：]?"
    r"|选(?:择|项)?(?=\s?[(（]?[A-Z](?![A-Za-z]))"
    r"|^[^\w\n]*(?:the )?(?:final |correct |right )?answer[^\w\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_MARKUP = re.compile(r"(?:[\s*_:|>#`]|-{2,})*")
# "3.5" and "a.m." do not end a sentence, nor does a full stop without a following capital.
_SENTENCE_END = re.compile(r"(?<=[^\d\s.][.!?])\s|(?<=\d[.!?])\s+(?=[A-Z])|(?<=[。！？])")
_JSON_ANSWER = re.compile(
    r'"(?:final_?)?answer"\s*:\s*("(?:[^"\\]|\\.){0,1000}"|-?\d[\d.]{0,50})', re.IGNORECASE
)


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def announced_answer(text: str) -> str | None:
    r"""Return the words after the last announcement, to the end of its sentence, line or table cell; None for no announcement.

    >>> announced_answer("A look at it. The answer is (C). It is green."), announced_answer("| Sum | Answer |\n|--|--|\n| 2 + 2 | 4 |")
    ('(C)', '4')
    """
    last = _last_match(_ANNOUNCED, text)
    if last is None:
        return None
    start = _MARKUP.match(text, last.end())
    assert start is not None, "the pattern matches no character"
    line = text[start.end() :].partition("\n")[0]
    if line.rstrip().endswith("|"):
        cells = [cell for cell in line.split("|") if cell.strip()]
        line = cells[-1] if cells else ""
    return _SENTENCE_END.split(line.strip(), maxsplit=1)[0].strip().rstrip(" .*_。") or None


def json_answer(text: str) -> str | None:
    """Return the value of the last `"answer"` in JSON.

    >>> json_answer('{"answer": "C"}')
    'C'
    """
    last = _last_match(_JSON_ANSWER, text)
    if last is None:
        return None
    try:
        return str(json.loads(last[1], strict=False)) if last[1].startswith('"') else last[1]
    except ValueError:
        return None


# Sentence boundaries. Chinese has no blank there.
_BETWEEN_SENTENCES = re.compile(r"(?<=[\w)\"'*][.!?])\s+(?=[A-Z(*¿¡])|(?<=[。！？])(?=.)")


def last_sentence(text: str) -> str:
    """Return the last sentence of the last line."""
    line = text.rstrip().rpartition("\n")[2]
    return _BETWEEN_SENTENCES.split(line.strip())[-1]


_REASON = re.compile(
    r",?\s+(?:because|porque|weil|ya que)\s|,\s+(?:since|as|so|which|where|denn|da)\s|[,，]?因为|[,，]\s*所以",
    re.IGNORECASE,
)


def without_reason(text: str) -> str:
    """Return an announced answer without the reason after it.

    >>> without_reason("red, because the light is on")
    'red'
    """
    return _REASON.split(text, maxsplit=1)[0].rstrip(" ,.*_。，")


_QUOTED = re.compile(
    r"\b(?:is|are|was|were|says?|reads?|states?|shows?|displays?|named|called)\b\W{0,4}"
    r'(?::\s*(?P<rest>\S[^\n]*)|(?:"(?P<quoted>[^"\n]+)"|\*\*(?P<bold>[^*\n]+)\*\*)\W{0,3}$)',
    re.IGNORECASE,
)


def quoted_text(sentence: str) -> str | None:
    """Return the text that a sentence quotes or highlights at its end, or names after a colon; None if it negates or has neither.

    >>> quoted_text('The sign says "STOP".'), quoted_text('It does not say "STOP".')
    ('STOP', None)
    """
    found = _QUOTED.search(sentence)
    if found is None or re.search(r"\b(?:not|never)\b|n't\b", sentence[: found.start()]):
        return None
    return str(next(filter(None, found.groups()))).strip()


# --- numbers ---

_NO = re.compile(
    r"(?:(?:\bnot|n't|\bcannot)\b[^.\n]{0,40}?\bany|\b(?:no|zero|no hay|ning[uú]n[oa]?s?|keine[rnms]?|kein))\s+"
    r"(?P<words>(?:[^\W\d_]+\s+){0,2}[^\W\d_]+)|没有(?!办法|方法|足够|提供)(?P<chinese>[\u4e00-\u9fff])",
    re.IGNORECASE,
)
_NOT_A_THING = _words(
    "more less fewer longer other one how many are there the is what which with in on"
)


def denies_existence(text: str, question: str) -> bool:
    """Return whether a text denies the existence of the thing in a question: `There are no dogs`, to `How many dogs?`.

    >>> denies_existence("There are no dogs.", "How many dogs are there?"), denies_existence("I have no idea.", "How many dogs?")
    (True, False)
    """
    asked = _nouns(question)
    for found in _NO.finditer(text):
        if found["chinese"]:
            if found["chinese"] in question or question.isascii():
                return True
            continue
        first = found["words"].split()[0].lower()
        if first not in _NOT_A_THING and _nouns(found["words"]) & asked:
            return True
    return False


def _nouns(text: str) -> set[str]:
    """Return the words of a text that can name a thing, without plural endings."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return {_stem(word) for word in words} - _NOT_A_THING


def _stem(word: str) -> str:
    return re.sub(r"(?<=\w\w\w)(?:es|en|s|n)$", "", word)


_TOTAL = re.compile(
    r"\b(?:total(?:\s(?:of|is|number))*|in total|in all|altogether|insgesamt|en total|so|therefore|thus|hence|"
    r"also|entonces|por lo tanto|zusammen)\b|总共|一共|共有?|所以|因此",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


def conclusions(text: str, question: str) -> list[str]:
    """Return the parts of a text that may state its result, most certain first.

    The parts are: bold text, the last sentence, the text after or before a word for total or therefore, and the text
    before the
    details after a colon if it names the thing that the question asks about.
    """
    sentence = last_sentence(text)
    bold = _BOLD.findall(sentence)
    parts = [*(bold if len(bold) == 1 else []), sentence]
    last = _last_match(_TOTAL, sentence)
    if last is not None:
        parts.append(re.split(r"[:;(]", sentence[last.end() :], maxsplit=1)[0])
        parts.append(re.split(r"[:;,]", sentence[: last.start()])[-1])
    head, colon, _ = sentence.partition(":")
    if colon and _nouns(head) & _nouns(question):
        parts.append(head)
    return parts


# --- languages ---

_ENGLISH = _words("the is are of and there answer in it")
_DECIMAL_COMMA = _words(
    "der die das ist sind und antwort lautet beträgt ein eine nicht el la los las es son hay respuesta y una"
)


def uses_decimal_comma(text: str) -> bool:
    """Return whether a message is in a language that writes 3.5 as 3,5."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return sum(word in _DECIMAL_COMMA for word in words) > sum(word in _ENGLISH for word in words)


def with_decimal_points(text: str) -> str:
    """Return a text with 3.5 in place of 3,5 and 1250 in place of 1.250.

    >>> with_decimal_points("3,5 km, 1.250,75")
    '3.5 km, 1250.75'
    """
    text = re.sub(
        r"(?<![\d.,])\d{1,3}(?:\.\d{3})+(?![\d.])", lambda found: found[0].replace(".", ""), text
    )
    return re.sub(r"(?<![\d,])(\d+),(\d{1,2}|\d{4,})(?![\d,])", r"\1.\2", text)
