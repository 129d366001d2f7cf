"""The whole inspection: photos, summary, exports, report, review, thresholds. The command line and `api` call this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import read_json_object
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.workflows.inspection.engine import InspectionRun, inspect_photos
from pixel_reasoner.workflows.inspection.exports import check_formats, write_exports
from pixel_reasoner.workflows.inspection.library import golden_paths
from pixel_reasoner.workflows.inspection.page import write_inspection_report
from pixel_reasoner.workflows.inspection.pictures import file_sha256
from pixel_reasoner.workflows.inspection.result_rows import GOLDEN_FILE
from pixel_reasoner.workflows.inspection.review import (
    Mismatch,
    ReviewSummary,
    check_expectations,
    read_corrections,
    write_review,
)
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.spec_file import relative_reference, write_spec
from pixel_reasoner.workflows.inspection.summary import summarize
from pixel_reasoner.workflows.inspection.thresholds import ChosenThresholds, choose_thresholds
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict
from pixel_reasoner.workflows.progress import ProgressReporter
from pixel_reasoner.workflows.survey.rows import load_rows

EXPORTS, SPEC = "exports", "inspect.toml"


@dataclass(frozen=True)
class Inspection:
    """A finished run."""

    rows: tuple[InspectionRow, ...]
    summary: dict[str, Any]
    report: Path | None
    exports: tuple[Path, ...] = ()
    golden: tuple[str, ...] = ()
    """what the check of the golden pictures found"""
    mismatches: tuple[Mismatch, ...] = ()
    """photos whose verdict is not the expected one"""

    @property
    def num_defects(self) -> int:
        """Number of photos with a defect."""
        return sum(row.verdict is Verdict.DEFECT for row in self.rows)

    def count(self, verdict: str) -> int:
        """Return the number of photos with a verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def run_inspection(
    run: InspectionRun,
    model: GenerationModel | None = None,
    progress: ProgressReporter | None = None,
    *,
    exports: Sequence[str] = (),
    report: bool = True,
    expected: Path | None = None,
) -> Inspection:
    """Inspect photos, or resume a run, and write its summary, exports and report.

    Args:
        run: what is inspected, and how.
        model: looks at the proposals and decides; None: the score decides.
        progress: receives the number of photos.
        exports: names in `exports.WRITERS`, or `all`.
        report: whether `report.html` is written.
        expected: `regression.jsonl` of a review; verdicts are compared with it.

    Raises:
        UsageError: unknown formats or inconsistent values, or `out` contains another run.
        InputError: no photos, or no usable golden pictures.
        OutputError: a file cannot be written.
    """
    check_formats(exports)
    rows = [InspectionRow(**values) for values in inspect_photos(run, model, progress)]
    golden = tuple(golden_notes(run.out))
    summary = summarize(rows, run.spec, run.out)
    shown = {**summary, "golden": golden}
    page = write_inspection_report(rows, run.spec, shown, run.out) if report else None
    return Inspection(
        tuple(rows),
        summary,
        page.out if page else None,
        tuple(write_exports(exports, rows, run.spec, run.out / EXPORTS)),
        golden,
        tuple(check_expectations(expected, rows)) if expected else (),
    )


def golden_notes(folder: Path) -> list[str]:
    """Return what the check of the golden pictures of a run found, one sentence each."""
    path = folder / GOLDEN_FILE
    if not path.is_file():
        return []
    content = read_json_object(path, "the check of golden pictures", "delete the folder")
    found = []
    for one in content.get("golden_sets", ()):
        where = " ".join(filter(None, (one["category"], one["view"])))
        found += [f"{where}: {note}" if where else note for note in one["notes"]]
    return found


def choose_run_thresholds(
    run: InspectionRun,
    max_miss_rate: float,
    progress: ProgressReporter | None = None,
) -> tuple[ChosenThresholds, Path]:
    """Choose thresholds on labelled photos, and write the specification with them to `inspect.toml` in the run's folder.

    Args:
        run: labelled photos, for example `split="validation"`.
        max_miss_rate: share of defective photos that may be missed.
        progress: receives the number of photos.

    Returns:
        The thresholds with their rates on these photos, and the path of the specification.

    Raises:
        UsageError: inconsistent values.
        InputError: no labelled photos.
        OutputError: a file cannot be written.
    """
    if not 0 <= max_miss_rate < 1:
        raise UsageError(
            expected="a miss rate from 0 to below 1",
            got=f"{max_miss_rate:g}",
            fix="for example 0.02",
        )
    rows = [InspectionRow(**values) for values in inspect_photos(run, None, progress)]
    labelled = [row for row in rows if row.label and row.score is not None and not row.duplicate_of]
    if not labelled:
        raise InputError(
            expected="photos with labels that are aligned with the references",
            got=f"none of {len(rows)} photos",
            fix="use a data set with good and defective photos, or folders named good and defect",
        )
    chosen = choose_thresholds(
        [row.score for row in labelled if row.label == "good" and row.score is not None],
        [row.score for row in labelled if row.label == "defect" and row.score is not None],
        max_miss_rate,
        f"{run.split} of {', '.join(path.name for path in run.data)}",
        run.spec.decision,
    )
    path = run.out / SPEC
    changes: dict[str, Any] = {"decision": chosen.decision}
    if run.reference is not None:
        changes["reference"] = relative_reference(run.reference, path)
    write_spec(run.spec.model_copy(update=changes), path, replace=True)
    return chosen._replace(num_golden=_count_golden(run, labelled)), path


def _count_golden(run: InspectionRun, rows: Sequence[InspectionRow]) -> int:
    """Return the number of photos that are golden pictures too."""
    if run.reference is None:
        return sum(row.split == "train" and row.label == "good" for row in rows)
    listed = golden_paths(run.reference, ()).values()
    hashes = {file_sha256(path) for paths in listed for path in paths}
    return sum(row.audit.photo_sha256 in hashes for row in rows)


def review_run(corrections: Path, spec: InspectionSpec, out: Path) -> ReviewSummary:
    """Turn the corrections of a finished run into training rows and regression tests below `out/review`.

    Args:
        corrections: JSON of Label Studio or COCO.
        spec: of the run.
        out: folder of the run.

    Raises:
        InputError: the folder has no rows, or the file is something else.
        OutputError: a file cannot be written.
    """
    rows = [InspectionRow(**values) for values in load_rows(out)]
    return write_review(read_corrections(corrections), rows, spec, out)
