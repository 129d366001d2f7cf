"""SARIF 2.1.0: a region of SARIF is text, so boxes are rectangles of attachments, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pixel_reasoner import __version__
from pixel_reasoner.files import write_json
from pixel_reasoner.workflows.inspection.exports.classes import class_names, counted
from pixel_reasoner.workflows.inspection.exports.coco import score_of
from pixel_reasoner.workflows.inspection.spec import InspectionSpec, Severity
from pixel_reasoner.workflows.inspection.verdicts import Finding, InspectionRow, Verdict

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS: dict[Severity, str] = {"critical": "error", "major": "error", "minor": "warning"}
_PHOTO = "photo"
"""rule of results about a whole photo"""


def write_sarif(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> list[Path]:
    """Write `inspection.sarif`: a result per finding, and one per photo that is ok or unsure; errors are notifications.

    Raises:
        OutputError: the file cannot be written.
    """
    names = [*class_names(rows, spec), _PHOTO]
    rules = [_rule(name, spec) for name in names]
    results = [one for row in rows for one in _results(row, names)]
    errors = [_notification(row) for row in rows if row.error is not None]
    run = {
        "tool": {
            "driver": {"name": "pixel-reasoner", "version": __version__, "rules": rules},
        },
        "invocations": [{"executionSuccessful": not errors, "toolExecutionNotifications": errors}],
        "results": results,
    }
    path = out / "inspection.sarif"
    write_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, path)
    return [path]


def _rule(name: str, spec: InspectionSpec) -> dict[str, Any]:
    if name == _PHOTO:
        return {"id": name, "shortDescription": {"text": "verdict of a whole photo"}}
    known = spec.defects.get(name)
    text = (known.description if known else "") or name.replace("_", " ")
    level = _LEVELS[spec.severity(name)]
    return {
        "id": name,
        "shortDescription": {"text": text},
        "defaultConfiguration": {"level": level},
        "properties": {"severity": spec.severity(name)},
    }


def _results(row: InspectionRow, names: Sequence[str]) -> list[dict[str, Any]]:
    place = {"artifactLocation": {"uri": quote(row.id)}}
    shared = {
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"photo/sha256": row.audit.photo_sha256 or "unknown"},
    }
    if row.verdict is Verdict.ERROR:
        return []
    found = [{**_finding(one, row, names, place), **shared} for one in counted(row)]
    if row.verdict is Verdict.DEFECT and found:
        return found
    kinds = {Verdict.OK: "pass", Verdict.UNSURE: "review", Verdict.DEFECT: "fail"}
    whole = {
        "ruleId": _PHOTO,
        "ruleIndex": names.index(_PHOTO),
        "kind": kinds[row.verdict],
        "level": "error" if row.verdict is Verdict.DEFECT else "none",
        "message": {"text": row.reason or row.verdict.value},
        **shared,
    }
    return [*found, whole]


def _finding(
    one: Finding, row: InspectionRow, names: Sequence[str], place: dict[str, Any]
) -> dict[str, Any]:
    assert row.width is not None
    assert row.height is not None
    left, top, width, height = one.pixels((row.width, row.height))
    text = one.reason or one.defect_class.replace("_", " ")
    box = {
        "left": left,
        "top": top,
        "right": round(left + width, 2),
        "bottom": round(top + height, 2),
        "message": {"text": one.defect_class},
    }
    return {
        "ruleId": one.defect_class,
        "ruleIndex": names.index(one.defect_class),
        "kind": "fail",
        "level": _LEVELS[one.severity],
        "rank": round(100 * score_of(one.score), 2),
        "message": {"text": text},
        "attachments": [{**place, "rectangles": [box]}],
    }


def _notification(row: InspectionRow) -> dict[str, Any]:
    return {
        "level": "error",
        "message": {"text": row.error or "error"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": quote(row.id)}}}],
    }
