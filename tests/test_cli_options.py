"""Options: names are listed and completed, options without effect are errors, environment variables set model and servers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image

from cli_fixture import assert_refused
from pixel_reasoner import __version__
from pixel_reasoner.cli import choices
from pixel_reasoner.data.labels import Analysis
from pixel_reasoner.evals.benchmarks import BENCHMARKS
from pixel_reasoner.models.openai_chat import ServerKind, ToolProtocol
from pixel_reasoner.scoring.grading import Scorer
from pixel_reasoner.world import FAMILIES

TOOL = [sys.executable, "-m", "pixel_reasoner.cli"]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    return path


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch):
    """Fail if a model is loaded: all errors here come earlier."""
    from pixel_reasoner.models.spec import ModelSpec

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(ModelSpec, "load", load)


# --- before anything is loaded ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", "--image", "{picture}"], ["a question"]),
        (["  ", "--image", "{picture}"], ["a question"]),
        (["What?"], ["--image", "no file"]),
        (["What?", "--image", "https://a.org/b.jpg"], ["https://a.org/b.jpg", "curl"]),
        (["What?", "--video", "S3://a/b.mp4"], ["S3://a/b.mp4"]),
        (["What?", "--image", "{picture}", "--report", "{folder}"], ["--report", "a folder"]),
        (["What?", "--image", "{picture}", "--report", "{picture}/a.html"], ["below the file"]),
        (["What?", "--video", "{folder}/gone.mp4"], ["gone.mp4", "does not exist"]),
        (["What?", "--video", "{folder}"], ["something else"]),
        (["What?", "--frames", "{picture}"], ["a folder of frames"]),
    ],
)
def test_ask_fails_before_a_model_is_loaded(run, picture, arguments, words):
    asked = [one.format(picture=picture, folder=picture.parent) for one in arguments]
    assert_refused(run("ask", *asked), *words)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ask What --image a.png --timeout-s 5", ["--timeout-s", "without --endpoint"]),
        ("ask What --image a.png --server vllm", ["--server", "without --endpoint"]),
        ("ask What --image a.png --endpoint http://a/v1 --dtype float32", ["--dtype"]),
        ("eval pixelworld --out o --endpoint http://a/v1 --compile", ["--compile"]),
        ("eval vstar --data x --out o --family all", ["--family", "pixelworld"]),
        ("eval vstar --data x --out o --disturb", ["--disturb", "pixelworld"]),
        ("eval vstar --data x --out o --count 3", ["--count", "pixelworld"]),
        ("eval pixelworld --out o --limit 3", ["--limit", "--count"]),
        ("eval pixelworld --out o --data x", ["--data"]),
        ("synth visa --data x --out o --regions 2", ["--regions", "sa1b"]),
        ("synth visa --data x --out o --text-share 0.5", ["--text-share", "pixelworld"]),
        ("synth pixelworld --data x --out o", ["--data"]),
        ("check x --show-mask --held-out y", ["--held-out"]),
        ("train rl x.toml --gpus 2", ["--gpus", "--plan"]),
        ("report x --out .", ["--out", "a folder"]),
        ("report x --table .", ["--table", "a folder"]),
        ("compare x y --out .", ["--out", "a folder"]),
    ],
)
def test_an_option_without_effect_is_an_error(run, picture, monkeypatch, command, words):
    monkeypatch.chdir(picture.parent)
    assert_refused(run(*command.split()), *words)
    assert [path.name for path in picture.parent.iterdir()] == ["a.png"]


# --- names ---


def test_names_in_help_equal_those_of_the_code():
    from pixel_reasoner.models.folder import DTYPES
    from pixel_reasoner.workflows.traces import WRITERS
    from pixel_reasoner.world.scene import SPLITS

    assert choices.DTYPES == DTYPES
    assert tuple(ToolProtocol) == choices.PROTOCOLS
    assert tuple(ServerKind) == choices.SERVERS
    assert tuple(Scorer) == choices.SCORERS
    assert tuple(SPLITS) == choices.SPLITS
    assert choices.FAMILIES == FAMILIES
    assert tuple(Analysis) == choices.ANALYSES
    assert tuple(WRITERS) == choices.EXPORT_FORMATS


@pytest.mark.parametrize(
    ("command", "listed"),
    [
        ("eval", "typed|harness|released"),
        ("eval", "train|validation|test"),
        ("ask", "text|native"),
        ("ask", "float32|bfloat16|float16"),
        ("export", "trl|message_list"),
        ("synth", "template|labeller"),
        ("init", "sft|rl|rows"),
    ],
)
def test_choices_are_listed_in_help(run, command, listed):
    assert listed in run(command, "--help")[1]


def test_the_error_of_an_unknown_name_lists_all_names(run):
    assert_refused(run("export", "x", "--out", "o", "--to", "csv"), "trl, message_list")
    assert_refused(run("ask", "What?", "--protocol", "xml"), "text, native")


# --- shell, environment, version ---


def complete(line: str) -> list[str]:
    environment = {
        **os.environ,
        "_PIXEL_REASONER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pixel_reasoner.cli import app; app(prog_name='pixel-reasoner')",
        ],
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout.split()


@pytest.mark.medium
def test_the_shell_completes_benchmarks_and_choices():
    assert complete("pixel-reasoner eval vst") == [n for n in BENCHMARKS if n.startswith("vst")]
    assert complete("pixel-reasoner eval vstar --scorer ha") == ["harness"]


def test_the_environment_names_model_and_servers(run, picture, monkeypatch):
    from pixel_reasoner.cli import ask

    asked = []

    def model_spec(*options: object) -> None:
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(ask, "model_spec", model_spec)
    monkeypatch.setenv("PIXEL_REASONER_MODEL", "served")
    monkeypatch.setenv("PIXEL_REASONER_ENDPOINT", "http://a/v1 http://b/v1")
    run("ask", "What?", "--image", picture)
    run("ask", "What?", "--image", picture, "--model", "mine", "--endpoint", "http://c/v1")
    assert [(name, list(servers.endpoint)) for name, _, servers in asked] == [
        ("served", ["http://a/v1", "http://b/v1"]),
        ("mine", ["http://c/v1"]),
    ]


def test_version(run):
    assert run("--version") == (0, f"pixel-reasoner {__version__}\n", "")
