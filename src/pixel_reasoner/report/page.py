"""Traces as one HTML page that needs no server and no network, and never executes text of a model.

The page is written one trace at a time, so that memory does not grow with the number of traces. The part above the traces
(counts, filters, settings) is known only after the last one: until then, the cards are in an unnamed temporary file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from pixel_reasoner.files import atomic_writer
from pixel_reasoner.report.card import SIGNS, Facets, card, facets_of
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Grade, grade_reply

_MAX_VALUES = 4
"""values shown of a setting that differs between traces"""


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
    """Write traces as one self-contained HTML page. The file appears only when it is complete.

    Args:
        traces: what to show.
        out: the page.
        title: its title.
        head: HTML above the traces (`report.run`).
        outcomes: id of a question -> effect of operations on its answer (`report.run.outcomes`), for a filter.
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
            facets = facets_of(trace, graded)
            if outcomes and trace.question.id in outcomes:
                facets["looking again"] = [outcomes[trace.question.id]]
            tally.count(trace, facets)
            cards.writelines(card(trace, tally.traces, facets, tally.unshown))
        before, after = _frame(title, tally, head)
        cards.seek(0)
        page.write(before)
        shutil.copyfileobj(cards, page)
        page.write(after)
    return PageSummary(traces=tally.traces, unshown=dict(tally.unshown))


# ---- the page around the traces


class _Tally:
    """Counts over all traces of a page."""

    def __init__(self) -> None:
        self.traces = 0
        self.operations = 0
        self.unshown: Counter[str] = Counter()
        self.filters: dict[str, Counter[str]] = defaultdict(Counter)
        """name of a filter -> number of traces with each of its values"""
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


def _frame(title: str, tally: _Tally, head: str) -> tuple[str, str]:
    """Return the page before and after its traces."""
    assets = resources.files(__package__)
    style, script, page = (
        (assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    # The content security policy allows only these two texts: text of a model stays inert even if escaping failed.
    values = {
        "title": escape(title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "summary": _summary(tally),
        "head": f"{head}\n<h2>The traces on this page</h2>" if head else "",
        "filters": "\n".join(_filter(name, values) for name, values in tally.filters.items()),
    }
    before, _, after = page.partition("$traces")
    return Template(before).substitute(values), Template(after).substitute(values)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _summary(tally: _Tally) -> str:
    """Return counts, stop reasons and settings."""
    outcomes, operations = tally.filters["outcome"], tally.filters["operations"]
    facts = [("", "traces", str(tally.traces))]
    facts += [(name, name, str(outcomes[name])) for name in SIGNS if outcomes[name]]
    if tally.traces:
        facts += [
            ("", "with operations", str(tally.traces - operations["0"])),
            ("", "mean operations", f"{tally.operations / tally.traces:.2f}"),
        ]
    tiles = "".join(f'<div class="{k}"><dt>{name}</dt><dd>{n}</dd></div>' for k, name, n in facts)
    stops = ", ".join(f"{stop} {count}" for stop, count in tally.filters["stop"].most_common())
    unshown = "".join(
        f"<li>{count} × {escape(why)}</li>" for why, count in tally.unshown.most_common()
    )
    return "\n".join(
        [
            _bar(outcomes, tally.traces),
            f'<dl class="figures">{tiles}</dl>',
            f'<p class="lead">Stopped: {escape(stops) or "nothing was asked"}.</p>',
            _details(f"Pictures not shown: {tally.unshown.total()}", f"<ul>{unshown}</ul>")
            if unshown
            else "",
            _details("Settings", _settings_table(tally)) if tally.settings else "",
        ]
    )


def _bar(outcomes: Counter[str], traces: int) -> str:
    """Return the shares of the outcomes as one bar."""
    parts, start = [], 0.0
    for name in SIGNS:
        share = 100 * outcomes[name] / max(1, traces)
        parts.append(f'<rect class="{name}" x="{start:.3f}%" width="{share:.3f}%" height="100%"/>')
        start += share
    words = ", ".join(f"{outcomes[name]} {name}" for name in SIGNS if outcomes[name])
    return f'<svg class="bar" role="img" aria-label="{words or "no traces"}">{"".join(parts)}</svg>'


def _settings_table(tally: _Tally) -> str:
    rows = []
    for name, values in sorted(tally.settings.items()):
        shown = [
            value if count == tally.traces else f"{value} ({count})"
            for value, count in values.most_common(_MAX_VALUES)
        ]
        shown += ["…"] if len(values) > _MAX_VALUES else []
        cells = f"<td>{escape(', '.join(shown))}</td>"
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return f"<table>{''.join(rows)}</table>"


def _filter(name: str, values: Counter[str]) -> str:
    options = "".join(
        f'<option value="{escape(value)}">{escape(value)} ({count})</option>'
        for value, count in sorted(values.items())
    )
    return f'<label>{name} <select name="{name}"><option value="">any</option>{options}</select></label>'


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


def _details(label: str, content: str) -> str:
    return f"<details><summary>{label}</summary>{content}</details>"
