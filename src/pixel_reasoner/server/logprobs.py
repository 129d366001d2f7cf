"""Log-probabilities of the tokens of an answer, for models of this process."""

from __future__ import annotations

from typing import Any

from pixel_reasoner.models.local_text import TextStream
from pixel_reasoner.server.reply import Reply


def token_logprobs(reply: Reply, model: Any) -> list[dict[str, Any]]:
    """Return OpenAI's list of tokens of the content. The text of all tokens together contains the content.

    Args:
        reply: its last turn has token ids.
        model: with `decode`.
    """
    if not reply.trace.turns:
        return []
    turn = reply.trace.turns[-1]
    start = turn.text.find(reply.content) if reply.content else -1
    if start < 0:
        return []
    end = start + len(reply.content)
    stream, found, at = TextStream(model.decode), [], 0
    for id, logprob in zip(turn.token_ids, turn.logprobs, strict=False):
        text = stream.push([id])
        if text and at + len(text) > start and at < end:
            found.append(
                {
                    "token": text,
                    "logprob": float(logprob),
                    "bytes": list(text.encode("utf-8", "replace")),
                    "top_logprobs": [],
                }
            )
        at += len(text)
    return found
