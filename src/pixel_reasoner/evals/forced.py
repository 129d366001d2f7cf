"""Forced answers before and after each call of a run: which operations help, and which hurt.

For every executed call the model answers twice without operations: with the conversation before the turn of the call, and
with the conversation after its result. The prompt is the one without operations of the dialect, so a further call is no
answer. Answers are stored in `forced.jsonl` of the run, one line per trace and number of turns; a killed run resumes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.evals.operations import ForcedPair
from pixel_reasoner.evals.stats import get_cluster, hash_number
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.grading import Outcome, Scorer, grade_reply

FORCED = "forced.jsonl"
Key = tuple[str, int, int]
"""(id of the question, sample, number of turns before the forced answer)"""


class _Asked(NamedTuple):
    key: Key
    trace: Trace


def force_answers(  # noqa: PLR0913 - what, with which model, and where
    traces: Callable[[], Iterable[Trace]],
    model: GenerationModel,
    config: RolloutConfig,
    out: Path,
    *,
    scorer: Scorer = Scorer.TYPED,
    batch_size: int = 16,
    on_answer: Callable[[], None] = lambda: None,
) -> list[ForcedPair]:
    """Ask for the missing forced answers of a run, and return whether each call helped.

    Args:
        traces: returns the traces of the run; called twice.
        model: of the run.
        config: of the run.
        out: folder of `forced.jsonl`.
        scorer: comparison of answers.
        batch_size: maximum number of concurrent requests.
        on_answer: called after each answer.

    Raises:
        OutputError: the file cannot be written.
    """
    path = out / FORCED
    known = _read(path)
    with Segment(path) as file:
        wanted = (one for one in _wanted(traces()) if one.key not in known)
        for asked, handle in _submitted(wanted, model, config, batch_size):
            trace = handle.result()
            if trace.stop is StopReason.FAILED:
                continue
            known[asked.key] = _is_right(trace, scorer)
            row = {"question": asked.key[0], "sample": asked.key[1], "turns": asked.key[2]}
            row |= {"answer": trace.answer, "right": known[asked.key]}
            file.append((json.dumps(row, ensure_ascii=False) + "\n").encode())
            on_answer()
    return list(_pairs(traces(), known))


def num_forced(traces: Iterable[Trace]) -> int:
    """Return the number of forced answers of a run."""
    return sum(1 for _ in _wanted(traces))


def _wanted(traces: Iterable[Trace]) -> Iterator[_Asked]:
    """Yield each trace once per number of turns after which an answer is forced."""
    for trace in traces:
        if not trace.question.answer or trace.stop is StopReason.FAILED:
            continue
        calls = [number for number, turn in enumerate(trace.turns) if turn.has_executed_call]
        for count in sorted({*calls, *(number + 1 for number in calls)}):
            yield _Asked((trace.question.id, trace.sample, count), trace)


def _submitted(
    wanted: Iterator[_Asked], model: GenerationModel, config: RolloutConfig, batch_size: int
) -> Iterator[tuple[_Asked, RolloutHandle]]:
    """Yield requests in order, with at most `batch_size` in progress."""
    scheduler = get_scheduler(model)
    waiting: deque[tuple[_Asked, RolloutHandle]] = deque()
    for asked in wanted:
        count = asked.key[2]
        limits = config.limits.model_copy(update={"max_turns": count + 1})
        forced = config.model_copy(update={"operations": (), "perturb": False, "limits": limits})
        opening = partial(_open, asked.trace, count, model, forced)
        request = RolloutRequest(question=asked.trace.question, config=forced, open_rollout=opening)
        waiting.append((asked, scheduler.submit(request)))
        if len(waiting) >= batch_size:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _open(
    trace: Trace, count: int, model: GenerationModel, config: RolloutConfig, cache: MediaCache
) -> Rollout:
    """Return the rollout after the first turns of a trace, without operations."""
    kept = trace.model_copy(update={"turns": trace.turns[:count]})
    budgets = trace.settings.budgets or model.budgets
    question = trace.question
    context = (
        cache.open(question, budgets, config.media, trace.sampling) if budgets is not None else None
    )
    rollout = Rollout(question, model, config, context)
    rollout.context = rollout.context.replay(kept)
    rollout.turns = list(kept.turns)
    return rollout


def _is_right(trace: Trace, scorer: Scorer) -> bool:
    grade = grade_reply(trace, scorer)
    return grade is not None and grade.outcome is Outcome.CORRECT


def _pairs(traces: Iterable[Trace], known: dict[Key, bool]) -> Iterator[ForcedPair]:
    for trace in traces:
        cluster = hash_number(get_cluster(trace.question))
        for number, turn in enumerate(trace.turns):
            before, after = (
                known.get((trace.question.id, trace.sample, count))
                for count in (number, number + 1)
            )
            if before is None or after is None:
                continue
            calls = turn.calls
            executed = [
                calls[one.call].name
                for one in turn.observations
                if one.error is None and one.call < len(calls)
            ]
            # Several operations of one turn share its effect.
            for name in dict.fromkeys(executed):
                yield ForcedPair(name, cluster, before, after)


def _read(path: Path) -> dict[Key, bool]:
    """Return the forced answers of a file; none if it does not exist. An incomplete last line is ignored."""
    known: dict[Key, bool] = {}
    if not path.exists():
        return known
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            known[row["question"], row["sample"], row["turns"]] = bool(row["right"])
        except (ValueError, KeyError, TypeError):
            continue
    return known
