"""Ask a running server through LiteLLM and print what was received as one JSON object.

python litellm_client.py http://127.0.0.1:8008/v1 KEY PICTURE QUESTION
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise its import requests a price list

import litellm

litellm.suppress_debug_info = True


def main(base_url: str, key: str, picture: str, question: str) -> None:
    data = base64.b64encode(Path(picture).read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "text", "text": question},
    ]
    asked = {
        "model": "openai/tiny",
        "api_base": base_url,
        "api_key": key,
        "messages": [{"role": "user", "content": content}],
    }
    reply = litellm.completion(**asked)
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    rebuilt = litellm.stream_chunk_builder(chunks)
    found = {"plain": _fields(reply), "streamed": _fields(rebuilt), "errors": _errors(asked)}
    print(json.dumps(found))


def _fields(reply: litellm.ModelResponse) -> dict:
    (choice,) = reply.choices
    return {
        "content": choice.message.content,
        "reasoning": choice.message.reasoning_content,
        "finish_reason": choice.finish_reason,
        "total_tokens": reply.usage.total_tokens,
    }


def _errors(asked: dict) -> dict[str, str]:
    """Return the classes of the exceptions of requests that the server refuses."""
    found = {}
    for name, fields in {
        "key": {"api_key": "wrong"},
        "model": {"model": "openai/gpt-9"},
        "temperature": {"temperature": 9},
    }.items():
        try:
            litellm.completion(**asked | fields, num_retries=0)
        except Exception as error:  # noqa: BLE001 - the class is the result
            found[name] = type(error).__name__
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
