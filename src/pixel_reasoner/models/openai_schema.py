"""Schema of responses of OpenAI-compatible servers: complete replies, stream events, lists of models.

`validated` parses all JSON of servers. Unused fields are ignored. A used field with a wrong type raises an
`InvalidReplyError` that names the field. Accepted beyond the protocol: content as a list of parts with text and thinking,
arguments as an object, `null` for missing values.

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
from typing_extensions import TypedDict  # pydantic rejects `typing.TypedDict` before Python 3.12

from pixel_reasoner.models.rejected_turns import rejected_turn

MAX_JSON_VALUES = 500_000
"""maximum number of JSON values in one reply; a value takes up to 300 bytes of memory"""
MAX_TEXT_CHARS = 2**20
"""maximum total length of the texts of one reply"""
MAX_CALLS = 100
"""maximum number of calls in one reply"""
_FLOAT32_MAX = 3.4e38
_JSON_TYPES = {"dict": "an object", "list": "a list", "str": "a text", "NoneType": "null"}


class _FailFast(FailFast):
    __hash__ = object.__hash__  # required in unions of types


_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)
FastList = Annotated[list[_T], _FailFast()]
"""list whose validation stops at the first invalid item, because a million errors take gigabytes"""


class ServerError(Exception):
    """Invalid response. The message contains its start."""

    rejected_turn: str = ""
    """turn that the server generated but could not parse; empty for none"""


class InvalidReplyError(ServerError):
    """Reply with an invalid field."""


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _TextPart(_Schema):
    """Part of a thought."""

    text: str


def _joined(value: Any) -> Any:
    """Join the parts of a thought. Other values are returned unchanged."""
    if isinstance(value, list):
        return "".join(_TextPart.model_validate(part).text for part in value)
    return value


class ContentPart(_Schema):
    """Part of the content: text, or thinking as a text or as parts of text."""

    type: str = "text"
    text: str | None = None
    thinking: Annotated[str | None, BeforeValidator(_joined)] = None

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        """Reject unsupported parts, such as an image."""
        if self.text is None and self.thinking is None:
            raise ValueError(f"a part of type {shorten(self.type, 40)!r} without text")
        return self

    @property
    def is_thought(self) -> bool:
        """Whether it is reasoning."""
        return self.text is None or self.type in ("thinking", "reasoning")


class FunctionPiece(_Schema):
    """Name and arguments of a call, possibly incomplete."""

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
    """Call in a stream, complete or a piece of one."""

    id: str | None = None
    index: int | None = Field(default=None, ge=0, lt=MAX_CALLS)
    function: FunctionPiece | None = None


class Call(CallPiece):
    """Call in a complete reply."""

    function: Function


class _Texts(_Schema):
    """Content and reasoning of a message, possibly incomplete."""

    content: str | FastList[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """alternative name of `reasoning_content`"""

    @property
    def text(self) -> str:
        """Content without reasoning."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if not part.is_thought)
        return self.content or ""

    @property
    def thought(self) -> str:
        """Reasoning of all fields; equal texts in two fields count once."""
        parts = self.content if isinstance(self.content, list) else ()
        thoughts = [part.thinking or part.text or "" for part in parts if part.is_thought]
        fields = (self.reasoning_content, self.reasoning, "".join(thoughts))
        return "".join(dict.fromkeys(one for one in fields if one))


class Message(_Texts):
    """Message of a complete reply."""

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


class PromptTokensDetails(_Schema):
    """Details of the prompt tokens."""

    cached_tokens: int | None = Field(default=None, ge=0, lt=2**31)


class Usage(_Schema):
    """Token counts."""

    prompt_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    completion_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    prompt_tokens_details: PromptTokensDetails | None = None

    @property
    def num_cached_tokens(self) -> int:
        """Number of cached prompt tokens; 0 if the server does not report it."""
        details = self.prompt_tokens_details
        return (details and details.cached_tokens) or 0


class Choice(_Schema):
    """One choice of a reply. Requests ask for one."""

    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class StreamChoice(_Schema):
    """Piece of a choice in a stream."""

    delta: DeltaMessage | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class ChatReply(_Schema):
    """Complete reply."""

    choices: FastList[Choice] = Field(min_length=1)
    usage: Usage | None = None


class StreamEvent(_Schema):
    """Event of a stream."""

    choices: FastList[StreamChoice] | None = None
    usage: Usage | None = None


class ModelCard(_Schema):
    """Model in the list of a server."""

    id: str
    owned_by: str | None = None


class ModelList(_Schema):
    """List of models of a server."""

    data: FastList[ModelCard]


class _ErrorReply(_Schema):
    """Reply that may contain an error."""

    error: Any = None


def validated(schema: type[_M], value: Any) -> _M:
    """Validate JSON from a server against a schema.

    Args:
        schema: expected type.
        value: JSON as bytes, text, or parsed values.

    Raises:
        InvalidReplyError: invalid JSON, an error reply, too large, too deeply nested, or a field of the wrong type.

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
            _raise_error_reply(_ErrorReply.model_validate_json(data))
        return schema.model_validate_json(data)
    except ValidationError as error:
        raise InvalidReplyError(_problem(error)) from None


def _raise_error_reply(found: _ErrorReply) -> None:
    """Raise an error reply with status 200 or in a stream. Some servers include `"error": null` in every event."""
    if found.error is not None:
        error = ServerError(f"error: {shorten(found.error)}")
        message = found.error.get("message") if isinstance(found.error, dict) else found.error
        error.rejected_turn = rejected_turn(str(message))
        raise error


def _problem(error: ValidationError) -> str:
    """Return the name, problem and type of the first invalid field, without its value, which may be huge."""
    # In a union, the intended member has its error at the greatest depth.
    errors = error.errors(include_url=False, include_context=False)
    first = max(errors, key=lambda one: len(one["loc"]))
    message = shorten(first["msg"][:1].lower() + first["msg"][1:])
    if first["type"] == "json_invalid":
        return message
    kind = type(first["input"]).__name__
    where = ".".join(map(str, _path(first["loc"])))
    return f"{where or 'reply'}: {message}; got {_JSON_TYPES.get(kind, f'a {kind}')}"


def _path(location: Sequence[int | str]) -> list[int | str]:
    """Remove names of union members, such as `function-before[_joined(), str]`, from a location."""
    return [one for one in location if isinstance(one, int) or one.isidentifier()]


def shorten(value: Any, max_chars: int = 200) -> str:
    r"""Return a value on one line, for an error message. Control characters are escaped.

    >>> shorten("a\n\x1b[31mb")
    'a \\x1b[31mb'
    """
    text = " ".join(str(value)[: 20 * max_chars].split())[:max_chars]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
