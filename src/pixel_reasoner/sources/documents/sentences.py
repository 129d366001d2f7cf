"""Candidates about running text.

continue    the words after a phrase
number      the number between two phrases
contains    whether a line contains a word
occurs      whether a phrase is on the page
count       how often a word is on the page
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator

from pixel_reasoner.media.page_text import TextOrigin, Word, is_spaceless, join_words
from pixel_reasoner.schema.question import AnswerType
from pixel_reasoner.sources.documents.candidates import (
    SENTENCE_END,
    Candidate,
    Page,
    Part,
    find_anchor,
    is_answer,
    is_quotable,
    num_words,
    one_place,
    words_box,
    words_height,
)
from pixel_reasoner.sources.documents.phrases import tokens

MAX_COUNTED = 3
"""occurrences of a word that is counted; each needs an operation"""
_MIN_COUNTED_CHARS = 5
_NUMBER = re.compile(r"[-+−]?\d[\d.,]*%?")


def continuations(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield phrases, and the one to three words after them in their line."""
    for line in page.clean_lines:
        words = line.words
        if num_words(words) < 5:
            continue
        num_answer = rng.choice((1, 2, 3)) * (3 if is_spaceless(words[-1].text[:1]) else 1)
        anchor = find_anchor(page, words[:-num_answer], rng)
        if anchor is None:
            continue
        start, end = anchor
        quoted, answer = words[start:end], words[end : end + num_answer]
        if not is_answer(answer) or any(w.text[-1] in SENTENCE_END for w in answer[:-1]):
            continue
        text = join_words(list(quoted))
        number = num_words(answer)
        amount = "word comes" if number == 1 else f"{number} words come"
        is_latin = not is_spaceless(answer[0].text[:1])
        question = (
            f'Which {amount} right after "{text}"?'
            if is_latin
            else f'Which {len(answer)} characters come right after "{text}"?'
        )
        finding = f'after "{text}" comes {{answer}}'
        yield one_place("continue", question, quoted, answer, f'the words after "{text}"', finding)


def numbers(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield numbers with words on both sides."""
    for line in page.clean_lines:
        words = line.words
        for at in range(2, len(words) - 1):
            number = words[at]
            if not _NUMBER.fullmatch(number.text.rstrip(SENTENCE_END)):
                continue
            before, after = words[max(0, at - 3) : at], words[at + 1 : at + 3]
            left, right = join_words(list(before)), join_words(list(after))
            if any(one.isdigit() for one in left + right) or not is_quotable(right):
                continue
            if not page.is_anchor(left) or not is_answer([number]):
                continue
            question = rng.choice(
                (
                    f'Which number stands between "{left}" and "{right}"?',
                    f'Which number is missing here: "{left} ... {right}"?',
                )
            )
            finding = f'between "{left}" and "{right}" stands {{answer}}'
            yield one_place(
                "number",
                question,
                [*before, *after],
                [number],
                f'the number after "{left}"',
                finding,
            )


def contained(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield lines, and a word that they contain or that another line contains."""
    vocabulary = sorted(
        {
            w.text
            for line in page.clean_lines
            for w in line.words
            if w.text.isalpha() and len(w.text) > 3
        }
    )
    for line in page.clean_lines:
        if num_words(line.words) < 5 or line.words[-1].ends_in_hyphen:
            continue
        anchor = find_anchor(page, line.words[:-2], rng, start=0)
        own = [w for w in line.words[anchor[1] :] if w.text in vocabulary] if anchor else []
        if anchor is None or not own:
            continue
        start = join_words(list(line.words[: anchor[1]]))
        known = set(tokens(line.text))
        others = [one for one in vocabulary if one.casefold() not in known]
        is_yes = rng.random() < 0.5 or not others
        word = rng.choice(own).text if is_yes else rng.choice(others)
        answer = "yes" if is_yes else "no"
        has = "has" if is_yes else "does not have"
        part = Part(
            f'the line that starts with "{start}"',
            f'the line that starts with "{start}" {has} the word "{word}"',
            line.box,
            line.box,
            words_height(line.words),
        )
        question = (
            f'Does the line that starts with "{start}" contain the word "{word}"? Answer yes or no.'
        )
        yield Candidate("contains", question, answer, AnswerType.TEXT, (part,))


def occurring(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield phrases that are on the page. Phrases that are not are `absent_candidates`."""
    for line in page.clean_lines:
        if num_words(line.words) < 4:
            continue
        anchor = find_anchor(page, line.words, rng)
        if anchor is None:
            continue
        words = line.words[slice(*anchor)]
        text = join_words(list(words))
        part = Part(
            f'the words "{text}"',
            f'here are the words "{text}"',
            words_box(words),
            words_box(words),
            words_height(words),
        )
        question = occurs_question(text, rng)
        yield Candidate("occurs", question, "yes", AnswerType.TEXT, (part,))


def occurs_question(text: str, rng: random.Random) -> str:
    """Return the question whether a phrase is on the page."""
    return rng.choice(
        (
            f'Are the words "{text}" on this page? Answer yes or no.',
            f'Does the page contain the words "{text}"? Answer yes or no.',
        )
    )


def counts(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield words that occur two or three times, each as a whole word."""
    if page.text.origin is TextOrigin.OCR:  # a word that was not recognized would be missing
        return
    places: defaultdict[str, list[Word]] = defaultdict(list)
    for line in page.lines:
        for word in line.words:
            if len(found := tokens(word.text)) == 1 and len(found[0]) >= _MIN_COUNTED_CHARS:
                places[found[0]].append(word)
    for token, words in places.items():
        number = len(words)
        if (
            not 2 <= number <= MAX_COUNTED
            or not token.isalpha()
            or page.words.count(token) != number
        ):
            continue
        if any(word.ends_in_hyphen or not is_quotable(word.text) for word in words):
            continue
        findings = [f'here is "{token}" number {n}' for n in range(1, number)]
        findings.append(f'here is number {number}, so "{token}" occurs {number} times')
        parts = tuple(
            Part(f'"{token}" number {n}', finding, word.box, word.box, words_height([word]))
            for n, (word, finding) in enumerate(zip(words, findings, strict=True), start=1)
        )
        question = rng.choice(
            (
                f'How often does the word "{token}" occur on the page, in upper or lower case?',
                f'How many times is the word "{token}" on the page, in upper or lower case?',
            )
        )
        yield Candidate("count", question, str(number), AnswerType.INTEGER, parts)
