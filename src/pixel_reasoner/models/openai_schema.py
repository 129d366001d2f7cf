"""Schema of what an OpenAI-compatible server returns: whole replies, events of a stream, lists of models.

`validated` is the only place that reads the JSON of a server. Fields that this project does not use are ignored; those that it
uses have the type of the protocol, or the reply is an `InvalidReplyError` that names the field. Accepted beyond the protocol:
content as a list of parts with text and thinking, arguments as an object, `null` for whatever is missing.

Source: https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)
from typing_extensions import TypedDict  # pydantic refuses that of `typing` before Python 3.12

MAX_JSON_VALUES = 500_000
"""values of one reply: a value takes up to 300 bytes of memory"""
MAX_TEXT_CHARS = 2**20
"""of all texts of one reply: no model writes more in one turn"""
MAX_CALLS = 100
"""of one reply"""
_FLOAT32_MAX = 3.4e38
_JSON_TYPES = {"dict": "an object", "list": "a list", "str": "a text", "NoneType": "null"}


class _FailFast(FailFast):
    __hash__ = object.__hash__  # a union of types hashes them


_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)
FastList = Annotated[list[_T], _FailFast()]
"""a list whose first invalid item is reported alone: a million errors take gigabytes"""


class ServerError(Exception):
    """A response that is not a valid reply; its message shows what came instead."""


class InvalidReplyError(ServerError):
    """A reply with a field that the protocol does not allow."""


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _TextPart(_Schema):
    """Part of a thought."""

    text: str


def _joined(value: Any) -> Any:
    """Return parts of a thought as one text; anything else unchanged."""
    if isinstance(value, list):
        return "".join(_TextPart.model_validate(part).text for part in value)
    return value


class ContentPart(_Schema):
    """Part of a content: text, or thinking as a text or as parts of text."""

    type: str = "text"
    text: str | None = None
    thinking: Annotated[str | None, BeforeValidator(_joined)] = None

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        """Refuse a part that would be lost, such as an image."""
        if self.text is None and self.thinking is None:
            raise ValueError(f"a part of type {shorten(self.type, 40)!r} without text")
        return self

    @property
    def is_thought(self) -> bool:
        """Whether it is reasoning."""
        return self.text is None or self.type in ("thinking", "reasoning")


class FunctionPiece(_Schema):
    """Name and arguments of a call, or a piece of them."""

    name: str | None = None
    arguments: Annotated[
        str | None,
        BeforeValidator(lambda value: json.dumps(value) if isinstance(value, dict) else value),
    ] = None
    """JSON"""


class Function(FunctionPiece):
    """Name and arguments of a call."""

    name: str


class CallPiece(_Schema):
    """A call in a stream: whole, or a piece that continues one."""

    id: str | None = None
    index: int | None = Field(default=None, ge=0, lt=MAX_CALLS)
    function: FunctionPiece | None = None


class Call(CallPiece):
    """A call of a whole reply."""

    function: Function


class _Texts(_Schema):
    """Content and reasoning of a message, or of a piece of one."""

    content: str | FastList[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """the other name that servers use"""

    @property
    def text(self) -> str:
        """Content without reasoning."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if not part.is_thought)
        return self.content or ""

    @property
    def thought(self) -> str:
        """Reasoning, in whichever field it came."""
        parts = self.content if isinstance(self.content, list) else ()
        thoughts = [part.thinking or part.text or "" for part in parts if part.is_thought]
        return self.reasoning_content or self.reasoning or "".join(thoughts)


class Message(_Texts):
    """Message of a whole reply."""

    tool_calls: FastList[Call] | None = Field(default=None, max_length=MAX_CALLS)


class DeltaMessage(_Texts):
    """Piece of a message in a stream."""

    tool_calls: FastList[CallPiece] | None = Field(default=None, max_length=MAX_CALLS)


class TokenLogprob(TypedDict, total=False):
    """Log-probability of one token."""

    logprob: Annotated[
        float | None,
        Field(strict=True, allow_inf_nan=False, ge=-_FLOAT32_MAX, le=_FLOAT32_MAX),
    ]


class Logprobs(_Schema):
    """Log-probabilities of the tokens of a reply."""

    content: FastList[TokenLogprob] | None = None


class Usage(_Schema):
    """Token counts."""

    prompt_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    completion_tokens: int | None = Field(default=None, ge=0, lt=2**31)


class Choice(_Schema):
    """One reply of several that a request may ask for; we ask for one."""

    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class StreamChoice(_Schema):
    """Piece of one reply."""

    delta: DeltaMessage | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class ChatReply(_Schema):
    """A whole reply."""

    choices: FastList[Choice] = Field(min_length=1)
    usage: Usage | None = None


class StreamEvent(_Schema):
    """An event of a stream."""

    choices: FastList[StreamChoice] | None = None
    usage: Usage | None = None


class ModelCard(_Schema):
    """A model that a server lists."""

    id: str
    owned_by: str | None = None


class ModelList(_Schema):
    """The models of a server."""

    data: FastList[ModelCard]


class _Failure(_Schema):
    """A reply that may contain an error instead of what was asked for."""

    error: Any = None


def validated(schema: type[_M], value: Any) -> _M:
    """Return JSON that a server sent as a model.

    Args:
        schema: what it has to be.
        value: bytes or text of the JSON, or what they contain.

    Raises:
        InvalidReplyError: it is not JSON, an error, too large, nested too deeply, or a field has another type.

    >>> validated(Usage, b'{"prompt_tokens": "many"}')
    Traceback (most recent call last):
        ...
    pixel_reasoner.models.openai_schema.InvalidReplyError: prompt_tokens: input should be a valid integer; got a text
    """
    try:
        if not isinstance(value, bytes | str):
            return schema.model_validate(value)
        data = value.encode("utf-8", "replace") if isinstance(value, str) else value
        data = data.removeprefix(b"\xef\xbb\xbf")
        if sum(data.count(sign) for sign in (b",", b"[", b"{")) > MAX_JSON_VALUES:
            raise InvalidReplyError(f"a reply of more than {MAX_JSON_VALUES:,} values")
        if b'"error"' in data:
            _refuse_error(_Failure.model_validate_json(data))
        return schema.model_validate_json(data)
    except ValidationError as error:
        raise InvalidReplyError(_problem(error)) from None


def _refuse_error(found: _Failure) -> None:
    """Raise the error that came with status 200, or in a stream. Some servers write `"error": null` into every event."""
    if found.error is not None:
        raise ServerError(f"error: {shorten(found.error)}")


def _problem(error: ValidationError) -> str:
    """Return the first invalid field, what is wrong, and which type it has; never its value, which may be huge."""
    # Of the alternatives of a content, the one that was meant is invalid in its depth.
    errors = error.errors(include_url=False, include_context=False)
    first = max(errors, key=lambda one: len(one["loc"]))
    message = shorten(first["msg"][:1].lower() + first["msg"][1:])
    if first["type"] == "json_invalid":
        return message
    kind = type(first["input"]).__name__
    where = ".".join(map(str, _path(first["loc"])))
    return f"{where or 'reply'}: {message}; got {_JSON_TYPES.get(kind, f'a {kind}')}"


def _path(location: Sequence[int | str]) -> list[int | str]:
    """Return a location without the names of alternatives, such as `function-before[_joined(), str]`."""
    return [one for one in location if isinstance(one, int) or one.isidentifier()]


def shorten(value: Any, max_chars: int = 200) -> str:
    r"""Return a value on one line, for an error message. Control characters are shown as escapes.

    >>> shorten("a\n\x1b[31mb")
    'a \\x1b[31mb'
    """
    text = " ".join(str(value)[: 20 * max_chars].split())[:max_chars]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
