"""Stateless subset of `/v1/responses`: `input_text` and `input_image`, over the same internal request as chat completions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, StrictBool

from pixel_reasoner.schema.events import Failed
from pixel_reasoner.server.chat import ChatJob
from pixel_reasoner.server.chat_format import total_usage
from pixel_reasoner.server.chat_schema import Body, ChatRequest, Options, validated
from pixel_reasoner.server.engine import Result
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.reply import Usage, extra_object
from pixel_reasoner.server.stream import DeltaBuilder, RunEvent, SseWriter, pieces


class InputItem(Body):
    """Message of the input. Items of other types are refused, except reasoning, which is ignored."""

    type: Literal["message", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[dict[str, Any]] | None = None


class ResponsesRequest(Body):
    """Body of `POST /v1/responses`."""

    model: Annotated[str, Field(max_length=1000)] = ""
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=2000)]
    instructions: str | None = None
    stream: StrictBool | None = None
    max_output_tokens: PositiveInt | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    store: StrictBool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: StrictBool | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    text: dict[str, Any] | None = None
    pixel_reasoner: Options | None = None


def chat_request(request: ResponsesRequest) -> ChatRequest:
    """Return the chat request with the same meaning.

    Raises:
        ApiError: 400 for something that needs state, or that cannot be honoured.
    """
    _refuse_unsupported(request)
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    items = request.input
    if isinstance(items, str):
        messages.append({"role": "user", "content": items})
    else:
        for number, item in enumerate(items):
            if item.type == "message":
                content = _content(item.content, f"input.{number}.content")
                messages.append({"role": item.role, "content": content})
    fields = {
        "model": request.model,
        "messages": messages,
        "stream": request.stream,
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "tools": request.tools,
        "tool_choice": request.tool_choice,
        "pixel_reasoner": request.pixel_reasoner,
    }
    return validated(ChatRequest, fields)


def _refuse_unsupported(request: ResponsesRequest) -> None:
    form = ((request.text or {}).get("format") or {"type": "text"}).get("type")
    unsupported = {
        "previous_response_id": bool(request.previous_response_id),
        "conversation": request.conversation is not None,
        "background": bool(request.background),
        "text.format": form != "text",
    }
    for param, is_given in unsupported.items():
        if is_given:
            raise ApiError(
                400,
                f"{param}: is not supported; this endpoint keeps no state and returns text",
                param=param,
                code="unsupported_value",
            )


def _content(content: str | list[dict[str, Any]] | None, param: str) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(part, f"{param}.{number}") for number, part in enumerate(content)]


def _part(part: dict[str, Any], param: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part.get("text", "")}
    url = part.get("file_id") or part.get("image_url")
    if kind == "input_image" and isinstance(url, str):
        return {"type": "image_url", "image_url": {"url": url}}
    raise ApiError(
        400,
        f"{param}: must be input_text, or input_image with image_url or file_id",
        param=param,
        code="unsupported_value",
    )


class ResponsesFormat:
    """Replies and events of one request."""

    def __init__(self, job: ChatJob) -> None:
        self.job = job
        self._created = int(time.time())
        self._seq = 0
        self._text = ""
        self._builder: DeltaBuilder | None = None

    def body(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return a response object."""
        result = results[0]
        is_complete = result.reply.finish_reason == "stop"
        output = []
        if result.reply.reasoning:
            output.append(self._reasoning_item(result.reply.reasoning))
        output.append(self._message_item(result.reply.content, is_complete=is_complete))
        found = self._object("completed" if is_complete else "incomplete", output)
        extra = extra_object(result.trace_id, result.reply.trace, steps=self.job.steps)
        details = None if is_complete else {"reason": "max_output_tokens"}
        return found | {
            "incomplete_details": details,
            "usage": _usage(total_usage(results)),
            "pixel_reasoner": extra,
        }

    async def begin(self, writer: SseWriter) -> None:
        """Write the events before the text."""
        for name in ("response.created", "response.in_progress"):
            await self._write(writer, name, response=self._object("in_progress", []))
        item = self._message_item("", is_complete=False) | {"status": "in_progress", "content": []}
        await self._write(writer, "response.output_item.added", output_index=0, item=item)
        await self._write(
            writer, "response.content_part.added", **self._place(), part=_text_part("")
        )

    async def event(self, writer: SseWriter, found: RunEvent) -> None:
        """Write new text of the answer."""
        if isinstance(found.event, Failed):
            return
        self._builder = self._builder or DeltaBuilder(found.run)
        for name, text in self._builder.feed(found.event):
            if name != "content":
                continue
            self._text += text
            for piece in pieces(text):
                await self._write(
                    writer, "response.output_text.delta", **self._place(), delta=piece, logprobs=[]
                )

    async def end(self, writer: SseWriter, results: Sequence[Result]) -> None:
        """Write the events after the text."""
        item = self._message_item(self._text, is_complete=True)
        place = self._place()
        await self._write(
            writer, "response.output_text.done", **place, text=self._text, logprobs=[]
        )
        await self._write(
            writer, "response.content_part.done", **place, part=_text_part(self._text)
        )
        await self._write(writer, "response.output_item.done", output_index=0, item=item)
        body = self.body(results)
        body["output"] = [one for one in body["output"] if one["type"] == "message"]
        await self._write(writer, f"response.{body['status']}", response=body)

    async def error(self, writer: SseWriter, error: ApiError) -> None:
        """Write an error."""
        fields = error.body()["error"]
        await self._write(
            writer, "error", code=fields["code"], message=fields["message"], param=fields["param"]
        )

    async def _write(self, writer: SseWriter, name: str, **fields: Any) -> None:
        await writer.data({"type": name, "sequence_number": self._seq} | fields, name)
        self._seq += 1

    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.job.id}", "output_index": 0, "content_index": 0}

    def _message_item(self, text: str, *, is_complete: bool) -> dict[str, Any]:
        return {
            "id": f"msg_{self.job.id}",
            "type": "message",
            "role": "assistant",
            "status": "completed" if is_complete else "incomplete",
            "content": [_text_part(text)],
        }

    def _reasoning_item(self, text: str) -> dict[str, Any]:
        return {
            "id": f"rs_{self.job.id}",
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": text}],
        }

    def _object(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"resp_{self.job.id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self.job.model,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
            "temperature": self.job.config.sampling.temperature,
            "top_p": self.job.config.sampling.top_p,
            "usage": None,
        }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "image_tokens": usage.picture_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "pixel_reasoner": {"operations": usage.num_operations},
    }
