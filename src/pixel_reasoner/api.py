"""The functions of the package: what `import pixel_reasoner` exports, and what the command line calls.

    import pixel_reasoner as pr

    model = pr.load()
    print(model.ask("Which letter is on the red circle?", "scene.png").answer)

Specs are plain values: they cost nothing until a function uses them. Errors are those of `pixel_reasoner.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from typing_extensions import Unpack

from pixel_reasoner.data.check import Verdict
from pixel_reasoner.errors import InputError
from pixel_reasoner.evals.benchmark import Benchmark
from pixel_reasoner.evals.benchmarks import BENCHMARKS
from pixel_reasoner.evals.compare import compare_runs
from pixel_reasoner.evals.merge import merge
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.inputs import check_exists
from pixel_reasoner.model import Model
from pixel_reasoner.models.api import GenerationModel, OnText
from pixel_reasoner.models.registry import LoadedModel
from pixel_reasoner.models.spec import ModelOptions, ModelSpec, only_served_model
from pixel_reasoner.reports.build import (
    WrittenReport,
    write_comparison,
    write_comparison_tables,
    write_run_report,
)
from pixel_reasoner.reports.page import write_report
from pixel_reasoner.reports.watch import WatchedReport, watch
from pixel_reasoner.rollout.ask import (
    Progress as OnTurn,
    ask as run_rollout,
    ask_many as run_rollouts,
)
from pixel_reasoner.rollout.options import AskOptions, with_options
from pixel_reasoner.rollout.strategies import ask_by_strategy, check_strategy
from pixel_reasoner.rollout.usage import answer_usage
from pixel_reasoner.schema.options import valid_options
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Scorer, is_right
from pixel_reasoner.tiny.config import TinyConfig
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.training import plan_rl, plan_sft, train_rl, train_sft, train_tiny
from pixel_reasoner.workflows.check_model import check_model
from pixel_reasoner.workflows.doctor import Finding, diagnose
from pixel_reasoner.workflows.evaluate import (
    EvalSpec,
    check_benchmark,
    evaluate as run_evaluation,
    parse_scorer,
    parse_shard,
)
from pixel_reasoner.workflows.lessons.page import load_lesson
from pixel_reasoner.workflows.lessons.write import LessonSpec, WrittenLesson, make_lesson
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.synthesize import LabellerSpec, SynthSpec, synthesize
from pixel_reasoner.workflows.traces import check, export_traces, import_traces, masked_traces
from pixel_reasoner.workflows.world import (
    WorldSpec,
    demo_questions,
    detail_px_in_overview,
    render_world,
)
from pixel_reasoner.workflows.world_media import (
    MomentsSpec,
    PartsSpec,
    render_moments,
    render_parts,
)

AnyModel: TypeAlias = "Model | GenerationModel | ModelSpec | str"
"""a loaded model, or which one to load"""

__all__ = [
    "EvalSpec",
    "Finding",
    "LabellerSpec",
    "LessonSpec",
    "MediaItem",
    "Model",
    "ModelSpec",
    "MomentsSpec",
    "PartsSpec",
    "ProbeResult",
    "Question",
    "RlRun",
    "RolloutConfig",
    "RolloutLimits",
    "SamplingParams",
    "Scorer",
    "SftRun",
    "SynthSpec",
    "TinyConfig",
    "Trace",
    "Verdict",
    "WorldSpec",
    "WrittenLesson",
    "answer_usage",
    "ask",
    "ask_many",
    "benchmarks",
    "check",
    "check_benchmark",
    "check_media",
    "check_model",
    "check_strategy",
    "compare",
    "demo_questions",
    "detail_px_in_overview",
    "diagnose",
    "evaluate",
    "export_traces",
    "import_traces",
    "is_right",
    "load",
    "load_lesson",
    "load_model",
    "make_lesson",
    "masked_traces",
    "merge_runs",
    "parse_scorer",
    "parse_shard",
    "plan_rl",
    "plan_sft",
    "probe",
    "render_moments",
    "render_parts",
    "render_world",
    "report",
    "synthesize",
    "train_rl",
    "train_sft",
    "train_tiny",
    "watch_report",
    "write_comparison",
    "write_comparison_tables",
    "write_report",
]


class ProbeResult(NamedTuple):
    """What servers support."""

    server: str
    """kind of server that was assumed"""
    by_url: dict[str, dict[str, Any]]
    """address -> a `models.probe.Probe` as JSON values"""
    without_answer: list[str]
    """addresses that did not answer"""


# --- questions ---


def load(
    name: str | None = None,
    *,
    endpoint: str | Sequence[str] = (),
    config: RolloutConfig | None = None,
    **options: Unpack[ModelOptions],
) -> Model:
    """Load a model, or connect to its servers.

    Args:
        name: `tiny` (bundled, the default), a folder, a hub id such as `Qwen/Qwen2.5-VL-7B-Instruct`, or the name by which
            servers serve it. With an endpoint that serves one model it may be left out.
        endpoint: address of an OpenAI-compatible server, such as `http://localhost:8000/v1`, or several. The key is read from
            `OPENAI_API_KEY` or from `key_file`.
        config: limits, sampling and operations of its questions, where a call does not state them.
        **options: `device`, `dtype`, `dialect` and other fields of `ModelSpec`.

    Raises:
        UsageError: values that do not fit, or packages that are not installed.
        ModelError: no usable model.
        EndpointError: servers that do not serve it, do not answer, or do not accept pictures.

    >>> model = load()  # doctest: +SKIP
    >>> model.ask("Which letter is on the red circle?", "scene.png").answer  # doctest: +SKIP
    'K'
    """
    endpoints = (endpoint,) if isinstance(endpoint, str) else tuple(endpoint)
    valid = valid_options(ModelOptions, options, "an option of a model")
    if endpoints and name is None:
        name = only_served_model(endpoints[0], valid.get("key_file"))
    config = config or RolloutConfig()
    spec = ModelSpec(name or "tiny", endpoints=endpoints, **valid)
    return Model(load_model(spec, config), config)


def load_model(spec: ModelSpec, config: RolloutConfig | None = None) -> LoadedModel:
    """Load a model, or connect to its servers.

    Args:
        spec: which model.
        config: the rollouts that it is loaded for. Where they offer operations, its chat template must support them.

    Raises:
        UsageError: values that do not fit, or packages that are not installed.
        ModelError: no usable model.
        EndpointError: servers that do not serve it, do not answer, or do not accept pictures.
    """
    return spec.load(operations=bool((config or RolloutConfig()).operations))


def check_media(question: Question) -> tuple[str, ...]:
    """Read the headers of the pictures of a question, and look for its clip, so that an error precedes loading a large model.

    Returns:
        What the pictures show differently from their files or leave out: stretched greyscale, other pages.

    Raises:
        InputError: a picture cannot be used, or a video or a folder of frames does not exist.
        StorageError: an object store does not answer, or rejects the credentials.
    """
    if all(item.kind == "image" for item in question.media):
        return MediaContext(question, UNSCALED).notes
    for item in question.media:
        check_exists(item)
    return ()


def ask(  # noqa: PLR0913 - options of one question
    question: Question,
    model: AnyModel,
    config: RolloutConfig | None = None,
    *,
    on_text: OnText | None = None,
    on_turn: OnTurn | None = None,
    strategy: str = "single",
    calibration: Path | None = None,
) -> Trace:
    r"""Ask one question.

    Args:
        question: text and media.
        model: a loaded model, or which one to load: its name or a spec.
        config: limits, sampling, operations.
        on_text: is called with new text while it is generated.
        on_turn: is called with the rollout after each turn.
        strategy: how rollouts are combined, such as `majority_vote:k=8`; both functions above are called for `single` alone.
        calibration: file that calibrates the confidence of the strategy.

    Raises:
        InputError: a picture or video cannot be used.
        UsageError: a strategy that is unknown, with invalid options, or that needs a temperature above 0.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> ask(Question(id="1", text="Which colour?", media=()), ScriptedModel([r"\boxed{red}"])).answer
    'red'
    """
    check_strategy(strategy, config or RolloutConfig(), calibration)
    if isinstance(model, str | ModelSpec):
        check_media(question)
    loaded = generation_model(model, config)
    if strategy != "single":
        return ask_by_strategy(strategy, question, loaded, config, calibration=calibration)
    return run_rollout(question, loaded, config, on_text=on_text, on_turn=on_turn)


def ask_many(
    questions: Iterable[Question],
    model: AnyModel,
    config: RolloutConfig | None = None,
    *,
    batch_size: int = 16,
    **options: Unpack[AskOptions],
) -> Iterator[Trace]:
    r"""Yield the traces of many questions as they finish, in no fixed order.

    Args:
        questions: may be a generator; they are read as they are needed.
        model: a loaded model, or which one to load.
        config: limits, sampling, operations.
        batch_size: questions in progress at once.
        **options: single values of the configuration (`rollout.options.AskOptions`).

    Raises:
        UsageError: an invalid option.
        EndpointError: servers that do not answer any more.

    A question whose media cannot be used gives a trace with `StopReason.FAILED`.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> questions = [Question(id=str(n), text="Which colour?", media=()) for n in range(3)]
    >>> sorted(trace.question.id for trace in ask_many(questions, ScriptedModel([r"\boxed{red}"])))
    ['0', '1', '2']
    """
    changed = with_options(config or RolloutConfig(), options)
    return run_rollouts(questions, generation_model(model, changed), changed, batch_size=batch_size)


def generation_model(model: AnyModel, config: RolloutConfig | None = None) -> GenerationModel:
    """Return a loaded model.

    Args:
        model: a loaded model, or which one to load.
        config: the rollouts that it is loaded for.

    Raises:
        UsageError: values that do not fit, or packages that are not installed.
        ModelError: no usable model.
    """
    if isinstance(model, Model):
        return model.generation_model
    if isinstance(model, str):
        model = ModelSpec(model)
    return load_model(model, config) if isinstance(model, ModelSpec) else model


def probe(spec: ModelSpec) -> ProbeResult:
    """Test what the servers of a model support: image input, seeds, logprobs, images in tool messages.

    Args:
        spec: name and addresses.

    Raises:
        UsageError: values that do not fit.
        EndpointError: servers that do not serve the model.

    >>> probe(ModelSpec("served", endpoints=("http://localhost:1/v1",)))
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.EndpointError: expected a server at http://localhost:1/v1/chat/completions; got ConnectError: [Errno 111] Connection refused. Fix: start it, or check --endpoint
    """
    model = spec.connect()
    by_url = {url: one.model_dump(mode="json") for url, one in model.probe(refresh=True).items()}
    urls = {endpoint.shown for endpoint in model.pool.endpoints}
    return ProbeResult(model.server.value, by_url, sorted(urls - set(by_url)))


# --- evaluation ---


def evaluate(
    spec: EvalSpec, progress: ProgressReporter | None = None, *, model: AnyModel | None = None
) -> dict[str, Any]:
    r"""Run or resume an evaluation, and return its summary: accuracy with its interval, use of operations, and others.

    Args:
        spec: benchmark, model, configuration and folder.
        progress: receives the number of questions that are answered.
        model: a loaded model, instead of the one of the spec.

    Raises:
        UsageError: an unknown name, values that do not fit, or `out` contains a run with other settings.
        InputError: files of the benchmark are missing or none of their rows can be asked.
        OutputError: `out` cannot be written.

    >>> import tempfile
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> out = Path(tempfile.mkdtemp()) / "run"
    >>> spec = EvalSpec(benchmark="pixelworld", out=out, world=WorldSpec(count=2))
    >>> evaluate(spec, model=ScriptedModel([r"\boxed{no idea}"]))["accuracy"]
    0.0
    """
    loaded = None if model is None else generation_model(model, spec.config)
    return run_evaluation(spec, progress, loaded)


def benchmarks() -> list[Benchmark]:
    """Return all benchmarks but PixelWorld, which is generated."""
    return [benchmark for _, benchmark in BENCHMARKS.items()]


def merge_runs(runs: Sequence[Path], out: Path, scorer: Scorer = Scorer.TYPED) -> dict[str, Any]:
    """Join the shards of one evaluation in `out` and return the summary.

    Raises:
        UsageError: they are not the shards of one run, or some are missing.
        OutputError: `out` cannot be written.
    """
    return merge(runs, out, scorer)


def compare(
    first: Path, second: Path, scorer: Scorer = Scorer.TYPED, *, anyway: bool = False
) -> dict[str, Any]:
    """Compare two runs over the same questions, with a paired test.

    Args:
        first: folder of the one run.
        second: folder of the other.
        scorer: decides which answers are correct.
        anyway: compare the questions of both even where the runs contain different ones.

    Raises:
        InputError: no run, or no question in common.
        UsageError: different questions, and `anyway` is not set.

    >>> import tempfile
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> run = Path(tempfile.mkdtemp()) / "run"
    >>> spec = EvalSpec(benchmark="pixelworld", out=run, world=WorldSpec(count=1))
    >>> _ = evaluate(spec, model=ScriptedModel(["Nothing."]))
    >>> found = compare(run, run)
    >>> found["gain"]["value"], found["harm"]["value"]
    (0.0, 0.0)
    """
    return compare_runs(first, second, scorer, anyway=anyway)


# --- reports ---


def report(  # noqa: PLR0913 - options of one command
    sources: Sequence[Path],
    out: Path,
    *,
    limit: int | None = None,
    tables: Sequence[Path] = (),
    references: bool = False,
    sections: Sequence[str] = (),
    allow_media: Sequence[Path] = (),
    masks: str | None = None,
    refresh_s: float = 0.0,
    progress: ProgressReporter | None = None,
) -> WrittenReport:
    """Write the report of an evaluation, traces, several evaluations, training data or training runs as an HTML page.

    A report of more than 25 MB is a folder with `index.html`.

    Args:
        sources: folders of evaluations or training runs, or one file or folder of traces or training data.
        out: path of the HTML file, or of a folder if it has no suffix.
        limit: maximum number of questions with traces on the page; None for all.
        tables: .md, .csv or .tex files for the table of metrics of evaluations.
        references: whether published results of the benchmark are shown.
        sections: names of further sections (`reports.sections`) of traces or of an evaluation.
        allow_media: folders, in addition to the run's, whose media may be shown.
        masks: model whose tokens show the loss mask of training data, for example `tiny`; None: no masks.
        refresh_s: an open page loads itself again after this time; 0: never.
        progress: receives the number of written questions.

    Returns:
        `out`, the page that was written, and what it does not show.

    Raises:
        UsageError: sources of different kinds.
        InputError: nothing that can be shown.
        OutputError: `out` cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = synthesize(SynthSpec(source="pixelworld", out=folder / "a", families="attribute", count=2))
    >>> report([folder / "a" / "traces.jsonl"], folder / "a.html").out.name
    'a.html'
    """
    return write_run_report(
        sources,
        out,
        limit=limit,
        tables=tables,
        references=references,
        sections=sections,
        allow_media=allow_media,
        masks=masks,
        refresh_s=refresh_s,
        start_progress=(progress or NoProgress()).start,
    )


def watch_report(
    sources: Sequence[Path],
    write: Callable[[float], WrittenReport],
    interval_s: float = 10.0,
    on_problem: Callable[[InputError], None] = lambda error: None,
) -> Iterator[WatchedReport]:
    """Write the report of running jobs again and again, and yield each result, until all are finished.

    Args:
        sources: as for `report`.
        write: calls `report`; its argument is `refresh_s`.
        interval_s: time between two reports.
        on_problem: called with an error of a later report; the page before it is kept.

    Raises:
        InputError: nothing that can be shown.
        OutputError: the page cannot be written.

    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp())
    >>> _ = (run / "log.jsonl").write_text('{"step": 1, "loss": 0.5}')
    >>> (run / "model").mkdir()  # the run is finished
    >>> page = run / "page.html"
    >>> pages = watch_report([run], lambda seconds: report([run], page, refresh_s=seconds))
    >>> [(one.written.curves, one.is_last) for one in pages]
    [(1, True)]
    """
    return watch(sources, write, interval_s, on_problem)
