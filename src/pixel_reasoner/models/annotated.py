"""Scripted model that answers from an annotation: it recognises the pictures that it is given in a table.

It measures a workflow without a trained model. It receives what any model receives, a conversation with pictures, and in
addition a function that recognises annotated pictures. A workflow has no special path for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.models.api import Completion, ContextFull, Messages, OnText, collect_images
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, SamplingParams
from pixel_reasoner.schema.trace import ToolCall

Recognise = Callable[[Any], Any]
"""picture -> its annotation; None for a picture that is not annotated"""


class Prompt(NamedTuple):
    """What the model was asked, and what it recognised."""

    text: str
    """text of the question, with the labels of its pictures"""
    pictures: tuple[Any, ...]
    """annotation of every picture so far, in order; None for the others. Picture 1 is the first."""
    num_question_pictures: int
    turn: int
    """turns before this one, from 0"""
    operations: frozenset[str]
    """names of the operations that the prompt lists"""

    def first(self) -> tuple[int, Any] | None:
        """Return the number of the first recognised picture of the question, and its annotation."""
        for number, found in enumerate(self.pictures[: self.num_question_pictures], start=1):
            if found is not None:
                return number, found
        return None


Policy = Callable[[Prompt], "str | ToolCall"]
"""prompt -> the answer, or a call with names and coordinates of the project"""


class AnnotatedModel:
    r"""Model that replies by a function of the recognised pictures.

    Only dialects whose boxes are fractions of the picture are supported.

    >>> from PIL import Image
    >>> model = AnnotatedModel(lambda picture: picture.size, lambda prompt: str(prompt.pictures[0]))
    >>> image = {"type": "image", "image": Image.new("RGB", (8, 6))}
    >>> question = {"role": "user", "content": [image, {"type": "text", "text": "Which size?"}]}
    >>> model.generate([[question]], None)[0].text
    'The annotation says it. \\boxed{(8, 6)}'
    """

    def __init__(
        self,
        recognise: Recognise,
        policy: Policy,
        *,
        dialect: str = "compact",
        budgets: PixelBudgets | None = None,
    ) -> None:
        self.name, self.dialect, self.budgets = "annotated", dialect, budgets
        self.recognise, self.policy = recognise, policy
        self._format = get_dialect(dialect)

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Return the reply of the policy to each conversation."""
        del decoding
        texts = [self._turn(conversation) for conversation in conversations]
        if on_text is not None:
            for text in texts:
                on_text(text)
        return [Completion(text=text) for text in texts]

    def describe(self) -> ModelInfo:
        """Return the name. The annotation is not part of it."""
        return ModelInfo(name=self.name)

    def _turn(self, conversation: Messages) -> str:
        reply = self.policy(self.read(conversation))
        if isinstance(reply, ToolCall):
            return self._format.write_turn("I look closer.", reply)
        return self._format.write_turn("The annotation says it.", answer=reply)

    def read(self, conversation: Messages) -> Prompt:
        """Return the question of a conversation and its recognised pictures."""
        question = next(n for n, one in enumerate(conversation) if one["role"] == "user")
        names = ("zoom_in", "select_frames")
        listed = "\n".join(map(_text, conversation[: question + 1]))
        return Prompt(
            text=_text(conversation[question]),
            pictures=tuple(map(self.recognise, collect_images(conversation))),
            num_question_pictures=len(collect_images(conversation[: question + 1])),
            turn=sum(message["role"] == "assistant" for message in conversation),
            operations=frozenset(n for n in names if self._format.family_name(n) in listed),
        )


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")
