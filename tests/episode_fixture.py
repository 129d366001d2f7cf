"""One PixelWorld question, a scripted model that looks twice, and the trace of our own `ask`, for the tests of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.integrations.episode import external_model, pixelworld_questions, score_group
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits
from pixel_reasoner.schema.trace import Trace

MAX_TURNS = 4


def zoom(box: Sequence[float]) -> str:
    return (
        "Too small to make out, so I zoom in.\n<tool_call>\n"
        f'{{"name": "zoom_in", "arguments": {{"bbox_2d": {list(box)}, "target_image": 1}}}}\n</tool_call>'
    )


BROKEN = "I zoom in.\n<tool_call>\n{broken\n</tool_call>"


def world_question(folder: Path, number: int = 0) -> Question:
    (question,) = pixelworld_questions(folder, ("attribute",), "train", number, 1)
    return question


def texts_of(question: Question) -> list[str]:
    """Return the turns of a rollout: a look, a call that is rejected, another look, and the right answer."""
    return [
        zoom([0.1, 0.1, 0.9, 0.9]),
        BROKEN,
        zoom([0.2, 0.3, 0.6, 0.5]),
        f"Now I see it. \\boxed{{{question.answer[0]}}}",
    ]


def asked(question: Question, texts: Sequence[str], model: str = "tiny") -> Trace:
    """Return the trace of our own rollout with these turns."""
    found = external_model(model)
    scripted = ScriptedModel(texts, dialect=found.dialect, budgets=found.budgets)
    return ask(
        question, scripted, RolloutConfig(limits=RolloutLimits(max_turns=MAX_TURNS), strict=True)
    )


def reward_of(trace: Trace) -> float:
    return score_group([trace]).rewards_G[0]


def contents(trace: Trace) -> dict:
    """Return everything of a trace but times and settings."""
    turns = [
        turn.model_copy(update={"generate_s": 0.0, "operate_s": 0.0}).model_dump(
            exclude={"token_ids", "logprobs", "num_prompt_tokens", "num_completion_tokens"}
        )
        for turn in trace.turns
    ]
    kept = trace.model_dump(include={"question", "pictures", "stop", "answer", "sampling"})
    return {**kept, "turns": turns}


def pixels(trace: Trace) -> list[bytes]:
    """Return the pixels of all pictures that the model saw, in order."""
    context = MediaContext.of_trace(trace)
    return [context.view(number).tobytes() for number in range(1, len(context) + 1)]
