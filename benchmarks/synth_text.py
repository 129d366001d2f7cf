"""Speed and correctness of the synthesis from documents: text layers, and scans by OCR.

.venv/bin/python benchmarks/synth_text.py [DOCUMENTS] [SCANS]

Documents: letters, tables, articles in two columns, reports with turned and cropped pages (`text_documents`). Speed is in traces per
second of CPU time, so that other processes do not count. Limits: at least 20 with text layers; every trace passes the check.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pixel_reasoner.data.check import check_traces
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize
from text_documents import write_documents, write_scans

MIN_TRACES_PER_S = 20
CHECKED = 40
"""traces of each run that are checked: each is replayed at 300 dpi"""


def measure(name: str, data: Path, out: Path, **options: object) -> float:
    """Synthesize, check, print a line, and return the traces per second of CPU time."""
    started = time.process_time()
    spec = SynthSpec(source="text", data=data, out=out, count=100_000, **options)  # type: ignore[arg-type]
    summary = synthesize(spec)
    rate = summary["count"] / (time.process_time() - started)
    traces = list(load_run(out, [data]))
    step = max(1, len(traces) // CHECKED)
    verdict = check_traces(traces[::step])
    kinds = {trace.question.category.partition("/")[2] for trace in traces}
    print(
        f"{name:<28} {summary['count']:6} traces {rate:7.1f}/s   {verdict.checked - sum(verdict.problems.values())} of "
        f"{verdict.checked} checked pass   {len(kinds)} kinds   dropped {summary['dropped']}",
        flush=True,
    )
    assert verdict.passed, verdict.named
    return rate


def main() -> None:
    """Print the table."""
    num_documents, num_scans = (int(one) for one in (*sys.argv[1:], 100, 6)[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_documents(folder / "warm", 1)
        write_documents(folder / "documents", num_documents)
        measure("(imports)", folder / "warm", folder / "a")
        rate = measure("text layer, 6 a page", folder / "documents", folder / "b")
        measure("text layer, 20 a page", folder / "documents", folder / "c", per_page=20)
        measure("text layer, compact", folder / "documents", folder / "d", model="compact")
        if num_scans:
            write_scans(folder / "scans", num_scans)
            measure("scans by OCR, 6 a page", folder / "scans", folder / "e")
            measure("scans by OCR, 40 a page", folder / "scans", folder / "f", per_page=40)
        assert rate >= MIN_TRACES_PER_S, rate


if __name__ == "__main__":
    main()
