"""Synthesis runs: equal bytes under any schedule, no loss, no duplicates, and a reason for every dropped row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attacks.kills import differing_names, files_without_times
from PIL import Image

from conftest import full_disk
from pixel_reasoner.data.check import check_traces
from pixel_reasoner.data.expert import classify_trace
from pixel_reasoner.data.synth import PICTURE_SHARES, SynthSettings, scene_units, synthesize
from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.files import TEMPORARY_PREFIX
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.runs.store import read_manifest
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.sources.rows import SkippedRow

BUDGETS = folder_settings(BUNDLED_MODELS["tiny"]).budgets


def settings(**changes) -> SynthSettings:
    return SynthSettings(
        **{"source": "pixelworld", "count": 40, "families": ("attribute",), "budgets": BUDGETS}
        | changes
    )


def run(out: Path, workers: int = 1, **changes) -> bytes:
    chosen = settings(**changes)
    synthesize(chosen, scene_units(chosen), out, workers=workers)
    return (out / "traces.jsonl").read_bytes()


@pytest.mark.medium
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    both = {"families": ("attribute", "video"), "count": 12}
    assert run(tmp_path / "one", 1, **both) == run(tmp_path / "three", 3, **both)


def test_another_seed_gives_other_traces(tmp_path):
    assert run(tmp_path / "a", count=5) != run(tmp_path / "b", count=5, seed=100)


def test_shards_together_equal_the_whole_run(tmp_path):
    of = 3
    parts = [run(tmp_path / str(n), shard=(n, of), count=31).splitlines() for n in range(of)]
    assert sum(map(len, parts)) == 31
    assert len({line for part in parts for line in part}) == 31


@pytest.mark.medium
def test_a_run_writes_the_requested_number_of_traces(tmp_path):
    run(tmp_path, count=40)
    summary = json.loads((tmp_path / "summary.json").read_text())
    kinds = Counter(classify_trace(trace) for trace in load_traces(tmp_path / "traces.jsonl"))
    assert summary["count"] == sum(kinds.values()) == 40
    assert summary["kinds"] == dict(kinds)
    assert check_traces(load_run(tmp_path)).passed
    assert read_manifest(tmp_path)["state"] == "complete"


@pytest.mark.medium
def test_kinds_have_their_configured_shares(tmp_path):
    run(tmp_path, count=400, refused_share=0.1)
    kinds = Counter(classify_trace(trace) for trace in load_traces(tmp_path / "traces.jsonl"))
    num_with_calls = 400 - kinds["text"]
    assert kinds["text"] / 400 == pytest.approx(0.2667, abs=0.07)
    assert kinds["refused"] / num_with_calls == pytest.approx(0.1, abs=0.06)
    for kind, share in PICTURE_SHARES.items():
        assert kinds[kind] / (num_with_calls - kinds["refused"]) == pytest.approx(share, abs=0.09)


@pytest.mark.medium
def test_without_mistakes_every_first_call_is_correct(tmp_path):
    run(tmp_path, count=60, families=("attribute", "video"), mistakes=False)
    kinds = {classify_trace(trace) for trace in load_traces(tmp_path / "traces.jsonl")}
    assert kinds == {"single", "text"}


@pytest.mark.medium
def test_a_run_interrupted_at_any_point_resumes_to_the_same_bytes(tmp_path):
    whole = run(tmp_path / "whole", count=60)
    chosen = settings(count=60)

    class Stop(Exception):
        pass

    for stop_at in (1, 7, 30, 59):
        out = tmp_path / str(stop_at)

        def stop(written: int, stop_at: int = stop_at) -> None:
            if written >= stop_at:
                raise Stop

        with pytest.raises(Stop):
            synthesize(chosen, scene_units(chosen), out, on_traces=stop)
        assert not (out / "traces.jsonl").exists()
        # A truncated line, as after a kill.
        with (out / "traces.jsonl.part").open("ab") as file:
            file.write(b'{"question": {"id": "attrib')
        assert run(out, count=60) == whole


@pytest.mark.medium
def test_a_run_that_an_older_version_started_is_continued(tmp_path):
    whole = run(tmp_path / "whole", count=60)
    chosen, out = settings(count=60), tmp_path / "cut"

    def stop(written: int) -> None:
        if written >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(chosen, scene_units(chosen), out, on_traces=stop)
    checkpoint = read_manifest(out)["checkpoint"]
    note = {**checkpoint["progress"], "sizes": list(checkpoint["sizes"].values())}
    assert 30 <= note["count"] < 60
    (out / "progress.json").write_text(json.dumps(note))
    shutil.rmtree(out / ".store")
    assert run(out, count=60) == whole
    assert not (out / "progress.json").exists()


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    chosen = settings(count=30)

    def write_too(written: int) -> None:
        before = files_of(tmp_path)
        with ThreadPoolExecutor(1) as other:
            again = other.submit(synthesize, chosen, scene_units(chosen), tmp_path)
        with pytest.raises(OutputError, match=f"process {os.getpid()} on .* writes to"):
            again.result()
        assert files_of(tmp_path) == before

    synthesize(chosen, scene_units(chosen), tmp_path, on_traces=write_too)
    assert len((tmp_path / "traces.jsonl").read_bytes().splitlines()) == 30


@pytest.mark.medium
def test_a_killed_command_resumes_to_the_same_files_and_a_finished_one_reports_again(
    tmp_path, request
):
    """Short form of `attacks/kills.py`."""
    arguments = ["synth", "pixelworld", "--families", "attribute", "--count", "80"]
    arguments += ["--workers", "2", "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pixel_reasoner.cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    growing = tmp_path / "cut" / "traces.jsonl.part"
    while not (growing.exists() and growing.stat().st_size):
        assert time.monotonic() < deadline, "the run did not get going"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_until_all_processes_ended(process.pid, deadline)
    assert not (tmp_path / "cut" / "traces.jsonl").exists()
    for _ in range(2):
        code, out, err = request.getfixturevalue("run")(*arguments)
        assert code == 0, err
        assert "80 traces" in out
    run(tmp_path / "whole", count=80)
    whole, cut = (files_without_times(tmp_path / name) for name in ("whole", "cut"))
    del whole["summary.json"][0]["workers"], cut["summary.json"][0]["workers"]
    assert differing_names(whole, cut) == []


def _wait_until_all_processes_ended(group: int, deadline: float) -> None:
    """Workers end with their parent process."""
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "a worker is left over"
        time.sleep(0.1)


def test_a_run_is_not_resumed_with_other_settings(tmp_path):
    run(tmp_path, count=5)
    with pytest.raises(UsageError, match="seed"):
        run(tmp_path, count=5, seed=1)


def test_questions_without_a_trace_are_counted_with_their_reason(tmp_path):
    good = tmp_path / "good.png"
    Image.new("RGB", (200, 100), "red").save(good)
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")

    def question(name: str, path: Path, **changes) -> Question:
        return Question(
            **{
                "id": name,
                "text": "What?",
                "media": (MediaItem(kind="image", path=str(path)),),
                "answer": ("it",),
                "evidence": Evidence(boxes=((0.1, 0.1, 0.2, 0.2),)),
            }
            | changes
        )

    units = [
        question("fine", good),
        question("broken", bad),
        question("braces", good, answer=("}",)),
        question("nothing to see", good, evidence=None),
        SkippedRow("line 7", "not_json"),
        question("fine too", good, evidence=None, needs_look=False),
    ]
    chosen = settings(source="rows", families=())
    summary = synthesize(chosen, units, tmp_path / "out")
    assert summary["count"] == 2
    assert summary["dropped"] == {
        "answer_does_not_score": 1,
        "no_evidence": 1,
        "not_json": 1,
        "unusable_medium": 1,
    }
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").open()]
    assert [row["where"] for row in rows] == ["broken", "braces", "nothing to see", "line 7"]


@pytest.mark.medium
def test_a_run_that_a_full_disk_ended_can_be_resumed(tmp_path):
    whole = run(tmp_path / "whole", count=30)
    with full_disk(len(whole) // 2), pytest.raises(OutputError, match="free some space"):
        run(tmp_path / "full", count=30)
    assert not [name for name in files_of(tmp_path / "full") if TEMPORARY_PREFIX in name]
    assert run(tmp_path / "full", count=30) == whole


@pytest.mark.medium
def test_a_run_contains_only_the_media_of_its_traces(tmp_path):
    run(tmp_path, workers=2, count=5)
    traces = load_traces(tmp_path / "traces.jsonl")
    paths = {medium.path for trace in traces for medium in trace.question.media}
    assert {name for name in files_of(tmp_path) if name.startswith("media")} == paths
