"""Scheduler: requests from any thread, which end independently of each other."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from functools import partial

import pytest
from PIL import Image

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import (
    CancelledError,
    DeadlineError,
    EndpointError,
    InputError,
    QueueFullError,
    UsageError,
)
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.models.api import Capabilities, Completion, Delta
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask, ask_async, ask_many
from pixel_reasoner.rollout.request import MAX_BUFFERED_EVENTS, RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler, get_scheduler
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.rollout.workers import Workers
from pixel_reasoner.schema.events import (
    CallParsed,
    Failed,
    Finished,
    GeneratedText,
    Observed,
    PartDelta,
    PartKind,
    TurnDone,
    TurnStarted,
    event_to_dict,
)
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Conversation, StopReason, ToolCall

RED = r"It is red. \boxed{red}"


def zoom(*box: float, image: int = 1) -> str:
    arguments = {"bbox_2d": list(box), "target_image": image}
    return "Closer.\n" + COMPACT.write_call(ToolCall(name="zoom_in", arguments=arguments))


CLOSER = zoom(0.25, 0.25, 0.5, 0.5)


class TickingBackend:
    """Backend that generates one character of each request per poll, as an engine generates one token."""

    def __init__(self, script, capabilities=None):
        self.script = script
        self.capabilities = capabilities or Capabilities(streaming=True)
        self.requests = {}
        self.written = {}
        self.sizes = []
        self.released = []
        self.cancelled = []
        self.served = []

    def submit(self, request):
        turn = sum(message["role"] == "assistant" for message in request.messages)
        self.requests[request.id] = (request, self.script[min(turn, len(self.script) - 1)])
        self.written[request.id] = 0
        self.served.append(request)

    def poll(self, timeout_s, num_busy_cores=0):
        self.sizes.append(len(self.requests))
        deltas = []
        for id, (_, text) in list(self.requests.items()):
            self.written[id] += 1
            done = self.written[id] >= len(text)
            deltas.append(
                Delta(
                    id,
                    text=text[self.written[id] - 1],
                    completion=Completion(text=text) if done else None,
                )
            )
            if done:
                del self.requests[id]
        return deltas

    def cancel(self, id):
        self.cancelled.append(id)
        self.requests.pop(id, None)

    def release(self, session):
        self.released.append(session)

    def close(self):
        self.requests.clear()


class TickingModel:
    name, dialect, budgets = "ticking", "compact", UNSCALED

    def __init__(self, *script, capabilities=None):
        self.backend = TickingBackend(script, capabilities)

    def open_backend(self):
        return self.backend

    def describe(self):
        return {"name": self.name}


@pytest.fixture
def question(photo) -> Question:
    return Question(id="1", text="Which colour?", media=(MediaItem(kind="image", path=str(photo)),))


def numbered(question: Question, count: int) -> list[Question]:
    return [question.model_copy(update={"id": str(number)}) for number in range(count)]


def test_events_are_in_chronological_order(question):
    handle = get_scheduler(TickingModel(CLOSER, RED)).submit(
        RolloutRequest(question=question, stream=True)
    )
    events = list(handle.events())
    kinds = [type(one) for one in events if not isinstance(one, GeneratedText | PartDelta)]
    assert kinds == [
        TurnStarted,
        CallParsed,
        Observed,
        TurnDone,
        TurnStarted,
        TurnDone,
        Finished,
    ]
    assert [one.seq for one in events] == list(range(len(events)))
    assert [one.at_s for one in events] == sorted(one.at_s for one in events)
    for turn, text in enumerate((CLOSER, RED)):
        pieces = [one.text for one in events if isinstance(one, GeneratedText) and one.turn == turn]
        assert "".join(pieces) == text
        assert len(pieces) > 10
    parts = [one for one in events if isinstance(one, PartDelta) and one.turn == 0]
    words = "".join(one.text for one in parts if one.kind is PartKind.TEXT)
    call = "".join(one.text for one in parts if one.kind is PartKind.CALL)
    assert words.strip() == "Closer."
    assert json.loads(call)["name"] == "zoom_in"
    assert "<" not in words + call
    assert events[-1].trace == handle.result()
    assert event_to_dict(events[0])["type"] == "turn_started"
    assert event_to_dict(events[-1])["trace"]["answer"] == "red"


def test_a_slow_reader_gets_all_text_in_few_events(question):
    handle = get_scheduler(TickingModel("x" * 3000 + RED)).submit(
        RolloutRequest(question=question, stream=True)
    )
    handle.result()  # no reader meanwhile
    events = list(handle.events())
    assert "".join(e.text for e in events if isinstance(e, GeneratedText)).endswith(RED)
    assert len(events) <= 2 * MAX_BUFFERED_EVENTS


def test_requests_of_many_threads_share_one_batch(question):
    model = TickingModel(CLOSER, RED)
    answers, start = [], threading.Barrier(8)

    def client(one):
        start.wait()
        answers.append(ask(one, model).answer)

    threads = [threading.Thread(target=client, args=(one,)) for one in numbered(question, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["red"] * 8
    assert max(model.backend.sizes) > 1


@pytest.mark.parametrize("seed", range(5))
def test_a_request_cancelled_at_any_time_changes_no_other(question, seed):
    rng = random.Random(seed)
    model = TickingModel(CLOSER, "hm " * 20 + RED)
    scheduler = RolloutScheduler(model)
    handles = [scheduler.submit(RolloutRequest(question=one)) for one in numbered(question, 12)]
    victims = rng.sample(handles, 5)
    for victim in victims:
        for _ in range(rng.randrange(20)):
            scheduler.drive(lambda: False, 0.001)
        was_done = victim.is_done
        victim.cancel()
        scheduler.drive(lambda victim=victim: victim.is_done)
        num_polls = len(model.backend.sizes)
        if not was_done:
            assert victim.result().stop is StopReason.CANCELLED
            assert isinstance(victim.error, CancelledError)
            assert not any(id.startswith(victim.id) for id in model.backend.requests)
            assert num_polls == len(model.backend.sizes)
    for handle in handles:
        if handle not in victims:
            assert handle.result().answer == "red"
    assert scheduler.num_unfinished == 0
    scheduler.close()


def test_a_cancelled_request_keeps_its_finished_turns(question):
    model = TickingModel(CLOSER, "x" * 10_000)
    handle = get_scheduler(model).submit(RolloutRequest(question=question, stream=True))
    for event in handle.events():
        if isinstance(event, TurnDone):
            handle.cancel()
    trace = handle.result()
    assert trace.stop is StopReason.CANCELLED
    assert [turn.text for turn in trace.turns] == [CLOSER]
    assert len(trace.executed) == 1


def test_a_deadline_ends_a_request_with_a_typed_error(question):
    model = TickingModel("x" * 1_000_000)
    started = time.perf_counter()
    with pytest.raises(DeadlineError, match="raise deadline_s"):
        ask(question, model, deadline_s=0.2)
    assert time.perf_counter() - started < 5
    assert not model.backend.requests
    handle = get_scheduler(model).submit(RolloutRequest(question=question, deadline_s=0.1))
    assert handle.result().stop is StopReason.DEADLINE


def test_a_timeout_of_result_does_not_end_the_request(question):
    handle = get_scheduler(TickingModel("x" * 100_000)).submit(RolloutRequest(question=question))
    with pytest.raises(DeadlineError, match="wait longer"):
        handle.result(timeout_s=0.05)
    assert not handle.is_done
    handle.cancel()
    assert handle.result().stop is StopReason.CANCELLED


def test_a_full_queue_refuses_the_next_request(question):
    scheduler = RolloutScheduler(TickingModel(RED), max_active=1, max_queued=2)
    handles = [scheduler.submit(RolloutRequest(question=one)) for one in numbered(question, 3)]
    with pytest.raises(QueueFullError, match="submit it again later"):
        scheduler.submit(RolloutRequest(question=question))
    assert [handle.result().answer for handle in handles] == ["red"] * 3
    scheduler.submit(RolloutRequest(question=question)).result()


def test_a_request_of_higher_priority_is_served_first(question):
    scheduler = RolloutScheduler(model := TickingModel(RED), max_active=1)
    handles = [
        scheduler.submit(RolloutRequest(question=one, priority=int(one.id)))
        for one in numbered(question, 4)
    ]
    for handle in handles:
        handle.result()
    order = [request.session for request in model.backend.served]
    assert order == [handle.id for handle in reversed(handles)]


def test_a_failed_request_ends_only_itself(question):
    missing = MediaItem(kind="image", path="no/such.png")
    broken = question.model_copy(update={"id": "broken", "media": (missing,)})
    model = TickingModel(CLOSER, RED)
    scheduler = get_scheduler(model)
    failing = scheduler.submit(RolloutRequest(question=broken, stream=True))
    others = [scheduler.submit(RolloutRequest(question=one)) for one in numbered(question, 3)]
    assert [one.result().answer for one in others] == ["red"] * 3
    assert failing.result().stop is StopReason.FAILED
    assert isinstance(failing.error, InputError)
    assert [type(one) for one in failing.events()] == [Failed]
    with pytest.raises(InputError):
        ask(broken, model)


def test_an_error_of_the_backend_ends_all_requests_and_is_raised(question):
    class FailingBackend(TickingBackend):
        def poll(self, timeout_s, num_busy_cores=0):
            raise EndpointError(expected="a server", got="none", fix="start it")

    model = TickingModel(RED)
    model.backend = FailingBackend([RED])
    with pytest.raises(EndpointError, match="start it"):
        list(ask_many(numbered(question, 3), model))
    assert get_scheduler(model).num_unfinished == 0


def test_requests_of_one_batch_may_have_different_sampling_parameters(question):
    model = TickingModel(RED)
    scheduler = get_scheduler(model)
    handles = [
        scheduler.submit(
            RolloutRequest(
                question=question,
                config=RolloutConfig(sampling=SamplingParams(temperature=t)),
            )
        )
        for t in (0.0, 0.7)
    ]
    traces = [handle.result() for handle in handles]
    assert [one.sampling.temperature for one in model.backend.served] == [0.0, 0.7]
    assert [one.settings.sampling.temperature for one in traces] == [0.0, 0.7]


def test_a_question_in_an_event_loop_does_not_block_it(question):
    model = TickingModel(CLOSER, "hm " * 50 + RED)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        traces = await asyncio.gather(*(ask_async(one, model) for one in numbered(question, 4)))
        ticking.cancel()
        return ticks, [trace.answer for trace in traces]

    ticks, answers = asyncio.run(main())
    assert answers == ["red"] * 4
    assert ticks > 10
    assert max(model.backend.sizes) > 1
    get_scheduler(model).close()


def test_events_can_be_read_in_an_event_loop(question):
    model = TickingModel(CLOSER, RED)

    async def main():
        handle = get_scheduler(model).submit(RolloutRequest(question=question, stream=True))
        return [event async for event in handle.aevents()]

    events = asyncio.run(main())
    assert isinstance(events[-1], Finished)
    assert "".join(e.text for e in events if isinstance(e, GeneratedText)) == CLOSER + RED
    get_scheduler(model).close()


def test_cancelling_an_asyncio_task_frees_its_slot(question):
    model = TickingModel("x" * 10_000_000)

    async def main():
        task = asyncio.create_task(ask_async(question, model))
        while not model.backend.requests:
            await asyncio.sleep(0.001)
        task.cancel()
        while model.backend.requests:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 20))
    get_scheduler(model).close()


def test_a_client_that_stops_early_cancels_its_questions(question):
    model = TickingModel(RED)
    traces = ask_many(numbered(question, 6), model, batch_size=3)
    next(traces)
    traces.close()
    assert ask(question, model).answer == "red"
    assert get_scheduler(model).num_unfinished == 0
    assert not model.backend.requests


def test_a_closed_scheduler_accepts_no_request(question):
    scheduler = RolloutScheduler(TickingModel("x" * 1000))
    handle = scheduler.submit(RolloutRequest(question=question))
    scheduler.close()
    assert handle.result().stop is StopReason.CANCELLED
    with pytest.raises(UsageError, match="closed"):
        scheduler.submit(RolloutRequest(question=question))


def test_a_request_id_is_unique(question):
    scheduler = get_scheduler(TickingModel(RED))
    scheduler.submit(RolloutRequest(question=question, id="a"))
    with pytest.raises(UsageError, match="in use"):
        scheduler.submit(RolloutRequest(question=question, id="a"))


def test_an_exception_in_one_rollout_is_raised_and_affects_no_other(question):
    class FailingHook:
        def after_generation(self, rollout, completion):
            raise ZeroDivisionError("a bug")

    model = TickingModel(RED)
    scheduler = get_scheduler(model)
    buggy = scheduler.submit(RolloutRequest(question=question, hooks=(FailingHook(),)))
    fine = scheduler.submit(RolloutRequest(question=question))
    assert fine.result().answer == "red"
    assert buggy.result().stop is StopReason.FAILED
    assert isinstance(buggy.error, ZeroDivisionError)


def test_a_hook_may_replace_the_completion(question):
    class Blue:
        def after_generation(self, rollout, completion):
            return Completion(text=r"\boxed{blue}")

    handle = get_scheduler(ScriptedModel([RED])).submit(
        RolloutRequest(question=question, hooks=(Blue(),))
    )
    assert handle.result().answer == "blue"


def test_forks_of_a_rollout_continue_independently(question):
    model = ScriptedModel([CLOSER, zoom(0, 0, 0.5, 0.5, image=2), RED], budgets=UNSCALED)
    scheduler = get_scheduler(model)
    whole = ask(question, model)
    start = Rollout(question, model, RolloutConfig())
    start.take(Completion(text=CLOSER))
    forks = [start.fork() for _ in range(3)]
    handles = [scheduler.submit(RolloutRequest(question=question, rollout=fork)) for fork in forks]
    for handle in handles:
        trace = handle.result()
        assert [turn.text for turn in trace.turns] == [turn.text for turn in whole.turns]
        assert trace.all_pictures == whole.all_pictures
    assert (len(start.turns), len(start.context), start.stop) == (1, 2, None)


def test_majority_vote_returns_the_most_frequent_answer(question):
    answers = iter(["blue", "red", "green", "red", "red"])

    class Sampled(ScriptedModel):
        def generate(self, conversations, decoding, on_text=None):
            seeds.append(decoding.seed)
            return [Completion(text=rf"\boxed{{{next(answers)}}}") for _ in conversations]

    seeds: list[int] = []
    scheduler = RolloutScheduler(Sampled([""]))
    config = RolloutConfig(sampling=SamplingParams(temperature=1.0, seed=7))
    trace = STRATEGIES.get("majority_vote")(question, scheduler, config)
    assert (trace.answer, trace.sample) == ("red", 1)
    assert trace.notes == ("majority vote: red 3, blue 1, green 1",)
    assert seeds == [7, 8, 9, 10, 11]
    assert {"majority_vote", "single"} <= set(STRATEGIES.names())
    assert STRATEGIES.get("single")(question, get_scheduler(ScriptedModel([RED])), config).answer


# --- conversations ---


@pytest.fixture
def other_photo(tmp_path):
    path = tmp_path / "other.png"
    Image.new("RGB", (320, 240), "blue").save(path)
    return path


def test_a_conversation_continues_with_earlier_and_new_pictures(question, other_photo):
    def reply(conversation):
        asked = conversation[-1]["content"]
        is_first = sum(message["role"] == "assistant" for message in conversation) == 0
        if is_first:
            return CLOSER
        if any(part.get("text", "").startswith("And") for part in asked):
            return zoom(0, 0, 0.5, 0.5, image=3)  # the picture that came with the second question
        return RED

    model = ScriptedModel(reply, budgets=UNSCALED)
    scheduler = get_scheduler(model)
    first = scheduler.submit(RolloutRequest(question=question, id="first", keep=True)).result()
    assert (first.exchange, sorted(first.all_pictures)) == (0, [1, 2])
    added = MediaItem(kind="image", path=str(other_photo))
    again = Question(id="2", text="And this one?", media=(added,))
    second = scheduler.submit(RolloutRequest(question=again, keep=True), continues="first")
    trace = second.result()
    assert (trace.exchange, trace.answer) == (1, "red")
    assert [medium.path for medium in trace.question.media] == [
        question.media[0].path,
        str(other_photo),
    ]
    assert [picture.number for picture in trace.pictures] == [1, 2, 3]
    [crop] = trace.executed[0].pictures
    assert (crop.number, crop.parent, crop.medium) == (4, 3, 1)
    conversation = model.conversations[-1]
    roles = [message["role"] for message in conversation if message["role"] != "system"]
    assert roles == ["user", "assistant"] * 2 + ["user", "assistant", "user"]
    texts = " ".join(
        part.get("text", "") for message in conversation for part in message["content"]
    )
    assert texts.index("Which colour?") < texts.index("It is red.") < texts.index("And this one?")
    talk = Conversation.of([first, trace])
    assert Conversation.from_line(talk.to_line()) == talk


def test_the_trace_of_a_later_exchange_can_be_replayed_separately(question, other_photo):
    model = ScriptedModel([CLOSER, RED, zoom(0.5, 0.5, 1, 1, image=2), RED], budgets=UNSCALED)
    scheduler = get_scheduler(model)
    scheduler.submit(RolloutRequest(question=question, id="a", keep=True)).result()
    again = question.model_copy(update={"id": "2", "media": ()})
    trace = scheduler.submit(RolloutRequest(question=again), continues="a").result()
    assert trace.executed[0].pictures[0].parent == 2
    context = MediaContext.of_trace(trace, UNSCALED)
    assert len(context) == 3
    assert context.view(3).size == (80, 60)


def test_a_conversation_that_was_not_kept_cannot_be_continued(question):
    scheduler = get_scheduler(ScriptedModel([RED]))
    scheduler.submit(RolloutRequest(question=question, id="a")).result()
    with pytest.raises(UsageError, match="keep=True"):
        scheduler.submit(RolloutRequest(question=question), continues="a")
    kept = scheduler.submit(RolloutRequest(question=question, id="b", keep=True))
    kept.result()
    scheduler.release("b")
    scheduler.drive(lambda: False, 0.05)
    with pytest.raises(UsageError, match="keep=True"):
        scheduler.submit(RolloutRequest(question=question), continues="b")


def test_releasing_a_kept_conversation_releases_its_session(question):
    model = TickingModel(RED)
    scheduler = get_scheduler(model)
    scheduler.submit(RolloutRequest(question=question, id="a", keep=True)).result()
    scheduler.submit(RolloutRequest(question=question, id="b", keep=True), continues="a").result()
    assert {request.session for request in model.backend.served} == {"a"}
    assert model.backend.released == []
    for id in ("a", "b"):
        scheduler.release(id)
    scheduler.drive(lambda: False, 0.05)
    assert model.backend.released == ["a"]


def test_questions_about_one_picture_decode_it_once(question, monkeypatch):
    from pixel_reasoner.media import decoder

    opened, real = [], decoder.open_image
    monkeypatch.setattr(
        decoder, "open_image", lambda *given: (opened.append(given[0]), real(*given))[1]
    )
    model = ScriptedModel([CLOSER, RED], budgets=UNSCALED)
    assert [t.answer for t in ask_many(numbered(question, 6), model, batch_size=3)] == ["red"] * 6
    assert len(opened) == 1


# --- worker threads ---


def test_a_job_that_timed_out_once_is_not_waited_for_again():
    release, checks = threading.Event(), []
    workers = Workers(2, lambda: None)
    workers.start("slow", lambda: release.wait(30) and None)

    def is_interrupted():
        checks.append(1)
        return False

    workers.wait(9, 0.01, is_interrupted=is_interrupted)
    assert workers.has_only_late_jobs
    assert workers.take_done() == []
    num_checks = len(checks)
    workers.wait(9, 30, is_interrupted=is_interrupted)
    assert len(checks) == num_checks, "it returns at once"
    workers.start("quick", lambda: None)
    workers.wait(9, 30, is_interrupted=is_interrupted)
    assert [owner for owner, _ in workers.take_done()] == ["quick"]
    release.set()
    workers.wait_for_late(30)
    assert [owner for owner, _ in workers.take_done()] == ["slow"]
    workers.close()


def test_workers_respect_their_limit_and_the_requested_order():
    running, most, order, lock = 0, 0, [], threading.Lock()

    def job(name):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            order.append(name)
        time.sleep(0.005)
        with lock:
            running -= 1

    workers = Workers(4, lambda: None)
    workers.limit(1)
    for number in range(6):
        workers.start(number, partial(job, number), first=number == 5)
    workers.wait(6, 30, is_interrupted=lambda: False)
    assert [owner for owner, _ in workers.take_done()] == list(range(6))
    assert most == 1
    assert order == [0, 5, 1, 2, 3, 4]
    workers.limit(4)
    for number in range(12):
        workers.start(number, partial(job, number))
    workers.wait(12, 30, is_interrupted=lambda: False)
    assert 1 < most <= 4
    workers.close()


def test_generation_on_cpu_leaves_cores_for_workers(question):
    class Shared(TickingBackend):
        def poll(self, timeout_s, num_busy_cores=0):
            busy.append(num_busy_cores)
            return super().poll(timeout_s)

    class Slow:
        def after_generation(self, rollout, completion):
            time.sleep(0.01)
            return completion

    busy: list[int] = []
    model = TickingModel(CLOSER, RED)
    model.backend = Shared([CLOSER, RED], Capabilities(shares_cores=True, min_fill=0.25))
    scheduler = RolloutScheduler(model, num_workers=4)
    handles = [
        scheduler.submit(RolloutRequest(question=one, hooks=(Slow(),)))
        for one in numbered(question, 12)
    ]
    assert [handle.result().answer for handle in handles] == ["red"] * 12
    assert max(busy) >= 1
    scheduler.close()
