"""Detokenization: special tokens to keep, and incremental decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_INCOMPLETE = "\ufffd"
"""replacement character for an incomplete multi-byte character"""


class TokenDecoder:
    """Decoder of generated ids. Special tokens are omitted, except `kept_special_tokens`.

    Args:
        tokenizer: of transformers.
        kept_special_tokens: special tokens that are part of the text, such as the tags of tool calls.
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
        """Return the text of token ids."""
        if self._skipped is not None:
            ids = [id for id in ids if id not in self._skipped]
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=self._skipped is None, clean_up_tokenization_spaces=False
        )
        return text


class TextStream:
    """Incremental decoder of token ids. Multi-byte characters are never split.

    A few earlier ids are decoded again with each new id, because the text of a token may depend on previous tokens.

    Args:
        decode: converts ids to text, for example a `TokenDecoder`.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self.decode = decode
        self.text = ""
        self._ids: list[int] = []
        self._context = self._returned = 0

    def push(self, ids: Iterable[int]) -> str:
        """Append ids and return new complete text, possibly empty."""
        self._ids += ids
        text = self.decode(self._ids[self._context :])
        known = self.decode(self._ids[self._context : self._returned])
        if len(text) <= len(known) or text.endswith(_INCOMPLETE):
            return ""
        self._context, self._returned = self._returned, len(self._ids)
        self.text += text[len(known) :]
        return text[len(known) :]

    def finish(self, text: str) -> str:
        """Return the rest of the complete text."""
        rest = text[len(self.text) :] if text.startswith(self.text) else ""
        self.text += rest
        return rest
