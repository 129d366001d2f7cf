"""Everything that the routes of one server share. Other parts of the server (traces, Studio, MCP) receive it too."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, Request

from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.media.worker_pool import WorkerPoolDecoder
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.server.admission import Admission, Load
from pixel_reasoner.server.auth import ANYONE, OPEN_PATHS, Key
from pixel_reasoner.server.body import BodyReader
from pixel_reasoner.server.chat import ChatJob, JobReader
from pixel_reasoner.server.connections import Connections
from pixel_reasoner.server.endpoint_access import EndpointAccess
from pixel_reasoner.server.engine import RolloutEngine
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.fetch import Fetcher
from pixel_reasoner.server.media import MediaIntake, SourceChecker
from pixel_reasoner.server.metrics import Metrics
from pixel_reasoner.server.served import Served, start_engine
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.server.uploads import Uploads

if TYPE_CHECKING:
    from pixel_reasoner.server.tracing import ServerTracer

LoadModel = Callable[[], GenerationModel]
Lifespan = Callable[[], AbstractAsyncContextManager[object]]


class ServerPart(Protocol):
    """Part of the server with its own routes, for example traces, Studio or MCP."""

    def mount(self, app: FastAPI, services: Services) -> None:
        """Add routes. Called before the server starts; `services.engine` is set when the model is loaded."""
        ...


@dataclass
class Services:
    """State of one server."""

    settings: ServerSettings
    keys: tuple[Key, ...]
    metrics: Metrics
    admission: Admission
    body: BodyReader
    uploads: Uploads
    fetcher: Fetcher
    store: MediaStore
    intake: MediaIntake
    decoder: WorkerPoolDecoder
    names: tuple[str, ...]
    """names of the model for clients, the served name first"""
    created: int = 0
    loaded: RolloutEngine | None = None
    reader: JobReader | None = None
    failure: BaseException | None = None
    """error of loading the model"""
    tracer: ServerTracer | None = None
    """sends spans to a collector, if one is configured"""
    is_draining: bool = False
    root: Path = Path()
    """folder of everything that is stored"""
    open_paths: set[str] = field(default_factory=lambda: set(OPEN_PATHS))
    """paths that need no key; one that ends with `/*` includes everything below it"""
    lifespans: list[Lifespan] = field(default_factory=list)
    """contexts of parts, entered when the server starts"""
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)
    connections: Connections = field(init=False)
    """models that users connected"""

    def __post_init__(self) -> None:
        access = EndpointAccess(self.settings.endpoint_hosts)
        self.connections = Connections(access, self.start_engine)
        metrics = self.metrics
        metrics.track(metrics.running, lambda: sum(one.num_running for one in self.engines))
        metrics.track(metrics.waiting, lambda: sum(one.num_waiting for one in self.engines))

    @property
    def engine(self) -> RolloutEngine:
        """The engine.

        Raises:
            ApiError: 503 while the model is loaded.
        """
        if self.loaded is None:
            raise ApiError(
                503, "the model is being loaded", retry_after_s=2.0, code="model_loading"
            )
        return self.loaded

    def use_model(self, model: GenerationModel) -> None:
        """Start the engine of the loaded model of the server. Blocking."""
        self.loaded, self.reader = self.start_engine(model, self.names)

    def start_engine(self, model: GenerationModel, names: tuple[str, ...]) -> Served:
        """Start the engine of a loaded model. Blocking."""
        observers = () if self.tracer is None else (self.tracer,)
        return start_engine(model, names, self.settings, self.metrics, self.decoder, observers)

    @property
    def engines(self) -> list[RolloutEngine]:
        """Engines of the server's model, if it is loaded, and of connected models."""
        own = [] if self.loaded is None else [self.loaded]
        return [*own, *(one.engine for one in self.connections.served)]

    def cancel_all(self) -> None:
        """Cancel all rollouts and tests of servers in progress."""
        self.connections.abort_tests()
        for engine in self.engines:
            engine.cancel_all()

    def check_accepts(self) -> None:
        """Raise an error while the server cannot answer.

        Raises:
            ApiError: 503.
        """
        if self.is_draining:
            raise ApiError(503, "the server stops", retry_after_s=10.0, code="shutting_down")
        _ = self.engine

    def job_reader(self) -> JobReader:
        """Return the reader of requests.

        Raises:
            ApiError: 503.
        """
        self.check_accepts()
        assert self.reader is not None, "the model is loaded"
        return self.reader

    def span_context(self, scope: Mapping[str, Any]) -> AbstractContextManager[object]:
        """Return a context whose rollouts belong to the span of a request, given its ASGI scope."""
        return nullcontext() if self.tracer is None else self.tracer.context_of(scope)

    def served(self, connection: str | None, client: str) -> Served:
        """Return the model for a request: a connected one, or the model of the server.

        Args:
            connection: id of a connection; None for the model of the server.
            client: of the request.

        Raises:
            ApiError: 503, or 404 for a connection that has ended.
        """
        reader = self.job_reader()
        if connection is not None:
            return self.connections.find(connection, client)
        return Served(self.engine, reader)

    def load_of(self, job: ChatJob) -> Load:
        """Return what a job adds to the load."""
        is_short = job.num_chars <= self.settings.fast_lane_chars
        return Load(
            client=job.client,
            num_rollouts=job.num_choices,
            picture_tokens=job.num_choices * job.max_picture_tokens,
            is_fast=is_short and not job.sources and job.num_choices == 1,
        )

    def checker(self) -> SourceChecker:
        """Return a checker of the media of one request."""
        return SourceChecker(self.settings, self.fetcher)


def build_services(
    settings: ServerSettings,
    names: tuple[str, ...],
    keys: tuple[Key, ...] = (),
    fetcher: Fetcher | None = None,
) -> Services:
    """Return the state of a server whose model is not loaded.

    Raises:
        OutputError: the store cannot be written.
    """
    temporary = None
    root = settings.store
    if root is None:
        temporary = tempfile.TemporaryDirectory(prefix="pixel-reasoner-serve-")
        root = Path(temporary.name)
    store = MediaStore(root / "media", settings.max_store_bytes)
    uploads = Uploads(settings.max_files_per_key)
    fetcher = fetcher or Fetcher(settings.media_hosts, settings.fetch_timeout_s)
    metrics = Metrics(names[0])
    admission = Admission(settings)
    metrics.track(metrics.picture_tokens_in_progress, lambda: admission.picture_tokens)
    return Services(
        settings=settings,
        keys=keys,
        metrics=metrics,
        admission=admission,
        body=BodyReader(settings),
        uploads=uploads,
        fetcher=fetcher,
        store=store,
        intake=MediaIntake(settings, store, uploads, fetcher),
        decoder=WorkerPoolDecoder(settings.decode_workers, settings.decode_limits),
        names=names,
        temporary=temporary,
        root=root,
    )


def client_of(request: Request) -> str:
    """Return the name of the client of a request, from its key."""
    client: str = request.scope.get("state", {}).get("client", ANYONE)
    return client


def owner_of(services: Services, client: str) -> str:
    """Return the identity of the key of a client, for what is stored: names in a file of keys may change."""
    for key in services.keys:
        if key.client == client:
            return key.digest.hex()
    return client
