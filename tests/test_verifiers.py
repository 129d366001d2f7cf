"""PixelWorld as a verifiers environment, run by verifiers against a chat server. It has an environment of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

pytest.importorskip("verifiers", reason="verifiers has an environment of its own: make adapters")

import verifiers.v1 as vf
from verifiers.v1.utils.loaders import environment_class, load_environment

from chat_server import conversation_of, served
from episode_fixture import MAX_TURNS, asked, contents, pixels, reward_of, texts_of
from pixel_reasoner.integrations import verifiers_env
from pixel_reasoner.integrations.episode import Episode, external_model, read_question
from pixel_reasoner.models.api import collect_images
from pixel_reasoner.models.scripted import ScriptedModel

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "verifiers"))


def environment(folder: Path, **options) -> vf.Env:
    """Return the environment as verifiers loads it by its id."""
    taskset = {"id": "pixelworld-env", "count": 2, "folder": str(folder)}
    config_type = environment_class("pixelworld-env").__orig_bases__[0].__args__[0]
    return load_environment(config_type(taskset=taskset, max_turns=MAX_TURNS, **options))


def episode_of(env: vf.Env, task: vf.Task, url: str) -> vf.Episode:
    async def run() -> vf.Episode:
        client = vf.EvalClientConfig(base_url=url, api_key_var="NO_KEY")
        sampling = vf.SamplingConfig(temperature=0.0, max_tokens=64)
        context = vf.ModelContext(model="served", client=client, sampling=sampling)
        async with env.serving():
            return await env.run_episode(task, context)

    return asyncio.run(run())


@pytest.fixture
def kept(monkeypatch) -> list[Episode]:
    """Our episodes, in the order of their start."""
    kept = []

    class Kept(Episode):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(verifiers_env, "Episode", Kept)
    return kept


def test_an_episode_has_trace_pictures_and_reward_of_our_own_rollout(tmp_path, kept):
    env = environment(tmp_path)
    tasks = list(env.taskset)
    assert len(tasks) == 2
    question = read_question(tasks[0].data.question)
    texts = texts_of(question)
    found = external_model("tiny")
    with served(ScriptedModel(texts, dialect=found.dialect, budgets=found.budgets)) as server:
        episode = episode_of(env, tasks[0], server.url)
        sent = server.requests
    assert episode.ok, [*episode.errors, *(one.errors for one in episode.traces)]
    (trace,) = episode.traces
    ours = asked(question, texts)
    assert contents(kept[0].trace()) == contents(ours)
    assert sum(one.score for one in trace.rewards.values()) == reward_of(ours) == 0.95
    assert trace.metrics["executed"] == 2
    assert trace.num_turns == len(sent) == len(texts)
    seen = collect_images(conversation_of(sent[-1]["messages"]))
    assert [one.tobytes() for one in seen] == pixels(ours)


def test_an_episode_of_a_group_has_the_curiosity_of_its_group(tmp_path):
    """One rollout of four looks: the others answer in their first turn."""
    env = environment(tmp_path, group_size=4, reward={"H": 0.5}, max_concurrent_agents=1)
    task = next(iter(env.taskset))
    texts = texts_of(read_question(task.data.question))
    started = []

    def script(conversation) -> str:
        turn = sum(message["role"] == "assistant" for message in conversation)
        started.append(turn == 0)
        return texts[turn] if turn or sum(started) == 1 else r"\boxed{nothing}"

    with served(ScriptedModel(script)) as server:
        episode = episode_of(env, task, server.url)
    assert episode.ok, [*episode.errors, *(one.errors for one in episode.traces)]
    terms = sorted(
        tuple(one.rewards[name].score for name in ("correctness", "curiosity", "cost"))
        for one in episode.traces
    )
    assert terms == [(0, 0, 0)] * 3 + [(1, 0.5 * (0.5 - 0.25), -0.05)]


def test_a_server_that_fails_gives_an_episode_with_errors_and_no_reward(tmp_path):
    env = environment(tmp_path)
    with served(ScriptedModel(["?"])) as server:
        server.always = "401"
        episode = episode_of(env, next(iter(env.taskset)), server.url)
    assert not episode.ok
    assert not any(one.rewards for one in episode.traces)
