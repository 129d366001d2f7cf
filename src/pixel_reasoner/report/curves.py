"""Metrics of training runs over their steps, as one HTML page: one panel per metric, one line per run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, packages_of
from pixel_reasoner.files import atomic_writer, numbered_lines

LOG = "log.jsonl"
"""log of a run, one row of metrics per step"""


class Panel(NamedTuple):
    """One chart: its title, and the names of its metrics in the log."""

    title: str
    names: tuple[str, ...]
    bottom: float | None = None
    top: float | None = None


PANELS = (
    Panel("accuracy", ("accuracy",), 0, 1),
    Panel("RaPR: share of rollouts that looked", ("rapr",), 0, 1),
    Panel("RaPR, questions that need a look", ("rapr/needs_look",), 0, 1),
    Panel("RaPR, overview questions", ("rapr/overview",), 0, 1),
    Panel("reward: correctness", ("rewards/correctness/mean",)),
    Panel("reward: curiosity", ("rewards/curiosity/mean",)),
    Panel("reward: cost", ("rewards/cost/mean",)),
    Panel(
        "operations a rollout: executed, attempted",
        ("operations/executed", "operations/attempted"),
        0,
    ),
    Panel("share of calls that were refused", ("operations/error_rate",), 0),
    Panel(
        "groups of one reward: before, after replay",
        ("replay/uniform_before", "replay/uniform_after"),
        0,
        1,
    ),
    Panel("entropy", ("entropy",), 0),
    Panel("share of clipped tokens", ("clip_ratio/region_mean",), 0),
    Panel("length of a rollout, tokens", ("completions/mean_length",), 0),
    Panel("share of rollouts cut off", ("completions/clipped_ratio",), 0, 1),
    Panel(
        "seconds a step: generation, operations, update",
        ("seconds/generation", "seconds/operations", "seconds/update"),
        0,
    ),
    Panel("loss", ("loss",)),
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c1c1c; background: #fff }
figure { margin: 0 } h1 { font-size: 1.4rem } h2 { font-size: .95rem; font-weight: 600; margin: 0 }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1.5rem }
svg { width: 100%; height: auto } li { display: inline-block; margin-right: 1.5rem } ul { padding: 0 }
.key { display: inline-block; width: 1.4rem; height: .3rem; vertical-align: middle; margin-right: .4rem }
"""
COLORS = ("#0b6e99", "#c8553d", "#3d8b40", "#8e5ea2", "#b8860b", "#555555", "#d4569f", "#1b998b")
_DASHES = ("solid", "dashed", "dotted")
_SMOOTHING_WINDOW = 0.05
"""share of the steps that the thick line averages over"""


def write_curves(runs: Mapping[str, Path], out: Path, title: str = "Training") -> int:
    """Write the curves of runs as one page and return the number of panels with data.

    Args:
        runs: name -> folder with a `log.jsonl`.
        out: the HTML file.
        title: of the page.

    Raises:
        InputError: no log, or one that cannot be read.
        UsageError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    with packages_of("train", "draw curves"):
        import matplotlib as mpl

        mpl.use("svg")
    logs = {name: read_log(folder) for name, folder in runs.items()}
    shown = [panel for panel in PANELS if any(_has(log, panel) for log in logs.values())]
    with atomic_writer(out) as page:
        page.write(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        )
        page.write(f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>')
        page.write(f"<h1>{escape(title)}</h1>{_legend(list(logs))}")
        page.write('<div class="panels">')
        for panel in shown:
            page.write(f"<figure><h2>{escape(panel.title)}</h2>{_draw(panel, logs)}</figure>")
        page.write("</div></html>")
    return len(shown)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the log of a run.

    Raises:
        InputError: no log, or one that cannot be read.
    """
    rows = []
    for number, line in numbered_lines(folder / LOG, f"the folder of an RL run, with its {LOG}"):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InputError(
                expected="one row of figures as JSON per line",
                got=f"{folder / LOG}, line {number}: {error}",
                fix="delete this line",
            ) from error
    return rows


def _legend(names: Sequence[str]) -> str:
    keys = [
        f'<li><span class="key" style="background:{COLORS[n % len(COLORS)]}"></span>{escape(name)}</li>'
        for n, name in enumerate(names)
    ]
    return f"<ul>{''.join(keys)}</ul><p>Thin: every step. Thick: the mean of the steps around it. Several figures of one panel are solid, dashed and dotted in the order of its title.</p>"


def _has(log: Sequence[Mapping[str, Any]], panel: Panel) -> bool:
    return any(row.get(name) is not None for row in log for name in panel.names)


def _draw(panel: Panel, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return one panel as SVG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.subplots()
    for number, log in enumerate(logs.values()):
        for dash, name in zip(_DASHES, panel.names, strict=False):
            points = [(row["step"], row[name]) for row in log if row.get(name) is not None]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            line: dict[str, Any] = {"color": COLORS[number % len(COLORS)], "linestyle": dash}
            axes.plot(steps, values, alpha=0.3, linewidth=0.7, **line)
            axes.plot(steps, smoothed(values), linewidth=1.8, **line)
    axes.set_ylim(panel.bottom, panel.top and 1.03 * panel.top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    svg = as_svg(figure, panel.title)
    return svg[svg.index("<svg") :]


def as_svg(figure: Any, salt: str) -> str:
    """Return a figure of matplotlib as SVG. Equal figures give equal texts."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def smoothed(values: Sequence[float], share: float = _SMOOTHING_WINDOW) -> list[float]:
    """Return the means over a window around each value.

    >>> smoothed([1.0, 3.0])
    [1.0, 3.0]
    """
    reach = int(len(values) * share / 2)
    windows = [values[max(0, n - reach) : n + reach + 1] for n in range(len(values))]
    return [sum(window) / len(window) for window in windows]
