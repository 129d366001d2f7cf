"""Exported tables: Markdown, CSV and LaTeX show the same cells, and no text becomes markup."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.errors import UsageError
from pixel_reasoner.reports.schema import Column, TableSection
from pixel_reasoner.reports.tables import (
    escape_latex,
    escape_markdown,
    to_csv,
    to_latex,
    to_markdown,
    write_table,
)

TABLE = TableSection(
    title="Metrics",
    columns=(
        Column(title="group"),
        Column(title="questions", format="count"),
        Column(title="accuracy", format="share"),
        Column(title="95 %", format="interval"),
        Column(title="tokens", format="number"),
    ),
    rows=(
        ("all", 1200, 0.5, (0.25, 0.75), 123.456),
        ("a|b_c & 50 %", 3, None, None, 0.01234),
    ),
)
NOTED = TABLE.model_copy(update={"notes": {1: "Not comparable: other questions."}})
TEXTS = st.text(st.sampled_from("ab 1|\\`*_<>[]&$%#{}~^\"'-–é\n"), max_size=30)


def test_a_csv_file_has_one_number_per_column():
    header, *rows = csv.reader(io.StringIO(to_csv(TABLE)))
    assert header == ["group", "questions", "accuracy", "95 % low", "95 % high", "tokens"]
    assert rows == [
        ["all", "1200", "0.5", "0.25", "0.75", "123.456"],
        ["a|b_c & 50 %", "3", "", "", "", "0.01234"],
    ]


def test_a_markdown_table_has_a_line_per_row():
    assert to_markdown(TABLE).splitlines() == [
        "| group | questions | accuracy | 95 % | tokens |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| all | 1200 | 0.500 | 0.250 to 0.750 | 123 |",
        r"| a\|b_c \& 50 % | 3 | – | – | 0.0123 |",
    ]


def test_a_latex_table_uses_booktabs_and_escapes_texts():
    text = to_latex(TABLE)
    assert r"\begin{tabular}{lrrrr}" in text
    assert r"all & $1200$ & $0.500$ & $[0.250, 0.750]$ & $123$ \\" in text
    assert r"a\textbar{}b\_c \& 50 \% & $3$ & -- & -- & $0.0123$ \\" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_notes_are_a_column_of_every_format():
    assert to_csv(NOTED).splitlines()[0].endswith(",not comparable")
    assert to_csv(NOTED).splitlines()[2].endswith("Not comparable: other questions.")
    assert "not comparable" not in to_csv(TABLE)
    for text in (to_markdown(NOTED), to_latex(NOTED)):
        assert "Not comparable: other questions." in text


@pytest.mark.parametrize("suffix", [".md", ".csv", ".tex"])
def test_the_suffix_selects_the_format(tmp_path, suffix):
    write_table(TABLE, tmp_path / f"t{suffix}")
    starts = {".md": "| group", ".csv": "group,", ".tex": "% requires"}
    assert (tmp_path / f"t{suffix}").read_text().startswith(starts[suffix])


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.md or \.csv or \.tex"):
        write_table(TABLE, tmp_path / "t.xls")
    assert list(tmp_path.iterdir()) == []


def split_markdown(line: str) -> list[str]:
    """Return the cells of a line, as CommonMark with tables reads them."""
    cells: list[str] = []
    cell, characters = "", iter(line.strip()[1:])
    for character in characters:
        if character == "|":
            cells.append(cell.strip())
            cell = ""
        elif character == "\\":
            following = next(characters)
            assert re.match(r"[!-/:-@\[-`{-~]", following), "an escape of punctuation"
            cell += following
        else:
            cell += character
    return cells


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_a_markdown_cell_is_read_as_its_text(texts):
    line = f"| {' | '.join(map(escape_markdown, texts))} |"
    assert split_markdown(line) == [" ".join(text.splitlines()).strip() for text in texts]
    for special in "`*<>[]$":
        assert not re.search(rf"(?<!\\){re.escape(special)}", escape_markdown("a" + special))


LATEX = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textquotedbl{}": '"',
    "{[}": "[",
    "{]}": "]",
    "{*}": "*",
    **{f"\\{one}": one for one in "&%$#_{}"},
}


@given(TEXTS)
def test_a_latex_cell_prints_its_text(text):
    pattern = "|".join(map(re.escape, sorted(LATEX, key=len, reverse=True)))
    escaped = escape_latex(text)
    assert re.sub(pattern, lambda found: LATEX[found[0]], escaped) == text.replace("\n", " ").replace("–", "--")  # fmt: skip
    assert not set(re.sub(pattern, "", escaped)) & set('\\&%$#_{}~^<>|"[]*\n')
