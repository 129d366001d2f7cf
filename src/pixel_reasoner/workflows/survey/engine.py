"""Answers to a stream of tasks, with constant memory. A failed task does not end the others."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler, get_scheduler
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.grading import matching_option
from pixel_reasoner.scoring.numbers import normalise_text, parse_number, stripped

POLL_S = 0.2
"""time after which a source without a task is asked again, while other tasks are in progress"""


@dataclass(frozen=True)
class Task:
    """One question of a batch."""

    id: str
    """unique, and the same in each run, so that a killed run can be resumed"""
    question: Question
    about: Mapping[str, Any] = field(default_factory=dict)
    """values of the caller, returned with the result"""


@dataclass(frozen=True)
class TaskResult:
    """The answers to one task."""

    task: Task
    traces: tuple[Trace, ...]
    """one per sample, in the order of the samples"""
    answer: str | None
    """the most frequent answer, as the first of its samples words it; None without any"""
    agreement: float
    """share of all samples with this answer, from 0 to 1"""
    error: str | None
    """why no sample could be asked; None if at least one could"""
    chosen: int = 0
    """index of the first trace with the answer; 0 without an answer"""

    @property
    def trace(self) -> Trace | None:
        """The first trace with the answer; None if nothing was asked."""
        return self.traces[self.chosen] if self.traces else None


FollowUps = Callable[[TaskResult], Iterable[Task | TaskResult]]
"""a result -> the tasks that depend on it"""
Canonical = Callable[[str, Question], str | None]
"""(answer, question) -> the form in which equal answers are equal texts; None for an answer that cannot be used"""


HasRoom = Callable[[Sequence[Task]], bool]
"""tasks in progress -> whether memory for another one is left"""


def never(id_: str) -> bool:
    """Return False: no task is done."""
    del id_
    return False


def always(tasks: Sequence[Task]) -> bool:
    """Return True: memory is left for another task."""
    del tasks
    return True


def no_tasks(result: TaskResult) -> Iterable[Task | TaskResult]:
    """Return no tasks."""
    del result
    return ()


def answer_tasks(  # noqa: PLR0913 - the interface of all workflows
    tasks: Iterable[Task | TaskResult | None],
    model: GenerationModel,
    config: RolloutConfig,
    *,
    samples: int = 1,
    batch_size: int = 16,
    is_done: Callable[[str], bool] = never,
    on_trace: Callable[[Trace], None] | None = None,
    follow_ups: FollowUps = no_tasks,
    canonical: Canonical | None = None,
    has_room: HasRoom = always,
) -> Iterator[TaskResult]:
    r"""Yield the results of many tasks as they finish, in no fixed order. Tasks are read as they are needed.

    Args:
        tasks: may be endless. A result is yielded as it is. None means that there is no task now: the tasks in progress
            continue, and the source is asked again after `POLL_S` at most.
        model: a loaded model.
        config: limits, sampling, operations. Sample i of a task has the seed of the sampling plus i.
        samples: answers per task.
        batch_size: number of requests in progress, per copy of the model; each sample is one.
        is_done: returns whether the task with an id is skipped, for a resumed run.
        on_trace: called with each trace when it is complete.
        follow_ups: returns the tasks (or results) that depend on a result. They come before further tasks.
        canonical: decides which answers are the same; by default `canonical_answer`.
        has_room: decides whether another task may start; one task is always in progress.

    Raises:
        UsageError: several samples at temperature 0.
        EndpointError: all servers fail.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> tasks = [Task(id, Question(id=id, text="Which colour?", media=())) for id in ("a", "b")]
    >>> results = answer_tasks(tasks, ScriptedModel([r"\boxed{red}"]), RolloutConfig())
    >>> sorted((result.task.id, result.answer, result.agreement) for result in results)
    [('a', 'red', 1.0), ('b', 'red', 1.0)]
    """
    check_samples(samples, config)
    scheduler = get_scheduler(model)
    num_requests = batch_size * scheduler.num_copies
    batch = _Batch(tasks, max(1, num_requests // samples), is_done, has_room)
    configs = [_with_seed(config, number) for number in range(samples)]
    start = partial(_Active, scheduler=scheduler, configs=configs, on_trace=on_trace)
    try:
        while batch.fill(start):
            for one in batch.wait():
                result = (
                    one.result(canonical or canonical_answer) if isinstance(one, _Active) else one
                )
                batch.ask_first(follow_ups(result))
                yield result
    finally:
        batch.cancel()


def check_samples(samples: int, config: RolloutConfig) -> None:
    """Raise an error for several samples that are all the same.

    Raises:
        UsageError: temperature 0.
    """
    if samples > 1 and config.sampling.temperature == 0:
        raise UsageError(
            expected="a temperature above 0 for several samples",
            got=f"{samples} samples at temperature 0, which are all the same",
            fix="set --temperature 0.7, or leave out --samples",
        )


class _End:
    """Marks the end of the tasks."""


_END = _End()


class _Batch:
    """Tasks in progress, and those that wait."""

    def __init__(
        self,
        tasks: Iterable[Task | TaskResult | None],
        num_tasks: int,
        is_done: Callable[[str], bool],
        has_room: HasRoom,
    ) -> None:
        self._source, self._num_tasks, self._is_done = iter(tasks), num_tasks, is_done
        self._has_room = has_room
        self._first = deque[Task | TaskResult]()
        self._active: list[_Active] = []
        self._ready: list[TaskResult] = []
        """results of the source"""
        self._is_idle = False
        """whether the source has no task now"""
        self._is_at_end = False

    def ask_first(self, tasks: Iterable[Task | TaskResult]) -> None:
        """Add tasks that come before the next ones of the source."""
        self._first.extend(tasks)

    def fill(self, start: Callable[[Task], _Active]) -> bool:
        """Start tasks until the batch is full or there is none now. Returns whether the batch goes on."""
        self._is_idle = False
        while self._has_slot():
            task = self._next()
            if task is None:
                break
            if isinstance(task, TaskResult):
                self._ready.append(task)
            elif not self._is_done(task.id):
                self._active.append(start(task))
        return bool(self._active or self._ready) or not self._is_at_end

    def _has_slot(self) -> bool:
        if len(self._active) + len(self._ready) >= self._num_tasks:
            return False
        return not self._active or self._has_room([one.task for one in self._active])

    def _next(self) -> Task | TaskResult | None:
        if self._first:
            return self._first.popleft()
        if self._is_at_end:
            return None
        task = next(self._source, _END)
        if isinstance(task, Task | TaskResult):
            return task
        self._is_idle, self._is_at_end = task is None, task is _END
        return None

    def wait(self) -> Sequence[_Active | TaskResult]:
        """Return results and the tasks that ended, after at least one did.

        While the source has no task, wait for `POLL_S` at most.
        """
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        if not self._active:
            time.sleep(POLL_S if self._is_idle else 0)
            return []
        scheduler = self._active[0].scheduler
        scheduler.drive(self._has_ended, POLL_S if self._is_idle else None)
        done = [one for one in self._active if one.is_done]
        self._active = [one for one in self._active if one not in done]
        return done

    def _has_ended(self) -> bool:
        return any(one.is_done for one in self._active)

    def cancel(self) -> None:
        """Stop all tasks in progress."""
        for one in self._active:
            one.cancel()


class _Active:
    """The requests of a task in progress."""

    def __init__(
        self,
        task: Task,
        scheduler: RolloutScheduler,
        configs: Sequence[RolloutConfig],
        on_trace: Callable[[Trace], None] | None,
    ) -> None:
        self.task, self.scheduler = task, scheduler
        self._on_trace = on_trace
        self._handles: list[RolloutHandle] = [
            scheduler.submit(RolloutRequest(question=task.question, config=config))
            for config in configs
        ]

    @property
    def is_done(self) -> bool:
        """Whether all samples ended."""
        return all(handle.is_done for handle in self._handles)

    def cancel(self) -> None:
        """Stop the samples in progress."""
        for handle in self._handles:
            handle.cancel()

    def result(self, canonical: Canonical) -> TaskResult:
        """Return the result of all samples. An error of the backend is raised."""
        traces = []
        for number, handle in enumerate(self._handles):
            if handle.error is not None and handle.is_fatal:
                raise handle.error
            traces.append(_answered(handle.result()).model_copy(update={"sample": number}))
            if self._on_trace is not None:
                self._on_trace(traces[-1])
        answers = [trace.answer for trace in traces]
        chosen, agreement = vote(self.task.question, answers, canonical)
        failed = [trace.error for trace in traces if trace.stop is StopReason.FAILED]
        error = _one_line(failed[0]) if len(failed) == len(traces) else None
        answer = None if chosen is None else answers[chosen]
        return TaskResult(self.task, tuple(traces), answer, agreement, error, chosen or 0)


def _answered(trace: Trace) -> Trace:
    """Return a trace whose answer is also read from a reply without a box."""
    answer = extract_trace_answer(trace)
    return trace if answer == trace.answer else trace.model_copy(update={"answer": answer})


def _with_seed(config: RolloutConfig, number: int) -> RolloutConfig:
    sampling = config.sampling
    seeded = sampling.model_copy(update={"seed": sampling.seed + number})
    return config.model_copy(update={"sampling": seeded})


# --- agreement ---


def vote(
    question: Question, answers: Sequence[str | None], canonical: Canonical | None = None
) -> tuple[int | None, float]:
    """Return the index of the first sample with the most frequent answer, and the share of this answer of all samples.

    Among equals the first one wins.

    Args:
        question: of the answers.
        answers: of all samples; None for a sample without an answer.
        canonical: decides which answers are the same; by default `canonical_answer`.

    >>> vote(Question(id="1", text="Which colour?", media=()), ["Red.", "blue", "red", None])
    (0, 0.5)
    """
    to_key = canonical or canonical_answer
    keys = [None if one is None else to_key(one, question) for one in answers]
    counts = Counter(key for key in keys if key is not None)
    if not counts:
        return None, 0.0
    key, count = counts.most_common(1)[0]
    return keys.index(key), count / len(answers)


def canonical_answer(answer: str, question: Question) -> str:
    """Return an answer in the form in which equal answers are equal texts: the letter of an option, a number, or words.

    >>> count = Question(id="1", text="How many?", media=(), answer_type=AnswerType.INTEGER)
    >>> canonical_answer("three", count), canonical_answer("3 dogs", count)
    ('3', '3')
    """
    if question.options:
        return matching_option(answer, question.options) or stripped(answer)
    if question.answer_type in (AnswerType.NUMBER, AnswerType.INTEGER):
        number = parse_number(answer)
        if number is not None:
            return f"{number.value:.12g}{number.unit}"
    return stripped(normalise_text(answer))


def _one_line(text: str | None) -> str:
    return " ".join((text or "no reason is recorded").split())
