"""Strategies in reports: candidates of a trace with the regions that they show, and the reliability of a confidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pixel_reasoner.reports.pictures import TracePictures
from pixel_reasoner.reports.schema import CandidateEntry, Chart, ChartsSection, ProbedRegion, Series
from pixel_reasoner.schema.strategy import Candidate, CandidateKind, Region, StrategyRecord
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:  # reports of traces load neither evaluation nor decoders
    from pixel_reasoner.reports.summary import RunSummary

MAX_CANDIDATES = 60
"""candidates of a trace that are shown: all answers, then the most probable probes"""
_MAX_REGIONS = 8
"""regions of a candidate that are shown"""
_DIGITS = 5


def candidate_entries(trace: Trace, pictures: TracePictures) -> Iterator[CandidateEntry]:
    """Yield the candidates of a trace of a strategy, in order."""
    if trace.strategy is None:
        return
    candidates = trace.strategy.candidates
    ranked = sorted(
        range(len(candidates)),
        key=lambda n: (candidates[n].kind is CandidateKind.PROBE, -(candidates[n].score or 0)),
    )
    shown = set(ranked[:MAX_CANDIDATES])
    for number, candidate in enumerate(candidates):
        if number in shown:
            yield _candidate(candidate, pictures)


def _candidate(candidate: Candidate, pictures: TracePictures) -> CandidateEntry:
    return CandidateEntry(
        kind=candidate.kind.value,
        text=candidate.text,
        answered=candidate.answer,
        score=None if candidate.score is None else round(candidate.score, 4),
        votes=candidate.votes,
        is_selected=candidate.is_selected,
        regions=tuple(_region(one, pictures) for one in candidate.regions[:_MAX_REGIONS]),
    )


def _region(region: Region, pictures: TracePictures) -> ProbedRegion:
    x1, y1, x2, y2 = (round(side, _DIGITS) for side in region.box)
    return ProbedRegion(
        medium=region.medium,
        frame=region.frame,
        box=(x1, y1, x2, y2),
        view=pictures.region(region),
    )


def strategy_facts(record: StrategyRecord) -> dict[str, str]:
    """Return name, confidence and cost of a strategy for the facts of a trace."""
    options = ", ".join(f"{name} {value}" for name, value in record.options.items())
    facts = {"strategy": record.name + (f" ({options})" if options else "")}
    if record.confidence is not None:
        facts["confidence"] = f"{record.confidence:.2f}"
    if record.calibrated is not None:
        facts["calibrated confidence"] = f"{record.calibrated:.2f}"
    usage = record.usage
    return facts | {
        "rollouts": f"{usage.num_rollouts:,}",
        "prompt tokens of all rollouts": f"{usage.prompt_tokens:,}",
        "visual tokens of all rollouts": f"{usage.visual_tokens:,}",
        "new tokens of all rollouts": f"{usage.new_tokens:,}",
    }


def reliability_section(summary: RunSummary) -> ChartsSection | None:
    """Return the reliability diagram of the confidence of a strategy; None without one."""
    bins = summary.reliability
    if not bins:
        return None
    error = "" if summary.ece is None else f" The expected calibration error is {summary.ece:.3f}."
    chart = Chart(
        title="Reliability of the confidence",
        kind="points",
        x_title="confidence",
        y_title="accuracy",
        series=(
            Series(
                name="accuracy",
                x=tuple(one.confidence for one in bins),
                y=tuple(one.accuracy for one in bins),
                sizes=tuple(one.num_answers for one in bins),
                labels=tuple(f"{one.low:.1f} to {one.high:.1f}" for one in bins),
            ),
        ),
        bottom=0,
        top=1,
        explanation="Mean confidence and accuracy of the answers in ten intervals of the confidence; a larger point means "
        "more answers. A calibrated confidence is on the dashed line; below it the strategy is too confident."
        + error,
        diagonal=True,
    )
    return ChartsSection(title="Confidence", charts=(chart,))
