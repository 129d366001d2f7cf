"""Everything that the command line does, as functions with typed arguments.

    from pixel_reasoner import api

    model = api.load_model(api.ModelSpec("tiny"))
    picture = api.MediaItem(kind="image", path="scene.png")
    question = api.Question(id="1", text="Which letter is on the red circle?", media=(picture,))
    print(api.ask(question, model).answer)

Specs are plain values: they cost nothing until a function uses them. Errors are those of `pixel_reasoner.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.data.check import Verdict
from pixel_reasoner.errors import InputError, packages_of
from pixel_reasoner.evals.benchmark import Benchmark
from pixel_reasoner.evals.benchmarks import BENCHMARKS
from pixel_reasoner.evals.compare import compare_runs
from pixel_reasoner.evals.merge import merge
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.models.api import Model, OnText
from pixel_reasoner.models.registry import LoadedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.report import build
from pixel_reasoner.report.page import PageSummary
from pixel_reasoner.report.page import write_report as write_traces_page
from pixel_reasoner.rollout.ask import Progress as OnTurn
from pixel_reasoner.rollout.ask import ask as run_rollout
from pixel_reasoner.rollout.strategies import STRATEGIES, ask_by_strategy
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Scorer, is_right
from pixel_reasoner.tiny.config import TinyConfig
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.workflows.doctor import Finding, diagnose
from pixel_reasoner.workflows.evaluate import (
    EvalSpec,
    check_benchmark,
    evaluate,
    parse_scorer,
    parse_shard,
)
from pixel_reasoner.workflows.synthesize import LabellerSpec, SynthSpec, synthesize
from pixel_reasoner.workflows.traces import check, export_traces, import_traces, masked_traces
from pixel_reasoner.workflows.world import (
    WorldSpec,
    demo_questions,
    detail_px_in_overview,
    render_world,
)

__all__ = [
    "EvalSpec",
    "Finding",
    "LabellerSpec",
    "MediaItem",
    "ModelSpec",
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
    "ask",
    "benchmarks",
    "check",
    "check_benchmark",
    "check_media",
    "check_strategy",
    "compare",
    "demo_questions",
    "detail_px_in_overview",
    "diagnose",
    "evaluate",
    "export_traces",
    "import_traces",
    "is_right",
    "load_model",
    "masked_traces",
    "merge_runs",
    "parse_scorer",
    "parse_shard",
    "plan_rl",
    "probe",
    "render_world",
    "report",
    "synthesize",
    "train_rl",
    "train_sft",
    "train_tiny",
    "write_comparison",
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
    """
    if all(item.kind == "image" for item in question.media):
        return MediaContext(question, UNSCALED).notes
    for item in question.media:
        path = Path(item.path)
        if not (path.is_dir() if item.kind == "frames" else path.is_file()):
            raise InputError(
                expected="a folder of frames"
                if item.kind == "frames"
                else f"a file of one {item.kind}",
                got=f"{path}, which {'is something else' if path.exists() else 'does not exist'}",
                fix="check the path",
            )
    return ()


def ask(
    question: Question,
    model: ModelSpec | Model,
    config: RolloutConfig | None = None,
    *,
    on_text: OnText | None = None,
    on_turn: OnTurn | None = None,
    strategy: str = "single",
) -> Trace:
    r"""Ask one question.

    Args:
        question: text and media.
        model: a loaded model, or which one to load.
        config: limits, sampling, operations.
        on_text: is called with new text while it is generated.
        on_turn: is called with the rollout after each turn.
        strategy: how rollouts are combined (`rollout.strategies`); both functions above are called for `single` alone.

    Raises:
        InputError: a picture or video cannot be used.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> ask(Question(id="1", text="Which colour?", media=()), ScriptedModel([r"\boxed{red}"])).answer
    'red'
    """
    if isinstance(model, ModelSpec):
        check_media(question)
        model = load_model(model, config)
    if strategy != "single":
        return ask_by_strategy(strategy, question, model, config)
    return run_rollout(question, model, config, on_text=on_text, on_turn=on_turn)


def check_strategy(name: str) -> None:
    """Raise an error unless a strategy has this name.

    Raises:
        UnknownNameError: there is none; the nearest names are listed.
        PluginError: a strategy of a plug-in that cannot be used.
    """
    STRATEGIES.get(name)


def probe(spec: ModelSpec) -> ProbeResult:
    """Test what the servers of a model support: image input, seeds, logprobs, images in tool messages.

    Raises:
        UsageError: values that do not fit.
        EndpointError: servers that do not serve the model.
    """
    model = spec.connect()
    by_url = {url: one.model_dump(mode="json") for url, one in model.probe(anew=True).items()}
    urls = {endpoint.shown for endpoint in model.pool.endpoints}
    return ProbeResult(model.server.value, by_url, sorted(urls - set(by_url)))


# --- evaluation ---


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
    """
    return compare_runs(first, second, scorer, anyway=anyway)


# --- reports ---


def report(  # noqa: PLR0913 - options of one command
    sources: Sequence[Path],
    out: Path,
    *,
    limit: int = 500,
    tables: Sequence[Path] = (),
    references: bool = False,
    sections: Sequence[str] = (),
    allow_media: Sequence[Path] = (),
) -> build.WrittenReport:
    """Write the report of an evaluation, of traces, or of RL runs (`report.build.write_run_report`)."""
    return build.write_run_report(
        sources,
        out,
        limit=limit,
        tables=tables,
        references=references,
        sections=sections,
        allow_media=allow_media,
    )


def write_comparison(
    found: dict[str, Any],
    first: Path,
    second: Path,
    out: Path,
    limit: int = 200,
    allow_media: Sequence[Path] = (),
) -> build.WrittenReport:
    """Write the report of what `compare` returned (`report.build.write_comparison`)."""
    return build.write_comparison(found, first, second, out, limit, allow_media)


def write_report(traces: Iterable[Trace], out: Path, *, title: str) -> PageSummary:
    """Write traces as one HTML page (`report.page.write_report`)."""
    return write_traces_page(traces, out, title=title)


# --- training ---


def train_tiny(config: TinyConfig) -> Path:
    """Train or resume the bundled model and return its folder.

    Raises:
        UsageError: packages that are not installed.
        InputError: no traces.
        ModelError: no such model to start from.
        OutputError: the folder cannot be written.
    """
    with packages_of("local,train", "train"):
        from pixel_reasoner.tiny.train import train
    return train(config)


def train_sft(run: SftRun | Path) -> Path:
    """Tune a model on traces, or resume, and return its folder. A path is that of a TOML file.

    Raises:
        UsageError: packages that are not installed, or settings that do not fit.
        InputError: a file that cannot be read.
    """
    run = SftRun.read(run) if isinstance(run, Path) else run
    with packages_of("local,train", "train"):
        from pixel_reasoner.train.sft import train_sft as train
    return train(run)


def train_rl(run: RlRun | Path) -> Path:
    """Train a model by RL, or resume, and return its folder. A path is that of a TOML file.

    Raises:
        UsageError: packages that are not installed, or settings that do not fit.
        InputError: a file that cannot be read.
    """
    run = RlRun.read(run) if isinstance(run, Path) else run
    with packages_of("local,train", "train"):
        from pixel_reasoner.train.rl import train_rl as train
    return train(run)


def plan_rl(
    run: RlRun | Path, gpus: int = 8, gpu_gib: float = 80.0, like: str | None = None
) -> list[str]:
    """Return batches, tokens and memory of an RL run as lines of text. Loads no weights.

    Args:
        run: the run, or the path of its TOML file.
        gpus: number of GPUs that train.
        gpu_gib: memory of each, in GiB.
        like: a model of the same shape, where the model of the run does not exist yet.
    """
    from pixel_reasoner.train.plan import plan

    run = RlRun.read(run) if isinstance(run, Path) else run
    return plan(run, gpus, gpu_gib, like).lines(run, gpu_gib)
