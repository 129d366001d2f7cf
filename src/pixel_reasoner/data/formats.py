"""Traces in the formats of others.

trl   a `datasets` folder with `messages` and embedded `images`, on which a stock `SFTTrainer` trains
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pixel_reasoner.data.sft import conversation
from pixel_reasoner.errors import OutputError, packages_of
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.files import reason
from pixel_reasoner.trace import Trace


def trl_row(trace: Trace) -> dict[str, Any]:
    """A trace as a row: messages with placeholders where pictures are, and the pictures in order.

    A stock trainer has no way to leave out deliberate mistakes: it trains them.
    """
    messages, images = [], []
    for message in conversation(trace):
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                images.append(part["image"])
            content.append({"type": part["type"], "text": part.get("text")})
        messages.append({"role": message["role"], "content": content})
    return {"messages": messages, "images": images}


def export_trl(source: Path, out: Path) -> int:
    """Write the traces of a folder or file as a folder for `datasets.load_from_disk`; returns the number of rows.

    Raises:
        InputError: the traces or their media cannot be read.
        OutputError: `out` cannot be written.
    """
    with packages_of("train", "write data sets"):
        from datasets import Dataset, Features, Image, List, Value

    features = Features(
        {
            "messages": List(
                {
                    "role": Value("string"),
                    "content": List({"type": Value("string"), "text": Value("string")}),
                }
            ),
            "images": List(Image()),
        }
    )

    try:
        with TemporaryDirectory() as cache:
            dataset = Dataset.from_generator(
                _rows, features=features, gen_kwargs={"source": str(source)}, cache_dir=cache
            )
            dataset.save_to_disk(str(out))
    except OSError as error:
        raise OutputError(
            expected="a place that can be written",
            got=f"{out}: {reason(error)}",
            fix="name another",
        ) from error
    return len(dataset)


def _rows(source: str) -> Iterator[dict[str, Any]]:
    yield from map(trl_row, load_run(Path(source)))
