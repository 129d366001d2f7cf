"""Report sections of other packages: texts are texts, only Markup is HTML, and traces are read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from markupsafe import Markup

from pixel_reasoner.errors import PluginError, UsageError
from pixel_reasoner.reports import sections
from pixel_reasoner.reports.build import write_run_report
from pixel_reasoner.reports.schema import (
    Chart,
    ChartsSection,
    HtmlSection,
    Series,
    TableSection,
    TextSection,
)
from pixel_reasoner.reports.sections import build_sections, report_section
from pixel_reasoner.runs.trace_file import StoredTraces
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Trace, save_traces
from report_fixture import HOSTILE
from report_reader import WrittenPage

CHART = ChartsSection(
    title="My charts",
    charts=(
        Chart(
            title="c",
            kind="line",
            x_title="x",
            y_title="y",
            series=(Series(name="s", x=(0, 1), y=(0, 1)),),
        ),
    ),
)


@pytest.fixture
def section(monkeypatch):
    """Return a function that registers a section with the given content for this test."""

    def register(content: Any) -> str:
        found: list[Sequence[Trace]] = []

        def shown(traces: Sequence[Trace]) -> Any:
            found.append(traces)
            return content

        monkeypatch.setattr(sections.SECTIONS, "get", lambda name: shown)
        return "hard_cases"

    return register


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HOSTILE, TextSection(title="Hard cases", text=HOSTILE)),
        (Markup("<b>bold</b>"), HtmlSection(title="Hard cases", html="<b>bold</b>")),
        (CHART, CHART),
    ],
    ids=["text", "markup", "section"],
)
def test_content_becomes_a_section(section, content, expected):
    assert build_sections([section(content)], []) == [expected]


def test_rows_of_texts_become_a_table_and_markup_in_a_cell_is_text(section):
    (table,) = build_sections([section([["name", "count"], [Markup("<b>x</b>"), "2"]])], [])
    assert isinstance(table, TableSection)
    assert [column.title for column in table.columns] == ["name", "count"]
    assert table.rows == (("<b>x</b>", "2"),)


@pytest.mark.parametrize("content", [1, None, [], [["a"], []], [["a"], [1]], [[]]])
def test_anything_else_is_an_error_with_the_name_of_the_section(section, content):
    with pytest.raises(PluginError, match="'hard_cases'"):
        build_sections([section(content)], [])


def test_a_page_shows_a_section_and_no_text_of_it_is_markup(section, tmp_path):
    question = Question(id="q", text="?", media=())
    save_traces([Trace(question=question, stop=StopReason.NO_ANSWER)], tmp_path / "traces.jsonl")
    name = section([["text"], [HOSTILE]])
    page = tmp_path / "page.html"
    write_run_report([tmp_path / "traces.jsonl"], page, sections=[name])
    assert WrittenPage(page).section("Hard cases").rows == ((HOSTILE,),)
    assert "<img src=x" not in page.read_text(encoding="utf-8")


def test_a_section_receives_all_traces_and_reads_each_when_it_is_used(tmp_path, monkeypatch):
    asked = [Question(id=f"q{n}", text="?", media=()) for n in range(5)]
    traces = [Trace(question=one, stop=StopReason.NO_ANSWER) for one in asked]
    save_traces(traces, tmp_path / "traces.jsonl")
    seen: list[Any] = []

    def ids(traces: Sequence[Trace]) -> str:
        seen.append(traces)
        return " ".join(trace.question.id for trace in traces)

    monkeypatch.setattr(sections.SECTIONS, "get", lambda name: ids)
    page = tmp_path / "page.html"
    write_run_report([tmp_path / "traces.jsonl"], page, sections=["ids"], limit=2)
    assert WrittenPage(page).section("Ids").text == "q0 q1 q2 q3 q4"
    assert isinstance(seen[0], StoredTraces)
    assert len(seen[0]) == 5


def test_a_section_of_rl_runs_is_refused(section, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    with pytest.raises(UsageError, match="--section"):
        write_run_report([tmp_path], tmp_path / "page.html", sections=[section("x")])


def test_the_decorator_registers_a_function():
    @report_section(name="a-test-section")
    def shown(traces: Sequence[Trace]) -> str:
        return f"{len(traces)} traces"

    assert build_sections(["a-test-section"], []) == [
        TextSection(title="A-test-section", text="0 traces")
    ]
