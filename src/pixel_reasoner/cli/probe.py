"""Command `probe`: what a server supports."""

from __future__ import annotations

from pixel_reasoner.cli.options import (
    EndpointsOption,
    JsonOption,
    KeyFileOption,
    ModelOption,
    ServerKindOption,
    TimeoutOption,
)
from pixel_reasoner.cli.output import print_line

QUESTIONS = {
    "pictures": "accepts a picture in a user message",
    "tool_pictures": "accepts a picture in a tool message",
    "seeds": "uses the seed",
    "logprobs": "returns logprobs",
}
"""field of a probe's result -> its title"""


def probe(
    model: ModelOption,
    endpoint: EndpointsOption,
    server: ServerKindOption = None,
    key_file: KeyFileOption = None,
    timeout_s: TimeoutOption = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Test an endpoint: image input, seed, logprobs, pictures in tool messages.

    Sends about nine short requests to each server. `ask` and `eval` do the same once a day, and use only supported
    fields.

    Examples:
        pixel-reasoner probe --model qwen3-vl --endpoint http://localhost:8000/v1
    """
    import json

    from pixel_reasoner import api

    spec = api.ModelSpec(
        model, endpoints=tuple(endpoint), server=server, key_file=key_file, timeout_s=timeout_s
    )
    found = api.probe(spec)
    if as_json:
        print(json.dumps(found.by_url, indent=2))
        return
    words = {True: "yes", False: "no", None: "unknown"}
    for url, one in found.by_url.items():
        print_line(f"{url}, asked as {found.server}")
        for name, question in QUESTIONS.items():
            print_line(f"  {question}: {words[one[name]]}")
    for url in found.without_answer:
        print_line(f"{url}: no answer")
