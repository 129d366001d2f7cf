"""Qwen2.5-VL and Qwen3-VL folders with random weights through every command of the method, from traces to a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusters.folders import CLASSES, build_folder
from clusters.sharded_runs import write_toml
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.reports.training_log import read_log
from pixel_reasoner.schema.trace import load_traces
from server_fixture import data_url, serving

pytestmark = [
    pytest.mark.medium,
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.mark.parametrize("model_type", CLASSES)
def test_a_folder_of_a_model_passes_every_command(model_type, tmp_path, run):
    folder = build_folder(model_type, tmp_path / "base")
    synth = tmp_path / "synth"
    options = ("--count", 4, "--family", "attribute", "--model", folder, "--out", synth)
    assert run("synth", "pixelworld", *options)[0] == 0
    code, printed, _ = run("check", synth)
    assert (code, "ready for training: 4 traces" in printed) == (0, True)

    trl = {"max_steps": 2, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    sft = write_toml(tmp_path / "sft.toml", {"traces": synth, "model": folder}, trl)
    assert run("train", "sft", sft)[0] == 0
    assert len(read_log(tmp_path / "sft")) >= 2

    sizes = {"questions_per_sync": 1, "group_size": 2, "minibatch": 2, "rollouts_at_once": 2}
    top = {"model": tmp_path / "sft" / "model", **sizes, "max_turns": 2, "max_new_tokens": 8}
    rl = write_toml(
        tmp_path / "rl.toml", {**top, "questions": [str(questions_of(synth))]}, {"max_steps": 2}
    )
    assert run("train", "rl", rl)[0] == 0
    trained = tmp_path / "rl" / "model"

    options = ("--family", "attribute", "--count", 2, "--max-new-tokens", 8, "--model", trained)
    assert run("eval", "pixelworld", *options, "--out", tmp_path / "eval")[0] == 0
    assert len(list(load_traces(tmp_path / "eval" / "traces.jsonl"))) == 2
    for name in ("eval", "rl"):
        assert run("report", tmp_path / name, "--out", tmp_path / f"{name}.html")[0] == 0
    model = LocalModel(str(trained))
    assert (model.dialect, model.model.config.model_type) == (model_type, model_type)
    answer_over_http(model, tmp_path)


def questions_of(synth: Path) -> Path:
    """Return a file with the questions of traces."""
    path = synth / "questions.jsonl"
    path.write_text("".join(f"{trace.question.to_line()}\n" for trace in load_run(synth)))
    return path


def answer_over_http(model: LocalModel, folder: Path) -> None:
    picture = next((folder / "synth" / "media").glob("*.png"))
    content = [
        {"type": "text", "text": "Which letter?"},
        {"type": "image_url", "image_url": {"url": data_url(picture)}},
    ]
    body = {"model": "test", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
    with serving(model) as server:
        reply = server.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    assert json.loads(reply.text)["usage"]["completion_tokens"] > 0
