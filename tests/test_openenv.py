"""PixelWorld as an OpenEnv server, with the base classes and the client of openenv. It has an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("openenv", reason="openenv has an environment of its own: make adapters")

import uvicorn
from openenv import GenericEnvClient

from chat_server import conversation_of
from episode_fixture import MAX_TURNS, asked, contents, pixels, reward_of, texts_of, world_question
from pixel_reasoner.errors import InputError
from pixel_reasoner.integrations import openenv_server
from pixel_reasoner.integrations.openenv_server import (
    PixelWorldEnvironment,
    Turn,
    WorldOptions,
    create_world_app,
)
from pixel_reasoner.models.api import collect_images

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> WorldOptions:
    folder = tmp_path_factory.mktemp("world")
    return WorldOptions(count=3, max_turns=MAX_TURNS, folder=folder)


@pytest.fixture(scope="module")
def url(options):
    config = uvicorn.Config(create_world_app(options), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_an_episode_of_a_client_has_pictures_and_reward_of_our_own_rollout(url, options):
    question = world_question(options.folder, 1)
    texts = texts_of(question)
    ours = asked(question, texts)
    seen = []
    with GenericEnvClient(base_url=url).sync() as client:
        result = client.reset(split="train", index=1)
        for number, text in enumerate(texts):
            seen += collect_images(conversation_of(result.observation["messages"]))
            assert result.done is False
            result = client.step({"text": text})
            assert len(result.observation["messages"]) == (number < len(texts) - 1)
        assert client.state()["step_count"] == len(texts)
    assert result.done is True
    assert result.reward == pytest.approx(reward_of(ours)) == 0.95
    assert [one.tobytes() for one in seen] == pixels(ours)


def test_the_server_passes_openenvs_validation(url):
    command = [Path(sys.executable).with_name("openenv"), "validate", "--url", url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"passed": true' in done.stdout


def test_sessions_of_clients_are_separate(url, options):
    questions = [world_question(options.folder, number) for number in range(2)]
    with (
        GenericEnvClient(base_url=url).sync() as one,
        GenericEnvClient(base_url=url).sync() as other,
    ):
        for client, seed in ((one, 0), (other, 1)):
            client.reset(seed=seed)
        for client, question in ((other, questions[1]), (one, questions[0])):
            result = client.step({"text": texts_of(question)[-1]})
            assert (result.done, result.reward) == (True, 1.0)


def test_the_trace_of_an_environment_is_that_of_our_own_rollout(options):
    environment = PixelWorldEnvironment(options)
    environment.reset(index=2)
    question = environment.episode.rollout.question
    texts = texts_of(question)
    results = [environment.step(Turn(text=text)) for text in texts]
    assert contents(environment.episode.trace()) == contents(asked(question, texts))
    assert results[-1].metadata == {"answered": 1.0, "executed": 2.0, "rejected": 1.0, "turns": 4.0}
    with pytest.raises(InputError, match="call reset first"):
        environment.step(Turn(text="again"))
    environment.reset(index=2)
    cut_off = environment.step(Turn(text=texts[-1], truncated=True))
    assert (cut_off.done, cut_off.reward) == (True, 0.0)


def test_tasks_are_listed_without_their_answers(options):
    environment = PixelWorldEnvironment(options)
    assert environment.list_splits() == ["train", "validation", "test"]
    assert environment.num_tasks("test") == len(environment.list_tasks("test")) == 3
    task = environment.get_task("test", 2)
    assert set(task) == {"id", "category", "text"}
    with pytest.raises(IndexError, match="must be 0 to 2"):
        environment.get_task("test", 3)
    with pytest.raises(ValueError, match="name one of these"):
        environment.reset(split="tset")


def test_the_command_serves_the_given_questions(monkeypatch, options):
    served = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **more: served.append((app, more)))
    monkeypatch.setattr(openenv_server, "create_world_app", lambda options: options)
    openenv_server.main(["--family", "video", "count", "--count", "5", "--port", "9"])
    ((given, more),) = served
    assert given == WorldOptions(families=("video", "count"), count=5)
    assert more == {"host": "127.0.0.1", "port": 9}
