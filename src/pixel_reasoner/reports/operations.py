"""Section of a report with the metrics of each operation: calls, tokens, and how often a call helps or hurts."""

from __future__ import annotations

from collections.abc import Mapping

from pixel_reasoner.reports.schema import Cell, Column, TableSection
from pixel_reasoner.reports.summary import OperationMetrics

_EXPLANATION = (
    "The model answers without operations before and after each call (--forced-answers). A call helped if the answer after it "
    "is right and the one before is wrong; it hurt if the reverse."
)
_COLUMNS = (
    Column(title="operation"),
    Column(title="calls", format="count", explanation="Calls, executed and rejected."),
    Column(title="rejected", format="count", better="lower", explanation="Rejected calls."),
    Column(
        title="questions", format="count", explanation="Questions with at least one executed call."
    ),
    Column(
        title="accuracy",
        format="share",
        better="higher",
        explanation="Share of right answers to these questions.",
    ),
    Column(
        title="new tokens",
        format="number",
        better="lower",
        explanation="Mean number of generated tokens of a turn with a call.",
    ),
    Column(
        title="result tokens",
        format="number",
        better="lower",
        explanation="Mean number of tokens that a result adds to the prompt.",
    ),
)
_FORCED = (
    ("helped", "higher", "Share of executed calls that made a wrong forced answer right."),
    ("hurt", "lower", "Share of executed calls that made a right forced answer wrong."),
    ("net", "higher", "Helped minus hurt."),
)


def operations_section(operations: Mapping[str, OperationMetrics]) -> TableSection | None:
    """Return the table of operations; None if no operation was called."""
    if not operations:
        return None
    is_forced = any(one.helped is not None for one in operations.values())
    columns = list(_COLUMNS)
    for name, better, text in _FORCED if is_forced else ():
        columns.append(Column(title=name, format="share", better=better, explanation=text))
        columns.append(
            Column(
                title=f"95 % of {name}",
                format="interval",
                explanation=f"95 % interval of {name}.",
            )
        )
    return TableSection(
        title="Operations",
        columns=tuple(columns),
        rows=tuple(
            _row(name, metrics, is_forced=is_forced) for name, metrics in operations.items()
        ),
        explanation=_EXPLANATION
        if is_forced
        else "With --forced-answers, the table also has how often each operation helps and hurts.",
    )


def _row(name: str, metrics: OperationMetrics, *, is_forced: bool) -> tuple[Cell, ...]:
    cells: list[Cell] = [
        name,
        metrics.calls,
        metrics.rejected,
        metrics.questions,
        metrics.accuracy,
        metrics.new_tokens_per_call,
        metrics.result_tokens_per_call,
    ]
    for share in (metrics.helped, metrics.hurt, metrics.net) if is_forced else ():
        cells += [None, None] if share is None else [share.value, share.interval]
    return tuple(cells)
