"""Benchmarks, one module each: rows of the official files as `Question`s.

A new module of this package registers itself. The imports set the order of `eval --list`.
"""

import re

from pixel_reasoner.errors import UnknownNameError
from pixel_reasoner.evals.benchmark import BENCHMARKS, Benchmark

from pixel_reasoner.evals.benchmarks import vstar, hrbench, tallyqa, docvqa, chartqa  # isort: skip
from pixel_reasoner.evals.benchmarks import mvbench, treebench, visualprobe  # isort: skip
from pixel_reasoner.evals.benchmarks import mme_realworld, blink, videomme, neutral, tsv  # isort: skip

__all__ = ["BENCHMARKS", "as_markdown", "get_benchmark", "insert_table"]
_FIRST = (
    *(vstar, hrbench, tallyqa, docvqa, chartqa, mvbench, treebench, visualprobe),
    *(mme_realworld, blink, videomme, neutral, tsv),
)


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a name. PixelWorld is generated and not included: it is a source.

    Raises:
        UnknownNameError: no such benchmark; the nearest names are listed.
    """
    try:
        return BENCHMARKS.get(name)
    except UnknownNameError as error:
        raise UnknownNameError(
            expected=f"a task: pixelworld, {', '.join(BENCHMARKS)}",
            got=repr(name),
            fix=f"{error.fix}; `pixel-reasoner eval --list` describes them",
        ) from error


_SIGNS = re.compile(r"[*<>]")
"""signs of file patterns that Markdown would read as emphasis or HTML"""
MARKS = "<!-- tasks -->", "<!-- end of tasks -->"


def as_markdown() -> str:
    """Return the benchmarks as a Markdown table."""
    header = ["task", "measures", "files below `--data`", "rows", "metric", "not included"]
    rows = [header, ["---"] * len(header)]
    for name, one in BENCHMARKS.items():
        texts = (one.measures, one.files, one.rows, one.metric, one.needs)
        rows.append([f"`{name}`", *(_SIGNS.sub(_as_entity, text) for text in texts)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _as_entity(sign: re.Match[str]) -> str:
    return f"&#{ord(sign[0])};"


def insert_table(page: str) -> str:
    """Return a page with the table inserted between its markers."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{as_markdown()}\n{MARKS[1]}{after}"
