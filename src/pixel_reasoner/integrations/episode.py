"""Episode: one question that a model outside this package answers, turn by turn. The adapters of training frameworks share it.

The framework generates, the episode executes calls with `rollout.state.Rollout`. So pictures, results and rewards are
those of `ask` and `train rl`. Imports no framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.models.api import Completion, Messages
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.openai_chat import openai_message
from pixel_reasoner.rollout.state import Rollout, collect_settings
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import ModelInfo, PixelBudgets, RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring import rewards
from pixel_reasoner.scoring.rewards import RewardConfig, RewardTerms
from pixel_reasoner.workflows.world import prompt_settings


class ExternalModel(NamedTuple):
    """Model that a framework runs."""

    name: str
    dialect: str
    budgets: PixelBudgets | None

    def describe(self) -> ModelInfo:
        """Return the name."""
        return ModelInfo(name=self.name)


@cache
def external_model(name: str) -> ExternalModel:
    """Return dialect and budgets of a bundled model, a model folder, a hub id or a dialect.

    Raises:
        UsageError: none of these.
        ModelError: a hub model whose settings cannot be downloaded.
    """
    return ExternalModel(name, *prompt_settings(name))


class Episode:
    r"""One question in progress.

    Args:
        question: with absolute paths of media and accepted answers.
        model: bundled model, folder, hub id or dialect; determines prompts and pixel budgets.
        config: operations and limits.

    Raises:
        InputError: an unusable media item.
        UsageError: an unknown model.

    >>> question = Question(id="1", text="Which colour?", media=(), answer=("red",))
    >>> episode = Episode(question, "compact")
    >>> [message["role"] for message in episode.messages()]
    ['system', 'user']
    >>> episode.step(r"It is red. \boxed{red}"), episode.is_done
    ([], True)
    >>> score_group([episode.trace()]).rewards_G
    [1.0]
    """

    def __init__(
        self, question: Question, model: str = "tiny", config: RolloutConfig | None = None
    ) -> None:
        found = external_model(model)
        config = config or RolloutConfig(strict=True)
        settings = FolderSettings(dialect=found.dialect, budgets=found.budgets)
        self.rollout = Rollout(question, settings, config)
        self.settings: RunSettings = collect_settings(found, config)  # type: ignore[arg-type]

    @property
    def is_done(self) -> bool:
        """Whether the episode has ended."""
        return self.rollout.stop is not None

    def messages(self) -> Messages:
        """Return the conversation so far, with pictures as PIL images."""
        return self.rollout.messages()

    def step(self, text: str, *, truncated: bool = False) -> Messages:
        """Record a turn, execute its calls, and return the new user message; no message if the episode has ended.

        Args:
            text: generated text, without the end token.
            truncated: whether a limit ended generation before the end token.
        """
        self.rollout.take(Completion(text=text, truncated=truncated))
        return [] if self.is_done else self.messages()[-1:]

    def trace(self, stop: StopReason = StopReason.MAX_CONTEXT) -> Trace:
        """Return the trace. `stop` is the reason if the framework ended the episode."""
        if not self.is_done:
            self.rollout.stop = stop
        return self.rollout.trace(self.settings)


def openai_messages(messages: Messages) -> list[dict[str, Any]]:
    """Return messages in OpenAI's format. Pictures are PNG files in data URLs, so their pixels stay equal."""
    return [openai_message(message) for message in messages]


def read_question(line: str) -> Question:
    """Return the question of a data set's row.

    Raises:
        InputError: another text.
    """
    return Question.from_line(line)


def pixelworld_questions(
    folder: Path,
    families: Sequence[str] = ("attribute",),
    split: str = "train",
    seed: int = 0,
    count: int = 256,
) -> Iterator[Question]:
    """Yield questions of PixelWorld with absolute paths. Media are rendered into a folder; existing files are kept.

    Args:
        folder: folder of the media.
        families: families of PixelWorld.
        split: train, validation or test.
        seed: number of the first scene.
        count: questions of each family.

    Raises:
        UsageError: an unknown family or split, or a count beyond the split.
    """
    from pixel_reasoner.sources.pixelworld import PixelWorldSource, Selection

    folder = folder.absolute()
    source = PixelWorldSource(
        families=tuple(families), split=split, seed=seed, count=count, selection=Selection.ONE
    )
    for question in source.questions(folder):
        if isinstance(question, Question):
            yield with_media_root(question, folder)


def score_group(traces: Sequence[Trace], config: RewardConfig | None = None) -> RewardTerms:
    """Return the reward terms of the rollouts of one question.

    Curiosity depends on the whole group. It is 0 for a group of one, so an environment that sees a single rollout gives
    correctness and cost.
    """
    config = config or RewardConfig()
    is_video = any(medium.kind != "image" for medium in traces[0].question.media)
    return rewards.group_rewards(
        [rewards.correctness(trace, config) for trace in traces],
        [rewards.num_operations(trace, config) for trace in traces],
        config,
        is_video=is_video,
    )


def rollout_metrics(trace: Trace) -> dict[str, float]:
    """Return the metrics of one rollout as numbers, always with the same names."""
    return {
        "answered": float(trace.stop is StopReason.ANSWERED),
        "executed": float(len(trace.executed)),
        "rejected": float(len(trace.rejected)),
        "turns": float(len(trace.turns)),
    }
