"""HTML report: it shows everything, runs no external code, and is written atomically."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape
from PIL import Image

from pixel_reasoner.errors import OutputError
from pixel_reasoner.reports import write_report
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import ModelInfo, RunSettings
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    StopReason,
    Text,
    Thought,
    Trace,
    Turn,
)
from pixel_reasoner.scoring.grading import grade_reply, grade_trace
from report_fixture import (
    HOSTILE,
    all_traces,
    answer,
    draw_scene,
    picture_trace,
    rejected_zoom,
    zoom,
)

VOID = {"meta", "img", "br", "input", "rect"}


class Page(HTMLParser):
    """Parsed tags of a page. A tag that is closed out of order is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        """Return the attributes of the tags with this name and class."""
        return [
            a for t, a in self.tags if t == tag and kind in [*(a.get("class") or "").split(), ""]
        ]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    return all_traces(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def path(traces: dict[str, Trace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_report(traces.values(), path)
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path)


def alone(trace: Trace, folder: Path) -> Page:
    """Return the page of one trace."""
    write_report([trace], folder / "alone.html")
    return Page(folder / "alone.html")


def boxes(page: Page, kind: str) -> list[tuple[float, ...]]:
    """Return x, y, width and height in percent of the drawn boxes whose group has this class."""
    found, inside = [], False
    for tag, attributes in page.tags:
        kinds = (attributes.get("class") or "").split()
        if tag == "g":
            inside = kind in kinds
        if inside and tag == "rect" and "line" in kinds:
            found.append(
                tuple(float(attributes[k].rstrip("%")) for k in ("x", "y", "width", "height"))
            )
    return found


def test_every_tag_is_closed_in_order(page: Page):
    assert page.open == []


def test_every_trace_has_a_card_with_its_question_thoughts_and_answer(
    path: Path, traces: dict[str, Trace]
):
    text = path.read_text(encoding="utf-8")
    assert text.count("<article") == len(traces)
    for trace in traces.values():
        assert escape(trace.question.text) in text
        assert escape(trace.answer or "") in text
        assert escape(trace.error or "") in text
        for turn in trace.turns:
            assert escape(turn.text.split("<tool_call>")[0].strip()) in text


def test_a_call_is_described_and_shown_verbatim(path: Path):
    text = path.read_text(encoding="utf-8")
    assert "zoom in on picture 1, box 0.12 0.15 – 0.38 0.45" in text
    assert "zoom in on picture 2, box 0.30 0.30 – 0.70 0.70" in text
    assert "look at frames 4, 7" in text
    assert escape('<tool_call>\n{"name": "zoom_in"') in text


def test_every_call_of_a_turn_is_shown_with_its_result(tmp_path: Path):
    first, second = zoom(2, Box(0, 0, 0.5, 0.5)), zoom(3, Box(0.5, 0.5, 1, 1))
    rejected = rejected_zoom()
    results = (first.observation, second.observation, rejected.observation)
    turn = Turn(
        text="I need three crops.",
        parts=(
            Thought(thought="The digits are small."),
            Text(text="I need three crops."),
            *(one.call for one in (first, second, rejected)),
        ),
        observations=tuple(
            one.model_copy(update={"call": index}) for index, one in enumerate(results)
        ),
    )
    trace = picture_trace(draw_scene(tmp_path / "scene.png"), turn, answer("6"), answer="6")
    page = alone(trace, tmp_path)
    thoughts, calls = page.all("p", "thought"), page.all("p", "call")
    assert (len(thoughts), len(calls)) == (3, 3)  # one thought is in the last turn
    text = "".join(page.text)
    assert text.index("The digits are small.") < text.index("I need three crops.")
    assert "zoom in on picture 1, box 0.00 0.00 – 0.50 0.50" in text
    assert "zoom in on picture 1, box 0.50 0.50 – 1.00 1.00" in text
    assert "Rejected, bad box." in text
    assert len(boxes(page, "turn-1")) == 2
    assert len(page.all("li", "refused")) == 0, "two of three calls were executed"


def test_all_malformed_calls_are_shown(tmp_path: Path):
    errors = tuple(
        Observation(text=text, error=CallErrorKind.MALFORMED_CALL)
        for text in ("no name", "no JSON")
    )
    turn = Turn(text="<tool_call>{</tool_call><tool_call>[</tool_call>", observations=errors)
    page = alone(picture_trace(draw_scene(tmp_path / "scene.png"), turn), tmp_path)
    assert [len(page.all("p", kind)) for kind in ("call", "refusal", "thought")] == [2, 2, 0]
    assert len(page.all("li", "refused")) == 1


def test_a_report_of_traces_loads_neither_pillow_nor_pyav():
    code = (
        "import sys, pixel_reasoner.reports.page; print({'PIL', 'av', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_tool_error_is_shown_with_its_reason_and_the_call(path: Path):
    text = path.read_text(encoding="utf-8")
    assert 'class="turn refused"' in text
    assert "Rejected, bad box." in text
    assert "box is inverted: give [x1, y1, x2, y2]" in text
    assert "zoom_in(bbox_2d = [0.5, 0, 0.1, 1])" in text


def test_text_of_a_model_creates_no_tag_and_no_attribute(page: Page):
    assert len(page.all("script")) == 1
    assert all((a["src"] or "").startswith("data:image/webp;base64,") for a in page.all("img"))
    handlers = {name for _, attributes in page.tags for name in attributes if name.startswith("on")}
    assert handlers == set()
    assert HOSTILE in "".join(page.text)


def test_only_the_style_and_script_of_the_page_may_run(path: Path, page: Page):
    policy = page.all("meta")[1]["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert all("style" not in attributes for _, attributes in page.tags)


def test_nothing_outside_the_page_is_referenced(path: Path, page: Page):
    assert page.all("link") == []
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert re.match(r"data:", attributes.get(name) or "data:")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|innerHTML|eval\(", text)


def test_boxes_are_drawn_at_the_cropped_regions(traces: dict[str, Trace], tmp_path: Path):
    page = alone(traces["zoom"], tmp_path)
    assert boxes(page, "turn-1") == [(12.5, 15.0, 25.0, 30.0)]
    assert boxes(page, "evidence") == [(23.0, 28.0, 4.0, 5.0)]


def test_a_zoom_into_a_zoom_is_drawn_on_the_source_and_on_the_zoom(
    traces: dict[str, Trace], tmp_path: Path
):
    page = alone(traces["zoom into zoom"], tmp_path)
    assert boxes(page, "turn-1") == [(12.5, 15.0, 25.0, 30.0)]
    assert boxes(page, "turn-2") == [(20.0, 24.0, 10.0, 12.0), (30.0, 30.0, 40.0, 40.0)]


def test_selected_frames_and_evidence_frames_are_marked(traces: dict[str, Trace], tmp_path: Path):
    page = alone(traces["video"], tmp_path)
    assert len(page.all("figure", "selected")) == 2
    assert len(page.all("figure", "evidence")) == 2
    assert [a["alt"] for a in page.all("img")[:2]] == [
        f"Frame {n} as the model received it" for n in (1, 2)
    ]


def test_a_box_and_its_step_share_a_link(traces: dict[str, Trace], tmp_path: Path):
    page = alone(traces["zoom"], tmp_path)
    assert page.all("g", "turn-1")[0]["data-link"] == page.all("li", "turn")[0]["id"]


def test_outcomes_are_marked_and_can_be_filtered(page: Page):
    outcomes = [a["data-outcome"] for a in page.all("article")]
    assert outcomes == [
        "right", "wrong", "right", "wrong", "unparsed", "right", "wrong", "ungraded", "wrong", "unparsed",
    ]  # fmt: skip
    operations = [a["data-operations"] for a in page.all("article")][:4]
    assert operations == ["1", "2+", "1\nrefused", "1"]
    names = [a["name"] for a in page.all("select")]
    assert names == ["outcome", "stop", "operations", "category", "need"]
    offered = {a["value"] for a in page.all("option")}
    assert {"right", "max context", "refused", HOSTILE, "needs an operation"} <= offered


def test_every_picture_has_an_alternative_text(page: Page):
    assert all(a["alt"] and a["width"] and a["loading"] == "lazy" for a in page.all("img"))


def test_different_settings_are_counted(traces: dict[str, Trace], tmp_path: Path):
    one, other = (
        traces["zoom"],
        traces["no turns"].model_copy(
            update={"settings": RunSettings(model=ModelInfo(name="big"))}
        ),
    )
    write_report([one, one, other], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<td>tiny (2), big (1)</td>" in text
    assert ">sampling.temperature<" in text


def test_missing_and_broken_media_are_counted_and_the_rest_is_shown(
    traces: dict[str, Trace], tmp_path: Path
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    bad = picture_trace(broken, zoom(2, Box(0, 0, 0.5, 0.5)), answer("6"), answer="6")
    summary = write_report(
        [traces["missing media"], bad, traces["zoom"]], tmp_path / "page.html", title="Gaps & more"
    )
    assert summary.traces == 3
    assert sorted(summary.unshown.values()) == [3, 3]  # overview, source and crop of each
    assert any("gone.png" in why for why in summary.unshown)
    page = Page(tmp_path / "page.html")
    assert len(page.all("p", "missing")) == 6
    assert len(page.all("img")) == 3
    assert "Gaps & more" in page.text


def test_a_report_without_traces_is_valid(tmp_path: Path):
    assert write_report([], tmp_path / "new" / "page.html").traces == 0
    assert Page(tmp_path / "new" / "page.html").all("article") == []


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Limit the size of files, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_partial_report(traces: dict[str, Trace], tmp_path: Path):
    out = tmp_path / "page.html"
    out.write_text("the page before")
    with largest_file(20_000), pytest.raises(OutputError, match=r"page\.html"):
        write_report(traces.values(), out)
    assert out.read_text() == "the page before"
    assert list(tmp_path.iterdir()) == [out]


def test_an_error_in_the_traces_leaves_no_partial_report(traces: dict[str, Trace], tmp_path: Path):
    def broken() -> Iterator[Trace]:
        yield traces["zoom"]
        raise ValueError("line 2 is not a trace")

    with pytest.raises(ValueError, match="line 2"):
        write_report(broken(), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_stays_far_below_the_size_of_the_page(traces: dict[str, Trace], tmp_path: Path):
    tracemalloc.start()
    write_report((traces["zoom"] for _ in range(60)), tmp_path / "page.html")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * (tmp_path / "page.html").stat().st_size


def test_a_large_source_is_scaled_down(tmp_path: Path):
    trace = picture_trace(draw_scene(tmp_path / "scene.png"))
    overview, source = alone(trace, tmp_path).all("img")
    assert (overview["width"], overview["height"]) == ("256", "192")
    assert (source["width"], source["height"]) == ("900", "675")


def test_a_very_long_picture_is_shown(tmp_path: Path):
    Image.new("RGB", (40, 17_000), "white").save(tmp_path / "long.png")
    picture = Picture(number=1, medium=0, source_px=(40, 17_000), seen_px=(32, 8_192))
    page = alone(picture_trace(tmp_path / "long.png", pictures=(picture,)), tmp_path)
    assert [image["height"] for image in page.all("img")] == ["4000", "4000"]


def test_a_training_report_uses_the_grades_of_the_reward(tmp_path: Path):
    asked = Question(id="1", text="?", media=(), answer=("red",))
    unboxed = Trace(question=asked, turns=(Turn(text="red"),), stop=StopReason.NO_ANSWER)
    marks = []
    for graded in (grade_reply, grade_trace):
        write_report([unboxed], tmp_path / "page.html", graded=graded)
        (article,) = Page(tmp_path / "page.html").all("article")
        marks.append(article["data-outcome"])
    assert marks == ["right", "unparsed"]
