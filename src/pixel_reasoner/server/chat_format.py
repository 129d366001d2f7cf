"""Wire format of `/v1/chat/completions`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pixel_reasoner.schema.events import Failed
from pixel_reasoner.server.chat import ChatJob
from pixel_reasoner.server.engine import Result
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.logprobs import token_logprobs
from pixel_reasoner.server.reply import SEPARATOR, Usage, extra_object, with_reasoning
from pixel_reasoner.server.settings import ReasoningField
from pixel_reasoner.server.stream import (
    DeltaBuilder,
    RunEvent,
    SseWriter,
    delta_fields,
    is_end,
    pieces,
)


class ChatFormat:
    """Replies and chunks of one request.

    Args:
        job: the request.
        field: where thoughts are written.
        model: generation model, for the text of tokens.
    """

    def __init__(self, job: ChatJob, field: ReasoningField, model: Any) -> None:
        self.job = job
        self.field = field
        self._model = model
        self._created = int(time.time())
        self._builders: dict[int, DeltaBuilder] = {}
        self._sent: dict[int, str] = {}
        """choice -> name of the last field that was sent"""

    # --- whole replies ---

    def body(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return a chat completion."""
        return self._object("chat.completion") | {
            "choices": [self._choice(one) for one in results],
            "usage": total_usage(results).to_dict(),
        }

    def _choice(self, result: Result) -> dict[str, Any]:
        message = {"role": "assistant", **with_reasoning(result.reply, self.field)}
        message["pixel_reasoner"] = self._extra(result)
        logprobs = None
        if self.job.logprobs:
            logprobs = {"content": token_logprobs(result.reply, self._model), "refusal": None}
        return {
            "index": result.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": result.reply.finish_reason,
        }

    def _extra(self, result: Result) -> dict[str, Any]:
        return extra_object(result.trace_id, result.reply.trace, steps=self.job.steps)

    # --- streams ---

    async def begin(self, writer: SseWriter) -> None:
        """Write the role of each choice."""
        for index in range(self.job.num_choices):
            await self._delta(writer, index, {"role": "assistant", "content": ""})

    async def event(self, writer: SseWriter, found: RunEvent) -> None:
        """Write new text."""
        run, event = found
        if isinstance(event, Failed):
            return
        builder = self._builders.setdefault(run.index, DeltaBuilder(run))
        for name, text in builder.feed(event):
            starts_answer = name == "content" and self._sent.get(run.index) == "reasoning"
            if starts_answer and self.field is ReasoningField.INLINE:
                text = SEPARATOR + text
            self._sent[run.index] = name
            for piece in pieces(text):
                await self._delta(writer, run.index, delta_fields(name, piece, self.field))
        if is_end(event):
            del self._builders[run.index]

    async def end(self, writer: SseWriter, results: Sequence[Result]) -> None:
        """Write the finish reason of each choice, and the usage if it was asked for."""
        for one in results:
            await self._delta(
                writer, one.index, {}, one.reply.finish_reason, pixel_reasoner=self._extra(one)
            )
        if self.job.include_usage:
            usage = total_usage(results).to_dict()
            chunk = self._object("chat.completion.chunk") | {"choices": [], "usage": usage}
            await writer.data(chunk)

    async def error(self, writer: SseWriter, error: ApiError) -> None:
        """Write an error."""
        await writer.data(error.body())

    async def _delta(
        self,
        writer: SseWriter,
        index: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        **extra: Any,
    ) -> None:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._object("chat.completion.chunk") | {"choices": [choice]}
        await writer.data(chunk | extra)

    def _object(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.job.id}",
            "object": kind,
            "created": self._created,
            "model": self.job.model,
        }


def total_usage(results: Sequence[Result]) -> Usage:
    """Return the usage of all choices. The prompt counts once, with what was cached before the first choice."""
    first = results[0].usage
    return Usage(
        prompt_tokens=first.prompt_tokens,
        completion_tokens=sum(one.usage.completion_tokens for one in results),
        picture_tokens=first.picture_tokens,
        num_operations=sum(one.usage.num_operations for one in results),
        cached_tokens=min(one.usage.cached_tokens for one in results),
    )
