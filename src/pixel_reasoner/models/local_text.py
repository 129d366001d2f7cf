"""Token ids to text: which special tokens survive, and text while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_INCOMPLETE = "\ufffd"
"""what a decoder writes for the first bytes of a character whose last bytes are missing"""


class TokenDecoder:
    """Decodes generated ids; special tokens are left out, except those that are kept.

    Args:
        tokenizer: of transformers.
        kept_special_tokens: special tokens that are part of the text, such as those that mark a tool call.
    """

    def __init__(self, tokenizer: Any, kept_special_tokens: Iterable[str] = ()) -> None:
        self.tokenizer = tokenizer
        kept = frozenset(kept_special_tokens)
        self._skipped: frozenset[int] | None = None
        if kept:
            special = tokenizer.added_tokens_decoder.items()
            self._skipped = frozenset(
                id for id, token in special if token.special and token.content not in kept
            )

    def __call__(self, ids: list[int]) -> str:
        """Return the text of ids."""
        if self._skipped is not None:
            ids = [id for id in ids if id not in self._skipped]
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=self._skipped is None, clean_up_tokenization_spaces=False
        )
        return text


class TextStream:
    """Text of ids that arrive one by one. A character of several bytes is returned whole.

    A few earlier ids are decoded again with each new one: what a token adds to a text may depend on the token before it.

    Args:
        decode: ids to text, such as a `TokenDecoder`.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self.decode = decode
        self.text = ""
        self._ids: list[int] = []
        self._context = self._returned = 0

    def push(self, ids: Iterable[int]) -> str:
        """Append ids; returns the text that is new and complete, possibly none."""
        self._ids += ids
        text = self.decode(self._ids[self._context :])
        known = self.decode(self._ids[self._context : self._returned])
        if len(text) <= len(known) or text.endswith(_INCOMPLETE):
            return ""
        self._context, self._returned = self._returned, len(self._ids)
        self.text += text[len(known) :]
        return text[len(known) :]

    def finish(self, text: str) -> str:
        """Return the rest of the whole text."""
        rest = text[len(self.text) :] if text.startswith(self.text) else ""
        self.text += rest
        return rest
