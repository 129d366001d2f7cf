"""Stream of the events of one job. It starts after the last event that the client has, and ends after the last event."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from starlette.responses import Response

from pixel_reasoner.server.asgi import Receive, Scope, Send
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.job_response import disconnected
from pixel_reasoner.server.job_store import JobEvent
from pixel_reasoner.server.stream import PING, ClientTooSlow, SseWriter
from pixel_reasoner.server.trace_jobs import TraceJobs

MAX_TRACE_BYTES = 30_000
"""larger traces are left out of an event, because common clients cut lines above 32 KiB; `GET .../item` returns them"""
LAST = frozenset({"finished", "error"})
"""types of last events"""


def encode_event(event: JobEvent) -> bytes:
    r"""Return an event in the format of server-sent events.

    >>> encode_event(JobEvent(3, "answer", '{"answer": "red"}'))
    b'id: 3\nevent: answer\ndata: {"answer": "red"}\n\n'
    """
    data = event.data.encode("utf-8", "replace")
    if len(data) > MAX_TRACE_BYTES:
        fields = json.loads(event.data)
        fields |= {"trace": None, "is_truncated": True}
        data = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
    return f"id: {event.seq}\nevent: {event.type}\ndata: ".encode() + data + b"\n\n"


def last_event_id(value: str | None) -> int:
    """Return the number of the last event that a client has, from its header.

    Raises:
        ApiError: 400.

    >>> last_event_id(None), last_event_id("12")
    (0, 12)
    """
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        raise ApiError(400, "Last-Event-ID: must be a number of an event", param="Last-Event-ID")
    return int(value)


class EventsResponse(Response):
    """Events of a job, as they happen. The job continues if the client leaves.

    Args:
        jobs: of the server.
        id: of the job.
        after: number of the last event that the client has.
    """

    def __init__(self, jobs: TraceJobs, id: str, after: int) -> None:
        super().__init__()
        self.jobs, self.id, self.after = jobs, id, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the last one, or until the client disconnects."""
        writer = SseWriter(send, self.jobs.services.settings.send_timeout_s)
        work = asyncio.create_task(self._send(writer))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, ClientTooSlow, OSError):
                    await task

    async def _send(self, writer: SseWriter) -> None:
        jobs = self.jobs
        await writer.start()
        while True:
            # Before reading: an event that is stored afterwards ends the wait below.
            waiting = jobs.next_change(self.id)
            is_working = jobs.is_working(self.id)
            events = await jobs.events(self.id, self.after)
            for event in events:
                await writer.raw(encode_event(event))
                self.after = event.seq
            if not is_working or any(event.type in LAST for event in events):
                await writer.raw(b"", is_last=True)
                return
            if not await jobs.wait(waiting):
                await writer.raw(PING)
