"""Remote model on one or several OpenAI-compatible servers.

    pixel-reasoner ask "..." --image a.png --model NAME --endpoint http://localhost:8000/v1
    pixel-reasoner eval vstar --data vstar_bench --model NAME --endpoint http://a:8000/v1 --endpoint http://b:8000/v1 --out runs/vstar

`openai_chat` writes requests, `openai_reply` parses replies, `http_pool` selects servers and retries, `remote_backend` runs
up to `RetryPolicy.concurrency` concurrent requests.

Servers return neither token ids nor a fingerprint of the weights, so traces do not contain them. API keys are never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.carriage import TEXT
from pixel_reasoner.dialects.syntax.base import WrittenCall
from pixel_reasoner.errors import EndpointError, UsageError
from pixel_reasoner.models.api import (
    Capabilities,
    Completion,
    ContextFull,
    GenerationRequest,
    Messages,
    OnText,
    generate_turns,
)
from pixel_reasoner.models.http_body import read_body
from pixel_reasoner.models.http_client import NewTransport
from pixel_reasoner.models.http_connection import CancelToken
from pixel_reasoner.models.http_errors import (
    DEFAULT_NAMES,
    FailureKind,
    MessageNames,
    RequestFailed,
)
from pixel_reasoner.models.http_pool import HttpPool, RetryPolicy
from pixel_reasoner.models.native_tools import as_text_messages, has_picture, native_request
from pixel_reasoner.models.openai_chat import (
    PROFILES,
    MessageWriter,
    ServerKind,
    ToolProtocol,
    request_body,
    request_fields,
    server_kind,
)
from pixel_reasoner.models.openai_reply import ReplyReader
from pixel_reasoner.models.openai_schema import ModelCard, ModelList, shorten, validated
from pixel_reasoner.models.openai_stream import OnDelta, StreamReader, TextJoiner
from pixel_reasoner.models.probe import Probe, assert_supports_images, cached_probe
from pixel_reasoner.models.remote_backend import RemoteBackend
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, SamplingParams

if TYPE_CHECKING:
    from httpx2 import Response

POLL_TIMEOUT_S = 60.0
MAX_MODEL_LIST_BYTES = 4 * 2**20
"""a provider's list of 500 models with prices takes 1 MB"""


class RemoteConfig(NamedTuple):
    """Model, servers and request settings."""

    name: str
    """name of the model on the servers"""
    endpoints: tuple[str, ...]
    """base URLs, such as http://localhost:8000/v1"""
    dialect: str
    """name of the model's dialect"""
    budgets: PixelBudgets | None = None
    """pixel budgets of the model; None for the defaults of the dialect"""
    protocol: ToolProtocol = ToolProtocol.TEXT
    """format of tool calls"""
    server: ServerKind | None = None
    """selects the profile; None for detection from the model list of the first server"""
    api_key: str = ""
    """sent with each request"""
    policy: RetryPolicy = RetryPolicy()
    """timeouts, retries and concurrency"""
    names: MessageNames = DEFAULT_NAMES
    """names of options in messages"""
    new_transport: NewTransport | None = None
    """opens connections; None for the proxies of the environment, or none"""
    other_name: str = ""
    """used instead of `name` if the first server lists only this one: a bundled model is served by its folder or its name"""


class RemoteModel:
    """Model on the servers of a `RemoteConfig`.

    Raises:
        UsageError: an invalid address, or the HTTP client is not installed.
        EndpointError: the first server does not serve a model with this name.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self.name = config.name
        self._dialect = get_dialect(config.dialect)
        self.dialect = self._dialect.name
        self.budgets = config.budgets
        self.note = ""
        self.protocol = config.protocol
        if self.protocol is ToolProtocol.NATIVE and not self._dialect.tools:
            raise UsageError(
                expected="a dialect with tools for --protocol native",
                got=self.dialect,
                fix="leave out --protocol, or name another --dialect",
            )
        self.sends_tool_pictures = self._dialect.carriage.pictures_in_tool
        """whether pictures of results are in the role `tool`; false after a server rejected them"""
        self._api_key = config.api_key
        self.pool = HttpPool(
            config.endpoints, config.api_key, config.policy, config.names, config.new_transport
        )
        models = self.listed = self._served_models()
        names = {one.id for one in models}
        if self.name not in names and config.other_name in names:
            self.name = config.other_name
        self.server = config.server or server_kind(models)
        self.profile = PROFILES[self.server]
        self._check_name(models)
        self._backend = RemoteBackend(self)

    def _served_models(self) -> list[ModelCard]:
        """Return the models that the first server lists; empty if it is unreachable or has no valid list."""
        try:
            return list_models(self.pool)
        except EndpointError:
            return []  # other servers may be reachable

    def _check_name(self, models: Sequence[ModelCard]) -> None:
        """Raise an error if the name is not in the list of a server. Some servers list loadable models, or nothing."""
        names = [one.id for one in models]
        if names and self.server is not ServerKind.TRANSFORMERS and self.profile.owner:
            untagged = {name.removesuffix(":latest") for name in names}
            if self.name.removesuffix(":latest") not in untagged:
                listed = shorten(self.pool.redact(", ".join(names[:20])), 1000)
                raise EndpointError(
                    expected=f"a model that {self.pool.endpoints[0].shown} serves: {listed}",
                    got=repr(self.name),
                    fix=f"use one of these for {self.pool.names.model}",
                )

    def probe(self, *, refresh: bool = False) -> dict[str, Probe]:
        """Probe each reachable server, and restrict further requests to fields that all servers support.

        Results are cached for a day (see `models.probe`), unless `refresh`.

        Raises:
            EndpointError: no reachable server, or a server without image input.
        """
        endpoints = self.pool.endpoints
        with ThreadPoolExecutor(len(endpoints)) as executor:
            probes = {
                one.shown: executor.submit(self._probe, one.url, refresh) for one in endpoints
            }
        failures = [error for one in probes.values() if (error := one.exception()) is not None]
        if len(failures) == len(probes):
            raise failures[0]
        found = {url: one.result() for url, one in probes.items() if one.exception() is None}
        assert_supports_images(found)
        profiles = [one.profile(self.profile) for one in found.values()]
        self.profile = self.profile._replace(
            seed=all(one.seed for one in profiles), logprobs=all(one.logprobs for one in profiles)
        )
        return found

    def _probe(self, url: str, refresh: bool) -> Probe:
        policy = self.pool.policy._replace(max_tries=2, max_consecutive_failures=100)
        own = self.pool
        pool = HttpPool((url,), self._api_key, policy, own.names, own.new_transport)
        try:
            pool.get(
                "/models", lambda response: None
            )  # a cached result does not prove that the server is running
            return cached_probe(pool, self.name, self.profile, refresh=refresh)
        finally:
            pool.close()

    # --- generation ---

    @property
    def capabilities(self) -> Capabilities:
        """Return the capabilities of the servers from their profile."""
        return Capabilities(
            logprobs=self.profile.logprobs,
            streaming=True,
            native_tools=self.protocol is ToolProtocol.NATIVE,
            max_concurrency=self.pool.policy.concurrency,
        )

    def open_backend(self) -> RemoteBackend:
        """Return the backend of this model, shared by all its clients."""
        return self._backend

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Return one turn for each conversation, in order. `on_text` requires a single conversation.

        Raises:
            EndpointError: a request got no reply.
        """
        backend = RemoteBackend(
            self
        )  # polling the shared backend would take results of its clients
        try:
            if on_text is None:
                return generate_turns(backend, conversations, decoding)
            joiner = TextJoiner(on_text)
            turns = generate_turns(backend, conversations, decoding, joiner.add)
            joiner.finish()
            return turns
        finally:
            backend.close()

    def generate_turn(
        self,
        request: GenerationRequest,
        writer: MessageWriter,
        token: CancelToken,
        on_delta: OnDelta | None = None,
    ) -> Completion | ContextFull:
        """Return one turn of a conversation.

        Args:
            request: conversation and sampling parameters.
            writer: caches the JSON of earlier turns of this conversation.
            token: cancels the request from another thread.
            on_delta: called with new text during generation, and whether it is reasoning.

        Raises:
            RequestFailed: no reply to this request.
            EndpointError: all servers fail.
            CancelledError: the token was cancelled.
        """
        try:
            return self._ask(request, writer, token, on_delta)
        except RequestFailed as error:
            is_rejected = error.kind is FailureKind.REJECTED and not _context_full(error.got)
            if not (is_rejected and self._has_tool_pictures(request)):
                return self._after_failure(error)
            self.sends_tool_pictures = False  # for all later requests to these servers
        try:
            return self._ask(request, writer, token, on_delta)
        except RequestFailed as error:
            return self._after_failure(error)

    def _ask(
        self,
        request: GenerationRequest,
        writer: MessageWriter,
        token: CancelToken,
        on_delta: OnDelta | None,
    ) -> Completion:
        """Send a request. Raises the errors of `HttpPool.ask`."""
        body = self._body(request, writer, stream=on_delta is not None)
        parse: Callable[[Response], Completion]
        if on_delta is None:
            parse = ReplyReader(self._write_call, self.pool.redact)
        else:
            parse = StreamReader(on_delta, self._write_call, self.pool.redact)
        return self.pool.ask(body, parse, token=token)

    def _after_failure(self, error: RequestFailed) -> Completion | ContextFull:
        """Return the result of a failed request if the context is full or the error contains a call; otherwise raise it."""
        full = _context_full(error.got)
        if full is not None:
            return full
        if not self._has_call(error.rejected_turn):
            raise error
        return Completion(text=error.rejected_turn, was_rejected=True)

    def _has_tool_pictures(self, request: GenerationRequest) -> bool:
        """Return whether a request contains pictures in the role `tool`, which servers may reject."""
        if self.protocol is not ToolProtocol.NATIVE or not self.sends_tool_pictures:
            return False
        roles = [one["role"] for one in request.messages]
        if "assistant" not in roles:
            return False
        later = request.messages[roles.index("assistant") :]
        return any(has_picture(one) for one in later if one["role"] != "assistant")

    def _has_call(self, text: str) -> bool:
        """Return whether a turn that the server could not parse contains a valid call."""
        return bool(text and self._dialect.parse(text, strict=False).executable_calls)

    def _body(self, request: GenerationRequest, writer: MessageWriter, *, stream: bool) -> bytes:
        fields = request_fields(self.name, request.sampling, self.profile, stream=stream)
        messages = request.messages
        if self.protocol is ToolProtocol.NATIVE:
            messages, tools = native_request(
                self._dialect,
                messages,
                self.profile.reasoning,
                request.tools,
                pictures_in_tool=self.sends_tool_pictures,
            )
            fields |= {"tools": tools} if tools else {}
        elif self._dialect.carriage != TEXT:
            messages = as_text_messages(self._dialect, messages, self.profile.reasoning)
        return request_body(fields, writer.messages(messages))

    def _write_call(self, name: str, arguments: dict[str, Any]) -> str:
        """Convert a native call to the syntax of the dialect."""
        return self._dialect.encode(WrittenCall(name, arguments))

    def describe(self) -> ModelInfo:
        """Return name, protocol and kind of server. Addresses do not affect results and are omitted."""
        native = self.protocol is ToolProtocol.NATIVE
        return ModelInfo(
            name=self.name,
            served_as=self.name,
            architecture="remote",
            protocol=self.protocol.value,
            tools=self._dialect.native_fingerprint if native else "",
            server=self.server.value,
        )

    def recover(self) -> None:
        """Use servers again that were excluded after an error."""
        self.pool.recover()

    def close(self) -> None:
        """Abort all requests and close all connections."""
        self._backend.close()
        self.pool.close()


def served_models(endpoint: str, api_key: str, policy: RetryPolicy) -> list[str]:
    """Return the names of the models that a server lists; empty if it has no list.

    Raises:
        UsageError: an invalid address.
        EndpointError: the server cannot be reached.
    """
    pool = HttpPool((endpoint,), api_key, policy)
    try:
        return [one.id for one in list_models(pool)]
    finally:
        pool.close()


def list_models(pool: HttpPool) -> list[ModelCard]:
    """Return the models that the first server of a pool lists; empty if it has no list.

    Raises:
        EndpointError: the server cannot be reached.
    """
    found = pool.get("/models", _read_models)
    return found.data if found else []


def _read_models(response: Response) -> ModelList:
    """Parse a list of models.

    Raises:
        ServerError: invalid list.
    """
    return validated(ModelList, read_body(response, MAX_MODEL_LIST_BYTES))


_CONTEXT_WORDS = (
    "context length",
    "context_length",
    "context size",
    "maximum context",
    "too long",
)


def _context_full(text: str) -> ContextFull | None:
    """Return `ContextFull` if the message of a rejected request means that the conversation is too long; otherwise None."""
    if not any(words in text.lower() for words in _CONTEXT_WORDS):
        return None
    return ContextFull(num_prompt_tokens=0, limit=0)
