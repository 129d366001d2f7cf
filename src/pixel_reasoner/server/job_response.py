"""Response to one request for a generation: admission, media, rollouts, and the end of all of them if the client leaves.

The work races against `receive()`, streaming or not, so that a client that disconnects frees its slots within one step.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from starlette.responses import Response

from pixel_reasoner.schema.events import Failed, Finished, PartDelta
from pixel_reasoner.server.asgi import Receive, Scope, Send, send_error
from pixel_reasoner.server.chat import ChatJob
from pixel_reasoner.server.engine import Result, Run
from pixel_reasoner.server.errors import ApiError, api_error
from pixel_reasoner.server.logs import LOGGER, log
from pixel_reasoner.server.services import Services
from pixel_reasoner.server.stream import (
    DONE,
    PING,
    ClientTooSlow,
    RunEvent,
    SseWriter,
    merged_events,
)

FIRST_EVENT_WAIT_S = 2.0
"""Wait for the first event before the status is sent, so that an unusable picture is answered 400 and not in the stream."""


class Format(Protocol):
    """Wire format of one endpoint."""

    job: ChatJob

    def body(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return the whole reply."""
        ...

    async def begin(self, writer: SseWriter) -> None:
        """Write the first events of a stream."""
        ...

    async def event(self, writer: SseWriter, found: RunEvent) -> None:
        """Write what an event adds."""
        ...

    async def end(self, writer: SseWriter, results: Sequence[Result]) -> None:
        """Write the last events of a stream."""
        ...

    async def error(self, writer: SseWriter, error: ApiError) -> None:
        """Write an error in a stream."""
        ...


class JobResponse(Response):
    """Response of a job in a wire format."""

    def __init__(self, services: Services, job: ChatJob, format: Format) -> None:
        super().__init__()
        self.services = services
        self.job = job
        self.format = format
        self.started = time.perf_counter()
        self._has_first_token = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the job until it ends or the client disconnects."""
        writer = SseWriter(send, self.services.settings.send_timeout_s)
        work = asyncio.create_task(self._answer(scope, writer, send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                log("client left", request_id=scope["state"].get("request_id", ""))
        finally:
            for task in (work, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _answer(self, scope: Scope, writer: SseWriter, send: Send) -> None:
        """Answer, also after an error."""
        services = self.services
        try:
            await self._run(writer, send)
        except ClientTooSlow:
            log("client too slow", request_id=scope["state"].get("request_id", ""))
        except OSError:  # the connection is closed
            return
        except Exception as error:  # noqa: BLE001 - the client receives it
            found = api_error(error)
            if found.status == 500:
                request_id = scope["state"].get("request_id", "")
                LOGGER.exception("bug", extra={"fields": {"request_id": request_id}})
            services.metrics.count(services.metrics.refused, found.code or "")
            if not writer.has_started:
                await send_error(send, found)
                return
            await self.format.error(writer, found)
            await writer.raw(DONE, is_last=True)

    async def _run(self, writer: SseWriter, send: Send) -> None:
        services, job = self.services, self.job
        services.check_accepts()
        with services.admission.admit(services.load_of(job)) as is_fast:
            items = await services.intake.items(job.sources, job.client)
            self.job = self.format.job = job = job.without_data()
            runs = services.engine.submit(job, items, is_fast=is_fast)
            try:
                if job.stream:
                    await self._stream(writer, runs)
                else:
                    await self._send_whole(send, runs)
            finally:
                services.engine.cancel(runs)
                metrics = services.metrics
                metrics.observe(metrics.latency, time.perf_counter() - self.started)

    async def _send_whole(self, send: Send, runs: list[Run]) -> None:
        results = await self.services.engine.results(runs)
        body = json.dumps(self.format.body(results), ensure_ascii=False).encode("utf-8", "replace")
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, writer: SseWriter, runs: list[Run]) -> None:
        """Write the events of all rollouts.

        Raises:
            ApiError: one of them failed.
        """
        results: dict[int, Result] = {}
        ping_s = self.services.settings.ping_interval_s
        events = merged_events(runs, min(FIRST_EVENT_WAIT_S, ping_s))
        try:
            async for found in events:
                if found is not None and isinstance(found.event, Finished | Failed):
                    results[found.run.index] = self.services.engine.result(
                        found.run, found.event.trace
                    )
                if not writer.has_started:
                    await writer.start()
                    await self.format.begin(writer)
                if found is None:
                    await writer.raw(PING)
                else:
                    self._observe_first_token(found)
                    await self.format.event(writer, found)
        finally:
            await events.aclose()
        await self.format.end(writer, [results[run.index] for run in runs])
        await writer.raw(DONE, is_last=True)

    def _observe_first_token(self, found: RunEvent) -> None:
        if not self._has_first_token and isinstance(found.event, PartDelta):
            self._has_first_token = True
            metrics = self.services.metrics
            metrics.observe(metrics.first_token, time.perf_counter() - self.started)


async def disconnected(receive: Receive) -> None:
    """Return when the client disconnected. The body was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
