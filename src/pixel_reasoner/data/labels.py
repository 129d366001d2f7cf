"""Prompts for a labeller, and conversion of its replies to question fields."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Evidence, Question
from pixel_reasoner.sources.rows import RowError, with_options

REGION_PROMPT = """\
You see a whole scene, and then an enlarged part of it: from {left:.0%} to {right:.0%} of its width, from {top:.0%} to {bottom:.0%} of its height.
Write one multiple-choice question about something that can be told from the enlarged part alone: a word, a number, a colour, a kind, a state, a material.
- The question names the thing in such a way that it is found in the whole scene. It does not speak of parts, pictures or enlargements.
- It cannot be answered by guessing or from the rest of the scene.
- Of its four short options exactly one is right, beyond doubt.
Reply with one JSON object and nothing else:
{{"valid": true, "subject": "the sign above the door", "question": "What does the sign above the door say?", "options": {{"A": "Way in", "B": "Exit", "C": "Closed", "D": "Tickets"}}, "answer": "B", "finding": "the sign above the door is green and says Exit"}}
subject: what the question is about, in a few words. finding: what the enlarged part shows that leads to the answer, in one sentence.
If the part is blurred, or shows nothing that such a question could be about, reply {{"valid": false}}."""

FINDINGS_PROMPT = """\
You see {what}. They belong to this question:
{question}
The right answer is: {answer}
Say what can be seen there that leads to the answer: {number}, each one or two short sentences that begin with the thing itself, such as "the sign above the door is green and says Exit". Do not speak of pictures, parts or the question.
Reply with one JSON object and nothing else:
{{"valid": true, "findings": {example}}}
If what you see does not support the answer, reply {{"valid": false}}."""

_LETTERS = "ABCD"
_NOT_VALID = frozenset({"not valid", "not_valid", "invalid"})
_SPECIAL_TEXT = re.compile(r"\\boxed|<[|/a-z]", re.IGNORECASE)
"""text that a chat template or the rollout would interpret"""
_MAX_CHARS = 600

Task = tuple[str, Callable[[str], dict[str, Any] | None]]
"""prompt, and parser of the reply: question fields, or None for "not valid\""""


class Analysis(StrEnum):
    """Writer of findings (descriptions of crops)."""

    TEMPLATE = "template"
    """template, from the annotation"""
    LABELLER = "labeller"


def region_task(row: Question, evidence: Evidence, region: Box, analysis: Analysis) -> Task:
    """Return the task for a region without a question.

    Args:
        row: row without text.
        evidence: evidence of the row.
        region: region that the labeller receives enlarged.
        analysis: writer of the finding.
    """
    left, top, right, bottom = region
    text = REGION_PROMPT.format(left=left, top=top, right=right, bottom=bottom)
    return text, partial(_read_question, row, evidence, analysis)


def findings_task(row: Question, evidence: Evidence) -> Task:
    """Return the task for a question with an answer: describe its evidence."""
    number = max(1, len(evidence.boxes))
    parts = [f"{len(evidence.frames)} frames of a video"] if evidence.frames else []
    parts += [f"{number} enlarged parts of a picture"] if evidence.boxes else []
    text = FINDINGS_PROMPT.format(
        what=" and ".join(parts),
        question=row.text,
        answer=row.answer[0],
        number="one text" if number == 1 else f"{number} texts, one for each part in order",
        example=json.dumps(["..."] * number),
    )
    return text, partial(_read_findings, evidence, number)


def _read_findings(evidence: Evidence, number: int, reply: str) -> dict[str, Any] | None:
    fields = _parse_reply(reply)
    if fields is None:
        return None
    findings = fields.get("findings")
    if not isinstance(findings, list) or len(findings) != number:
        raise RowError("reply_missing_fields", f"expected {number} findings; got {_short(reply)}")
    words = tuple(_phrase(finding, "findings", reply) for finding in findings)
    return {"evidence": evidence.model_copy(update={"findings": words})}


def _read_question(
    row: Question, evidence: Evidence, analysis: Analysis, reply: str
) -> dict[str, Any] | None:
    fields = _parse_reply(reply)
    if fields is None:
        return None
    text = _clean(fields.get("question"), "question", reply)
    subject = _phrase(fields.get("subject"), "subject", reply)
    finding = _phrase(fields.get("finding"), "finding", reply)
    options = fields.get("options")
    if not isinstance(options, dict) or {*options} != {*_LETTERS}:
        raise RowError("reply_missing_fields", f"expected options A to D; got {_short(reply)}")
    texts = [_clean(options[letter], "options", reply) for letter in _LETTERS]
    if len({text.casefold() for text in texts}) < len(texts):
        raise RowError("reply_same_options", f"expected four different options; got {texts}")
    right = _right_option(fields.get("answer"), texts, reply)
    random.Random(f"options/{row.id}").shuffle(texts)
    letter = _LETTERS[texts.index(right)]
    shuffled = dict(zip(_LETTERS, texts, strict=True))
    if analysis is Analysis.TEMPLATE:
        finding = f"this part shows {subject}, and the answer is {letter}, {right}"
    words = {"subjects": (subject,), "findings": (finding,)}
    return {
        "text": with_options(text, shuffled),
        "answer": (letter,),
        "answer_type": AnswerType.CHOICE,
        "options": shuffled,
        "evidence": evidence.model_copy(update=words),
    }


def _right_option(answer: Any, texts: list[str], reply: str) -> str:
    """Return the text of the option that an answer names by letter or by text."""
    named = str(answer or "").strip()
    letter = named.rstrip(".):").upper()
    if len(letter) == 1 and letter in _LETTERS:
        return texts[_LETTERS.index(letter)]
    for text in texts:
        if text.casefold() == named.casefold():
            return text
    if not named:
        raise RowError("reply_missing_fields", f"expected an answer; got {_short(reply)}")
    raise RowError("answer_not_among_options", f"expected A to D; got {named!r} for {texts}")


def _parse_reply(reply: str) -> dict[str, Any] | None:
    """Return the JSON object of a reply; None for "not valid". Reasoning before it and code fences are ignored."""
    text = reply.rpartition("</think>")[2].strip()
    if not text:
        raise RowError("empty_reply", "the labeller returned no text")
    if text.strip(" .!\"'`").lower() in _NOT_VALID:
        return None
    for brace in re.finditer(r"\{", text):
        try:
            fields, _ = json.JSONDecoder().raw_decode(text, brace.start())
        except ValueError:
            continue
        except RecursionError:  # too deeply nested to be a valid reply
            break
        if not isinstance(fields.get("valid"), bool):
            raise RowError(
                "reply_missing_fields", f"expected valid: true or false; got {_short(reply)}"
            )
        return fields if fields["valid"] else None
    raise RowError("reply_not_json", f"expected a JSON object; got {_short(reply)}")


def _phrase(value: Any, name: str, reply: str) -> str:
    """Return a text of a reply, written as in the middle of a sentence."""
    text = _clean(value, name, reply).rstrip(". ")
    if not text:
        raise RowError("reply_missing_fields", f"expected {name}; got {_short(reply)}")
    return re.sub(r"^(The|A|An|This|These|It|There|Its|On|In)\b", lambda m: m[0].lower(), text)


def _clean(value: Any, name: str, reply: str) -> str:
    """Return a text of a reply on one line. Special tokens of a chat template are rejected."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise RowError("reply_missing_fields", f"expected {name}; got {_short(reply)}")
    text = " ".join(value.split())
    if _SPECIAL_TEXT.search(text) or len(text) > _MAX_CHARS:
        raise RowError("reply_unusable_text", f"expected short plain words; got {_short(text)}")
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}…")
