"""A run on disk: its summary, its traces, and its report in a notebook or browser."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import read_json_object
from pixel_reasoner.reports.build import WrittenReport, write_run_report
from pixel_reasoner.runs.folder import SUMMARY, load_run
from pixel_reasoner.schema.trace import Trace

NOTEBOOK_QUESTIONS = 200
"""questions with traces in a notebook; the metrics are those of all"""


class Run:
    r"""Folder of an evaluation, of traces, of training data, or of a training run.

    As the last line of a cell of a notebook it shows its report.

    Args:
        path: of the folder.

    Raises:
        InputError: no such folder.

    >>> from pixel_reasoner import EvalSpec, WorldSpec, evaluate
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> out = Path(tempfile.mkdtemp()) / "run"
    >>> spec = EvalSpec(benchmark="pixelworld", out=out, world=WorldSpec(count=2))
    >>> _ = evaluate(spec, model=ScriptedModel([r"\boxed{no idea}"]))
    >>> run = Run(out)
    >>> run.summary["accuracy"], [trace.answer for trace in run.traces()]
    (0.0, ['no idea', 'no idea'])
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(
                expected="the folder of a run",
                got=f"{path}: no such folder",
                fix="give the --out of eval, synth or train",
            )

    def __repr__(self) -> str:
        return f"<Run {self.path}>"

    @property
    def summary(self) -> dict[str, Any]:
        """Metrics of a finished evaluation, or counts of training data.

        Raises:
            InputError: the run is not finished, or has no summary.
        """
        return read_json_object(
            self.path / SUMMARY, "a finished run", "run the same command again: it resumes"
        )

    def traces(self) -> Iterator[Trace]:
        """Yield the traces, in order.

        Raises:
            InputError: no traces, or a line that is not a trace.
        """
        return load_run(self.path)

    def report(self, out: Path) -> WrittenReport:
        """Write the report as an HTML page (`pixel_reasoner.report`).

        Args:
            out: path of the page.

        Raises:
            InputError: nothing that can be shown.
            OutputError: `out` cannot be written.
        """
        return write_run_report([self.path], out)

    def show(self) -> Path:
        """Write the report to a temporary folder, open it in the browser, and return its path."""
        folder = Path(tempfile.mkdtemp(prefix="pixel-reasoner-"))
        page = self.report(folder / f"{self.path.absolute().name}.html").out
        webbrowser.open(page.as_uri())
        return page

    def _repr_html_(self) -> str:
        """Return the report as HTML for a notebook."""
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "run.html"
            written = write_run_report([self.path], page, limit=NOTEBOOK_QUESTIONS)
            return written._repr_html_()
