"""Questions as rows of verl's RL data: Parquet with absolute paths of media, for the adapters of verl and SkyRL.

    data_source     pixel_reasoner
    agent_name      pixel_reasoner, the agent loop of `integrations.verl_loop`
    env_class       pixel_reasoner, the environment of `integrations.skyrl_env`
    prompt          one user message, with `<image>` for each picture file
    images          paths of these pictures
    reward_model    {style: rule, ground_truth: accepted answers as JSON}
    extra_info      {index, question: the whole question as JSON}

The adapters read the question alone and build the prompt of the model's dialect from it. `prompt` and `images` are for
verl's data set and its other agent loops. A clip, a page or a region is not in `images`, because verl would read another
part of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pixel_reasoner.data.question_rows import no_questions, source_questions
from pixel_reasoner.errors import require_extra
from pixel_reasoner.files import atomic_path, atomic_writer
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.rows import Row, SkippedRow

ROWS = "rows.parquet"
NAME = "pixel_reasoner"
"""name of data source, agent loop and environment"""
ROWS_PER_GROUP = 1000
"""rows of a row group of the file"""


def export_verl(source: Path, out: Path, allow_media: Sequence[Path] = ()) -> int:
    """Write `out/rows.parquet` and return the number of rows. Unusable questions are listed in `out/dropped.jsonl`.

    Args:
        source: folder or file of questions (`read_questions`), or of traces, whose questions are written once each.
        out: folder to write. Pictures that a source embeds are written to it.
        allow_media: further folders of media that the source may name.

    Raises:
        UsageError: pyarrow is not installed.
        InputError: no question with an answer.
        OutputError: `out` cannot be written.
    """
    with require_extra("train", "write Parquet files"):
        import pyarrow
        from pyarrow import parquet

    text, path = pyarrow.string(), out.absolute() / ROWS
    schema = pyarrow.schema(
        {
            "data_source": text,
            "agent_name": text,
            "env_class": text,
            "prompt": pyarrow.list_(pyarrow.struct({"role": text, "content": text})),
            "images": pyarrow.list_(text),
            "reward_model": pyarrow.struct({"style": text, "ground_truth": text}),
            "extra_info": pyarrow.struct({"index": pyarrow.int64(), "question": text}),
        }
    )
    dropped: list[SkippedRow] = []
    count = 0
    with FolderLock(out), atomic_path(path, pyarrow.ArrowException) as part:
        rows = _rows(source_questions(source, out, allow_media), dropped)
        with parquet.ParquetWriter(part, schema) as writer:
            while group := list(islice(rows, ROWS_PER_GROUP)):
                writer.write_table(pyarrow.Table.from_pylist(group, schema))
                count += len(group)
        if not count:
            raise no_questions(source, dropped)
        if dropped:
            with atomic_writer(out / "dropped.jsonl") as file:
                file.writelines(json.dumps(row._asdict()) + "\n" for row in dropped)
    return count


def _rows(questions: Iterator[Row], dropped: list[SkippedRow]) -> Iterator[dict[str, Any]]:
    index = 0
    for question in questions:
        if isinstance(question, SkippedRow):
            dropped.append(question)
            continue
        yield verl_row(question, index)
        index += 1


def verl_row(question: Question, index: int) -> dict[str, Any]:
    """Return the row of a question.

    >>> question = Question(id="1", text="Which?", media=(MediaItem(kind="image", path="/a.png"),), answer=("red",))
    >>> row = verl_row(question, 0)
    >>> row["prompt"], row["images"], row["reward_model"]["ground_truth"]
    ([{'role': 'user', 'content': '<image>Which?'}], ['/a.png'], '["red"]')
    """
    media = tuple(
        item.model_copy(update={"path": str(Path(item.path).absolute())}) for item in question.media
    )
    question = question.model_copy(update={"media": media})
    images = [item.path for item in media if _is_whole_picture(item)]
    return {
        "data_source": NAME,
        "agent_name": NAME,
        "env_class": NAME,
        "prompt": [{"role": "user", "content": "<image>" * len(images) + _plain(question.text)}],
        "images": images,
        "reward_model": {"style": "rule", "ground_truth": json.dumps(list(question.answer))},
        "extra_info": {"index": index, "question": question.to_line()},
    }


def _is_whole_picture(item: MediaItem) -> bool:
    return item.kind == "image" and item.page is None and item.region is None


def _plain(text: str) -> str:
    """Return a text without the placeholders that verl counts."""
    for name in ("image", "video", "audio"):
        text = text.replace(f"<{name}>", "")
    return text
