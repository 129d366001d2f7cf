"""One evaluation run in a folder: traces as they come, a summary at the end, and resuming after a kill.

settings.json   what decides the answers: model, dialect, budgets, limits, decoding, and which questions
traces.jsonl    a line a question (and sample), at once; in the order of the questions when the run is done
summary.json    figures, rows that were dropped, and the settings, scorer, versions and hardware they stand for
without/        the same without operations (`evaluate_compared`)
disturbed/      the same with first looks that miss (`evaluate_disturbed`)
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.compare import compare, differing, run_settings
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.files import keep_settings, write_json
from pixel_reasoner.models.api import Model
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import settings_of, versions
from pixel_reasoner.runs.cache import ResponseCache
from pixel_reasoner.runs.store import TraceLog
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace, load_traces, save_traces
from pixel_reasoner.scoring.grading import Scorer, is_right

TRACES = "traces.jsonl"
SUMMARY = "summary.json"
SETTINGS = "settings.json"
WITHOUT = "without"

OnTrace = Callable[[Trace], None]


class Plan(NamedTuple):
    """What is asked, whom, and how it is counted."""

    questions: Sequence[Question]
    model: Model
    rules: RolloutConfig
    task: dict[str, Any]
    """what was asked, for the settings: name, split, seed, ..."""
    batch_size: int = 16
    """questions that move together"""
    samples: int = 1
    """how often each question is asked, with a seed of its own each time"""
    scorer: Scorer = Scorer.TYPED
    rows: dict[str, Any] | None = None
    """what became of a benchmark's rows, for the summary"""
    family_of: Callable[[Trace], str] | None = None
    """for figures by family"""
    cache: ResponseCache | None = None
    """answers of earlier runs"""


def evaluate(plan: Plan, out: Path, on_trace: OnTrace = lambda trace: None) -> dict[str, Any]:
    """Ask every question that is not yet answered in `out`, and summarise all.

    Media paths that are relative are relative to `out`. Questions that failed before are tried again.

    Args:
        plan: what to ask.
        out: the folder of the run.
        on_trace: sees every trace, those of an earlier start first.

    Raises:
        InputError: two questions have one id.
        UsageError: `out` holds a run with other settings.
        OutputError: `out` cannot be written.
    """
    settings = answer(plan, out, on_trace)
    return _summarized(plan, settings, out)


def evaluate_compared(
    plan: Plan, out: Path, on_trace: OnTrace = lambda trace: None
) -> dict[str, Any]:
    """Ask everything twice, with operations and (in `out/without`) without: what did looking again gain and harm?

    Arguments and errors are those of `evaluate`. The summary is that of the run with operations, and `with`, `without`, `gain`, `harm`,
    `both`, `neither` and `difference` (`compare`).
    """
    settings = answer(plan, out, on_trace)
    bare = plan.rules.model_copy(update={"operations": False, "perturb": False})
    beside = [with_media_root(question, Path("..")) for question in plan.questions]
    without = plan._replace(questions=beside, rules=bare)
    _summarized(without, answer(without, out / WITHOUT, on_trace), out / WITHOUT)
    compared = compare(load_run(out), load_run(out / WITHOUT), plan.scorer, plan.family_of)
    return _summarized(plan, settings, out, compared)


def _summarized(
    plan: Plan, settings: dict[str, Any], out: Path, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    traces = list(load_run(out))
    summary = {
        **summarize(traces, plan.family_of, plan.scorer),
        **(more or {}),
        **({"rows": plan.rows} if plan.rows is not None else {}),
        **_stands_for(traces, settings, plan.scorer),
    }
    write_json(summary, out / SUMMARY)
    return summary


def _stands_for(
    traces: Sequence[Trace], settings: dict[str, Any], scorer: Scorer
) -> dict[str, Any]:
    """What decides the figures of a summary, beside the traces."""
    return {
        "data": fingerprint(trace.question for trace in traces if not trace.sample),
        "scorer": str(scorer),
        "settings": settings,
        "versions": versions(),
        "hardware": hardware(),
    }


def answer(plan: Plan, out: Path, on_trace: OnTrace = lambda trace: None) -> dict[str, Any]:
    """Ask every question that is not yet answered in `out`; returns the settings of the run.

    Arguments and errors are those of `evaluate`.
    """
    _distinct_ids(plan.questions)
    settings = {
        "task": {**plan.task, "samples": plan.samples},
        **settings_of(plan.model, plan.rules).to_dict(),
    }
    # As they will be read back: a tuple is then a list.
    settings = dict(json.loads(json.dumps(settings)))
    keep_settings(out / SETTINGS, settings)
    with TraceLog(out / TRACES) as log:
        done = log.answered()
        _same_questions(plan.questions, done, out)
        for trace in done:
            on_trace(_anchored(trace, out))
        seen = {(trace.question.id, trace.sample) for trace in done}
        for sample in range(plan.samples):
            waiting = {q.id: q for q in plan.questions if (q.id, sample) not in seen}
            for trace in _asked(plan, list(waiting.values()), sample, out):
                # The log keeps paths as they were given, so that the folder can be moved.
                log.append(trace.model_copy(update={"question": waiting[trace.question.id]}))
                on_trace(trace)
        log.put_in_order([question.id for question in plan.questions])
    return settings


def _asked(plan: Plan, questions: Sequence[Question], sample: int, out: Path) -> Iterator[Trace]:
    """The traces of one sample of questions, those that the cache has first."""
    decoding = plan.rules.sampling
    rules = plan.rules.model_copy(
        update={"sampling": decoding.model_copy(update={"seed": decoding.seed + sample})}
    )
    here = [with_media_root(question, out) for question in questions]
    if plan.cache is None:
        found, keys = {}, {}
    else:
        keys = plan.cache.keys(here, settings_of(plan.model, rules))
        found = {id_: trace for id_, key in keys.items() if (trace := plan.cache.get(key))}
    for question in here:
        if question.id in found:
            told = {"question": question, "sample": sample}
            yield found[question.id].model_copy(update=told)
    left = (question for question in here if question.id not in found)
    for trace in ask_many(left, plan.model, rules, batch_size=plan.batch_size):
        if plan.cache is not None:
            plan.cache.put(keys[trace.question.id], trace)
        yield trace.model_copy(update={"sample": sample})


def fingerprint(questions: Iterable[Question]) -> str:
    """A hash of what is asked: texts, options, accepted answers, and which media.

    >>> one = Question(id="1", text="How many?", media=(), answer=("2",))
    >>> fingerprint([one]) == fingerprint([one]) != fingerprint([one, one])
    True
    """
    digest = hashlib.sha256()
    for question in questions:
        media = [(m.kind, Path(m.path).name, m.start_s, m.end_s) for m in question.media]
        asked = (question.id, question.text, question.answer, question.answer_type, media)
        digest.update(json.dumps([*asked, question.options]).encode())
    return digest.hexdigest()[:16]


@cache
def hardware() -> dict[str, Any]:
    """What a run was made on, as far as it is known."""
    found: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        ]
    return found


def evaluate_disturbed(
    summary: dict[str, Any], plan: Plan, out: Path, on_trace: OnTrace = lambda trace: None
) -> dict[str, Any]:
    """Ask once more what a run answered right with a look, with a first look that misses the evidence.

    The traces go to `out/disturbed`; the run's summary gets `disturbed` (how many were asked) and `recovery_rate` (the
    share that is answered right all the same). Arguments are those of `evaluate`, whose summary comes first.
    """
    right = {
        trace.question.id
        for trace in load_run(out)
        if trace.question.needs_look and trace.executed and is_right(trace)
    }
    again = [with_media_root(q, Path("..")) for q in plan.questions if q.id in right]
    rules = plan.rules.model_copy(update={"perturb": True})
    disturbed = evaluate(
        plan._replace(questions=again, rules=rules, family_of=None, rows=None),
        out / "disturbed",
        on_trace,
    )
    told = {"disturbed": disturbed["count"], "recovery_rate": disturbed["accuracy"]}
    summary = {**summary, **told}
    write_json(summary, out / SUMMARY)
    return summary


def merge(runs: Sequence[Path], out: Path, scorer: Scorer = Scorer.TYPED) -> dict[str, Any]:
    """Put the shards of one run together, in the order of its questions; returns the summary.

    Raises:
        UsageError: they are not the shards of one run, or some are missing.
        OutputError: `out` cannot be written.
    """
    shards: dict[int, Path] = {}
    common: dict[str, Any] = {}
    for run in runs:
        settings = run_settings(run)
        task = settings["task"] = dict(settings.get("task", {}))
        shard = task.pop("shard", "1/1")
        settings["of"] = int(shard.partition("/")[2])
        if common and (names := differing(common, settings)):
            name, (one, other) = next(iter(names.items()))
            raise UsageError(
                expected=f"shards of one run: {name} = {json.dumps(one)}",
                got=f"{json.dumps(other)} in {run}",
                fix="name the folders of one run's shards",
            )
        common = settings
        shards[int(shard.partition("/")[0])] = run
    of = common.pop("of")
    if missing := sorted(set(range(1, of + 1)) - set(shards)):
        raise UsageError(
            expected=f"all {of} shards",
            got=f"no {', '.join(f'{number}/{of}' for number in missing)}",
            fix="run those, or name their folders too",
        )
    parts = [_by_sample(load_run(shards[number])) for number in sorted(shards)]
    traces = [
        trace
        for sample in range(int(common["task"].get("samples", 1)))
        for row in zip_longest(*(part.get(sample, []) for part in parts))
        for trace in row
        if trace is not None
    ]
    save_traces(traces, out / TRACES)
    write_json(common, out / SETTINGS)
    summary = {
        **summarize(traces, None, scorer),
        **_stands_for(traces, common, scorer),
    }
    write_json(summary, out / SUMMARY)
    return summary


def _by_sample(traces: Iterable[Trace]) -> dict[int, list[Trace]]:
    samples: dict[int, list[Trace]] = {}
    for trace in traces:
        samples.setdefault(trace.sample, []).append(trace)
    return samples


def load_run(path: Path) -> Iterator[Trace]:
    """The traces of a run folder or a `traces.jsonl`, media paths relative to where it lies.

    Raises:
        InputError: there is none.
    """
    file = path / TRACES if path.is_dir() else path
    for trace in load_traces(file):
        yield _anchored(trace, file.parent)


def _anchored(trace: Trace, folder: Path) -> Trace:
    return trace.model_copy(update={"question": with_media_root(trace.question, folder)})


def _same_questions(questions: Sequence[Question], done: Iterable[Trace], out: Path) -> None:
    """An id stands for one question: a run is not to mix answers to two."""
    known = {question.id: question for question in questions}
    for trace in done:
        now = known.get(trace.question.id, trace.question)
        if fingerprint([now]) != fingerprint([trace.question]):
            raise UsageError(
                expected=f"the questions of the run in {out}",
                got=f"another question with id {now.id!r}: its text, options, answer or media changed",
                fix="name another --out, or delete this one",
            )


def _distinct_ids(questions: Sequence[Question]) -> None:
    """A run tells its questions apart by their ids: it resumes by them."""
    for name, times in Counter(question.id for question in questions).most_common(1):
        if times > 1:
            raise InputError(
                expected="an id of its own for every question",
                got=f"{times} questions with id {name!r}",
                fix="rename or remove all but one",
            )
