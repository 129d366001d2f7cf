"""Expert traces from recorded rollouts: files of rollouts, settings and summary of a run (`data.hindsight`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_reasoner.data.hindsight import (
    LEGIBLE_PX,
    HindsightSettings,
    HindsightWriter,
    RolloutUnit,
)
from pixel_reasoner.data.synth import SynthSettings, synthesize as write_traces
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.media_url import check_local
from pixel_reasoner.schema.trace import Trace, load_traces
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter

SAMPLES = "samples"
"""folder of sampled rollouts in the output of RL"""
_STEP = re.compile(r"rollouts-(\d+)\.jsonl")
_WHAT = "a folder of `eval` or `train rl`, or a file of rollouts"


@dataclass(frozen=True, kw_only=True)
class HindsightSpec:
    """Rollouts, and the folder of the traces."""

    rollouts: tuple[Path, ...]
    """files of traces, folders of evaluations, or output folders of RL"""
    out: Path
    """folder of the traces; an existing one is resumed"""
    keep_hits: bool = True
    """whether rollouts whose first call shows the asked item, with a right answer, are kept"""
    legible_px: float = LEGIBLE_PX
    """height in pixels from which a character in a crop is legible"""


def write_hindsight(
    spec: HindsightSpec, progress: ProgressReporter | None = None
) -> dict[str, Any]:
    """Write or resume a run and return its summary.

    Args:
        spec: rollouts and folder.
        progress: receives the number of rollouts.

    Raises:
        UsageError: `out` contains a run with other settings or on other rollouts.
        InputError: the rollouts cannot be read, or none gives a trace.
        OutputError: `out` cannot be written.
    """
    check_local(spec.out, "--out")
    files = [file for path in spec.rollouts for file in rollout_files(path)]
    traces = [one for file in files for one in _units(file)]
    settings = _settings(spec, [unit.trace for unit in traces])
    update = (progress or NoProgress()).start("rollouts", len(traces))
    num_written = 0

    def on_traces(count: int) -> None:
        nonlocal num_written
        num_written = count

    def units() -> Iterator[RolloutUnit]:
        for number, unit in enumerate(traces):
            update(number, f"{num_written} traces")
            yield unit
        update(len(traces), f"{num_written} traces")

    writer = HindsightWriter(spec.out)
    return write_traces(settings, units(), spec.out, on_traces=on_traces, map_units=writer)


def rollout_files(path: Path) -> list[Path]:
    """Return the files of rollouts of a path, in the order of training steps.

    Raises:
        InputError: there is none.
    """
    check_local(path, "rollouts")
    if path.is_file():
        return [path]
    if (path / TRACES).is_file():
        return [path / TRACES]
    for folder in (path / SAMPLES, path):
        found = [
            (match, file) for file in folder.glob("*") if (match := _STEP.fullmatch(file.name))
        ]
        if found:
            return [file for _, file in sorted(found, key=lambda pair: int(pair[0][1]))]
    got = f"{path}, which has none" if path.exists() else f"{path}, which does not exist"
    raise InputError(expected="recorded rollouts", got=got, fix=f"give {_WHAT}")


def _units(file: Path) -> Iterator[RolloutUnit]:
    for number, trace in enumerate(load_traces(file), start=1):
        yield RolloutUnit(f"{file.name} {number}", trace)


def _settings(spec: HindsightSpec, traces: Sequence[Trace]) -> SynthSettings:
    """Return the settings of a run: its traces have the format of the first rollout."""
    if not 1 <= spec.legible_px < 10_000:
        raise UsageError(
            expected="--legible-px of 1 or more", got=f"{spec.legible_px:g}", fix="correct it"
        )
    named = next((one.settings for one in traces if one.settings.dialect), None)
    if named is None:
        raise InputError(
            expected="rollouts that record the dialect of their model",
            got="none" if traces else "no rollouts",
            fix=f"give {_WHAT}",
        )
    return SynthSettings(
        source="hindsight " + " ".join(map(str, spec.rollouts)),
        count=len(traces),
        dialect=named.dialect,
        budgets=named.budgets or get_dialect(named.dialect).budgets,
        operations=named.operations,
        hindsight=HindsightSettings(keep_hits=spec.keep_hits, legible_px=spec.legible_px),
    )
