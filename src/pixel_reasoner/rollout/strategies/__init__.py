"""Strategies: combination of several rollouts of one question into one answer.

A strategy is a function of a question, a scheduler and a configuration. It submits any number of requests, may fork
rollouts and continue them (`RolloutRequest.rollout`), and returns the selected trace. Its further parameters are its
options: `NAME:key=value,key=value`. Each strategy has its own file. Other packages register strategies in the entry point group `pixel_reasoner.strategies`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pixel_reasoner.errors import PluginError, UsageError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.operations._ocr import check_installed
from pixel_reasoner.plugin_checks import described, is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.scheduler import RolloutScheduler, get_scheduler
from pixel_reasoner.rollout.strategies.options import canonical_text, read_options, split_options
from pixel_reasoner.rollout.strategies.session import ScopedScheduler
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.confidence import Calibration, load_calibration


class Strategy(Protocol):
    """Function that answers a question with one or several rollouts."""

    def __call__(
        self, question: Question, scheduler: RolloutScheduler, config: RolloutConfig
    ) -> Trace:
        """Return the selected trace."""
        ...


STRATEGIES = Registry[Strategy](
    "strategy",
    package="pixel_reasoner.rollout.strategies",
    plural="strategies",
    check=is_function("strategy", "question", "scheduler", "config"),
)
SINGLE = "single"
"""name of the default: one rollout, whose text can be streamed"""
_PROPOSALS = "proposals"
_SAMPLED = frozenset({"majority_vote"})
"""strategies that compare rollouts, which are all equal at temperature 0"""
strategy = STRATEGIES.decorator
"""decorator that registers a function as a strategy, under its name or `name=`"""


class StrategySpec(NamedTuple):
    """Strategy with its options."""

    name: str
    options: dict[str, Any]
    """options that were given, as values of their types"""
    function: Strategy

    @property
    def text(self) -> str:
        """Canonical text: without options that have their default values. It is recorded in the settings of a run."""
        return canonical_text(self.name, self.function, self.options)

    @property
    def is_sampled(self) -> bool:
        """Whether it compares samples, which are all equal at temperature 0."""
        return self.name in _SAMPLED


def parse_strategy(text: str) -> StrategySpec:
    """Return the strategy of a text `NAME` or `NAME:key=value,key=value`.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: a strategy that cannot be used.
        UsageError: an unknown option, or a value that is not allowed.

    >>> parse_strategy("majority_vote:k=8").options, parse_strategy("majority_vote:k=5").text
    ({'k': 8}, 'majority_vote')
    >>> parse_strategy("majority_vote:k=1")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected the option k of the strategy majority_vote: input should be greater than or equal to 2; got '1'. Fix: for example majority_vote:k=5
    """
    name, given = split_options(text)
    function = STRATEGIES.get(name)
    return StrategySpec(name, read_options(name, function, given), function)


def check_strategy(
    text: str, config: RolloutConfig | None = None, calibration: Path | None = None
) -> StrategySpec:
    """Check that a strategy can be used with a configuration, before a model is loaded, and return it.

    Args:
        text: its name, and options as `NAME:key=value,key=value`.
        config: of its rollouts.
        calibration: file that calibrates its confidence.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: a strategy that cannot be used.
        UsageError: an invalid option, it needs a temperature above 0, or a calibration of another strategy.
        InputError: a file that is no calibration.

    >>> check_strategy("majority_vote", RolloutConfig())
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a temperature above 0 for the strategy majority_vote; got temperature 0, at which all rollouts are equal. Fix: set --temperature above 0, for example 0.7
    """
    spec = parse_strategy(text)
    if spec.is_sampled and config is not None and config.sampling.temperature == 0:
        raise UsageError(
            expected=f"a temperature above 0 for the strategy {spec.name}",
            got="temperature 0, at which all rollouts are equal",
            fix="set --temperature above 0, for example 0.7",
        )
    if spec.name == _PROPOSALS and spec.options.get("source") == "ocr":
        check_installed()
    if calibration is not None:
        _read_calibration(spec, calibration)
    return spec


def _read_calibration(spec: StrategySpec, path: Path | None) -> Calibration | None:
    if path is None:
        return None
    if spec.name == SINGLE:
        raise UsageError(
            expected="--calibration with a strategy that records its confidence, such as majority_vote",
            got=f"--strategy {SINGLE}",
            fix="name one, or leave out --calibration",
        )
    calibration = load_calibration(path)
    calibration.check_strategy(spec.text, path)
    return calibration


def ask_by_strategy(
    text: str,
    question: Question,
    model: GenerationModel,
    config: RolloutConfig | None = None,
    *,
    calibration: Path | None = None,
) -> Trace:
    r"""Answer one question by a strategy.

    Args:
        text: name of the strategy, and options as `NAME:key=value,key=value`.
        question: text and media.
        model: with a backend, or with `generate`.
        config: of its rollouts.
        calibration: file that calibrates its confidence.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: a strategy that cannot be used, or that returns something else than a trace.
        UsageError: an invalid option, or it needs a temperature above 0.
        InputError: a file that is no calibration.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from pixel_reasoner.schema.settings import SamplingParams
    >>> sampled = RolloutConfig(sampling=SamplingParams(temperature=0.7))
    >>> question = Question(id="1", text="Which colour?", media=())
    >>> trace = ask_by_strategy("majority_vote:k=3", question, ScriptedModel([r"\boxed{red}"]), sampled)
    >>> trace.answer, trace.notes, trace.strategy.confidence
    ('red', ('majority vote: red 3',), 1.0)
    """
    config = config or RolloutConfig()
    spec = check_strategy(text, config)
    fitted = _read_calibration(spec, calibration)
    return run_strategy(spec, question, get_scheduler(model), config, fitted)


def run_strategy(
    spec: StrategySpec,
    question: Question,
    scheduler: RolloutScheduler | ScopedScheduler,
    config: RolloutConfig,
    calibration: Calibration | None = None,
) -> Trace:
    """Return the trace that a strategy selects, with its time and its calibrated confidence.

    Raises:
        PluginError: it returns something else than a trace.
    """
    started = time.perf_counter()
    trace = spec.function(question, scheduler, config, **spec.options)  # type: ignore[arg-type]
    if not isinstance(trace, Trace):
        raise PluginError(
            expected=f"a Trace from the strategy {spec.name!r}",
            got=f"{described(trace)}, from {described(spec.function)}",
            fix="return the trace that counts",
        )
    record = trace.strategy
    if record is None:
        return trace
    if calibration is not None and record.confidence is not None:
        calibrated = round(calibration.apply(record.confidence), 4)
        record = record.model_copy(update={"calibrated": calibrated})
    seconds = time.perf_counter() - started
    return trace.model_copy(update={"strategy": record, "seconds": seconds})


def ask_many_by_strategy(
    text: str,
    questions: Iterable[Question],
    model: GenerationModel,
    config: RolloutConfig | None = None,
    *,
    batch_size: int = 16,
    calibration: Path | None = None,
) -> Iterator[Trace]:
    r"""Yield the traces of many questions as they finish, in no fixed order, with `batch_size` questions in progress.

    If the iteration is stopped early, all requests of the model are cancelled. For arguments see `ask_by_strategy`.

    Raises:
        UnknownNameError: there is no such strategy; the nearest names are listed.
        PluginError: the strategy cannot be used, or returns something else than a trace.
        UsageError: an invalid option, or it needs a temperature above 0.
        InputError: a file that is no calibration.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from pixel_reasoner.schema.settings import SamplingParams
    >>> sampled = RolloutConfig(sampling=SamplingParams(temperature=0.7))
    >>> questions = [Question(id=id, text="Which colour?", media=()) for id in "ab"]
    >>> traces = ask_many_by_strategy("majority_vote", questions, ScriptedModel([r"\boxed{red}"]), sampled)
    >>> sorted((trace.question.id, trace.answer) for trace in traces)
    [('a', 'red'), ('b', 'red')]
    """
    config = config or RolloutConfig()
    spec = check_strategy(text, config)
    fitted = _read_calibration(spec, calibration)
    if spec.name == SINGLE:
        yield from ask_many(questions, model, config, batch_size=batch_size)
        return
    waiting, active = iter(questions), set[Future[Trace]]()
    batch_size *= get_scheduler(model).num_copies
    # A strategy blocks until its rollouts end, so each question in progress has a thread.
    pool = ThreadPoolExecutor(batch_size, thread_name_prefix="strategy")
    try:
        while True:
            for question in islice(waiting, batch_size - len(active)):
                scheduler = get_scheduler(model)
                active.add(pool.submit(run_strategy, spec, question, scheduler, config, fitted))
            if not active:
                return
            done, active = wait(active, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        if active:
            get_scheduler(model).close()
        pool.shutdown(cancel_futures=True)
