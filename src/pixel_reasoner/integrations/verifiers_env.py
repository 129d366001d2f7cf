"""verifiers environment of PixelWorld, for verifiers 0.4: looks are user messages with pictures.

`examples/verifiers` is a package that exports it under the id `pixelworld-env`:

    pip install ./examples/verifiers
    vf-eval pixelworld-env -n 20 --model MODEL --client.base-url http://localhost:8000/v1 --env.model MODEL --env.group-size 4

The environment is the user of the conversation: it executes the calls of each reply and answers with the pictures. An
episode has the `group_size` rollouts of one question, because curiosity depends on a group; each has the rewards
`correctness`, `curiosity` and `cost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import verifiers.v1 as vf
from pydantic import Field
from verifiers.v1.dialects.chat import message_to_wire

from pixel_reasoner.integrations.episode import (
    Episode,
    openai_messages,
    pixelworld_questions,
    read_question,
    rollout_metrics,
    score_group,
)
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.rewards import RewardConfig, RewardTerms

__all__ = ["PixelWorldEnv", "PixelWorldHarness", "PixelWorldTaskset"]


class PixelWorldData(vf.TaskData):
    """Question of PixelWorld as a JSON line. The environment opens the conversation, so there is no prompt."""

    question: str


class PixelWorldTask(vf.Task[PixelWorldData]):
    """Question of PixelWorld. The environment computes its rewards."""


class PixelWorldTasksetConfig(vf.TasksetConfig):
    """Which questions."""

    families: list[str] = Field(default_factory=lambda: ["attribute"])
    split: str = "train"
    seed: int = 0
    """number of the first scene within the split"""
    count: int = 256
    """questions of each family"""
    folder: Path = Path("runs/verifiers")
    """folder of the pictures and clips"""


class PixelWorldTaskset(vf.Taskset[PixelWorldTask, PixelWorldTasksetConfig]):
    """Questions of PixelWorld."""

    def load(self) -> Iterator[PixelWorldTask]:
        """Render and yield the questions."""
        config = self.config
        for question in pixelworld_questions(
            config.folder, config.families, config.split, config.seed, config.count
        ):
            data = PixelWorldData(id=question.id, name=question.id, question=question.to_line())
            yield PixelWorldTask(data, config.task)


class PixelWorldHarness(vf.Harness[vf.HarnessConfig]):
    """Chat without tools in the process of the environment: one request per turn and no program to start."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(  # noqa: PLR0913 - verifiers' signature
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Send the conversation to verifiers' endpoint, which records the reply in the trace."""
        _, messages = self.resolve_prompt(data)
        body = {"model": ctx.model, "messages": [message_to_wire(one) for one in messages or []]}
        async with httpx.AsyncClient(timeout=None) as client:
            response = await client.post(
                f"{endpoint}/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {secret}"},
            )
        return vf.ProgramResult(int(response.is_error), "", response.text)


class PixelWorldEnvConfig(vf.EnvConfig):
    """Model, limits and rewards of episodes."""

    player: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    model: str = "tiny"
    """bundled model, folder, hub id or dialect: determines prompts and pixel budgets"""
    group_size: int = Field(1, ge=1)
    """rollouts of one question in an episode"""
    max_turns: int = Field(6, ge=1)
    reward: dict[str, Any] = Field(default_factory=dict)
    """constants of `RewardConfig`"""


class PixelWorldEnv(vf.Env[PixelWorldEnvConfig]):
    """Episodes about questions of PixelWorld."""

    async def run(self, task: PixelWorldTask, agents: vf.Agents) -> None:
        """Generate the rollouts of a question and record their rewards."""
        config = self.config
        reward = RewardConfig(**config.reward)
        played = await asyncio.gather(
            *(self._play(task, agents.player) for _ in range(config.group_size))
        )
        finished = [(theirs, ours) for theirs, ours in played if ours is not None]
        if not finished:
            return
        terms = score_group([ours for _, ours in finished], reward)
        for number, (theirs, ours) in enumerate(finished):
            for name in RewardTerms._fields:
                theirs.record_reward(name.removesuffix("_G"), getattr(terms, name)[number])
            theirs.record_metrics(rollout_metrics(ours))

    async def _play(self, task: PixelWorldTask, player: vf.Agent) -> tuple[vf.Trace, Trace | None]:
        """Return one rollout as verifiers' trace and as ours; None if the agent failed."""
        question = read_question(task.data.question)
        limits = RolloutLimits(max_turns=self.config.max_turns)
        episode = await asyncio.to_thread(
            Episode, question, self.config.model, RolloutConfig(limits=limits, strict=True)
        )
        messages = episode.messages()
        async with player.interaction(task) as interaction:
            trace = interaction.trace
            while messages:
                segment = await interaction.turn(await asyncio.to_thread(openai_messages, messages))
                if segment.terminated:
                    break
                # `last_reply` has no surrounding white space, but our traces keep the text as it is.
                text = segment.messages[-1].content or ""
                messages = await asyncio.to_thread(
                    episode.step, text, truncated=trace.calls[-1].finish_reason == "length"
                )
        if trace.errors:
            return trace, None
        return trace, episode.trace()
