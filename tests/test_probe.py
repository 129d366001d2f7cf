"""What a server does is found out by asking it."""

from __future__ import annotations

import random
from array import array

import pytest
from typer.testing import CliRunner

from chat_server import served
from pixel_reasoner.cli import app
from pixel_reasoner.errors import EndpointError
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.probe import Probe
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel

QUICK = RetryPolicy(
    timeout_s=2.0, max_tries=3, first_pause_s=0.02, max_consecutive_failures=3, concurrency=4
)


class Server:
    """A model that sees, or not, in each place, and heeds a seed, or not."""

    name, dialect, budgets = "served", "compact", None

    def __init__(self, *, sees=("user", "tool"), counts=True, seeds=True, logprobs=True) -> None:
        self.sees, self.counts, self.seeds, self.logprobs = sees, counts, seeds, logprobs

    def generate(self, conversations, decoding, on_text=None):
        (conversation,) = conversations
        pictures = [
            part["image"]
            for message in conversation
            if message["role"] in self.sees
            for part in message["content"]
            if part["type"] == "image"
        ]
        text = f"It is {pictures[-1].getpixel((0, 0))}." if pictures else "What?"
        if decoding.temperature:
            rng = random.Random(decoding.seed if self.seeds else None)
            text = "".join(rng.choices("abcdef", k=30))
        logprobs = [-0.5] if self.logprobs else []
        tokens = 10 + 49 * len(pictures) if self.counts else 0
        return [Completion(text, False, array("i", [1]), array("f", logprobs), tokens)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remote(*servers, **more) -> RemoteModel:
    urls = tuple(one if isinstance(one, str) else one.url for one in servers)
    return RemoteModel(RemoteConfig("served", urls, dialect="compact", policy=QUICK, **more))


@pytest.mark.parametrize("counts", [True, False], ids=["tokens are told", "tokens are not told"])
@pytest.mark.parametrize("seeds", [True, False])
@pytest.mark.parametrize("logprobs", [True, False])
def test_what_a_server_does_is_found_out(counts, seeds, logprobs):
    with served(Server(counts=counts, seeds=seeds, logprobs=logprobs)) as server:
        (found,) = remote(server).probe().values()
    assert found == Probe(pictures=True, tool_pictures=True, seeds=seeds, logprobs=logprobs)


def test_a_server_that_drops_pictures_of_tool_messages_is_told_from_one_that_sees_them():
    with served(Server(sees=("user",))) as server:
        (found,) = remote(server).probe().values()
    assert (found.pictures, found.tool_pictures) == (True, False)


def test_a_server_that_drops_pictures_without_a_word_is_refused():
    with served(Server(sees=())) as server, pytest.raises(EndpointError, match="sees pictures"):
        remote(server).probe()


def test_a_server_that_refuses_pictures_is_refused():
    with served(Server()) as server:
        # after the plain question, and that without a picture
        server.program = [None, None, "blind"]
        with pytest.raises(EndpointError, match="sees pictures"):
            remote(server).probe()


def test_where_nothing_can_be_told_nothing_is_claimed():
    class Silent(Server):
        def generate(self, *given):
            return [Completion("…", False)]

    with served(Silent()) as server:
        (found,) = remote(server).probe().values()
    assert found == Probe(pictures=None, tool_pictures=None, seeds=None, logprobs=False)


def test_what_works_is_sent_from_then_on():
    with served(Server()) as server:
        server.owned_by = "somebody"
        model = remote(server)
        assert not model.profile.seed
        model.probe()
        assert model.profile.seed
        assert model.profile.logprobs


def test_servers_are_sent_what_all_of_them_understand():
    with served(Server()) as one, served(Server(seeds=False)) as other:
        one.owned_by = other.owned_by = "somebody"
        model = remote(one, other)
        assert len(model.probe()) == 2
        assert not model.profile.seed
        assert model.profile.logprobs


def test_a_server_is_asked_once_a_day(cache):
    with served(Server()) as server:
        found = remote(server).probe()
        asked = len(server.requests)
        assert remote(server).probe() == found
        assert len(server.requests) == asked
        (kept,) = cache.rglob("*.json")
        kept.write_text("{")
        assert remote(server).probe() == found, "what cannot be read is found out again"
        assert len(server.requests) == 2 * asked
        remote(server).probe(anew=True)
        assert len(server.requests) == 3 * asked


def test_a_blind_server_is_asked_again(cache):
    with served(Server(sees=())) as server:
        for _ in range(2):
            with pytest.raises(EndpointError):
                remote(server).probe()
        server.model = Server()
        remote(server).probe()


def test_a_server_that_is_away_is_left_to_the_pool_if_another_is_there():
    with served(Server()) as server:
        found = remote(server, "http://127.0.0.1:9/v1").probe()
    assert list(found) == [f"{server.url}/chat/completions"]
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        remote("http://127.0.0.1:9/v1").probe()


def test_a_server_that_was_there_yesterday_has_to_be_there_today():
    with served(Server()) as server:
        model = remote(server)
        model.probe()
    with pytest.raises(EndpointError, match=r"start it, or check --endpoint"):
        model.probe()


def test_the_command_says_it_in_words_and_a_key_stands_nowhere(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with served(Server(sees=("user",))) as server:
        told = CliRunner().invoke(app, ["probe", "--model", "served", "--endpoint", server.url])
    assert told.exit_code == 0, told.output
    assert "sees a picture in a user message: yes" in told.output
    assert "sees a picture in a tool message: no" in told.output
    assert "sk-secret" not in told.output
    assert all("sk-secret" not in path.read_text() for path in cache.rglob("*.json"))
