"""One evaluation run in a folder: traces as they come, a summary at the end, and resuming after a kill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Self

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.files import cannot_write, keep_settings, reason, write_bytes, write_json
from pixel_reasoner.grading import is_right
from pixel_reasoner.models import Model
from pixel_reasoner.rollout import Rules, ask_many, settings_of
from pixel_reasoner.trace import Question, Stop, Trace, anchored, load_traces

TRACES = "traces.jsonl"
SUMMARY = "summary.json"
SETTINGS = "settings.json"

OnTrace = Callable[[Trace], None]


def evaluate(  # noqa: PLR0913 - what to ask, whom, how, where to, and two ways to watch it
    questions: Sequence[Question],
    model: Model,
    rules: Rules,
    out: Path,
    *,
    task: dict[str, Any],
    batch_size: int = 16,
    on_trace: OnTrace = lambda trace: None,
    family_of: Callable[[Trace], str] | None = None,
) -> dict[str, Any]:
    """Ask every question that is not yet answered in `out`, and summarise all.

    Writes `out/settings.json`, `out/traces.jsonl` (a line a trace, at once) and `out/summary.json`. Media paths that
    are relative are relative to `out`. Questions that failed before are tried again.

    Args:
        questions: all questions of the run.
        model: what answers them.
        rules: how.
        out: the folder of the run.
        task: what was asked, for the settings: name, split, seed, ...
        batch_size: questions that move together.
        on_trace: sees every trace, those of an earlier start first.
        family_of: for figures by family.

    Raises:
        InputError: two questions have one id.
        UsageError: `out` holds a run with other settings.
        OutputError: `out` cannot be written.
    """
    _distinct_ids(questions)
    # As they will be read back: a tuple is then a list.
    settings = json.loads(json.dumps({"task": task, **settings_of(model, rules)}))
    keep_settings(out / SETTINGS, settings)
    with TraceLog(out / TRACES) as log:
        done = log.answered()
        for trace in done:
            on_trace(_anchored(trace, out))
        ids = {trace.question.id for trace in done}
        waiting = {q.id: q for q in questions if q.id not in ids}
        here = (anchored(question, out) for question in waiting.values())
        for trace in ask_many(here, model, rules, batch_size=batch_size):
            # The log keeps paths as they were given, so that the folder can be moved.
            log.append(trace.model_copy(update={"question": waiting[trace.question.id]}))
            on_trace(trace)
    summary = {**summarize(load_run(out), family_of), "settings": settings}
    write_json(summary, out / SUMMARY)
    return summary


def evaluate_disturbed(  # noqa: PLR0913 - as `evaluate`
    summary: dict[str, Any],
    questions: Sequence[Question],
    model: Model,
    rules: Rules,
    out: Path,
    *,
    task: dict[str, Any],
    batch_size: int = 16,
    on_trace: OnTrace = lambda trace: None,
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
    again = [anchored(q, Path("..")) for q in questions if q.id in right]
    disturbed = evaluate(
        again,
        model,
        rules.model_copy(update={"disturb": True}),
        out / "disturbed",
        task=task,
        batch_size=batch_size,
        on_trace=on_trace,
    )
    told = {"disturbed": disturbed["count"], "recovery_rate": disturbed["accuracy"]}
    summary = {**summary, **told}
    write_json(summary, out / SUMMARY)
    return summary


def load_run(path: Path) -> Iterator[Trace]:
    """The traces of a run folder or a `traces.jsonl`, media paths relative to where it lies.

    Raises:
        InputError: there is none.
    """
    file = path / TRACES if path.is_dir() else path
    for trace in load_traces(file):
        yield _anchored(trace, file.parent)


def _anchored(trace: Trace, folder: Path) -> Trace:
    return trace.model_copy(update={"question": anchored(trace.question, folder)})


class TraceLog:
    """A `traces.jsonl` that grows a whole line at a time, whatever interrupts it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: FileIO

    def __enter__(self) -> Self:
        """Open the log and drop a line that a kill cut off."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self._open()
            self.file.seek(0)
            content = self.file.read()
            self.file.truncate(content.rfind(b"\n") + 1)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self.file.close()

    def _open(self) -> FileIO:
        # Without a buffer: it would hold on to what a full disk refused, and write it later.
        return self.path.open("a+b", buffering=0)

    def answered(self) -> list[Trace]:
        """The traces of questions that could be asked; failed ones leave the log, to be tried again."""
        kept = [trace for trace in load_traces(self.path) if trace.stop is not Stop.FAILED]
        lines = "".join(trace.to_line() + "\n" for trace in kept).encode()
        if len(lines) != self.path.stat().st_size:
            write_bytes(lines, self.path)
            self.file.close()
            self.file = self._open()
        return kept

    def append(self, trace: Trace) -> None:
        """Write one trace, whole or not at all.

        Raises:
            OutputError: the disk is full or gone.
        """
        end = self.file.seek(0, 2)
        rest = trace.to_line().encode() + b"\n"
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.file.truncate(end)
            raise OutputError(
                expected="room for one more trace",
                got=f"{self.path}: {reason(error)}",
                fix="free some space and run the same command again; what is done is kept",
            ) from error


def _distinct_ids(questions: Sequence[Question]) -> None:
    """A run tells its questions apart by their ids: it resumes by them."""
    for name, times in Counter(question.id for question in questions).most_common(1):
        if times > 1:
            raise InputError(
                expected="an id of its own for every question",
                got=f"{times} questions with id {name!r}",
                fix="rename or remove all but one",
            )
