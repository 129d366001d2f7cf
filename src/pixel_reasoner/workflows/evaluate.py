"""Evaluation of a model on a benchmark or on PixelWorld, from a specification to the summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.benchmark import row_counts, select_questions
from pixel_reasoner.evals.benchmarks import BENCHMARKS, get_benchmark
from pixel_reasoner.evals.benchmarks.neutral import read_jsonl
from pixel_reasoner.evals.controls import evaluate_controls
from pixel_reasoner.evals.forced import num_forced
from pixel_reasoner.evals.run import (
    Evaluation,
    evaluate as evaluate_plan,
    evaluate_compared,
    evaluate_forced,
    evaluate_perturbed,
    task_settings,
    write_calibration,
)
from pixel_reasoner.evals.stats import is_correct
from pixel_reasoner.media.remote_media import remote_version
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.models.folder import check_trained_world
from pixel_reasoner.models.hub import is_hub_id, local_dataset
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.controls import control_config
from pixel_reasoner.rollout.strategies import SINGLE, check_strategy, parse_strategy
from pixel_reasoner.runs.cache import ResponseCache
from pixel_reasoner.runs.folder import check_run_settings, load_run
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.media_url import allow_media_urls, check_local, is_url
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import Control, RolloutConfig
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.confidence import load_calibration
from pixel_reasoner.scoring.grading import Scorer
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.world import WorldSpec
from pixel_reasoner.workflows.world2 import world2_questions, world2_source
from pixel_reasoner.world import FAMILIES, VERSION, Scene, render

PIXELWORLD = "pixelworld"
_OWN_ROWS = {
    "jsonl": "`pixel-reasoner init rows` writes valid ones, docs/synthesize.md#own-rows explains all keys",
    "tsv": "docs/evaluate.md describes the columns",
}
"""benchmark without official files -> where the format of its rows is described"""


@dataclass(frozen=True, kw_only=True)
class EvalSpec:
    """One evaluation: questions, model and scorer.

    Raises:
        UsageError: inconsistent values.

    >>> EvalSpec(benchmark="pixelworld", out=Path("runs/a"), samples=4)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a temperature above 0 for several samples; got --samples 4 at temperature 0, which gives the same answer each time. Fix: add --temperature 0.7, or leave out --samples
    """

    benchmark: str
    """`pixelworld` or a name in `evals.benchmarks`"""
    out: Path
    """folder of the run; an existing one is resumed"""
    model: ModelSpec = field(default_factory=lambda: ModelSpec("tiny"))
    config: RolloutConfig = field(default_factory=RolloutConfig)
    data: Path | None = None
    """folder of the benchmark's files, or a data set of the hub: `owner/name`"""
    media: Path | None = None
    """folder for pictures embedded in the benchmark's files; None: `media` in `out`"""
    allow_media: tuple[Path, ...] = ()
    """folders, in addition to `data`, from which its rows may name media"""
    media_root: str | None = None
    """URL that relative media paths of own rows are relative to; None: the folder of their file"""
    limit: int | None = None
    """number of rows to draw at random; None: all"""
    limit_seed: int = 0
    world: WorldSpec = field(default_factory=WorldSpec)
    """PixelWorld questions"""
    other_world: bool = False
    """whether a model that was trained on another version of PixelWorld is measured anyway"""
    shard: tuple[int, int] = (0, 1)
    """index (from 0) and number of shards"""
    samples: int = 1
    """answers per question, each with its own sampling seed"""
    scorer: Scorer = Scorer.TYPED
    compare: bool = False
    """whether the questions are also asked without operations"""
    perturb: bool = False
    """whether correct questions are asked again with an off-target first crop"""
    controls: tuple[Control, ...] = ()
    """control conditions under which the questions are asked again (`evals.controls`)"""
    forced_answers: bool = False
    """whether an answer is forced before and after each call, to measure which operations help and hurt"""
    cache: Path | None = None
    """response cache file that several runs share"""
    batch_size: int = 16
    strategy: str = SINGLE
    """how rollouts become one answer: a name in `rollout.strategies`, with options as `NAME:key=value,key=value`"""
    calibration: Path | None = None
    """file that calibrates the confidence of the strategy"""
    fit_calibration: Path | None = None
    """file for a calibration that is fitted on the grades of this run"""

    def __post_init__(self) -> None:
        if self.controls and self.strategy != SINGLE:
            raise UsageError(
                expected=f"--control with one rollout per answer (--strategy {SINGLE})",
                got=f"--strategy {self.strategy}",
                fix="leave out one of them",
            )
        for control in self.controls:
            control_config(self.config, control)
        needs_operations = self.compare or self.perturb or self.forced_answers
        if needs_operations and not self.config.operations:
            raise UsageError(
                expected="--compare, --disturb and --forced-answers with operations",
                got="one of them and --no-operations",
                fix="leave out --no-operations",
            )
        if self.samples > 1 and self.config.sampling.temperature == 0:
            raise UsageError(
                expected="a temperature above 0 for several samples",
                got=f"--samples {self.samples} at temperature 0, which gives the same answer each time",
                fix="add --temperature 0.7, or leave out --samples",
            )
        if self.fit_calibration is not None and self.strategy == SINGLE:
            raise UsageError(
                expected="--fit-calibration with a strategy that records its confidence, such as majority_vote",
                got=f"--strategy {SINGLE}",
                fix="name one, or leave out --fit-calibration",
            )
        if self.cache is not None and self.strategy != SINGLE:
            raise UsageError(
                expected=f"a response cache with one rollout per answer (--strategy {SINGLE})",
                got=f"--cache with --strategy {self.strategy}",
                fix="leave out one of them",
            )


def evaluate(
    spec: EvalSpec,
    progress: ProgressReporter | None = None,
    model: GenerationModel | None = None,
) -> dict[str, Any]:
    """Run or resume an evaluation and return its summary.

    Args:
        spec: benchmark, model, configuration and folder.
        progress: receives the number of questions that are answered.
        model: a loaded model, instead of the one of the spec.

    Raises:
        UsageError: an unknown name, inconsistent values, or `out` contains a run with other settings.
        InputError: files of the benchmark are missing, or none of their rows is usable.
        OutputError: `out` cannot be written.
        StorageError: an object store does not answer, or rejects the credentials.
    """
    check_local(spec.data, "--data")
    check_local(spec.out, "--out")
    check_local(spec.media, "--media")
    roots = () if spec.media_root is None else (spec.media_root,)
    with allow_media_urls(*roots), FolderLock(spec.out):
        return _evaluate(spec, progress or NoProgress(), model)


def _evaluate(
    spec: EvalSpec, progress: ProgressReporter, model: GenerationModel | None
) -> dict[str, Any]:
    plan = _plan(spec, progress, model)
    total = sum(1 for _ in plan.questions) * spec.samples
    on_trace = _count_correct(progress, "asking", total * (1 + spec.compare), spec.scorer)
    run = evaluate_compared if spec.compare else evaluate_plan
    summary = run(plan, spec.out, on_trace)
    if spec.fit_calibration is not None:
        write_calibration(plan, spec.out, spec.fit_calibration)
    if spec.perturb:
        on_trace = _count_correct(progress, "disturbed", total, spec.scorer)
        summary = evaluate_perturbed(summary, plan, spec.out, on_trace)
    if spec.controls:
        on_trace = _count_correct(progress, "controls", total * len(spec.controls), spec.scorer)
        summary = evaluate_controls(summary, plan, spec.controls, spec.out, on_trace)
    if spec.forced_answers:
        num_answers = num_forced(load_run(spec.out))
        update = progress.start("forced answers", num_answers)
        answers = iter(range(1, num_answers + 1))
        summary = evaluate_forced(summary, plan, spec.out, lambda: update(next(answers)))
    return summary


def check_benchmark(name: str) -> None:
    """Raise an error for an unknown benchmark name.

    Raises:
        UsageError: no name, or an unknown name.
    """
    if not name:
        raise UsageError(
            expected=f"a task: pixelworld, {', '.join(BENCHMARKS)}",
            got="none",
            fix="name one; `pixel-reasoner eval --list` describes them",
        )
    if name != PIXELWORLD:
        get_benchmark(name)


def parse_scorer(name: str) -> Scorer:
    """Return the scorer of a name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in list(Scorer):
        raise UsageError(
            expected=f"a scorer: {', '.join(Scorer)}", got=repr(name), fix="name one of these"
        )
    return Scorer(name)


def parse_controls(names: Sequence[str]) -> tuple[Control, ...]:
    """Return the control conditions with these names.

    Raises:
        UsageError: an unknown name.

    >>> parse_controls(["blank"])
    (<Control.BLANK: 'blank'>,)
    """
    for name in names:
        if name not in list(Control):
            raise UsageError(
                expected=f"--control {', '.join(Control)}", got=repr(name), fix="name one of these"
            )
    return tuple(Control(name) for name in dict.fromkeys(names))


def parse_shard(text: str) -> tuple[int, int]:
    """Return index (from 0) and number of shards.

    Raises:
        UsageError: another form, or an index outside 1 to n.

    >>> parse_shard("2/4")
    (1, 4)
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(expected="--shard i/n with 1 <= i <= n", got=text, fix="for example 1/4")
    return int(number) - 1, int(count)


def _plan(spec: EvalSpec, progress: ProgressReporter, model: GenerationModel | None) -> Evaluation:
    index, count = spec.shard
    task = _task(spec)
    # Before media are written and a model is loaded.
    check_strategy(spec.strategy, spec.config, spec.calibration)
    if model is None:
        if spec.benchmark == PIXELWORLD and not spec.other_world:
            fix = ", or measure it anyway with --other-world"
            check_trained_world(spec.model.name, spec.world.world, fix)
        spec.model.check()
    if spec.world.world == 1:  # the task of world 2 depends on the budgets of the model
        check_run_settings(spec.out, {"task": task_settings(task, spec.samples)})
    rows: dict[str, Any] | None = None
    if spec.benchmark == PIXELWORLD and spec.world.world == 2:
        model = model or spec.model.load(operations=bool(spec.config.operations))
        task, questions = _world2(spec, model, progress, task)
    elif spec.benchmark == PIXELWORLD:
        questions = _world_questions(spec.world, spec.out, progress)
    else:
        questions, rows = _benchmark_questions(spec)
    return Evaluation(
        questions[index::count],
        model or spec.model.load(operations=bool(spec.config.operations)),
        spec.config,
        task,
        batch_size=spec.batch_size,
        samples=spec.samples,
        scorer=spec.scorer,
        rows=rows,
        family_of=_get_family if spec.benchmark == PIXELWORLD else None,
        cache=ResponseCache(spec.cache) if spec.cache else None,
        strategy=spec.strategy,
        calibration=spec.calibration,
    )


def _task(spec: EvalSpec) -> dict[str, Any]:
    """Return the description of the questions, as JSON values for the settings of the run."""
    if spec.benchmark == PIXELWORLD:
        task = _world_task(spec.world)
    else:
        task = {"name": spec.benchmark, "limit": spec.limit, "seed": spec.limit_seed}
    index, count = spec.shard
    if count > 1:
        task["shard"] = f"{index + 1}/{count}"
    strategy = parse_strategy(spec.strategy).text
    if strategy != SINGLE:
        task["strategy"] = strategy
    if spec.calibration is not None:
        task["calibration"] = load_calibration(spec.calibration).fingerprint
    return dict(json.loads(json.dumps(task)))


def _get_family(trace: Trace) -> str:
    return trace.question.id.removeprefix("w2-").partition("-")[0]


def _world2(
    spec: EvalSpec, model: GenerationModel, progress: ProgressReporter, task: dict[str, Any]
) -> tuple[dict[str, Any], list[Question]]:
    """Return the task and the rendered questions of PixelWorld 2, for the overview of the model."""
    budgets = model.budgets or get_dialect(model.dialect).budgets
    source = world2_source(spec.world, budgets)
    task = {**task, **json.loads(json.dumps(source.describe()))}
    check_run_settings(spec.out, {"task": task_settings(task, spec.samples)})
    units = list(source.units(spec.out))
    update = progress.start("rendering", len(units))
    questions = []
    for question in world2_questions(source, spec.out):
        questions.append(question)
        update(len(questions))
    return task, questions


def _world_task(world: WorldSpec) -> dict[str, Any]:
    if world.world == 2:
        return {"name": PIXELWORLD, "version": world.world}
    return {
        "name": PIXELWORLD,
        "version": VERSION,
        "family": world.family,
        "split": world.split,
        "seed": world.seed,
        "count": world.count,
        "params": {scene.family: scene.params.model_dump() for scene in _scenes(world)},
    }


def _scenes(world: WorldSpec) -> list[Scene]:
    families = FAMILIES if world.family == "all" else (world.family,)
    return [scene for family in families for scene in world.scenes(family)]


def _world_questions(world: WorldSpec, out: Path, progress: ProgressReporter) -> list[Question]:
    """Return rendered questions of PixelWorld."""
    scenes = _scenes(world)
    update = progress.start("rendering", len(scenes))
    questions = []
    for question in render(scenes, out):
        questions.append(question)
        update(len(questions))
    return questions


def _benchmark_questions(spec: EvalSpec) -> tuple[list[Question], dict[str, Any]]:
    """Return the questions of a benchmark, and its row counts."""
    name, data = spec.benchmark, _data_folder(spec.data, spec.benchmark)
    media = spec.media or spec.out / "media"
    benchmark = get_benchmark(name)
    if spec.media_root is not None:
        if name != "jsonl":
            raise UsageError(
                expected="--media-root with the task jsonl, for own rows",
                got=f"the task {name}",
                fix="leave it out",
            )
        benchmark = replace(benchmark, read=partial(read_jsonl, media_root=spec.media_root))
    selection = select_questions(
        benchmark,
        data.absolute(),
        media.absolute(),
        spec.limit,
        spec.limit_seed,
        allow_media=[folder.absolute() for folder in spec.allow_media],
    )
    rows = row_counts(selection)
    if not selection.questions:
        reasons = ", ".join(
            f"{why} {one['count']}, first {one['rows'][0]}" for why, one in rows["dropped"].items()
        )
        raise InputError(
            expected=f"usable rows of {name}",
            got=f"none of {selection.read} in {data} ({reasons or 'it is empty'})",
            fix=_fix_of_rows(name),
        )
    _check_store(selection.questions)
    return selection.questions, rows


def _check_store(questions: Sequence[Question]) -> None:
    """Ask the object store for the first medium, so that a store that does not answer is an error before a model is loaded.

    Raises:
        StorageError: it does not answer, or rejects the credentials.
    """
    media = (item for question in questions for item in question.media)
    first = next((item for item in media if is_url(item.path)), None)
    if first is not None:
        with suppress(InputError):  # of this object alone
            remote_version(first)


def _fix_of_rows(benchmark: str) -> str:
    if benchmark in _OWN_ROWS:
        return f"correct the rows; {_OWN_ROWS[benchmark]}"
    return "check for missing files; `pixel-reasoner eval --list` names the official files"


def _data_folder(data: Path | None, benchmark: str) -> Path:
    """Return the folder of a benchmark: the given folder, or the download of a hub data set."""
    hub = get_benchmark(benchmark).hub
    if data is None:
        raise UsageError(
            expected="--data, the folder of the benchmark's files",
            got="none",
            fix=f"add --data DIR{f', or --data {hub} to download it' if hub else ''}",
        )
    return data if data.exists() or not is_hub_id(str(data)) else local_dataset(str(data))


def _count_correct(
    progress: ProgressReporter, title: str, total: int, scorer: Scorer
) -> Callable[[Trace], None]:
    """Return a callback that shows counts of traces and correct answers on a progress bar."""
    update = progress.start(title, total)
    num_traces = num_correct = 0

    def on_trace(trace: Trace) -> None:
        nonlocal num_traces, num_correct
        num_traces += 1
        num_correct += is_correct(trace, scorer)
        update(num_traces, f"{num_correct} right")

    return on_trace
