"""Model whose rollouts are answered by actors on a Ray cluster. Extra: `ray`.

    with connected(RayOptions(address="auto")) as options, RayModel(ModelSpec("tiny"), options) as model:
        traces = list(ask_many(questions, model))

It replaces the loop of the rollout scheduler, so evaluations, surveys, inspections and strategies use it like any model:
this process reads the questions and writes the results, the actors open media, generate and execute operations. Each actor has its own
model or client. Random seeds depend on the prompt and the configuration, not on the actor.

Not supported: text while it is generated, forks and continued conversations. A decoder is set here, not by `decode_with`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from pixel_reasoner.errors import EndpointError, InputError, PixelReasonerError, UsageError
from pixel_reasoner.integrations.ray_cluster import RayOptions, is_missing
from pixel_reasoner.integrations.ray_pool import ActorPool, Failure, Lost, Started, started
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.models.api import Completion, ContextFull, GenerationModel, Messages, OnText
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.loop import RolloutLoop
from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.tasks import Commands, Task
from pixel_reasoner.schema.media_url import allowed_media_urls, set_media_urls
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import StopReason, Trace

LoadModel = Callable[[], GenerationModel]
_WAIT_FACTOR = 10
"""waits of the loop, in units of the wait of a local engine: a result interrupts them"""


class Answer(NamedTuple):
    """Result of one request."""

    trace: Trace
    error: PixelReasonerError | None = None
    missing: str = ""
    """path of a medium that does not exist where the actor is"""
    node: str = ""


class ModelFacts(NamedTuple):
    """What the model of an actor is."""

    name: str
    dialect: str
    budgets: PixelBudgets | None
    note: str
    info: ModelInfo


class RolloutActor:
    """Actor with a model and its scheduler. Runs in an event loop.

    Args:
        load: returns the model.
        batch_size: rollouts in progress at once.
        open_decoder: returns the decoder of media; None for this process.
        media_urls: URL prefixes below which media may be read.
    """

    def __init__(
        self,
        load: LoadModel,
        batch_size: int,
        open_decoder: Callable[[], MediaDecoder] | None,
        media_urls: tuple[str, ...],
    ) -> None:
        self._load, self._batch_size, self._open_decoder = load, batch_size, open_decoder
        self._media_urls = media_urls
        self._node = ""
        self._scheduler: RolloutScheduler

    async def start(self) -> Started | Failure:
        """Load the model."""
        set_media_urls(self._media_urls)
        try:
            model = await asyncio.to_thread(self._load)
        except PixelReasonerError as error:
            return Failure(error)
        self._scheduler = RolloutScheduler(model, max_active=self._batch_size)
        if self._open_decoder is not None:
            self._scheduler.decode_with(self._open_decoder())
        note = getattr(model, "note", "")
        about = ModelFacts(model.name, model.dialect, model.budgets, note, model.describe())
        result = started(about)
        self._node = result.node
        return result

    async def run(self, key: str, payload: tuple[Question, RolloutConfig]) -> Answer | Failure:
        """Answer one question."""
        question, config = payload
        handle = self._scheduler.submit(RolloutRequest(question=question, config=config, id=key))
        trace = await handle.aresult()
        error = handle.error
        if error is None:
            return Answer(trace)
        if not isinstance(error, PixelReasonerError):
            raise error
        return Failure(error) if handle.is_fatal else self._failed(trace, error)

    def _failed(self, trace: Trace, error: PixelReasonerError) -> Answer:
        paths = (
            (item.path for item in trace.question.media) if isinstance(error, InputError) else ()
        )
        missing = next((path for path in paths if is_missing(path)), "")
        return Answer(trace, error, missing, self._node)

    async def cancel(self, key: str) -> None:
        """Stop answering a question."""
        self._scheduler.cancel(key)


class RayModel:
    """Model on a Ray cluster. `close` ends its actors.

    Args:
        spec: which model, or a function that returns one; loaded once per actor.
        options: of a connected cluster (`connected`).
        operations: whether rollouts use operations, which the chat template must support.
        batch_size: rollouts in progress per actor.
        open_decoder: picklable function that returns the decoder of media in an actor.

    Raises:
        PixelReasonerError: the model cannot be loaded there.
    """

    def __init__(
        self,
        spec: ModelSpec | LoadModel,
        options: RayOptions,
        *,
        operations: bool = True,
        batch_size: int = 16,
        open_decoder: Callable[[], MediaDecoder] | None = None,
    ) -> None:
        import ray

        load = partial(spec.load, operations=operations) if isinstance(spec, ModelSpec) else spec
        remote = ray.remote(RolloutActor).options(
            **options.actor_options, max_concurrency=batch_size + 8
        )
        create = partial(remote.remote, load, batch_size, open_decoder, allowed_media_urls())
        self.pool = ActorPool(create, options, per_actor=batch_size, can_cancel=True)
        try:
            facts: ModelFacts = self.pool.wait_for_actors()
        except BaseException:
            self.pool.close()
            raise
        self.name, self.dialect, self.budgets, self.note, self._info = facts

    def describe(self) -> ModelInfo:
        """Return the identity of the model of the first actor, which all others have."""
        return self._info

    def open_loop(self, max_active: int, on_end: Callable[[str], None]) -> RolloutLoop:
        """Return the loop of this model's scheduler."""
        return RayRolloutLoop(self, max_active, on_end)

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Raise an error: actors answer whole questions.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            expected="whole questions for a model on a Ray cluster",
            got="single turns",
            fix="use ask, ask_many, an evaluation or a survey",
        )

    def close(self) -> None:
        """End all actors."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class RayRolloutLoop(RolloutLoop):
    """Loop of a scheduler whose requests are answered by actors."""

    def __init__(self, model: RayModel, max_active: int, on_end: Callable[[str], None]) -> None:
        super().__init__(model, max_active, None, on_end, lambda: False)
        self._pool = model.pool
        self._pool.on_change = self.wake
        self.num_copies = model.pool.options.num_actors

    def _step(self, timeout_s: float, commands: Commands) -> bool:
        self.take(commands)
        self._stop_expired()
        self._submit_queued()
        num_before = len(self.tasks)
        try:
            self._take_answers()
        except Exception as error:  # noqa: BLE001 - an error of the cluster ends every request
            self._fail_all(_as_ours(error))
            return True
        if len(self.tasks) == num_before:
            self._changed.wait(_WAIT_FACTOR * timeout_s)
            self._changed.clear()
        return bool(self.tasks)

    def _submit_queued(self) -> None:
        while self._queued:
            task = self._pop_queued()
            if task.is_over:
                continue
            request = task.handle.request
            unsupported = (request.hooks, request.context, request.rollout, request.open_rollout)
            if any(unsupported) or request.keep or task.continues is not None:
                error = UsageError(
                    expected="a question alone for a model on a Ray cluster",
                    got="a fork, a continued conversation, hooks or open media",
                    fix="use a model in this process",
                )
                self._fail(task, error)
            else:
                self._pool.submit(request.id, (request.question, request.config))

    def _take_answers(self) -> None:
        for key, result in self._pool.take_results():
            task = self.tasks.get(key)
            if task is None:
                continue
            if isinstance(result, Lost):
                self._fail(task, _lost_error(result))
            else:
                self._take_answer(task, result)

    def _take_answer(self, task: Task, answer: Answer) -> None:
        if answer.missing and not is_missing(answer.missing):
            raise UsageError(
                expected="media that every node of the cluster can read",
                got=f"{answer.missing}, which does not exist on {answer.node}",
                fix="put them on storage that all nodes share, at the same path",
            )
        self._end(task, answer.trace, answer.error)

    def _stop(self, task: Task, reason: StopReason) -> None:
        self._pool.cancel(task.handle.id)
        super()._stop(task, reason)

    def _fail_all(self, error: Exception) -> None:
        for id_ in list(self.tasks):
            self._pool.cancel(id_)
        super()._fail_all(error)


def _as_ours(error: Exception) -> Exception:
    """Return an error of Ray as one of ours, with its first line."""
    from ray.exceptions import RayError, RayTaskError

    if isinstance(error, PixelReasonerError) or not isinstance(error, RayError | RuntimeError):
        return error
    if isinstance(error, RayTaskError):
        return error  # a bug in an actor: its traceback is of use
    return EndpointError(
        expected="a Ray cluster that answers",
        got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}",
        fix="see `ray status`, and run the same command again; finished work is kept",
    )


def _lost_error(lost: Lost) -> EndpointError:
    return EndpointError(
        expected="an actor that survives the question",
        got=lost.reason,
        fix="see the logs of Ray for a crash or too little memory; the same command asks it again",
    )
