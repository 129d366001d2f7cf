"""Reader of files with questions. Every mistake gives one line: where, what is allowed, and how to correct it."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.workflows.survey.questions import (
    DEFAULT_UNSURE,
    NUMERIC,
    OPERATORS,
    AnswerKind,
    Condition,
    SurveyQuestion,
    Value,
)

KEYS = ("id", "text", "type", "choices", "when", "region", "unsure")
"""keys of a question"""
TOP_KEYS = ("unsure", "question")
MAX_CHOICES = 26
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONDITION = re.compile(r"\s*([A-Za-z0-9_-]+)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*")


class _Mistake(Exception):
    """A wrong value: what is expected, what it is, and how to correct it."""

    def __init__(self, expected: str, got: Any, fix: str) -> None:
        shown = got if isinstance(got, str) and got.strip() else repr(got)
        super().__init__(f"expected {expected}; got {shown[:80]}. Fix: {fix}")


def read_question_file(path: Path) -> list[SurveyQuestion]:
    """Return the questions of a TOML file.

    Raises:
        InputError: the file cannot be read, or is no TOML.
        UsageError: mistakes in it; the message has one line for each.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # also TOMLDecodeError and UnicodeDecodeError
        raise InputError(
            expected="a TOML file with questions",
            got=f"{path}: {reason(error)}",
            fix="`pixel-reasoner init survey` writes a commented one",
        ) from error
    return parse_questions(table, str(path))


def parse_questions(table: Mapping[str, Any], name: str = "the questions") -> list[SurveyQuestion]:
    """Return the questions of a table with the keys `question` and `unsure`.

    Args:
        table: as `tomllib` reads it.
        name: of the file, for messages.

    Raises:
        UsageError: mistakes; the message has one line for each.

    >>> table = {"question": [{"text": "Is there rust?", "type": "yesno"}, {"id": "n", "txt": "How many?"}]}
    >>> parse_questions(table, "survey.toml")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected questions without mistakes; got 3 in survey.toml:
      question 1, type: expected yes_no, choice, number, count, text; got yesno. Fix: type = "yes_no"
      question 2 (n), txt: expected one of id, text, type, choices, when, region, unsure; got txt. Fix: rename it to text
      question 2 (n), text: expected a text; got none. Fix: text = "What is it?"
    Fix: correct these lines; `pixel-reasoner init survey` writes a commented example
    """
    reader = _Reader(table)
    questions = reader.read()
    if reader.mistakes:
        lines = "".join(f"\n  {one}" for one in reader.mistakes)
        raise UsageError(
            expected="questions without mistakes",
            got=f"{len(reader.mistakes)} in {name}:{lines}\n",
            fix="correct these lines; `pixel-reasoner init survey` writes a commented example",
        )
    return questions


class _Reader:
    """Reader that collects all mistakes."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self.mistakes: list[str] = []
        self._known: dict[str, SurveyQuestion] = {}
        """questions before the current one"""
        self._unsure = DEFAULT_UNSURE

    def read(self) -> list[SurveyQuestion]:
        """Return the questions without mistakes, and note all mistakes."""
        self._note("", self._unknown_keys(self._table, TOP_KEYS))
        if "unsure" in self._table:
            self._unsure = self._value("", self._table, "unsure", _share, DEFAULT_UNSURE)
        rows = self._table.get("question", [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.mistakes.append(
                "question: expected a list of tables. Fix: write [[question]] above each"
            )
            return []
        if not rows:
            self.mistakes.append(
                "question: expected at least one; got none. Fix: add [[question]] and its text"
            )
        for number, row in enumerate(rows, start=1):
            self._read_question(number, row)
        return list(self._known.values())

    def _read_question(self, number: int, row: Mapping[str, Any]) -> None:
        id_ = row.get("id")
        where = f"question {number} ({id_}), " if isinstance(id_, str) else f"question {number}, "
        before = len(self.mistakes)
        self._note(where, self._unknown_keys(row, KEYS))
        name = self._value(where, row, "id", self._id, f"q{number}")
        text = self._value(where, row, "text", _text, "", is_required=True)
        kind = self._value(where, row, "type", _kind, AnswerKind.TEXT)
        choices = self._choices(where, row, kind)
        when = self._value(where, row, "when", self._condition, None)
        region = self._value(where, row, "region", _region, None)
        unsure = self._value(where, row, "unsure", _share, self._unsure)
        if len(self.mistakes) == before or name not in self._known:
            self._known[name] = SurveyQuestion(
                id=name,
                text=text,
                type=kind,
                choices=choices,
                when=when,
                region=region,
                unsure=unsure,
            )

    def _value(
        self,
        where: str,
        row: Mapping[str, Any],
        key: str,
        parse: Any,
        default: Any,
        *,
        is_required: bool = False,
    ) -> Any:
        if key not in row and not is_required:
            if key != "id":
                return default
            row = {**row, "id": default}
        try:
            return parse(row.get(key))
        except _Mistake as mistake:
            self.mistakes.append(f"{where}{key}: {mistake}")
            return default

    def _note(self, where: str, mistakes: Iterator[tuple[str, _Mistake]]) -> None:
        self.mistakes += [f"{where}{key}: {mistake}" for key, mistake in mistakes]

    def _unknown_keys(
        self, row: Mapping[str, Any], keys: Sequence[str]
    ) -> Iterator[tuple[str, _Mistake]]:
        for key in row:
            if key not in keys:
                close = difflib.get_close_matches(key, keys, 1)
                fix = f"rename it to {close[0]}" if close else "remove it"
                yield key, _Mistake(f"one of {', '.join(keys)}", key, fix)

    # --- values that depend on other questions ---

    def _id(self, value: Any) -> str:
        if not isinstance(value, str) or not _ID.fullmatch(value):
            raise _Mistake("1 to 64 letters, digits, _ or -", value, 'for example id = "rust"')
        if value in self._known:
            raise _Mistake("a unique id", f"{value} again", "choose another one")
        return value

    def _choices(self, where: str, row: Mapping[str, Any], kind: AnswerKind) -> tuple[str, ...]:
        if kind is not AnswerKind.CHOICE:
            if "choices" in row:
                mistake = _Mistake(
                    f"no choices for the type {kind}",
                    row["choices"],
                    'type = "choice", or remove it',
                )
                self.mistakes.append(f"{where}choices: {mistake}")
            return ()
        return tuple(self._value(where, row, "choices", _choices, (), is_required=True))

    def _condition(self, value: Any) -> Condition:
        match = _CONDITION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise _Mistake(
                f"QUESTION OPERATOR VALUE with {', '.join(OPERATORS)}",
                value,
                'for example when = "rust == yes"',
            )
        name, operator, text = match[1], match[2], match[3].strip("\"'")
        if name not in self._known:
            earlier = ", ".join(self._known) or "there is none"
            raise _Mistake(
                f"the id of an earlier question ({earlier})",
                name,
                "move that question before this one",
            )
        return Condition(name, operator, _condition_value(self._known[name], operator, text))


def _condition_value(question: SurveyQuestion, operator: str, text: str) -> Value:
    if question.type in NUMERIC:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _Mistake(
                f"a number, the type of {question.id}", text, f"{question.id} {operator} 1"
            )
        return int(number) if number == int(number) else number
    if operator not in ("==", "!="):
        raise _Mistake(
            f"== or != for the type {question.type}", operator, f"{question.id} == {text}"
        )
    allowed = {AnswerKind.YES_NO: ("yes", "no"), AnswerKind.CHOICE: question.choices}.get(
        question.type, ()
    )
    matching = [one for one in allowed if one.casefold() == text.casefold()]
    if allowed and not matching:
        raise _Mistake(
            f"an answer to {question.id}: {', '.join(allowed)}",
            text,
            f"{question.id} == {allowed[0]}",
        )
    return matching[0] if matching else text


# --- single values ---


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Mistake("a text", "none" if value is None else value, 'text = "What is it?"')
    return value.strip()


def _kind(value: Any) -> AnswerKind:
    if value in list(AnswerKind):
        return AnswerKind(value)
    close = difflib.get_close_matches(str(value), list(AnswerKind), 1)
    raise _Mistake(
        ", ".join(AnswerKind), value, f'type = "{close[0] if close else AnswerKind.TEXT}"'
    )


def _choices(value: Any) -> tuple[str, ...]:
    fix = 'choices = ["red", "blue"]'
    if value is None:
        raise _Mistake("a list of texts for the type choice", "none", fix)
    if not isinstance(value, list) or not all(
        isinstance(one, str) and one.strip() for one in value
    ):
        raise _Mistake("a list of texts", value, fix)
    if not 2 <= len(value) <= MAX_CHOICES:
        raise _Mistake(f"2 to {MAX_CHOICES} choices", f"{len(value)}", fix)
    if len({one.casefold().strip() for one in value}) < len(value):
        raise _Mistake("different choices", value, "remove the repeated one")
    return tuple(one.strip() for one in value)


def _region(value: Any) -> Box:
    try:
        return Box.of(value if isinstance(value, list) else [])
    except BoxError as error:
        fix = (
            "divide pixels by the width and height: region = [0.0, 0.5, 1.0, 1.0] is the lower half"
        )
        raise _Mistake(
            "[x1, y1, x2, y2] as fractions of the picture", f"{value} ({error})"[:300], fix
        ) from error


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _Mistake("a share from 0 to 1", value, f"unsure = {DEFAULT_UNSURE}")
    return float(value)
