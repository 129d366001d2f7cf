"""JUnit XML: one test case per photo. CI systems count `skipped` (unsure) as passed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.files import write_bytes
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict


def write_junit(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> list[Path]:
    """Write `junit.xml`: ok is a passed case, defect a failure, unsure is skipped, error is an error.

    Raises:
        OutputError: the file cannot be written.
    """
    counts = {one: sum(row.verdict is one for row in rows) for one in Verdict}
    totals = {
        "tests": str(len(rows)),
        "failures": str(counts[Verdict.DEFECT]),
        "errors": str(counts[Verdict.ERROR]),
        "skipped": str(counts[Verdict.UNSURE]),
        "time": f"{sum(row.audit.seconds for row in rows):.3f}",
    }
    root = ET.Element("testsuites", {"name": "inspection", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": printable(spec.product), **totals})
    if rows and rows[0].audit.time:
        suite.set("timestamp", rows[0].audit.time)
    for row in rows:
        suite.append(_case(row, spec))
    ET.indent(root)
    path = out / "junit.xml"
    write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True), path)
    return [path]


def _case(row: InspectionRow, spec: InspectionSpec) -> ET.Element:
    case = ET.Element(
        "testcase",
        {
            "classname": printable(row.category or spec.product),
            "name": printable(row.id),
            "time": f"{row.audit.seconds:.3f}",
        },
    )
    message = printable(row.reason)
    if row.verdict is Verdict.DEFECT:
        failure = ET.SubElement(
            case, "failure", {"message": message, "type": row.severity or "defect"}
        )
        failure.text = printable("\n".join(_line(row)))
    elif row.verdict is Verdict.UNSURE:
        ET.SubElement(case, "skipped", {"message": message})
    elif row.verdict is Verdict.ERROR:
        ET.SubElement(case, "error", {"message": message, "type": "unreadable"})
    return case


def _line(row: InspectionRow) -> list[str]:
    size = (row.width or 1, row.height or 1)
    return [
        f"{one.defect_class} ({one.severity}) at x={x:g} y={y:g} width={w:g} height={h:g} px"
        for one in row.findings
        if not one.is_tolerated
        for x, y, w, h in (one.pixels(size),)
    ]


def printable(text: str) -> str:
    r"""Return a text without the characters that XML 1.0 does not allow.

    >>> printable("a\x00b\ud800")
    'a?b?'
    """
    return "".join(
        c
        if c in "\t\n\r"
        or 0x20 <= ord(c) <= 0xD7FF
        or 0xE000 <= ord(c) <= 0xFFFD
        or ord(c) >= 0x10000
        else "?"
        for c in text
    )
