"""Verdicts: ok, defect, unsure or error. Only a picture that was compared and understood is ok."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydantic import Field, FiniteFloat

from pixel_reasoner.schema.geometry import RecordedBox, Size
from pixel_reasoner.schema.record import Record
from pixel_reasoner.workflows.inspection.spec import SEVERITIES, InspectionSpec, Severity


class Verdict(StrEnum):
    """Result of one photo or part."""

    OK = "ok"
    DEFECT = "defect"
    UNSURE = "unsure"
    """a person must look: not aligned, no usable answer, or answers that disagree"""
    ERROR = "error"
    """the photo could not be inspected"""


class Finding(Record):
    """One defect."""

    box: RecordedBox
    """fractions of the upright photo"""
    defect_class: str
    severity: Severity
    score: FiniteFloat | None = None
    """difference from the references; None if the model found it without them"""
    reason: str = ""
    number: int | None = None
    """number of the proposal"""
    crop: str = ""
    """picture of it, relative to the run"""
    is_tolerated: bool = False
    """whether the specification tolerates it: too small, or few of its class"""

    def pixels(self, size: Size) -> tuple[float, float, float, float]:
        """Return left, top, width and height in pixels of the upright photo, rounded to hundredths.

        >>> Finding(box=(0.25, 0.5, 0.5, 1.0), defect_class="dent", severity="minor").pixels((80, 40))
        (20.0, 20.0, 20.0, 20.0)
        """
        left, top = self.box.x1 * size[0], self.box.y1 * size[1]
        width, height = self.box.x2 * size[0] - left, self.box.y2 * size[1] - top
        return round(left, 2), round(top, 2), round(width, 2), round(height, 2)


class Audit(Record):
    """Everything that a verdict depends on, and when it was given."""

    photo_sha256: str = ""
    spec_sha256: str = ""
    model_sha256: str = ""
    """of the files of a local model, of the description of a served one; empty without a model"""
    reference_sha256: str = ""
    """of all golden pictures"""
    program: str = ""
    """name and version"""
    time: str = ""
    """ISO 8601 with zone"""
    seconds: FiniteFloat = 0.0


class Placed(Record):
    """Registration with the reference."""

    reference: str = ""
    """golden picture in whose frame the photo was compared"""
    error_px: FiniteFloat | None = None
    """in pixels of the compared picture"""
    fit: FiniteFloat | None = None
    """share of the landmarks that are at their place"""
    correlation: FiniteFloat | None = None
    rotation_deg: FiniteFloat | None = None
    scale: FiniteFloat | None = None
    shift: FiniteFloat | None = None
    """fraction of the diagonal"""
    visible: FiniteFloat | None = None
    """share of the part in the picture"""


class InspectionRow(Record):
    """Verdict of one photo: a line of rows.jsonl."""

    id: str
    """path below the data set"""
    path: str
    category: str = ""
    part: str = ""
    view: str = ""
    verdict: Verdict
    reason: str = ""
    """one sentence"""
    severity: Severity | None = None
    """of the worst finding"""
    score: FiniteFloat | None = None
    """largest difference from the references: 1 is the largest among them"""
    findings: tuple[Finding, ...] = ()
    proposals: tuple[Finding, ...] = ()
    """all places that were proposed, also the rejected ones"""
    width: int | None = None
    height: int | None = None
    """of the upright photo"""
    smallest_px: FiniteFloat | None = None
    """longest side of the smallest defect that is found, in pixels of the photo"""
    placed: Placed | None = None
    label: str = ""
    """good, defect, or empty if unknown"""
    label_class: str = ""
    split: str = ""
    mask: str = ""
    agreement: FiniteFloat | None = None
    """share of the model's answers that agree"""
    num_decoys: int = 0
    num_accepted_decoys: int = 0
    duplicate_of: str = ""
    """id of an earlier photo with the same bytes"""
    notes: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()
    audit: Audit = Field(default_factory=Audit)
    error: str | None = None
    """why the photo could not be inspected"""


def with_tolerances(findings: Iterable[Finding], spec: InspectionSpec, size: Size) -> list[Finding]:
    """Return findings with `is_tolerated` set as the specification says: small ones first, then few ones of a class."""
    checked = []
    for one in findings:
        known = spec.defects.get(one.defect_class)
        width, height = one.pixels(size)[2:]
        is_small = known is not None and max(width, height) < known.min_size_px
        checked.append(one.model_copy(update={"is_tolerated": is_small}))
    for name, known in spec.defects.items():
        counted = [one for one in checked if one.defect_class == name and not one.is_tolerated]
        if 0 < len(counted) <= known.max_count:
            few = {id(one) for one in counted}
            checked = [
                one.model_copy(update={"is_tolerated": True}) if id(one) in few else one
                for one in checked
            ]
    return checked


def worst(severities: Iterable[Severity]) -> Severity | None:
    """Return the worst severity; None without any.

    >>> worst(["minor", "critical"])
    'critical'
    """
    return min(severities, key=SEVERITIES.index, default=None)


def part_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a part with several photos: bad if any is bad, ok only if all are ok.

    >>> part_verdict([Verdict.OK, Verdict.DEFECT]).value, part_verdict([Verdict.OK, Verdict.ERROR]).value
    ('defect', 'error')
    """
    for one in (Verdict.DEFECT, Verdict.ERROR, Verdict.UNSURE):
        if one in verdicts:
            return one
    return Verdict.OK
