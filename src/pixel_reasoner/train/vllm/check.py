"""Start-up check of vLLM servers: version, routes, model, dtype and pictures, before any weights are loaded."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.train.samples import PromptEncoder
from pixel_reasoner.train.vllm.client import Prompt, VllmClient, retry
from pixel_reasoner.train.vllm.options import SERVER_COMMAND, VllmOptions

MIN_VERSION = (0, 30)
"""first version with `--enable-scale-out`"""
TESTED_VERSION = "0.32"
_BASE_VERSION = "default"
"""vLLM's name of the weights of its command line"""
_WAIT_S = 10.0
"""how long a server that is not there is asked again"""
_ROUTES = {
    "/inference/v1/generate": "start it with --enable-scale-out",
    **dict.fromkeys(
        (
            *("/pause", "/resume", "/collective_rpc", "/reset_prefix_cache", "/server_info"),
            *("/reset_encoder_cache", "/weight_info", "/update_weight_version", "/weight_checker"),
            "/abort_requests",
        ),
        "set VLLM_SERVER_DEV_MODE=1 in the environment of the server",
    ),
}
"""required route -> fix if it is missing"""
_ADAPTER_ROUTE = "/v1/load_lora_adapter"
_ADAPTER_FIX = (
    "set VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and start it with --enable-lora --max-loras 2 "
    '--max-lora-rank {rank}, or set update = "weights"'
)
_ARCHITECTURE = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers")


class ServerInfo(NamedTuple):
    """What all servers of a run have in common."""

    dtype: str
    max_model_len: int
    """the smallest of all servers"""
    uses_adapter: bool
    """whether updates load a LoRA instead of all weights"""


def check_servers(
    options: VllmOptions, model: Path, dtype: str, lora_rank: int, *, can_sleep: bool
) -> ServerInfo:
    """Return the properties of the servers of a run.

    Args:
        options: addresses.
        model: folder of the run's model.
        dtype: dtype of the trainer's computation, for example bfloat16.
        lora_rank: rank of the run's LoRA; 0 for none.
        can_sleep: whether servers must support sleep mode.

    Raises:
        EndpointError: a server is unreachable, has an unsupported version, lacks a route, or serves another model or dtype.
    """
    found = [_check(url, options, model, dtype, lora_rank, can_sleep) for url in options.servers]
    return ServerInfo(
        dtype, min(one.max_model_len for one in found), all(one.uses_adapter for one in found)
    )


def _check(
    url: str, options: VllmOptions, model: Path, dtype: str, lora_rank: int, can_sleep: bool
) -> ServerInfo:
    client = VllmClient(url, -1, options.request_timeout_s)
    try:
        _check_version(client)
        config = _check_routes(client, lora_rank if options.update == "adapter" else 0)
        served = config["model_config"]
        _check_model(url, served, model, dtype)
        if can_sleep and not served.get("enable_sleep_mode"):
            raise _wrong(
                f"sleep mode of {url}, for colocated_memory",
                "none",
                "start it with --enable-sleep-mode",
            )
        if client.is_sleeping():
            client.wake_up()
        if client.get("/is_paused").get("is_paused"):
            client.post("/resume")
        lora = config.get("lora_config") or {}
        uses_adapter = bool(lora_rank and lora and options.update != "weights")
        if uses_adapter and int(lora.get("max_lora_rank", lora_rank)) < lora_rank:
            rank = lora["max_lora_rank"]
            raise _wrong(
                f"--max-lora-rank {lora_rank} or more of {url}", str(rank), "start it with that"
            )
        if uses_adapter and client.version() != _BASE_VERSION:
            client.reload(str(served["model"]))  # an earlier run has changed all weights
            client.set_version(_BASE_VERSION)
        return ServerInfo(dtype, int(served["max_model_len"]), uses_adapter)
    finally:
        client.close()


def _check_version(client: VllmClient) -> None:
    start = f"start it: {SERVER_COMMAND} (docs/rl.md)"
    try:
        version = retry(
            client.vllm_version,
            url=client.url,
            wait_s=_WAIT_S,
            sleep=time.sleep,
            clock=time.monotonic,
        )
    except EndpointError as error:
        raise _wrong(f"a vLLM server at {client.url}", error.got, start) from error
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < MIN_VERSION:
        least = ".".join(map(str, MIN_VERSION))
        raise _wrong(
            f"vLLM {least} or newer at {client.url} ({TESTED_VERSION} was tested)",
            version,
            "install another version",
        )


def _check_routes(client: VllmClient, lora_rank: int) -> dict[str, Any]:
    """Return the configuration of a server that has all routes."""
    schema = client.schema()
    paths = schema.get("paths", {})
    for route, fix in _ROUTES.items():
        if route not in paths:
            raise _wrong(f"the route {route} of {client.url}", "a server without it", fix)
    fields = schema.get("components", {}).get("schemas", {}).get("GenerateRequest", {})
    if "content_parts" not in fields.get("properties", {}):
        raise _wrong(
            f"pictures in requests to /inference/v1/generate of {client.url}",
            "a version of vLLM without content_parts",
            f"install vLLM {TESTED_VERSION} or newer",
        )
    config = client.config()
    if lora_rank and (_ADAPTER_ROUTE not in paths or not config.get("lora_config")):
        raise _wrong(
            f"LoRA adapters of {client.url}",
            "a server without them",
            _ADAPTER_FIX.format(rank=lora_rank),
        )
    return config


def _check_model(url: str, served: dict[str, Any], model: Path, dtype: str) -> None:
    found = str(served["dtype"]).removeprefix("torch.")
    if found != dtype:
        raise _wrong(
            f"dtype {dtype} of {url}, as in training",
            found,
            f"start it with --dtype {dtype}, or set bf16 under [trl]",
        )
    if served.get("logprobs_mode") != "processed_logprobs":
        raise _wrong(
            f"log-probabilities of {url} after temperature and top_p",
            str(served.get("logprobs_mode")),
            "start it with --logprobs-mode processed_logprobs",
        )
    theirs, ours = _architecture(Path(served["model"])), _architecture(model)
    for name, value in ours.items():
        if theirs and theirs.get(name) != value:
            raise _wrong(
                f"a model with {name} {value} at {url}, as {model.name} has",
                f"{served['model']} with {theirs.get(name)}",
                f"start it with {model}",
            )


def _architecture(folder: Path) -> dict[str, Any]:
    """Return the sizes of a model folder; empty if the folder is not on this machine."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    text = config.get("text_config", config)
    return {"model_type": config.get("model_type")} | {
        name: text.get(name, config.get(name)) for name in _ARCHITECTURE[1:]
    }


def check_pictures(
    clients: Sequence[VllmClient], encoder: PromptEncoder, budgets: PixelBudgets
) -> None:
    """Raise an error if a server divides pictures into other numbers of tokens than the trainer.

    Raises:
        EndpointError: the first such picture, or a server that does not answer.
    """
    from PIL import Image

    side = round(budgets.picture.max_px**0.5)
    multiple = budgets.multiple
    sizes = [
        (side, side),
        (side // multiple * multiple or multiple, multiple),
        (3 * multiple, 5 * multiple),
    ]
    images = [Image.linear_gradient("L").resize(size).convert("RGB") for size in sizes]
    content = [{"type": "image", "image": one} for one in images]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": "Describe them."}]}]
    ids = encoder.encode(encoder.render(messages), images)
    for client in clients:
        client.generate(Prompt(ids, images), {"max_tokens": 1, "temperature": 0.0})


def _wrong(expected: str, got: str, fix: str) -> EndpointError:
    return EndpointError(expected=expected, got=got, fix=fix)
