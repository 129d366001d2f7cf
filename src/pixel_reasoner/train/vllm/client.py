"""HTTP client of one vLLM server: token ids and pictures in, token ids and log-probabilities out, and control of its weights.

Routes of the server (vLLM 0.32, `--enable-scale-out` and `VLLM_SERVER_DEV_MODE=1`):

    POST /inference/v1/generate                             token ids, pictures and sampling parameters
    POST /pause, /resume, /collective_rpc reload_weights    new weights from a folder
    POST /v1/load_lora_adapter, /v1/unload_lora_adapter     a LoRA from a folder
    POST /reset_prefix_cache, /reset_encoder_cache          drop what was computed with older weights
    GET  /weight_info, POST /update_weight_version          name of the weights; replies contain it too

The placeholders of a picture are sent once: vLLM repeats each of them. The reply contains the repeated ids, which must be those of the
trainer.
"""

from __future__ import annotations

import base64
import io
import os
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pixel_reasoner.errors import EndpointError, one_line, require_extra
from pixel_reasoner.models.endpoint_url import KEY_VARIABLE
from pixel_reasoner.models.engine.sequence import image_digest
from pixel_reasoner.models.http_client import new_client
from pixel_reasoner.models.http_errors import MessageNames

if TYPE_CHECKING:
    from httpx2 import Client, Response

_NAMES = MessageNames(key=f"the environment variable {KEY_VARIABLE}")
_CHECK_TIMEOUT_S = 10.0
"""timeout of requests that a healthy server answers immediately"""
_INFO_TIMEOUT_S = 25.0
"""timeout of /server_info, which collects the environment first (10 s on two cores)"""
_RETRYABLE = frozenset({408, 429})
_LOADING_FAILED = "collective_rpc method failed"
"""text of the reply if a worker cannot load weights; another failure has other texts"""
_MISSING_LOGPROB = -9999.0
"""vLLM's value for a log-probability that is not a number"""
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.2, 5.0
_ANSWERING_S = 30.0
"""an attempt of this duration reached the server, so the time of waiting starts again"""
_MAX_TRIES = 500
"""maximum attempts of one request"""
T = TypeVar("T")


class ServerDown(Exception):
    """Request without a usable reply: the server may answer the next one."""


class Prompt(NamedTuple):
    """Input of one request."""

    ids: Sequence[int]
    """token ids, with one placeholder per visual token"""
    images: Sequence[Any]
    """PIL images in placeholder order"""


class Generation(NamedTuple):
    """Reply to one request."""

    ids: list[int]
    logprobs: list[float]
    """NaN where the server has none"""
    is_aborted: bool
    versions: frozenset[str]
    """names of the weights that generated the ids; empty if the server does not report them"""


class VllmClient:
    """Client of one vLLM server. Thread-safe: each thread has its own connection.

    Args:
        url: address without a path.
        image_token: placeholder token of a visual token.
        timeout_s: timeout of a generation or an update.
    """

    def __init__(self, url: str, image_token: int, timeout_s: float) -> None:
        with require_extra("remote", "ask a vLLM server"):
            import httpx2
        self._http = httpx2
        self.url, self.image_token, self.timeout_s = url, image_token, timeout_s
        self._local = threading.local()
        self._clients: list[Client] = []

    # --- generation ---

    def generate(
        self, prompt: Prompt, sampling: dict[str, Any], *, adapter: str = "", request_id: str = ""
    ) -> Generation:
        """Return the generated ids of a prompt.

        Raises:
            ServerDown: the server does not answer.
            EndpointError: it rejects the request, or expands pictures to other numbers of tokens.
        """
        reply = self._generate(prompt, {"logprobs": 0, **sampling}, adapter, request_id)
        return parse_generation(reply)

    def prompt_logprobs(self, prompt: Prompt, num_last: int, adapter: str = "") -> list[float]:
        """Return the log-probabilities of the last ids of a prompt."""
        sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        reply = self._generate(prompt, sampling, adapter, "")
        entries = (reply.get("prompt_logprobs") or [])[-num_last:]
        if len(entries) != num_last:
            raise self._unsupported("prompt_logprobs in the reply of /inference/v1/generate")
        found = zip(prompt.ids[-num_last:], entries, strict=True)
        return [float(entry[str(token)]["logprob"]) for token, entry in found]

    def _generate(
        self, prompt: Prompt, sampling: dict[str, Any], adapter: str, request_id: str
    ) -> dict[str, Any]:
        ids = collapse_placeholders(prompt.ids, self.image_token, len(prompt.images))
        body: dict[str, Any] = {
            "token_ids": ids,
            "return_token_ids": True,
            "sampling_params": {"detokenize": False, **sampling},
        }
        if prompt.images:
            body["content_parts"] = [
                {"type": "image_url", "url": image_url(one), "uuid": image_digest(one).hex()}
                for one in prompt.images
            ]
        body |= {"model": adapter} if adapter else {}
        body |= {"request_id": request_id} if request_id else {}
        reply = self.post("/inference/v1/generate", body)
        self._check_prompt(prompt, reply.get("prompt_token_ids"))
        return reply

    def _check_prompt(self, prompt: Prompt, expanded: Any) -> None:
        if not isinstance(expanded, list):
            raise self._unsupported("prompt_token_ids in the reply of /inference/v1/generate")
        if expanded != list(prompt.ids):
            placeholders = [ids.count(self.image_token) for ids in (list(prompt.ids), expanded)]
            raise EndpointError(
                expected=f"{len(prompt.ids)} prompt tokens, {placeholders[0]} of them of {len(prompt.images)} pictures",
                got=f"{len(expanded)} tokens, {placeholders[1]} of pictures, from {self.url}",
                fix="serve the same model with the same pixel limits (no --mm-processor-kwargs that change min_pixels or max_pixels)",
            )

    def abort(self, request_ids: Sequence[str]) -> None:
        """End these requests. Their replies contain the ids so far."""
        names = [f"generate-tokens-{one}" for one in request_ids]
        self.post("/abort_requests", {"request_ids": names}, _CHECK_TIMEOUT_S)

    # --- weights ---

    def reload(self, folder: str) -> None:
        """Load all weights from a model folder, and drop everything computed with older weights.

        Raises:
            ServerDown: the server does not answer.
            EndpointError: it cannot load the folder, which ends vLLM.
        """
        self.post("/pause?mode=abort")
        arguments = {"weights_path": folder}
        try:
            self.post("/collective_rpc", {"method": "reload_weights", "kwargs": arguments})
        except ServerDown as error:
            if _LOADING_FAILED not in str(error):
                raise
            raise EndpointError(
                expected=f"{folder} as a folder of weights for {self.url}",
                got=one_line(error),
                fix="start the server again, with the model of the run and with the folder of weights_dir under the same path",
            ) from error
        # The worker has dropped its encoder cache; a scheduler that still counts on it ends the server.
        self.post("/reset_encoder_cache")
        if not self.post("/reset_prefix_cache").get("success"):
            raise ServerDown("its prefix cache is in use")
        self.post("/resume")

    def version(self) -> str:
        """Return the name of the weights."""
        return str(self.get("/weight_info").get("weight_version", ""))

    def set_version(self, name: str) -> None:
        """Set the name of the weights."""
        self.post("/update_weight_version", {"new_version": name}, _CHECK_TIMEOUT_S)

    def checksums(self) -> dict[str, str]:
        """Return the checksums of all weights. On a CPU, packed weights have the checksum of an empty tensor."""
        return dict(self.post("/weight_checker", {"action": "checksum"})["checksums"])

    def adapters(self) -> set[str]:
        """Return the names of the model and its adapters."""
        return {one["id"] for one in self.get("/v1/models")["data"]}

    def load_adapter(self, name: str, folder: str) -> None:
        """Load a LoRA under a new name."""
        self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})

    def unload_adapter(self, name: str) -> None:
        """Unload a LoRA, if it is loaded."""
        if name in self.adapters():
            self.post("/v1/unload_lora_adapter", {"lora_name": name})

    def sleep(self) -> None:
        """Free the memory of the GPU: weights move to the memory of the host, and the KV cache is dropped."""
        self.post("/sleep?level=1")

    def wake_up(self) -> None:
        """Undo `sleep`."""
        self.post("/wake_up")

    def is_sleeping(self) -> bool:
        """Return whether the memory of the GPU is freed."""
        return bool(self.get("/is_sleeping").get("is_sleeping"))

    # --- information ---

    def vllm_version(self) -> str:
        """Return the version of vLLM."""
        return str(self.get("/version").get("version", "unknown"))

    def schema(self) -> dict[str, Any]:
        """Return the OpenAPI schema."""
        return self.get("/openapi.json")

    def config(self) -> dict[str, Any]:
        """Return the configuration of vLLM: `model_config`, `lora_config` and others."""
        info = self.get("/server_info?config_format=json", _INFO_TIMEOUT_S)
        return dict(info["vllm_config"])

    # --- HTTP ---

    def get(self, path: str, timeout_s: float = _CHECK_TIMEOUT_S) -> dict[str, Any]:
        """Return the JSON object of a route."""
        return self._request("GET", path, None, timeout_s)

    def post(
        self, path: str, body: dict[str, Any] | None = None, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Send a JSON object and return the JSON object of the reply; empty if it has none."""
        return self._request("POST", path, body, timeout_s or self.timeout_s)

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
    ) -> dict[str, Any]:
        try:
            response = self._client().request(
                method,
                self.url + path,
                json=body,
                timeout=self._http.Timeout(timeout_s, connect=min(timeout_s, _CHECK_TIMEOUT_S)),
            )
        except self._http.TransportError as error:
            raise ServerDown(one_line(error) or type(error).__name__) from error
        if response.status_code >= 500 or response.status_code in _RETRYABLE:
            raise ServerDown(f"status {response.status_code} of {_route(path)}: {_text(response)}")
        if response.status_code >= 400:
            raise EndpointError(
                expected=f"a reply of {_route(path)} of the vLLM server {self.url}",
                got=f"status {response.status_code}: {_text(response)}",
                fix=_fix(response.status_code, _text(response)),
            )
        try:
            found = response.json()
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = new_client(os.environ.get(KEY_VARIABLE, ""), _NAMES)
            self._clients.append(client)
        return client

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    def _unsupported(self, what: str) -> EndpointError:
        return EndpointError(
            expected=f"{what} of {self.url}",
            got="a reply without it",
            fix="use a version of vLLM that was tested (0.32)",
        )


def _route(path: str) -> str:
    return path.partition("?")[0]


def _text(response: Response) -> str:
    try:
        error = response.json()["error"]
        return one_line(ValueError(error["message"] if isinstance(error, dict) else error))
    except (ValueError, KeyError, TypeError):
        return one_line(ValueError(response.text))


def _fix(status: int, text: str) -> str:
    r"""Return the fix for a rejected request.

    >>> _fix(400, "At most 16 image(s) may be provided in one prompt.")
    'start the server with more pictures per prompt: --limit-mm-per-prompt \'{"image": 64, "video": 0}\''
    """
    if status in (401, 403):
        return f"give the server's --api-key in {KEY_VARIABLE}, and start it as docs/rl.md shows"
    if "image(s)" in text:
        return 'start the server with more pictures per prompt: --limit-mm-per-prompt \'{"image": 64, "video": 0}\''
    return "start the server as docs/rl.md shows"


def collapse_placeholders(ids: Sequence[int], placeholder: int, num_images: int) -> list[int]:
    """Return ids with one placeholder per picture instead of one per visual token.

    Raises:
        ValueError: another number of runs of placeholders than pictures.

    >>> collapse_placeholders([7, 5, 5, 5, 8, 5, 5, 9], 5, num_images=2)
    [7, 5, 8, 5, 9]
    """
    collapsed = [
        token
        for number, token in enumerate(ids)
        if token != placeholder or not number or ids[number - 1] != placeholder
    ]
    if (found := collapsed.count(placeholder)) != num_images:
        raise ValueError(f"{num_images} pictures, but {found} runs of placeholders")
    return collapsed


_urls: dict[int, tuple[weakref.ref[Any], str]] = {}
"""`id()` of each live image object -> its data URL"""


def image_url(image: Any) -> str:
    """Return a PNG of a PIL image as a data URL. It is encoded once per image object."""
    known = _urls.get(id(image))
    if known is not None and known[0]() is image:
        return known[1]
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=1)
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    key = id(image)
    _urls[key] = (weakref.ref(image, lambda _: _urls.pop(key, None)), url)
    return url


def parse_generation(reply: dict[str, Any]) -> Generation:
    """Return the only choice of a reply.

    Raises:
        ServerDown: an incomplete reply.
    """
    try:
        choice = reply["choices"][0]
        ids = [int(one) for one in choice["token_ids"] or ()]
        content = (choice.get("logprobs") or {}).get("content") or []
        logprobs = [_logprob(entry, token) for entry, token in zip(content, ids, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServerDown(f"an incomplete reply: {one_line(error)}") from error
    spans = choice.get("weight_versions") or ()
    versions = frozenset(str(one["version"]) for one in spans)
    return Generation(ids, logprobs, choice.get("finish_reason") == "abort", versions)


def _logprob(entry: dict[str, Any], token: int) -> float:
    """Return the log-probability of a generated token, from the reply of vLLM 0.32 or older.

    >>> _logprob({"token_id": 5, "logprob": -0.5}, 5), _logprob({"token": "token_id:5", "logprob": -0.5}, 5)
    (-0.5, -0.5)
    """
    found = entry.get("token_id")
    if found is None:
        number = re.fullmatch(r"token_id:(\d+)", str(entry.get("token", "")))
        found = int(number[1]) if number else token
    if found != token:
        raise ValueError(f"the log-probability of token {found} instead of {token}")
    value = float(entry["logprob"])
    return value if value > _MISSING_LOGPROB else float("nan")


def retry(
    send: Callable[[], T],
    *,
    url: str,
    wait_s: float,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> T:
    """Return what `send` returns, and call it again while the server is down.

    Raises:
        EndpointError: the server does not answer for `wait_s` seconds.
    """
    pause, give_up = _FIRST_PAUSE_S, None
    for _ in range(_MAX_TRIES):
        started = clock()
        try:
            return send()
        except ServerDown as error:
            reason = error
        if give_up is None or clock() - started > _ANSWERING_S:
            pause, give_up = _FIRST_PAUSE_S, clock() + wait_s
        if clock() >= give_up:
            break
        sleep(min(pause, give_up - clock()))
        pause = min(2 * pause, _MAX_PAUSE_S)
    raise server_gone(url, wait_s, reason) from reason


def server_gone(url: str, wait_s: float, error: Exception) -> EndpointError:
    """Return the error for a server that no longer answers."""
    return EndpointError(
        expected=f"a vLLM server at {url} that answers within {wait_s:g} s (wait_s under [vllm])",
        got=one_line(error),
        fix="start it again with the same command, and run this command again: training resumes from its last checkpoint",
    )
