"""The benchmarks as tasks of inspect_ai, for its log viewer and for any model that it can ask.

    inspect eval pixel_reasoner/benchmark -T task=vstar -T data=vstar_bench --model none     # our loop, a model of ours
    inspect eval pixel_reasoner/benchmark -T task=vstar -T data=vstar_bench -T loop=false --model openai/gpt-4o

Questions, prompts and scores are those of `pixel-reasoner eval`. With the loop a log shows every turn and every crop; without it a model of
inspect_ai is asked once, without operations. Extra: `inspect`.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import anyio
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
from inspect_ai.scorer import Score, Scorer, Target, accuracy, ci, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

from pixel_reasoner.evals.benchmark import select
from pixel_reasoner.evals.benchmarks import get_benchmark
from pixel_reasoner.evals.stats import cluster_of
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import Model as OurModel
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.extraction import answer_of, extract
from pixel_reasoner.scoring.grading import Scorer as OurScorer
from pixel_reasoner.scoring.grading import grade


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
    """A benchmark by the name that `pixel-reasoner eval --list` shows, or PixelWorld.

    Args:
        task: its name.
        data: the folder of its files.
        media: where pictures go that lie inside its files; a temporary folder by default.
        limit: rows to draw; 0 for all.
        limit_seed: of the draw.
        family: of PixelWorld.
        count: questions of PixelWorld.
        loop: ask a model of ours in our loop; else the model that inspect_ai was given, once and without operations.
        model: ours: `tiny`, a folder or a hub id.
        operations: whether our loop offers them.
        scorer: typed, harness or released.
    """
    folder = Path(media or tempfile.mkdtemp(prefix="pixel-reasoner-")).absolute()
    if task == "pixelworld":
        questions = world(family, count, folder)
    else:
        drawn = limit or None
        questions = select(
            get_benchmark(task), Path(data).absolute(), folder, drawn, limit_seed
        ).questions
    return Task(
        dataset=MemoryDataset([sample(question) for question in questions], name=task),
        solver=look_again(model, operations) if loop else generate(),
        scorer=typed(scorer),
        name=task,
    )


def world(family: str, count: int, folder: Path) -> list[Question]:
    """Questions of PixelWorld's test split."""
    from pixel_reasoner.world import render, scenes

    wanted = scenes(family, "test", 0, count)  # type: ignore[arg-type]
    return [with_media_root(question, folder) for question in render(wanted, folder)]


def sample(question: Question) -> Sample:
    """A question as a sample; the whole of it lies in the metadata."""
    return Sample(
        id=question.id,
        input=[ChatMessageUser(content=[*_media(question), ContentText(text=question.text)])],
        target=list(question.answer),
        metadata={
            "question": question.model_dump(mode="json"),
            "cluster": str(cluster_of(question)),
            "category": question.category,
        },
    )


def _media(question: Question) -> list[Content]:
    contents: list[Content] = []
    for medium in question.media:
        if medium.kind == "image":
            contents.append(ContentImage(image=medium.path))
        elif medium.kind == "video":
            contents.append(ContentVideo(video=medium.path, format="mp4"))
        else:
            files = sorted(Path(medium.path).iterdir())
            contents += [ContentImage(image=str(file)) for file in files]
    return contents


@solver
def look_again(
    model: str | OurModel = "tiny",
    operations: bool = True,
    max_turns: int = 6,
    max_new_tokens: int = 1024,
) -> Solver:
    """Our loop as a solver: the log gets every turn, and every picture that an operation returned."""
    rules = RolloutConfig(
        operations=operations,
        limits=RolloutLimits(max_turns=max_turns),
        sampling=SamplingParams(max_new_tokens=max_new_tokens),
    )
    asked = _loaded(model) if isinstance(model, str) else model
    one_at_a_time = anyio.Lock()

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        question = Question.model_validate(state.metadata["question"])
        async with one_at_a_time:
            trace = await anyio.to_thread.run_sync(ask, question, asked, rules)
        state.messages.extend(messages(trace))
        said = trace.turns[-1].text if trace.turns else ""
        state.output = ModelOutput.from_content(asked.name, said)
        state.metadata["trace"] = trace.model_dump(mode="json", exclude_defaults=True)
        return state

    return solve


def _loaded(name: str) -> OurModel:
    from pixel_reasoner.models.local import LocalModel

    return LocalModel(name)


def messages(trace: Trace) -> list[ChatMessage]:
    """The turns of a trace; what an operation returned is a user's message, its pictures as data."""
    album = MediaContext.of_trace(trace)
    told: list[ChatMessage] = []
    for turn in trace.turns:
        told.append(ChatMessageAssistant(content=turn.text))
        if turn.observation is not None:
            contents: list[Content] = [
                ContentImage(image=_as_data(album.view(p.number)))
                for p in turn.observation.pictures
            ]
            if turn.observation.text:
                contents.append(ContentText(text=turn.observation.text))
            told.append(ChatMessageUser(content=contents))
    return told


def _as_data(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@scorer(metrics=[accuracy(), stderr(cluster="cluster"), ci(method="bootstrap", cluster="cluster")])
def typed(by: str = "typed") -> Scorer:
    """The scores of `pixel-reasoner eval`."""
    who = OurScorer(by)

    async def score(state: TaskState, target: Target) -> Score:
        question = Question.model_validate(state.metadata["question"])
        trace = _trace(state)
        said = state.output.completion
        answer = answer_of(trace) if trace else extract(said, question)
        found = grade(answer, question, who)
        assert found is not None, "a benchmark's question has an answer"
        return Score(
            value=found.score,
            answer=answer,
            explanation=str(found.outcome),
            metadata=_looks(trace) if trace else None,
        )

    return score


def _trace(state: TaskState) -> Trace | None:
    kept = state.metadata.get("trace")
    return Trace.model_validate(kept) if kept else None


def _looks(trace: Trace) -> dict[str, Any]:
    return {
        "executed": len(trace.executed),
        "refused": len(trace.rejected),
        "evidence_hit": evidence_hit(trace),
    }
