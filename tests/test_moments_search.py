"""Search of moments: exact ends from few frames, answers that cannot be read, failures, resuming."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

import pixel_reasoner as pr
from cli_fixture import assert_refused
from doc_blocks import ROOT, blocks, run_commands, run_python
from moments_fixture import RATES, shown_numbers, write_test_clip
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media import videos
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.moments_api import (
    ClipOptions,
    FindSpec,
    SearchOptions,
    estimate_find,
    read_queries,
    summary_lines,
    write_find,
)
from pixel_reasoner.rollout.scheduler import RolloutScheduler, get_scheduler
from pixel_reasoner.workflows.moments import video_index
from pixel_reasoner.workflows.moments.replies import labelled, parse_boxes, parse_frames
from pixel_reasoner.workflows.moments.scores import FrameScores
from pixel_reasoner.workflows.moments.spans import Span

pytest.importorskip("scenedetect", reason="needs the extra `workflows`")
EVENTS = {"A": [(70, 200), (301, 330)], "B": [(150, 180)], "C": []}
TEXTS = ["a car", "a dog", "a cat"]
NUM_FRAMES = 400


def answers(times_s, events=EVENTS, *, box="100 200 300 400", unsure=()):
    """A script that answers from the times in the question."""

    def reply(messages) -> str:
        text = "\n".join(
            part["text"]
            for message in messages
            if not isinstance(message["content"], str)
            for part in message["content"]
            if part["type"] == "text"
        )
        labels = re.findall(r"^([A-Z]): ", text, re.MULTILINE)
        if not labels:
            return rf"\boxed{{{box}}}"
        shown = [(int(n), float(t)) for n, t in re.findall(r"(\d+) at ([\d.]+) s", text)]
        entries = []
        for label in labels:
            named = [
                f"{number}{'?' if label in unsure else ''}"
                for number, time in shown
                if any(
                    float(times_s[a]) - 6e-4 <= time < float(times_s[b]) - 6e-4
                    for a, b in events[label]
                )
            ]
            entries.append(f"{label}: {', '.join(named) or 'none'}")
        return rf"\boxed{{{'; '.join(entries)}}}"

    return reply


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {
        rate: write_test_clip(folder / f"{rate}.mp4", rate, NUM_FRAMES, sound=False)
        for rate in RATES
    }


# --- spans ---


@pytest.mark.parametrize("rate", RATES)
def test_moments_have_exact_ends_from_few_frames_at_any_rate(clips, rate):
    clip = clips[rate]
    (found,) = pr.find_moments(clip.path, TEXTS, ScriptedModel(answers(clip.times_s)))
    spans = [(m.query.label, m.span.first, m.span.end) for m in found.moments]
    assert spans == [("A", 70, 200), ("B", 150, 180), ("A", 301, 330)]
    assert all(one.uncertain_frames == 0 and one.score == 1 for one in found.moments)
    for moment in found.moments:
        assert abs(moment.start_s - clip.times_s[moment.span.first]) < Fraction(1, 10_000)
        assert abs(moment.end_s - clip.times_s[moment.span.end]) < Fraction(1, 10_000)
    assert found.num_asked == sum(len(one.pictures) for one in found.traces)
    assert found.full_size_share < 0.25, (
        "a clip of seconds with three moments, in which every frame changes"
    )
    assert found.unsampled == ()
    assert found.error is None


def test_the_packets_of_a_video_are_read_once_for_all_questions(clips, tmp_path, monkeypatch):
    path = tmp_path / "long.mp4"
    shutil.copyfile(clips["25"].path, path)
    reads = []
    for module, name in ((videos, "_PacketReader"), (video_index, "_Packets")):
        reader = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, r=reader, n=name: reads.append(n) or r(*a))
    model = ScriptedModel(answers(clips["25"].times_s))
    for _ in range(2):
        (found,) = pr.find_moments(path, TEXTS, model)
    assert len(found.traces) > 5
    assert sorted(reads) == ["_PacketReader", "_Packets"]
    shutil.copyfile(clips["60"].path, path)
    (found,) = pr.find_moments(path, TEXTS, ScriptedModel(answers(clips["60"].times_s)))
    assert found.index.rate.per_s == 60, "a changed file is read again"


def test_moments_at_both_ends_of_a_video_are_whole(clips):
    clip = clips["25"]
    events = {"A": [(0, 30), (390, 400)]}
    script = answers(clip.times_s, events)
    (found,) = pr.find_moments(clip.path, "a car", ScriptedModel(script))
    assert [one.span for one in found.moments] == [Span(0, 30), Span(390, 400)]
    assert found.moments[1].end_s == found.index.duration_s


def test_not_found_is_a_result_and_near_misses_are_apart(clips):
    clip = clips["25"]
    script = answers(clip.times_s, unsure=("B",))
    (found,) = pr.find_moments(clip.path, TEXTS, ScriptedModel(script))
    assert {one.query.text for one in found.moments} == {"a car"}
    assert {one.query.text for one in found.near} == {"a dog"}
    assert found.near[0].score == 0.5
    assert 150 <= found.near[0].span.first < found.near[0].span.end <= 180
    assert found.of(found.queries[2]) == []


def test_answers_that_cannot_be_read_are_not_searched_and_not_found(clips):
    (found,) = pr.find_moments(clips["25"].path, TEXTS, ScriptedModel([r"\boxed{I like cars}"]))
    assert found.moments == ()
    assert found.error == "no readable answer"
    assert found.unsampled[0][0] == Span(0, NUM_FRAMES)


def test_a_part_without_an_answer_is_listed(clips):
    clip = clips["25"]
    script = answers(clip.times_s)

    def partly(messages) -> str:
        return r"\boxed{?!}" if "1 at 3.600 s" in str(messages) else script(messages)

    options = SearchOptions(num_frames=4, shots=False)
    (found,) = pr.find_moments(clip.path, TEXTS, ScriptedModel(partly), search=options)
    assert found.error is None
    assert found.unsampled
    span, reason = found.unsampled[0]
    assert reason == "no readable answer"
    assert 3 <= found.index.time_s(span.first) < found.index.time_s(span.end) <= 6.5


def test_each_shot_gets_a_frame(tmp_path):
    rng = np.random.default_rng(1)
    scenes = [
        rng.integers(0, 255, (8, 12, 3), np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(3)
    ]
    clip = write_test_clip(
        tmp_path / "a.mp4",
        "25",
        150,
        pictures=lambda n: scenes[1 if 62 <= n < 76 else 0 if n < 62 else 2],
        sound=False,
    )
    events = {"A": [(62, 76)]}
    search = SearchOptions(step_s=Fraction(6), num_frames=1)
    script = answers(clip.times_s, events)
    (found,) = pr.find_moments(clip.path, "a car", ScriptedModel(script), search=search)
    assert [one.span for one in found.moments] == [Span(62, 76)]
    assert found.moments[0].shots == (2,)
    blind = SearchOptions(step_s=Fraction(6), num_frames=1, shots=False)
    (missed,) = pr.find_moments(clip.path, "a car", ScriptedModel(script), search=blind)
    assert len(missed.shots) == 1


def test_a_moment_shorter_than_the_step_is_found_where_the_picture_changes(tmp_path):
    still = np.full((128, 192, 3), 90, np.uint8)
    lamp = still.copy()
    lamp[30:60, 80:120] = 230
    event = range(30, 36)  # 0.24 s, between two samples
    clip = write_test_clip(
        tmp_path / "a.mp4", "25", 100, pictures=lambda n: lamp if n in event else still, sound=False
    )
    script = answers(clip.times_s, {"A": [(30, 36)]})
    (found,) = pr.find_moments(clip.path, "a lamp", ScriptedModel(script))
    assert [one.span for one in found.moments] == [Span(30, 36)]
    blind = SearchOptions(shots=False)
    (missed,) = pr.find_moments(clip.path, "a lamp", ScriptedModel(script), search=blind)
    assert missed.moments == ()
    spec = FindSpec(out=tmp_path / "out", videos=(str(clip.path),), queries=("a lamp",))
    assert "shorter than 0.8 s may be missed" in estimate_find(spec).lines[-1]


def test_nothing_is_asked_in_addition_where_nothing_changes(tmp_path):
    still = np.full((128, 192, 3), 90, np.uint8)
    clip = write_test_clip(tmp_path / "a.mp4", "25", 100, pictures=lambda n: still, sound=False)
    script = answers(clip.times_s, {"A": []})
    asked = [
        next(pr.find_moments(clip.path, "a lamp", ScriptedModel(script), search=search)).num_asked
        for search in (SearchOptions(), SearchOptions(shots=False))
    ]
    assert asked[0] == asked[1]


@given(
    st.lists(st.tuples(st.integers(0, 95), st.integers(1, 30)), max_size=4),
    st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_refined_runs_are_the_true_spans_where_each_was_sampled(pairs, step):
    truth = {frame for first, length in pairs for frame in range(first, min(120, first + length))}
    scores = FrameScores(120)
    for frame in range(0, 120, step):
        scores.add(frame, Fraction(frame in truth))
    while gaps := scores.gaps():
        for gap in gaps:
            middle = (gap.first + gap.end) // 2
            scores.add(middle, Fraction(middle in truth))
    for run in scores.runs():
        assert run.unknown == 0
        first, end = run.span.first, run.span.end
        assert first in truth
        assert end - 1 in truth
        assert first == 0 or first - 1 not in truth
        assert end == 120 or end not in truth


# --- answers ---


@given(st.text("AB:;,.-? 0123456789none\nto", max_size=40), st.integers(1, 9))
@example("A: 1-99999999999; B: 3", 4)
@example("A: 0", 4)
@settings(max_examples=150, deadline=None)
def test_any_answer_gives_known_labels_and_frames_or_nothing(text, num_frames):
    queries = labelled(["x", "y"])
    found = parse_frames(text, queries, num_frames)
    for label, scores in (found or {}).items():
        assert label in ("A", "B")
        assert all(1 <= frame <= num_frames for frame in scores)
        assert set(scores.values()) <= {Fraction(1), Fraction(1, 2)}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A: 2-4; B: none", {"A": {2, 3, 4}, "B": set()}),
        ("A = 2 to 3\nB: 7?", {"A": {2, 3}, "B": {7}}),
        ("(A): frames 2, 5 and 6. B: no frames", {"A": {2, 5, 6}, "B": set()}),
        ("A: 9-12; B: -", {"A": set(), "B": set()}),
        ("A: yes", None),
        ("2-4", None),
        (None, None),
    ],
)
def test_usual_forms_of_answers_are_read(answer, expected):
    found = parse_frames(answer, labelled(["x", "y"]), 8)
    shown = found and {label: set(scores) for label, scores in found.items()}
    assert shown == expected


@given(st.text("0123456789., ;[]-none", max_size=40))
@settings(max_examples=100, deadline=None)
def test_boxes_of_any_answer_are_within_the_frame(text):
    for box in parse_boxes(text):
        assert 0 <= box.x1 < box.x2 <= 1
        assert 0 <= box.y1 < box.y2 <= 1


# --- options ---


def test_options_that_make_no_sense_are_usage_errors(tmp_path):
    for values in ({"step_s": Fraction(0)}, {"num_frames": 0}, {"samples": 0}):
        with pytest.raises(UsageError, match=r"at least|above"):
            SearchOptions(**values)
    for texts in ([], [" "], ["a", "a"], [str(n) for n in range(27)]):
        with pytest.raises(UsageError, match="description"):
            list(pr.find_moments("a.mp4", texts, ScriptedModel(["none"])))


def test_unknown_keys_of_a_query_file_are_rejected_with_the_nearest(tmp_path):
    path = tmp_path / "queries.toml"
    for text, match in (
        ('[[query]]\ntxt = "a"', "'text'"),
        ('[[quary]]\ntext = "a"', "'query'"),
        ("[[query]]", "without text"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=match):
            read_queries(path)
    path.write_text("[[query")
    with pytest.raises(InputError, match="TOML"):
        read_queries(path)
    path.write_text('[[query]]\ntext = "a"\n[[query]]\ntext = "b"')
    assert read_queries(path) == ["a", "b"]


# --- runs in a folder ---


@pytest.fixture
def search(clips, tmp_path):
    clip = clips["25"]
    broken = tmp_path / "in" / "broken.mp4"
    broken.parent.mkdir()
    broken.write_bytes(clip.path.read_bytes()[:5000])
    (tmp_path / "in" / "picture.png").write_bytes(b"")
    (tmp_path / "in" / "good.mp4").write_bytes(clip.path.read_bytes())
    model = ScriptedModel(answers(clip.times_s))
    spec = FindSpec(
        out=tmp_path / "run",
        videos=(str(tmp_path / "in"),),
        queries=tuple(TEXTS),
        formats=("edl", "vtt"),
        clips=ClipOptions(thumbnails=True),
        report=False,
    )
    return spec, model


def test_broken_files_are_one_line_each_and_the_rest_goes_on(search):
    spec, model = search
    summary = write_find(replace(spec, report=True), model)
    states = {one.video.name: one.error for one in summary.results}
    assert states["good.mp4"] is None
    assert "truncated" in states["broken.mp4"] or "not a video" in states["broken.mp4"]
    assert "expected a video" in states["picture.png"]
    assert summary.num_failed == 2
    assert [one.kind for one in summary.made] == ["thumbnail"] * 3
    table = (spec.out / "moments.csv").read_text(encoding="utf-8-sig")
    assert table.count(",found,") == 3
    assert table.count(",error,") == 2
    assert table.count(",not found,") == 1
    for name in ("report.html", "contact-sheet.webp", "rows.csv", "exports/moments.edl"):
        assert (spec.out / name).stat().st_size > 200
    lines = list(summary_lines(summary))
    assert any(line.startswith("not found: a cat") for line in lines)


def test_a_second_run_asks_nothing_and_gives_the_same(search):
    spec, model = search
    first = write_find(spec, model)
    before = (spec.out / "moments.csv").read_bytes()
    silent = ScriptedModel(lambda messages: pytest.fail("asked again"))
    again = write_find(spec, silent)
    assert (spec.out / "moments.csv").read_bytes() == before
    assert [m.span for r in again.results for m in r.moments] == [
        m.span for r in first.results for m in r.moments
    ]
    assert all(one.note.startswith("exists") for one in again.made)
    assert again.problems == ()


def test_a_corrected_table_replaces_the_search(search, tmp_path):
    spec, model = search
    write_find(spec, model)
    lines = (spec.out / "moments.csv").read_text(encoding="utf-8-sig").splitlines()
    good = next(line for line in lines if ",found," in line).split(",")
    late = [*good[:4], "99", "100", *good[6:]]
    table = tmp_path / "corrected.csv"
    table.write_text("\n".join([lines[0], ",".join(good), ",".join(late)]))
    made = write_find(
        FindSpec(out=tmp_path / "cut", spans=table, clips=ClipOptions(cut="exact"), report=False)
    )
    assert [one.kind for one in made.made] == ["cut"]
    assert len(made.problems) == 1
    assert "corrected.csv, line 3" in made.problems[0]
    assert made.num_failed == 1


def test_a_folder_with_other_settings_is_rejected(search):
    spec, model = search
    write_find(spec, model)
    other = FindSpec(out=spec.out, videos=spec.videos, queries=("a boat",))
    with pytest.raises(UsageError, match="queries"):
        write_find(other, model)


def test_subjects_are_located_where_an_output_needs_them(clips, tmp_path):
    clip = clips["25"]
    spec = FindSpec(
        out=tmp_path / "run",
        videos=(str(clip.path),),
        queries=("a car",),
        clips=ClipOptions(reframe=Fraction(1)),
        report=False,
    )
    summary = write_find(spec, ScriptedModel(answers(clip.times_s, {"A": [(70, 100)]})))
    (moment,) = summary.results[0].moments
    assert set(moment.boxes) == {70, 99}
    assert moment.boxes[70][0] == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert summary.made[0].error is None


# --- estimate and command ---


def test_the_estimate_is_near_the_cost(search):
    spec, model = search
    cost = estimate_find(spec)
    summary = write_find(spec, model)
    asked = sum(one.num_asked for one in summary.results)
    assert cost.num_videos == 1
    assert cost.num_frames == NUM_FRAMES
    assert cost.coarse_frames <= asked <= 2 * (cost.coarse_frames + cost.fine_frames)
    assert all(word in "\n".join(cost.lines) for word in ("calls", "tokens", "frames", "s of"))


def test_the_command_prints_the_estimate_and_stops(run, clips, tmp_path):
    video, out = str(clips["25"].path), tmp_path / "r"
    code, printed, _ = run("find", video, "-q", "a car", "--out", str(out), "--estimate")
    assert code == 0
    assert "estimate: " in printed
    assert not out.exists()


def test_the_note_of_a_model_that_cannot_find_is_printed(run, clips, tmp_path):
    given = (
        "find",
        str(clips["25"].path),
        "-q",
        "a car",
        "--out",
        str(tmp_path / "r"),
        "--estimate",
    )
    assert run(*given)[2].startswith("note: This small model only supports PixelWorld")
    endpoint = run(*given, "--endpoint", "http://127.0.0.1:9/v1")
    assert (endpoint[0], endpoint[2]) == (0, "")


def test_a_redaction_needs_a_model_that_finds_its_subjects_or_known_boxes(run, clips, tmp_path):
    out = tmp_path / "r"
    given = ("find", str(clips["25"].path), "-q", "a car", "--out", str(out), "--redact", "box")
    result = run(*given)
    assert_refused(result, "tiny", "--model", "--spans")
    assert len(result[2].splitlines()) == 1
    assert not out.exists()


def test_a_missing_annotation_is_an_error_before_the_estimate(run, clips, tmp_path):
    video = str(clips["25"].path)
    no = tmp_path / "no"
    assert_refused(
        run("find", video, "-q", "a", "-o", str(tmp_path / "r"), "--annotation", str(no))
    )


def test_the_python_example_of_the_page_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = blocks(ROOT / "docs" / "find.md")
    at = next(n for n, one in enumerate(page) if one.language == "python")
    run_python(page[at].text, {"__name__": "__page__"}, "find.md")
    assert capsys.readouterr().out == page[at + 1].text


def test_the_command_cuts_a_corrected_table(run, clips, tmp_path):
    table = tmp_path / "spans.csv"
    table.write_text(f"video,query,start_s,end_s\n{clips['25'].path},a car,2.8,8\nno.mp4,x,0,1\n")
    out = tmp_path / "r"
    code, printed, err = run(
        "find", "--spans", str(table), "--out", str(out), "--cut", "--export", "edl,srt"
    )
    assert code == 3
    assert "no.mp4" in err
    assert "cut: " in printed
    assert {path.name for path in (out / "exports").iterdir()} == {"moments.edl", "25.srt"}
    assert shown_numbers(out / "clips" / "001-a-car.mp4") == list(range(70, 200))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.mp4", "-q", "x"], ["--out"]),
        (["nowhere.mp4", "-q", "x", "-o", "r"], ["nowhere.mp4"]),
        (["-q", "x", "-o", "r"], []),
        (["CLIP", "-o", "r"], ["descriptions"]),
        (["CLIP", "-q", "x", "-o", "r", "--export", "mp3"], ["'mp3'"]),
        (["CLIP", "-q", "x", "-o", "r", "--reframe", "9x16"], ["9:16"]),
        (["CLIP", "-q", "x", "-o", "r", "--redact", "smear"], ["box, pixelate, blur"]),
        (["CLIP", "-q", "x", "-o", "r", "--cut-mode", "fast"], ["without --cut"]),
        (["CLIP", "-q", "x", "-o", "r", "--every", "soon"], ["--every"]),
        (["--spans", "no.csv", "-o", "r"], ["no.csv"]),
        (["--spans", "no.csv", "-q", "x", "-o", "r"], ["--spans FILE", "both"]),
    ],
)
def test_mistakes_in_the_command_are_one_message(
    run, clips, tmp_path, arguments, words, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = [str(clips["25"].path) if one == "CLIP" else one for one in arguments]
    assert_refused(run("find", *given), *words)
    assert list(tmp_path.iterdir()) == []


def test_the_first_commands_of_the_page_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = next(one for one in blocks(ROOT / "docs" / "find.md") if one.language == "bash")
    run_commands(first.text.replace("--duration-s 40", "--duration-s 5"), run)
    out = tmp_path / "runs" / "moments"
    assert (out / "report.html").exists()
    assert (out / "moments.csv").read_text(encoding="utf-8-sig").count("a blue cat,not found") == 1


def test_open_frames_of_questions_in_progress_are_limited(monkeypatch, clips):
    from pixel_reasoner.workflows.moments import find

    clip = clips["25"]
    model = ScriptedModel(answers(clip.times_s))
    before = get_scheduler(model).max_cached_px
    most = [0]
    monkeypatch.setattr(find, "MAX_OPEN_PX", 4 * 192 * 128)
    submit = RolloutScheduler.submit

    def counted(scheduler, request, **options):
        most[0] = max(most[0], scheduler.num_unfinished + 1)
        return submit(scheduler, request, **options)

    monkeypatch.setattr(RolloutScheduler, "submit", counted)
    search = SearchOptions(step_s=Fraction(1, 2), num_frames=1, batch_size=16)
    (found,) = pr.find_moments(clip.path, TEXTS, model, search=search)
    assert [one.span for one in found.of(found.queries[1])] == [Span(150, 180)]
    assert most[0] == 4
    assert get_scheduler(model).max_cached_px == before
