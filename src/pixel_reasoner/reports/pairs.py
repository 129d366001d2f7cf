"""Two answers to the same question: effect of operations, or of another run, as filters and as a matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pixel_reasoner.reports.scan import ScannedTrace, TraceKey
from pixel_reasoner.reports.schema import MatrixCell, MatrixSection

EFFECTS = ("harm", "gain", "neither", "both")
"""effects of operations on an answer, most instructive first"""
_EFFECT_NAMES = {(True, False): "gain", (False, True): "harm", (True, True): "both"}


class PairedTraces(NamedTuple):
    """Traces of one question and sample in two runs."""

    first: ScannedTrace
    second: ScannedTrace

    @property
    def are_right(self) -> tuple[bool, bool]:
        """Whether each answer is right."""
        return self.first.is_right, self.second.is_right

    @property
    def effect(self) -> str:
        """`gain` (only the first answer is right), `harm` (only the second), `both` or `neither`."""
        return _EFFECT_NAMES.get(self.are_right, "neither")


def pair(
    first: Iterable[ScannedTrace], second: Mapping[TraceKey, ScannedTrace]
) -> dict[TraceKey, PairedTraces]:
    """Return pairs of graded traces of the same question and sample, in the order of the first run."""
    return {
        one.key: PairedTraces(one, second[one.key])
        for one in first
        if one.is_graded and one.key in second and second[one.key].is_graded
    }


class PairLabels(NamedTuple):
    """Filter and its values for the four cells of a matrix."""

    facet: str
    both: str
    first: str
    """value of pairs in which only the first answer is right"""
    second: str
    neither: str
    are_words: bool = True
    """whether the cells show the values, which are short names"""


def pair_matrix(
    pairs: Iterable[PairedTraces],
    labels: PairLabels,
    names: tuple[str, str],
    title: str,
    explanation: str,
) -> MatrixSection:
    """Return the number of pairs by right and wrong of both answers. Each pair is in one cell.

    Args:
        pairs: of graded traces.
        labels: links of the cells.
        names: of the first and the second run.
        title: of the section.
        explanation: of the section.
    """
    counts = Counter(one.are_right for one in pairs)
    total = max(1, sum(counts.values()))
    kinds: dict[tuple[bool, bool], tuple[str, Literal["", "good", "bad"]]] = {
        (True, True): (labels.both, ""),
        (True, False): (labels.first, "good"),
        (False, True): (labels.second, "bad"),
        (False, False): (labels.neither, ""),
    }

    def cell(one: bool, other: bool) -> MatrixCell:
        value, kind = kinds[one, other]
        count = counts[one, other]
        name = f"{value}: " if labels.are_words else ""
        text = f"{name}{count} ({count / total:.1%})"
        return MatrixCell(value=count, text=text, facets={labels.facet: (value,)}, kind=kind)

    return MatrixSection(
        title=title,
        row_title=names[0],
        column_title=names[1],
        rows=("right", "wrong"),
        columns=("right", "wrong"),
        cells=tuple(tuple(cell(one, other) for other in (True, False)) for one in (True, False)),
        explanation=explanation,
    )
