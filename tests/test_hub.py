"""Models and data sets of the hub: an unreachable hub causes a one-line error within seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pixel_reasoner.errors import InputError, ModelError
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.hub import is_hub_id, local_dataset, local_model

NAME = "Qwen/Qwen2.5-VL-7B-Instruct"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Configure a hub that refuses connections, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fill_cache(cache: Path, files: dict[str, str]) -> Path:
    """Write a snapshot in the layout of huggingface_hub."""
    repo = cache / f"models--{NAME.replace('/', '--')}"
    folder = repo / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_bundled_model_and_a_folder_are_never_requested_from_the_hub(offline, tmp_path):
    assert local_model("tiny") == BUNDLED_MODELS["tiny"]
    assert local_model(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["", "tiny2", "./a/b", "/a/b", "~/a", "a/b/c", "a b/c", "../a"])
def test_only_names_with_an_owner_are_requested_from_the_hub(name):
    assert not is_hub_id(name)
    with pytest.raises(ModelError, match="check the path"):
        local_model(name)


def test_the_error_without_network_states_repository_size_and_command(offline):
    with pytest.raises(ModelError) as raised:
        local_model(NAME)
    message = str(raised.value)
    assert "\n" not in message
    for part in (NAME, "16.6 GB", f"hf download {NAME} --local-dir DIR", str(offline)):
        assert part in message
    with pytest.raises(InputError, match=r"hf download --repo-type dataset a/b .* --data DIR"):
        local_dataset("a/b")


def test_a_snapshot_in_the_cache_is_used_without_a_network(offline):
    from pixel_reasoner.workflows.world import prompt_settings

    config = json.dumps({"model_type": "qwen2_5_vl"})
    limits = json.dumps({"min_pixels": 3136, "max_pixels": 12845056, "merge_size": 2})
    folder = fill_cache(offline, {"config.json": config, "preprocessor_config.json": limits})
    assert local_model(NAME, settings_only=True) == folder
    assert prompt_settings(NAME)[0] == "qwen2_5_vl"


def test_an_unreachable_hub_is_a_one_line_error_within_seconds(tmp_path):
    """Runs `ask` in a separate process: no retries, no warnings, no model."""
    picture = tmp_path / "a.png"
    from PIL import Image

    Image.new("RGB", (64, 64)).save(picture)
    command = ["ask", "What?", "--image", str(picture), "--model", NAME]
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pixel_reasoner.cli", *command],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert time.monotonic() - started < 20  # 2 s on an idle machine
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "refused" in done.stderr
