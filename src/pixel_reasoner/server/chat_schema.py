"""Body of `POST /v1/chat/completions`. Unknown keys are ignored; values that cannot be honoured are refused in `chat`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StrictBool, ValidationError

from pixel_reasoner.server.errors import ApiError

ModelT = TypeVar("ModelT", bound=BaseModel)


class Body(BaseModel):
    """Base of parts of a request."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class TextPart(Body):
    """Text of a message."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class Url(Body):
    """Data URL, id of an uploaded file, or address of an allow-listed host."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None
    """accepted, without effect"""


class ImagePart(Body):
    """Picture."""

    type: Literal["image_url"]
    image_url: Url | str


class VideoPart(Body):
    """Video, as in vLLM and SGLang."""

    type: Literal["video_url"]
    video_url: Url | str


class FileIds(Body):
    """Uploaded file, or its content as a data URL."""

    file_id: str | None = None
    file_data: str | None = None


class FilePart(Body):
    """Uploaded picture or video."""

    type: Literal["file"]
    file: FileIds


ContentPart = Annotated[TextPart | ImagePart | VideoPart | FilePart, Field(discriminator="type")]


class ChatMessage(Body):
    """Message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[Any] | None = None


class StreamOptions(Body):
    """Options of a stream."""

    include_usage: StrictBool | None = None


class Options(Body):
    """Options of this server, under `pixel_reasoner`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operations: StrictBool | list[str] | None = None
    """names of the enabled operations; false for none"""
    max_turns: PositiveInt | None = None
    """messages of the model"""
    max_pictures: PositiveInt | None = None
    """pictures of the question plus results of operations"""
    num_frames: Annotated[int, Field(ge=1, le=64)] | None = None
    """frames sampled from a video"""
    overview_px: PositiveInt | None = None
    """largest number of pixels of an overview"""
    crop_px: PositiveInt | None = None
    """largest number of pixels of a result of an operation"""
    dialect: Annotated[str, Field(max_length=100)] | None = None
    """prompt format"""
    steps: StrictBool = True
    """whether the reply contains the steps"""


class ChatRequest(Body):
    """Request for a chat completion."""

    model: Annotated[str, Field(max_length=1000)] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000)]
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None
    pixel_reasoner: Options | None = None


def validated(kind: type[ModelT], fields: dict[str, Any]) -> ModelT:
    """Return the fields of a body as a model.

    Raises:
        ApiError: 400 that names the first invalid field.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        # A union reports one error per member; the error of the intended member has the longest field name.
        params = [_field_name(fields, one["loc"], one["type"] == "missing") for one in errors]
        depths = [param.count(".") + bool(param) for param in params]
        number = depths.index(max(depths))
        param, first = params[number], errors[number]
        raise ApiError(
            400,
            f"{param or 'body'}: {first['msg'][:300]}",
            param=param or None,
            code="invalid_value",
        ) from None


def _field_name(fields: Any, location: tuple[int | str, ...], is_missing: bool) -> str:
    """Return the field of an error. Pydantic's locations also contain names of types and of union members."""
    names: list[str] = []
    for number, one in enumerate(location):
        is_key = isinstance(fields, dict) and one in fields
        is_index = isinstance(fields, list) and isinstance(one, int) and one < len(fields)
        if is_key or is_index:
            fields = fields[one]
            names.append(str(one))
        elif is_missing and number == len(location) - 1:
            names.append(str(one))
    return ".".join(names)


def refuse_unsupported(request: ChatRequest) -> None:
    """Raise an error for a value that this server cannot honour.

    Raises:
        ApiError: 400 that names the field.
    """
    form = (request.response_format or {}).get("type", "text")
    has_tools = bool(request.tools or request.functions) and request.tool_choice != "none"
    unsupported = {
        "tools": "tools of the client cannot be combined with the operations of this server; set tool_choice to none"
        if has_tools
        else "",
        "response_format": f"{str(form)[:40]!r} cannot be guaranteed; only 'text' is supported"
        if form != "text"
        else "",
        "frequency_penalty": "must be 0" if request.frequency_penalty else "",
        "presence_penalty": "must be 0" if request.presence_penalty else "",
        "logit_bias": "is not supported" if request.logit_bias else "",
        "modalities": "only text" if (request.modalities or ["text"]) != ["text"] else "",
        "top_logprobs": "must be 0; only the log-probability of each token is returned"
        if request.top_logprobs
        else "",
        "logprobs": "are not supported in a stream" if request.logprobs and request.stream else "",
    }
    for param, why in unsupported.items():
        if why:
            raise ApiError(400, f"{param}: {why}", param=param, code="unsupported_value")
