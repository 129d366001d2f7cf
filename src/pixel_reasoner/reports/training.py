"""Report of training runs: curves, final values, differing settings, and the traces sampled during training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.page import PageSummary, Row, write_rows
from pixel_reasoner.reports.schema import (
    Cell,
    Column,
    Fact,
    Metric,
    MetricsSection,
    Report,
    Section,
    TableSection,
    TextSection,
)
from pixel_reasoner.reports.steps import outcome_in_words
from pixel_reasoner.reports.training_charts import (
    FINAL_SHARE,
    common_settings,
    differing_settings,
    final_value,
    group_by_seed,
    training_charts,
)
from pixel_reasoner.reports.training_log import (
    SampleFile,
    TrainingRun,
    read_rewards,
    read_training_run,
    run_names,
    sample_files,
)
from pixel_reasoner.reports.training_panels import Panel, panels_of
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.scoring.grading import grade_reply, grade_trace

_ADVANTAGE = "advantage"
_MAX_KEY_METRICS = 10
_KEY_METRICS = (
    *("accuracy", "rapr", "operations/error_rate", "rewards/correctness/mean"),
    *("loss", "eval_loss", "mean_token_accuracy", "eval_mean_token_accuracy"),
    *("completions/mean_length",),
)
"""metrics of the table of runs, besides the validation"""
SFT_BATCH = {"per_device_train_batch_size": "1", "gradient_accumulation_steps": "128"}
"""batch sizes of SFT that a run may change (`train.trl_config.SFT_DEFAULTS`)"""
_FINAL = f"Mean of the last {FINAL_SHARE:.0%} of the logged values."


class WrittenTraining(NamedTuple):
    """Result of writing the report of training runs."""

    page: PageSummary
    num_charts: int
    is_shortened: bool
    """whether there are more sampled traces than the limit"""


def write_training_report(
    folders: Sequence[Path],
    out: Path,
    *,
    limit: int | None = None,
    allow_media: Sequence[Path] = (),
    refresh_s: float = 0.0,
) -> WrittenTraining:
    """Write the report of one or more training runs.

    Args:
        folders: folders with `log.jsonl` or `run.json`.
        out: the page.
        limit: maximum number of sampled traces, the latest first; None for all.
        allow_media: further folders whose media may be shown (`runs.folder.load_run`).
        refresh_s: the page loads itself again after this time; 0: never.

    Raises:
        InputError: an invalid log, unreadable settings or samples.
        OutputError: the file cannot be written.
    """
    names = run_names(folders)
    runs = [read_training_run(folder, name) for folder, name in zip(folders, names, strict=True)]
    report = training_report(runs).model_copy(update={"refresh_s": refresh_s})
    rows = sampled_rows(runs, allow_media)
    page = write_rows(islice(rows, limit), out, report, folders[0])
    is_shortened = limit is not None and next(rows, None) is not None
    num_charts = sum(len(one.charts) for one in report.sections if one.type == "charts")
    return WrittenTraining(page, num_charts, is_shortened)


def training_report(runs: Sequence[TrainingRun]) -> Report:
    """Return the report of training runs, without their sampled traces."""
    return Report(
        kind="training",
        title=_title(runs),
        facts=tuple(_facts(runs)),
        settings=tuple(Fact(name=n, value=v) for n, v in sorted(common_settings(runs).items())),
        sections=tuple(_sections(runs)),
    )


def sampled_rows(runs: Sequence[TrainingRun], allow_media: Sequence[Path] = ()) -> Iterator[Row]:
    """Yield the traces sampled during training, the latest step first.

    Raises:
        InputError: a file that cannot be read.
    """
    files = [(run, file) for run in runs for file in sample_files(run.folder)]
    for run, file in sorted(files, key=lambda one: -one[1].step):
        rewards = read_rewards(file.path) if file.is_rollouts else []
        for trace, terms in zip_longest(load_run(file.path, allow_media), rewards):
            if trace is None:
                break  # rewards of rollouts that are not in the file
            grade = grade_trace(trace) if file.is_rollouts else grade_reply(trace)
            asked = Asked(
                trace, outcome_in_words(grade), facts=_reward_facts(file.step, terms or {})
            )
            yield Row([asked], dict(_facets(run if len(runs) > 1 else None, file, terms)))


# --- sampled traces ---


def _reward_facts(step: int, terms: Mapping[str, float]) -> dict[str, str]:
    facts = {"step": str(step)}
    for name, value in terms.items():
        facts[name if name == _ADVANTAGE else f"reward, {name}"] = f"{value:.3g}"
    return facts


def _facets(
    run: TrainingRun | None, file: SampleFile, terms: Mapping[str, float] | None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "step", (str(file.step),)
    yield "phase", ("rollout" if file.is_rollouts else "validation",)
    if run is not None:
        yield "run", (run.name,)
    if terms and _ADVANTAGE in terms:
        value = terms[_ADVANTAGE]
        yield _ADVANTAGE, ("none" if not value else "positive" if value > 0 else "negative",)


# --- header ---


def _title(runs: Sequence[TrainingRun]) -> str:
    if len(runs) == 1:
        return f"Training of {runs[0].name}"
    return f"{len(runs)} training runs"


def _facts(runs: Sequence[TrainingRun]) -> Iterator[Fact]:
    values = {
        "method": [_method(run) for run in runs],
        "model": [run.settings.get("model", "") for run in runs],
        "steps": [_steps(run) for run in runs],
        "time": [_time(run) for run in runs],
        "per step": [_step_size(run) for run in runs],
        "state": ["finished" if run.is_finished else "unfinished" for run in runs],
    }
    explanations = {
        "time": "Sum of the steps.",
        "per step": "Examples (SFT) or rollouts (RL) of one gradient step.",
        "state": "A run is finished when its model is written.",
    }
    if len(runs) > 1:
        yield Fact(name="runs", value=str(len(runs)))
    for name, found in values.items():
        if shown := [one for one in dict.fromkeys(found) if one]:
            text = ", ".join(shown[:4]) + ", …" * (len(shown) > 4)
            yield Fact(name=name, value=text, explanation=explanations.get(name, ""))


def _method(run: TrainingRun) -> str:
    return "RL (GRPO)" if run.is_rl else "SFT"


def _steps(run: TrainingRun) -> str:
    planned = run.settings.get("trl.max_steps", "")
    is_shorter = planned.isdigit() and int(planned) > run.last_step
    return f"{run.last_step:,} of {int(planned):,}" if is_shorter else f"{run.last_step:,}"


def _time(run: TrainingRun) -> str:
    seconds = _seconds(run)
    if seconds is None:
        return ""
    return f"{seconds / 3600:.1f}\u00a0h" if seconds >= 3600 else f"{seconds / 60:.1f}\u00a0min"


def _seconds(run: TrainingRun) -> float | None:
    """Return the duration of all steps; None if the log does not contain it."""
    steps = [value for _, value in run.points("seconds/step") if math.isfinite(value)]
    if steps:
        return sum(steps)
    total = [value for _, value in run.points("train_runtime") if math.isfinite(value)]
    return total[-1] if total else None


def _step_size(run: TrainingRun) -> str:
    if minibatch := run.settings.get("minibatch"):
        return f"{minibatch} rollouts"
    sizes = [run.settings.get(f"trl.{name}", size) for name, size in SFT_BATCH.items()]
    if not run.settings or run.is_rl or not all(size.isdigit() for size in sizes):
        return ""
    return f"{int(sizes[0]) * int(sizes[1])} examples per process"


# --- sections ---


def _sections(runs: Sequence[TrainingRun]) -> Iterator[Section]:
    groups = group_by_seed(runs)
    charts = training_charts(groups)
    if not charts:
        yield TextSection(
            title="Curves",
            text="No step has been logged yet. The log is written after the first step of a run.",
        )
    elif len(runs) == 1:
        yield _final_metrics(runs[0])
    else:
        yield _runs_table(runs)
    yield from charts
    if differing := differing_settings(runs):
        yield _settings_table(runs, differing)
    if charts:
        yield _all_metrics_table(runs)
    if any(sample_files(run.folder) for run in runs):
        yield TextSection(
            title="Sampled traces",
            text="The tab of traces contains the rollouts and validation answers that the runs saved, the latest step "
            "first. Filters select a step, a run, or the sign of the advantage.",
        )


def _panel_metrics(runs: Sequence[TrainingRun]) -> dict[str, tuple[str, Panel]]:
    """Return the metrics that charts show: name in the log -> title, panel."""
    logged = {name for run in runs for name in run.metrics}
    found = {}
    for panel in panels_of(sorted(logged)):
        shown = [name for name in panel.names if name in logged]
        for name in shown:
            label = f", {panel.labels[panel.names.index(name)]}" if len(shown) > 1 else ""
            found[name] = (f"{panel.title}{label}", panel)
    return found


def _key_metrics(runs: Sequence[TrainingRun]) -> dict[str, tuple[str, Panel]]:
    metrics = _panel_metrics(runs)
    names = [name for name in _KEY_METRICS if name in metrics]
    names += [name for name in metrics if name.startswith("ask/") and name.endswith("/accuracy")]
    return {name: metrics[name] for name in names[:_MAX_KEY_METRICS]}


def _final_metrics(run: TrainingRun) -> MetricsSection:
    metrics = [
        Metric(
            name=title,
            value=final_value(run.points(name)),
            format="number",
            better=panel.better,
            explanation=panel.explanation,
        )
        for name, (title, panel) in _key_metrics([run]).items()
    ]
    return MetricsSection(title="Final values", metrics=tuple(metrics), explanation=_FINAL)


def _runs_table(runs: Sequence[TrainingRun]) -> TableSection:
    metrics = _key_metrics(runs)
    columns = [
        Column(title="run"),
        Column(title="steps", format="count"),
        Column(title="time"),
        Column(title="state", explanation="A run is finished when its model is written."),
        *(
            Column(title=title, format="number", better=panel.better, explanation=panel.explanation)
            for title, panel in metrics.values()
        ),
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            run.name,
            run.last_step,
            _time(run) or None,
            "finished" if run.is_finished else "unfinished",
            *(final_value(run.points(name)) for name in metrics),
        )
        for run in runs
    ]
    return TableSection(
        title="Final values", columns=tuple(columns), rows=tuple(rows), explanation=_FINAL
    )


def _settings_table(
    runs: Sequence[TrainingRun], differing: Mapping[str, tuple[str, ...]]
) -> TableSection:
    return TableSection(
        title="Settings that differ",
        columns=(Column(title="setting"), *(Column(title=run.name) for run in runs)),
        rows=tuple((name, *values) for name, values in sorted(differing.items())),
        explanation="All other settings are equal; they are listed below.",
    )


def _all_metrics_table(runs: Sequence[TrainingRun]) -> TableSection:
    """Return all logged metrics, also those without a chart."""
    names = sorted({name for run in runs for name in run.metrics})
    is_single = len(runs) == 1
    titles = ("first", "final", "lowest", "highest") if is_single else [run.name for run in runs]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            *(
                _extremes(runs[0], name)
                if is_single
                else (final_value(r.points(name)) for r in runs)
            ),
        )
        for name in names
    ]
    return TableSection(
        title="All metrics of the log",
        columns=(Column(title="metric"), *(Column(title=t, format="number") for t in titles)),
        rows=tuple(rows),
        explanation=_FINAL,
        is_folded=True,
    )


def _extremes(run: TrainingRun, name: str) -> tuple[Cell, ...]:
    points = run.points(name)
    values = [value for _, value in points if math.isfinite(value)]
    if not values:
        return (None,) * 4
    return values[0], final_value(points), min(values), max(values)
