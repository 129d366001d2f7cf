"""Questions of a Ray Data dataset: equal answers as in this process, each row once. Needs the extra `ray`."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra `ray` has an environment of its own")

import ray
import ray.data

from chat_server import served
from pixel_reasoner.errors import UsageError
from pixel_reasoner.integrations import ray_data
from pixel_reasoner.integrations.ray_data import COLUMNS, ask_dataset
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace, load_traces
from pixel_reasoner.world import render, scenes

ROOT = Path(__file__).parents[1]
red = partial(ScriptedModel, [r"It is red. \boxed{red}"])

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when it starts
    os.environ["RAY_AUTH_MODE"] = "disabled"  # otherwise a token is written to the home folder
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """PixelWorld in a folder: pictures, clips, and their `questions.jsonl`."""
    folder = tmp_path_factory.mktemp("world")
    wanted = [*scenes("attribute", "validation", 70, 4), *scenes("relation", "validation", 70, 2)]
    wanted += scenes("video", "validation", 70, 2)
    lines = [question.model_dump_json() for question in render(wanted, folder)]
    (folder / "questions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def lines(folder) -> list[str]:
    return (folder / "questions.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def questions(folder, lines) -> list[Question]:
    return [with_media_root(Question.model_validate_json(line), folder) for line in lines]


def traces_of(rows: list[dict]) -> dict[str, Trace]:
    """Return the traces of rows by id. Assert that the other columns agree with them."""
    traces = [Trace.from_line(row["trace"]) for row in rows]
    for row, trace in zip(rows, traces, strict=True):
        contents = (trace.question.id, trace.answer, trace.stop, trace.error)
        assert tuple(row[name] for name in COLUMNS[:-1]) == contents
    assert len({trace.question.id for trace in traces}) == len(traces)
    return {trace.question.id: trace for trace in traces}


def contents(traces: dict[str, Trace]) -> dict[str, tuple]:
    """Return question, turns and answer of each trace."""
    return {
        name: (t.question, t.stop, t.answer, [(turn.text, turn.call) for turn in t.turns])
        for name, t in traces.items()
    }


@pytest.fixture(scope="module")
def here(questions) -> dict[str, Trace]:
    """Traces computed in this process."""
    traces = ask_many(questions, LocalModel("tiny", device="cpu"))
    return {trace.question.id: trace for trace in traces}


def test_two_actors_give_the_same_answers_as_this_process(folder, here):
    dataset = ray.data.read_text(str(folder / "questions.jsonl")).repartition(4)
    tiny = ModelSpec("tiny", device="cpu")
    found = ask_dataset(dataset, tiny, folder=folder, rows=2, actors=2)
    traces = traces_of(found.take_all())
    assert contents(traces) == contents(here)
    assert any(trace.executed for trace in traces.values())
    settings = {one.settings.model_dump_json() for one in [*traces.values(), *here.values()]}
    assert len(settings) == 1


def test_a_remote_model_in_an_actor_gives_the_same_answers_as_this_process(folder, lines, here):
    with served(LocalModel("tiny", device="cpu")) as server:
        server.names = [str(BUNDLED_MODELS["tiny"])]  # a folder with prompt settings
        model = ModelSpec("tiny", endpoints=(server.url,))
        dataset = ray.data.from_items([{"question": line} for line in lines])
        traces = traces_of(ask_dataset(dataset, model, folder=folder).take_all())
        assert server.max_running > 1
    assert contents(traces) == contents(here)


def test_rows_with_columns_and_rows_of_jsonl_give_the_same_questions(folder, lines, questions):
    rows = [json.loads(line) for line in lines]
    neutral = {"id": 9, "question": "Which?", "options": {"A": "red", "Z": "blue"}}
    neutral["media"] = [{"type": "image", "path": rows[0]["media"][0]["path"]}]
    for form in (rows, [neutral]):
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in form))
        columns = ray.data.from_items(form)
        text = ray.data.read_text(str(folder / "rows.jsonl"))
        asked = [
            {name: trace.question for name, trace in traces_of(found).items()}
            for dataset in (columns, text)
            for found in [ask_dataset(dataset, red, folder=folder).take_all()]
        ]
        assert asked[0] == asked[1]
        assert len(asked[0]) == len(form)
    assert asked[0]["9"].options == {"A": "red", "Z": "blue"}


def test_unusable_rows_are_named_and_the_others_are_answered(folder, lines):
    missing = {"id": "gone", "text": "Which?", "media": [{"kind": "image", "path": "gone.png"}]}
    broken = ["no JSON", "[1]", '{"id": "half", "text": "Which?"}', json.dumps(missing)]
    items = [{"line": line} for line in [*lines[:2], *broken, *lines[2:4]]]
    found = traces_of(ask_dataset(ray.data.from_items(items), red, folder=folder).take_all())
    failed = {name: trace for name, trace in found.items() if trace.stop is StopReason.FAILED}
    assert len(found) == 8
    assert len(failed) == 4
    assert "half: bad_value: media: Field required" in failed["half"].error
    assert str(folder / "gone.png") in failed["gone"].error
    nameless = {t.question.text: t.error for name, t in failed.items() if name.startswith("row-")}
    assert set(nameless) == {'{"line": "no JSON"}', '{"line": "[1]"}'}
    assert all("not_json" in error for error in nameless.values())
    assert {t.answer for t in found.values() if t.stop is not StopReason.FAILED} == {"red"}


def test_rows_with_equal_ids_are_all_answered(lines, folder):
    dataset = ray.data.from_items([{"line": lines[0]}] * 5).repartition(3)
    rows = ask_dataset(dataset, red, folder=folder, rows=2, actors=2).take_all()
    assert [row["answer"] for row in rows] == ["red"] * 5


def test_a_batch_without_answers_has_the_columns_of_one_with(lines, folder, tmp_path):
    dataset = ray.data.from_items([{"line": "?"}, {"line": lines[0]}])
    ask_dataset(dataset, red, folder=folder, rows=1).write_parquet(str(tmp_path / "answered"))
    written = ray.data.read_parquet(str(tmp_path / "answered"))
    assert set(map(str, written.schema().types)) == {"string"}
    assert sorted(row["stop"] for row in written.take_all()) == ["answered", "failed"]


def test_the_rollout_config_applies_in_actors(lines, folder):
    dataset = ray.data.from_items([{"line": line} for line in lines[:2]])
    bare = RolloutConfig(operations=())
    found = traces_of(ask_dataset(dataset, ModelSpec("tiny"), bare, folder=folder).take_all())
    assert not any(trace.observations for trace in found.values())
    assert {trace.settings.operations for trace in found.values()} == {()}


def test_unreachable_servers_end_the_run_with_a_fix(lines, folder):
    with served(red()) as server:
        server.always = "401"
        model = ModelSpec("served", endpoints=(server.url,), dialect="compact")
        dataset = ray.data.from_items([{"line": line} for line in lines])
        with pytest.raises(ray.exceptions.RayError, match="give a key that may use this model"):
            ask_dataset(dataset, model, folder=folder).take_all()


def test_a_model_that_cannot_be_loaded_ends_the_run_with_a_fix(lines, folder):
    dataset = ray.data.from_items([{"line": line} for line in lines])
    with pytest.raises(ray.exceptions.RayError, match="copy the whole folder") as caught:
        ask_dataset(dataset, ModelSpec(str(folder), dialect="compact"), folder=folder).take_all()
    assert "expected a model folder" in str(caught.value)


@pytest.mark.parametrize("name", ["batch_size", "rows", "actors"])
def test_counts_below_one_are_an_error(name):
    with pytest.raises(UsageError, match=f"{name} of 1 or more; got 0"):
        ask_dataset(ray.data.range(1), red, **{name: 0})


def test_the_error_without_ray_names_the_extra():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from pixel_reasoner.integrations.ray_data import ask_dataset\n"
        "from pixel_reasoner.models.spec import ModelSpec\n"
        "ask_dataset(None, ModelSpec('tiny'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install -e '.[ray]'" in done.stderr


def test_examples_in_the_module_run():
    found = doctest.testmod(ray_data)
    assert found.attempted > 4
    assert found.failed == 0


def test_the_example_in_the_docs_runs(folder, tmp_path):
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = page.partition("## With Ray")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code.replace('"scenes', f'"{folder}').replace('"runs', f'"{tmp_path}'), {})
    traces = list(load_traces(tmp_path / "ray" / "traces.jsonl"))
    assert len(traces) == 8
    assert not any(trace.error for trace in traces)
