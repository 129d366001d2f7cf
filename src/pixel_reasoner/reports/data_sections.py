"""Sections of the report of training data: metrics, tables and charts of its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pixel_reasoner.reports.data_numbers import (
    PICTURE,
    QUESTION,
    REASONING,
    Bin,
    DataNumbers,
    Duplicates,
    area_histogram,
    count_histogram,
    length_histogram,
    top,
)
from pixel_reasoner.reports.dropped import DroppedRows
from pixel_reasoner.reports.facets import facet_value
from pixel_reasoner.reports.schema import (
    Chart,
    ChartsSection,
    Column,
    MatrixCell,
    MatrixSection,
    Metric,
    MetricsSection,
    Section,
    Series,
    TableSection,
    TextSection,
)

_MAX_ANSWERS = 12
_MAX_TURNS = 8
_MAX_OPERATIONS = 4
"""as in the filter `operations`"""
_MAX_CATEGORIES = 8
"""columns of the table of kinds; the others are one column"""
_OTHERS = "others"
_MAX_ROWS = 200
"""of the table of answers"""
_MAX_CELL_CHARS = 80


def data_sections(numbers: DataNumbers, dropped: DroppedRows) -> Iterator[Section]:
    """Yield all sections."""
    if not numbers.count:
        yield TextSection(title="Contents", text="There are no traces.", is_warning=True)
        yield _dropped_table(dropped)
        return
    yield _contents(numbers)
    yield _kinds_matrix(numbers)
    if numbers.mistakes:
        yield _mistakes_table(numbers)
    yield _charts(numbers)
    yield _duplicates(numbers)
    yield _answers_table(numbers)
    yield _dropped_table(dropped)


# --- contents and mistakes ---


def _contents(numbers: DataNumbers) -> MetricsSection:
    num_mistakes = sum(numbers.mistakes.values())
    metrics = [
        Metric(
            name="traces without an operation",
            value=numbers.num_overview / numbers.count,
            explanation="Their questions need none. Without such traces a model learns to call an operation always.",
            facets={"need": ("overview suffices",)},
        ),
        Metric(
            name="traces with a deliberate mistake",
            value=numbers.num_with_mistake / numbers.count,
            explanation="The call of a mistake is not trained; its correction is.",
            facets={"mistake": tuple(sorted(numbers.mistakes))} if numbers.mistakes else {},
        ),
        Metric(
            name="calls that are deliberate mistakes",
            value=num_mistakes / numbers.num_calls if numbers.num_calls else None,
            explanation=f"{num_mistakes:,} of {numbers.num_calls:,} calls.",
        ),
        Metric(
            name="mistakes that are corrected",
            value=numbers.num_corrected / numbers.num_with_mistake
            if numbers.num_with_mistake
            else None,
            better="higher",
            explanation="Share of the traces with a mistake in which a later call shows the evidence. It should be 1.",
        ),
        Metric(
            name="operations per trace",
            value=round(sum(numbers.operations) / numbers.count, 3),
            format="number",
            explanation="Executed operations, mistakes included.",
        ),
    ]
    return MetricsSection(title="Contents", metrics=tuple(metrics))


def _kinds_matrix(numbers: DataNumbers) -> MatrixSection:
    total: Counter[str] = Counter()
    for counts in numbers.by_category.values():
        total.update(counts)
    columns = [name for name, _ in top(total, _MAX_CATEGORIES)]
    hidden = set(total) - set(columns)
    kinds = sorted(numbers.kinds)
    rows = [
        (
            *(_cell(numbers.by_category[kind][name], kind, (name,)) for name in columns),
            *(
                [
                    _cell(
                        sum(numbers.by_category[kind][n] for n in hidden),
                        kind,
                        tuple(sorted(hidden)),
                    )
                ]
                if hidden
                else []
            ),
            _cell(numbers.kinds[kind], kind, ()),
        )
        for kind in kinds
    ]
    return MatrixSection(
        title="Kinds of traces",
        row_title="kind",
        column_title="category of the question",
        rows=tuple(f"{kind}, {numbers.kinds[kind] / numbers.count:.0%}" for kind in kinds),
        columns=(*columns, *[_OTHERS] * bool(hidden), "all"),
        cells=tuple(rows),
        explanation="Number of traces. single: one operation for each piece of evidence. wrong once, wrong twice, "
        "reselect: first calls that show no evidence. too wide: a zoom into a first, larger crop. refused: a first call "
        "that is rejected. text: no operation.",
    )


def _cell(count: int, kind: str, categories: tuple[str, ...]) -> MatrixCell:
    facets = {"kind": (kind,), **({"category": categories} if categories else {})}
    return MatrixCell(value=count, text=f"{count:,}", facets=facets)


def _mistakes_table(numbers: DataNumbers) -> TableSection:
    total = sum(numbers.mistakes.values())
    return TableSection(
        title="Deliberate mistakes",
        columns=(
            Column(title="mistake"),
            Column(title="calls", format="count"),
            Column(title="share of mistakes", format="share"),
        ),
        rows=tuple(
            (name, count, count / total) for name, count in top(numbers.mistakes, _MAX_ROWS)
        ),
        explanation="A mistake is executed and shows no evidence, or it is rejected. The traces can be filtered by it.",
    )


# --- charts ---


def _charts(numbers: DataNumbers) -> ChartsSection:
    answers: Counter[str] = Counter()
    for counts in numbers.answers.values():
        answers.update(counts)
    charts = [
        _bars(
            "length",
            "characters of the model's messages",
            length_histogram(numbers.chars),
            "All texts and calls that a model learns to write, mistakes included.",
        ),
        _bars(
            "turns",
            "messages of the model",
            count_histogram(numbers.turns, _MAX_TURNS, least=1),
            "A trace with n operations one after the other has n + 1 turns.",
        ),
        _bars(
            "operations",
            "executed operations",
            count_histogram(numbers.operations, _MAX_OPERATIONS),
            "Select a bar to see its traces.",
            facet="operations",
        ),
        _bars(
            "most frequent answers",
            "answer",
            [Bin(_short(name), count) for name, count in top(answers, _MAX_ANSWERS)],
            f"{len(answers):,} different answers. A frequent answer can be learned without looking at the picture.",
        ),
    ]
    if numbers.evidence:
        charts.insert(
            3,
            _bars(
                "size of the evidence",
                "area, share of the picture",
                area_histogram(numbers.evidence),
                "The smaller the evidence, the less of it the overview shows. Traces with boxes only.",
            ),
        )
    return ChartsSection(title="Distributions", charts=tuple(charts))


def _bars(
    title: str, x_title: str, bins: Sequence[Bin], explanation: str, facet: str = ""
) -> Chart:
    series = Series(
        name="traces",
        x=tuple(range(len(bins))),
        y=tuple(one.height for one in bins),
        labels=tuple(one.label for one in bins),
    )
    return Chart(
        title=title,
        kind="bars",
        x_title=x_title,
        y_title="traces",
        series=(series,),
        x_labels=tuple(one.label for one in bins),
        bottom=0,
        explanation=explanation,
        facet=facet,
    )


# --- duplicates, answers, dropped rows ---


def _duplicates(numbers: DataNumbers) -> MetricsSection:
    counts = numbers.duplicates.counts
    explanations = {
        QUESTION: "Traces whose question and pictures equal those of another trace: they are trained twice.",
        PICTURE: "Traces with a picture that another file also contains, byte for byte.",
        REASONING: "Traces whose messages, without calls, equal those of another trace. Templates repeat short texts.",
    }
    metrics = [
        Metric(
            name=name,
            value=counts[name],
            format="count",
            better="lower",
            explanation=explanation,
            facets={"duplicate": (name,)} if counts[name] else {},
        )
        for name, explanation in explanations.items()
    ]
    metrics.append(_uses(numbers.duplicates))
    return MetricsSection(title="Duplicates", metrics=tuple(metrics))


def _uses(duplicates: Duplicates) -> Metric:
    return Metric(
        name="different pictures and videos",
        value=duplicates.num_pictures,
        format="count",
        explanation=f"The most frequent one occurs in {duplicates.max_uses:,} traces. Several questions about one "
        "picture are usual.",
    )


def _answers_table(numbers: DataNumbers) -> TableSection:
    rows = []
    for category, answers in sorted(numbers.answers.items()):
        ((name, count),) = top(answers, 1)
        total = sum(answers.values())
        rows.append((category, total, len(answers), _short(name), count / total))
    return TableSection(
        title="Answers by category",
        columns=(
            Column(title="category"),
            Column(title="traces", format="count"),
            Column(title="different answers", format="count"),
            Column(title="most frequent"),
            Column(title="its share", format="share", better="lower"),
        ),
        rows=tuple(rows[:_MAX_ROWS]),
        explanation="The accuracy of a model that always gives the most frequent answer of a category. If it is high, "
        "a model can learn the answer without an operation.",
    )


def _dropped_table(dropped: DroppedRows) -> Section:
    title = "Dropped rows"
    if not dropped.count:
        return TextSection(title=title, text="No row of the source was dropped.")
    return TableSection(
        title=title,
        columns=(
            Column(title="reason"),
            Column(title="rows", format="count", better="lower"),
            Column(title="examples"),
            Column(title="details of the first"),
        ),
        rows=tuple(
            (one.reason.replace("_", " "), one.num_rows, ", ".join(one.examples), one.detail)
            for one in dropped
        ),
        explanation=f"{dropped.count:,} rows of the source gave no trace. All are listed in dropped.jsonl.",
    )


def _short(text: str) -> str:
    text = facet_value(text)
    return text if len(text) <= _MAX_CELL_CHARS else f"{text[: _MAX_CELL_CHARS - 1]}…"
