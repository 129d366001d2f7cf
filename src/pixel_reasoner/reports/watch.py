"""Reports of running jobs: written again until the job is finished. The open page loads itself again (`Report.refresh_s`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.reports.build import WrittenReport
from pixel_reasoner.reports.training_log import is_training_finished, is_training_run
from pixel_reasoner.runs.folder import SETTINGS, SUMMARY
from pixel_reasoner.runs.lock import STORE

DEFAULT_INTERVAL_S = 10.0


class WatchedReport(NamedTuple):
    """A report of a running or finished job."""

    written: WrittenReport
    is_last: bool
    """whether the job is finished"""


def is_job_finished(source: Path) -> bool:
    """Return whether no process will add anything to a source: a file, or the folder of a finished run.

    A training run is finished when its model is written, an evaluation when its summary is, and when no process holds
    the lock of the folder.
    """
    if is_training_run(source):
        return is_training_finished(source)
    if (source / SETTINGS).exists():
        return (source / SUMMARY).exists() and not (source / STORE / "owner").exists()
    return source.is_file()


def watch(
    sources: Sequence[Path],
    write: Callable[[float], WrittenReport],
    interval_s: float = DEFAULT_INTERVAL_S,
    on_problem: Callable[[InputError], None] = lambda error: None,
) -> Iterator[WatchedReport]:
    """Write a report again and again, and yield each result. The last page, after the jobs are finished, is not refreshed.

    Args:
        sources: files and folders of the jobs.
        write: writes the report; its argument is `refresh_s` of the page.
        interval_s: time between two reports.
        on_problem: called with an error of a later report, for example about a row that is being written. The page
            before it is kept.

    Raises:
        InputError: the first report, or the report of the finished jobs, cannot be written.
    """
    is_first = True
    while True:
        is_last = all(
            map(is_job_finished, sources)
        )  # before reading, so that the last page is complete
        try:
            yield WatchedReport(write(0.0 if is_last else interval_s), is_last)
        except InputError as error:
            if is_first or is_last:
                raise
            on_problem(error)
        if is_last:
            return
        is_first = False
        time.sleep(interval_s)
