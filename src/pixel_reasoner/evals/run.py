"""Evaluation run in a folder: traces are appended as they finish, a summary follows, and a killed run resumes.

settings.json   all settings that determine the answers: model, dialect, budgets, limits, sampling, questions
traces.jsonl    one line per question and sample; in the order of the questions when the run is complete (`runs.store`)
summary.json    metrics, dropped rows, and the settings, scorer, versions and hardware of the run
without/        the same without operations (`evaluate_compared`)
disturbed/      the same with an off-target first crop (`evaluate_perturbed`)
forced.jsonl    answers that were forced before and after each call (`evaluate_forced`)

Questions and traces are streamed: memory does not depend on the number of questions, except for a few numbers per
question.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.compare import compare
from pixel_reasoner.evals.forced import force_answers
from pixel_reasoner.evals.operations import add_forced
from pixel_reasoner.evals.stats import FamilyOf, summarize
from pixel_reasoner.files import write_json
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.state import collect_settings, versions
from pixel_reasoner.rollout.strategies import SINGLE, ask_many_by_strategy, parse_strategy
from pixel_reasoner.runs.cache import ResponseCache
from pixel_reasoner.runs.fingerprint import QuestionDigest, fingerprint
from pixel_reasoner.runs.folder import (
    SETTINGS,
    SUMMARY,
    check_run_settings,
    load_run,
    resolve_media_paths,
    write_or_check_run_settings,
)
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.media_folders import collect_folders, note_media_folders
from pixel_reasoner.runs.store import TRACES, RunStore
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.confidence import Calibration, fit_calibration, save_calibration
from pixel_reasoner.scoring.grading import Outcome, Scorer, grade_reply, is_right
from pixel_reasoner.sources.base import QuestionStream

__all__ = [
    "SETTINGS",
    "SUMMARY",
    "TRACES",
    "WITHOUT",
    "Evaluation",
    "evaluate",
    "evaluate_compared",
    "evaluate_forced",
    "evaluate_perturbed",
    "fingerprint",
    "load_run",
    "run_questions",
]

WITHOUT = "without"
PERTURBED = "disturbed"

OnTrace = Callable[[Trace], None]


class Evaluation(NamedTuple):
    """Questions, model and scorer of an evaluation."""

    questions: Iterable[Question]
    """re-iterable: a list, or a `QuestionStream` that parses the file again on each iteration"""
    model: GenerationModel
    config: RolloutConfig
    task: dict[str, Any]
    """description of the questions for the settings: name, split, seed, ..."""
    batch_size: int = 16
    """maximum number of concurrent questions"""
    samples: int = 1
    """answers per question, each with another random seed"""
    scorer: Scorer = Scorer.TYPED
    rows: dict[str, Any] | None = None
    """row counts of a benchmark, for the summary"""
    family_of: FamilyOf | None = None
    """returns the family of a trace, for metrics by family"""
    cache: ResponseCache | None = None
    """cached answers of earlier runs"""
    strategy: str = SINGLE
    """strategy that combines rollouts into one answer: its name, and options as `NAME:key=value,key=value`"""
    calibration: Path | None = None
    """file that calibrates the confidence of the strategy"""


def evaluate(
    evaluation: Evaluation, out: Path, on_trace: OnTrace = lambda trace: None
) -> dict[str, Any]:
    """Ask every question without an answer in `out`, and return the summary of the run.

    Relative media paths are relative to `out`. Failed questions are retried.

    Args:
        evaluation: questions, model and scorer.
        out: the folder of the run.
        on_trace: called with every trace, starting with the existing ones.

    Raises:
        InputError: two questions have the same id.
        UsageError: `out` contains a run with other settings.
        OutputError: `out` cannot be written, or another process writes to it.
    """
    with FolderLock(out):
        settings = run_questions(evaluation, out, on_trace)
        return _write_summary(evaluation, settings, out)


def evaluate_compared(
    evaluation: Evaluation, out: Path, on_trace: OnTrace = lambda trace: None
) -> dict[str, Any]:
    """Ask everything with operations and (in `out/without`) without, and measure gain and harm of operations.

    Arguments and errors are the same as for `evaluate`. The summary belongs to the run with operations, plus `with`,
    `without`,
    `gain`, `harm`, `both`, `neither` and `difference` (`compare`).
    """
    config = evaluation.config.model_copy(update={"operations": (), "perturb": False})
    without = evaluation._replace(questions=one_folder_up(evaluation.questions), config=config)
    with FolderLock(out):
        settings = run_questions(evaluation, out, on_trace)
        evaluate(without, out / WITHOUT, on_trace)
        compared = compare(
            load_run(out), load_run(out / WITHOUT), evaluation.scorer, evaluation.family_of
        )
        return _write_summary(evaluation, settings, out, compared)


def evaluate_perturbed(
    summary: dict[str, Any],
    evaluation: Evaluation,
    out: Path,
    on_trace: OnTrace = lambda trace: None,
) -> dict[str, Any]:
    """Ask again the questions that a run answered right with an operation, with an off-target first crop.

    The traces are written to `out/disturbed`. The run's summary gets `disturbed` (number of questions) and
    `recovery_rate` (share
    of answers that are still right). Arguments are the same as for `evaluate`, which must have finished in `out`.
    """
    with FolderLock(out):
        right = {
            trace.question.id
            for trace in load_run(out)
            if trace.question.needs_look and trace.executed and is_right(trace)
        }
        chosen = QuestionStream(partial(_with_ids, evaluation.questions, right))
        config = evaluation.config.model_copy(update={"perturb": True})
        disturbed = evaluate(
            evaluation._replace(
                questions=one_folder_up(chosen), config=config, family_of=None, rows=None
            ),
            out / PERTURBED,
            on_trace,
        )
        summary = {
            **summary,
            "disturbed": disturbed["count"],
            "recovery_rate": disturbed["accuracy"],
        }
        write_json(summary, out / SUMMARY)
    return summary


def evaluate_forced(
    summary: dict[str, Any],
    evaluation: Evaluation,
    out: Path,
    on_answer: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Force an answer before and after each call of a run, and add how often each operation helps and hurts.

    The summary's `by_operation` gets `helped`, `hurt` and `net` (`evals.operations`). Arguments are the same as for
    `evaluate`, which must have finished in `out`.
    """
    with FolderLock(out):
        pairs = force_answers(
            partial(load_run, out),
            evaluation.model,
            evaluation.config,
            out,
            scorer=evaluation.scorer,
            batch_size=evaluation.batch_size,
            on_answer=on_answer,
        )
        by_operation = add_forced(summary.get("by_operation", {}), pairs)
        summary = {**summary, "by_operation": by_operation}
        write_json(summary, out / SUMMARY)
    return summary


def one_folder_up(questions: Iterable[Question]) -> QuestionStream:
    """Return the questions with media paths for a run in a subfolder."""
    return QuestionStream(lambda: (with_media_root(one, Path("..")) for one in questions))


def _with_ids(questions: Iterable[Question], ids: set[str]) -> Iterator[Question]:
    return (question for question in questions if question.id in ids)


# --- asking ---


def run_questions(
    evaluation: Evaluation, out: Path, on_trace: OnTrace = lambda trace: None
) -> dict[str, Any]:
    """Ask every question without an answer in `out`, and return the settings of the run.

    Arguments and errors are the same as for `evaluate`.
    """
    _check_can_repeat(evaluation.questions)
    settings = {
        "task": task_settings(evaluation.task, evaluation.samples),
        **collect_settings(evaluation.model, evaluation.config).to_dict(),
    }
    # Round trip through JSON: a tuple becomes a list.
    settings = dict(json.loads(json.dumps(settings)))
    with FolderLock(out):
        check_run_settings(out, settings)
        media = (item for one in evaluation.questions for item in with_media_root(one, out).media)
        note_media_folders(out, collect_folders(media))
        _ask_missing(evaluation, settings, out, on_trace)
    return settings


def task_settings(task: dict[str, Any], samples: int) -> dict[str, Any]:
    """Return the description of the questions for the settings."""
    return {**task, "samples": samples}


def _ask_missing(
    evaluation: Evaluation, settings: dict[str, Any], out: Path, on_trace: OnTrace
) -> None:
    """Ask every unanswered question of a run."""
    with RunStore(out, settings=settings) as store:
        store.discard_failed()
        store.set_questions(evaluation.questions)
        write_or_check_run_settings(out, settings)
        for trace in store.traces():
            if store.has_changed_question(trace.question):
                raise _other_question(trace.question.id, out)
            on_trace(resolve_media_paths(trace, out))
        for sample in range(evaluation.samples):
            for trace in _Asking(evaluation, store, sample).traces():
                on_trace(trace)
        store.complete()


class _Asking:
    """Rollouts of the unanswered questions of one sample."""

    def __init__(self, evaluation: Evaluation, store: RunStore, sample: int) -> None:
        sampling = evaluation.config.sampling
        seeded = sampling.model_copy(update={"seed": sampling.seed + sample})
        self.evaluation, self.store, self.sample = evaluation, store, sample
        self.config = evaluation.config.model_copy(update={"sampling": seeded})
        self.settings = collect_settings(evaluation.model, self.config)
        self.in_flight: dict[str, Question] = {}
        """questions in progress, with their original paths"""

    def traces(self) -> Iterator[Trace]:
        """Yield the new traces, cached ones first."""
        if self.evaluation.cache is not None:
            yield from self._cached(self.evaluation.cache)
        asked = ask_many_by_strategy(
            self.evaluation.strategy,
            self._waiting(),
            self.evaluation.model,
            self.config,
            batch_size=self.evaluation.batch_size,
            calibration=self.evaluation.calibration,
        )
        for trace in asked:
            if self.evaluation.cache is not None:
                key = self.evaluation.cache.key(trace.question, self.settings)
                self.evaluation.cache.put(key, trace)
            yield self._kept(trace, self.in_flight.pop(trace.question.id))

    def _new(self) -> Iterator[Question]:
        return self.store.missing(self.evaluation.questions, self.sample)

    def _waiting(self) -> Iterator[Question]:
        for question in self._new():
            self.in_flight[question.id] = question
            yield with_media_root(question, self.store.folder)

    def _cached(self, cache: ResponseCache) -> Iterator[Trace]:
        for question in self._new():
            here = with_media_root(question, self.store.folder)
            trace = cache.get(cache.key(here, self.settings))
            if trace is not None:
                yield self._kept(trace.model_copy(update={"question": here}), question)

    def _kept(self, trace: Trace, question: Question) -> Trace:
        """Append a trace to the store and return it with its sample."""
        trace = trace.model_copy(update={"sample": self.sample})
        # The store keeps the original paths, so that the folder can be moved.
        self.store.append(trace.model_copy(update={"question": question}))
        return trace


def _check_can_repeat(questions: Iterable[Question]) -> None:
    if iter(questions) is questions:
        raise UsageError(
            expected="questions that can be iterated several times",
            got=f"a {type(questions).__name__}, which can be iterated once",
            fix="give a list, or QuestionStream(lambda: ...), which opens the file again",
        )


def _other_question(id_: str, out: Path) -> UsageError:
    return UsageError(
        expected=f"the questions of the run in {out}",
        got=f"another question with id {id_!r}: its text, options, answer or media changed",
        fix="use another --out, or delete this folder",
    )


# --- the summary ---


def _write_summary(
    evaluation: Evaluation,
    settings: dict[str, Any],
    out: Path,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    digest = QuestionDigest()
    traces = with_digest(load_run(out), digest)
    metrics = summarize(traces, evaluation.family_of, evaluation.scorer)
    rows = evaluation.rows
    summary = {
        **metrics,
        **(more or {}),
        **({"rows": {**rows, "failed": len(metrics["failed"])}} if rows is not None else {}),
        **provenance(digest, settings, evaluation.scorer),
    }
    write_json(summary, out / SUMMARY)
    return summary


def write_calibration(evaluation: Evaluation, out: Path, path: Path) -> Calibration:
    """Fit the raw confidence of the strategy of a finished run to its grades, write it to a file, and return it.

    Raises:
        InputError: no trace has a confidence and a known answer.
        OutputError: the file cannot be written.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    digest = QuestionDigest()
    for trace in with_digest(load_run(out), digest):
        record, grade = trace.strategy, grade_reply(trace, evaluation.scorer)
        if record is None or record.confidence is None or grade is None:
            continue
        if trace.stop is not StopReason.FAILED:
            confidences.append(record.confidence)
            correct.append(grade.outcome is Outcome.CORRECT)
    if not confidences:
        raise InputError(
            expected="answers with a confidence and a known grade, for --fit-calibration",
            got=f"none in {out}",
            fix="use a strategy that records its confidence, and questions with answers",
        )
    described = evaluation.model.describe()
    calibration = fit_calibration(
        confidences,
        correct,
        strategy=parse_strategy(evaluation.strategy).text,
        data=digest.hexdigest(),
        model=f"{described.name} {described.weights}".strip(),
    )
    save_calibration(calibration, path)
    return calibration


def with_digest(traces: Iterable[Trace], digest: QuestionDigest) -> Iterator[Trace]:
    """Yield traces and add the questions of their first sample to a digest."""
    for trace in traces:
        if not trace.sample:
            digest.add(trace.question)
        yield trace


def provenance(digest: QuestionDigest, settings: dict[str, Any], scorer: Scorer) -> dict[str, Any]:
    """Return the summary entries that document the origin of its metrics."""
    return {
        "data": digest.hexdigest(),
        "scorer": str(scorer),
        "settings": settings,
        "versions": versions(),
        "hardware": hardware(),
    }


@cache
def hardware() -> dict[str, Any]:
    """Return the hardware of this machine, as far as it can be detected."""
    found: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        ]
    return found
