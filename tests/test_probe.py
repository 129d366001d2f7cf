"""Probes determine what a server supports."""

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
    """Model that gets pictures of some roles only, and may ignore the seed."""

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


@pytest.mark.parametrize("counts", [True, False], ids=["with token counts", "without token counts"])
@pytest.mark.parametrize("seeds", [True, False])
@pytest.mark.parametrize("logprobs", [True, False])
def test_a_probe_returns_what_a_server_supports(counts, seeds, logprobs):
    with served(Server(counts=counts, seeds=seeds, logprobs=logprobs)) as server:
        (found,) = remote(server).probe().values()
    assert found == Probe(pictures=True, tool_pictures=True, seeds=seeds, logprobs=logprobs)


def test_dropped_pictures_of_tool_messages_are_detected():
    with served(Server(sees=("user",))) as server:
        (found,) = remote(server).probe().values()
    assert (found.pictures, found.tool_pictures) == (True, False)


def test_a_server_that_drops_pictures_silently_is_an_error():
    with served(Server(sees=())) as server, pytest.raises(EndpointError, match="image input"):
        remote(server).probe()


def test_a_server_that_rejects_pictures_is_an_error():
    with served(Server()) as server:
        # after the question alone, and the one without a picture
        server.program = [None, None, "blind"]
        with pytest.raises(EndpointError, match="image input"):
            remote(server).probe()


def test_an_undetermined_property_is_none():
    class Silent(Server):
        def generate(self, *given):
            return [Completion("…", False)]

    with served(Silent()) as server:
        (found,) = remote(server).probe().values()
    assert found == Probe(pictures=None, tool_pictures=None, seeds=None, logprobs=False)


def test_supported_fields_are_sent_after_a_probe():
    with served(Server()) as server:
        server.owned_by = "somebody"
        model = remote(server)
        assert not model.profile.seed
        model.probe()
        assert model.profile.seed
        assert model.profile.logprobs


def test_only_fields_that_all_servers_support_are_sent():
    with served(Server()) as one, served(Server(seeds=False)) as other:
        one.owned_by = other.owned_by = "somebody"
        model = remote(one, other)
        assert len(model.probe()) == 2
        assert not model.profile.seed
        assert model.profile.logprobs


@pytest.mark.medium
def test_a_server_is_probed_once_a_day(cache):
    with served(Server()) as server:
        found = remote(server).probe()
        asked = len(server.requests)
        assert remote(server).probe() == found
        assert len(server.requests) == asked
        (kept,) = cache.rglob("*.json")
        kept.write_text("{")
        assert remote(server).probe() == found, "a damaged cache file is ignored"
        assert len(server.requests) == 2 * asked
        remote(server).probe(refresh=True)
        assert len(server.requests) == 3 * asked


@pytest.mark.medium
def test_a_server_that_sees_no_pictures_is_probed_again(cache):
    with served(Server(sees=())) as server:
        for _ in range(2):
            with pytest.raises(EndpointError):
                remote(server).probe()
        server.model = Server()
        remote(server).probe()


def test_an_unreachable_server_is_skipped_if_another_one_answers():
    with served(Server()) as server:
        found = remote(server, "http://127.0.0.1:9/v1").probe()
    assert list(found) == [f"{server.url}/chat/completions"]
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        remote("http://127.0.0.1:9/v1").probe()


def test_a_cached_probe_does_not_hide_an_unreachable_server():
    with served(Server()) as server:
        model = remote(server)
        model.probe()
    with pytest.raises(EndpointError, match=r"start it, or check --endpoint"):
        model.probe()


def test_the_command_prints_results_and_never_the_key(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with served(Server(sees=("user",))) as server:
        result = CliRunner().invoke(app, ["probe", "--model", "served", "--endpoint", server.url])
    assert result.exit_code == 0, result.output
    assert "accepts a picture in a user message: yes" in result.output
    assert "accepts a picture in a tool message: no" in result.output
    assert "sk-secret" not in result.output
    assert all("sk-secret" not in path.read_text() for path in cache.rglob("*.json"))
