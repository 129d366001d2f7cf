"""Store of a run: no loss, no duplicates, one writer, and an index derived from the log."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.evals.run import Evaluation, evaluate
from pixel_reasoner.files import TEMPORARY_PREFIX, temporary_path
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.runs.folder import load_run, migrated_settings, run_settings
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.runs.store import RunStore, manifest_path, read_manifest
from pixel_reasoner.schema.migrate import settings_v1
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.sources.base import QuestionStream

INDEX = ".store/index.db"


def question(name: str) -> Question:
    return Question(id=name, text="?", media=(), answer=("yes",))


def trace(name: str, sample: int = 0, stop: StopReason = StopReason.ANSWERED) -> Trace:
    return Trace(question=question(name), sample=sample, stop=stop, answer="yes")


def keys(folder: Path) -> list[tuple[str, int]]:
    return [(one.question.id, one.sample) for one in load_run(folder)]


def fill(folder: Path, traces: list[Trace]) -> None:
    with RunStore(folder) as store:
        for one in traces:
            store.append(one)


# --- the index is derived ---


def _deleted(folder: Path) -> None:
    (folder / INDEX).unlink()


def _damaged(folder: Path) -> None:
    (folder / INDEX).write_bytes(b"no database" * 500)


def _of_a_shorter_file(folder: Path) -> None:
    line = trace("late").to_line() + "\n"
    with (folder / "traces.jsonl").open("a") as file:
        file.write(line)


def _of_another_file(folder: Path) -> None:
    lines = (folder / "traces.jsonl").read_text().splitlines(keepends=True)
    (folder / "traces.jsonl").write_text("".join(reversed(lines)))


def _without_its_folder(folder: Path) -> None:
    shutil.rmtree(folder / ".store")


@pytest.mark.parametrize(
    "change", [_deleted, _damaged, _of_a_shorter_file, _of_another_file, _without_its_folder]
)
def test_an_inconsistent_index_is_rebuilt_from_the_segment(change, tmp_path):
    fill(tmp_path, [trace("a"), trace("b", 1), trace("c")])
    change(tmp_path)
    expected = keys(tmp_path)
    with RunStore(tmp_path) as store:
        for name, sample in expected:
            found = store.get(name, sample)
            assert (found.question.id, found.sample) == (name, sample)
        assert store.index.count() == len(expected)
        assert not store.contains("b", 0)


def test_a_truncated_last_line_is_dropped(tmp_path):
    fill(tmp_path, [trace("a"), trace("b")])
    path = tmp_path / "traces.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with RunStore(tmp_path) as store:
        assert (store.contains("a"), store.contains("b")) == (True, False)
        store.append(trace("b"))
    assert keys(tmp_path) == [("a", 0), ("b", 0)]


def test_a_truncated_line_longer_than_the_read_buffer_is_dropped(tmp_path):
    fill(tmp_path, [trace("a")])
    with (tmp_path / "traces.jsonl").open("a") as file:
        file.write("x" * 3_000_000)
    with RunStore(tmp_path) as store:
        assert store.index.count() == 1
    assert keys(tmp_path) == [("a", 0)]


# --- order ---


def test_a_complete_run_is_ordered_by_sample_and_question(tmp_path):
    names = [f"q{n}" for n in range(30)]
    traces = [trace(name, sample) for name in names for sample in range(2)]
    random.Random(3).shuffle(traces)
    with RunStore(tmp_path) as store:
        store.set_questions([question(name) for name in names])
        for one in traces:
            store.append(one)
        store.append(trace("q3"))  # replaces the first one
        store.complete()
        assert store.get("q7", 1) == trace("q7", 1)
    assert keys(tmp_path) == [(name, sample) for sample in range(2) for name in names]
    assert read_manifest(tmp_path)["state"] == "complete"
    assert read_manifest(tmp_path)["counts"] == {"traces": 60, "failed": 0}


def test_an_ordered_file_is_not_rewritten(tmp_path):
    with RunStore(tmp_path) as store:
        store.set_questions([question("a"), question("b")])
        store.append(trace("a"))
        store.append(trace("b"))
        before = (tmp_path / "traces.jsonl").stat().st_ino
        store.complete()
        assert (tmp_path / "traces.jsonl").stat().st_ino == before


def test_failed_traces_are_removed_and_the_others_are_unchanged(tmp_path):
    fill(tmp_path, [trace("a"), trace("b", stop=StopReason.FAILED), trace("c")])
    before = (tmp_path / "traces.jsonl").read_text().splitlines()
    with RunStore(tmp_path) as store:
        store.discard_failed()
        assert not store.contains("b")
        assert store.get("c") == trace("c")
    assert (tmp_path / "traces.jsonl").read_text().splitlines() == [before[0], before[2]]


def test_a_duplicate_id_is_counted(tmp_path):
    with RunStore(tmp_path) as store, pytest.raises(InputError, match="3 questions with id 'a'"):
        store.set_questions([question(name) for name in "abaca"])


def test_an_index_can_be_used_from_any_thread(tmp_path):
    fill(tmp_path, [trace(f"q{n}") for n in range(200)])
    found: list[int] = []
    with RunStore(tmp_path) as store:
        count = lambda: found.append(sum(store.contains(f"q{n}") for n in range(400)))  # noqa: E731
        threads = [threading.Thread(target=count) for _ in range(4)]
        for one in threads:
            one.start()
        for n in range(200, 400):
            store.append(trace(f"q{n}"))
        for one in threads:
            one.join()
        assert all(200 <= number <= 400 for number in found)
        assert store.index.count() == 400


def test_an_index_that_several_threads_open_is_opened_once(tmp_path, monkeypatch):
    fill(tmp_path, [trace("q0")])
    opened: list[str] = []
    connect = sqlite3.connect

    def slow_connect(path, **options):
        opened.append(path)
        time.sleep(0.05)
        return connect(path, **options)

    monkeypatch.setattr(sqlite3, "connect", slow_connect)
    with RunStore(tmp_path) as store:
        names = [f"q{n}" for n in range(1, 5)]
        threads = [threading.Thread(target=store.append, args=(trace(name),)) for name in names]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(opened) == 1
        assert store.index.count() == 5
        assert {line.question.id for line in store.traces()} == {"q0", *names}


# --- one process ---


def test_the_error_of_a_second_writer_names_the_first_process(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from pixel_reasoner.runs.store import RunStore
with RunStore(Path({str(tmp_path)!r})):
    print("open", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    with pytest.raises(OutputError, match=f"which process {process.pid} on .* writes to"):
        RunStore(tmp_path).__enter__()
    process.kill()
    process.wait()
    with RunStore(tmp_path) as store:  # the lock ends with its process
        store.append(trace("a"))


def test_a_folder_has_one_writer_also_within_a_process(tmp_path):
    with (
        RunStore(tmp_path),
        ThreadPoolExecutor(1) as other,
        pytest.raises(OutputError, match=f"process {os.getpid()} on .* writes"),
    ):
        other.submit(RunStore(tmp_path).__enter__).result()
    with RunStore(tmp_path):
        pass


def test_a_lock_without_output_leaves_no_file(tmp_path):
    with FolderLock(tmp_path / "new" / "folder"):
        pass
    with FolderLock(tmp_path / "new"):
        (tmp_path / "new" / "result").write_text("kept")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]


def test_a_rejected_writer_changes_no_file(tmp_path):
    with FolderLock(tmp_path), ThreadPoolExecutor(1) as other:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(OutputError):
            other.submit(FolderLock(tmp_path).__enter__).result()
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_locking_a_folder_removes_temporary_files_of_killed_writers(tmp_path):
    fill(tmp_path, [trace("a")])
    left = temporary_path(tmp_path / "media" / "a.png")
    (left.parent / f"{TEMPORARY_PREFIX}folder").mkdir(parents=True)
    for path in (left, left.parent / f"{TEMPORARY_PREFIX}folder" / "b", tmp_path / "mine.part"):
        path.write_text("half")
    with FolderLock(tmp_path):
        pass
    assert keys(tmp_path) == [("a", 0)]
    assert list((tmp_path / "media").iterdir()) == []
    assert (tmp_path / "mine.part").exists()


# --- checkpoints ---


def test_segments_are_truncated_to_the_last_checkpoint(tmp_path):
    with RunStore(tmp_path, ("a.jsonl", "b.jsonl")) as store:
        store.segments["a.jsonl"].append(b"1\n")
        store.segments["b.jsonl"].append(b"2\n3\n")
        store.checkpoint({"units": 2})
        store.segments["a.jsonl"].append(b"lost\n")
    with RunStore(tmp_path, ("a.jsonl", "b.jsonl")) as store:
        assert store.progress == {"units": 2}
        assert store.sizes() == {"a.jsonl": 2, "b.jsonl": 4}
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"at least 4 bytes in .*b\.jsonl"):
        RunStore(tmp_path, ("a.jsonl", "b.jsonl")).__enter__()


def test_a_manifest_of_a_newer_version_is_a_one_line_error(tmp_path):
    fill(tmp_path, [trace("a")])
    manifest = json.loads(manifest_path(tmp_path).read_text())
    manifest_path(tmp_path).write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(InputError, match=r"schema version 99.*upgrade pixel-reasoner"):
        RunStore(tmp_path).__enter__()
    manifest_path(tmp_path).write_text("[")
    with pytest.raises(InputError, match="manifest"):
        RunStore(tmp_path).__enter__()


# --- runs of older versions ---


def as_version_1(folder: Path) -> None:
    """Rewrite a run in the format before schema versions."""
    shutil.rmtree(folder / ".store")
    lines = [json.loads(line) for line in (folder / "traces.jsonl").open()]
    for line in lines:
        del line["schema_version"]
        line["settings"] = _settings_as_version_1(line["settings"])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "traces.jsonl").write_text(text)
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(_settings_as_version_1(settings)))


def _settings_as_version_1(settings: dict) -> dict:
    names = {"sampling": "decoding", "media": "decode", "perturb": "disturb"}
    old = {names.get(name, name): value for name, value in settings.items()}
    return {**old, "operations": bool(old.get("operations", True))}


@pytest.mark.parametrize("operations", [True, False])
def test_a_run_of_an_older_version_is_continued(operations, tmp_path, photo):
    model = ScriptedModel([r"\boxed{yes}"])
    asked = [question(f"q{n}") for n in range(4)]
    config = RolloutConfig(operations=operations)
    done = Evaluation(asked[:2], model, config, {"name": "t"})
    evaluate(done, tmp_path / "run")
    new_settings = run_settings(tmp_path / "run")
    as_version_1(tmp_path / "run")
    assert "decoding" in json.loads((tmp_path / "run/settings.json").read_text())
    assert run_settings(tmp_path / "run") == new_settings
    model.conversations.clear()
    summary = evaluate(done._replace(questions=asked), tmp_path / "run")
    assert (summary["count"], len(model.conversations)) == (4, 2)
    assert keys(tmp_path / "run") == [(one.id, 0) for one in asked]
    other = RolloutConfig(operations=not operations)
    with pytest.raises(UsageError, match="operations = "):
        evaluate(done._replace(config=other), tmp_path / "run")


def test_migration_does_not_change_settings_of_this_version():
    settings = {"task": {"name": "t"}, "perturb": True, "operations": ["zoom_in"]}
    migrated = migrated_settings(settings)
    assert migrated == migrated_settings(migrated)
    assert settings_v1(migrated) == migrated
    with pytest.raises(InputError, match="upgrade pixel-reasoner"):
        migrated_settings({"unheard_of": 1})


# --- streams ---


def test_questions_are_read_again_and_never_all_in_memory(tmp_path):
    passes = []

    def read():
        passes.append(0)
        for n in range(500):
            passes[-1] += 1
            yield question(f"q{n}")

    model = ScriptedModel([r"\boxed{yes}"])
    evaluation = Evaluation(QuestionStream(read), model, RolloutConfig(), {}, batch_size=4)
    read_by_then = []
    summary = evaluate(evaluation, tmp_path, lambda one: read_by_then.append(passes[-1]))
    assert summary["count"] == 500
    # At the tenth answer, only a part of the questions has been read.
    assert read_by_then[9] < 150


def test_questions_that_can_be_iterated_only_once_are_an_error(tmp_path):
    once = (question(f"q{n}") for n in range(3))
    with pytest.raises(UsageError, match="several times"):
        evaluate(Evaluation(once, ScriptedModel(["x"]), RolloutConfig(), {}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
