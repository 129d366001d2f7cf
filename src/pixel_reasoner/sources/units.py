"""Unit of a source whose rows are built where they are used: in the workers of a synthesis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.base import Source
from pixel_reasoner.sources.media_folders import restricted_row
from pixel_reasoner.sources.rows import Row, check_rows


class SourceUnit(NamedTuple):
    """A unit with its source."""

    source: Source
    unit: Any
    folders: tuple[Path, ...]
    """folders that may contain the media of its questions"""

    def rows(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of the unit. A question about media outside the folders becomes a `SkippedRow`."""
        for row in check_rows(self.source.rows(self.unit, folder)):
            yield restricted_row(row, self.folders) if isinstance(row, Question) else row
