"""A model behind one or several OpenAI-compatible servers.

    pixel-reasoner ask "..." --image a.png --model NAME --endpoint http://localhost:8000/v1
    pixel-reasoner eval vstar --data vstar_bench --model NAME --endpoint http://a:8000/v1 --endpoint http://b:8000/v1 --out runs/vstar

`wire` says how conversations and replies are written, `pool` which server is asked and what happens if it fails. A question whose
turn is done goes on at once, and up to `RetryPolicy.concurrency` requests are under way.

What a server cannot tell is not in a trace: the ids of tokens, the fingerprint of weights. Keys are sent and kept nowhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.syntax.base import WrittenCall
from pixel_reasoner.errors import EndpointError, UsageError
from pixel_reasoner.models.api import Completion, ContextFull, Finished, Messages, OnText
from pixel_reasoner.models.http_pool import HttpPool, RequestFailed, RetryPolicy
from pixel_reasoner.models.openai_chat import (
    PROFILES,
    MessageWriter,
    ServerKind,
    StreamedReply,
    ToolProtocol,
    Write,
    as_native_messages,
    body,
    completion,
    events,
    fields,
    json_of,
    server_of,
    text_of,
)
from pixel_reasoner.models.probe import Probe, assert_pictures_are_seen, probed
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, SamplingParams

if TYPE_CHECKING:
    from httpx2 import Response


class Service(NamedTuple):
    """A model that servers run, and how it is asked."""

    name: str
    """by which they serve it"""
    endpoints: tuple[str, ...]
    """their addresses, such as http://localhost:8000/v1"""
    dialect: str
    """how it is offered operations"""
    budgets: PixelBudgets | None = None
    """what it sees; None for the dialect's defaults"""
    protocol: ToolProtocol = ToolProtocol.TEXT
    """how operations travel"""
    server: ServerKind | None = None
    """whose profile to use; None for what the first server says of itself"""
    api_key: str = ""
    """sent with each request"""
    manners: RetryPolicy = RetryPolicy()
    """how servers are asked"""


class RemoteModel:
    """A model behind the servers of a `Service`.

    Raises:
        UsageError: an address that is none, or the HTTP client is not installed.
        EndpointError: the first server does not serve a model of this name.
    """

    def __init__(self, service: Service) -> None:
        self.name = service.name
        self._spoken = get_dialect(service.dialect)
        self.dialect = self._spoken.name
        self.budgets = service.budgets
        self.note = ""
        self.protocol = service.protocol
        if self.protocol is ToolProtocol.NATIVE and not self._spoken.tools:
            raise UsageError(
                expected="a dialect with tools for --protocol native",
                got=self.dialect,
                fix="leave out --protocol, or name another --dialect",
            )
        self._api_key = service.api_key
        self.pool = HttpPool(service.endpoints, service.api_key, service.manners)
        told = self.pool.get("/models")
        models = told.get("data") if isinstance(told, dict) else None
        models = models if isinstance(models, list) else []
        self.server = service.server or server_of(models)
        self.profile = PROFILES[self.server]
        self._check_name(models)
        self._written: list[MessageWriter] = []

    def _check_name(self, models: Sequence[Any]) -> None:
        """A server that lists what it serves must list this. Some list what they could load, or nothing."""
        names = [str(one.get("id")) for one in models if isinstance(one, dict)]
        if names and self.server is not ServerKind.TRANSFORMERS and self.profile.owner:
            tagged = {name.removesuffix(":latest") for name in names}
            if self.name.removesuffix(":latest") not in tagged:
                raise EndpointError(
                    expected=f"a model that {self.pool.endpoints[0].url} serves: {', '.join(names[:20])}",
                    got=repr(self.name),
                    fix="name one of these by --model",
                )

    def probe(self, *, anew: bool = False) -> dict[str, Probe]:
        """What each server does that can be reached (see `models.probe`), asked at most once a day; then send what all of them understand.

        Raises:
            EndpointError: none can be reached, or one does not see pictures.
        """
        urls = [endpoint.url for endpoint in self.pool.endpoints]
        with ThreadPoolExecutor(len(urls)) as executor:
            asked = {url: executor.submit(self._probe, url, anew) for url in urls}
        failures = [error for one in asked.values() if (error := one.exception()) is not None]
        if len(failures) == len(urls):
            raise failures[0]
        found = {url: one.result() for url, one in asked.items() if one.exception() is None}
        assert_pictures_are_seen(found)
        profiles = [one.profile(self.profile) for one in found.values()]
        self.profile = self.profile._replace(
            seed=all(one.seed for one in profiles), logprobs=all(one.logprobs for one in profiles)
        )
        return found

    def _probe(self, url: str, anew: bool) -> Probe:
        alone = HttpPool((url,), self._api_key, self.pool.manners._replace(tries=2, patience=100))
        try:
            alone.assert_reachable()  # what was found yesterday does not say that it is there today
            return probed(alone, self.name, self.profile, anew=anew)
        finally:
            alone.close()

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """One turn for each conversation, all at once. `on_text` needs a single conversation."""
        if on_text is not None or len(conversations) == 1:
            if len(self._written) != 1:
                self._written = [MessageWriter()]
            return [self.turn(one, decoding, self._written[0], on_text) for one in conversations]
        with self._executor() as executor:
            turns = [
                executor.submit(self.turn, one, decoding, MessageWriter()) for one in conversations
            ]
            return [turn.result() for turn in turns]

    def session(self, decoding: SamplingParams) -> Session:
        """Turns of many conversations side by side."""
        return Session(self, decoding)

    def turn(
        self,
        conversation: Messages,
        decoding: SamplingParams,
        written: MessageWriter,
        on_text: OnText | None = None,
    ) -> Completion | ContextFull:
        """One turn of a conversation.

        Raises:
            RequestFailed: no reply to this request.
            EndpointError: no reply can be expected any more.
        """
        told = fields(self.name, decoding, self.profile, stream=on_text is not None)
        if self.protocol is ToolProtocol.NATIVE:
            conversation, tools = self._offered(conversation)
            told |= {"tools": tools} if tools else {}
        request = body(told, written.messages(conversation))
        try:
            if on_text is None:
                return self.pool.ask(request, partial(_reply, write=self._write))
            return self.pool.ask(request, _Reader(on_text, self._write))
        except RequestFailed as error:
            full = _context_full(error.got)
            if full is None:
                raise
            return full

    def _write(self, name: str, arguments: dict[str, Any]) -> str:
        """A call that came as JSON, as the dialect writes it."""
        return self._spoken.encode(WrittenCall(name, arguments))

    def _offered(self, conversation: Messages) -> tuple[Messages, list[dict[str, Any]]]:
        """A conversation as its messages with `tool_calls`, and the tools that its system message had listed."""
        spoken, system = self._spoken, text_of(conversation[0])
        offers = {spoken.system_with_operations, spoken.system_with_video} - {""}
        if conversation[0]["role"] != "system" or system not in offers:
            return as_native_messages(conversation), []
        tools = list(spoken.tools)
        if system == spoken.system_with_operations:  # some families offer frames of videos alone
            tools = spoken.tool_definitions(has_video=False)
        opening = {"role": "system", "content": spoken.native_system}
        return as_native_messages([opening] * bool(spoken.native_system) + conversation[1:]), tools

    def describe(self) -> ModelInfo:
        """The name under which it is served and how it is asked. Which machines serve it decides nothing."""
        native = self.protocol is ToolProtocol.NATIVE
        return ModelInfo(
            name=self.name,
            served_as=self.name,
            architecture="remote",
            protocol=self.protocol.value,
            tools=self._spoken.native_fingerprint if native else "",
            server=self.server.value,
        )

    def close(self) -> None:
        """Ask nothing any more."""
        self.pool.close()

    @contextlib.contextmanager
    def _executor(self) -> Iterator[ThreadPoolExecutor]:
        executor = ThreadPoolExecutor(self.pool.manners.concurrency)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        executor.shutdown()


class Session:
    """Turns of many conversations, each asked for as soon as it can be."""

    fill, room = 1.0, 0.0  # nothing is lost by waiting: what was added is under way

    def __init__(self, model: RemoteModel, decoding: SamplingParams) -> None:
        self.model, self.decoding = model, decoding
        self.executor = ThreadPoolExecutor(model.pool.manners.concurrency)
        self._under_way: dict[Future[tuple[Any, float]], Any] = {}
        self._written: dict[Any, MessageWriter] = {}

    def __del__(self) -> None:
        """Who leaves early waits for nothing."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def add(self, key: Any, conversation: Messages) -> None:
        """Ask for the next turn of a conversation."""
        written = self._written.setdefault(key, MessageWriter())
        turn = self.executor.submit(_timed, self.model, conversation, self.decoding, written)
        self._under_way[turn] = key

    def done(self) -> list[Finished]:
        """The turns that are finished next. A request that was refused is told as its error.

        Raises:
            EndpointError: no reply can be expected any more.
        """
        finished, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        told: list[Finished] = []
        for turn in finished:
            key = self._under_way.pop(turn)
            error = turn.exception()
            if isinstance(error, RequestFailed):
                told.append((key, error, 0.0))
            elif error is not None:
                self.executor.shutdown(wait=False, cancel_futures=True)
                raise error
            else:
                said, seconds = turn.result()
                told.append((key, said, seconds))
        return told

    def end(self, key: Any) -> None:
        """A conversation is over."""
        self._written.pop(key, None)


def _timed(
    model: RemoteModel, conversation: Messages, decoding: SamplingParams, written: MessageWriter
) -> tuple[Completion | ContextFull, float]:
    started = time.perf_counter()
    said = model.turn(conversation, decoding, written)
    return said, time.perf_counter() - started


def _reply(response: Response, write: Write) -> Completion:
    """The turn in a response.

    Raises:
        Broken: it is none.
    """
    return completion(json_of(response), write)


class _Reader:
    """Reads a stream and hands on its words. Tried again, it does not repeat what was heard."""

    def __init__(self, on_text: OnText, write: Write) -> None:
        self.on_text = on_text
        self.write = write
        self.heard = ""

    def __call__(self, response: Response) -> Completion:
        """The turn in a streamed response.

        Raises:
            Broken: it is none, or was cut off.
        """
        streamed, said = StreamedReply(), ""
        if "event-stream" not in response.headers.get("content-type", ""):
            reply = _reply(response, self.write)
            self._tell(reply.text)
            return reply
        for event in events(response.iter_lines()):
            said += streamed.take(event)
            self._tell(said)
        turn = completion(streamed.reply(), self.write)
        self._tell(turn.text)  # a call that came as `tool_calls`
        return turn

    def _tell(self, said: str) -> None:
        if self.heard.startswith(said):
            return
        if not said.startswith(self.heard):  # sampled anew, it says something else
            self.on_text("\n")
            self.heard = ""
        self.on_text(said[len(self.heard) :])
        self.heard = said


_CONTEXT = ("context length", "context_length", "context size", "maximum context", "too long")


def _context_full(told: str) -> ContextFull | None:
    """Whether a refusal says that the conversation is too long for the model."""
    if not any(words in told.lower() for words in _CONTEXT):
        return None
    return ContextFull(num_prompt_tokens=0, limit=0)
