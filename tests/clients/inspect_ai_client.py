"""Ask a running server through inspect_ai's provider `openai-api` and print what was received as one JSON object.

python inspect_ai_client.py http://127.0.0.1:8008/v1 KEY PICTURE QUESTION ANSWER
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval as run
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import includes


def main(base_url: str, key: str, picture: str, question: str, answer: str) -> None:
    def model(**options: bool) -> Model:
        name = "openai-api/pixel-reasoner/tiny"
        return get_model(name, base_url=base_url, api_key=key, memoize=False, **options)

    data = base64.b64encode(Path(picture).read_bytes()).decode()
    image = ContentImage(image=f"data:image/png;base64,{data}")
    message = ChatMessageUser(content=[image, ContentText(text=question)])
    task = Task(dataset=MemoryDataset([Sample(input=[message], target=answer)]), scorer=includes())
    found = {
        "plain": asyncio.run(ask(model(), message)),
        "streamed": asyncio.run(ask(model(stream=True), message)),
        "eval": evaluated(task, model()),
    }
    print(json.dumps(found))


async def ask(model: Model, message: ChatMessageUser) -> dict[str, Any]:
    output: ModelOutput = await model.generate([message], config=GenerateConfig(max_tokens=256))
    content = output.message.content
    parts = [] if isinstance(content, str) else content
    return {
        "content": output.completion,
        "reasoning": "".join(one.reasoning for one in parts if one.type == "reasoning"),
        "finish_reason": output.stop_reason,
        "total_tokens": output.usage.total_tokens if output.usage else None,
    }


def evaluated(task: Task, model: Model) -> dict[str, Any]:
    """Return status and accuracy of an evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        (log,) = run(task, model=model, log_dir=folder, display="none")
    scores = log.results.scores if log.results else []
    accuracy = [one.metrics["accuracy"].value for one in scores]
    return {"status": log.status, "accuracy": accuracy, "error": log.error and log.error.message}


if __name__ == "__main__":
    main(*sys.argv[1:])
