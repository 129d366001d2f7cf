"""Internal request of the API: what `/v1/chat/completions` and `/v1/responses` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import UsageError
from pixel_reasoner.rollout.options import with_options
from pixel_reasoner.schema.settings import PixelBudgets, RolloutConfig
from pixel_reasoner.server.chat_schema import (
    ChatMessage,
    ChatRequest,
    FilePart,
    ImagePart,
    Options,
    TextPart,
    Url,
    VideoPart,
    refuse_unsupported,
)
from pixel_reasoner.server.conversation import Prompt
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.media import Source, SourceChecker
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.server.special_tokens import SpecialTokenEscaper

MAX_STOP_CHARS = 256


@dataclass(frozen=True)
class AskedExchange:
    """Question of a conversation, before its media are files."""

    text: str
    sources: tuple[Source, ...] = ()
    reply: str = ""


@dataclass(frozen=True)
class ChatJob:
    """Valid request. Nothing is decoded yet."""

    client: str
    model: str
    prompt: Prompt
    config: RolloutConfig
    system: str
    exchanges: tuple[AskedExchange, ...]
    stop: tuple[str, ...] = ()
    num_choices: int = 1
    logprobs: bool = False
    stream: bool = False
    include_usage: bool = False
    steps: bool = True
    overrides_prompt: bool = False
    """whether the request sets a dialect or budgets"""
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def sources(self) -> list[Source]:
        """Media of all questions, in order."""
        return [source for one in self.exchanges for source in one.sources]

    def without_data(self) -> ChatJob:
        """Return this job without the content of data URLs, which would stay in memory while it waits."""
        return replace(
            self,
            exchanges=tuple(
                replace(one, sources=tuple(source._replace(url="") for source in one.sources))
                for one in self.exchanges
            ),
        )

    @property
    def num_chars(self) -> int:
        """Length of all texts."""
        return len(self.system) + sum(len(one.text) + len(one.reply) for one in self.exchanges)

    @property
    def max_picture_tokens(self) -> int:
        """Largest number of picture tokens of the media of one rollout, before their sizes are known."""
        kinds = [source.kind for source in self.sources]
        return max_picture_tokens(budgets_of(self.prompt), kinds, self.config.media.num_frames)


def max_picture_tokens(budgets: PixelBudgets, kinds: Sequence[str], num_frames: int) -> int:
    """Return the largest number of picture tokens of media.

    Args:
        budgets: pixels per picture and frame.
        kinds: of the media: `image`, or a clip.
        num_frames: sampled frames of each clip.
    """
    image_px, clip_px = budgets.picture.max_px, budgets.frame.max_px * num_frames
    px = sum(image_px if kind == "image" else clip_px for kind in kinds)
    return px // budgets.multiple**2


def budgets_of(prompt: Prompt) -> PixelBudgets:
    """Return the pixel budgets of a request."""
    return prompt.budgets or get_dialect(prompt.dialect).budgets


@dataclass(frozen=True)
class JobReader:
    """Converter of requests to jobs.

    Args:
        settings: limits and defaults.
        names: names under which clients may ask for the model, the served name first; empty for any.
        prompt: dialect and budgets of the model.
        has_logprobs: whether the backend returns tokens and their log-probabilities.
        escape: escapes special tokens.
    """

    settings: ServerSettings
    names: tuple[str, ...]
    prompt: Prompt
    has_logprobs: bool
    escape: SpecialTokenEscaper

    def job(
        self,
        request: ChatRequest,
        client: str,
        checker: SourceChecker,
        past: tuple[AskedExchange, ...] = (),
    ) -> ChatJob:
        """Return the job of a request.

        Args:
            request: of the client.
            client: name of the client.
            checker: checks its media.
            past: earlier exchanges that the server stores; their media are files already.

        Raises:
            ApiError: 400, 403, 404 or 413, with the field.
        """
        refuse_unsupported(request)
        self.check_model(request.model)
        limit = self.settings.largest_n
        if (request.n or 1) > limit:
            raise ApiError(400, f"n: {request.n} is more than {limit}", param="n")
        if request.logprobs and not self.has_logprobs:
            raise ApiError(
                400,
                "logprobs: the model server does not return tokens with log-probabilities",
                param="logprobs",
                code="unsupported_value",
            )
        options = request.pixel_reasoner or Options()
        system, exchanges = _Messages(self, checker).read(request.messages)
        prompt = self._prompt(options)
        has_media = bool(checker.sources) or any(one.sources for one in past)
        job = ChatJob(
            client=client,
            model=request.model or self.names[0],
            prompt=prompt,
            config=self._config(request, options, has_media=has_media),
            system=system,
            exchanges=(*past, *exchanges),
            stop=_stop(request.stop),
            num_choices=request.n or 1,
            logprobs=bool(request.logprobs),
            stream=bool(request.stream),
            include_usage=bool(request.stream_options and request.stream_options.include_usage),
            steps=options.steps,
            overrides_prompt=prompt != self.prompt,
        )
        if job.num_chars > self.settings.max_text_chars:
            raise ApiError(
                400,
                f"messages: {job.num_chars} characters are more than {self.settings.max_text_chars}",
                param="messages",
                code="context_length_exceeded",
            )
        return job

    def check_model(self, name: str) -> None:
        """Raise an error for the name of another model. An empty name is accepted.

        Raises:
            ApiError: 404.
        """
        if name and name not in self.names:
            raise ApiError(
                404,
                f"model: this server serves {self.names[0]!r} only",
                param="model",
                code="model_not_found",
            )

    def _config(self, request: ChatRequest, options: Options, *, has_media: bool) -> RolloutConfig:
        settings, config = self.settings, self.settings.config
        tokens = request.max_completion_tokens or request.max_tokens
        wanted: dict[str, Any] = {
            "max_new_tokens": min(
                tokens or config.sampling.max_new_tokens, settings.max_new_tokens
            ),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "max_turns": options.max_turns,
            "max_pictures": options.max_pictures,
            "num_frames": options.num_frames,
        }
        limits = {"max_turns": settings.max_turns, "max_pictures": 4 * settings.max_media}
        for name, limit in limits.items():
            if (wanted[name] or 0) > limit:
                param = f"pixel_reasoner.{name}"
                raise ApiError(400, f"{param}: {wanted[name]} is more than {limit}", param=param)
        try:
            changed = with_options(config, {k: v for k, v in wanted.items() if v is not None})
        except UsageError as error:
            raise ApiError(400, f"expected {error.expected}; got {error.got}") from error
        operations = self._operations(options) if has_media else ()
        return changed.model_copy(update={"operations": operations})

    def _operations(self, options: Options) -> tuple[str, ...]:
        enabled = self.settings.config.operations
        if options.operations is None or options.operations is True:
            return enabled
        if options.operations is False:
            return ()
        for name in options.operations:
            if name not in enabled:
                param = "pixel_reasoner.operations"
                raise ApiError(
                    400,
                    f"{param}: {name[:100]!r} is not one of {', '.join(enabled) or 'none'}",
                    param=param,
                )
        return tuple(dict.fromkeys(options.operations))

    def _prompt(self, options: Options) -> Prompt:
        budgets, name = self.prompt.budgets, self.prompt.dialect
        if options.dialect is not None:
            try:
                name = get_dialect(options.dialect).name
            except (UsageError, ValueError):
                param = "pixel_reasoner.dialect"
                raise ApiError(
                    400, f"{param}: {options.dialect!r} is unknown", param=param
                ) from None
        if options.overview_px is None and options.crop_px is None:
            return Prompt(name, budgets)
        budgets = (budgets or get_dialect(name).budgets).at_most(
            options.overview_px, options.crop_px
        )
        return Prompt(name, budgets)


class _Messages:
    """Reader of the messages of one request."""

    def __init__(self, reader: JobReader, checker: SourceChecker) -> None:
        self.escape = reader.escape
        self.checker = checker
        self.system: list[str] = []
        self.exchanges: list[AskedExchange] = []
        self.texts: list[str] = []
        self.sources: list[Source] = []
        self.replies: list[str] = []

    def read(self, messages: Sequence[ChatMessage]) -> tuple[str, tuple[AskedExchange, ...]]:
        """Return the instructions and the exchanges; the last one is the question.

        Raises:
            ApiError: 400, 403 or 413.
        """
        for number, message in enumerate(messages):
            self._add(message, f"messages.{number}")
        last = f"messages.{len(messages) - 1}"
        if messages[-1].role not in ("user", "system", "developer") or self.replies:
            raise ApiError(
                400,
                f"{last}.role: the last message must be of the user",
                param=f"{last}.role",
            )
        if not "".join(self.texts).strip() and not self.sources:
            raise ApiError(400, f"{last}: the last message is empty", param=last)
        self._end_exchange()
        return "\n\n".join(self.system), tuple(self.exchanges)

    def _add(self, message: ChatMessage, param: str) -> None:
        if message.role in ("tool", "function") or message.tool_calls:
            raise ApiError(
                400,
                f"{param}: tools of the client cannot be combined with the operations of this server",
                param=f"{param}.role",
                code="unsupported_value",
            )
        is_user = message.role == "user"
        text = self._content(message, param, has_media=is_user)
        if is_user:
            if self.replies:
                self._end_exchange()
            self.texts.append(text)
        elif message.role == "assistant":
            self.replies.append(text)
        elif text.strip():
            self.system.append(text)

    def _content(self, message: ChatMessage, param: str, *, has_media: bool) -> str:
        if message.content is None or isinstance(message.content, str):
            return self.escape(message.content or "")
        texts: list[str] = []
        for number, part in enumerate(message.content):
            where = f"{param}.content.{number}"
            if isinstance(part, TextPart):
                texts.append(self.escape(part.text))
            elif not has_media:
                raise ApiError(
                    400,
                    f"{where}: pictures are allowed in messages of the user only",
                    param=where,
                    code="unsupported_value",
                )
            elif isinstance(part, ImagePart):
                self._source("image", _url(part.image_url), f"{where}.image_url")
            elif isinstance(part, VideoPart):
                self._source("video", _url(part.video_url), f"{where}.video_url")
            else:
                self._file(part, f"{where}.file")
        return "\n".join(texts)

    def _file(self, part: FilePart, param: str) -> None:
        url = part.file.file_id or part.file.file_data
        if not url:
            raise ApiError(400, f"{param}: file_id or file_data is needed", param=param)
        is_video = url[:11].lower() == "data:video/"
        self._source("video" if is_video else "image", url, param)

    def _source(self, kind: Any, url: str, param: str) -> None:
        self.sources.append(self.checker.add(kind, url, param))

    def _end_exchange(self) -> None:
        exchange = AskedExchange(
            "\n".join(self.texts), tuple(self.sources), "\n".join(self.replies)
        )
        self.exchanges.append(exchange)
        self.texts, self.sources, self.replies = [], [], []


def _url(url: Url | str) -> str:
    return url if isinstance(url, str) else url.url


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    words = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(len(word) > MAX_STOP_CHARS for word in words):
        raise ApiError(400, f"stop: more than {MAX_STOP_CHARS} characters", param="stop")
    return tuple(word for word in words if word)
