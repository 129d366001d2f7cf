"""Environment of SkyRL: with its base classes where skyrl-gym is installed (make adapters), otherwise with doubles of them."""

from __future__ import annotations

import asyncio
import copy
from types import SimpleNamespace

import pytest

from chat_server import conversation_of
from episode_fixture import MAX_TURNS, asked, contents, pixels, reward_of, texts_of, world_question
from framework_doubles import skyrl_gym
from pixel_reasoner.integrations.skyrl_env import (
    GroupRewardMixin,
    PixelReasonerEnv,
    add_curiosity,
)
from pixel_reasoner.models.api import collect_images
from pixel_reasoner.schema.trace import StopReason
from pixel_reasoner.scoring.rewards import RewardConfig


@pytest.fixture
def question(tmp_path):
    return world_question(tmp_path)


def environment(question, **options) -> PixelReasonerEnv:
    """Return the environment as SkyRL's generator makes it."""
    extras = {"extra_info": {"question": question.to_line()}, "max_turns": MAX_TURNS}
    skyrl_gym.envs.registration.registry.pop("pixel_reasoner", None)
    target = "pixel_reasoner.integrations.skyrl_env:PixelReasonerEnv"
    skyrl_gym.register("pixel_reasoner", target, kwargs=options)
    return skyrl_gym.make("pixel_reasoner", env_config={}, extras=extras)


def test_an_episode_has_trace_pictures_and_reward_of_our_own_rollout(question):
    texts = texts_of(question)
    env = environment(question)
    conversation, _ = env.init([{"role": "user", "content": "<image>The prompt of the row"}])
    rewards = []
    for text in texts:  # as SkyRLVLMGymGenerator.agent_loop
        step = env.step(text)
        rewards.append(step["reward"])
        conversation.append({"role": "assistant", "content": text})
        conversation.extend(step["observations"])
        assert step["done"] == (text == texts[-1])
    ours = asked(question, texts)
    assert rewards == [0, 0, 0, reward_of(ours)]
    assert contents(env.trace()) == contents(ours)
    seen = collect_images(conversation_of(conversation))
    assert [one.tobytes() for one in seen] == pixels(ours)


def test_options_of_the_registration_determine_prompt_and_reward(question):
    env = environment(question, model="pixel_reasoner", max_turns=1, reward={"unparsed": -1})
    conversation, _ = env.init([])
    assert conversation != environment(question).init([])[0]
    step = env.step("no answer")
    assert (step["done"], step["reward"]) == (True, -1.0)
    assert env.max_turns == 1


def output(question, scripts: list[list[str]]) -> dict:
    """Return a batch as SkyRL generates it, with one group per question."""
    metrics, rewards = [], []
    for script in scripts:
        env = environment(question)
        steps = [env.step(text) for text in script]
        metrics.append(env.get_metrics())
        rewards.append([0.0, 0.0, steps[-1]["reward"]])
    ids = [SimpleNamespace(instance_id=str(n // 4)) for n in range(len(scripts))]
    return {"rewards": rewards, "env_metrics": metrics, "trajectory_ids": ids}


def test_curiosity_is_added_to_the_rollouts_that_look_in_groups_that_seldom_do(question):
    looks, guesses = texts_of(question), [r"\boxed{nothing}"]
    batch = output(question, [looks, guesses, guesses, guesses, looks, looks, looks, guesses])
    before = copy.deepcopy(batch["rewards"])
    add_curiosity(batch, RewardConfig(H=0.5))
    added = [sum(one) - sum(other) for one, other in zip(batch["rewards"], before, strict=True)]
    assert added == pytest.approx([0.5 * 0.25, 0, 0, 0, 0, 0, 0, 0])
    assert [one[:-1] for one in batch["rewards"]] == [[0.0, 0.0]] * 8


def test_a_generator_with_the_mixin_returns_rewards_with_the_group_term(question):
    class Stock:
        async def generate(self, batch):
            return output(question, batch)

    class Generator(GroupRewardMixin, Stock):
        reward = RewardConfig(H=0.5)

    guesses = [r"\boxed{nothing}"]
    batch = [texts_of(question), guesses, guesses, guesses]
    rewards = [sum(one) for one in asyncio.run(Generator().generate(batch))["rewards"]]
    assert rewards == pytest.approx([0.95 + 0.125, 0, 0, 0])


def test_an_episode_that_ends_at_a_token_limit_has_metrics(question):
    env = environment(question)
    env.step(texts_of(question)[0])
    assert env.get_metrics() == {
        "answered": 0.0,
        "executed": 1.0,
        "rejected": 0.0,
        "turns": 1.0,
        "correctness": 0.0,
        "counted": 1.0,
        "is_video": 0.0,
    }
    assert env.trace().stop is StopReason.MAX_CONTEXT
