"""Prompt rendering: system message with tool definitions, questions, and results of operations.

A family has its own texts for the default operations. For any other set of operations `texts_for` formats their
definitions in the style of the family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.boxes import FRACTIONS
from pixel_reasoner.dialects.carriage import (
    TEXT,
    Carriage,
    Message,
    SplitTurn,
    call_id,
    joined,
    split_calls,
    split_thought,
)
from pixel_reasoner.dialects.parse import CallFormat
from pixel_reasoner.dialects.picture_names import FROM_1
from pixel_reasoner.dialects.roles import ArgumentRole, ToolDefinition
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_json
from pixel_reasoner.dialects.thoughts import THINK_TAGS
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import Observation, Picture, Turn

_FRACTIONS_IN_WORDS = ", from 0 to 1"
"""start of the unit in descriptions of coordinates; a dialect with another unit replaces what follows"""

View = Callable[[int], Any]
"""picture number -> the content of a message, usually the pixels"""


class OperationTexts(NamedTuple):
    """Prompt texts that depend on the enabled operations."""

    system: str
    """system message; empty for none"""
    suffix: str = ""
    """text after the question"""
    result_end: str = ""
    """text after the last picture of a result"""
    native_system: str = ""
    """system message for native tool calls, where the server lists the operations; empty for none"""


class Exchange(NamedTuple):
    """Earlier question of a conversation."""

    question: Question
    pictures: Sequence[Picture]
    """pictures that this question added"""
    turns: Sequence[Turn]
    num_pictures: int = 0
    """pictures in the context after this exchange; not used by dialects"""


@dataclass(frozen=True, kw_only=True)
class PromptFormat(CallFormat):
    """Prompt texts of a model family. Fixed texts about operations refer to the default operations."""

    system_with_operations: str
    """system message with operations"""
    system_without_operations: str
    """system message without operations; empty for none"""
    system_with_video: str = ""
    """system message with operations for a video, for families that list the frame tool only then"""
    texts_for: Callable[[Mapping[str, ToolDefinition]], OperationTexts]
    """operation -> definition with names of the family; returns the prompt texts for these operations"""
    question_prefix: str = ""
    """text between the pictures and the question"""
    suffix_with_operations: str = ""
    suffix_without_operations: str = ""
    picture_label: Callable[[Picture], str] = lambda picture: ""
    """text before a picture of the question"""
    result_labels: Callable[[Sequence[Picture], int], list[str]]
    """(new pictures, number of pictures of questions before them) -> text before each new picture"""
    result_end: str = ""
    """text after the last new picture"""
    text_result_template: str = "{text}"
    """text around the result of an operation that returns no pictures"""
    error_template: str = "{why}"
    """template of the message for a rejected call"""
    tools: Sequence[ToolDefinition] = ()
    """definitions of the default operations for native tool calls"""
    native_system: str = ""
    """system message for native tool calls; empty for none"""
    carriage: Carriage = TEXT
    """how the chat template carries roles, thoughts, calls and results"""

    def messages(
        self,
        question: Question,
        pictures: Sequence[Picture],
        turns: Sequence[Turn],
        view: View,
        *,
        operations: bool | Sequence[str] = True,
        history: Sequence[Exchange] = (),
    ) -> list[Message]:
        """Return the conversation so far as messages for a chat template.

        Args:
            question: the current question.
            pictures: pictures that it added.
            turns: turns since the current question.
            view: returns the message content for a picture number, usually the pixels.
            operations: names of the enabled operations; True for the default operations, False for none.
            history: exchanges before the current question. The first one determines the system message.

        Raises:
            UnknownNameError: unknown operation.
        """
        exchanges = [*history, Exchange(question, pictures, turns)]
        texts = self.texts(operations, has_video(exchanges[0].question))
        messages = self._system_messages(texts.system)
        num_question_pictures = 0
        for exchange in exchanges:
            opening = self._opening(exchange, texts, view)
            if messages and messages[-1]["role"] == "user":
                # The previous exchange ended with a result. Many templates reject two consecutive user messages.
                opening = [*messages.pop()["content"], *self._gap(messages), *opening]
            messages.append(self._message("user", opening))
            num_question_pictures += len(exchange.pictures)
            for turn in exchange.turns:
                said = self._turn_message(turn, len(messages))
                messages.append(said)
                if turn.observations:
                    shown = _Shown(num_question_pictures, texts, view, _prompt_sizes(exchanges))
                    results = self._results(turn, shown)
                    messages.append(self._result_message(results, said))
        return messages

    def with_native_system(
        self, messages: Sequence[Message], operations: bool | Sequence[str], *, has_video: bool
    ) -> list[Message]:
        """Replace the system message for native tool calls (`tool_definitions`).

        Args:
            messages: result of `messages` for these operations.
            operations: names; True for the default operations, False for none.
            has_video: whether the first question has a video.
        """
        if not self.listed_operations(operations, has_video):
            return list(messages)
        texts = self.texts(operations, has_video)
        if self.carriage.system_role:
            return [*self._system_messages(texts.native_system), *messages[bool(texts.system) :]]
        first, *following = messages
        opening = _without_start(
            first["content"], texts.system + _SYSTEM_END if texts.system else ""
        )
        opening = [_text(texts.native_system + _SYSTEM_END), *opening]
        return [self._message("user", opening if texts.native_system else opening[1:]), *following]

    def with_system(self, messages: Sequence[Message], system: str) -> list[Message]:
        """Add a text to the system message, or to the start of the first user message in families without one.

        The system message keeps one part, because some templates read only its first part.

        Args:
            messages: result of `messages`.
            system: text, for example instructions of a client.
        """
        first, *following = messages
        if not self.carriage.system_role:
            opening = [_text(system + _SYSTEM_END), *first["content"]]
            return [self._message("user", opening), *following]
        if first["role"] != "system":
            return [*self._system_messages(system), first, *following]
        parts = [*first["content"], _text(_SYSTEM_END), _text(system)]
        return [{"role": "system", "content": joined(parts)}, *following]

    # --- operations ---

    def listed_operations(
        self, operations: bool | Sequence[str], has_video: bool
    ) -> tuple[str, ...]:
        """Return the names of the operations that a prompt lists, default operations first.

        Args:
            operations: names; True for the default operations, False for none.
            has_video: whether the question has a video. Some families list the frame tool only then.
        """
        wanted = DEFAULT_OPERATIONS if operations is True else operations or ()
        if set(wanted) == set(DEFAULT_OPERATIONS):
            return DEFAULT_OPERATIONS
        names = [one for one in DEFAULT_OPERATIONS if one in wanted]
        names += [one for one in wanted if one not in names]
        for name in names:
            roles.get_definition(name)
        if self.system_with_video and not has_video:
            names = [name for name in names if not roles.needs_video(name)]
        return tuple(names)

    def texts(self, operations: bool | Sequence[str], has_video: bool) -> OperationTexts:
        """Return the prompt texts for a set of operations.

        Args:
            operations: names; True for the default operations, False for none.
            has_video: whether the question has a video.

        Raises:
            UnknownNameError: unknown operation.
        """
        names = self.listed_operations(operations, has_video)
        if not names:
            return OperationTexts(
                self.system_without_operations, self.suffix_without_operations, self.result_end
            )
        if names == DEFAULT_OPERATIONS:
            system = self.system_with_video if has_video else ""
            return OperationTexts(
                system or self.system_with_operations,
                self.suffix_with_operations,
                self.result_end,
                self.native_system,
            )
        return self.texts_for({name: self.tool_definition(name) for name in names})

    def tool_definitions(
        self, operations: bool | Sequence[str] = True, *, has_video: bool = True
    ) -> list[ToolDefinition]:
        """Return the tool definitions of operations for native tool calls.

        >>> from pixel_reasoner.dialects import get_dialect
        >>> [one["function"]["name"] for one in get_dialect("qwen3_vl").tool_definitions(["zoom_in"])]
        ['image_zoom_in_tool']
        """
        names = self.listed_operations(operations, has_video)
        if self.system_with_video and not has_video:
            names = tuple(name for name in names if not roles.needs_video(name))
        return [self.tool_definition(name) for name in names]

    def required_arguments(self, operation: str) -> frozenset[str]:
        """Return the required arguments of an operation, as its tool definition lists them."""
        name = self.family_name(operation)
        own = next((tool for tool in self.tools if tool["function"]["name"] == name), None)
        if own is None:
            return super().required_arguments(operation)
        return frozenset(own["function"]["parameters"]["required"])

    def tool_definition(self, operation: str) -> ToolDefinition:
        """Return the definition of an operation with names and coordinates of the family.

        Raises:
            UnknownNameError: unknown operation.
        """
        name = self.family_name(operation)
        own = next((tool for tool in self.tools if tool["function"]["name"] == name), None)
        if own is not None:
            return own
        definition = deepcopy(roles.get_definition(operation))
        function, schema = definition["function"], definition["function"]["parameters"]
        names = self.family_arguments(operation)
        if names is None:
            names = {argument: argument for argument in schema["properties"]}
        function["name"] = name
        schema["properties"] = {
            theirs: self._property(operation, ours, schema["properties"][ours])
            for theirs, ours in names.items()
            if ours
        }
        required = schema["required"]
        schema["required"] = [theirs for theirs, ours in names.items() if ours in required]
        return definition

    def _property(self, operation: str, argument: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of an argument, with a description of the coordinates of the family."""
        role = roles.get_role(operation, argument)
        if self.grid != FRACTIONS and (role is ArgumentRole.BOX or role in roles.LIST_ROLES):
            before, _, _ = str(schema["description"]).partition(_FRACTIONS_IN_WORDS)
            if before == schema["description"]:
                before = "The region as [x1, y1, x2, y2]"
            return schema | {"description": f"{self.grid.order.rename(before)}, {self.grid.words}"}
        if role is ArgumentRole.PICTURE and self.picture_names != FROM_1:
            name = self.picture_names.name(1, ())
            kind = "integer" if isinstance(name, int) else "string"
            described = {"type": kind, "description": self.picture_names.description}
            return described | ({"default": name} if "default" in schema else {})
        return schema

    # --- roles ---

    def _system_messages(self, system: str) -> list[Message]:
        """Return the system message, or the start of the first user message for families without one."""
        if not system:
            return []
        if self.carriage.system_role:
            return [self._message("system", [_text(system)])]
        return [self._message("user", [_text(system + _SYSTEM_END)])]

    def _gap(self, before: Sequence[Message]) -> list[Message]:
        """Return the text between a result, or the system text, and the question in one user message."""
        return [_text("\n")] if before else []

    def _message(self, role: str, parts: list[Message]) -> Message:
        parts = [part for part in parts if part.get("text") != ""]
        return {"role": role, "content": joined(parts) if self.carriage.joins_texts else parts}

    def _turn_message(self, turn: Turn, number: int) -> Message:
        """Return the message of a turn; its words, its thought and its calls separately, if the template needs that.

        Arguments that the syntax writes as texts stay texts, so that the template writes what the model wrote.
        """
        carriage = self.carriage
        if not (carriage.reasoning_field or carriage.native_calls):
            text = turn.text.lstrip(" ") if carriage.writes_blank else turn.text
            return self._message("assistant", [_text(text)])
        split = self.split_turn(turn.text)
        calls = [
            {
                "id": call_id(number, nth),
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for nth, call in enumerate(split.calls)
        ]
        message = self._message("assistant", [_text(split.words)])
        if split.thought:
            message[carriage.reasoning_field] = split.thought
        return message | ({"tool_calls": calls} if calls else {})

    def split_turn(self, text: str) -> SplitTurn:
        """Return the thought, the words and the calls of a turn, as the chat template of the family separates them.

        Calls stay in the words, unless the template has a key for them.
        """
        thought, words = "", text
        if self.separates_thoughts:
            # A server may have separated the thought, which is then between the usual tags.
            is_own = self.thought_tags.close in text
            thought, words = split_thought(text, self.thought_tags if is_own else THINK_TAGS)
        calls: tuple[WrittenCall, ...] = ()
        if self.carriage.native_calls:
            words, calls = split_calls(words, self.syntax)
        words = self.without_headers(words)
        if calls and self.carriage.words_in_reasoning:
            thought, words = "\n".join(one for one in (thought, words.strip()) if one), ""
        return SplitTurn(thought, words, calls)

    def _result_message(self, parts: list[Message], said: Message) -> Message:
        """Return the message with the results of a turn."""
        calls = said.get("tool_calls", ())
        if self.carriage.result_role == "user" or (self.carriage.native_calls and not calls):
            return self._message("user", parts)
        message = self._message("tool", parts)
        if calls:
            message |= {"tool_call_id": calls[0]["id"], "name": calls[0]["function"]["name"]}
        return message

    # --- user messages ---

    def _opening(self, exchange: Exchange, texts: OperationTexts, view: View) -> list[Message]:
        """Return the content of the message with a question."""
        shown = [
            part
            for picture in exchange.pictures
            for part in (_text(self.picture_label(picture)), _image(view, picture))
        ]
        return [*shown, _text(self.question_prefix + exchange.question.text + texts.suffix)]

    def _results(self, turn: Turn, shown: _Shown) -> list[Message]:
        """Return the content of the message with the results of a turn, in the order of its calls."""
        parts: list[Message] = []
        for number, observation in enumerate(turn.observations):
            calls = turn.calls
            called = calls[observation.call].name if observation.call < len(calls) else None
            parts += [_text("\n")] if number else []
            parts += self._result(observation, called, shown)
        return parts

    def _result(self, observation: Observation, called: str | None, shown: _Shown) -> list[Message]:
        if observation.error is not None:
            why = self.translate(observation.text, called)
            return [_text(self.error_template.format(why=why))]
        text = self.result_text(observation, shown.sizes)
        if not observation.pictures:
            return [_text(self.text_result_template.format(text=text))]
        labels = self.result_labels(observation.pictures, shown.num_question_pictures)
        parts = [
            part
            for label, picture in zip(labels, observation.pictures, strict=True)
            for part in (_text(label), _image(shown.view, picture))
        ]
        return [*parts, _text(text), _text(shown.texts.result_end)]

    def result_text(self, observation: Observation, sizes: Mapping[int, Size]) -> str:
        """Return the text of a result. Lines that were read have boxes in coordinates of the family.

        Args:
            observation: of an executed call.
            sizes: number of a picture -> its size in the prompt.
        """
        if not observation.lines:
            return observation.text
        seen_px = sizes.get(observation.target or 1)
        lines = [
            f"{dump_json(_without_tags(one.text))} {self._box_text(one.box, seen_px)} {one.score:.2f}"
            for one in observation.lines
        ]
        return "\n".join([observation.text, *lines])

    def _box_text(self, box: Box, seen_px: Size | None) -> str:
        numbers = self.grid.write(list(box), seen_px)
        return f"[{', '.join(f'{value:.{self.grid.decimals}f}' for value in numbers)}]"


class _Shown(NamedTuple):
    """Context of the results of a turn."""

    num_question_pictures: int
    texts: OperationTexts
    view: View
    sizes: Mapping[int, Size]
    """number of a picture -> its size in the prompt"""


def _prompt_sizes(exchanges: Sequence[Exchange]) -> dict[int, Size]:
    """Return the sizes of all pictures of a conversation by number."""
    shown = [picture for one in exchanges for picture in one.pictures]
    results = (
        one for exchange in exchanges for turn in exchange.turns for one in turn.observations
    )
    return {
        one.number: one.seen_px
        for one in (*shown, *(picture for result in results for picture in result.pictures))
    }


def _without_tags(text: str) -> str:
    """Return text of a picture that no parser or tokenizer takes for a tag: `<|im_end|>` becomes `< |im_end|>`."""
    return re.sub(r"<(?=[|/\w])", "< ", text)


def has_video(question: Question) -> bool:
    """Return whether a question has media other than pictures."""
    return any(medium.kind != "image" for medium in question.media)


_SYSTEM_END = "\n\n"
"""between the system text and the question, in families without system messages"""


def _without_start(content: Sequence[Message], start: str) -> list[Message]:
    """Return the parts of a message without this text at its start."""
    first = content[0].get("text", "")
    rest = first.removeprefix(start)
    return (
        [*([_text(rest)] if rest else []), *content[1:]] if first.startswith(start) else [*content]
    )


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _image(view: View, picture: Picture) -> Message:
    return {"type": "image", "image": view(picture.number)}
