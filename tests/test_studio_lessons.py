"""Lesson mode of Studio: a generated lesson, a lesson from a file, and files that are none."""

from __future__ import annotations

import pytest
from attacks.browser import chromium, open_browser

from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.workflows.lessons import LessonSpec, make_lesson
from server_fixture import serving
from test_scheduler import CLOSER, RED
from test_studio import NARROW, OUTSIDE, WIDE, parts, studio, violations


@pytest.fixture(scope="module")
def browser():
    if chromium() is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server():
    with serving(ScriptedModel([CLOSER, RED]), parts=parts(), decode_workers=1) as one:
        yield one


@pytest.fixture(scope="module")
def lesson_file(tmp_path_factory):
    out = tmp_path_factory.mktemp("lesson") / "out"
    spec = LessonSpec(out=out, level=1, count=1, title="My lesson", formats=("html",))
    return make_lesson(spec).out / "learners" / "lesson.html"


def test_a_level_gives_a_lesson_whose_answers_are_sealed(server):
    reply = server.get("/v1/lessons/1?seed=5")
    assert reply.status_code == 200
    lesson = reply.json()
    assert len(lesson["steps"]) == 6
    assert all(isinstance(step["reveal"], str) for step in lesson["steps"])


@pytest.mark.parametrize("path", ["0", "6", "1?seed=-1", "1?seed=100000"])
def test_a_level_or_seed_out_of_range_is_an_error_of_the_client(server, path):
    reply = server.get(f"/v1/lessons/{path}")
    assert reply.status_code == 400
    assert "from" in reply.json()["error"]["message"]


@pytest.mark.medium
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_generated_lesson_is_done_in_studio(browser, server, size):
    with studio(browser, server, size) as page:
        page.get_by_role("button", name="lessons").click()
        assert violations(page) == []
        assert page.evaluate(OUTSIDE) == []
        page.get_by_role("button", name="Level 1").click()
        page.get_by_role("button", name="Start: 6 questions").click()
        page.locator(".guess-area").click()
        page.get_by_role("button", name="Show where").click()
        page.wait_for_selector(".reveal")
        assert violations(page) == []
        assert page.evaluate(OUTSIDE) == []
        page.get_by_role("button", name="Close the lesson").click()
        page.wait_for_selector(".samples button")


@pytest.mark.medium
def test_a_lesson_file_is_opened_and_another_file_is_rejected(
    browser, server, lesson_file, tmp_path
):
    (tmp_path / "other.html").write_text("<html><script>alert(1)</script></html>")
    with studio(browser, server) as page:
        page.get_by_role("button", name="lessons").click()
        chooser = page.locator("dialog input[type=file]")
        chooser.set_input_files(str(tmp_path / "other.html"))
        page.wait_for_selector("dialog .error")
        chooser.set_input_files(str(lesson_file))
        page.get_by_role("button", name="Start: 1 question").click()
        assert "My lesson" in page.inner_text(".lesson-title")
