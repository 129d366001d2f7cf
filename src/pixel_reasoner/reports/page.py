"""Trace report: one static HTML page without network access that never executes model output.

The page is written one trace at a time, so memory does not grow with the number of traces. The head (counts, filters,
settings) is complete only after the last trace: until then, the cards are in an unnamed temporary file.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from pixel_reasoner.files import atomic_writer
from pixel_reasoner.reports.card import OUTCOMES, Facets, card, compute_facets
from pixel_reasoner.reports.templates import asset, render_parts
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Grade, grade_reply

_MAX_VALUES = 4
"""maximum number of shown values of a setting that differs between traces"""
_CHUNK_CHARS = 1 << 16
EFFECT_FILTER = "effect-of-operations"
"""filter by the effect of operations on an answer"""


class PageSummary(Record):
    """Number of traces on a page, and of pictures that could not be shown."""

    traces: int
    unshown: dict[str, int]
    """reason -> number of pictures"""


def write_report(
    traces: Iterable[Trace],
    out: Path,
    title: str = "Pixel Reasoner traces",
    *,
    head: str = "",
    outcomes: Mapping[str, str] | None = None,
    graded: Callable[[Trace], Grade | None] = grade_reply,
) -> PageSummary:
    """Write traces as one self-contained HTML page, atomically.

    Args:
        traces: traces to show.
        out: path of the page.
        title: title of the page.
        head: HTML above the traces (`reports.run`); text that is not `Markup` is escaped.
        outcomes: question id -> effect of operations on its answer (`reports.run.outcomes`), for a filter.
        graded: function that grades a trace.

    >>> from pixel_reasoner.schema.question import Question
    >>> from pixel_reasoner.schema.trace import StopReason
    >>> question = Question(id="q1", text="How many?", media=())
    >>> page = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_report([Trace(question=question, stop=StopReason.NO_ANSWER)], page)
    PageSummary(traces=1, unshown={})
    >>> page.read_text(encoding="utf-8").count("<article")
    1

    Raises:
        OutputError: the file cannot be written.
    """
    out = Path(out)
    tally = _Tally()
    with (
        atomic_writer(out) as page,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=out.parent) as cards,
    ):
        for trace in traces:
            facets = compute_facets(trace, graded)
            if outcomes and trace.question.id in outcomes:
                facets[EFFECT_FILTER] = [outcomes[trace.question.id]]
            tally.count(trace, facets)
            cards.writelines(card(trace, tally.traces, facets, tally.unshown))
        cards.seek(0)
        page.writelines(_page(title, tally, head, cards))
    return PageSummary(traces=tally.traces, unshown=dict(tally.unshown))


# ---- the page around the traces


class _Tally:
    """Counts over all traces of a page."""

    def __init__(self) -> None:
        self.traces = 0
        self.operations = 0
        self.unshown: Counter[str] = Counter()
        self.filters: dict[str, Counter[str]] = defaultdict(Counter)
        """filter name -> number of traces per value"""
        self.settings: dict[str, Counter[str]] = defaultdict(Counter)

    def count(self, trace: Trace, facets: Facets) -> None:
        """Count one trace."""
        self.traces += 1
        self.operations += len(trace.executed)
        for name, values in facets.items():
            self.filters[name].update(values)
        for name, value in _flat(
            {
                **trace.settings.to_dict(),
                "versions": trace.versions,
            }
        ):
            self.settings[name][value] += 1


class _Filter(NamedTuple):
    """Filter for the values of a facet."""

    name: str
    counts: list[tuple[str, int]]
    """value -> number of traces"""

    @property
    def title(self) -> str:
        """Visible title."""
        return self.name.replace("-", " ")


def _page(title: str, tally: _Tally, head: str, cards: TextIO) -> Iterator[str]:
    """Yield the page in parts."""
    outcomes = tally.filters["outcome"]
    words = [f"{outcomes[name]} {name}" for name in OUTCOMES if outcomes[name]]
    stops = tally.filters["stop"].most_common()
    return render_parts(
        "page.html",
        title=title,
        style=asset("page.css"),
        script=asset("page.js"),
        head=head,
        bar=_bar(outcomes, tally.traces),
        bar_label=", ".join(words) or "no traces",
        counts=_headline_counts(tally),
        stops=", ".join(f"{stop} {count}" for stop, count in stops),
        unshown=tally.unshown.most_common(),
        settings=_settings(tally),
        filters=_filters(tally),
        cards=_chunks(cards),
    )


def _chunks(cards: TextIO) -> Iterator[str]:
    """Yield the cards, which are already HTML."""
    from markupsafe import Markup

    while chunk := cards.read(_CHUNK_CHARS):
        yield Markup(chunk)


def _filters(tally: _Tally) -> list[_Filter]:
    names = [name for name in tally.filters if tally.filters[name]]
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in names), "an attribute name"
    return [_Filter(name, sorted(tally.filters[name].items())) for name in names]


def _headline_counts(tally: _Tally) -> list[tuple[str, str, str]]:
    """Return CSS class, name and value of the counts at the top."""
    outcomes, operations = tally.filters["outcome"], tally.filters["operations"]
    counts = [("", "traces", str(tally.traces))]
    counts += [(name, name, str(outcomes[name])) for name in OUTCOMES if outcomes[name]]
    if tally.traces:
        counts += [
            ("", "with operations", str(tally.traces - operations["0"])),
            ("", "mean operations", f"{tally.operations / tally.traces:.2f}"),
        ]
    return counts


def _bar(outcomes: Counter[str], traces: int) -> Iterator[dict[str, str]]:
    """Yield the shares of the outcomes as parts of one bar, in percent."""
    start = 0.0
    for name in OUTCOMES:
        share = 100 * outcomes[name] / max(1, traces)
        yield {"outcome": name, "start": f"{start:.3f}", "share": f"{share:.3f}"}
        start += share


def _settings(tally: _Tally) -> list[tuple[str, str]]:
    """Return the values of each setting, with counts if they differ."""
    rows = []
    for name, values in sorted(tally.settings.items()):
        shown = [
            value if count == tally.traces else f"{value} ({count})"
            for value, count in values.most_common(_MAX_VALUES)
        ]
        shown += ["…"] if len(values) > _MAX_VALUES else []
        rows.append((name, ", ".join(shown)))
    return rows


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings with dotted names.

    >>> list(_flat({"model": "tiny", "budgets": {"crop": 4096}}))
    [('model', 'tiny'), ('budgets.crop', '4096')]
    """
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, default=str)
