"""Parsing of `summary.json` for reports: validated numbers and texts. Unknown entries are ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from pixel_reasoner.errors import InputError
from pixel_reasoner.evals.run import SUMMARY
from pixel_reasoner.files import read_json_object
from pixel_reasoner.scoring.grading import Scorer

Interval = tuple[FiniteFloat, FiniteFloat]


class _SummaryPart(BaseModel):
    """Base class: part of a summary, as written by `evals.stats` and `evals.compare`."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Metrics(_SummaryPart):
    """Metrics of a group of questions; None for missing values."""

    count: NonNegativeInt = 0
    accuracy: FiniteFloat | None = None
    accuracy_interval: Interval | None = None
    score: FiniteFloat | None = None
    score_interval: Interval | None = None
    rapr: FiniteFloat | None = None
    evidence_hit_rate: FiniteFloat | None = None
    mean_iou: FiniteFloat | None = None
    operation_error_rate: FiniteFloat | None = None
    repaired_rate: FiniteFloat | None = None
    repaired_by_kind: dict[str, FiniteFloat | None] = Field(default_factory=dict)
    strict_accuracy: FiniteFloat | None = None
    unparsed_rate: FiniteFloat | None = None
    mean_operations: FiniteFloat | None = None
    rollouts_per_question: FiniteFloat | None = None
    tokens_per_question: FiniteFloat | None = None
    visual_tokens_per_question: FiniteFloat | None = None
    new_tokens_per_question: FiniteFloat | None = None
    seconds_per_question: FiniteFloat | None = None
    ece: FiniteFloat | None = None


class Share(_SummaryPart):
    """Mean over pairs of answers, and its interval."""

    count: NonNegativeInt = 0
    value: FiniteFloat | None = None
    interval: Interval | None = None
    p: FiniteFloat = 1.0
    """p of a paired test; for the difference only"""


class PairMetrics(_SummaryPart):
    """Metrics of pairs of answers (`evals.compare.compare`)."""

    with_: Annotated[Share, Field(alias="with")] = Share()
    without: Share = Share()
    gain: Share | None = None
    """None in the summary of a run without comparison"""
    harm: Share = Share()
    both: Share = Share()
    neither: Share = Share()
    difference: Share = Share()


class Estimate(_SummaryPart):
    """Value with its 95 % interval; None where it is undefined."""

    value: FiniteFloat | None = None
    interval: Interval | None = None


class HeightPoint(_SummaryPart):
    """Questions with one height of the evidence."""

    height: FiniteFloat
    count: NonNegativeInt = 0
    needed: FiniteFloat | None = None
    """share of questions that need an operation"""
    accuracy: Estimate = Estimate()
    rapr: Estimate = Estimate()


class Twins(_SummaryPart):
    """Pairs of questions that differ in one detail."""

    count: NonNegativeInt = 0
    both_right: Estimate = Estimate()
    same_answer: Estimate = Estimate()


class AdaptivityMetrics(_SummaryPart):
    """Use of operations against legibility (`evals.adaptivity`)."""

    count: NonNegativeInt = 0
    rapr_unreadable: Estimate = Estimate()
    rapr_readable: Estimate = Estimate()
    rapr_difference: Estimate = Estimate()
    mcc: Estimate = Estimate()
    right_at_once: Estimate = Estimate()
    use_crossing_px: Estimate = Estimate()
    accuracy_crossing_px: Estimate = Estimate()
    curve: tuple[HeightPoint, ...] = ()
    twins: Twins | None = None
    scores: dict[str, Estimate] = {}


class ControlMetrics(_SummaryPart):
    """A control condition (`evals.controls`)."""

    accuracy: FiniteFloat | None = None
    rapr: FiniteFloat | None = None
    picture_px_per_question: FiniteFloat | None = None
    difference: Share = Share()
    """the run minus the condition"""
    adaptivity: AdaptivityMetrics | None = None


class Repeats(_SummaryPart):
    """Metrics of questions with several samples (`evals.stats.repeats`)."""

    k: NonNegativeInt = 0
    """samples per question"""
    average: Share | None = None
    """avg@k"""
    voted: Share | None = None
    """maj@k"""
    passed: Share | None = None
    """pass@k"""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, fields: Any) -> Any:
        """Rename `avg@4`, `maj@4` and `pass@4`, which contain the number of samples."""
        if not isinstance(fields, dict):
            return fields
        names = {"avg": "average", "maj": "voted", "pass": "passed"}
        return {names.get(name.partition("@")[0], name): value for name, value in fields.items()}


class OperationMetrics(_SummaryPart):
    """Metrics of one operation (`evals.operations`)."""

    calls: NonNegativeInt = 0
    executed: NonNegativeInt = 0
    rejected: NonNegativeInt = 0
    questions: NonNegativeInt = 0
    accuracy: FiniteFloat | None = None
    new_tokens_per_call: FiniteFloat | None = None
    result_tokens_per_call: FiniteFloat | None = None
    helped: Share | None = None
    hurt: Share | None = None
    net: Share | None = None


class Reliability(_SummaryPart):
    """Answers of a run with a confidence in one interval (`scoring.confidence.ReliabilityBin`)."""

    low: FiniteFloat
    high: FiniteFloat
    num_answers: NonNegativeInt
    confidence: FiniteFloat
    accuracy: FiniteFloat


class RowCount(_SummaryPart):
    """Rows of a benchmark with the same problem."""

    count: NonNegativeInt
    rows: list[str] = []
    """names of some rows"""


class Rows(_SummaryPart):
    """Row counts of a benchmark."""

    read: NonNegativeInt
    dropped: dict[str, RowCount] = {}
    noted: dict[str, RowCount] = {}


class Task(_SummaryPart):
    """The questions of a run."""

    name: str = ""
    split: str | None = None


class Model(_SummaryPart):
    """The model of a run."""

    name: str = ""
    weights: str = ""
    """fingerprint"""


class Settings(_SummaryPart):
    """The settings that the head of a report shows."""

    task: Task = Task()
    model: Model = Model()
    dialect: str = ""


class RunSummary(Metrics, PairMetrics):
    """The summary of an evaluation."""

    by_family: dict[str, Metrics] = {}
    by_category: dict[str, Metrics] = {}
    by_label: dict[str, dict[str, Metrics]] = {}
    by_operation: dict[str, OperationMetrics] = {}
    compared_by_family: dict[str, PairMetrics] = {}
    compared_by_category: dict[str, PairMetrics] = {}
    rows: Rows | None = None
    scorer: Scorer = Scorer.TYPED
    settings: Settings = Settings()
    data: str = ""
    """fingerprint of the questions"""
    versions: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    failed: dict[str, str | None] = {}
    """id of a question -> why its request failed"""
    adaptivity: AdaptivityMetrics | None = None
    controls: dict[str, ControlMetrics] = {}
    picture_px_per_question: FiniteFloat | None = None
    repeats: Repeats | None = None
    reliability: list[Reliability] = []
    """of the confidence of a strategy"""
    cyclic_accuracy: FiniteFloat | None = None
    disturbed: NonNegativeInt = 0
    """questions that were asked again with an off-target first crop"""
    recovery_rate: FiniteFloat | None = None


def read_summary(run: Path) -> RunSummary:
    """Return the summary of a run.

    Raises:
        InputError: no summary, because the run is not finished, or an invalid file.
    """
    fix = "run the same `pixel-reasoner eval` again: it resumes"
    path = run / SUMMARY
    fields = read_json_object(path, "a finished run", fix)
    try:
        return RunSummary.model_validate(fields)
    except ValidationError as error:
        raise InputError(
            expected="the summary of a run", got=f"{path}: {first_problem(error)}", fix=fix
        ) from error


def first_problem(error: ValidationError) -> str:
    """Return the location and message of the first pydantic error."""
    first: Any = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
