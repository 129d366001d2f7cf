"""Export of tables: Markdown, CSV with one number per column, and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.reports.schema import Cell, Column, TableSection

NOTE = "not comparable"
"""title of the column with the notes of rows"""


def write_table(table: TableSection, out: Path) -> None:
    """Write a table in the format of the suffix: .md, .csv or .tex.

    Raises:
        UsageError: another suffix.
        OutputError: the file cannot be written.
    """
    check_suffix(out)
    text = _WRITERS[out.suffix](table)
    with atomic_writer(out) as file:
        file.write(text)


def check_suffix(out: Path) -> None:
    """Raise an error if tables cannot be written with this suffix.

    Raises:
        UsageError: it is none of .md, .csv and .tex.
    """
    if out.suffix not in _WRITERS:
        raise UsageError(
            expected="a table as .md or .csv or .tex",
            got=str(out),
            fix="for example --table metrics.md",
        )


def to_markdown(table: TableSection) -> str:
    """Return a table as Markdown, for example for a README.

    >>> table = TableSection(title="t", columns=(Column(title="group"), Column(title="a", format="share")), rows=(("x", 0.5),))
    >>> print(to_markdown(table), end="")
    | group | a |
    | --- | ---: |
    | x | 0.500 |
    """
    columns, rows = _with_notes(table)
    rule = ["---" if column.format == "text" else "---:" for column in columns]
    lines = [
        [escape_markdown(column.title) for column in columns],
        rule,
        *(
            [escape_markdown(_text(*cell)) for cell in zip(row, columns, strict=True)]
            for row in rows
        ),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(table: TableSection) -> str:
    r"""Return a table as CSV: a missing value is empty, and an interval takes two columns.

    >>> table = TableSection(title="t", columns=(Column(title="95 %", format="interval"),), rows=(((0.25, 0.5),),))
    >>> to_csv(table)
    '95 % low,95 % high\n0.25,0.5\n'
    """
    columns, rows = _with_notes(table)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([title for column in columns for title in _titles(column)])
    for row in rows:
        writer.writerow([one for cell in zip(row, columns, strict=True) for one in _numbers(*cell)])
    return buffer.getvalue()


def to_latex(table: TableSection) -> str:
    r"""Return a table as LaTeX with the package booktabs.

    >>> table = TableSection(title="t", columns=(Column(title="a_b", format="share"),), rows=((0.5,),))
    >>> print(to_latex(table), end="")
    % requires \usepackage{booktabs}
    \begin{tabular}{r}
    \toprule
    a\_b \\
    \midrule
    $0.500$ \\
    \bottomrule
    \end{tabular}
    """
    columns, rows = _with_notes(table)
    alignment = "".join("l" if column.format == "text" else "r" for column in columns)
    header = " & ".join(escape_latex(column.title) for column in columns)
    lines = [" & ".join(_latex(*cell) for cell in zip(row, columns, strict=True)) for row in rows]
    return "\n".join(
        (
            r"% requires \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
            *(rf"{line} \\" for line in lines),
            r"\bottomrule",
            "\\end{tabular}\n",
        )
    )


# --- cells ---


def _with_notes(table: TableSection) -> tuple[Sequence[Column], Iterator[Sequence[Cell]]]:
    """Return columns and rows, with the notes as the last column if there are any."""
    if not table.notes:
        return table.columns, iter(table.rows)
    rows = ((*row, table.notes.get(number, "")) for number, row in enumerate(table.rows))
    return (*table.columns, Column(title=NOTE)), rows


def _text(cell: Cell, column: Column) -> str:
    """Return a cell as the page shows it."""
    if cell is None:
        return "–"
    if isinstance(cell, tuple):
        return f"{cell[0]:.3f} to {cell[1]:.3f}"
    return cell if isinstance(cell, str) else _number(cell, column)


def _number(value: float, column: Column) -> str:
    if column.format == "share":
        return f"{value:.3f}"
    if column.format == "count" or value.is_integer():
        return f"{value:.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _titles(column: Column) -> list[str]:
    if column.format == "interval":
        return [f"{column.title} low", f"{column.title} high"]
    return [column.title]


def _numbers(cell: Cell, column: Column) -> list[str]:
    """Return the values of a cell of a CSV file, with all digits."""
    if column.format == "interval":
        return [f"{end:g}" for end in cell] if isinstance(cell, tuple) else ["", ""]
    if cell is None:
        return [""]
    return [cell] if isinstance(cell, str) else [f"{cell:.10g}"]


def _latex(cell: Cell, column: Column) -> str:
    if cell is None:
        return "--"
    if isinstance(cell, tuple):
        return f"$[{cell[0]:.3f}, {cell[1]:.3f}]$"
    return escape_latex(cell) if isinstance(cell, str) else f"${_number(cell, column)}$"


# --- escaping ---

_MARKDOWN = re.compile(r"[\\|`*<>\[\]&~$]|(?<!\w)_|_(?!\w)")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # After `\\` at the end of a row these would be an argument.
    **{character: f"{{{character}}}" for character in "[]*"},
    "–": "--",
    "\n": " ",
    "\t": " ",
}


def escape_markdown(text: str) -> str:
    r"""Return a text as the cell of a Markdown table that shows it verbatim, on one line.

    >>> escape_markdown("a|b_c <img>")
    'a\\|b_c \\<img\\>'
    """
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.splitlines()))


def escape_latex(text: str) -> str:
    r"""Return a text as LaTeX that prints it verbatim, on one line.

    >>> escape_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in text)


_WRITERS: dict[str, Callable[[TableSection], str]] = {
    ".md": to_markdown,
    ".csv": to_csv,
    ".tex": to_latex,
}
"""suffix -> writer"""
