"""The benchmarks, one short file each: what a row of the official files says, as a `Question`."""

from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.benchmark import Benchmark
from pixel_reasoner.evals.benchmarks import (
    blink,
    chartqa,
    docvqa,
    hrbench,
    mme_realworld,
    mvbench,
    neutral,
    tallyqa,
    treebench,
    tsv,
    videomme,
    visualprobe,
    vstar,
)

_MODULES = (
    *(vstar, hrbench, tallyqa, docvqa, chartqa, mvbench, treebench, visualprobe),
    *(mme_realworld, blink, videomme, neutral, tsv),
)
BENCHMARKS: dict[str, Benchmark] = {task.name: task for module in _MODULES for task in module.TASKS}
"""by name, in the order of `eval --list`; PixelWorld, which is generated, is not among them"""


def get_benchmark(name: str) -> Benchmark:
    """The task of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in BENCHMARKS:
        raise UsageError(
            expected=f"a task: pixelworld, {', '.join(BENCHMARKS)}",
            got=repr(name),
            fix="name one of these; `pixel-reasoner eval --list` says what they are",
        )
    return BENCHMARKS[name]


MARKS = "<!-- tasks -->", "<!-- end of tasks -->"


def as_markdown() -> str:
    """The benchmarks as a table."""
    header = ["task", "measures", "files below `--data`", "rows", "metric", "not included"]
    rows = [header, ["---"] * len(header)]
    for task in BENCHMARKS.values():
        told = (task.measures, task.files, task.rows, task.metric, task.needs)
        rows.append([f"`{task.name}`", *told])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def in_page(page: str) -> str:
    """A page with the table between its marks."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{as_markdown()}\n{MARKS[1]}{after}"
