"""Marks around the thought of a turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ThoughtTags:
    """Text before and after a thought.

    >>> THINK_TAGS.wrap("Small."), GEMMA_CHANNEL.special_tokens == {"<|channel>", "<channel|>"}
    ('<think>Small.</think>', True)
    """

    open: str
    close: str
    marks: tuple[str, ...] = ()
    """parts of the tags that decoding must keep; by default the tags"""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Marks that decoding must keep, because some tokenizers treat them as special tokens."""
        return frozenset(self.marks or (self.open, self.close))

    def wrap(self, thought: str) -> str:
        """Return a thought between its tags."""
        return f"{self.open}{thought}{self.close}"


THINK_TAGS = ThoughtTags(open="<think>", close="</think>")
"""most families"""
GEMMA_CHANNEL = ThoughtTags(
    open="<|channel>thought\n", close="<channel|>", marks=("<|channel>", "<channel|>")
)
MISTRAL_TAGS = ThoughtTags(open="[THINK]", close="[/THINK]")
KIMI_VL_TAGS = ThoughtTags(open="◁think▷", close="◁/think▷")
MUSE_CHANNEL = ThoughtTags(
    open="to=self<|message|>", close="<|eom|>", marks=("<|start|>", "<|message|>", "<|eom|>")
)
