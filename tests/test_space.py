"""`examples/space`: the Gradio app. The app itself is tested in its own environment (`make adapters`), because Gradio is large."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path

import pytest

from pixel_reasoner.workflows.world import demo_questions

SPACE = Path(__file__).parents[1] / "examples" / "space"
MAX_LINES = 120


def front_matter() -> dict[str, str]:
    text = (SPACE / "README.md").read_text(encoding="utf-8")
    lines = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1].splitlines()
    return {name: value.strip('"') for name, _, value in (one.partition(": ") for one in lines)}


def test_the_app_is_short_and_its_files_agree():
    assert len((SPACE / "app.py").read_text(encoding="utf-8").splitlines()) < MAX_LINES
    fields = front_matter()
    assert (fields["sdk"], fields["app_file"]) == ("gradio", "app.py")
    requirements = (SPACE / "requirements.txt").read_text(encoding="utf-8")
    major, minor, _ = fields["sdk_version"].split(".")
    assert f"gradio>={major}.{minor},<{int(major) + 1}" in requirements
    assert "pixel-reasoner[local" in requirements
    assert len(fields["short_description"]) <= 60  # the limit of the hub


@pytest.fixture(scope="module")
def app():
    pytest.importorskip("gradio", reason="needs Gradio: make adapters")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    built = runpy.run_path(str(SPACE / "app.py"))["build"]()
    _, url, _ = built.launch(prevent_thread_lock=True, quiet=True)
    yield url
    built.close()


@pytest.fixture(scope="module")
def client(app):
    from gradio_client import Client

    return Client(app, verbose=False)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return demo_questions(tmp_path_factory.mktemp("samples"))


@pytest.mark.filterwarnings("ignore")  # of Gradio
@pytest.mark.parametrize("number", [0, 4, 5])
def test_a_sample_is_answered_with_its_steps(client, samples, number):
    from gradio_client import handle_file

    sample = samples[number]
    media = handle_file(sample.media[0].path)
    picture, clip = (media, None) if sample.media[0].kind == "image" else (None, media)
    job = client.submit(picture, clip, sample.text, True, api_name="/ask")
    answer, _, page = job.result(timeout=60)
    assert answer == sample.answer[0]
    assert "<iframe" in page
    assert any("It uses" in steps for _, steps, _ in job.outputs())


@pytest.mark.filterwarnings("ignore")  # of Gradio
def test_a_question_without_a_picture_is_an_error_in_words(client):
    with pytest.raises(Exception, match="Choose a picture or a clip"):
        client.predict(None, None, "Which?", True, api_name="/ask")
    with pytest.raises(Exception, match="Choose a picture or a clip"):
        client.predict(None, None, " ", True, api_name="/ask")
