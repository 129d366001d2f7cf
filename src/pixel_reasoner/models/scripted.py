"""Model with scripted replies, for tests, documentation and manual use of operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pixel_reasoner.models.api import Completion, ContextFull, Messages, OnText
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, SamplingParams

Script = Sequence[str] | Callable[[Messages], str]


class ScriptedModel:
    r"""Model with replies from a list, turn by turn, or from a function of the conversation.

    A list is indexed by the number of assistant turns, so every question of a batch gets the same replies.

    >>> model = ScriptedModel([r"It is red. \boxed{red}"])
    >>> model.generate([[{"role": "user", "content": "What colour?"}]], SamplingParams())[0].text
    'It is red. \\boxed{red}'
    """

    def __init__(
        self, script: Script, *, dialect: str = "compact", budgets: PixelBudgets | None = None
    ) -> None:
        self.script = script
        self.name = "scripted"
        self.dialect = dialect
        self.budgets = budgets
        self.conversations: list[Messages] = []
        """all received conversations, for tests"""

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Return the next reply of the script for each conversation."""
        self.conversations += conversations
        texts = [self._reply(conversation) for conversation in conversations]
        if on_text is not None:
            for text in texts:
                on_text(text)
        return [Completion(text=text) for text in texts]

    def _reply(self, conversation: Messages) -> str:
        if callable(self.script):
            return self.script(conversation)
        turn = sum(message["role"] == "assistant" for message in conversation)
        return str(self.script[min(turn, len(self.script) - 1)])

    def describe(self) -> ModelInfo:
        """Return the name. A script has no settings."""
        return ModelInfo(name=self.name)
