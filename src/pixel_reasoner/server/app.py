"""The application: routes, middleware, and the start and end of the engine.

Other parts of the server are passed as `parts`: they add routes to the same app, behind the same checks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from pixel_reasoner import __version__
from pixel_reasoner.server.auth import AuthMiddleware, Key, check_exposure
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.fetch import Fetcher
from pixel_reasoner.server.hosts import HostMiddleware
from pixel_reasoner.server.logs import LOGGER, RequestLogMiddleware, log
from pixel_reasoner.server.openapi import describe
from pixel_reasoner.server.routes import api_routes, operator_routes
from pixel_reasoner.server.services import LoadModel, ServerPart, Services, build_services
from pixel_reasoner.server.settings import ServerSettings

_DESCRIPTION = (
    "OpenAI-compatible API of models that look again at pictures by operations such as zoom_in."
)


_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""FastAPI's own spans contain paths and query strings, which contain secrets and searched text; `spans` sends others"""


def create_app(
    settings: ServerSettings,
    load_model: LoadModel,
    *,
    names: Sequence[str],
    keys: tuple[Key, ...] = (),
    parts: Sequence[ServerPart] = (),
    fetcher: Fetcher | None = None,
) -> FastAPI:
    """Return the application. The model is loaded in a thread when it starts; until then requests are answered 503.

    Args:
        settings: limits and addresses.
        load_model: returns the model; the server closes it.
        names: names of the model for clients, the served name first.
        keys: keys of clients; empty for a server without keys.
        parts: further routes.
        fetcher: fetches pictures; by default from `settings.media_hosts`.

    Raises:
        UsageError: an address that other machines reach, without keys.
        OutputError: the store cannot be written.
    """
    check_exposure(settings, keys)
    services = build_services(settings, tuple(names), keys, fetcher)
    services.created = int(time.time())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(services, load_model))
        try:
            async with AsyncExitStack() as stack:
                for context in services.lifespans:
                    await stack.enter_async_context(context())
                yield
        finally:
            await asyncio.to_thread(_close, services)
            loading.cancel()

    app = FastAPI(
        title="Pixel Reasoner",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts of a third party
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    app.state.services = services
    app.include_router(api_routes(services))
    app.include_router(operator_routes(services))
    for part in parts:
        part.mount(app, services)
    app.openapi = lambda: describe(app, has_keys=bool(keys))  # type: ignore[method-assign]
    _add_error_handlers(app)
    _add_middleware(app, services)
    return app


def _add_middleware(app: FastAPI, services: Services) -> None:
    app.add_middleware(
        AuthMiddleware, keys=services.keys, open_paths=services.open_paths
    )  # the last one is the outermost
    app.add_middleware(HostMiddleware, settings=services.settings, has_keys=bool(services.keys))
    app.add_middleware(RequestLogMiddleware, metrics=services.metrics)


async def _load(services: Services, load_model: LoadModel) -> None:
    started = time.perf_counter()
    try:
        model = await asyncio.to_thread(load_model)
        await asyncio.to_thread(services.use_model, model)
    except Exception as error:  # noqa: BLE001 - the server ends with it
        services.failure = error
        LOGGER.error("the model cannot be loaded")
        return
    log("ready", seconds=round(time.perf_counter() - started, 2))


def _close(services: Services) -> None:
    services.connections.close()
    if services.loaded is not None:
        services.loaded.close()
    services.decoder.close()
    if services.tracer is not None:
        services.tracer.close()
    if services.temporary is not None:
        services.temporary.cleanup()


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_errors(request: Request, error: ApiError) -> JSONResponse:
        services: Services = request.app.state.services
        services.metrics.count(services.metrics.refused, error.code or "")
        return JSONResponse(error.body(), error.status, headers=error.headers())

    @app.exception_handler(HTTPException)
    async def http_errors(request: Request, error: HTTPException) -> JSONResponse:
        texts = {404: "there is no such route", 405: "the method is not allowed"}
        found = ApiError(error.status_code, texts.get(error.status_code, "the request is invalid"))
        return JSONResponse(
            found.body(), found.status, headers=found.headers() | dict(error.headers or {})
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = ApiError(400, "the request is invalid")
        return JSONResponse(found.body(), 400, headers=found.headers())
