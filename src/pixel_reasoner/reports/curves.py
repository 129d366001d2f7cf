"""Training curves as one HTML page: one panel per metric, one line per run."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.errors import InputError, require_extra
from pixel_reasoner.files import atomic_writer, numbered_lines
from pixel_reasoner.reports.templates import asset, render_parts
from pixel_reasoner.strict_json import parse_json

if TYPE_CHECKING:
    from markupsafe import Markup

LOG = "log.jsonl"
"""log of a run, one row of metrics per step"""


class Panel(NamedTuple):
    """One chart: its title, and the metric names in the log."""

    title: str
    names: tuple[str, ...]
    bottom: float | None = None
    top: float | None = None


PANELS = (
    Panel("accuracy", ("accuracy",), 0, 1),
    Panel("RaPR: share of rollouts with an operation", ("rapr",), 0, 1),
    Panel("RaPR, questions that need an operation", ("rapr/needs_look",), 0, 1),
    Panel("RaPR, overview questions", ("rapr/overview",), 0, 1),
    Panel("reward: correctness", ("rewards/correctness/mean",)),
    Panel("reward: curiosity", ("rewards/curiosity/mean",)),
    Panel("reward: cost", ("rewards/cost/mean",)),
    Panel(
        "operations per rollout: executed, attempted",
        ("operations/executed", "operations/attempted"),
        0,
    ),
    Panel("share of rejected calls", ("operations/error_rate",), 0),
    Panel(
        "groups with equal rewards: before, after replay",
        ("replay/uniform_before", "replay/uniform_after"),
        0,
        1,
    ),
    Panel("entropy", ("entropy",), 0),
    Panel("share of clipped tokens", ("clip_ratio/region_mean",), 0),
    Panel("length of a rollout, tokens", ("completions/mean_length",), 0),
    Panel("share of rollouts cut off", ("completions/clipped_ratio",), 0, 1),
    Panel(
        "seconds per step: generation, operations, update",
        ("seconds/generation", "seconds/operations", "seconds/update"),
        0,
    ),
    Panel("loss", ("loss",)),
)
COLORS = ("#0b6e99", "#c8553d", "#3d8b40", "#8e5ea2", "#b8860b", "#555555", "#d4569f", "#1b998b")
"""line colours, as in `curves.css`"""
_DASHES = ("solid", "dashed", "dotted")
_SMOOTHING_WINDOW = 0.05
"""window of the thick line, as a share of the steps"""


def write_curves(runs: Mapping[str, Path], out: Path, title: str = "Training") -> int:
    """Write the curves of runs as one page and return the number of panels with data.

    Args:
        runs: name -> folder with a `log.jsonl`.
        out: the HTML file.
        title: of the page.

    Raises:
        InputError: no log, or an invalid log.
        UsageError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    with require_extra("train", "draw curves"):
        import matplotlib as mpl

        mpl.use("svg")
    logs = {name: read_log(folder) for name, folder in runs.items()}
    shown = [panel for panel in PANELS if any(_has_values(log, panel) for log in logs.values())]
    with atomic_writer(out) as page:
        page.writelines(
            render_parts(
                "curves.html",
                title=title,
                style=asset("curves.css"),
                runs=[(n % len(COLORS), name) for n, name in enumerate(logs)],
                panels=_render_panels(shown, logs),
            )
        )
    return len(shown)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's log. Values of the panels are numbers or None.

    Raises:
        InputError: no log, or an invalid log.
    """
    rows = []
    for number, line in numbered_lines(folder / LOG, f"the folder of an RL run, with its {LOG}"):
        try:
            rows.append(_row(parse_json(line, is_finite=False)))
        except ValueError as error:
            raise InputError(
                expected="one JSON row of metrics per line",
                got=f"{folder / LOG}, line {number}: {error}",
                fix="delete this line",
            ) from error
    return rows


_SHOWN = frozenset(name for panel in PANELS for name in panel.names)
_MAX_SHOWN = 1e15
"""matplotlib cannot place axis ticks near the largest float"""


def _row(row: Any) -> dict[str, Any]:
    """Return a checked row of a log. Non-finite metrics become nan.

    Raises:
        ValueError: not an object, or another type than a number for a metric of a panel.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}, not an object")
    found = dict(row)
    for name in _SHOWN & found.keys() | {"step"}:
        value = found.get(name)
        if value is None and name != "step":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is not a number")
        is_shown = abs(value) <= _MAX_SHOWN  # false for nan
        if name == "step" and not is_shown:
            raise ValueError("step is not a whole number of 0 or more")
        found[name] = value if is_shown else math.nan
    return found


def _has_values(log: Sequence[Mapping[str, Any]], panel: Panel) -> bool:
    return any(row.get(name) is not None for row in log for name in panel.names)


def _render_panels(
    panels: Sequence[Panel], logs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[tuple[str, Markup]]:
    """Yield the title and picture of each panel. An SVG in `<img>` cannot run scripts or load files."""
    from markupsafe import Markup

    for panel in panels:
        data = base64.b64encode(_draw(panel, logs).encode()).decode()
        yield panel.title, Markup(f"data:image/svg+xml;base64,{data}")


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
    """Return a matplotlib figure as SVG. Equal figures give equal texts."""
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
