"""VisualProbe (Mini-o3, arXiv 2509.07969): visual search that needs several operations. Free-form answers, compared as texts.

Published results use a judge model. An exact comparison is stricter, so the two are not comparable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import (
    SHORT,
    files_below,
    find_media_file,
    image,
    json_rows,
    question,
)
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.cells import (
    is_missing,
    optional_text,
    parse_answers,
    parse_text,
    strip_placeholders,
)
from pixel_reasoner.sources.rows import RowError, SkippedRow


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of `val.json`, from one folder per difficulty or all below one."""
    del media
    for path in files_below(data, "val.json", "*/val.json"):
        for number, row in enumerate(json_rows(path), start=1):
            yield RowDraft(f"{path}, row {number}", partial(_question, number, row, path))


def _question(number: int, row: dict[str, Any], path: Path) -> Question:
    text = _first(row, "problem", "question")
    answer = _first(row, "solution", "answer")
    named = _first(row, "images", "image")
    pictures = [named] if isinstance(named, str) else list(named)
    level = re.search("easy|medium|hard", str(path.parent), re.IGNORECASE)
    kind = level[0].lower() if level else ""
    return question(
        id=f"visualprobe-{kind or path.parent.name}-{optional_text(row.get('doc_id'), 'doc_id') or number}",
        text=strip_placeholders(parse_text(text, "question"), len(pictures)).strip() + SHORT,
        media=tuple(
            image(find_media_file(path.parent, parse_text(one, "images"), "data", "images"))
            for one in pictures
        ),
        answer=parse_answers(answer),
        category=kind,
    )


def _first(row: dict[str, Any], *names: str) -> Any:
    for name in names:
        if not is_missing(row.get(name)) and row[name] != []:
            return row[name]
    raise RowError("missing_keys", f"expected {' or '.join(names)}; got {' '.join(row)}")


register_benchmarks(
    Benchmark(
        name="visualprobe",
        measures="visual search that needs several operations: easy, medium and hard",
        files="val.json and data/*.jpg, or one folder with both for each difficulty",
        rows="141 easy, 268 medium, 106 hard",
        metric="exact match (published: a judge model)",
        read=read,
        hub="Mini-o3/VisualProbe_Hard",
    ),
)
