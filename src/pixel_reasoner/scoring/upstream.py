r"""Upstream-compatible scorer, for comparison with published results only: it reproduces the faults of Pixel Reasoner's code.

Rules in upstream order (`rule_reward` and the functions it calls in `experience_maker.py`, commit a3a6c3a), with the
faults:

- Everything is lower-cased. The first accepted answer with a percent sign is also accepted without it, before all others.
- The accepted answer and the candidate are parsed as mathematics by math-verify. Words become products of symbols, so
  "listen" equals "silent" and "no" equals "on". An accepted answer that does not parse gives the reward -1.
- Candidates: the text from the last `\boxed` to the end, the first `<answer>`, the text after the last `Answer:` (never
found, as
  the text is lower-cased). If none scores more than 0.99, the candidate is the whole text.
- The letter rule tests whether the second item of the parsed answer is a capital. It never is.
- An accepted answer with a comma is also right if each of its parts occurs after the last "boxed". The first seven and
the last
  character are cut off as if it were boxed: "not troubles, nor the siege" is right for "troubles, the siege".
- A response that does not parse gets -1.

Departure: only the first 4,000 characters of a candidate and the last 4,000 of a whole response are parsed.

Left out: the other returned flags (end token, repetition, format). They do not change the reward.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

from pixel_reasoner.errors import require_extra

UNPARSED = -1.0
MAX_PARSED_CHARS = 4000
"""maximum characters parsed of a candidate, and of the end of a response: math-verify's time grows with their square"""


def upstream_reward(response: str, accepted: Sequence[str]) -> float:
    r"""Return the reward of a response: 1, 0, or -1 if it or the accepted answers do not parse.

    Args:
        response: all generated text.
        accepted: answers, with or without `\boxed{}`.

    Raises:
        UsageError: math-verify is not installed.

    >>> upstream_reward(r"\boxed{silent}", ["listen"]), upstream_reward(r"\boxed{(A) red}", ["A"])
    (1.0, 0.0)
    """
    response = response.lower()
    answers = [answer.lower() for answer in accepted]
    bare = next((answer.replace("%", "") for answer in answers if "%" in answer), None)
    if bare is not None and bare not in answers:
        answers.insert(0, bare)
    reward = 0.0
    for answer in answers:
        reward = _compared(response, answer)
        if reward > 0.5:
            return reward
        if _contains_all_parts(response, answer):
            return 1.0
    return reward


def _contains_all_parts(response: str, answer: str) -> bool:
    start = response.rfind("boxed")
    if "," not in answer or start < 0:
        return False
    parts = [part.strip() for part in answer[len("\\boxed{") : -1].split(",")]
    return all(part in "\\" + response[start:] for part in parts)


def _compared(response: str, answer: str) -> float:
    answer = _normalised(answer)
    gold = _parse(answer if "\\boxed" in answer else f"\\boxed{{{answer}}}")
    if not gold:
        return UNPARSED
    for candidate in _candidates(response):
        reward = _verified(candidate, gold)
        if reward > 0.99:
            return reward
    return _verified(response[-MAX_PARSED_CHARS:], gold)


def _candidates(response: str) -> list[str]:
    found = []
    if "\\boxed" in response:
        found.append(response[response.rindex("\\boxed") :].strip())
    for line in response.split("\n"):
        _, _, rest = line.partition("<answer>")
        inner, closed, _ = rest.partition("</answer>")
        if closed:
            found.append(f"\\boxed{{{inner}}}")
            break
    return [candidate[:MAX_PARSED_CHARS] for candidate in found]


def _verified(candidate: str, gold: list[Any]) -> float:
    text = _normalised(candidate)
    parsed = _parse(text)
    if len(gold) > 1 and gold[1] in "ABCDEFGHIJK":
        return float(text[len("\\boxed{") :].startswith(gold[1]))
    if not parsed:
        return UNPARSED
    # Upstream passes the response as the gold argument.
    return float(_math_verify().verify(parsed, gold, timeout_seconds=None))


def _parse(text: str) -> list[Any]:
    parsed: list[Any] = _math_verify().parse(text, parsing_timeout=None)
    return parsed


@cache
def _math_verify() -> Any:
    with require_extra("released", "compare as the released scorer does"):
        import math_verify
    # Its time limits need signals, which only the main thread can use. Without limits it warns at every call.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return math_verify


def _normalised(text: str) -> str:
    for old, new in (
        ("dfrac", "frac"),
        ("\\text", ""),
        ("\\varnothing", "\\emptyset"),
        ("minutes", ""),
        ("cm", ""),
    ):
        text = text.replace(old, new)
    return text
