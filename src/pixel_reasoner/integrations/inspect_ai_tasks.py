"""inspect_ai tasks for all benchmarks: with inspect_ai's log viewer and any of its models.

    inspect eval pixel_reasoner/benchmark -T task=vstar -T data=vstar_bench --model none     # our rollouts and model
    inspect eval pixel_reasoner/benchmark -T task=vstar -T data=vstar_bench -T loop=false --model openai/gpt-4o

Questions, prompts and scores are the same as in `pixel-reasoner eval`. With `loop` the log contains every turn and
every crop.
Without it a model of inspect_ai answers in one turn, without operations. Extra: `inspect`.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentText,
    ContentVideo,
    ModelOutput,
)
from inspect_ai.scorer import (
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    accuracy,
    ci,
    metric,
    scorer,
    stderr,
)
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

from pixel_reasoner.evals.benchmark import select_questions
from pixel_reasoner.evals.benchmarks import get_benchmark
from pixel_reasoner.evals.stats import get_cluster
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.ask import ask_async
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.extraction import extract, extract_trace_answer
from pixel_reasoner.scoring.grading import Scorer as OurScorer, grade
from pixel_reasoner.workflows.world import WorldSpec, prompt_settings
from pixel_reasoner.workflows.world2 import world2_questions, world2_source


@task
def benchmark(  # noqa: PLR0913 - each is a flag, `-T name=value`
    task: str = "pixelworld",
    data: str = "",
    media: str = "",
    limit: int = 0,
    limit_seed: int = 0,
    family: str = "attribute",
    count: int = 100,
    loop: bool = True,
    model: str = "tiny",
    operations: bool = True,
    scorer: str = "typed",
) -> Task:
    """Return a benchmark of `pixel-reasoner eval --list`, PixelWorld, or PixelWorld 2 (`pixelworld2`), as a task.

    Args:
        task: name of the benchmark.
        data: folder of the benchmark's files.
        media: folder for pictures embedded in its files; default: a temporary folder.
        limit: number of rows to draw at random; 0: all.
        limit_seed: random seed of the draw.
        family: PixelWorld family; of PixelWorld 2 also `all` or a comma-separated list.
        count: number of PixelWorld questions.
        loop: run rollouts of our model; False: ask the model of inspect_ai once, without operations.
        model: our model: `tiny`, a folder or a hub id. Its overview decides the sizes of PixelWorld 2, also without `loop`.
        operations: whether operations are available in rollouts.
        scorer: typed, harness or released.
    """
    folder = Path(media or tempfile.mkdtemp(prefix="pixel-reasoner-")).absolute()
    if task == "pixelworld":
        questions = world(family, count, folder)
    elif task == "pixelworld2":
        questions = world2(family, count, folder, model)
    else:
        files = Path(data).absolute()
        selection = select_questions(get_benchmark(task), files, folder, limit or None, limit_seed)
        questions = selection.questions
    return Task(
        dataset=MemoryDataset([sample(question) for question in questions], name=task),
        solver=look_again(model, operations) if loop else generate(),
        scorer=typed(scorer),
        name=task,
    )


def world(family: str, count: int, folder: Path) -> list[Question]:
    """Return questions of the test split of PixelWorld, rendered into a folder."""
    from pixel_reasoner.world import render, scenes

    rendered = render(scenes(family, "test", 0, count), folder)  # type: ignore[arg-type]
    return [with_media_root(question, folder) for question in rendered]


def world2(family: str, count: int, folder: Path, model: str = "tiny") -> list[Question]:
    """Return questions of the test split of PixelWorld 2 for the overview of a model or dialect, rendered into a folder."""
    spec = WorldSpec(family=family, count=count, world=2)
    source = world2_source(spec, prompt_settings(model)[1])
    return [with_media_root(question, folder) for question in world2_questions(source, folder)]


def sample(question: Question) -> Sample:
    """Return a question as a sample. The metadata contains the whole record."""
    return Sample(
        id=question.id,
        input=[ChatMessageUser(content=[*_media(question), ContentText(text=question.text)])],
        target=list(question.answer),
        metadata={
            "question": question.model_dump(mode="json"),
            "cluster": str(get_cluster(question)),
            "category": question.category,
            "needs_operation": question.needs_look,
            **question.labels,
        },
    )


def _media(question: Question) -> list[Content]:
    contents: list[Content] = []
    for item in question.media:
        if item.kind == "image":
            contents.append(ContentImage(image=item.path))
        elif item.kind == "video":
            contents.append(ContentVideo(video=item.path, format="mp4"))
        else:
            files = sorted(Path(item.path).iterdir())
            contents += [ContentImage(image=str(file)) for file in files]
    return contents


@solver
def look_again(
    model: str | GenerationModel = "tiny",
    operations: bool = True,
    max_turns: int = 6,
    max_new_tokens: int = 1024,
) -> Solver:
    """Return a solver that runs rollouts. The log contains every turn, and every picture that an operation returned."""
    config = RolloutConfig(
        operations=operations,
        limits=RolloutLimits(max_turns=max_turns),
        sampling=SamplingParams(max_new_tokens=max_new_tokens),
    )
    loaded = _load(model) if isinstance(model, str) else model

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        question = Question.model_validate(state.metadata["question"])
        # All samples share one scheduler and its batch.
        trace = await ask_async(question, loaded, config)
        state.messages.extend(messages(trace))
        last = trace.turns[-1].text if trace.turns else ""
        state.output = ModelOutput.from_content(loaded.name, last)
        state.metadata["trace"] = trace.model_dump(mode="json", exclude_defaults=True)
        return state

    return solve


def _load(name: str) -> GenerationModel:
    from pixel_reasoner.models.local import LocalModel

    return LocalModel(name)


def messages(trace: Trace) -> list[ChatMessage]:
    """Return the turns of a trace as messages. Tool results are user messages with pictures as data URIs."""
    context = MediaContext.of_trace(trace)
    found: list[ChatMessage] = []
    for turn in trace.turns:
        found.append(ChatMessageAssistant(content=turn.text))
        for observation in turn.observations:
            contents: list[Content] = [
                ContentImage(image=_data_uri(context.view(picture.number)))
                for picture in observation.pictures
            ]
            if observation.text:
                contents.append(ContentText(text=observation.text))
            found.append(ChatMessageUser(content=contents))
    return found


def _data_uri(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@metric
def rapr_difference() -> Metric:
    """Return a metric: share of questions with an operation where one is needed, minus where none is."""

    def compute(scores: list[SampleScore]) -> float:
        uses: dict[bool, list[float]] = {True: [], False: []}
        for one in scores:
            found = one.score.metadata or {}
            if found.get("needs_operation") is not None:
                uses[bool(found["needs_operation"])].append(float(found["executed"] > 0))
        if not all(uses.values()):
            return 0.0
        needed, unneeded = (sum(uses[need]) / len(uses[need]) for need in (True, False))
        return needed - unneeded

    return compute


@scorer(
    metrics=[
        accuracy(),
        stderr(cluster="cluster"),
        ci(method="bootstrap", cluster="cluster"),
        rapr_difference(),
    ]
)
def typed(by: str = "typed") -> Scorer:
    """Return a scorer with the scores of `pixel-reasoner eval`."""
    chosen = OurScorer(by)

    async def score(state: TaskState, target: Target) -> Score:
        question = Question.model_validate(state.metadata["question"])
        trace = _trace(state)
        text = state.output.completion
        answer = extract_trace_answer(trace) if trace else extract(text, question)
        found = grade(answer, question, chosen)
        assert found is not None, "questions of benchmarks have an answer"
        return Score(
            value=found.score,
            answer=answer,
            explanation=str(found.outcome),
            metadata=_operation_metrics(trace) if trace else None,
        )

    return score


def _trace(state: TaskState) -> Trace | None:
    stored = state.metadata.get("trace")
    return Trace.model_validate(stored) if stored else None


def _operation_metrics(trace: Trace) -> dict[str, Any]:
    return {
        "executed": len(trace.executed),
        "needs_operation": trace.question.needs_look,
        "refused": len(trace.rejected),
        "evidence_hit": evidence_hit(trace),
    }
