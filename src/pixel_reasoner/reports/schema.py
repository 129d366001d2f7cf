"""Data format of reports: what the viewer shows. One JSON document for traces, runs, comparisons, data sets and curves.

A report is a `Report` with its sections and one `ListEntry` per trace. The details of a trace are an `Item`, which the
viewer loads when the trace is opened. Boxes are fractions of the full-resolution source, pictures are references into
the picture store. All texts are plain: control characters are visible (`text.visible`), and the viewer never
interprets them as HTML. `docs/reference/report-format.md` is written from these classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pixel_reasoner.schema.record import Record
from pixel_reasoner.text import visible

FORMAT_VERSION = 1
"""version of this format; increased when a viewer of an older version could not show a report"""

Plain = Annotated[str, AfterValidator(visible)]
"""text for display"""
Size = tuple[int, int]
BoxFractions = tuple[float, float, float, float]
"""left, top, right, bottom as fractions of the full-resolution source"""
Facets = dict[str, tuple[Plain, ...]]
"""filter name -> values of a trace. A name consists of lower-case words joined by `-`"""


# --- pictures ---


class Image(Record):
    """Pixels in the picture store, or the reason why there are none."""

    ref: str = ""
    """name in the picture store; empty if the picture cannot be shown"""
    px: Size = (0, 0)
    """size of the stored pixels: of very large pictures a smaller copy is stored"""
    problem: Plain = ""


BoxKind = Literal["critical", "major", "minor", "tolerated", "proposal"]
"""severity of a finding, or a place that is none: it has a colour and a line of its own"""


class SourceEntry(Record):
    """A full-resolution picture or frame."""

    medium: int
    """index into the media of the question, from 0"""
    frame: int | None = None
    """number among the sampled frames, from 1"""
    px: Size
    image: Image
    evidence: tuple[BoxFractions, ...] = ()
    box_kinds: tuple[BoxKind, ...] = ()
    """of each box of `evidence`; empty for annotated evidence"""


class RegionEntry(Record):
    """A further region that a picture shows."""

    medium: int
    frame: int | None = None
    box: BoxFractions


class PictureEntry(Record):
    """A picture in the context of the model."""

    number: int
    turn: int = 0
    """turn whose operation returned it, from 1; 0 for pictures of the question"""
    medium: int
    frame: int | None = None
    time_s: float | None = None
    parent: int | None = None
    box: BoxFractions
    source_px: Size
    seen_px: Size
    transforms: tuple[Plain, ...] = ()
    beside: tuple[RegionEntry, ...] = ()
    """regions that it shows after the one of `box`"""
    is_evidence: bool = False
    """whether it is an annotated evidence frame"""
    view: Image
    """as the model received it"""


class MediaEntry(Record):
    """A media item of the question."""

    kind: Literal["image", "video", "frames"]
    name: Plain
    """path relative to the run"""
    pictures: tuple[int, ...]
    """numbers of its pictures in the prompt"""
    clip: str = ""
    """name of the video file in the picture store, where a browser can play it"""
    start_s: float = 0.0


# --- a trace ---


class CallEntry(Record):
    """A call and its result."""

    words: Plain
    """the call as a phrase; as generated if it was rejected"""
    error: Plain = ""
    """reason of a rejection, for example `bad box`"""
    reply: Plain | None = None
    """result as text, if it is not pictures"""
    pictures: tuple[int, ...] = ()
    """numbers of the returned pictures"""
    repairs: tuple[Plain, ...] = ()
    """what was wrong with the call and was repaired before it was executed"""
    drawings: tuple[Image, ...] = ()
    """pictures on which a result that is text is drawn: what was measured, or read"""


class PartEntry(Record):
    """A thought, a text or a call, in the order in which it was generated."""

    thought: Plain | None = None
    text: Plain | None = None
    call: CallEntry | None = None


class TurnEntry(Record):
    """One message of the model."""

    number: int
    parts: tuple[PartEntry, ...]
    is_mistake: bool = False
    """whether its call is a deliberate mistake of a synthesized trace"""
    is_scripted: bool = False
    """whether a strategy wrote it"""
    raw: Plain = ""
    """generated text, where the parts omit some of it"""
    new_tokens: int | None = None


class ProbedRegion(Record):
    """Region that a candidate of a strategy looked at."""

    medium: int
    frame: int | None = None
    box: BoxFractions
    view: Image


class CandidateEntry(Record):
    """One rollout of a strategy."""

    kind: Literal["answer", "probe"] = "answer"
    text: Plain = ""
    """question of a probe"""
    answered: Plain | None = None
    score: float | None = None
    """probability of the answer, or of "yes" for a probe"""
    votes: int = 0
    is_selected: bool = False
    regions: tuple[ProbedRegion, ...] = ()


class MaskSegment(Record):
    """A part of a training example."""

    text: Plain
    is_trained: bool
    """whether the loss covers it"""


class TraceEntry(Record):
    """One trace of a question."""

    name: Plain = ""
    """of its run, where an item has several"""
    outcome: str
    """right, wrong, unparsed or ungraded"""
    answered: Plain | None = None
    """extracted answer"""
    reason: Plain = ""
    """one sentence: why the answer is right or wrong, as far as the evidence and the calls show it"""
    stop: Plain
    error: Plain = ""
    notes: tuple[Plain, ...] = ()
    facts: tuple[tuple[Plain, Plain], ...] = ()
    """name and value: seconds, tokens, terms of the reward"""
    media: tuple[MediaEntry, ...] = ()
    sources: tuple[SourceEntry, ...] = ()
    pictures: tuple[PictureEntry, ...] = ()
    turns: tuple[TurnEntry, ...] = ()
    omitted_turns: int = 0
    """number of turns in the middle that are not shown"""
    candidates: tuple[CandidateEntry, ...] = ()
    """rollouts of the strategy"""
    num_candidates: int = 0
    """number of all rollouts of the strategy"""
    mask: tuple[MaskSegment, ...] = ()
    """the training example with its loss mask"""


class QuestionEntry(Record):
    """The question of an item."""

    id: Plain
    text: Plain
    options: tuple[tuple[Plain, Plain], ...] = ()
    """letter and text"""
    expected: Plain = ""
    category: Plain = ""


class Item(Record):
    """A question and its traces: one, or those of several runs."""

    number: int
    """from 0: the position in `Report.entries`"""
    question: QuestionEntry
    traces: tuple[TraceEntry, ...]

    def to_json(self) -> str:
        """Return the JSON that the viewer reads. Fields with default values are omitted."""
        return self.model_dump_json(exclude_defaults=True)


class ListEntry(Record):
    """What the list of traces needs of an item."""

    id: Plain
    text: Plain
    """start of the question"""
    outcome: str
    outcomes: tuple[str, ...] = ()
    """of all traces, where an item has several"""
    answered: Plain | None = None
    thumbnail: str = ""
    """name in the picture store"""
    facets: Facets
    sizes: dict[str, float] = Field(default_factory=dict)
    """sort key -> value"""


# --- sections ---


class Metric(Record):
    """One number of a run, with what it means."""

    name: Plain
    value: float | None = None
    interval: tuple[float, float] | None = None
    """95 %"""
    format: Literal["share", "number", "count"] = "share"
    better: Literal["", "higher", "lower"] = ""
    explanation: Plain = ""
    facets: Facets = Field(default_factory=dict)
    """filter of the traces that it counts"""


class MetricsSection(Record):
    """Metrics with intervals and explanations."""

    type: Literal["metrics"] = "metrics"
    title: Plain
    metrics: tuple[Metric, ...]
    explanation: Plain = ""


class Column(Record):
    """Column of a table."""

    title: Plain
    format: Literal["text", "share", "number", "count", "interval"] = "text"
    better: Literal["", "higher", "lower"] = ""
    explanation: Plain = ""


Cell = Plain | float | tuple[float, float] | None


class TableSection(Record):
    """A table that can be sorted by any column."""

    type: Literal["table"] = "table"
    title: Plain
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: dict[int, Plain] = Field(default_factory=dict)
    """row -> why it is not comparable with the first row"""
    explanation: Plain = ""
    is_folded: bool = False


class MatrixCell(Record):
    """Cell of a matrix."""

    value: float
    text: Plain
    facets: Facets = Field(default_factory=dict)
    kind: Literal["", "good", "bad"] = ""


class MatrixSection(Record):
    """Counts or shares by two criteria: gain and harm, or a confusion matrix."""

    type: Literal["matrix"] = "matrix"
    title: Plain
    row_title: Plain
    column_title: Plain
    rows: tuple[Plain, ...]
    columns: tuple[Plain, ...]
    cells: tuple[tuple[MatrixCell, ...], ...]
    explanation: Plain = ""


class Series(Record):
    """One line, or one set of bars or points. `x`, `y`, `low` and `high` have the same length."""

    name: Plain
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    labels: tuple[Plain, ...] = ()
    """name of each point"""
    sizes: tuple[float, ...] = ()
    """number of questions at each point"""
    group: int = 0
    """series of one run have the same colour"""
    dash: int = 0
    """0: solid, 1: dashed, 2: dotted, 3: dashed and dotted"""
    is_raw: bool = False
    """values before smoothing: drawn thin and pale, and not in the legend"""


class Chart(Record):
    """A chart."""

    title: Plain
    kind: Literal["line", "bars", "points", "areas"]
    """areas: the values of the series are stacked"""
    x_title: Plain
    y_title: Plain
    series: tuple[Series, ...]
    x_labels: tuple[Plain, ...] = ()
    """names of x = 0, 1, ...: categories"""
    bottom: float | None = None
    top: float | None = None
    explanation: Plain = ""
    diagonal: bool = False
    """whether y = x is drawn"""
    facet: str = ""
    """filter whose value is the label of a bar"""
    interval: Plain = "95 %"
    """what `low` and `high` of the series are"""


class ChartsSection(Record):
    """Charts next to each other."""

    type: Literal["charts"] = "charts"
    title: Plain
    charts: tuple[Chart, ...]
    explanation: Plain = ""


class TextSection(Record):
    """A text."""

    type: Literal["text"] = "text"
    title: Plain
    text: Plain
    is_warning: bool = False


class HtmlSection(Record):
    """HTML of a plug-in (`reports.sections`). The Content-Security-Policy allows it no script and no request."""

    type: Literal["html"] = "html"
    title: Plain
    html: str


Section = Annotated[
    MetricsSection | TableSection | MatrixSection | ChartsSection | TextSection | HtmlSection,
    Field(discriminator="type"),
]


class Fact(Record):
    """One line of the header: a setting, a date, a count."""

    name: Plain
    value: Plain
    explanation: Plain = ""


Word = Literal[
    "annotated evidence", "as the model received it", "model's copy", "traces", "unparsed"
]
"""word of the viewer that a report may replace"""


class Report(Record):
    """A report. `entries` and the items of the page have the same order."""

    format_version: int = FORMAT_VERSION
    kind: Literal["traces", "run", "comparison", "leaderboard", "data", "training"] = "traces"
    title: Plain
    facts: tuple[Fact, ...] = ()
    settings: tuple[Fact, ...] = ()
    """everything that determines the numbers"""
    sections: tuple[Section, ...] = ()
    entries: tuple[ListEntry, ...] = ()
    filters: tuple[str, ...] = ()
    """names of the facets, in order"""
    warnings: tuple[Plain, ...] = ()
    words: dict[Word, Plain] = Field(default_factory=dict)
    """words of this report in place of those of the viewer, for example of photos without a model"""
    refresh_s: float = 0.0
    """the page loads itself again after this time; 0: never"""
    made_by: str = ""
    """name and version of the program"""

    def to_json(self) -> str:
        """Return the JSON that the viewer reads."""
        return self.model_dump_json(exclude_none=True)
