"""Jobs of the trace API in progress. A job outlives the request that created it and the clients that listen to it."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.rollout.state import collect_settings
from pixel_reasoner.schema.events import (
    Event,
    Failed,
    Finished,
    GeneratedText,
    PartDelta,
    TurnStarted,
)
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.server.chat import AskedExchange, ChatJob
from pixel_reasoner.server.engine import Result, RolloutEngine, Run
from pixel_reasoner.server.errors import ApiError, api_error, redact
from pixel_reasoner.server.job_store import INTERRUPTED_MESSAGE, Job, JobEvent, JobState, JobStore
from pixel_reasoner.server.live_trace import LiveEvent, LiveTrace, finished_item
from pixel_reasoner.server.logs import LOGGER, log
from pixel_reasoner.server.media import Source
from pixel_reasoner.server.services import Services, owner_of
from pixel_reasoner.server.stream import RunEvent, event_batches, pieces
from pixel_reasoner.server.trace_media import (
    JobMedia,
    LivePictures,
    StoredExchange,
    StoredRequest,
    public_question,
    stored_media,
)
from pixel_reasoner.server.trace_schema import TraceRequest, chat_requests, own_param

FLUSH_S = 0.1
"""Text is stored at most this often. One transaction per token would slow all streams."""
PRUNE_INTERVAL_S = 60.0
_STOP_TIMEOUT_S = 20.0
_CLOSE_MARGIN_S = 5.0


@dataclass
class Working:
    """Job in progress."""

    job: Job
    question: str
    request: StoredRequest
    engine: RolloutEngine
    runs: list[Run]
    lives: list[LiveTrace]
    admitted: ExitStack
    results: dict[int, Result] = field(default_factory=dict)
    failed: dict[int, ApiError] = field(default_factory=dict)
    ended: dict[int, Trace] = field(default_factory=dict)
    events: list[JobEvent] = field(default_factory=list)
    """everything that is stored of it, for listeners"""
    is_cancelled: bool = False
    started: float = field(default_factory=time.perf_counter)
    task: asyncio.Task[None] | None = None


@dataclass
class Asked:
    """Checked request."""

    request: TraceRequest
    chats: list[ChatJob]
    """the question with its history, and optionally the same without operations"""
    past: StoredRequest | None
    names: tuple[str, ...]
    engine: RolloutEngine


class TraceJobs:
    """Creator and runner of jobs. Used from the event loop only.

    Args:
        services: of the server.
        store: of the jobs.
    """

    def __init__(self, services: Services, store: JobStore) -> None:
        self.services = services
        self.store = store
        self.media = JobMedia(store, services.decoder, services.settings.config.media)
        self._working: dict[str, Working] = {}
        self._changed: weakref.WeakValueDictionary[str, asyncio.Event] = (
            weakref.WeakValueDictionary()
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Delete old jobs in the background; at the end, wait for jobs in progress within the time limit."""
        pruning = asyncio.create_task(self._prune())
        try:
            yield
        finally:
            pruning.cancel()
            tasks = [one.task for one in self._working.values() if one.task is not None]
            if tasks:
                limit = self.services.settings.drain_timeout_s + _CLOSE_MARGIN_S
                await asyncio.wait(tasks, timeout=limit)
            self.store.close()

    # --- requests ---

    def check(self, request: TraceRequest, client: str, connection: str | None = None) -> Asked:
        """Check a request before anything is decoded.

        Args:
            request: of the client.
            client: name of the client.
            connection: id of a connected model; None for the model of the server.

        Raises:
            ApiError: 400, 403, 404, 413 or 503.
        """
        engine, reader = self.services.served(connection, client)
        checker = self.services.checker()
        past = self._past(request, client)
        exchanges = () if past is None else _exchanges(past)
        try:
            chats = chat_requests(request, self.services.uploads, client)
            found = [reader.job(chats.main, client, checker, exchanges)]
            if chats.plain is not None:
                checker = self.services.checker()
                found.append(reader.job(chats.plain, client, checker, exchanges))
        except ApiError as error:
            raise own_param(error) from None
        return Asked(request, found, past, _names(request), engine)

    def _past(self, request: TraceRequest, client: str) -> StoredRequest | None:
        if request.follows is None:
            return None
        try:
            job = self.store.get(request.follows, owner_of(self.services, client))
        except UsageError:
            job = None
        past = None if job is None else StoredRequest.of(job)
        if job is None or past is None or not past.exchanges[-1].reply:
            raise ApiError(404, "follows: there is no finished trace with this id", param="follows")
        return past

    async def start(self, asked: Asked, client: str) -> Job:
        """Accept a request and start its job.

        Raises:
            ApiError: 400, 403, 404, 429 or 503.
        """
        services, chats = self.services, asked.chats
        with ExitStack() as stack:
            fast = [
                stack.enter_context(services.admission.admit(services.load_of(one)))
                for one in chats
            ]
            past = asked.past or StoredRequest(())
            try:
                new = await services.intake.items(chats[0].sources[len(past.media) :], client)
            except ApiError as error:
                raise own_param(error) from None
            stored = _stored_request(asked, past, new)
            files = {one.file: self.store.media / one.file for one in past.media}
            files |= {Path(item.path).name: Path(item.path) for item in new}
            question, owner = asked.request.question, owner_of(services, client)
            queued = ("queued", {"runs": len(asked.names)})
            job = await asyncio.to_thread(
                self.store.create,
                *(owner, question, chats[0].model, stored.to_dict(), files, [queued]),
            )
            runs = self._submit(job, asked, self.media.items(stored.media), fast)
            working = Working(job, question, stored, asked.engine, runs, [], stack.pop_all())
        pictures = LivePictures(self.store.pictures(job.id), self.media, stored.media)
        working.lives = [
            self._live(working, run, number, pictures) for number, run in enumerate(runs)
        ]
        self._working[job.id] = working
        working.task = asyncio.create_task(self._work(working))
        return job

    def _submit(
        self, job: Job, asked: Asked, items: list[MediaItem], fast: Sequence[bool]
    ) -> list[Run]:
        runs: list[Run] = []
        engine = asked.engine
        try:
            for chat, is_fast in zip(asked.chats, fast, strict=True):
                found = engine.submit(chat, list(items), is_fast=is_fast)
                # Runs are numbered over all requests of the job.
                runs += [replace(run, index=len(runs) + run.index) for run in found]
        except BaseException as error:
            engine.cancel(runs)
            self.store.finish(job.id, JobState.FAILED, event=_error_data(api_error(error)))
            raise
        return runs

    def _live(self, working: Working, run: Run, number: int, pictures: LivePictures) -> LiveTrace:
        job, request = working.job, working.request
        items = tuple(self.media.items(request.media))
        real = Question(id=job.id[:8], text=working.question, media=items)
        question = public_question(real, request.media, working.question, request.expected)
        settings = collect_settings(working.engine.model, run.opening.config)
        return LiveTrace(number, request.names[number], question, settings, pictures)

    async def stop(self, id: str) -> None:
        """Stop a job and wait for its end. No effect on one that has ended."""
        working = self._working.get(id)
        if working is None or working.task is None:
            return
        working.is_cancelled = True
        working.engine.cancel(working.runs)
        await asyncio.wait([working.task], timeout=_STOP_TIMEOUT_S)

    # --- listeners ---

    def next_change(self, id: str) -> asyncio.Event:
        """Return an event that is set when a job has new events."""
        return self._changed.setdefault(id, asyncio.Event())

    async def wait(self, change: asyncio.Event) -> bool:
        """Wait for a change up to the interval of pings. Returns whether it happened."""
        try:
            async with asyncio.timeout(self.services.settings.ping_interval_s):
                await change.wait()
        except TimeoutError:
            return False
        return True

    async def events(self, id: str, after: int) -> Sequence[JobEvent]:
        """Return the stored events of a job after a number."""
        working = self._working.get(id)
        if working is not None and working.events:
            first = working.events[0].seq
            if after >= first - 1:
                return working.events[after - first + 1 :]
        return await asyncio.to_thread(self.store.events, id, after)

    def is_working(self, id: str) -> bool:
        """Return whether a job is in progress."""
        return id in self._working

    def _notify(self, id: str) -> None:
        event = self._changed.pop(id, None)
        if event is not None:
            event.set()

    # --- work ---

    async def _work(self, working: Working) -> None:
        """Run a job to its end, whatever happens."""
        id = working.job.id
        try:
            async with aclosing(event_batches(working.runs, FLUSH_S)) as batches:
                await self._store_events(working, batches)
            await self._finish(working)
        except Exception as error:  # noqa: BLE001 - listeners receive it
            found = api_error(error)
            if found.status == 500:
                LOGGER.exception("bug", extra={"fields": {"trace": id}})
            working.engine.cancel(working.runs)
            await asyncio.to_thread(
                self.store.finish, id, JobState.FAILED, event=_error_data(found)
            )
        finally:
            working.admitted.close()
            del self._working[id]
            self._notify(id)
            metrics = self.services.metrics
            metrics.observe(metrics.latency, time.perf_counter() - working.started)

    async def _store_events(
        self, working: Working, batches: AsyncGenerator[list[RunEvent], None]
    ) -> None:
        """Store events as they happen. Text is collected for `FLUSH_S`."""
        waiting: list[tuple[LiveTrace, Event]] = []
        stored_at = time.monotonic()
        async for batch in batches:
            is_due = not batch or time.monotonic() - stored_at >= FLUSH_S
            for run, event in batch:
                if isinstance(event, GeneratedText):
                    continue  # the same text as the parts, with tags
                live = working.lives[run.index]
                self._note(working, run, event)
                if isinstance(event, TurnStarted) and run.handle.rollout is not None:
                    live.open(run.handle.rollout)
                is_due = is_due or not isinstance(event, PartDelta)
                waiting.append((live, event))
            if waiting and is_due:
                events, waiting = waiting, []
                await asyncio.to_thread(self._store, working, events)
                self._notify(working.job.id)
                stored_at = time.monotonic()

    def _store(self, working: Working, events: Sequence[tuple[LiveTrace, Event]]) -> None:
        listed = [found for live, one in _joined(events) for found in live.events_of(one)]
        if listed:
            is_start = not working.events
            working.events += self.store.add_events(
                working.job.id, _split(listed), is_start=is_start
            )

    def _note(self, working: Working, run: Run, event: Event) -> None:
        """Keep the result of a rollout that ended."""
        if not isinstance(event, Finished | Failed):
            return
        working.ended[run.index] = event.trace
        try:
            working.results[run.index] = working.engine.result(run, event.trace)
        except ApiError as error:
            working.failed[run.index] = error

    async def _finish(self, working: Working) -> None:
        state = self._state(working)
        if state is JobState.INTERRUPTED:
            event: dict[str, Any] = {"message": INTERRUPTED_MESSAGE}
        elif state is JobState.FAILED:
            event = _error_data(next(iter(working.failed.values())))
        else:
            event = {}
        await asyncio.to_thread(self._write_end, working, state, event)
        log("trace", trace=working.job.id, state=state.value, runs=len(working.runs))

    def _state(self, working: Working) -> JobState:
        stops = {trace.stop for trace in working.ended.values()}
        if StopReason.CANCELLED in stops:
            return JobState.CANCELLED if working.is_cancelled else JobState.INTERRUPTED
        return JobState.FAILED if working.failed and not working.results else JobState.FINISHED

    def _write_end(self, working: Working, state: JobState, event: dict[str, Any]) -> None:
        """Store the end of a job. Blocking: pictures are encoded."""
        request, lives = working.request, working.lives
        traces = [self._public(working, run) for run in working.runs]
        item, thumbnail = finished_item(traces, request.names, lives[0].store)
        counts = Counter(trace.answer for trace in traces if trace.answer is not None)
        answers = [{"answer": one, "count": count} for one, count in counts.most_common()]
        first = working.results.get(0)
        continued = None
        if state is JobState.FINISHED and first is not None:
            continued = _with_reply(request, working.engine.sent_content(first.reply)).to_dict()
        self.store.finish(
            working.job.id,
            state,
            answer=max(counts, key=lambda one: counts[one], default=None),
            summary={"answers": answers, "thumbnail": thumbnail},
            traces=f"[{','.join(trace.to_line() for trace in traces)}]",
            item=item,
            request=continued,
            event={"answers": answers} | event,
        )

    def _public(self, working: Working, run: Run) -> Trace:
        """Return the trace of a rollout without paths of this machine."""
        trace, request = working.ended[run.index], working.request
        text, expected = working.question, request.expected
        question = public_question(trace.question, request.media, text, expected)
        question = question.model_copy(update={"id": working.job.id[:8]})
        error = working.failed.get(run.index)
        message = error.message if error else trace.error and redact(trace.error, run.names)
        notes = tuple(redact(note, run.names) for note in trace.notes)
        return trace.model_copy(update={"question": question, "error": message, "notes": notes})

    async def _prune(self) -> None:
        while True:
            deleted = await asyncio.to_thread(self.store.prune)
            if deleted:
                log("traces deleted", count=len(deleted))
            await asyncio.sleep(PRUNE_INTERVAL_S)


def _names(request: TraceRequest) -> tuple[str, ...]:
    """Return the titles of the traces of a request."""
    options = request.options
    titles = [""]
    if options.without_operations:
        titles = ["with operations", "without operations"]
    if options.repeat == 1:
        return tuple(titles)
    prefix = [f"{title}, " if title else "" for title in titles]
    numbers = range(1, options.repeat + 1)
    return tuple(f"{one}answer {number}" for one in prefix for number in numbers)


def _stored_request(asked: Asked, past: StoredRequest, new: Sequence[MediaItem]) -> StoredRequest:
    """Return what is stored of a request: media and exchanges of the whole conversation."""
    old = [MediaItem(kind=one.kind, path=one.file) for one in past.media]
    last = StoredExchange(asked.chats[0].exchanges[-1].text, len(new), "")
    return StoredRequest(
        media=stored_media([*old, *new]),
        exchanges=(*past.exchanges, last),
        follows=asked.request.follows,
        expected=asked.request.expected,
        names=asked.names,
    )


def _exchanges(past: StoredRequest) -> tuple[AskedExchange, ...]:
    """Return the exchanges of a stored conversation. Their sources only state the kinds of media."""
    media = iter(past.media)
    return tuple(
        AskedExchange(
            one.text,
            tuple(
                Source("image" if medium.kind == "image" else "video", "", "follows")
                for medium in (next(media) for _ in range(one.num_media))
            ),
            one.reply,
        )
        for one in past.exchanges
    )


def _joined(events: Sequence[tuple[LiveTrace, Event]]) -> list[tuple[LiveTrace, Event]]:
    """Return events with adjacent texts of the same part as one."""
    found: list[tuple[LiveTrace, Event]] = []
    for live, event in events:
        before, last = found[-1] if found else (None, None)
        if (
            before is live
            and isinstance(last, PartDelta)
            and isinstance(event, PartDelta)
            and (last.turn, last.kind) == (event.turn, event.kind)
        ):
            found[-1] = live, last.model_copy(update={"text": last.text + event.text})
        else:
            found.append((live, event))
    return found


def _split(events: Sequence[LiveEvent]) -> list[LiveEvent]:
    """Return events whose texts fit into one line of a stream."""
    found: list[LiveEvent] = []
    for event in events:
        if event.type not in ("thought_delta", "text_delta"):
            found.append(event)
            continue
        found += [
            LiveEvent(event.type, event.data | {"text": piece})
            for piece in pieces(event.data["text"])
        ]
    return found


def _with_reply(request: StoredRequest, reply: str) -> StoredRequest:
    """Return a request with the reply of the model, so that a question can follow."""
    last = request.exchanges[-1]._replace(reply=reply)
    return request._replace(exchanges=(*request.exchanges[:-1], last))


def _error_data(error: ApiError) -> dict[str, Any]:
    return {"message": error.message, "code": error.code}
