"""Report of traces: it shows everything, runs no external code, and is written atomically."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from pixel_reasoner.errors import OutputError
from pixel_reasoner.reports import write_report
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.repairs import Repair, RepairKind
from pixel_reasoner.schema.settings import ModelInfo, RunSettings
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    StopReason,
    Text,
    Thought,
    ToolCall,
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
from report_reader import WrittenPage


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    return all_traces(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def path(traces: dict[str, Trace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_report(traces.values(), path)
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> WrittenPage:
    return WrittenPage(path)


def alone(trace: Trace, folder: Path):
    """Return the trace of a page with one trace, as the viewer reads it."""
    write_report([trace], folder / "alone.html")
    ((shown,),) = [item.traces for item in WrittenPage(folder / "alone.html").items]
    return shown


def calls(shown) -> list:
    return [part.call for turn in shown.turns for part in turn.parts if part.call is not None]


def thoughts(shown) -> list[str]:
    """Return thoughts and texts, in order."""
    return [
        part.thought or part.text
        for turn in shown.turns
        for part in turn.parts
        if part.call is None
    ]


def test_every_trace_has_an_item_with_its_question_reasoning_and_answer(
    page: WrittenPage, traces: dict[str, Trace]
):
    assert len(page.items) == len(page.report.entries) == len(traces)
    for item, trace in zip(page.items, traces.values(), strict=True):
        (shown,) = item.traces
        assert item.question.text == trace.question.text
        assert shown.error == (trace.error or "")
        assert trace.answer is None or shown.answered == trace.answer
        assert len(shown.turns) == len(trace.turns)
        for turn in trace.turns:
            assert turn.text.split("<tool_call>")[0].strip() in ["", *thoughts(shown)]


def test_a_call_is_described_and_its_generated_text_is_kept(
    page: WrittenPage, traces: dict[str, Trace]
):
    shown = dict(zip(traces, page.items, strict=True))
    one, two = (shown[name].traces[0] for name in ("zoom", "zoom into zoom"))
    assert calls(one)[0].words == "zoom in on picture 1, box 0.12 0.15 – 0.38 0.45"
    assert calls(two)[1].words == "zoom in on picture 2, box 0.30 0.30 – 0.70 0.70"
    assert calls(shown["video"].traces[0])[0].words == "look at frames 4, 7"
    assert '<tool_call>\n{"name": "zoom_in"' in one.turns[0].raw


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
    shown = alone(trace, tmp_path)
    assert thoughts(shown)[:2] == ["The digits are small.", "I need three crops."]
    assert [one.pictures for one in calls(shown)] == [(2,), (3,), ()]
    assert [one.error for one in calls(shown)] == ["", "", "bad box"]
    assert [one.turn for one in shown.pictures] == [0, 1, 1]


def test_all_malformed_calls_are_shown(tmp_path: Path):
    errors = tuple(
        Observation(text=text, error=CallErrorKind.MALFORMED_CALL)
        for text in ("no name", "no JSON")
    )
    turn = Turn(text="<tool_call>{</tool_call><tool_call>[</tool_call>", observations=errors)
    shown = alone(picture_trace(draw_scene(tmp_path / "scene.png"), turn), tmp_path)
    assert len(calls(shown)) >= 1
    assert thoughts(shown) == []
    assert shown.turns[0].raw == turn.text


def test_repairs_are_shown_at_their_call(tmp_path: Path):
    repairs = (
        Repair(kind=RepairKind.CODE_FENCE, call=0),
        Repair(kind=RepairKind.NESTED_BOX, call=1, argument="bbox_2d"),
        Repair(kind="of a newer version", call=1),
    )
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5]})
    turn = Turn(text="", parts=(call, call), repairs=repairs)
    shown = alone(picture_trace(draw_scene(tmp_path / "scene.png"), turn), tmp_path)
    assert [one.repairs for one in calls(shown)] == [
        ("the call was in a code fence",),
        ("bbox_2d: the box was in a list, or was two corners", "of a newer version"),
    ]


def test_a_report_of_traces_loads_neither_pillow_nor_pyav():
    code = (
        "import sys, pixel_reasoner.reports.page; print({'PIL', 'av', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_tool_error_is_shown_with_its_reason_and_the_call(
    page: WrittenPage, traces: dict[str, Trace]
):
    item = page.items[list(traces).index("refusal")]
    call = calls(item.traces[0])[0]
    assert call.error == "bad box"
    assert call.reply == "box is inverted: give [x1, y1, x2, y2]"
    assert call.words == "zoom_in(bbox_2d = [0.5, 0, 0.1, 1])"


def test_text_of_a_model_creates_no_tag(page: WrittenPage, path: Path):
    names = {name for name, _ in page.tags}
    assert names <= {"html", "head", "meta", "title", "style", "body", "div", "p", "noscript"}
    assert all(not any(key.startswith("on") for key in attributes) for _, attributes in page.tags)
    (item,) = [one for one in page.items if one.question.id == HOSTILE]
    assert item.question.text == item.traces[0].answered == HOSTILE
    assert "<img src=x" not in path.read_text(encoding="utf-8")


def test_nothing_outside_the_page_is_referenced(path: Path, page: WrittenPage):
    for tag, attributes in page.tags:
        assert tag != "link"
        assert not {"src", "href", "action", "data", "srcset", "poster"} & set(attributes)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|\beval\(", text)


def test_boxes_and_evidence_are_fractions_of_the_source(traces: dict[str, Trace], tmp_path: Path):
    shown = alone(traces["zoom"], tmp_path)
    assert [one.box for one in shown.pictures] == [(0, 0, 1, 1), (0.125, 0.15, 0.375, 0.45)]
    assert [one.evidence for one in shown.sources] == [((0.23, 0.28, 0.27, 0.33),)]


def test_a_zoom_into_a_zoom_has_its_parent_and_its_place_on_the_source(
    traces: dict[str, Trace], tmp_path: Path
):
    shown = alone(traces["zoom into zoom"], tmp_path)
    assert [(one.number, one.parent, one.turn) for one in shown.pictures] == [
        (1, None, 0),
        (2, 1, 1),
        (3, 2, 2),
    ]
    assert shown.pictures[2].box == (0.2, 0.24, 0.3, 0.36)


def test_selected_frames_and_evidence_frames_are_marked(traces: dict[str, Trace], tmp_path: Path):
    shown = alone(traces["video"], tmp_path)
    assert [one.frame for one in shown.pictures if one.turn] == [4, 7]
    assert [one.frame for one in shown.pictures if one.is_evidence and not one.turn] == [4, 5]


def test_outcomes_are_marked_and_can_be_filtered(page: WrittenPage, traces: dict[str, Trace]):
    assert [entry.outcome for entry in page.report.entries] == [
        "right", "wrong", "right", "wrong", "unparsed", "right", "wrong", "ungraded", "wrong", "unparsed",
    ]  # fmt: skip
    assert page.filtered({"operations": ("2",)}) == ["attribute-2"]
    assert "attribute-3" in page.filtered({"calls": ("rejected",)})
    assert page.report.filters[:2] == ("outcome", "reason")
    assert page.filtered({"category": (HOSTILE,)}) == [HOSTILE]


def test_different_settings_are_counted(traces: dict[str, Trace], tmp_path: Path):
    one, other = (
        traces["zoom"],
        traces["no turns"].model_copy(
            update={"settings": RunSettings(model=ModelInfo(name="big"))}
        ),
    )
    write_report([one, one, other], tmp_path / "page.html")
    settings = {
        fact.name: fact.value for fact in WrittenPage(tmp_path / "page.html").report.settings
    }
    assert settings["model.name"] == "tiny (2), big (1)"
    assert settings["sampling.temperature"] == "0.0"


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
    assert len(summary.unshown) == 2
    assert any("gone.png" in why for why in summary.unshown)
    page = WrittenPage(tmp_path / "page.html")
    total = sum(summary.unshown.values())
    assert any(
        warning.startswith(f"Pictures not shown: {total}.") for warning in page.report.warnings
    )
    *missing, shown = (item.traces[0] for item in page.items)
    assert all(one.view.problem and not one.view.ref for trace in missing for one in trace.pictures)
    assert all(one.view.ref in page.files for one in shown.pictures)
    assert page.report.title == "Gaps & more"


def test_a_report_without_traces_is_valid(tmp_path: Path):
    assert write_report([], tmp_path / "new" / "page.html").traces == 0
    assert WrittenPage(tmp_path / "new" / "page.html").items == []


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


@pytest.mark.medium
def test_memory_stays_far_below_the_size_of_the_page(tmp_path: Path):
    for number in range(20):
        noise = Image.effect_noise((960, 720), 90).convert("RGB")
        noise.save(tmp_path / f"{number}.png")

    def traces(count: int) -> Iterator[Trace]:
        for number in range(count):
            yield picture_trace(tmp_path / f"{number}.png", about={"id": f"q{number}"})

    write_report(traces(1), tmp_path / "warm.html")
    tracemalloc.start()
    write_report(traces(20), tmp_path / "page.html")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (tmp_path / "page.html").stat().st_size
    assert size > 4_000_000
    assert peak < 0.5 * size


def test_pictures_are_stored_at_the_size_of_the_model_and_of_the_source(tmp_path: Path):
    shown = alone(picture_trace(draw_scene(tmp_path / "scene.png")), tmp_path)
    assert [one.view.px for one in shown.pictures] == [(256, 192)]
    assert [one.image.px for one in shown.sources] == [(960, 720)]


def test_a_very_long_picture_is_shown(tmp_path: Path):
    Image.new("RGB", (40, 17_000), "white").save(tmp_path / "long.png")
    picture = Picture(number=1, medium=0, source_px=(40, 17_000), seen_px=(32, 8_192))
    shown = alone(picture_trace(tmp_path / "long.png", pictures=(picture,)), tmp_path)
    assert shown.pictures[0].view.ref
    assert shown.sources[0].image.ref


def test_a_training_report_uses_the_grades_of_the_reward(tmp_path: Path):
    asked = Question(id="1", text="?", media=(), answer=("red",))
    unboxed = Trace(question=asked, turns=(Turn(text="red"),), stop=StopReason.NO_ANSWER)
    marks = []
    for graded in (grade_reply, grade_trace):
        write_report([unboxed], tmp_path / "page.html", graded=graded)
        marks.append(WrittenPage(tmp_path / "page.html").report.entries[0].outcome)
    assert marks == ["right", "unparsed"]
