"""Printed metrics of adaptivity and of control conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADAPTIVITY_TITLES = {
    "rapr_unreadable": "RaPR, unreadable",
    "rapr_readable": "RaPR, readable",
    "rapr_difference": "difference",
    "mcc": "MCC of use and need",
    "right_at_once": "readable, right at once",
    "use_crossing_px": "use crosses 50 % at px",
    "accuracy_crossing_px": "accuracy crosses 50 % at px",
}
"""metric -> title"""


def print_adaptivity_and_controls(summary: Mapping[str, Any]) -> None:
    """Print both, as far as a summary has them."""
    if "adaptivity" in summary:
        print_adaptivity(summary["adaptivity"])
    if "controls" in summary:
        print_controls(summary)


def print_adaptivity(found: Mapping[str, Any]) -> None:
    """Print the metrics of `evals.adaptivity`: by height, then over all questions."""
    from rich.console import Console

    table = _table("evidence", "questions", "accuracy", "RaPR")
    for point in found["curve"]:
        shares = (point["accuracy"]["value"], point["rapr"]["value"])
        table.add_row(f"{point['height']:g} px", str(point["count"]), *map(_number, shares))
    Console().print(table)
    table = _table("adaptivity", "value", "95 %")
    for name, title in ADAPTIVITY_TITLES.items():
        table.add_row(title, *_value_and_interval(found[name]))
    for name, title in (("both_right", "twins, both right"), ("same_answer", "twins, same answer")):
        if "twins" in found:
            table.add_row(title, *_value_and_interval(found["twins"][name]))
    for name, score in found.get("scores", {}).items():
        table.add_row(f"score of {name.replace('_', ' ')}", *_value_and_interval(score))
    Console().print(table)


def print_controls(summary: Mapping[str, Any]) -> None:
    """Print the metrics of each control condition, and the difference of the run to it."""
    from rich.console import Console
    from rich.table import Table

    titles = ("control", "accuracy", "RaPR", "Mpx", "run minus control", "95 %", "p")
    table: Table = _table(*titles)
    table.add_row(
        "(the run)",
        *map(_number, (summary["accuracy"], summary["rapr"])),
        _mega_px(summary["picture_px_per_question"]),
        *[""] * 3,
    )
    for name, one in summary["controls"].items():
        difference = one["difference"]
        table.add_row(
            name,
            *map(_number, (one["accuracy"], one["rapr"])),
            _mega_px(one["picture_px_per_question"]),
            *_value_and_interval(difference),
            _number(difference["p"]),
        )
    Console().print(table)


def print_adaptivity_difference(found: Mapping[str, Any], first: str, second: str) -> None:
    """Print the metrics of two runs next to each other, with their paired difference."""
    from rich.console import Console
    from rich.text import Text

    table = _table("adaptivity", first, second, "difference", "95 %")
    for name, title in ADAPTIVITY_TITLES.items():
        values = [_number(found[run][name]["value"]) for run in ("first", "second")]
        difference = found["difference"].get(name)
        more = ("", "") if difference is None else _value_and_interval(difference)
        table.add_row(Text(title), *values, *more)
    Console().print(table)


def _table(*titles: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for number, title in enumerate(titles):
        table.add_column(Text(title), justify="right" if number else "left", no_wrap=bool(number))
    return table


def _value_and_interval(one: Mapping[str, Any]) -> tuple[str, str]:
    interval = one.get("interval")
    ends = "" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"
    return _number(one.get("value")), ends


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mega_px(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.3f}"
