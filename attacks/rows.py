"""Test the readers of rows on own rows, TSV rows and messages with values of any type under any key.

    python -m attacks.rows --count 20000 --seed 0

Laws: a reader raises no exception. A dropped row has a reason and a detail. An accepted question has as many media, options and
answers as its row, contains no text made from a missing value or a list, and survives a round trip through JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from pixel_reasoner.data.formats import import_message_list
from pixel_reasoner.evals.benchmark import select_questions
from pixel_reasoner.evals.benchmarks import BENCHMARKS
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.base import open_source
from pixel_reasoner.sources.jsonl import ROW_KEYS
from pixel_reasoner.sources.rows import SkippedRow

VALUES: tuple[Any, ...] = (
    *(None, float("nan"), float("inf"), True, False, 0, 1, -1, 7, 0.5, 1e300, 10**400),
    *(
        "",
        " ",
        "A",
        "B",
        "a.png",
        "b.png",
        "None",
        "nan",
        "[1, 2]",
        "['x', None]",
        "<image>",
        "x" * 5000,
    ),
    *(
        "\ud800",
        "\x00",
        "\u202e",
        "pixel",
        "fraction",
        "xywh",
        "int",
        "mcq",
        "../a.png",
        "https://x/a.png",
    ),
    *(
        [],
        [None],
        ["a.png"],
        ["a.png", "b.png"],
        [[0.1, 0.2, 0.9, 0.9]],
        [[20, 20, 180, 80]],
        [[]],
        [1, 2],
    ),
    *(
        {},
        {"A": "red", "B": "blue"},
        {"A": None},
        {"bytes": None, "path": "a.png"},
        {"text": "x"},
        [{}],
    ),
    *([{"type": "image", "path": "a.png"}], [{"path": None}], [{"type": "video", "path": "a.png"}]),
)
"""values that users, pyarrow, pandas and other projects write"""
NO_TEXT = ("None", "nan", "NaN", "null", "[]", "[None]", "{}", "True", "False", "inf")
"""what `str` makes of values that are no texts"""


def odd_row(rng: random.Random) -> dict[str, Any]:
    """Return a valid own row with a few odd values."""
    row: dict[str, Any] = {"image": "a.png", "question": "What is it?", "answer": "it"}
    for _ in range(rng.randint(1, 4)):
        key = rng.choice((*ROW_KEYS, "text", "bbox", "question_id"))
        row[key] = rng.choice(VALUES)
    if rng.random() < 0.2:
        row.pop(rng.choice(list(row)), None)
    return row


def odd_cells(rng: random.Random) -> dict[str, str]:
    """Return a row of a TSV with a few odd cells."""
    row = {
        "index": "0",
        "image_path": "a.png",
        "question": "Which?",
        "answer": "A",
        "A": "red",
        "B": "x",
    }
    for _ in range(rng.randint(1, 4)):
        key = rng.choice((*row, "C", "D", "J", "hint", "category", "image"))
        value = rng.choice(VALUES)
        row[key] = "" if value is None else str(value).replace("\ud800", "?").replace("\x00", "?")
    return row


def odd_messages(rng: random.Random) -> dict[str, Any]:
    """Return a row of PixelReasoner-SFT-Data with odd parts."""
    part = {rng.choice(("text", "image", "video", "audio")): rng.choice(VALUES)}
    user: list[Any] = [{"image": "a.png"}, {"text": "What is it?"}, part]
    rng.shuffle(user)
    content: Any = rng.choice((user, user[:2], rng.choice(VALUES)))
    answer = [{"text": rng.choice(("\\boxed{it}", "\\boxed{}", "it"))}]
    turns = [("system", []), ("user", content), ("assistant", answer)]
    if rng.random() < 0.2:
        turns.pop(rng.randrange(len(turns)))
    return {"message_list": [{"role": role, "content": part} for role, part in turns]}


def problem_of(row: Question | Trace | SkippedRow, given: dict[str, Any]) -> str:
    """Return the law that the result of a row breaks, or an empty text."""
    if isinstance(row, SkippedRow):
        return "" if row.reason and row.detail and row.where else "no reason"
    if isinstance(row, Trace):
        question = row.question
    else:
        question = row
        problem = _lost(question, given)
        if problem:
            return problem
    line = question.to_line()
    line.encode()
    return "" if Question.from_line(line) == question else "not the same after writing"


def _lost(question: Question, given: dict[str, Any]) -> str:
    """Return the fields that a question lost or invented."""
    answer = given.get("answer")
    written = {value for value in given.values() if isinstance(value, str)}
    texts = (*question.answer, *question.options.values(), question.text, question.category)
    if any(text in NO_TEXT and text not in written for text in texts):
        return "a text made of a missing value"
    if isinstance(answer, list) and len(question.answer) != len(answer):
        return "answers lost"
    options = given.get("options")
    if isinstance(options, list) and len(question.options) != len(options):
        return "options lost"
    media = [given[key] for key in ("media", "images", "videos", "image", "video") if key in given]
    counts = {len(value) if isinstance(value, list) else 1 for value in media}
    is_lost = not question.media if "image_path" in given else len(question.media) not in counts
    if "text" not in given and is_lost:
        return "media lost"
    return ""


def run(count: int, seed: int) -> tuple[Counter[str], Counter[str], float]:
    """Read rows of each kind. Return the counts of outcomes, the counts of failures, and the slowest time in seconds."""
    rng = random.Random(f"rows/{seed}")
    treated, failed, slowest_s = Counter[str](), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for picture in ("a.png", "b.png"):
            Image.new("RGB", (200, 100), "red").save(folder / picture)
        kinds = (("own", odd_row), ("tsv", odd_cells), ("messages", odd_messages))
        for number in range(count):
            kind, make = kinds[number % 3]
            given = make(rng)
            started = time.perf_counter()
            try:
                row = _treated(kind, given, folder)
                broken = problem_of(row, given)
            except Exception as error:  # any exception of a reader is a failure
                row, broken = None, f"{type(error).__name__}: {error}"[:100]
            slowest_s = max(slowest_s, time.perf_counter() - started)
            reason = row.reason if isinstance(row, SkippedRow) else "accepted"
            treated[f"{kind} {reason}"] += 1
            if broken:
                failed[f"{kind}: {broken}: {json.dumps(given)[:300]}"] += 1
    return treated, failed, slowest_s


def _treated(kind: str, given: dict[str, Any], folder: Path) -> Question | Trace | SkippedRow:
    if kind == "own":
        (folder / "rows.jsonl").write_text(json.dumps(given))
        (row,) = open_source("jsonl", data=folder / "rows.jsonl").questions(folder)
        return row
    if kind == "messages":
        (folder / "data.json").write_text(json.dumps([given]))
        (row,) = import_message_list(folder / "data.json")
        return row
    lines = ["\t".join(cells) for cells in (given, given.values())]
    (folder / "mine.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = select_questions(BENCHMARKS.get("tsv"), folder / "mine.tsv", folder / "media")
    (row,) = [*found.questions, *found.dropped]
    return row


def main() -> int:
    """Run the attack and print one line of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    treated, failed, slowest_s = run(arguments.count, arguments.seed)
    for what in list(failed)[:20]:
        print(what)
    accepted = sum(count for name, count in treated.items() if name.endswith("accepted"))
    print(
        f"rows: {arguments.count} rows, {accepted} accepted, {arguments.count - accepted} dropped for"
        f" {len({name.partition(' ')[2] for name in treated}) - 1} reasons, {sum(failed.values())} failed,"
        f" slowest {math.ceil(slowest_s * 1000)} ms"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
