"""OpenAPI document: bodies and responses of the routes, which read requests themselves to limit them before parsing."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pixel_reasoner.server.chat_schema import ChatRequest
from pixel_reasoner.server.connect_schema import ConnectRequest
from pixel_reasoner.server.responses import ResponsesRequest
from pixel_reasoner.server.trace_schema import TraceRequest

_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_TEXTS = {
    400: "A field has a value that cannot be used; `param` names it.",
    401: "No valid key.",
    403: "Host, Origin, media host or endpoint that is not allowed.",
    404: "No such model, file, trace or connection.",
    405: "Another method.",
    408: "The body did not arrive in time.",
    413: "Too many bytes.",
    415: "Another content type.",
    429: "The queue is full; `Retry-After` states the seconds.",
    503: "The model is being loaded, does not answer, or the server stops.",
    504: "Time limit of the server.",
}
MODELS: tuple[type[BaseModel], ...] = (
    ChatRequest,
    ConnectRequest,
    ResponsesRequest,
    TraceRequest,
)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documented errors of a route; 401 and 403 belong to every route."""
    return {
        status: {
            "description": _TEXTS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status in sorted({401, 403, *statuses})
    }


GENERATION_ERRORS = error_responses(400, 404, 408, 413, 415, 429, 503, 504)


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a JSON body."""
    schema = {"$ref": _REF.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(app: FastAPI, *, has_keys: bool) -> dict[str, Any]:
    """Return the OpenAPI document of an app."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = document.setdefault("components", {}).setdefault("schemas", {})
        _, schema = models_json_schema([(kind, "validation") for kind in MODELS], ref_template=_REF)
        components.update(schema["$defs"])
        components["Error"] = _ERROR
        if has_keys:
            schemes = {"key": {"type": "http", "scheme": "bearer"}}
            document["components"]["securitySchemes"] = schemes
            document["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema
