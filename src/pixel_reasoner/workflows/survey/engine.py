"""Answers to a stream of tasks, with constant memory. A failed task does not end the others."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pixel_reasoner.errors import UsageError, one_line
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

    @property
    def trace(self) -> Trace:
        """The first trace with the answer; the first trace if there is no answer."""
        question = self.task.question
        wanted = None if self.answer is None else canonical_answer(self.answer, question)
        return next((one for one in self.traces if _key(one) == wanted), self.traces[0])


FollowUps = Callable[[TaskResult], Iterable[Task]]
"""a result -> the tasks that depend on it"""


def never(id_: str) -> bool:
    """Return False: no task is done."""
    del id_
    return False


def no_tasks(result: TaskResult) -> Iterable[Task]:
    """Return no tasks."""
    del result
    return ()


def answer_tasks(  # noqa: PLR0913 - the interface of all workflows
    tasks: Iterable[Task | None],
    model: GenerationModel,
    config: RolloutConfig,
    *,
    samples: int = 1,
    batch_size: int = 16,
    is_done: Callable[[str], bool] = never,
    on_trace: Callable[[Trace], None] | None = None,
    follow_ups: FollowUps = no_tasks,
) -> Iterator[TaskResult]:
    r"""Yield the results of many tasks as they finish, in no fixed order. Tasks are read as they are needed.

    Args:
        tasks: may be endless. None means that there is no task now: the tasks in progress continue, and the source is asked
            again after `POLL_S` at most.
        model: a loaded model.
        config: limits, sampling, operations. Sample i of a task has the seed of the sampling plus i.
        samples: answers per task.
        batch_size: number of requests in progress; each sample is one.
        is_done: returns whether the task with an id is skipped, for a resumed run.
        on_trace: called with each trace when it is complete.
        follow_ups: returns the tasks that depend on a result. They are asked before further tasks.

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
    configs = [_with_seed(config, number) for number in range(samples)]
    scheduler, num_tasks = get_scheduler(model), max(1, batch_size // samples)
    waiting, next_tasks, active = iter(tasks), deque[Task](), list[_Active]()
    is_at_end = False
    try:
        while True:
            is_idle = False
            while len(active) < num_tasks and not is_idle and (next_tasks or not is_at_end):
                task = next_tasks.popleft() if next_tasks else next(waiting, _END)
                if isinstance(task, Task):
                    if not is_done(task.id):
                        active.append(_Active(task, scheduler, configs, on_trace))
                else:
                    is_idle, is_at_end = task is None, task is _END
            if not active:
                if is_at_end:
                    return
                time.sleep(POLL_S)
                continue
            scheduler.drive(partial(_has_done, active), POLL_S if is_idle else None)
            done, active = _split(active)
            for one in done:
                result = one.result()
                next_tasks.extend(follow_ups(result))
                yield result
    finally:
        for one in active:
            one.cancel()


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


class _Active:
    """The requests of a task in progress."""

    def __init__(
        self,
        task: Task,
        scheduler: RolloutScheduler,
        configs: Sequence[RolloutConfig],
        on_trace: Callable[[Trace], None] | None,
    ) -> None:
        self.task = task
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

    def result(self) -> TaskResult:
        """Return the result of all samples. An error of the backend is raised."""
        traces = []
        for number, handle in enumerate(self._handles):
            if handle.error is not None and handle.is_fatal:
                raise handle.error
            traces.append(_answered(handle.result()).model_copy(update={"sample": number}))
            if self._on_trace is not None:
                self._on_trace(traces[-1])
        answer, agreement = vote(self.task.question, [trace.answer for trace in traces])
        failed = [trace.error for trace in traces if trace.stop is StopReason.FAILED]
        error = one_line(ValueError(failed[0])) if len(failed) == len(traces) else None
        return TaskResult(self.task, tuple(traces), answer, agreement, error)


def _has_done(active: list[_Active]) -> bool:
    return any(one.is_done for one in active)


def _split(active: list[_Active]) -> tuple[list[_Active], list[_Active]]:
    done = [one for one in active if one.is_done]
    return done, [one for one in active if one not in done]


def _answered(trace: Trace) -> Trace:
    """Return a trace whose answer is also read from a reply without a box."""
    answer = extract_trace_answer(trace)
    return trace if answer == trace.answer else trace.model_copy(update={"answer": answer})


def _with_seed(config: RolloutConfig, number: int) -> RolloutConfig:
    sampling = config.sampling
    seeded = sampling.model_copy(update={"seed": sampling.seed + number})
    return config.model_copy(update={"sampling": seeded})


# --- agreement ---


def vote(question: Question, answers: Sequence[str | None]) -> tuple[str | None, float]:
    """Return the most frequent answer and its share of all answers. Among equals the first one wins.

    Args:
        question: decides which answers are the same (`canonical_answer`).
        answers: of all samples; None for a sample without an answer.

    >>> vote(Question(id="1", text="Which colour?", media=()), ["Red.", "blue", "red", None])
    ('Red.', 0.5)
    """
    keys = [None if one is None else canonical_answer(one, question) for one in answers]
    counts = Counter(key for key in keys if key is not None)
    if not counts:
        return None, 0.0
    key, count = counts.most_common(1)[0]
    return answers[keys.index(key)], count / len(answers)


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


def _key(trace: Trace) -> str | None:
    return None if trace.answer is None else canonical_answer(trace.answer, trace.question)
