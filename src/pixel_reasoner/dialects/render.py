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
from pixel_reasoner.dialects.parse import CallFormat
from pixel_reasoner.dialects.picture_names import FROM_1
from pixel_reasoner.dialects.roles import ArgumentRole, ToolDefinition
from pixel_reasoner.dialects.syntax.base import dump_json
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import Observation, Picture, Turn

_FRACTIONS_IN_WORDS = ", from 0 to 1"
"""start of the unit in descriptions of coordinates; a dialect with another unit replaces what follows"""

Message = dict[str, Any]
"""{"role": ..., "content": [{"type": "text", "text": ...} | {"type": "image", "image": ...}, ...]}"""

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
        messages = [_message("system", [_text(texts.system)])] if texts.system else []
        num_question_pictures = 0
        for exchange in exchanges:
            opening = self._opening(exchange, texts, view)
            if messages and messages[-1]["role"] == "user":
                # The previous exchange ended with a result. Many templates reject two consecutive user messages.
                opening = [*messages.pop()["content"], _text("\n"), *opening]
            messages.append(_message("user", opening))
            num_question_pictures += len(exchange.pictures)
            for turn in exchange.turns:
                messages.append(_message("assistant", [_text(turn.text)]))
                if turn.observations:
                    shown = _Shown(num_question_pictures, texts, view, _prompt_sizes(exchanges))
                    results = self._results(turn, shown)
                    messages.append(_message("user", results))
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
        opening = [_message("system", [_text(texts.native_system)])] if texts.native_system else []
        return [*opening, *messages[bool(texts.system) :]]

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
            return schema | {"description": f"{before}, {self.grid.words}"}
        if role is ArgumentRole.PICTURE and self.picture_names != FROM_1:
            name = self.picture_names.name(1, ())
            kind = "integer" if isinstance(name, int) else "string"
            described = {"type": kind, "description": self.picture_names.description}
            return described | ({"default": name} if "default" in schema else {})
        return schema

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


def _message(role: str, parts: list[Message]) -> Message:
    return {"role": role, "content": [part for part in parts if part.get("text") != ""]}


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _image(view: View, picture: Picture) -> Message:
    return {"type": "image", "image": view(picture.number)}
