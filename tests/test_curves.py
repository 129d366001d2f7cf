"""Reports of training runs: curves, groups of seeds, thinning, sampled traces, and pages of running jobs."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from page_fixture import charts, items_of, report_of, section
from pixel_reasoner.errors import InputError
from pixel_reasoner.reports.training import SFT_BATCH, write_training_report
from pixel_reasoner.reports.training_charts import (
    MAX_POINTS,
    final_value,
    group_by_seed,
    smoothed,
    thinned,
    training_charts,
)
from pixel_reasoner.reports.training_log import (
    LOG,
    RUN,
    read_log,
    read_training_run,
    rewards_path,
    sample_files,
)
from pixel_reasoner.reports.training_panels import PANELS, panels_of
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RunSettings, TrainingInfo
from pixel_reasoner.schema.trace import StopReason, Trace, Turn, save_traces
from report_fixture import HOSTILE

SETTINGS = {"model": "tiny", "group_size": 4, "minibatch": 8, "trl": {"max_steps": 40, "seed": 0}}


def write_run(folder: Path, rows: list[dict], settings: dict | None = None, **trl) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if settings is not None:
        fields = {**settings, "out": str(folder), "trl": {**settings.get("trl", {}), **trl}}
        (folder / RUN).write_text(json.dumps(fields))
    return folder


def steps(count: int, **values) -> list[dict]:
    """Return rows of a log; a value is a function of the step."""
    return [{"step": n, **{k: v(n) for k, v in values.items()}} for n in range(1, count + 1)]


def report(*folders: Path, **options) -> dict:
    page = folders[0].parent / "report.html"
    write_training_report(folders, page, **options)
    return report_of(page)


def drawn(report: dict, title: str) -> list[dict]:
    """Return the lines of a chart, without those before smoothing."""
    return [one for one in charts(report)[title]["series"] if not one["is_raw"]]


@pytest.fixture
def runs(tmp_path):
    rows = steps(40, rapr=lambda n: 0.2 + n / 100, loss=lambda n: -n, epoch=lambda n: n)
    rows[3]["rapr"] = None  # no rollouts in this step
    return [write_run(tmp_path / name, rows) for name in ("with curiosity", "without")]


# --- charts ---


def test_a_page_has_a_chart_for_each_logged_metric_with_one_line_per_run(runs):
    found = report(*runs)
    assert list(charts(found)) == ["RaPR: share of rollouts with an operation", "loss"]
    for title in charts(found):
        lines = drawn(found, title)
        assert [one["group"] for one in lines] == [0, 1]
        assert len({one["dash"] for one in lines}) == 2, "they differ in grey too"
        assert [one["name"].partition(":")[0] for one in lines] == ["with curiosity", "without"]
    assert 4 not in drawn(found, "RaPR: share of rollouts with an operation")[0]["x"]


def test_every_chart_has_an_explanation():
    assert all(panel.explanation for panel in PANELS)
    assert len({panel.title for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert len(panel.labels) == len(panel.names) * (len(panel.names) > 1)


def test_rewards_of_users_and_validation_have_charts_of_their_own():
    names = ["rewards/brief/mean", *(f"ask/video/{k}/accuracy" for k in ("overview", "needs_look"))]
    brief, validation = panels_of(names)
    assert (brief.title, brief.names) == ("reward: brief", ("rewards/brief/mean",))
    assert validation.title == "validation accuracy: video"
    assert validation.labels == ("needs look", "overview")


def test_equal_logs_give_equal_pages(runs, tmp_path):
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    for page in pages:
        write_training_report(runs, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_name_of_a_run_creates_no_tag(tmp_path):
    folder = write_run(tmp_path / HOSTILE.replace("/", " "), steps(2, loss=float))
    page = tmp_path / "page.html"
    write_training_report([folder], page)
    assert "<img src=x" not in page.read_text()
    assert "<img src=x" in report_of(page)["title"]


@given(
    st.lists(st.floats(-1e15, 1e15) | st.just(math.nan), min_size=1, max_size=300),
    st.integers(4, 40),
)
def test_thinning_keeps_the_ends_and_the_extremes(values, max_points):
    points = list(enumerate(values))
    kept = thinned(points, max_points)
    assert len(kept) <= max_points
    numbers = [n for n, _ in kept]
    assert numbers == sorted(set(numbers))
    assert {numbers[0], numbers[-1]} == {0, len(values) - 1}
    assert all(values[n] is value for n, value in kept), "values are unchanged"
    finite, shown = (
        [v for v in some if math.isfinite(v)] for some in (values, [v for _, v in kept])
    )
    if finite:
        assert (min(shown), max(shown)) == (min(finite), max(finite))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=200), st.floats(0, 1))
def test_smoothing_gives_means_over_the_window(values, share):
    reach = int(len(values) * share / 2)
    expected = [values[max(0, n - reach) : n + reach + 1] for n in range(len(values))]
    found = smoothed(list(enumerate(values)), share)
    assert [value for _, value in found] == pytest.approx(
        [sum(some) / len(some) for some in expected], abs=1e-9
    )


def test_a_long_log_is_thinned_and_the_page_states_it(tmp_path):
    count = 3 * MAX_POINTS
    rows = steps(count, loss=lambda n: 50.0 if n == 777 else n % 7)
    found = report(write_run(tmp_path / "run", rows))
    raw, line = charts(found)["loss"]["series"]
    assert raw["is_raw"]
    assert not line["is_raw"]
    assert max(raw["y"]) == 50.0
    assert len(raw["x"]) <= MAX_POINTS
    assert len(line["x"]) <= MAX_POINTS
    assert f"at most {MAX_POINTS:,} points" in found["sections"][1]["explanation"]


# --- groups of seeds ---


def seeds(tmp_path: Path) -> list[Path]:
    made = []
    for arm, alpha in (("curious", 0.5), ("plain", 0.0)):
        for seed in (0, 1, 2):
            rows = steps(10, accuracy=lambda n, seed=seed: 0.1 * seed + 0.01 * n)
            settings = {**SETTINGS, "reward": {"alpha": alpha}}
            made.append(write_run(tmp_path / f"{arm}-{seed}", rows, settings, seed=seed))
    return made


def test_runs_that_differ_only_in_the_seed_are_one_line_with_a_band(tmp_path):
    found = report(*seeds(tmp_path))
    lines = drawn(found, "accuracy of rollouts")
    assert [one["name"] for one in lines] == ["curious (3 seeds)", "plain (3 seeds)"]
    for line in lines:
        assert line["y"] == pytest.approx([0.1 + 0.01 * n for n in range(1, 11)])
        assert line["low"] == pytest.approx([0.01 * n for n in range(1, 11)])
        assert line["high"] == pytest.approx([0.2 + 0.01 * n for n in range(1, 11)])
        assert line["sizes"] == [3] * 10
    assert charts(found)["accuracy of rollouts"]["interval"] == "lowest to highest run"
    assert "the lowest to the highest run" in found["sections"][1]["explanation"]


def test_the_band_covers_the_runs_that_have_a_step(tmp_path):
    short = write_run(tmp_path / "a-0", steps(2, accuracy=lambda n: 0.0), SETTINGS, seed=0)
    long = write_run(tmp_path / "a-1", steps(3, accuracy=lambda n: 1.0), SETTINGS, seed=1)
    (line,) = drawn(report(short, long), "accuracy of rollouts")
    assert (line["y"], line["sizes"]) == ([0.5, 0.5, 1.0], [2, 2, 1])


def test_runs_without_settings_are_not_grouped(runs):
    names = [group.name for group in group_by_seed([read_training_run(one) for one in runs])]
    assert names == ["with curiosity", "without"]


def test_settings_that_differ_are_listed_and_the_others_are_common(tmp_path):
    found = report(*seeds(tmp_path))
    table = section(found, "Settings that differ")
    assert [row[0] for row in table["rows"]] == ["reward.alpha", "trl.seed"]
    assert table["rows"][1][1:] == ["0", "1", "2"] * 2
    assert {one["name"] for one in found["settings"]} == {
        "group_size", "minibatch", "model", "trl.max_steps",
    }  # fmt: skip


def test_the_header_states_model_steps_and_size_of_a_step(tmp_path):
    rows = steps(30, loss=float, **{"seconds/step": lambda n: 4.0})
    found = report(write_run(tmp_path / "run", rows, SETTINGS))
    facts = {one["name"]: one["value"] for one in found["facts"]}
    assert facts == {
        "method": "RL (GRPO)",
        "model": "tiny",
        "steps": "30 of 40",
        "time": "2.0\u00a0min",
        "per step": "8 rollouts",
        "state": "unfinished",
    }
    (tmp_path / "run" / "model").mkdir()
    facts = {one["name"]: one["value"] for one in report(tmp_path / "run")["facts"]}
    assert facts["state"] == "finished"


def test_a_final_value_is_the_mean_of_the_last_values():
    assert final_value([(n, float(n)) for n in range(1, 41)]) == 39.5
    assert final_value([(1, math.nan)]) is None


def test_a_table_contains_the_final_values_of_each_run(tmp_path):
    table = section(report(*seeds(tmp_path)), "Final values")
    assert [column["title"] for column in table["columns"]][-1] == "accuracy of rollouts"
    assert [row[0] for row in table["rows"]] == [
        f"{a}-{n}" for a in ("curious", "plain") for n in range(3)
    ]
    assert [row[-1] for row in table["rows"]] == pytest.approx([0.1, 0.2, 0.3] * 2)


# --- logs ---


def test_the_error_of_a_missing_or_broken_log_names_it(tmp_path):
    with pytest.raises(InputError, match="with its log"):
        read_log(tmp_path)
    (tmp_path / LOG).write_text('{"step": 1}\nbroken\n')
    with pytest.raises(InputError, match="line 2"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"loss": 1}', "step is not a number"),
        ('{"step": "<script>"}', "step is not a number"),
        ('{"step": 1, "loss": [1]}', "loss is not a number"),
        ('{"step": 1, "loss": "1"}', "loss is not a number"),
        ('{"step": 1, "loss": {"value": 1}}', "loss is not a number"),
        ('{"step": 1, "rapr": true}', "rapr is not a number"),
        ('{"step": NaN}', "step is not a whole number"),
        ('{"step": -1}', "step is not a whole number"),
        ("[1, 2]", "a JSON list"),
        ("[" * 10_000, "nested more than 64 levels"),
        ('{"step": 1, "note": "\\ud800"}', "surrogate"),
    ],
)
def test_an_invalid_log_value_is_one_error_with_its_line(tmp_path, row, problem):
    (tmp_path / LOG).write_text('{"step": 1}\n' + row + "\n")
    with pytest.raises(InputError, match=f"line 2: .*{problem}"):
        write_training_report([tmp_path], tmp_path / "curves.html")
    assert not (tmp_path / "curves.html").exists()


def test_values_that_are_no_metrics_are_left_out(tmp_path):
    write_run(tmp_path, [{"step": 1, "note": "x", "own": [1], "other": 2}])
    assert read_log(tmp_path) == [{"step": 1, "other": 2}]


def test_non_finite_metrics_are_a_gap_in_the_curve(tmp_path):
    values = ("1", "NaN", "-Infinity", "1e999", "1" + "0" * 400, "1e308", "2")
    lines = [f'{{"step": {n}, "loss": {value}}}\n' for n, value in enumerate(values)]
    (tmp_path / LOG).write_text("".join(lines))
    gap = [pytest.approx(math.nan, nan_ok=True)] * 5
    assert [row["loss"] for row in read_log(tmp_path)] == [1, *gap, 2]
    write_training_report([tmp_path], tmp_path / "page.html")
    (line,) = drawn(report_of(tmp_path / "page.html"), "loss")
    assert line["y"] == [1, None, None, None, None, None, 2]


def test_a_run_without_a_step_is_a_page_that_says_so(tmp_path):
    (tmp_path / RUN).write_text(json.dumps(SETTINGS))
    write_training_report([tmp_path], tmp_path / "page.html")
    assert "No step has been logged yet" in (tmp_path / "page.html").read_text()


def test_an_sft_run_of_an_earlier_version_shows_the_metrics_of_its_newest_checkpoint(tmp_path):
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        history = [{"step": n, "loss": 1.0 / n} for n in range(1, step + 1)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    (tmp_path / RUN).write_text(json.dumps({"traces": ["a"], "model": "tiny", "trl": {}}))
    run = read_training_run(tmp_path)
    assert (run.last_step, run.is_rl, run.metrics) == (10, False, ["loss"])
    (chart,) = training_charts(group_by_seed([run]))[0].charts
    assert len(chart.series[0].x) == 10
    facts = {one["name"]: one["value"] for one in report(tmp_path)["facts"]}
    assert facts["per step"] == "128 examples per process"


@pytest.mark.extras
def test_the_batch_of_sft_is_that_of_the_trainer():
    from pixel_reasoner.train.trl_config import SFT_DEFAULTS

    assert {name: str(SFT_DEFAULTS[name]) for name in SFT_BATCH} == SFT_BATCH


# --- sampled traces ---


def sampled(folder: Path) -> Path:
    """Write a run with rollouts of two steps and validation answers."""
    write_run(folder, steps(20, accuracy=lambda n: 0.5), SETTINGS)
    for step in (10, 20):
        traces = [rollout(f"q{step}-{n}", step) for n in range(3)]
        path = folder / "samples" / f"rollouts-{step}.jsonl"
        save_traces(traces, path)
        terms = [{"correctness": 1.0, "advantage": value} for value in (0.5, -0.25, 0.0)]
        if step == 20:
            rewards_path(path).write_text(json.dumps({"rollouts": terms}))
    save_traces([rollout("v", 20)], folder / "samples" / "step-20.jsonl")
    return folder


def rollout(name: str, step: int) -> Trace:
    asked = Question(id=name, text="Which colour?", media=(), answer=("red",))
    settings = RunSettings(training=TrainingInfo(step=step))
    turn = Turn(text="red")
    return Trace(question=asked, turns=(turn,), stop=StopReason.NO_ANSWER, settings=settings)


def test_sampled_traces_follow_the_latest_step_first_with_their_rewards(tmp_path):
    folder = sampled(tmp_path / "run")
    assert [(one.step, one.is_rollouts) for one in sample_files(folder)] == [
        (20, True), (20, False), (10, True),
    ]  # fmt: skip
    found = report(folder)
    facets = [(e["facets"]["step"][0], e["facets"]["phase"][0]) for e in found["entries"]]
    assert facets == [("20", "rollout")] * 3 + [("20", "validation")] + [("10", "rollout")] * 3
    signs = [e["facets"].get("advantage") for e in found["entries"]]
    assert signs == [["positive"], ["negative"], ["none"], None, None, None, None]
    first = dict(items_of(tmp_path / "report.html")[0]["traces"][0]["facts"])
    assert first["reward, correctness"] == "1"
    assert first["advantage"] == "0.5"


def test_rollouts_have_the_grade_of_the_reward_and_validation_that_of_evaluations(tmp_path):
    outcomes = [entry["outcome"] for entry in report(sampled(tmp_path / "run"))["entries"]]
    assert outcomes == ["unparsed"] * 3 + ["right"] + ["unparsed"] * 3


def test_the_latest_traces_are_shown_up_to_the_limit(tmp_path):
    page = tmp_path / "page.html"
    written = write_training_report([sampled(tmp_path / "run")], page, limit=2)
    assert written.is_shortened
    assert [entry["id"] for entry in report_of(page)["entries"]] == ["q20-0", "q20-1"]
    assert not write_training_report([tmp_path / "run"], page, limit=7).is_shortened


def test_several_runs_have_a_filter(tmp_path):
    found = report(sampled(tmp_path / "a"), sampled(tmp_path / "b"))
    assert {entry["facets"]["run"][0] for entry in found["entries"]} == {"a", "b"}
    assert "run" in found["filters"]


# --- running jobs ---


def watched(folder: Path, page: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pixel_reasoner.cli", "report", str(folder), "--watch"]
    return subprocess.Popen(
        [*command, "--every", "1", "--out", str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background ignores Ctrl-C, and its child processes inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_steps(page: Path, count: int) -> dict:
    deadline = time.monotonic() + 60
    while True:
        if page.exists():
            found = report_of(page)
            if count in next(iter(charts(found).values()))["series"][0]["x"]:
                return found
        assert time.monotonic() < deadline, "the page did not get the step"
        time.sleep(0.05)


@pytest.mark.medium
def test_a_watched_page_grows_with_the_log_and_ends_with_the_run(tmp_path):
    folder = write_run(tmp_path / "run", steps(3, loss=float), SETTINGS)
    page = tmp_path / "page.html"
    process = watched(folder, page)
    assert wait_for_steps(page, 3)["refresh_s"] == 1
    with (folder / LOG).open("a") as log:
        log.write('{"step": 4, "loss": 0.5}\n')
    wait_for_steps(page, 4)
    with (folder / LOG).open("a") as log:
        log.write('{"step": 5, "lo')  # a row that is being written
    time.sleep(1.5)
    assert process.poll() is None
    wait_for_steps(page, 4)
    with (folder / LOG).open("a") as log:
        log.write('ss": 0.25}\n')
    wait_for_steps(page, 5)
    (folder / "model").mkdir()
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, "The run is finished" in out) == (0, True)
    assert all(line.startswith("the page before is kept") for line in errors.splitlines())
    assert report_of(page)["refresh_s"] == 0


@pytest.mark.medium
def test_ctrl_c_leaves_the_last_page_and_exit_code_130(tmp_path):
    folder = write_run(tmp_path / "run", steps(3, loss=float), SETTINGS)
    page = tmp_path / "page.html"
    process = watched(folder, page)
    wait_for_steps(page, 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped" in errors
    assert charts(report_of(page))
    assert {one.name for one in tmp_path.iterdir()} == {"run", "page.html"}


# --- phases of a step ---


def test_the_chart_of_phases_shows_shares_of_the_seconds_that_add_up_to_1(tmp_path):
    rows = steps(
        40,
        **{
            "seconds/generation": lambda n: 30.0 if n % 4 == 1 else 0.0,
            "seconds/update": lambda n: 10.0,
            "seconds/ranks": lambda n: 2.5,
            "seconds/data": lambda n: 0.0,
        },
    )
    found = charts(report(write_run(tmp_path / "rl", rows, SETTINGS)))["phases of a step"]
    names = [one["name"] for one in found["series"]]
    assert names == ["update", "generation", "waiting for processes"], "no phase without seconds"
    assert found["kind"] == "areas"
    columns = list(zip(*(one["y"] for one in found["series"]), strict=True))
    assert all(sum(values) == pytest.approx(1, abs=1e-4) for values in columns)
    update, generation, _ = columns[20]
    assert 0.3 < update < 0.7, "seconds of several steps: those with rollouts last longer"
    assert 0.2 < generation < 0.6


def test_several_runs_have_a_chart_of_phases_each_and_runs_without_phases_have_none(tmp_path):
    rows = steps(5, **{"seconds/update": lambda n: 1.0})
    folders = [write_run(tmp_path / name, rows) for name in ("one", "two")]
    folders.append(write_run(tmp_path / "old", steps(5, loss=float)))
    titles = [name for name in charts(report(*folders)) if name.startswith("phases")]
    assert titles == ["phases of a step: one", "phases of a step: two"]
