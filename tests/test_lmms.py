"""Rollout loop as a model of lmms-eval: its evaluator on rows of PixelWorld, offline. Needs the extra `lmms`."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lmms_eval", reason="the extra `lmms` has an environment of its own")
os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is imported

from datasets import Dataset, Features, Image as Pictures, Value
from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config
from loguru import logger
from PIL import Image

from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.integrations import lmms_eval_model, lmms_questions
from pixel_reasoner.integrations.lmms_eval_model import PixelReasoner
from pixel_reasoner.integrations.lmms_questions import build_question
from pixel_reasoner.integrations.lmms_tasks import write_lmms_task
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.question import MediaItem, Question, with_media_root
from pixel_reasoner.schema.trace import StopReason, load_traces
from pixel_reasoner.scoring.grading import Outcome, grade_reply
from pixel_reasoner.sources.pixelworld2 import PixelWorld2Source
from pixel_reasoner.world import render, scenes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROWS = 24

TASK = """\
task: {name}
dataset_path: {kind}
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.media
doc_to_text: question
doc_to_target: answer
process_results: !function utils.scores
generation_kwargs:
  max_new_tokens: 16
  temperature: 0
  do_sample: false
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""

UTILS = """\
def media(doc):
    return [doc["image"].convert("RGB")] if "image" in doc else [doc["video"]]


def scores(doc, results):
    return {"right": float(results[0] == doc["answer"])}
"""


def asked(family: str, count: int, folder: Path) -> list[Question]:
    wanted = scenes(family, "test", 0, count)
    return [with_media_root(question, folder) for question in render(wanted, folder)]


def write_task(folder: Path, name: str, kind: str, file: Path) -> None:
    """Write a task for `--include_path` of lmms-eval."""
    folder.mkdir(exist_ok=True)
    (folder / "utils.py").write_text(UTILS)
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, kind=kind, file=file))


def write_pictures(questions: list[Question], folder: Path, broken: int | None = None) -> Path:
    """Write a task with pictures inside a parquet file, as on the hub. One picture is truncated."""
    rows = []
    for number, question in enumerate(questions):
        content = Path(question.media[0].path).read_bytes()
        if number == broken:
            content = content[: len(content) // 2]
        picture = {"bytes": content, "path": None}
        rows.append({"question": question.text, "answer": question.answer[0], "image": picture})
    features = Features(question=Value("string"), answer=Value("string"), image=Pictures())
    folder.mkdir(exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "rows.parquet")
    write_task(folder, "pixelworld", "parquet", folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Use a temporary cache. By default lmms-eval caches data sets in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    return asked("attribute", ROWS, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def tiny() -> LocalModel:
    return LocalModel("tiny", device="cpu")


@pytest.fixture
def warnings():
    """Collect logged warnings."""
    messages = []
    handler = logger.add(
        lambda message: messages.append(message.record["message"]), level="WARNING"
    )
    yield messages
    logger.remove(handler)


def run(folder: Path, task: str, **model_args: object) -> dict:
    arguments = ",".join(
        f"{name}={value}" for name, value in {"device": "cpu", **model_args}.items()
    )
    results = simple_evaluate(
        model="pixel_reasoner",
        model_args=arguments,
        tasks=[task],
        batch_size=1,
        task_manager=TaskManager("ERROR", include_path=str(folder)),
        bootstrap_iters=0,
    )
    samples = {one["doc_id"]: one for one in results["samples"][task]}
    return {
        "accuracy": results["results"][task]["right,none"],
        "answers": [samples[number]["filtered_resps"][0] for number in sorted(samples)],
        "right": [samples[number]["right"] for number in sorted(samples)],
    }


def test_the_loop_gives_the_same_accuracy_as_our_runner(questions, tiny, tmp_path):
    folder = write_pictures(questions, tmp_path / "task")
    file = tmp_path / "traces" / "traces.jsonl"
    theirs = run(folder, "pixelworld", batch_size=8, traces=file)

    ours = {trace.question.id: trace for trace in ask_many(questions, tiny, batch_size=8)}
    in_order = [ours[question.id] for question in questions]
    right = [grade_reply(trace).outcome is Outcome.CORRECT for trace in in_order]
    assert theirs["accuracy"] == pytest.approx(sum(right) / ROWS)
    assert theirs["right"] == right
    assert theirs["answers"] == [trace.answer or "" for trace in in_order]

    traces = list(load_traces(file))
    finished = [int(trace.question.id.rpartition("/")[2]) for trace in traces]
    assert sorted(finished) == list(range(ROWS)) != finished, "rows overtook each other"
    by_row = dict(zip(finished, traces, strict=True))
    assert [by_row[n].answer for n in range(ROWS)] == [trace.answer for trace in in_order]
    assert [len(by_row[n].executed) for n in range(ROWS)] == [len(t.executed) for t in in_order]
    assert not any(Path(trace.question.media[0].path).is_absolute() for trace in traces)
    for trace in load_run(file):
        assert Path(trace.question.media[0].path).is_file()


def test_without_operations_fewer_questions_that_need_one_are_correct(questions, tmp_path):
    folder = write_pictures(questions, tmp_path / "task")
    need = [number for number, question in enumerate(questions) if question.needs_look]
    with_looks = run(folder, "pixelworld", batch_size=8)["right"]
    without = run(folder, "pixelworld", batch_size=8, operations="false")["right"]
    assert sum(with_looks[n] for n in need) > sum(without[n] for n in need)


def test_a_broken_picture_does_not_stop_the_run(questions, tmp_path, warnings):
    folder = write_pictures(questions[:6], tmp_path / "task", broken=2)
    file = tmp_path / "traces.jsonl"
    found = run(folder, "pixelworld", batch_size=4, traces=file)
    assert [number for number, answer in enumerate(found["answers"]) if not answer] == [2]
    assert found["right"][2] == 0
    (warning,) = (heard for heard in warnings if "failed and have empty answers" in heard)
    assert warning.startswith("1 of 6 rows")
    assert "pixelworld/test/2: " in warning
    (failed,) = (trace for trace in load_traces(file) if trace.stop is StopReason.FAILED)
    assert failed.question.text == questions[2].text
    assert failed.error in warning


def test_clips_are_used_without_a_copy(tiny, tmp_path):
    questions = asked("video", 4, tmp_path)
    rows = [
        {"question": q.text, "answer": q.answer[0], "video": q.media[0].path} for q in questions
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_task(tmp_path / "task", "pixelworld_video", "json", file)
    found = run(tmp_path / "task", "pixelworld_video", traces=tmp_path / "traces.jsonl")
    ours = {trace.question.id: trace.answer for trace in ask_many(questions, tiny)}
    assert found["answers"] == [ours[question.id] for question in questions]
    assert not (tmp_path / "media").joinpath("pixelworld_video").exists()
    traces = load_traces(tmp_path / "traces.jsonl")
    assert {t.question.media[0].path for t in traces} == {q.media[0].path for q in questions}


def test_the_command_line_finds_the_model_by_its_name(questions, tmp_path):
    folder = write_pictures(questions[:6], tmp_path / "task")
    file = tmp_path / "traces.jsonl"
    command = [
        sys.executable,
        "-m",
        "lmms_eval",
        "--model",
        "pixel_reasoner",
        "--tasks",
        "pixelworld",
    ]
    command += ["--include_path", str(folder), "--output_path", str(tmp_path / "out")]
    # The command always passes batch_size=1. That must not conflict.
    command += ["--model_args", f"model=tiny,device=cpu,batch_size=4,traces={file}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").rglob("*results.json")
    reported = json.loads(written.read_text())["results"]["pixelworld"]["right,none"]
    right = [
        trace.answer == questions[int(trace.question.id.rpartition("/")[2])].answer[0]
        for trace in load_traces(file)
    ]
    assert len(right) == 6
    assert reported == pytest.approx(sum(right) / 6)


def test_the_registry_finds_the_model():
    assert get_model("pixel_reasoner") is PixelReasoner


def test_examples_in_the_adapter_run():
    found = [doctest.testmod(module) for module in (lmms_eval_model, lmms_questions)]
    assert sum(one.attempted for one in found) > 5
    assert sum(one.failed for one in found) == 0


# --- single requests ---


def model_of(*reply: str, docs: list[dict], **options: object) -> PixelReasoner:
    model = PixelReasoner(model=ScriptedModel(list(reply)), **options)
    model.task_dict = {"task": {"test": docs}}
    return model


def request(number: int, content: list[dict], role: str = "user", **generation: object) -> Instance:
    messages = [{"role": role, "content": content}]
    return Instance(
        request_type="generate_until",
        arguments=("context", lambda doc: messages, generation, number, "task", "test"),
        idx=0,
        metadata={"task": "task", "doc_id": number, "repeats": 1},
    )


def text(reply: str) -> dict:
    return {"type": "text", "text": reply}


CHOICE = "What is it?\nA. rubber\nB. cotton\nC. leather\nAnswer with the letter."


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (r"A glance at B is not enough. \boxed{(C) leather}", "C"),
        ("Based on the zoomed crop, A is not it. The answer is (C).", "C"),
        (r"\boxed{leather}", "C"),
        (r"\boxed{\text{silk}}", "silk"),
        ("Both are seen.\nI cannot tell.", ""),
    ],
)
def test_the_reply_to_a_choice_is_its_letter(reply, expected, photo):
    asked = request(0, [{"type": "image", "url": Image.open(photo)}, text(CHOICE)])
    assert model_of(reply, docs=[{}]).generate_until([asked]) == [expected]


def test_unusable_rows_are_named_and_the_others_are_answered(photo, tmp_path, warnings):
    picture = {"type": "image", "url": str(photo)}
    requests = [
        request(0, [{"type": "audio", "url": "a.wav"}, text("?")]),
        request(1, [picture, text("?")], role="assistant"),
        request(2, [picture, text("?")]),
        request(3, [{"type": "image", "url": str(tmp_path / "none.png")}, text("?")]),
        request(4, [{"type": "image", "url": 7}, text("?")]),
        request(9, [text("there is no such row")]),
    ]
    model = model_of(r"\boxed{red}", docs=[{}] * 5)
    assert model.generate_until(requests) == ["", "", "red", "", "", ""]
    (warning,) = warnings
    assert warning.startswith("5 of 6 rows")
    assert "task/test/0: expected pictures, videos and text; got audio" in warning
    assert "task/test/1: expected a question; got assistant turns" in warning
    assert "none.png" in warning
    assert "IndexError" in warning


def test_greedy_repeats_are_generated_once_and_sampled_ones_with_different_seeds(photo, tmp_path):
    picture = {"type": "image", "url": str(photo)}
    greedy = request(0, [picture, text("?")], temperature=0)
    sampled = request(1, [picture, text("?")], temperature=0.7, top_p=0.9, do_sample=True)
    model = model_of(r"\boxed{red}", docs=[{}] * 2, traces=str(tmp_path / "traces.jsonl"))
    assert model.generate_until([greedy, greedy, sampled, sampled, sampled]) == ["red"] * 5
    traces = list(load_traces(tmp_path / "traces.jsonl"))
    samples = [(t.question.id[-1], t.sample, t.settings.sampling.temperature) for t in traces]
    assert samples == [("0", 0, 0.0), ("1", 0, 0.7), ("1", 1, 0.7), ("1", 2, 0.7)]
    assert [t.settings.sampling.seed for t in traces] == [0, 0, 1, 2]


def test_padding_requests_of_a_process_are_not_generated(photo):
    asked = request(0, [{"type": "image", "url": str(photo)}, text("?")])
    filler = request(0, [{"type": "image", "url": str(photo)}, text("?")])
    filler.metadata["__padding_only__"] = True
    model = model_of(r"\boxed{red}", docs=[{}])
    assert model.generate_until([asked, filler]) == ["red", ""]
    assert len(model.model.conversations) == 1


def test_each_process_writes_its_own_traces(photo, tmp_path):
    model = model_of(r"\boxed{red}", docs=[{}], traces=str(tmp_path / "traces.jsonl"))
    model._rank = 1
    model.generate_until([request(0, [{"type": "image", "url": str(photo)}, text("?")])])
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["traces-1.jsonl"]


def test_parts_of_videos_and_frame_folders_are_supported(clip, tmp_path):
    part = {"type": "video", "url": str(clip), "start_time": 1.0, "end_time": 2.0}
    nested = {"type": "video", "url": {"path": str(clip), "video_start": 1.0, "video_end": 2.0}}
    frames = {"type": "video", "url": f"file://{tmp_path}"}
    messages = [{"role": "user", "content": [part, nested, frames]}]
    once = MediaItem(kind="video", path=str(clip), start_s=1, end_s=2)
    folder = MediaItem(kind="frames", path=str(tmp_path))
    assert build_question("1", messages, tmp_path).media == (once, once, folder)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I;16"])
def test_pictures_of_any_mode_are_passed_completely(mode, tmp_path):
    picture = Image.new(mode, (64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated: lmms-eval already applies the orientation
    picture.info["exif"] = exif.tobytes()
    content = [{"type": "image", "url": picture}, text("?")]
    question = build_question("1", [{"role": "user", "content": content}], tmp_path)
    (trace,) = ask_many([with_media_root(question, tmp_path)], ScriptedModel([r"\boxed{red}"]))
    assert trace.pictures[0].source_px == (64, 48)


def test_pictures_in_memory_leave_no_files(photo, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    asked = request(0, [{"type": "image", "url": Image.open(photo)}, text("?")])
    assert model_of(r"\boxed{red}", docs=[{}]).generate_until([asked]) == ["red"]
    assert list((tmp_path / "scratch").iterdir()) == []


# --- errors ---


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until_multi_round"])
def test_other_kinds_of_tasks_are_refused_with_a_fix(kind):
    metadata = {"task": "mmlu", "doc_id": 0, "repeats": 1}
    asked = Instance(request_type=kind, arguments=(), idx=0, metadata=metadata)
    with pytest.raises(UsageError, match=rf"got {kind} \(mmlu\)\. Fix: use a variant"):
        getattr(model_of("", docs=[]), kind)([asked])


def test_a_task_given_as_a_file_is_refused_with_a_fix(questions, tmp_path):
    folder = write_pictures(questions[:1], tmp_path / "task")
    with pytest.raises(UsageError, match="--include_path"):
        simple_evaluate(
            model="pixel_reasoner",
            model_args="device=cpu",
            tasks=[load_yaml_config(str(folder / "pixelworld.yaml"))],
        )


@pytest.mark.parametrize(
    ("model_args", "complaint"),
    [
        ("operation=true", r"Fix: write operations=\.\.\."),
        ("pretrained=tiny", r"got pretrained\. Fix: write model=\.\.\."),
        ("colour=red", "got colour. Fix: leave it out"),
        ("operations=maybe", "operations=true or false; got 'maybe'"),
        ("max_turns=0", "max_turns as a whole number of 1 or more; got 0"),
        ("max_turns=2.5", "got 2.5"),
        ("batch_size=auto", "got 'auto'"),
        ("model=2026", "got '2026', which is no folder"),
    ],
)
def test_invalid_model_args_are_named_in_the_error(model_args, complaint):
    with pytest.raises((UsageError, ModelError), match=complaint):
        PixelReasoner.create_from_arg_string(model_args, {"batch_size": 1, "device": None})


# --- PixelWorld 2 ---


def test_a_rendered_set_is_a_task_with_the_scores_of_our_runner(tmp_path):
    source = PixelWorld2Source(families=("attribute",), count=12, twins=False)
    asked_questions = [
        one for unit in source.units(tmp_path) for one in source.rows(unit, tmp_path)
    ]
    task = write_lmms_task(asked_questions, tmp_path, "pixelworld2_attribute")
    results = simple_evaluate(
        model="pixel_reasoner",
        model_args=f"device=cpu,traces={tmp_path / 'traces.jsonl'}",
        tasks=["pixelworld2_attribute"],
        batch_size=1,
        task_manager=TaskManager("ERROR", include_path=str(task)),
        bootstrap_iters=0,
    )["results"]["pixelworld2_attribute"]
    ours = {trace.question.text: [] for trace in load_traces(tmp_path / "traces.jsonl")}
    assert set(ours) == {one.text for one in asked_questions}
    parts = [results[f"right_{name},none"] for name in ("unreadable", "readable")]
    assert results["right,none"] == pytest.approx(sum(parts) / 2)
