"""Text of clients that spells special tokens stays text.

A tokenizer converts `<|image_pad|>` or `<|im_end|>` in a prompt to a special token wherever it occurs, so a client could forge
messages or crash a model by placeholders without pictures. A zero-width space after the first character prevents this, here
and at upstream servers.
"""

from __future__ import annotations

import re
from typing import Any

_BREAK = "\u200b"
_COMMON = (
    r"<\|[^<>|\s]{1,64}\|>",
    r"<\|[^<>|\s]{1,64}>",
    r"<[^<>|\s/]{1,64}\|>",
    r"<｜[^<>｜]{1,64}｜>",
    r"\]<\][^\[\]<>]{1,32}\[>\[|\]~!?b[\[\]]|\[e~\[|◁/?think▷",
    r"</?(?:s|bos|eos|pad|unk|image|video|audio|img|img_context|image_soft_token|start_of_image|end_of_image|"
    r"start_of_turn|end_of_turn|image_placeholder|fake_token_around_image|tool_call|tool_response)>",
    r"\[/?(?:INST|IMG|IMG_BREAK|IMG_END|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|ARGS|THINK)\]",
)


class SpecialTokenEscaper:
    """Escapes special tokens: tokens of the tokenizer of a local model, and tokens of common families.

    >>> escape = SpecialTokenEscaper(None)
    >>> escape("a <|image_pad|> b").replace("\u200b", "~"), escape("1 < 2")
    ('a <~|image_pad|> b', '1 < 2')
    """

    def __init__(self, model: Any) -> None:
        tokenizer = getattr(model, "tokenizer", None)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        own = {token.content for token in added.values() if len(token.content.strip()) > 1}
        words = sorted(map(re.escape, own), key=len, reverse=True)
        self._pattern = re.compile("|".join([*words, *_COMMON]), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """Return a text without special tokens."""
        return self._pattern.sub(lambda found: found[0][0] + _BREAK + found[0][1:], text)
