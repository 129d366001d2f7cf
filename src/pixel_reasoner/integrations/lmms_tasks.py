"""Task folder of lmms-eval for questions of PixelWorld 2. Needs no extra to write it.

    pixel-reasoner world render --world 2 --family where --count 48 --out where --lmms-task
    python -m lmms_eval --model pixel_reasoner --model_args model=FOLDER --include_path where/lmms --tasks pixelworld2_where

Any model of lmms-eval can be asked. Answers are scored as in `pixel-reasoner eval`. lmms-eval receives final answers
alone, so the use of operations is in the traces (`--model_args traces=...`), and `pixel-reasoner report` shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pixel_reasoner.files import write_bytes
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.scoring.extraction import extract
from pixel_reasoner.scoring.grading import Outcome, grade

FOLDER = "lmms"
"""folder of the task, next to `questions.jsonl`"""
_METRICS = ("score", "right", "right_unreadable", "right_readable")
_TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.media
doc_to_text: question
doc_to_target: answer
process_results: !function utils.scores
generation_kwargs:
  max_new_tokens: 512
  temperature: 0
  do_sample: false
metric_list:
{metrics}
metadata:
  version: 2.0
"""
_UTILS = '''\
"""Media and scores of the task."""

from pixel_reasoner.integrations.lmms_tasks import row_media as media, row_scores as scores

__all__ = ["media", "scores"]
'''


def write_lmms_task(questions: Iterable[Question], folder: Path, name: str) -> Path:
    """Write a task for `--include_path` of lmms-eval and return its folder.

    Args:
        questions: with media paths relative to `folder`, or absolute ones.
        folder: of the media; the task is written into its folder `lmms`.
        name: of the task.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder, task = folder.absolute(), folder.absolute() / FOLDER
    rows = "".join(
        json.dumps(
            {
                "question": one.text,
                "answer": one.answer[0],
                "media": with_media_root(one, folder).media[0].path,
                "kind": one.media[0].kind,
                "record": one.to_line(),
            },
            ensure_ascii=False,
        )
        + "\n"
        for one in questions
    )
    metrics = "\n".join(
        f"  - metric: {metric}\n    aggregation: mean\n    higher_is_better: true"
        for metric in _METRICS
    )
    path = task / "rows.jsonl"
    write_bytes(rows.encode(), path)
    text = _TASK.format(name=name, rows=json.dumps(str(path)), metrics=metrics)
    write_bytes(text.encode(), task / f"{name}.yaml")
    write_bytes(_UTILS.encode(), task / "utils.py")
    return task


def row_media(row: Mapping[str, Any]) -> list[Any]:
    """Return the picture of a row, opened, or the path of its clip."""
    if row["kind"] != "image":
        return [row["media"]]
    from PIL import Image

    with Image.open(row["media"]) as picture:
        return [picture.convert("RGB")]


def row_scores(row: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """Return the scores of a reply, also by whether the overview shows the evidence.

    >>> record = Question(id="1", text="Which?", media=(), answer=("K",), needs_look=True).to_line()
    >>> row_scores({"record": record}, ["The answer is K."])
    {'score': 1.0, 'right': 1.0, 'right_unreadable': 1.0}
    """
    question = Question.from_line(row["record"])
    reply = results[0] if results else ""
    found = grade(extract(reply, question) or reply, question)
    assert found is not None, "questions of PixelWorld have an answer"
    right = float(found.outcome is Outcome.CORRECT)
    group = "unreadable" if question.needs_look else "readable"
    return {"score": found.score, "right": right, f"right_{group}": right}
