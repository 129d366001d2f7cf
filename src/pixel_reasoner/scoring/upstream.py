r"""The scorer in Pixel Reasoner's released code, as it behaves: for comparison with published numbers, never to be trusted.

Its rules, in its order (`rule_reward` and below it in `experience_maker.py`, commit a3a6c3a), faults included:

- Everything is lower-cased. Of accepted answers with a percent sign, the first one's bare number is accepted too, before all others.
- The accepted answer and the candidate are parsed as mathematics by math-verify: words become products of symbols, so that
  "listen" equals "silent" and "no" equals "on"; an accepted answer that does not parse makes the reward -1.
- Candidates: from the last `\boxed` to the end of the text, the first `<answer>`, what follows the last `Answer:` (never found, as the text is
  lower-cased); where none of them gave more than 0.99, the whole text, whatever it says.
- The rule for letters tests the parsed answer's second item for being a capital: it never is.
- An accepted answer with a comma is also right where each of its parts, first seven and last characters cut off as if it were boxed,
  occurs behind the last "boxed": "not troubles, nor the siege" is right for "troubles, the siege".
- A response that does not parse gets -1.

Left out: the flags beside the reward (end token, repetition, format), which do not change it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from pixel_reasoner.errors import packages_of

UNPARSED = -1.0


def rule_reward(said: str, accepted: Sequence[str]) -> float:
    r"""The reward of a response: 1, 0, or -1 where it or the accepted answers do not parse.

    Args:
        said: everything that the model wrote.
        accepted: answers, with or without `\boxed{}`.

    Raises:
        UsageError: math-verify is not installed.

    >>> rule_reward(r"\boxed{silent}", ["listen"]), rule_reward(r"\boxed{(A) red}", ["A"])
    (1.0, 0.0)
    """
    said = said.lower()
    answers = [answer.lower() for answer in accepted]
    bare = next((answer.replace("%", "") for answer in answers if "%" in answer), None)
    if bare is not None and bare not in answers:
        answers.insert(0, bare)
    reward = 0.0
    for answer in answers:
        reward = _compared(said, answer)
        if reward > 0.5:
            return reward
        if _all_parts_are_there(said, answer):
            return 1.0
    return reward


def _all_parts_are_there(said: str, answer: str) -> bool:
    start = said.rfind("boxed")
    if "," not in answer or start < 0:
        return False
    parts = [part.strip() for part in answer[len("\\boxed{") : -1].split(",")]
    return all(part in "\\" + said[start:] for part in parts)


def _compared(said: str, answer: str) -> float:
    answer = _normalised(answer)
    gold = _parse(answer if "\\boxed" in answer else f"\\boxed{{{answer}}}")
    if not gold:
        return UNPARSED
    for candidate in _candidates(said):
        reward = _verified(candidate, gold)
        if reward > 0.99:
            return reward
    return _verified(said, gold)


def _candidates(said: str) -> list[str]:
    found = []
    if "\\boxed" in said:
        found.append(said[said.rindex("\\boxed") :].strip())
    if tagged := re.search("<answer>(.*?)</answer>", said):
        found.append(f"\\boxed{{{tagged[1]}}}")
    return found


def _verified(candidate: str, gold: list[Any]) -> float:
    text = _normalised(candidate)
    parsed = _parse(text)
    if len(gold) > 1 and gold[1] in "ABCDEFGHIJK":
        return float(text[len("\\boxed{") :].startswith(gold[1]))
    if not parsed:
        return UNPARSED
    # The released code gives the two the other way round: what the model said is its gold.
    return float(_math_verify().verify(parsed, gold, timeout_seconds=None))


def _parse(text: str) -> list[Any]:
    parsed: list[Any] = _math_verify().parse(text, parsing_timeout=None)
    return parsed


@cache
def _math_verify() -> Any:
    with packages_of("released", "compare as the released scorer does"):
        import math_verify
    # Its time limits need signals, which only a main thread has; without them it warns at every call.
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
