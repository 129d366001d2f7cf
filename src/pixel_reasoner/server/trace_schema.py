"""Bodies of the trace API, and their conversion to requests of the chat API, so that both have the same checks."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, StrictBool

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.server.chat_schema import Body, ChatRequest, validated
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.uploads import Uploads

MAX_REPEATS = 8
REPEAT_TEMPERATURE = 0.7
"""temperature of repetitions that state none: with 0 all would be equal"""
_MEDIA_PARAM = re.compile(r"messages\.0\.content\.(\d+)\.(?:image|video)_url")


def _box(sides: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = sides
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("must be left, top, right, bottom with 0 <= left < right <= 1")
    return sides


class TraceMedium(Body):
    """Picture or video."""

    kind: Literal["image", "video"]
    url: str
    """data URL, id of an upload, or address of an allow-listed host"""


class Hint(Body):
    """Region that the user marked."""

    picture: PositiveInt = 1
    box: Annotated[tuple[float, float, float, float], AfterValidator(_box)]
    """left, top, right, bottom as fractions of the picture"""


class TraceOptions(Body):
    """Options of a trace."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operations: StrictBool | list[str] | None = None
    """names of the enabled operations; false for none"""
    max_turns: PositiveInt | None = None
    max_pictures: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    """tokens per message of the model"""
    num_frames: Annotated[int, Field(ge=1, le=64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    hints: Annotated[list[Hint], Field(max_length=8)] = Field(default_factory=list)
    """regions to look at; they are added to the question"""
    repeat: Annotated[int, Field(ge=1, le=MAX_REPEATS)] = 1
    """answers that are sampled; the default temperature is then 0.7"""
    without_operations: StrictBool = False
    """whether the question is also asked without operations"""


class TraceRequest(Body):
    """Question about media."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    media: Annotated[list[str | TraceMedium], Field(max_length=1000)] = Field(default_factory=list)
    """pictures and videos: data URLs, ids of uploads, or addresses of allow-listed hosts"""
    model: Annotated[str, Field(max_length=1000)] = ""
    follows: Annotated[str, Field(max_length=64)] | None = None
    """id of a finished trace; the question continues its conversation about the same media"""
    expected: Annotated[str, Field(max_length=1000)] | None = None
    """expected answer; the model does not receive it"""
    options: TraceOptions = TraceOptions()


class SampledAnswer(BaseModel):
    """An answer and how often it was given."""

    answer: str
    count: int


class JobObject(BaseModel):
    """State of a trace."""

    id: str
    object: Literal["trace"] = "trace"
    state: Literal["queued", "running", "finished", "cancelled", "failed", "interrupted"]
    created: float
    finished: float | None = None
    model: str
    question: str
    answer: str | None = None
    """most frequent answer"""
    answers: list[SampledAnswer] = Field(default_factory=list)
    thumbnail: str | None = None
    """name of a small picture"""
    follows: str | None = None
    share_path: str | None = None
    """path that is readable without a key"""


class JobWithTraces(JobObject):
    """State of a trace, and its records when it has finished: one, or one per repetition."""

    traces: list[dict[str, Any]] | None = None


class JobList(BaseModel):
    """Newest traces first."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    has_more: bool
    next_before: float | None = None
    """value of `before` for the next page"""


class Share(BaseModel):
    """Address of a shared trace."""

    path: str


class Deleted(BaseModel):
    """Confirmation."""

    id: str
    deleted: Literal[True] = True


class ChatRequests(NamedTuple):
    """Requests of the chat API that a request for a trace consists of."""

    main: ChatRequest
    plain: ChatRequest | None
    """the same without operations"""


def chat_requests(asked: TraceRequest, uploads: Uploads, client: str) -> ChatRequests:
    """Return the requests of a trace.

    Raises:
        ApiError: 400, or 404 for an unknown upload.
    """
    options = asked.options
    parts = [_part(one, uploads, client, number) for number, one in enumerate(asked.media)]
    content = [*parts, {"type": "text", "text": asked.question + _hint_text(options.hints)}]
    temperature = options.temperature
    if temperature is None and options.repeat > 1:
        temperature = REPEAT_TEMPERATURE
    own = options.model_dump(include={"operations", "max_turns", "max_pictures", "num_frames"})
    fields = {
        "model": asked.model,
        "messages": [{"role": "user", "content": content}],
        "stream": True,
        "max_tokens": options.max_tokens,
        "temperature": temperature,
        "seed": options.seed,
        "n": options.repeat,
        "pixel_reasoner": own,
    }
    main = validated(ChatRequest, fields)
    if not options.without_operations:
        return ChatRequests(main, None)
    plain = fields | {"pixel_reasoner": own | {"operations": False}}
    return ChatRequests(main, validated(ChatRequest, plain))


def own_param(error: ApiError) -> ApiError:
    """Rename the fields of the chat API in an error to the fields of the trace API.

    >>> error = own_param(ApiError(400, "messages.0.content.2.image_url: bad", param="messages.0.content.2.image_url"))
    >>> error.param, error.message
    ('media.2', 'media.2: bad')
    """
    if error.param:
        error.param = _own_name(error.param)
    error.message = _own_name(error.message)
    return error


def _own_name(text: str) -> str:
    text = _MEDIA_PARAM.sub(r"media.\1", text)
    text = text.replace("pixel_reasoner.", "options.")
    return re.sub(r"^(?:messages(?:\.0)?|pixel_reasoner)(?=:|$)", "question", text)


def _part(medium: str | TraceMedium, uploads: Uploads, client: str, number: int) -> dict[str, Any]:
    if isinstance(medium, TraceMedium):
        kind, url = medium.kind, medium.url
    else:
        url = medium
        kind = "video" if url[:11].lower() == "data:video/" else "image"
        if Uploads.is_id(url):
            try:
                kind = uploads.find(url, client).kind
            except ApiError as error:
                error.param = f"media.{number}"
                raise
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def _hint_text(hints: list[Hint]) -> str:
    """Return the hints as text of the question."""
    texts = []
    for hint in hints:
        try:
            box = Box(*hint.box)
        except (ValueError, UsageError):  # the sides are equal after rounding
            continue
        sides = ", ".join(f"{side:.3f}" for side in box)
        texts.append(f"\nHint: look at the region [{sides}] of picture {hint.picture}.")
    return "".join(texts)
