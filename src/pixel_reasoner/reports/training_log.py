"""Folder of a training run, as a report reads it: `log.jsonl`, `run.json`, sampled traces.

    DIR/run.json                        settings
    DIR/log.jsonl                       one row of metrics per step
    DIR/samples/rollouts-10.jsonl       sampled rollouts of step 10 (RL), and their rewards in rollouts-10.rewards.json
    DIR/samples/step-10.jsonl           answers to validation questions after step 10
    DIR/model/                          the trained model, written at the end

SFT runs of earlier versions have no `log.jsonl`. Their metrics are in the newest checkpoint (`trainer_state.json`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines, read_json_object
from pixel_reasoner.reports.page import flat_settings
from pixel_reasoner.reports.training_panels import KNOWN
from pixel_reasoner.runs.lock import STORE
from pixel_reasoner.strict_json import parse_json

LOG = "log.jsonl"
"""log of a run, one row of metrics per step"""
RUN = "run.json"
"""settings of a run"""
MODEL = "model"
"""folder of the trained model"""
SAMPLES = "samples"
MAX_VALUE = 1e15
"""a larger value is not drawn: near it, doubles have no digits left for the ticks of an axis"""
_STATE = "trainer_state.json"
_ROLLOUTS = re.compile(r"rollouts-(\d{1,12})\.jsonl")
_VALIDATION = re.compile(r"step-(\d{1,12})\.jsonl")

LogRow = dict[str, Any]


class TrainingRun(NamedTuple):
    """A training run."""

    name: str
    folder: Path
    rows: Sequence[LogRow]
    """rows of the log; metrics are finite numbers or nan"""
    settings: dict[str, str]
    """with dotted names, as text"""
    is_finished: bool

    @property
    def is_rl(self) -> bool:
        """Whether it is an RL run."""
        return "group_size" in self.settings or any("rapr" in row for row in self.rows)

    @property
    def last_step(self) -> int:
        """Number of the last step in the log."""
        return int(max((row["step"] for row in self.rows), default=0))

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics that have a value."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if name != "step"]

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return step and value of a metric where it was logged. A value that is not finite is nan."""
        return [(row["step"], row[name]) for row in self.rows if row.get(name) is not None]


class SampleFile(NamedTuple):
    """File of traces that were sampled during training."""

    step: int
    path: Path
    is_rollouts: bool
    """whether they are rollouts of RL; otherwise answers to validation questions"""


def is_training_run(folder: Path) -> bool:
    """Return whether a folder contains a training run, also one that has not logged a step yet."""
    return (folder / LOG).is_file() or (folder / RUN).is_file()


def is_training_finished(folder: Path) -> bool:
    """Return whether the final model is written and no process is training in the folder."""
    return (folder / MODEL).is_dir() and not (folder / STORE / "owner").exists()


def read_training_run(folder: Path, name: str = "") -> TrainingRun:
    """Return a run with its log and settings.

    Raises:
        InputError: no log, an invalid log, or unreadable settings.
    """
    settings: dict[str, str] = {}
    if (folder / RUN).exists():
        fields = read_json_object(folder / RUN, "the settings of a training run", "delete the file")
        settings = dict(flat_settings(fields))
    rows = read_log(folder) if (folder / LOG).exists() or not settings else _checkpoint_rows(folder)
    return TrainingRun(name or folder.name, folder, rows, settings, is_training_finished(folder))


def read_log(folder: Path) -> list[LogRow]:
    """Return the rows of a run's log. Numbers that are not finite are nan.

    Raises:
        InputError: no log, or an invalid log.
    """
    rows = []
    what = f"the folder of a training run, with its {LOG}"
    for number, line in numbered_lines(folder / LOG, what):
        try:
            rows.append(_row(parse_json(line, is_finite=False)))
        except ValueError as error:
            raise InputError(
                expected="one JSON row of metrics per line",
                got=f"{folder / LOG}, line {number}: {error}",
                fix="delete this line",
            ) from error
    return rows


def sample_files(folder: Path) -> list[SampleFile]:
    """Return the files of sampled traces, the latest step first."""
    return sorted(_sample_files(folder / SAMPLES), key=lambda one: (-one.step, one.path.name))


def rewards_path(path: Path) -> Path:
    """Return the file with the rewards of sampled rollouts.

    >>> rewards_path(Path("rollouts-10.jsonl")).name
    'rollouts-10.rewards.json'
    """
    return path.with_suffix(".rewards.json")


def read_rewards(path: Path) -> list[dict[str, float]]:
    """Return the reward terms and advantage of each rollout of a file; empty if they were not recorded.

    Raises:
        InputError: the file cannot be read.
    """
    if not rewards_path(path).exists():
        return []
    found = read_json_object(rewards_path(path), "rewards of rollouts", "delete the file")
    rows = found.get("rollouts")
    return [_numbers(row) for row in rows] if isinstance(rows, list) else []


def _numbers(row: Any) -> dict[str, float]:
    fields = row.items() if isinstance(row, dict) else ()
    return {name: value for name, value in fields if _is_number(value) and math.isfinite(value)}


def _sample_files(folder: Path) -> Iterator[SampleFile]:
    for path in folder.glob("*.jsonl"):
        for pattern, is_rollouts in ((_ROLLOUTS, True), (_VALIDATION, False)):
            if match := pattern.fullmatch(path.name):
                yield SampleFile(int(match[1]), path, is_rollouts)


def _checkpoint_rows(folder: Path) -> list[LogRow]:
    """Return the metrics that the newest checkpoint contains; empty if there is none."""
    numbered = [
        (int(match[1]), path)
        for path in folder.glob(f"checkpoint-*/{_STATE}")
        if (match := re.fullmatch(r"checkpoint-(\d{1,12})", path.parent.name))
    ]
    if not numbered:
        return []
    path = max(numbered)[1]
    found = read_json_object(path, "the state of a trainer", "delete this checkpoint")
    return list(_state_rows(found.get("log_history"), path))


def _state_rows(rows: Any, path: Path) -> Iterator[LogRow]:
    for number, row in enumerate(rows if isinstance(rows, list) else (), start=1):
        try:
            yield _row(row)
        except ValueError as error:
            raise InputError(
                expected="rows of metrics in log_history",
                got=f"{path}, row {number}: {error}",
                fix="delete this checkpoint",
            ) from error


def _row(row: Any) -> LogRow:
    """Return a checked row of a log: its step and its metrics. Values that are no metrics are left out.

    Raises:
        ValueError: not an object, no valid step, or a known metric that is not a number.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}, not an object")
    found = {
        name: _metric(name, value)
        for name, value in row.items()
        if value is not None and (name in KNOWN or _is_number(value))
    }
    step: Any = row.get("step")
    if not _is_number(step):
        raise ValueError("step is not a number")
    if not abs(step) <= MAX_VALUE or step < 0:
        raise ValueError("step is not a whole number of 0 or more")
    return found


def _metric(name: str, value: Any) -> float:
    if not _is_number(value):
        raise ValueError(f"{name} is not a number")
    return value if abs(value) <= MAX_VALUE else math.nan  # false for nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def run_names(folders: Iterable[Path]) -> list[str]:
    """Return names of runs: the name of the folder, or the path where several have the same.

    >>> run_names([Path("a/rl"), Path("b/rl"), Path("c/sft")])
    ['a/rl', 'b/rl', 'sft']
    """
    paths = list(folders)
    names = [path.absolute().name for path in paths]
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]
