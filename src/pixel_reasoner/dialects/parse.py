"""Parser and writer of turns: thoughts, text, calls and the answer.

A call must end the turn, because text after it would be a hallucinated result. Calls and answers inside a thought are
ignored. Without `strict`, malformed calls with one certain meaning are repaired (`dialects.repairs`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.answers import BOXED, AnswerFormat
from pixel_reasoner.dialects.argument_repairs import repair_arguments
from pixel_reasoner.dialects.arguments import ArgumentConventions, CallError, Converted
from pixel_reasoner.dialects.decoders import Form, FoundCall, Reader
from pixel_reasoner.dialects.parsed_turn import ParsedTurn
from pixel_reasoner.dialects.repairs import (
    RepairedTurn,
    TurnFormat,
    repair_turn,
)
from pixel_reasoner.dialects.syntax.base import (
    CallSyntax,
    RawTurn,
    WrittenCall,
    left_out_message,
    several_calls_message,
)
from pixel_reasoner.dialects.syntax.hermes import HERMES
from pixel_reasoner.dialects.syntax.python_list import find_call_line
from pixel_reasoner.dialects.thoughts import THINK_TAGS, ThoughtTags
from pixel_reasoner.dialects.turn_parser import TurnParser
from pixel_reasoner.schema.repairs import Repair, RepairKind
from pixel_reasoner.schema.trace import CallErrorKind, Part, Picture, Text, Thought, ToolCall

THOUGHT_ONLY_MESSAGE = (
    "the turn contains only a thought; write one call or the answer after the thought, because calls inside of it are "
    "not executed"
)


@dataclass(frozen=True, kw_only=True)
class CallFormat(ArgumentConventions):
    """Format of thoughts, calls and answers of a model family."""

    syntax: CallSyntax = HERMES
    answer_format: AnswerFormat = BOXED
    thought_template: str = "{words}"
    """template of the text before a call or an answer"""
    separates_thoughts: bool = False
    """whether text before the first `</think>` is a thought"""
    thought_tags: ThoughtTags = THINK_TAGS
    opens_thought: bool = False
    """whether the prompt of the chat template usually ends in an open thought, so that a turn has only the end tag"""
    separators: tuple[str, str] = ("\n", " ")
    """text between the words of a turn and its call, where {name} is its operation, and between the words and an answer"""
    header: str = ""
    """pattern of text that names the receiver of the words or of the call after it, and is neither"""
    max_calls_per_turn: int = 1

    @property
    def special_tokens(self) -> frozenset[str]:
        """Tags that decoding must keep even if they are special tokens of the tokenizer."""
        if not self.separates_thoughts:
            return self.syntax.special_tokens
        return self.syntax.special_tokens | self.thought_tags.special_tokens

    # --- generated text ---

    def parse(
        self, text: str, pictures: Sequence[Picture] = (), *, strict: bool = True
    ) -> ParsedTurn:
        r"""Parse a generated turn.

        Args:
            text: the whole turn.
            pictures: all pictures in the context of the model. Without them calls and syntax errors are found, but boxes
                in pixels are not converted.
            strict: whether malformed calls are rejected, as in training; otherwise they are repaired where their meaning
                is certain.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.parse(r"It is \boxed{red}.").answer
        'red'
        >>> COMPACT.parse("I look. <tool_call>{}</tool_call>").errors[0].message
        'the call has no name; write {"name": ..., "arguments": {...}}'
        """
        parser = self.parser(pictures)
        parser.feed(text)
        return parser.finish(strict=strict)

    def parser(self, pictures: Sequence[Picture] = ()) -> TurnParser:
        """Return a streaming parser of a turn."""
        return TurnParser(self, pictures)

    def parse_parts(
        self, parts: Sequence[Part], pictures: Sequence[Picture] = (), *, strict: bool = True
    ) -> ParsedTurn:
        """Parse a turn whose parts were separated by the backend, and convert its calls.

        Text is parsed like generated text. A call in a thought is ignored. An answer in a thought is used only if the turn
        contains nothing else.

        Args:
            parts: thoughts, text and calls, with names and coordinates of the family.
            pictures: all pictures in the context of the model.
            strict: see `parse`.
        """
        if not strict:
            return self._repaired_parts(parts, pictures)
        content = self.parser(pictures)
        for part in parts:
            if isinstance(part, Text):
                content.feed(part.text)
        raw, inner = content.split()
        given = [one for one in parts if isinstance(one, ToolCall)]
        thoughts = [one for one in parts if isinstance(one, Thought)]
        count = raw.num_calls + len(given)
        problem = raw.problem or _text_after_call_error(parts)
        if count > self.max_calls_per_turn:
            problem = several_calls_message(count, self.max_calls_per_turn)
        if problem:
            return self._rejected([*thoughts, *inner], problem, count, content.content)
        if raw.num_calls or inner:
            ordered = [*thoughts, *inner, *raw.parts, *map(_to_written, given)]
        else:
            ordered = [_to_written(one) for one in parts]
        turn = self._converted(ordered, content.content, pictures)
        if turn.has_attempted_call or content.content.strip():
            return turn
        answer = self.answer_format.find("\n".join(one.thought for one in thoughts))
        return turn.model_copy(update={"answer": answer})

    def parse_completion(
        self,
        text: str,
        parts: Sequence[Part] | None,
        pictures: Sequence[Picture] = (),
        *,
        strict: bool = True,
    ) -> ParsedTurn:
        """Parse a completion: its parts if the backend separated them, otherwise its text."""
        if parts is None:
            return self.parse(text, pictures, strict=strict)
        return self.parse_parts(parts, pictures, strict=strict)

    def parsed_turn(
        self, thoughts: Sequence[Part], raw: RawTurn, content: str, pictures: Sequence[Picture]
    ) -> ParsedTurn:
        """Return the parsed turn for thoughts and parsed content."""
        if raw.problem:
            return self._rejected(thoughts, raw.problem, raw.num_calls, content)
        return self._converted([*thoughts, *raw.parts], content, pictures)

    def repaired_turn(
        self, thoughts: Sequence[Part], raw: RawTurn, content: str, pictures: Sequence[Picture]
    ) -> ParsedTurn:
        """Return the parsed turn for thoughts and parsed content, repaired where the meaning is certain."""
        calls = [part for part in raw.parts if isinstance(part, WrittenCall)]
        is_valid = not raw.problem and (bool(calls) or self.answer_format.find(content) is not None)
        is_valid = is_valid and all(call.arguments for call in calls)
        has_later_thought = self.separates_thoughts and self.thought_tags.open in content
        found = None
        if not is_valid or has_later_thought:
            found = repair_turn(content, self._turn_format)
        if found is not None and not found.problem:
            return self._with_repairs(thoughts, found, pictures)
        if raw.problem or (found is not None and not raw.num_calls):
            problem = found.problem if found is not None else raw.problem
            num_calls = raw.num_calls if found is None else 0
            return self._rejected(thoughts, problem, num_calls, content)
        turn = self._converted([*thoughts, *raw.parts], content, pictures, strict=False)
        return self._checked_thought(turn, content)

    @property
    def _turn_format(self) -> TurnFormat:
        syntax = self.syntax
        known = {self.family_name(name) for name in roles.operation_names()}
        names = frozenset({*known, *self.operation_names, *roles.operation_names()})
        forms = getattr(syntax, "forms", frozenset({Form.JSON}))
        reader = Reader(syntax.shape, syntax.has_names, names, forms)
        return TurnFormat(
            reader,
            syntax.open,
            syntax.close,
            self.max_calls_per_turn,
            self.thought_tags if self.separates_thoughts else None,
            getattr(syntax, "opens_body", ""),
        )

    def _with_repairs(
        self, thoughts: Sequence[Part], found: RepairedTurn, pictures: Sequence[Picture]
    ) -> ParsedTurn:
        """Return the turn of repaired text."""
        later = [Thought(thought=one) for one in found.thoughts]
        ordered = [*thoughts, *later, found.before, *found.calls, found.after]
        turn = self._converted(ordered, found.before, pictures, strict=False)
        is_rejected = any(error.call == 0 for error in turn.errors)
        kinds = () if is_rejected else found.kinds
        repairs = (*(Repair(kind=kind, call=0) for kind in kinds), *turn.repairs)
        errors = turn.errors
        if found.num_left_out:
            message = left_out_message(found.num_left_out, self.max_calls_per_turn)
            kind, number = CallErrorKind.SEVERAL_CALLS, len(found.calls)
            errors = (*errors, CallError(kind=kind, message=message, call=number))
        update = {"repairs": tuple(dict.fromkeys(repairs)), "errors": errors}
        return self._checked_thought(turn.model_copy(update=update), found.before)

    def _checked_thought(self, turn: ParsedTurn, content: str) -> ParsedTurn:
        """Return the turn, with an error if it contains only a thought."""
        parts = turn.parts
        if self.separates_thoughts and turn.answer is None and not turn.has_attempted_call:
            start, tags = content.lstrip(), self.thought_tags
            if start.startswith(tags.open) and tags.close not in start:  # the thought has no end
                thoughts = [one for one in parts if isinstance(one, Thought)]
                parts = (*thoughts, Thought(thought=start.removeprefix(tags.open)))
        is_only_thought = parts and all(isinstance(one, Thought) for one in parts)
        if not is_only_thought or turn.answer is not None:
            return turn
        error = CallError(kind=CallErrorKind.THOUGHT_ONLY, message=THOUGHT_ONLY_MESSAGE)
        return turn.model_copy(update={"parts": parts, "errors": (*turn.errors, error)})

    def _repaired_parts(self, parts: Sequence[Part], pictures: Sequence[Picture]) -> ParsedTurn:
        """Parse separate parts, and repair them where the meaning is certain."""
        content = self.parser(pictures)
        first = next((n for n, one in enumerate(parts) if isinstance(one, ToolCall)), len(parts))
        texts = [
            "".join(one.text for one in some if isinstance(one, Text))
            for some in (parts[:first], parts[first:])
        ]
        content.feed("".join(texts))
        raw, inner = content.split()
        separate = [one for one in parts if isinstance(one, Thought)]
        thoughts = [*separate, *inner]
        given = [
            FoundCall(WrittenCall(one.name, one.arguments))
            for one in parts[first:]
            if isinstance(one, ToolCall)
        ]
        if given:
            kept, kinds = given[: self.max_calls_per_turn], []
            num_left_out = len(given) - len(kept)
            kinds += [RepairKind.SEVERAL_CALLS] if num_left_out else []
            kinds += [RepairKind.TEXT_AFTER_CALL] if texts[1].strip() else []
            before = texts[0].rpartition(self.thought_tags.close)[2] if inner else texts[0]
            found = RepairedTurn(before, tuple(kept), texts[1], (), tuple(kinds), num_left_out)
            return self._with_repairs(thoughts, found, pictures)
        turn = self.repaired_turn(thoughts, raw, content.content, pictures)
        answer = self.answer_format.find("\n".join(one.thought for one in separate))
        if turn.has_only_thought and answer is not None:
            return turn.model_copy(update={"answer": answer, "errors": ()})
        return turn

    def _rejected(
        self, thoughts: Sequence[Part], problem: str, num_calls: int, content: str
    ) -> ParsedTurn:
        """Return a turn that is rejected as a whole."""
        is_several = num_calls > self.max_calls_per_turn
        kind = CallErrorKind.SEVERAL_CALLS if is_several else CallErrorKind.MALFORMED_CALL
        error = CallError(kind=kind, message=problem)
        return ParsedTurn(parts=(*thoughts, *self._text_parts(content)), errors=(error,))

    def _converted(
        self,
        ordered: Sequence[Part | str | WrittenCall | FoundCall],
        content: str,
        pictures: Sequence[Picture],
        *,
        strict: bool = True,
    ) -> ParsedTurn:
        """Return a turn with converted calls."""
        parts: list[Part] = []
        errors: list[CallError] = []
        repairs: list[Repair] = []
        number = 0
        for part in ordered:
            if isinstance(part, str):
                parts += self._text_parts(part)
                continue
            if not isinstance(part, WrittenCall | FoundCall):
                parts.append(part)
                continue
            converted, kinds = self._to_call(part, pictures, strict)
            parts.append(converted.call)
            if converted.error is not None:
                kind, message = converted.error
                errors.append(CallError(kind=kind, message=message, call=number))
            kinds += [(RepairKind.CLAMPED_BOX, argument) for argument in converted.repaired]
            repairs += [
                Repair(kind=kind, call=number, argument=argument)
                for kind, argument in kinds
                if converted.error is None
            ]
            number += 1
        return ParsedTurn(
            parts=tuple(parts),
            answer=None if number else self.answer_format.find(content),
            errors=tuple(errors),
            repairs=tuple(repairs),
        )

    def _to_call(
        self, part: WrittenCall | FoundCall, pictures: Sequence[Picture], strict: bool
    ) -> tuple[Converted, list[tuple[RepairKind, str]]]:
        """Return a converted call, and the repairs of its form and its arguments."""
        found = part if isinstance(part, FoundCall) else FoundCall(part)
        if strict:
            return self.to_project(self.typed(found.written), pictures), []
        fixed = repair_arguments(self, found.written, pictures)
        converted = self.to_project(fixed.written, pictures)
        converted = converted._replace(error=converted.error or fixed.error)
        return converted, [*((kind, "") for kind in found.kinds), *fixed.kinds]

    def _text_parts(self, text: str) -> list[Part]:
        """Return the text of a turn as a part; nothing if only white space remains."""
        text = self.without_headers(text)
        return [Text(text=text)] if text.strip() else []

    def without_headers(self, text: str) -> str:
        """Return the words of a turn without the names of their receivers."""
        return re.sub(self.header, "", text) if self.header else text

    # --- writing ---

    def write_call(self, call: ToolCall, pictures: Sequence[Picture] = (), about: str = "") -> str:
        """Return the text of a call in the format of the family. The inverse of `parse`, except for padding.

        Args:
            call: with names and coordinates of the project.
            pictures: all pictures in the context of the model; required if boxes are in pixels or pictures have names.
            about: target of the call, for families with a label argument.
        """
        return self.encode(self.to_family(call, pictures, about))

    def encode(self, *calls: WrittenCall) -> str:
        """Return the text of calls with names and coordinates of the family."""
        return self.syntax.encode(calls, self.grid.decimals)

    def write_turn(
        self,
        words: str,
        call: ToolCall | None = None,
        pictures: Sequence[Picture] = (),
        *,
        about: str = "",
        answer: str | None = None,
    ) -> str:
        r"""Return the text of a turn: words, and a call or an answer.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.write_turn("It is red.", answer="red")
        'It is red. \\boxed{red}'
        """
        thought = self.thought_template.format(words=words)
        before_call, before_answer = self.separators
        if call is not None:
            before_call = before_call.replace("{name}", self.family_name(call.name))
            return f"{thought}{before_call}{self.write_call(call, pictures, about)}"
        if answer is None:
            return thought
        return f"{thought}{before_answer}{self.answer_format.write(answer)}"

    def strip_call(self, text: str) -> str:
        """Return the text of a turn without its last call.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.strip_call("I look. <tool_call>{}</tool_call>")
        'I look. '
        """
        if not self.syntax.open:
            start = find_call_line(text)
            return text if start < 0 else text[:start]
        words, tag, _ = text.rpartition(self.syntax.open)
        return words if tag else text


def _to_written(part: Part) -> Part | str | WrittenCall:
    """Convert a part from a backend to the form that parsers return."""
    if isinstance(part, ToolCall):
        return WrittenCall(part.name, part.arguments)
    return part.text if isinstance(part, Text) else part


def _text_after_call_error(parts: Sequence[Part]) -> str:
    """Return an error message if text follows a call; otherwise an empty string."""
    first = next((n for n, one in enumerate(parts) if isinstance(one, ToolCall)), len(parts))
    after = parts[first:]
    if any(isinstance(one, Text) and one.text.strip() for one in after):
        return "a call must end the turn; write no text after it"
    return ""
