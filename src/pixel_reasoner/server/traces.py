"""Trace API: `POST /v1/traces` creates a job that answers a question; its events, pictures and files have addresses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from pixel_reasoner.errors import UsageError
from pixel_reasoner.reports.schema import Item
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.server.chat_schema import validated
from pixel_reasoner.server.connect_routes import CONNECTION_HEADER, connection_of
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.job_store import MAX_LISTED, Job, JobStore
from pixel_reasoner.server.live_trace import item_of_events
from pixel_reasoner.server.openapi import GENERATION_ERRORS, error_responses, json_body
from pixel_reasoner.server.services import Services, client_of, owner_of
from pixel_reasoner.server.trace_events import EventsResponse, last_event_id
from pixel_reasoner.server.trace_files import (
    DEFAULT_REGION_SIDE,
    MAX_REGION_SIDE,
    MEDIA_TYPES,
    Exporter,
    StoredFile,
)
from pixel_reasoner.server.trace_jobs import TraceJobs
from pixel_reasoner.server.trace_media import StoredRequest
from pixel_reasoner.server.trace_schema import (
    Deleted,
    JobList,
    JobObject,
    JobWithTraces,
    Share,
    TraceRequest,
)

_SHARED_PATH = "/shared/{secret}"
_FOREVER = "private, max-age=31536000, immutable"
_FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data: blob:; media-src blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
"""the page itself has a stricter policy with hashes"""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events: queued, turn_started, thought_delta, text_delta, tool_call, tool_error, crop_ready, "
        "turn_done, answer, and finished or error as the last one.",
        "content": {"text/event-stream": {}},
    }
}
_NOT_FOUND = error_responses(400, 404)


class TracesPart:
    """Part of the server with the trace API."""

    def mount(self, app: FastAPI, services: Services) -> None:
        """Add the routes.

        Raises:
            OutputError: the folder cannot be written.
        """
        settings = services.settings
        store = JobStore(
            services.root / "traces",
            max_age_s=settings.max_traces_age_s,
            max_bytes=settings.max_traces_bytes,
        )
        jobs = TraceJobs(services, store)
        services.lifespans.append(jobs.lifespan)
        services.open_paths.add(_SHARED_PATH.format(secret="*"))
        app.include_router(_Routes(services, jobs).router())


class _Routes:
    """Routes of the trace API."""

    def __init__(self, services: Services, jobs: TraceJobs) -> None:
        self.services, self.jobs, self.store = services, jobs, jobs.store
        self.exporter = Exporter(jobs.store, jobs.media)

    def router(self) -> APIRouter:
        """Return all routes."""
        router = APIRouter(default_response_class=JSONResponse)
        self._add_jobs(router)
        self._add_changes(router)
        self._add_reading(router)
        self._add_files(router)
        return router

    # --- jobs ---

    def _add_jobs(self, router: APIRouter) -> None:
        services = self.services

        @router.post(
            "/v1/traces",
            responses=GENERATION_ERRORS,
            openapi_extra=json_body(TraceRequest) | {"parameters": [CONNECTION_HEADER]},
            response_model=JobObject,
        )
        async def create(request: Request) -> JobObject:
            """Ask a question about pictures and videos. Returns at once; the job continues without listeners."""
            client = client_of(request)
            services.check_accepts()
            services.admission.check_room(client)
            asked = validated(TraceRequest, await services.body.json(request))
            connection = connection_of(request)
            job = await self.jobs.start(self.jobs.check(asked, client, connection), client)
            return _job_object(job)

        @router.get("/v1/traces", responses=error_responses(400), response_model=JobList)
        async def listed(
            request: Request,
            q: Annotated[str, Query(max_length=200)] = "",
            before: Annotated[float | None, Query(ge=0, lt=1e12)] = None,
            limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
        ) -> JobList:
            """Return the traces of this key, newest first. `q` searches questions and answers."""
            found = await asyncio.to_thread(
                self.store.search, self._owner(request), before=before, query=q, limit=limit + 1
            )
            has_more = len(found) > limit
            jobs = found[:limit]
            return JobList(
                data=[_job_object(one) for one in jobs],
                has_more=has_more,
                next_before=jobs[-1].created if has_more else None,
            )

        @router.get("/v1/traces/{id}", responses=_NOT_FOUND, response_model=JobWithTraces)
        async def one(request: Request, id: str) -> JobWithTraces:
            """Return the state of a trace, and its records when it has finished."""
            job = await self._job(request, id)
            text = await asyncio.to_thread(self.store.traces, job.id)
            traces = None if text is None else json.loads(text)
            return JobWithTraces(**_job_object(job).model_dump(), traces=traces)

    def _add_changes(self, router: APIRouter) -> None:
        @router.delete("/v1/traces/{id}", responses=_NOT_FOUND, response_model=Deleted)
        async def delete(request: Request, id: str) -> Deleted:
            """Stop and delete a trace with its pictures and its shared address."""
            job = await self._job(request, id)
            await self.jobs.stop(job.id)
            await asyncio.to_thread(self.store.delete, job.id)
            return Deleted(id=job.id)

        @router.post("/v1/traces/{id}/cancel", responses=_NOT_FOUND, response_model=JobObject)
        async def cancel(request: Request, id: str) -> JobObject:
            """Stop a trace. What was generated so far stays readable."""
            job = await self._job(request, id)
            await self.jobs.stop(job.id)
            return _job_object(await self._job(request, id))

        @router.post("/v1/traces/{id}/share", responses=_NOT_FOUND, response_model=Share)
        async def share(request: Request, id: str) -> Share:
            """Make the page of a finished trace readable without a key, at a secret address."""
            job = await self._job(request, id)
            await asyncio.to_thread(self.exporter.page, job)
            secret = await asyncio.to_thread(self.store.share, job.id)
            return Share(path=_SHARED_PATH.format(secret=secret))

        @router.delete("/v1/traces/{id}/share", responses=_NOT_FOUND, response_model=Deleted)
        async def unshare(request: Request, id: str) -> Deleted:
            """Make the secret address invalid."""
            job = await self._job(request, id)
            await asyncio.to_thread(self.store.unshare, job.id)
            return Deleted(id=job.id)

    # --- events and items ---

    def _add_reading(self, router: APIRouter) -> None:
        @router.get("/v1/traces/{id}/item", responses=_NOT_FOUND, response_model=Item)
        async def item(request: Request, id: str) -> Response:
            """Return what the viewer shows, also while the trace is in progress."""
            job = await self._job(request, id)
            text = await asyncio.to_thread(self.store.item, job.id)
            if text is None:
                events = await asyncio.to_thread(self.store.events, job.id)
                num_runs = len(StoredRequest.of(job).names)
                text = json.dumps(item_of_events(job.question, num_runs, events))
            return Response(text, media_type="application/json")

        @router.get(
            "/v1/traces/{id}/events",
            responses=_EVENTS | _NOT_FOUND,
            response_class=Response,
            openapi_extra={"parameters": [_LAST_EVENT_ID]},
        )
        async def events(request: Request, id: str) -> Response:
            """Stream the events of a trace. The header Last-Event-ID continues after an event."""
            after = last_event_id(request.headers.get("last-event-id"))
            job = await self._job(request, id)
            return EventsResponse(self.jobs, job.id, after)

    # --- files ---

    def _add_files(self, router: APIRouter) -> None:
        exporter = self.exporter
        self._add_file(router, "page", exporter.page, "html", "Return the report as one HTML file.")
        self._add_file(router, "strip", exporter.strip, "png", "Return the steps as one picture.")
        self._add_file(
            router, "animation", exporter.animation, "gif", "Return the steps as an animation."
        )

        @router.get(
            "/v1/traces/{id}/pictures/{ref}",
            responses=_file_response("webp", "jpg", "mp4", "webm"),
            response_class=Response,
        )
        async def picture(request: Request, id: str, ref: str) -> Response:
            """Return a picture or clip of an item, by the hash of its content."""
            job = await self._job(request, id)
            found = await asyncio.to_thread(exporter.picture, job, ref)
            return _file(found, _FOREVER)

        @router.get(
            "/v1/traces/{id}/regions", responses=_file_response("webp"), response_class=Response
        )
        async def region(
            request: Request,
            id: str,
            picture: Annotated[int, Query(ge=1, le=100_000)],
            box: Annotated[
                str, Query(max_length=200, description="x1,y1,x2,y2 as fractions of the source")
            ] = "0,0,1,1",
            max_side: Annotated[int, Query(ge=1, le=MAX_REGION_SIDE)] = DEFAULT_REGION_SIDE,
        ) -> Response:
            """Return a region of the source of a picture at full resolution."""
            job = await self._job(request, id)
            sides = _box(box)
            found = await asyncio.to_thread(exporter.region, job, picture, sides, max_side)
            return _file(found, _FOREVER)

        @router.get(
            _SHARED_PATH,
            responses=_file_response("html"),
            response_class=Response,
            openapi_extra={"security": []},
        )
        async def shared(secret: str) -> Response:
            """Return the page of a shared trace. Needs no key."""
            try:
                job = await asyncio.to_thread(self.store.shared, secret)
            except UsageError:
                raise ApiError(404, "this page was never shared, or is no longer") from None
            found = await asyncio.to_thread(exporter.page, job)
            return Response(
                found.content,
                media_type=found.media_type,
                headers=_PAGE_HEADERS | {"Cache-Control": "no-store"},
            )

    def _add_file(
        self,
        router: APIRouter,
        name: str,
        export: Callable[[Job], StoredFile],
        suffix: str,
        description: str,
    ) -> None:
        async def file(request: Request, id: str) -> Response:
            job = await self._job(request, id)
            found = await asyncio.to_thread(export, job)
            shown = f'attachment; filename="trace-{job.id[:8]}.{suffix}"'
            return _file(found, "private, no-cache", {"Content-Disposition": shown})

        router.add_api_route(
            f"/v1/traces/{{id}}/{name}",
            file,
            methods=["GET"],
            name=name,
            description=description,
            responses=_file_response(suffix),
            response_class=Response,
        )

    # --- owners ---

    def _owner(self, request: Request) -> str:
        return owner_of(self.services, client_of(request))

    async def _job(self, request: Request, id: str) -> Job:
        """Return a job of the key of a request.

        Raises:
            ApiError: 404 for an unknown job or one of another key.
        """
        try:
            return await asyncio.to_thread(self.store.get, id, self._owner(request))
        except UsageError:
            raise ApiError(404, "there is no trace with this id", code="trace_not_found") from None


_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "description": "Number of the last event that the client has.",
}


def _file_response(*suffixes: str) -> dict[int | str, dict[str, Any]]:
    types = [MEDIA_TYPES[one].partition(";")[0] for one in suffixes]
    return {200: {"description": "The file.", "content": {one: {} for one in types}}, **_NOT_FOUND}


def _file(found: StoredFile, cache: str, headers: dict[str, str] | None = None) -> Response:
    return Response(
        found.content,
        media_type=found.media_type,
        headers=_FILE_HEADERS | {"Cache-Control": cache} | (headers or {}),
    )


def _box(text: str) -> Box:
    try:
        x1, y1, x2, y2 = map(float, text.split(","))
        box = Box(x1, y1, x2, y2)
    except (ValueError, UsageError):
        box = None
    if box is None or not (0 <= box.x1 < box.x2 <= 1 and 0 <= box.y1 < box.y2 <= 1):
        raise ApiError(
            400,
            "box: must be x1,y1,x2,y2 with 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1",
            param="box",
        )
    return box


def _job_object(job: Job) -> JobObject:
    summary = json.loads(job.summary) if job.summary else {}
    return JobObject(
        id=job.id,
        state=job.state.value,
        created=job.created,
        finished=job.finished,
        model=job.model,
        question=job.question,
        answer=job.answer,
        answers=summary.get("answers", []),
        thumbnail=summary.get("thumbnail") or None,
        follows=StoredRequest.of(job).follows,
        share_path=_SHARED_PATH.format(secret=job.shared) if job.shared else None,
    )
