"""Requests to OpenAI-compatible servers: supported fields, and messages as JSON.

    text     default: messages contain the text of the dialect; results of operations are user messages. Works with every
             server, and published checkpoints were trained on it.
    native   operations are sent as `tools`, calls as `tool_calls` (`models.native_tools`).

A request contains only fields in the profile of the server, because some servers reject unknown fields.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from pixel_reasoner.models.api import Messages
from pixel_reasoner.models.openai_schema import ModelCard
from pixel_reasoner.schema.settings import SamplingParams


class ToolProtocol(StrEnum):
    """Format of tool calls in requests and replies."""

    TEXT = "text"
    NATIVE = "native"


class ServerKind(StrEnum):
    """Software of a server; selects its profile."""

    ANY = "any"
    """unknown server: only fields that all servers accept"""
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    OLLAMA = "ollama"
    TRANSFORMERS = "transformers"
    HOSTED = "hosted"
    """API of a provider"""


class Profile(NamedTuple):
    """Fields that a server accepts in addition to `model`, `messages`, `temperature`, `top_p` and `stream`."""

    limit: str = "max_tokens"
    """name of the field for the limit on new tokens"""
    seed: bool = True
    logprobs: bool = False
    usage: bool = False
    """whether the server supports token counts in a stream (`stream_options`)"""
    owner: str = ""
    """value of `owned_by` in its list of models"""
    reasoning: str = ""
    """field of assistant messages for earlier reasoning, such as `reasoning_content`; if empty, it is part of the content"""


PROFILES = {
    ServerKind.ANY: Profile(seed=False),
    ServerKind.VLLM: Profile(logprobs=True, usage=True, owner="vllm"),
    ServerKind.SGLANG: Profile(logprobs=True, usage=True, owner="sglang"),
    ServerKind.LLAMACPP: Profile(logprobs=True, usage=True, owner="llamacpp"),
    ServerKind.OLLAMA: Profile(usage=True, owner="library"),
    ServerKind.TRANSFORMERS: Profile(),
    ServerKind.HOSTED: Profile(limit="max_completion_tokens", seed=False),
}


def server_kind(models: Sequence[ModelCard]) -> ServerKind:
    """Detect the kind of a server from its list of models.

    >>> server_kind([ModelCard(id="m", owned_by="vllm")]).value
    'vllm'
    """
    owners = {one.owned_by for one in models}
    kinds = {profile.owner: kind for kind, profile in PROFILES.items() if profile.owner}
    return next((kinds[owner] for owner in owners if owner in kinds), ServerKind.ANY)


class MessageWriter:
    """JSON serializer for the messages of one conversation. Caches earlier turns, in particular encoded pictures."""

    def __init__(self) -> None:
        self._written: list[tuple[dict[str, Any], bytes]] = []

    def messages(self, conversation: Messages) -> bytes:
        """Return the JSON list of messages.

        >>> MessageWriter().messages([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
        b'[{"role": "user", "content": "Hi"}]'
        """
        kept = self._written
        written: list[tuple[dict[str, Any], bytes]] = []
        for number, message in enumerate(conversation):
            # Pictures are the same objects in every turn, and == compares identity first.
            if number < len(kept) and kept[number][0] == message:
                written.append(kept[number])
            else:
                written.append((message, _message_json(message)))
        self._written = written
        return b"[" + b",".join(json_bytes for _, json_bytes in written) + b"]"


def _message_json(message: dict[str, Any]) -> bytes:
    return json.dumps(openai_message(message), ensure_ascii=False).encode()


def openai_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a chat message in OpenAI's format, with pictures as data URLs.

    >>> openai_message({"role": "user", "content": [{"type": "text", "text": "Hi"}]})
    {'role': 'user', 'content': 'Hi'}
    """
    content = message.get("content")
    if isinstance(content, list):
        if all(part["type"] == "text" for part in content):
            content = "".join(part["text"] for part in content)
        else:
            content = [_part(part) for part in content]
    return {**message, "content": content}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    return {"type": "image_url", "image_url": {"url": image_url(part["image"])}}


def image_url(image: Any) -> str:
    """Return a PIL image as a data URL. PNG is lossless, so remote and local models receive equal pixels.

    >>> from PIL import Image
    >>> image_url(Image.new("RGB", (2, 2)))[:22]
    'data:image/png;base64,'
    """
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return data_url(stream.getvalue(), "png")


def data_url(data: bytes, subtype: str) -> str:
    """Return the bytes of an image file as a data URL.

    >>> data_url(b"abc", "jpeg")
    'data:image/jpeg;base64,YWJj'
    """
    return f"data:image/{subtype};base64,{base64.b64encode(data).decode()}"


def request_fields(
    model: str, sampling: SamplingParams, profile: Profile, *, stream: bool = False
) -> dict[str, Any]:
    """Return all fields of a request except the messages.

    >>> request_fields("m", SamplingParams(max_new_tokens=9), PROFILES[ServerKind.ANY])
    {'model': 'm', 'max_tokens': 9, 'temperature': 0.0}
    """
    fields: dict[str, Any] = {
        "model": model,
        profile.limit: sampling.max_new_tokens,
        "temperature": sampling.temperature,
    }
    if sampling.top_p < 1:
        fields["top_p"] = sampling.top_p
    if profile.seed:
        fields["seed"] = sampling.seed
    if profile.logprobs:
        fields["logprobs"] = True
    if stream:
        fields["stream"] = True
        if profile.usage:
            fields["stream_options"] = {"include_usage": True}
    return fields


def request_body(fields: dict[str, Any], messages: bytes) -> bytes:
    """Return the bytes of a request.

    >>> request_body({"model": "m"}, b"[]")
    b'{"model": "m", "messages": []}'
    """
    head = json.dumps(fields, ensure_ascii=False).encode()[:-1]
    return head + b', "messages": ' + messages + b"}"
