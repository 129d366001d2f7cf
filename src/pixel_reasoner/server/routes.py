"""Routes of the OpenAI-compatible API, of uploads, and for operators."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from pixel_reasoner.media.store import MediaRef
from pixel_reasoner.server.chat_format import ChatFormat
from pixel_reasoner.server.chat_schema import ChatRequest, validated
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.job_response import JobResponse
from pixel_reasoner.server.media import sniff
from pixel_reasoner.server.metrics import CONTENT_TYPE
from pixel_reasoner.server.openapi import GENERATION_ERRORS, error_responses, json_body
from pixel_reasoner.server.responses import ResponsesFormat, ResponsesRequest, chat_request
from pixel_reasoner.server.services import Services, client_of

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The reply, or a stream of events if `stream` is true.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
    }
}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string"},
                    },
                }
            }
        },
    }
}
_FILE_ERRORS = error_responses(404, 503)


def api_routes(services: Services) -> APIRouter:
    """Return the routes of the OpenAI-compatible API."""
    router = APIRouter(prefix="/v1", default_response_class=JSONResponse)

    @router.post(
        "/chat/completions",
        responses=_STREAM | GENERATION_ERRORS,
        openapi_extra=json_body(ChatRequest),
        response_class=Response,
    )
    async def chat_completions(request: Request) -> Response:
        """Answer the last message of a conversation about pictures and videos."""
        client = client_of(request)
        reader = services.job_reader()
        services.admission.check_room(client)
        asked = validated(ChatRequest, await services.body.json(request))
        job = reader.job(asked, client, services.checker())
        format = ChatFormat(job, services.settings.reasoning_field, services.engine.model)
        return JobResponse(services, job, format)

    @router.post(
        "/responses",
        responses=_STREAM | GENERATION_ERRORS,
        openapi_extra=json_body(ResponsesRequest),
        response_class=Response,
    )
    async def responses(request: Request) -> Response:
        """Answer an input of texts and pictures. Nothing is stored."""
        client = client_of(request)
        reader = services.job_reader()
        services.admission.check_room(client)
        asked = validated(ResponsesRequest, await services.body.json(request))
        job = reader.job(chat_request(asked), client, services.checker())
        return JobResponse(services, job, ResponsesFormat(job))

    @router.get("/models", responses=error_responses())
    async def models() -> dict[str, Any]:
        """Return the list with the served model."""
        return {"object": "list", "data": [_model(services)]}

    @router.get("/models/{name:path}", responses=error_responses(404))
    async def model(name: str) -> dict[str, Any]:
        """Return the served model."""
        if name not in services.names:
            raise ApiError(
                404, "there is no model with this name", param="model", code="model_not_found"
            )
        return _model(services)

    _add_file_routes(router, services)
    return router


def _model(services: Services) -> dict[str, Any]:
    return {
        "id": services.names[0],
        "object": "model",
        "created": services.created,
        "owned_by": "pixel-reasoner",
    }


def _add_file_routes(router: APIRouter, services: Services) -> None:
    @router.post(
        "/files", responses=error_responses(400, 408, 413, 415, 503), openapi_extra=_UPLOAD
    )
    async def upload(request: Request) -> dict[str, Any]:
        """Store a picture or video. Its id can be used instead of a data URL by the same key."""
        services.check_accepts()
        return await _upload(services, request)

    @router.get("/files", responses=error_responses())
    async def files(request: Request) -> dict[str, Any]:
        """Return the files of this key."""
        found = services.uploads.of_client(client_of(request))
        return {"object": "list", "data": [one.to_dict() for one in found], "has_more": False}

    @router.get("/files/{id}", responses=_FILE_ERRORS)
    async def file(request: Request, id: str) -> dict[str, Any]:
        """Return the description of a file."""
        return services.uploads.find(id, client_of(request)).to_dict()

    @router.delete("/files/{id}", responses=_FILE_ERRORS)
    async def remove(request: Request, id: str) -> dict[str, Any]:
        """Forget a file."""
        services.uploads.remove(id, client_of(request))
        return {"id": id, "object": "file", "deleted": True}


async def _upload(services: Services, request: Request) -> dict[str, Any]:
    settings = services.settings
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "Content-Type must be multipart/form-data", param="Content-Type")
    chunks = services.body.chunks(request, settings.max_upload_bytes)
    parser = MultiPartParser(request.headers, chunks, max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeDecodeError):
        raise ApiError(
            400, "file: the body is not valid multipart/form-data with one file", param="file"
        ) from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "file: a file is needed", param="file")
        start = await file.read(64)
        found = sniff(start)
        if found is None:
            raise ApiError(
                400,
                "file: not a JPEG, PNG, WebP, GIF, BMP, TIFF, MP4, WebM or AVI file",
                param="file",
                code="invalid_image",
            )
        kind, suffix = found
        await file.seek(0)
        ref = await asyncio.to_thread(_store, services, file.file, suffix)
    finally:
        await form.close()
    return services.uploads.add(client_of(request), kind, ref).to_dict()


def _store(services: Services, file: BinaryIO, suffix: str) -> MediaRef:
    """Copy an uploaded file to the store."""
    with tempfile.NamedTemporaryFile(dir=services.store.root, suffix=".part") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        return services.store.put(Path(copy.name), suffix)


def operator_routes(services: Services) -> APIRouter:
    """Return the routes for operators: health, readiness, metrics."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Return whether the process answers. Needs no key."""
        return {"status": "ok"}

    @router.get("/ready", responses=error_responses(503))
    async def ready() -> dict[str, str]:
        """Return whether a request would be answered: model loaded, engine responsive, queue not full."""
        services.check_accepts()
        if not services.engine.is_responsive:
            raise ApiError(503, "the engine does not respond", retry_after_s=5.0)
        if services.admission.is_full:
            raise ApiError(503, "the queue is full", retry_after_s=5.0)
        return {"status": "ready"}

    @router.get(
        "/metrics",
        responses={200: {"content": {"text/plain": {}}}, **error_responses()},
        response_class=Response,
    )
    async def metrics() -> Response:
        """Return metrics in the text format of Prometheus."""
        return Response(services.metrics.text(), media_type=CONTENT_TYPE)

    return router
