"""Clients with environments of their own: LiteLLM and inspect_ai's provider `openai-api`. `make clients` installs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.world import render, scenes
from server_fixture import KEY, documented
from test_server_process import running

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.medium,
    pytest.mark.extras,
    pytest.mark.skipif(
        not any((ROOT / f".venv-{name}").exists() for name in ("litellm", "inspect")),
        reason="no environment of a client: make clients",
    ),
]

SCRIPTS = Path(__file__).parent / "clients"


def python_of(name: str) -> Path:
    """Return the interpreter of an environment. Skips the test if there is none."""
    found = ROOT / f".venv-{name}" / "bin" / "python"
    if not found.exists():
        pytest.skip(f"no environment .venv-{name}: make clients")
    return found


@pytest.fixture(scope="module")
def question(tmp_path_factory) -> Question:
    folder = tmp_path_factory.mktemp("scenes")
    (found,) = render(scenes("attribute", "test", 5, 1), folder)
    return with_media_root(found, folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys.txt").write_text(f"alice: {KEY}\n")
    with running("--key-file", folder / "keys.txt", "--store", folder / "store") as one:
        one.wait_ready({"Authorization": f"Bearer {KEY}"})
        yield one


def asked(name: str, python: Path, server, question: Question, *more: str) -> dict:
    """Run the script of a client. Return what it printed."""
    arguments = [f"{server.url}/v1", KEY, question.media[0].path, question.text, *more]
    output = output_of(python, SCRIPTS / f"{name}_client.py", *arguments)
    print(f"{name}:", output.strip())  # noqa: T201 - `make clients` shows it
    return json.loads(output.splitlines()[-1])


def output_of(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Return the standard output of a command without the environment variables of this process."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(ROOT / ".cache")} | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_answers(found: dict, question: Question) -> None:
    for name in ("plain", "streamed"):
        one = found[name]
        assert question.answer[0] in one["content"]
        assert "zoom_in" in one["reasoning"]
        assert one["finish_reason"] == "stop"
    assert found["plain"]["content"] == found["streamed"]["content"]
    assert found["plain"]["reasoning"] == found["streamed"]["reasoning"]
    assert found["plain"]["total_tokens"] > 0


def test_litellm_reads_replies_streams_and_errors(server, question):
    found = asked("litellm", python_of("litellm"), server, question)
    assert_answers(found, question)
    assert found["streamed"]["total_tokens"] == found["plain"]["total_tokens"]
    assert found["errors"] == {
        "key": "AuthenticationError",
        "model": "NotFoundError",
        "temperature": "BadRequestError",
    }


def test_inspect_ai_reads_replies_and_streams_and_evaluates(server, question):
    python = python_of("inspect")
    found = asked("inspect_ai", python, server, question, question.answer[0])
    assert_answers(found, question)
    assert found["eval"] == {"status": "success", "accuracy": [1.0], "error": None}


TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import includes


@task
def letters():
    content = [ContentImage(image="scene.png"), ContentText(text={text!r})]
    sample = Sample(input=[ChatMessageUser(content=content)], target={answer!r})
    return Task(dataset=MemoryDataset([sample]), scorer=includes())
"""


def test_examples_of_the_docs_print_the_answer(server, question, tmp_path):
    shutil.copy(question.media[0].path, tmp_path / "scene.png")
    python = python_of("litellm")
    (tmp_path / "litellm_ask.py").write_text(
        documented("litellm_ask.py", server.url, question.text)
    )
    assert question.answer[0] in output_of(python, "litellm_ask.py", cwd=tmp_path)

    (tmp_path / "task.py").write_text(TASK.format(text=question.text, answer=question.answer[0]))
    (tmp_path / "inspect.sh").write_text(documented("inspect.sh", server.url, question.text))
    path = f"{python_of('inspect').parent}:{os.environ['PATH']}"
    found = output_of("sh", "inspect.sh", cwd=tmp_path, PATH=path, INSPECT_DISPLAY="plain")
    assert re.search(r"accuracy +1\.000", found), found
