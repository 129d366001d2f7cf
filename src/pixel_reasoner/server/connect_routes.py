"""Routes with which a user of Studio connects the model of another server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from pixel_reasoner.server.chat_schema import validated
from pixel_reasoner.server.connect_schema import ConnectRequest, ConnectResult, Disconnected
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.openapi import error_responses, json_body
from pixel_reasoner.server.services import Services, client_of

_HEADER = "Pixel-Reasoner-Connection"
CONNECTION_HEADER: dict[str, Any] = {
    "name": _HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "description": "Secret id of a connected model (`POST /v1/connections`), which answers instead of the model of the server.",
}


def connection_of(request: Request) -> str | None:
    """Return the id of the connected model that a request names. It is a header, so that it is part of no log."""
    return request.headers.get(_HEADER)


def connection_routes(services: Services) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/connections", default_response_class=JSONResponse)

    @router.post(
        "",
        responses=error_responses(400, 408, 413, 415, 429, 503),
        openapi_extra=json_body(ConnectRequest),
        response_model=ConnectResult,
    )
    async def connect(request: Request) -> ConnectResult:
        """Test the model of another server, and connect it for the requests that name the returned id.

        Takes the time of about nine short requests to that server.
        """
        services.check_accepts()
        asked = validated(ConnectRequest, await services.body.json(request))
        return await services.connections.connect(asked, client_of(request))

    @router.delete(
        "",
        responses=error_responses(400, 404),
        response_model=Disconnected,
        openapi_extra={"parameters": [CONNECTION_HEADER | {"required": True}]},
    )
    async def disconnect(request: Request) -> Disconnected:
        """End a connection. Its key is forgotten."""
        id = connection_of(request)
        if id is None:
            raise ApiError(400, f"{_HEADER}: this header is needed", param=_HEADER)
        await services.connections.end(id, client_of(request))
        return Disconnected()

    return router
