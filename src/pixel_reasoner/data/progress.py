"""Progress of a synthesis run, in whole units, for its checkpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixel_reasoner.data.unit_files import UnitResult


class Progress:
    """Progress of a run, in whole units."""

    def __init__(self, noted: Mapping[str, Any] | None = None) -> None:
        """Start a run, or continue from a checkpoint."""
        noted = noted or {}
        self.units: int = noted.get("units", 0)
        self.count: int = noted.get("count", 0)
        """traces"""
        self.kinds: Counter[str] = Counter(noted.get("kinds", {}))
        self.reasons: Counter[str] = Counter(noted.get("reasons", {}))
        """dropped rows by reason"""

    def as_dict(self) -> dict[str, Any]:
        """Return the progress as JSON values for a checkpoint."""
        return {
            "units": self.units,
            "count": self.count,
            "kinds": dict(self.kinds),
            "reasons": dict(self.reasons),
        }

    def add(self, written: UnitResult) -> None:
        """Add the result of a unit."""
        self.units += 1
        self.count += len(written.lines)
        self.kinds.update(written.kinds)
        self.reasons.update(one.reason for one in written.dropped)
