"""SkyRL environment that executes visual operations, and a generator mixin with the group term, for SkyRL 0.4.

    skyrl_gym.register("pixel_reasoner", PixelReasonerEnv, kwargs={"model": "Qwen/Qwen2.5-VL-7B-Instruct"})

Rows come from `pixel-reasoner export --to verl`: the column `env_class` selects the environment, `extra_info` has the
question. The environment replaces the prompt of the row by the one of the model's dialect, with pictures as data URLs.

The last step has the reward of its rollout alone, without curiosity. `GroupRewardMixin` adds it to the batch:

    class Generator(GroupRewardMixin, SkyRLVLMGymGenerator): ...

SkyRL passes texts, not tokens, so a truncated turn is read like a complete one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from pixel_reasoner.integrations.episode import (
    Episode,
    openai_messages,
    read_question,
    rollout_metrics,
    score_group,
)
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring import rewards
from pixel_reasoner.scoring.rewards import RewardConfig

DEFAULT_MAX_TURNS = 6


class PixelReasonerEnv(BaseTextEnv):
    """One question. SkyRL passes the first two arguments, `kwargs` of the registration the others.

    Args:
        env_config: not used: SkyRL's configuration has a fixed list of environments.
        extras: columns of the row, and `max_turns` of the generator.
        model: bundled model, folder, hub id or dialect; determines prompts and pixel budgets.
        max_turns: maximum number of model messages; by default that of the generator.
        reward: constants of `RewardConfig`.

    Raises:
        InputError: a row without a question, or unusable media.
    """

    def __init__(
        self,
        env_config: Any = None,
        extras: Mapping[str, Any] | None = None,
        *,
        model: str = "tiny",
        max_turns: int | None = None,
        reward: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        del env_config
        extras = dict(extras or {})
        self.max_turns = max_turns or int(extras.get("max_turns", DEFAULT_MAX_TURNS))
        self.reward = RewardConfig(**(reward or {}))
        self.episode = Episode(
            read_question(str(extras["extra_info"]["question"])),
            model,
            RolloutConfig(limits=RolloutLimits(max_turns=self.max_turns), strict=True),
        )

    def init(self, prompt: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the prompt of the question, instead of the row's."""
        del prompt
        return openai_messages(self.episode.messages()), {}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Execute the calls of a turn. The last step of an episode has its reward."""
        self.turns += 1
        observations = openai_messages(self.episode.step(action))
        reward = 0.0
        if self.episode.is_done:
            reward = score_group([self.trace()], self.reward).rewards_G[0]
        return BaseTextEnvStepOutput(
            observations=observations, reward=reward, done=self.episode.is_done, metadata={}
        )

    def trace(self) -> Trace:
        """Return the trace. Ends an unfinished episode, which SkyRL stopped at a token limit."""
        return self.episode.trace()

    def get_metrics(self) -> dict[str, float]:
        """Return the metrics of the episode, and what the group term needs."""
        trace = self.trace()
        return {
            **rollout_metrics(trace),
            "correctness": rewards.correctness(trace, self.reward),
            "counted": float(rewards.num_operations(trace, self.reward)),
            "is_video": float(any(one.kind != "image" for one in trace.question.media)),
        }


class GroupRewardMixin:
    """Mixin for SkyRL's generators: adds curiosity to the last token of each rollout. Set `reward` in a subclass."""

    reward = RewardConfig()

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate a batch and add the group term."""
        output = await super().generate(*args, **kwargs)  # type: ignore[misc]
        add_curiosity(output, self.reward)
        return output


def add_curiosity(output: Any, reward: RewardConfig) -> None:
    """Add curiosity to the rewards of a generated batch, for each group of trajectories with one instance id.

    Args:
        output: `GeneratorOutput` with rewards per token, metrics of the environment, and trajectory ids.
        reward: constants of the reward.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for row, trajectory in enumerate(output["trajectory_ids"]):
        groups[trajectory.instance_id].append(row)
    for rows in groups.values():
        metrics = [output["env_metrics"][row] for row in rows]
        terms = rewards.group_rewards(
            [one["correctness"] for one in metrics],
            [int(one["counted"]) for one in metrics],
            reward,
            is_video=bool(metrics[0]["is_video"]),
        )
        for row, bonus in zip(rows, terms.curiosity_G, strict=True):
            if output["rewards"][row]:
                output["rewards"][row][-1] += bonus
