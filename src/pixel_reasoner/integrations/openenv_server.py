"""OpenEnv environment of PixelWorld: a server whose episodes are questions, for openenv 0.10.

    python -m pixel_reasoner.integrations.openenv_server --model Qwen/Qwen2.5-VL-7B-Instruct --port 8000

    with GenericEnvClient(base_url="http://localhost:8000").sync() as client:
        result = client.reset(split="train", index=0)      # messages in OpenAI's format, pictures as data URLs
        result = client.step({"text": reply})              # one message with the results of its calls, or the reward

An observation has the new messages: all of the prompt after `reset`, one user message after a call. The reward of the last
step is that of the rollout alone, without curiosity, which depends on a group.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.integrations.episode import (
    Episode,
    openai_messages,
    pixelworld_questions,
    rollout_metrics,
    score_group,
)
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.world import SPLITS


class Turn(Action):
    """Generated turn."""

    text: str = Field(description="Text of the turn, without the end token")
    truncated: bool = Field(default=False, description="Whether a limit ended generation")


class Result(Observation):
    """New messages for the model."""

    messages: list[dict[str, Any]] = Field(
        default_factory=list, description="Chat messages in OpenAI's format; empty at the end"
    )


@dataclass(frozen=True)
class WorldOptions:
    """Questions and limits of a server."""

    model: str = "tiny"
    """bundled model, folder, hub id or dialect"""
    families: tuple[str, ...] = ("attribute",)
    """families of PixelWorld"""
    count: int = 256
    """questions of each family and split"""
    max_turns: int = 6
    folder: Path = Path("runs/openenv")
    """folder of the pictures and clips"""


DEFAULTS = WorldOptions()


class PixelWorldEnvironment(Environment):
    """Episodes about questions of PixelWorld. Each session has its own environment.

    Args:
        options: questions and limits.
        reward: constants of the reward.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(
        self, options: WorldOptions = DEFAULTS, reward: RewardConfig | None = None
    ) -> None:
        super().__init__()
        self.options, self.reward = options, reward or RewardConfig()
        self.episode: Episode | None = None
        self._state = State()

    # --- tasks ---

    def list_splits(self) -> list[str]:
        """Return the splits of PixelWorld."""
        return list(SPLITS)

    def num_tasks(self, split: str) -> int:
        """Return the number of questions of a split."""
        self._check_split(split)
        return self.options.count * len(self.options.families)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Return id, category and text of a question, without its answer."""
        question = self._question(split, index)
        return {"id": question.id, "category": question.category, "text": question.text}

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """Return the indices of the questions of a split, without rendering them."""
        return [{"id": f"{split}-{n}", "index": n} for n in range(self.num_tasks(split))]

    # --- episodes ---

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        *,
        split: str = "train",
        index: int | None = None,
        **options: Any,
    ) -> Result:
        """Start an episode and return its prompt.

        Args:
            seed: selects the question if `index` is not given.
            episode_id: name of the episode.
            split: train, validation or test.
            index: number of the question.
            options: ignored.
        """
        del options
        number = (seed or 0) % self.num_tasks(split) if index is None else index
        limits = RolloutLimits(max_turns=self.options.max_turns)
        question = self._question(split, number)
        self.episode = Episode(
            question, self.options.model, RolloutConfig(limits=limits, strict=True)
        )
        self._state = State(episode_id=episode_id or uuid4().hex, step_count=0)
        return Result(messages=openai_messages(self.episode.messages()))

    def step(self, action: Turn, timeout_s: float | None = None, **options: Any) -> Result:
        """Execute the calls of a turn. The last step of an episode has its reward.

        Raises:
            InputError: no episode in progress.
        """
        del timeout_s, options
        episode = self.episode
        if episode is None or episode.is_done:
            raise InputError(
                expected="a step of an episode in progress", got="none", fix="call reset first"
            )
        self._state.step_count += 1
        messages = openai_messages(episode.step(action.text, truncated=action.truncated))
        if not episode.is_done:
            return Result(messages=messages)
        trace = episode.trace()
        reward = score_group([trace], self.reward).rewards_G[0]
        return Result(done=True, reward=reward, metadata=rollout_metrics(trace))

    @property
    def state(self) -> State:
        """Id and number of steps of the episode."""
        return self._state

    def _question(self, split: str, index: int) -> Question:
        if not 0 <= index < self.num_tasks(split):
            raise IndexError(f"index {index}: must be 0 to {self.num_tasks(split) - 1}")
        number, family = divmod(index, len(self.options.families))
        chosen = (self.options.families[family],)
        (question,) = pixelworld_questions(self.options.folder, chosen, split, number, 1)
        return question

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise UsageError(
                expected=f"split {', '.join(SPLITS)}", got=repr(split), fix="name one of these"
            )


def create_world_app(
    options: WorldOptions = DEFAULTS,
    reward: RewardConfig | None = None,
    max_sessions: int = 64,
) -> Any:
    """Return the FastAPI application of an OpenEnv server."""
    factory: Callable[[], PixelWorldEnvironment] = partial(PixelWorldEnvironment, options, reward)
    return create_fastapi_app(
        factory, Turn, Result, max_concurrent_envs=max_sessions, env_name="pixelworld"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve PixelWorld."""
    import uvicorn

    parser = argparse.ArgumentParser(description="Serve PixelWorld as an OpenEnv environment.")
    parser.add_argument("--model", default=DEFAULTS.model, help="whose prompts and pixel budgets")
    parser.add_argument("--family", nargs="+", default=list(DEFAULTS.families))
    parser.add_argument("--count", type=int, default=DEFAULTS.count)
    parser.add_argument("--max-turns", type=int, default=DEFAULTS.max_turns)
    parser.add_argument("--folder", type=Path, default=DEFAULTS.folder, help="of the pictures")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args(arguments)
    options = WorldOptions(
        given.model, tuple(given.family), given.count, given.max_turns, given.folder
    )
    uvicorn.run(create_world_app(options), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
