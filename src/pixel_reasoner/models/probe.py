"""Test of server capabilities: some servers silently drop pictures, ignore seeds, or reject log-probabilities.

    pixel-reasoner probe --model NAME --endpoint http://localhost:8000/v1

A probe sends about nine short requests. Its result is cached for a day in the cache folder of the user, by address and
model, so that `ask` and `eval` probe once. Image input works if a picture makes the prompt longer (`usage.prompt_tokens`).
If the server does not return this number, two pictures of different colours must get different replies.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pixel_reasoner.errors import EndpointError, OutputError
from pixel_reasoner.files import write_json
from pixel_reasoner.models.api import Completion, Messages
from pixel_reasoner.models.http_errors import FailureKind, RequestFailed
from pixel_reasoner.models.http_pool import HttpPool
from pixel_reasoner.models.openai_chat import MessageWriter, Profile, request_body
from pixel_reasoner.models.openai_reply import ReplyReader
from pixel_reasoner.schema.record import Record

if TYPE_CHECKING:
    from PIL import Image

CACHE_S = 24 * 3600
_QUESTION = "Which colour is this? Answer with one word."
_WORD_LIST = "Write ten words that have nothing to do with one another."
_SIDE_PX = 224
_NO_ANSWER = (FailureKind.TIMEOUT, FailureKind.UNREACHABLE, FailureKind.RATE_LIMITED)
_RED, _BLUE = (220, 20, 20), (20, 20, 220)
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "zoom_in", "arguments": '{"bbox_2d": [0, 0, 1, 1], "target_image": 1}'},
}


class Probe(Record):
    """Capabilities of a server for a model; None if unknown."""

    pictures: bool | None = None
    """whether the model receives pictures in user messages"""
    tool_pictures: bool | None = None
    """whether the model receives pictures in tool messages"""
    seeds: bool | None = None
    """whether the seed determines the sampled text"""
    logprobs: bool | None = None
    """whether the server returns log-probabilities on request"""

    def profile(self, known: Profile) -> Profile:
        """Return a profile with the detected fields added to the known ones."""
        return known._replace(
            seed=known.seed or bool(self.seeds), logprobs=known.logprobs or bool(self.logprobs)
        )


def probe(pool: HttpPool, model: str, profile: Profile) -> Probe:
    """Test a server.

    Args:
        pool: pool with only this server.
        model: name of the model on the server.
        profile: fields that the server supports.

    Raises:
        EndpointError: the server does not answer a question without a picture.
    """
    server = _Prober(pool, model, profile)
    server.ask([_user(_QUESTION)])  # without a picture: an error here is not about image input
    return Probe(
        pictures=server.detects_picture(lambda picture: [_user(_QUESTION, picture)]),
        tool_pictures=server.detects_picture(_with_result),
        seeds=server.uses_seeds(),
        logprobs=server.returns_logprobs(),
    )


class _Prober:
    """Client that sends short questions to one server."""

    def __init__(self, pool: HttpPool, model: str, profile: Profile) -> None:
        self.pool, self.model, self.profile = pool, model, profile
        self._read = ReplyReader(redact=pool.redact)

    def ask(self, conversation: Messages, max_new_tokens: int = 8, **fields: Any) -> Completion:
        limit = {self.profile.limit: max_new_tokens}
        fields = {"model": self.model, **limit, "temperature": 0.0, **fields}
        body = request_body(fields, MessageWriter().messages(conversation))
        return self.pool.ask(body, self._read)

    def detects_picture(
        self, conversation: Callable[[Image.Image | None], Messages]
    ) -> bool | None:
        """Return whether a picture changes the prompt or the reply; None if unknown.

        Args:
            conversation: returns messages with the given picture, or without a picture for None.
        """
        try:
            without = self.ask(conversation(None))
            red = self.ask(conversation(_picture(_RED)))
            if without.num_prompt_tokens and red.num_prompt_tokens:
                return red.num_prompt_tokens > without.num_prompt_tokens
            blue = self.ask(conversation(_picture(_BLUE)))
        except RequestFailed as error:
            return _is_unsupported(error)
        return True if red.text != blue.text else None

    def uses_seeds(self) -> bool | None:
        """Return whether equal seeds give equal replies and different seeds give different replies."""
        question = [_user(_WORD_LIST)]
        try:
            texts = [
                self.ask(question, 24, temperature=1.0, seed=seed).text for seed in (1, 1, 2, 3)
            ]
        except RequestFailed as error:
            return _is_unsupported(error)
        if texts[0] != texts[1]:
            return False
        return True if len(set(texts)) > 1 else None

    def returns_logprobs(self) -> bool:
        """Return whether the server returns log-probabilities on request."""
        try:
            return bool(self.ask([_user(_QUESTION)], logprobs=True).logprobs)
        except RequestFailed as error:
            return _is_unsupported(error)


def _is_unsupported(error: RequestFailed) -> bool:
    """Return False if the server rejected a request or failed on it.

    Raises:
        RequestFailed: the server does not answer, so its capabilities are unknown.
    """
    if error.kind in _NO_ANSWER:
        raise error
    return False


def _picture(colour: tuple[int, int, int]) -> Image.Image:
    from PIL import Image

    return Image.new("RGB", (_SIDE_PX, _SIDE_PX), colour)


def _user(text: str, picture: Image.Image | None = None) -> dict[str, Any]:
    images = [] if picture is None else [{"type": "image", "image": picture}]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def _with_result(picture: Image.Image | None) -> Messages:
    """Return a conversation whose picture is the result of an operation."""
    call = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    result = {**_user("Image 2:", picture), "role": "tool", "tool_call_id": _CALL["id"]}
    return [_user(_QUESTION), call, result]


def cached_probe(pool: HttpPool, model: str, profile: Profile, *, refresh: bool = False) -> Probe:
    """Return the cached result of the last day, or probe the server. The cache contains only the four results.

    Raises:
        EndpointError: the server does not answer.
    """
    path = _cache_path(pool.endpoints[0].url, model)
    found = None if refresh else _cached(path)
    if found is not None:
        return found
    found = probe(pool, model, profile)
    if found.pictures is not False:  # a server without image input must be fixed and probed again
        with suppress(OutputError):  # the cache folder cannot be written
            write_json(found.model_dump(mode="json"), path)
    return found


def _cache_path(url: str, model: str) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()[:24]
    return root / "pixel-reasoner" / "probes" / f"{name}.json"


def _cached(path: Path) -> Probe | None:
    try:
        if time.time() - path.stat().st_mtime > CACHE_S:
            return None
        return Probe.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def assert_supports_images(probes: Mapping[str, Probe]) -> None:
    """Raise an error for servers without image input.

    Args:
        probes: result of each server, by address.

    Raises:
        EndpointError: at least one server has no image input.
    """
    urls = [url for url, one in probes.items() if one.pictures is False]
    if urls:
        raise EndpointError(
            expected="a server with image input",
            got=f"{', '.join(urls)}: a question with a picture is rejected or has the same number of tokens without it",
            fix="serve a model with image input (llama.cpp: --mmproj), or use another endpoint",
        )
