"""Class list of an export: those of the specification, then others that were found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pixel_reasoner.workflows.inspection.spec import ANOMALY, InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import Finding, InspectionRow


def class_names(rows: Iterable[InspectionRow], spec: InspectionSpec) -> list[str]:
    """Return the names of all classes, in a fixed order."""
    found = {one.defect_class for row in rows for one in row.findings}
    names = [*spec.defects, *sorted(found - set(spec.defects))]
    return names or [ANOMALY]


def sized(rows: Sequence[InspectionRow]) -> Iterator[tuple[InspectionRow, int, int]]:
    """Yield the rows whose photo could be read, with width and height."""
    for row in rows:
        if row.width is not None and row.height is not None:
            yield row, row.width, row.height


def counted(row: InspectionRow) -> list[Finding]:
    """Return the findings that are not tolerated."""
    return [one for one in row.findings if not one.is_tolerated]
