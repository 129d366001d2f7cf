"""Rows of an inspection with every verdict and asymmetric boxes, for tests of exports."""

from __future__ import annotations

from typing import Any

from pixel_reasoner.workflows.inspection.spec import DefectClass, InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import Finding, InspectionRow, Verdict

SPEC = InspectionSpec(
    defects={"Scratch": DefectClass(severity="minor"), 'a "dent"': DefectClass(severity="critical")}
)
BOX = (0.125, 0.25, 0.625, 0.375)
"""asymmetric: corner, centre and end cannot be confused"""


def finding(box: Any = BOX, name: str = "Scratch", **more: Any) -> Finding:
    """Return a finding with the severity of its class."""
    return Finding(box=box, defect_class=name, severity=SPEC.severity(name), score=2.0, **more)


ROWS = [
    InspectionRow(id="a/1.png", path="/x/a/1.png", verdict=Verdict.OK, width=640, height=480),
    InspectionRow(
        id="a/2.png",
        path="/x/a/2.png",
        verdict=Verdict.DEFECT,
        reason="=HYPERLINK(1) \x00 <scratch>",
        severity="critical",
        width=640,
        height=480,
        score=2.0,
        findings=(
            finding(),
            finding((0.5, 0.1, 0.55, 0.9), 'a "dent"'),
            finding(is_tolerated=True),
        ),
    ),
    InspectionRow(
        id="b/2.png",
        path="/x/b/2.png",
        verdict=Verdict.UNSURE,
        reason="not aligned",
        width=10,
        height=20,
    ),
    InspectionRow(
        id="3.png", path="/x/3.png", verdict=Verdict.ERROR, reason="cut off", error="cut off"
    ),
]
