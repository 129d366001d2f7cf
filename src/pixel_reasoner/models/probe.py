"""What a server really does, found out by asking it: some drop pictures without a word, ignore seeds, or refuse logprobs.

    pixel-reasoner probe --model NAME --endpoint http://localhost:8000/v1

About nine short requests. What was found is kept for a day in the user's cache folder, by address and model, so that `ask` and `eval`
ask once. A picture counts as seen if the same words with it are longer to the server (`usage.prompt_tokens`), or, where that is not
told, if two pictures of different colours get different replies.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import ValidationError

from pixel_reasoner.errors import EndpointError, OutputError
from pixel_reasoner.files import write_json
from pixel_reasoner.models.api import Completion, Messages
from pixel_reasoner.models.http_pool import HttpPool, RequestFailed
from pixel_reasoner.models.openai_chat import MessageWriter, Profile, body, completion, json_of
from pixel_reasoner.schema.record import Record

if TYPE_CHECKING:
    from httpx2 import Response

KEPT_S = 24 * 3600
_WORDS = "Which colour is this? Answer with one word."
_SIDE_PX = 224
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "zoom_in", "arguments": '{"bbox_2d": [0, 0, 1, 1], "target_image": 1}'},
}


class Probe(Record):
    """What a server does with a model; None for what it does not let one tell."""

    pictures: bool | None = None
    """whether a picture in a user message is seen"""
    tool_pictures: bool | None = None
    """whether a picture in a tool message is seen"""
    seeds: bool | None = None
    """whether a seed decides what is sampled"""
    logprobs: bool | None = None
    """whether logprobs of the reply are told when asked for"""

    def profile(self, known: Profile) -> Profile:
        """A profile that sends what was found to work beside what is known to."""
        return known._replace(
            seed=known.seed or bool(self.seeds), logprobs=known.logprobs or bool(self.logprobs)
        )


def probe(pool: HttpPool, model: str, profile: Profile) -> Probe:
    """Ask a server what it does.

    Args:
        pool: the server alone.
        model: the name by which it serves the model.
        profile: how it takes the limit on new tokens.

    Raises:
        EndpointError: it does not answer even a plain question.
    """
    server = _Asked(pool, model, profile)
    server.ask([_user(_WORDS)])  # whatever fails here is no matter of pictures
    return Probe(
        pictures=server.sees(lambda picture: [_user(_WORDS, picture)]),
        tool_pictures=server.sees(_as_result),
        seeds=server.seeds(),
        logprobs=server.logprobs(),
    )


class _Asked:
    """One server, asked short questions."""

    def __init__(self, pool: HttpPool, model: str, profile: Profile) -> None:
        self.pool, self.model, self.profile = pool, model, profile

    def ask(self, conversation: Messages, most: int = 8, **more: Any) -> Completion:
        told = {"model": self.model, self.profile.limit: most, "temperature": 0.0, **more}
        return self.pool.ask(body(told, MessageWriter().messages(conversation)), _read)

    def sees(self, asked: Callable[[Image.Image | None], Messages]) -> bool | None:
        """Whether a picture makes a difference; `asked` makes a conversation of a picture, or of None."""
        try:
            without = self.ask(asked(None))
            red = self.ask(asked(Image.new("RGB", (_SIDE_PX, _SIDE_PX), (220, 20, 20))))
            if without.num_prompt_tokens and red.num_prompt_tokens:
                return red.num_prompt_tokens > without.num_prompt_tokens
            blue = self.ask(asked(Image.new("RGB", (_SIDE_PX, _SIDE_PX), (20, 20, 220))))
        except RequestFailed:
            return False
        return True if red.text != blue.text else None

    def seeds(self) -> bool | None:
        """Whether equal seeds give equal replies, where other seeds give others."""
        ask = [_user("Write ten words that have nothing to do with one another.")]
        try:
            said = [self.ask(ask, 24, temperature=1.0, seed=seed).text for seed in (1, 1, 2, 3)]
        except RequestFailed:
            return False
        if said[0] != said[1]:
            return False
        return True if len(set(said)) > 1 else None

    def logprobs(self) -> bool:
        """Whether they come when they are asked for."""
        try:
            return bool(self.ask([_user(_WORDS)], logprobs=True).logprobs)
        except RequestFailed:
            return False


def _user(words: str, picture: Image.Image | None = None) -> dict[str, Any]:
    shown = [] if picture is None else [{"type": "image", "image": picture}]
    return {"role": "user", "content": [*shown, {"type": "text", "text": words}]}


def _as_result(picture: Image.Image | None) -> Messages:
    """A conversation whose picture comes back from an operation."""
    asks = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    result = {**_user("Image 2:", picture), "role": "tool", "tool_call_id": _CALL["id"]}
    return [_user(_WORDS), asks, result]


def _read(response: Response) -> Completion:
    return completion(json_of(response))


# --- once a day ---


def probed(pool: HttpPool, model: str, profile: Profile, *, anew: bool = False) -> Probe:
    """What a server was found to do within the last day, or is now. Nothing but answers to the four questions is kept.

    Raises:
        EndpointError: it does not answer.
    """
    path = _kept(pool.endpoints[0].url, model)
    found = None if anew else _known(path)
    if found is not None:
        return found
    found = probe(pool, model, profile)
    if found.pictures is not False:  # what has to be mended is asked again
        with suppress(OutputError):  # so it is where there is no folder to keep it in
            write_json(found.model_dump(mode="json"), path)
    return found


def _kept(url: str, model: str) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()[:24]
    return root / "pixel-reasoner" / "probes" / f"{name}.json"


def _known(path: Path) -> Probe | None:
    try:
        if time.time() - path.stat().st_mtime > KEPT_S:
            return None
        return Probe.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def assert_pictures_are_seen(found: Mapping[str, Probe]) -> None:
    """Refuse servers that do not see pictures.

    Raises:
        EndpointError: some are known not to.
    """
    urls = [url for url, one in found.items() if one.pictures is False]
    if urls:
        raise EndpointError(
            expected="a server that sees pictures",
            got=f"{', '.join(urls)}: a question with a picture is refused, or is the same to it without",
            fix="serve a model that sees pictures (with llama.cpp, give it --mmproj), or name another endpoint",
        )
