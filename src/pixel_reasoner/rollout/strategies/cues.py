"""Cues: what a question is about, as phrases that a probe can look for. Rules for English questions."""

from __future__ import annotations

import re

MAX_CUES = 4
_MAX_WORDS = 4
_TOKENS = re.compile(r"[\w'’-]+|[^\w\s]")
_END_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "can",
        "could",
        "will",
        "would",
        "carry",
        "carries",
        "and",
        "or",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "without",
        "that",
        "which",
        "who",
        "what",
        "where",
        "when",
        "than",
        "from",
        "by",
        "for",
        "as",
        "between",
        "above",
        "below",
        "under",
        "over",
        "behind",
        "next",
        "near",
        "left",
        "right",
        "into",
        "up",
        "down",
        "it",
        "its",
        "there",
        "say",
        "says",
        "read",
        "reads",
        "show",
        "shows",
        "add",
        "adds",
        "look",
        "looks",
        "wear",
        "wears",
        "hold",
        "holds",
    ]
)
"""words that end a noun phrase"""
_ATTRIBUTES = frozenset(
    [
        "color",
        "colour",
        "colors",
        "colours",
        "number",
        "numbers",
        "digit",
        "digits",
        "letter",
        "letters",
        "text",
        "word",
        "words",
        "name",
        "shape",
        "material",
        "size",
        "pattern",
        "type",
        "kind",
        "picture",
        "image",
        "photo",
        "photograph",
        "left",
        "right",
        "middle",
        "centre",
        "center",
        "top",
        "bottom",
        "side",
        "larger",
        "smaller",
        "bigger",
        "largest",
        "smallest",
        "biggest",
        "first",
        "second",
        "third",
        "last",
        "row",
    ]
)
"""words of phrases that name a property or a place rather than an object"""


def find_cues(text: str) -> list[str]:
    """Return the objects that a question names with "the", in order.

    >>> find_cues("What do the digits on the red circle and the blue square add up to?")
    ['red circle', 'blue square']
    >>> find_cues("What is the colour of the woman's bag?"), find_cues("How many shapes are there?")
    (["woman's bag"], [])
    """
    tokens = _TOKENS.findall(text)
    cues: list[str] = []
    for start, token in enumerate(tokens):
        if token.lower() == "the":
            words = _phrase(tokens[start + 1 :])
            if words and not {word.lower() for word in words} & _ATTRIBUTES:
                cues.append(" ".join(words))
    return list(dict.fromkeys(cues))[:MAX_CUES]


def _phrase(tokens: list[str]) -> list[str]:
    words: list[str] = []
    for token in tokens[:_MAX_WORDS]:
        if token.lower() in _END_WORDS or not token[0].isalnum():
            break
        words.append(token)
    return words


def existence_question(cue: str) -> str:
    """Return the question whether a picture shows a cue.

    >>> existence_question("red circle"), existence_question("orange cat"), existence_question("red shapes")
    ('Is there a red circle?', 'Is there an orange cat?', 'Are there any red shapes?')
    """
    last = cue.split()[-1].lower()
    if last.endswith("s") and not last.endswith(("ss", "us", "'s", "’s")):
        return f"Are there any {cue}?"
    article = "an" if cue[:1].lower() in "aeiou" else "a"
    return f"Is there {article} {cue}?"
