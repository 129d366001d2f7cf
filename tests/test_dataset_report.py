"""Reports of training data: every number equals a count by hand, and masks are those of training."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from page_fixture import charts, items_of, report_of, section
from pixel_reasoner.data.expert import classify_trace
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.reports.build import write_run_report
from pixel_reasoner.reports.data_numbers import (
    MISSES,
    DataNumbers,
    KeyReader,
    area_histogram,
    count_histogram,
    length_histogram,
    mistakes_of,
)
from pixel_reasoner.reports.dataset import (
    MAX_MASKED,
    is_synthesized,
    merge_segments,
    write_data_report,
)
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import RunSettings, SynthesisInfo
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    StopReason,
    ToolCall,
    Trace,
    Turn,
    save_traces,
)

SMALL = Box(0.1, 0.1, 0.12, 0.12)
CALL = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1})


def turn(text: str, error: CallErrorKind | None = None, *, calls: int = 1, mistake=False) -> Turn:
    results = tuple(Observation(text="", error=error) for _ in range(calls))
    return Turn(text=text, parts=(CALL,) * calls, observations=results, mistake=mistake)


def trace(name: str, kind: str, *turns: Turn, **question) -> Trace:
    fields = {
        "id": name,
        "text": "Which letter?",
        "media": (),
        "answer": ("A",),
        "category": "read",
        "needs_look": kind != "text",
    }
    return Trace(
        question=Question(**{**fields, **question}),
        turns=(*turns, Turn(text=f"It is A, {name}. \\boxed{{A}}")),
        stop=StopReason.ANSWERED,
        answer="A",
        settings=RunSettings(synthesis=SynthesisInfo(version=2, kind=kind)),
        versions={"pixel-reasoner": "0.1.0"},
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """Folder of seven traces with known contents."""
    out = tmp_path / "synth"
    (out / "media").mkdir(parents=True)
    for name, color in (("a", "red"), ("copy of a", "red"), ("b", "blue")):
        Image.new("RGB", (40, 40), color).save(out / "media" / f"{name}.png")
    a, copy, b = (
        (MediaItem(kind="image", path=f"media/{name}.png"),) for name in ("a", "copy of a", "b")
    )
    bad = CallErrorKind.BAD_BOX
    traces = [
        trace("1", "single", turn("I zoom in."), media=a, evidence=Evidence(boxes=(SMALL,))),
        trace("2", "wrong_once", turn("Wrong.", mistake=True), turn("Right."), media=b),
        trace("3", "refused", turn("Bad.", bad, mistake=True), turn("Good."), media=b, text="Why?"),
        trace("4", "refused", turn("Only bad.", bad, mistake=True), media=b, text="Who?"),
        trace("5", "text", media=copy, category="count", answer=("2",)),
        trace("6", "text", media=b, category="count", answer=("3",), text="How many?"),
        trace("7", "text", media=b, category="count", answer=("3",), text=" How   MANY? "),
    ]
    last = traces[5].turns[0].model_copy(update={"text": "IT IS  A, 6. \\boxed{A}"})
    traces[6] = traces[6].model_copy(update={"turns": (last,)})
    save_traces(traces, out / "traces.jsonl")
    (out / "settings.json").write_text(json.dumps({"source": "jsonl", "seed": 3, "version": 2}))
    (out / "summary.json").write_text(json.dumps({"count": 7, "traces_per_second": 51.6}))
    dropped = [{"where": f"row {n}", "reason": "no_answer", "detail": "none"} for n in range(5)]
    dropped.append({"where": "row 9", "reason": "bad_box", "detail": "<b>inverted</b>"})
    (out / "dropped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dropped))
    return out


@pytest.fixture
def found(folder, tmp_path) -> dict:
    write_data_report(folder, tmp_path / "data.html")
    return report_of(tmp_path / "data.html")


def metrics(found: dict, title: str) -> dict[str, float]:
    return {one["name"]: one.get("value") for one in section(found, title)["metrics"]}


def shown(found: dict, **facets: tuple[str, ...]) -> list[str]:
    """Return the ids of the traces that pass filters, as the viewer counts them."""
    return [
        entry["id"]
        for entry in found["entries"]
        if all(set(values) & set(entry["facets"].get(name, ())) for name, values in facets.items())
    ]


# --- numbers ---


def test_the_header_states_source_seed_count_and_speed(found):
    assert {one["name"]: one["value"] for one in found["facts"]} == {
        "traces": "7",
        "source": "jsonl",
        "seed": "3",
        "traces per second": "51.6",
        "version of the writer": "2",
        "program": "0.1.0",
    }
    assert found["kind"] == "data"
    assert found["title"] == "Training data synth"


def test_kinds_are_counted_by_category_and_each_cell_shows_its_traces(found):
    matrix = section(found, "Kinds of traces")
    assert matrix["rows"] == ["refused, 29%", "single, 14%", "text, 43%", "wrong once, 14%"]
    assert matrix["columns"] == ["read", "count", "all"]
    counts = [[cell["value"] for cell in row] for row in matrix["cells"]]
    assert counts == [[2, 0, 2], [1, 0, 1], [0, 3, 3], [1, 0, 1]]
    for row in matrix["cells"]:
        for cell in row:
            assert len(shown(found, **cell["facets"])) == cell["value"]


def test_mistakes_and_their_corrections_are_counted(found):
    values = metrics(found, "Contents")
    assert values["traces without an operation"] == pytest.approx(3 / 7)
    assert values["traces with a deliberate mistake"] == pytest.approx(3 / 7)
    assert values["calls that are deliberate mistakes"] == pytest.approx(3 / 6)
    assert values["mistakes that are corrected"] == pytest.approx(2 / 3), "not in trace 4"
    assert section(found, "Deliberate mistakes")["rows"] == [
        ["rejected: bad box", 2, pytest.approx(2 / 3)],
        [MISSES, 1, pytest.approx(1 / 3)],
    ]
    assert shown(found, mistake=("rejected: bad box",)) == ["3", "4"]
    assert shown(found, mistake=(MISSES,)) == ["2"]
    assert shown(found, mistake=("none",)) == ["1", "5", "6", "7"]


def test_every_linked_metric_shows_as_many_traces_as_it_counts(found):
    total = len(found["entries"])
    for one in found["sections"]:
        for metric in one.get("metrics", ()):
            if facets := metric.get("facets"):
                count = metric["value"] * (total if metric["format"] == "share" else 1)
                assert len(shown(found, **facets)) == pytest.approx(count), metric["name"]


def test_duplicates_are_equal_questions_files_and_reasoning(found):
    assert metrics(found, "Duplicates") == {
        "same question": 4,
        "same picture in another file": 2,
        "same reasoning": 2,
        "different pictures and videos": 2,
    }
    # 1 and 5 have pictures with the same bytes, 6 and 7 differ in letter case and spaces.
    assert shown(found, duplicate=("same question",)) == ["1", "5", "6", "7"]
    assert shown(found, duplicate=("same picture in another file",)) == ["1", "5"]
    assert shown(found, duplicate=("same reasoning",)) == ["6", "7"]
    assert shown(found, duplicate=("none",)) == ["2", "3", "4"]


def test_dropped_rows_are_counted_with_examples(found):
    assert section(found, "Dropped rows")["rows"] == [
        ["no answer", 5, "row 0, row 1, row 2", "none"],
        ["bad box", 1, "row 9", "<b>inverted</b>"],
    ]


def test_the_share_of_the_most_frequent_answer_is_stated_by_category(found):
    assert section(found, "Answers by category")["rows"] == [
        ["count", 3, 2, "3", pytest.approx(2 / 3)],
        ["read", 4, 1, "A", 1.0],
    ]


def test_charts_count_every_trace_once(found):
    for title, chart in charts(found).items():
        (series,) = chart["series"]
        assert len(series["x"]) == len(chart["x_labels"])
        assert sum(series["y"]) == (1 if title == "size of the evidence" else 7)
        assert chart["explanation"]
    turns = charts(found)["turns"]
    assert dict(zip(turns["x_labels"], turns["series"][0]["y"], strict=True)) == {
        "1": 3, "2": 2, "3": 2,
    }  # fmt: skip
    operations = charts(found)["operations"]
    for label, count in zip(operations["x_labels"], operations["series"][0]["y"], strict=True):
        assert len(shown(found, operations=(label,))) == count


def test_a_limit_shortens_the_list_and_not_the_numbers(folder, tmp_path):
    written = write_data_report(folder, tmp_path / "data.html", limit=2)
    found = report_of(tmp_path / "data.html")
    assert written.is_shortened
    assert len(found["entries"]) == 2
    assert {one["name"]: one["value"] for one in found["facts"]}["traces"] == "7"
    assert "first 2" in found["warnings"][0]


def test_pictures_outside_of_the_allowed_folders_are_not_read(folder, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (40, 40), "red").save(secret)  # the bytes of a.png
    one = trace("8", "text", media=(MediaItem(kind="image", path=str(secret)),))
    with (folder / "traces.jsonl").open("a") as file:
        file.write(one.to_line() + "\n")
    write_data_report(folder, tmp_path / "data.html")
    found = report_of(tmp_path / "data.html")
    assert "8" not in shown(found, duplicate=("same picture in another file",))


def test_equal_files_of_traces_give_equal_pages(folder, tmp_path):
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    for page in pages:
        write_data_report(folder, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


# --- sources ---


def test_synthesized_traces_are_recognized_as_a_folder_and_as_a_file(folder, tmp_path):
    assert is_synthesized(folder)
    assert is_synthesized(folder / "traces.jsonl")
    rollout = trace("1", "x").model_copy(update={"settings": RunSettings()})
    save_traces([rollout], tmp_path / "rollouts.jsonl")
    assert not is_synthesized(tmp_path / "rollouts.jsonl")
    assert not is_synthesized(tmp_path / "nothing")
    (tmp_path / "broken.jsonl").write_text("no trace\n")
    assert not is_synthesized(tmp_path / "broken.jsonl")


def test_a_file_of_traces_needs_no_folder(folder, tmp_path):
    alone = tmp_path / "alone" / "some.jsonl"
    save_traces(load_run(folder), alone)
    write_data_report(alone, tmp_path / "data.html")
    facts = {one["name"] for one in report_of(tmp_path / "data.html")["facts"]}
    assert facts == {"traces", "program"}


@pytest.mark.parametrize("line", ["broken", "[1]", '{"where": "x"}', '{"reason": 1}'])
def test_a_broken_list_of_dropped_rows_is_one_error_with_its_line(folder, tmp_path, line):
    with (folder / "dropped.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"dropped\.jsonl, line 7"):
        write_data_report(folder, tmp_path / "data.html")


def test_options_of_evaluations_are_refused_for_training_data(folder, tmp_path):
    for options in ({"tables": [tmp_path / "t.csv"]}, {"references": True}):
        with pytest.raises(UsageError, match="training data"):
            write_run_report([folder], tmp_path / "data.html", **options)
    save_traces([], tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match="--masks with training data"):
        write_run_report([tmp_path / "empty.jsonl"], tmp_path / "data.html", masks="tiny")


def test_numbers_of_a_synthesis_equal_its_summary(tmp_path):
    settings = SynthSettings(
        source="pixelworld",
        count=40,
        families=("attribute",),
        budgets=folder_settings(BUNDLED_MODELS["tiny"]).budgets,
    )
    summary = synthesize(settings, scene_units(settings), tmp_path / "synth")
    numbers, keys = DataNumbers(), KeyReader()
    traces = list(load_run(tmp_path / "synth"))
    for one in traces:
        numbers.add(one, keys.key(one))
    assert {k.replace(" ", "_"): n for k, n in numbers.kinds.items()} == summary["kinds"]
    marked = [one for one in traces if any(turn.mistake for turn in one.turns)]
    assert numbers.num_with_mistake == numbers.num_corrected == len(marked)
    assert sum(numbers.mistakes.values()) == sum(len(mistakes_of(one)) for one in marked)
    twice = [one for one in traces if classify_trace(one) == "wrong_twice"]
    assert all(mistakes_of(one) == [MISSES] * 2 for one in twice)


# --- histograms ---


@given(st.lists(st.integers(0, 10**6), max_size=50), st.integers(1, 12))
def test_a_histogram_of_lengths_counts_each_value_in_its_bin(values, max_bins):
    bins = length_histogram(values, max_bins)
    assert len(bins) <= max_bins
    for label, height in bins:
        low, high = map(int, label.split("–"))
        assert height == sum(low <= value <= high for value in values)
    assert sum(one.height for one in bins) == len(values)


@given(st.lists(st.integers(0, 20), max_size=50), st.integers(1, 12))
def test_a_histogram_of_numbers_joins_the_largest(values, most):
    bins = count_histogram(values, most)
    assert sum(one.height for one in bins) == len(values)
    counts = Counter(min(value, most) for value in values)
    assert [one.height for one in bins] == [counts[n] for n in range(len(bins))]


@given(st.lists(st.floats(0, 1.5), max_size=50))
def test_a_histogram_of_areas_counts_every_value(values):
    assert sum(one.height for one in area_histogram(values)) == len(values)


# --- masks ---


@given(st.lists(st.tuples(st.booleans(), st.text("ab", max_size=2))))
def test_merged_segments_have_the_same_characters_and_marks(spans):
    merged = merge_segments(spans)
    marks = [(trained, letter) for trained, text in spans for letter in text]
    assert [(one.is_trained, letter) for one in merged for letter in one.text] == marks
    for one, other in pairwise(merged):
        assert one.is_trained != other.is_trained
    assert all(one.text for one in merged)


@pytest.mark.extras
def test_masks_are_those_of_training(tmp_path):
    from pixel_reasoner.workflows.traces import masked_traces

    settings = SynthSettings(
        source="pixelworld",
        count=24,
        families=("attribute",),
        budgets=folder_settings(BUNDLED_MODELS["tiny"]).budgets,
    )
    synthesize(settings, scene_units(settings), tmp_path / "synth")
    write_data_report(tmp_path / "synth", tmp_path / "data.html", masks="tiny")
    masks = {}
    for item in items_of(tmp_path / "data.html"):
        segments = item["traces"][0]["mask"]
        masks[item["question"]["id"]] = [(one["is_trained"], one["text"]) for one in segments]
    assert len(masks) == 24
    compared = list(masked_traces(tmp_path / "synth", "tiny"))
    assert len(compared) > 3
    for one in compared:
        merged = merge_segments([(trained, "".join(tokens)) for trained, tokens in one.spans])
        assert masks[one.question_id] == [(part.is_trained, part.text) for part in merged]
        trained = "".join(text for is_trained, text in masks[one.question_id] if is_trained)
        assert "boxed" in trained


def test_a_missing_extra_is_a_text_that_says_how_to_install(folder, tmp_path, monkeypatch):
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [one for one in sys.modules if one.startswith("pixel_reasoner.models.local")]:
        monkeypatch.delitem(sys.modules, name)
    write_data_report(folder, tmp_path / "data.html", masks="tiny")
    text = section(report_of(tmp_path / "data.html"), "Loss mask")
    assert text["is_warning"]
    assert "pip install -e '.[local]'" in text["text"]
    assert all("mask" not in item["traces"][0] for item in items_of(tmp_path / "data.html"))


def test_the_page_states_how_masks_are_shown_and_for_how_many_traces(folder, found):
    assert "--masks" in section(found, "Loss mask")["text"]
    assert MAX_MASKED == 200, "as the help of --masks states"
