"""The lesson in a real browser: by mouse, by keyboard alone, on a phone; rules of accessibility in every state; no leak."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attacks.browser import chromium, open_browser, open_page
from axe_playwright_python.sync_playwright import Axe

from lesson_fixture import write_run
from pixel_reasoner.workflows.lessons import Lesson, LessonSpec, make_lesson

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium")
WIDE, NARROW = (1400, 900), (400, 850)
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
  && !one.closest("svg, .offscreen, .wide")).map(one => one.outerHTML.slice(0, 120))"""
SPOKEN = """() => document.body.innerText + ' ' + document.title + ' ' + [...document.querySelectorAll('#app *')].flatMap(one =>
  [...one.attributes].filter(({ name }) => name !== 'src').map(one => one.value)).join(' ')"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> tuple[Path, Lesson]:
    """A lesson of a run: right and wrong looks, a wrong answer, a rejected call, a clip."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    spec = LessonSpec(out=folder / "out", traces=(folder,), formats=("html", "handout", "notes"))
    written = make_lesson(spec)
    return written.out, written.lesson


@contextmanager
def page_of(
    browser: Any, path: Path, size: tuple[int, int] = WIDE, **options: Any
) -> Iterator[Any]:
    """Open a page and check at the end that it reported nothing and loaded nothing else."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, reduced_motion="reduce", **options)
    with open_page(context, path) as (page, problems):
        page.wait_for_selector("main")
        yield page
        assert problems == []
    context.close()


def violations(page: Any) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found]


def states(page: Any, lesson: Lesson) -> Iterator[str]:
    """Go through a lesson by mouse and yield the name of each state."""
    yield "start"
    page.get_by_role("button", name="Start").click()
    for step in lesson.steps:
        page.wait_for_selector("form.guess")
        yield f"{step.number} empty"
        if step.is_choice:
            page.locator(".choices label").nth(3).click()
        else:
            box = page.locator(".guess-area").bounding_box()
            page.locator(".guess-area").click(
                position={"x": 0.25 * box["width"], "y": 0.3 * box["height"]}
            )
            page.get_by_label("Your answer").fill("my answer")
        yield f"{step.number} guessed"
        page.get_by_role("button", name="Show where").click()
        page.wait_for_selector(".reveal")
        page.locator("textarea").fill(f"words about {step.number}")
        yield f"{step.number} revealed"
        page.get_by_role("button", name=re.compile("Next question|Finish")).click()
    page.wait_for_selector(".summary")
    yield "end"


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_every_state_obeys_the_rules_and_fits(browser, lesson, size, scheme):
    out, content = lesson
    with page_of(browser, out / "learners" / "lesson.html", size, color_scheme=scheme) as page:
        for state in states(page, content):
            assert violations(page) == [], state
            assert page.evaluate(OUTSIDE) == [], state


def test_nothing_shows_an_answer_before_the_reveal(browser, lesson):
    out, content = lesson
    with page_of(browser, out / "learners" / "lesson.html") as page:
        for state in states(page, content):
            name = state.partition(" ")[0]
            if "guessed" not in state and "empty" not in state:
                continue
            reveal = content.steps[int(name) - 1].reveal
            shown = page.evaluate(SPOKEN)
            for look in reveal.looks:
                assert not look.place or look.place not in shown, state
                assert not look.words or look.words not in shown, state
                assert not any(one.ref in shown or one.alt in shown for one in look.pictures)
            assert "The model's answer" not in shown
            assert page.locator(".reveal, .boxes .right, .boxes .wrong").count() == 0


def test_a_mistake_is_marked_before_and_after(browser, lesson):
    out, content = lesson
    marks = {}
    with page_of(browser, out / "learners" / "lesson.html") as page:
        for state in states(page, content):
            marks[state] = page.locator(".mistake-mark").all_inner_texts()
    for step in content.steps:
        before, after = marks[f"{step.number} guessed"], marks[f"{step.number} revealed"]
        assert len(before) == step.has_mistake
        assert len(after) == 2 * step.has_mistake
        if step.has_mistake:
            assert "the correct answer is " in after[1].lower()


def test_a_box_is_drawn_with_the_mouse_and_compared_with_the_evidence(browser, lesson):
    out, _ = lesson
    with page_of(browser, out / "learners" / "lesson.html") as page:
        page.get_by_role("button", name="Start").click()
        frame = page.locator(".guess-area").bounding_box()

        def at(x: float, y: float) -> tuple[float, float]:
            return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]

        page.mouse.move(*at(0.9, 0.9))
        page.mouse.down()
        page.mouse.move(*at(0.7, 0.7), steps=3)
        page.mouse.up()
        page.wait_for_selector(".said:has-text('lower right')")
        line = page.locator(".box.mine .line").bounding_box()
        assert line["width"] / frame["width"] == pytest.approx(0.2, abs=0.02)
        page.get_by_role("button", name="Show where").click()
        assert "another place" in page.inner_text(".result")
        assert page.locator(".marked .box.mine").count() == 1
        box = page.locator(".marked .box.right .line").bounding_box()
        picture = page.locator(".marked img").bounding_box()
        assert (box["x"] - picture["x"]) / picture["width"] == pytest.approx(0.2, abs=0.01)


def test_a_whole_lesson_by_keyboard_alone(browser, lesson):
    out, content = lesson
    with page_of(browser, out / "learners" / "lesson.html", NARROW) as page:

        def tab_to(selector: str) -> None:
            for _ in range(40):
                page.keyboard.press("Tab")
                if page.evaluate("one => document.activeElement.matches(one)", selector):
                    return
            raise AssertionError(f"no way to {selector}")

        tab_to("button.primary")
        page.keyboard.press("Enter")
        for step in content.steps:
            page.wait_for_selector("form.guess")
            tab_to("input[type=radio]")
            page.keyboard.press("Space")
            page.wait_for_selector(".said:has-text('Your guess')")
            page.keyboard.press("ArrowRight")
            guess = "frame 2" if step.is_choice else "upper centre"
            page.wait_for_selector(f".said:text-is('Your guess: {guess}')")
            tab_to("form button.primary")
            page.keyboard.press("Enter")
            page.wait_for_selector(".reveal")
            page.wait_for_selector("h2:focus:has-text('Where the model looked')")
            tab_to("textarea")
            page.keyboard.type("my own words")
            tab_to(".step-nav .primary")
            page.keyboard.press("Enter")
        page.wait_for_selector(".summary")
        assert (
            page.inner_text(".numbers").count(f"{len(content.steps)} of {len(content.steps)}") >= 2
        )
        assert page.locator(".summary .quote").all_inner_texts() == ["my own words"] * len(
            content.steps
        )


def test_a_guess_is_needed_before_the_reveal(browser, lesson):
    out, _ = lesson
    with page_of(browser, out / "learners" / "lesson.html") as page:
        page.get_by_role("button", name="Start").click()
        page.get_by_role("button", name="Show where").dispatch_event("click")
        page.get_by_label("Your answer").press("Enter")
        assert page.locator(".reveal").count() == 0
        assert "First choose a place" in page.inner_text("#commit-hint")


def test_progress_and_words_stay_in_the_browser_and_can_be_saved_and_deleted(browser, lesson):
    out, content = lesson
    with page_of(browser, out / "learners" / "lesson.html", accept_downloads=True) as page:
        for state in states(page, content):
            if state == "2 revealed":
                page.reload()
                page.wait_for_selector(".reveal")
                assert page.locator("textarea").input_value() == "words about 2"
        with page.expect_download() as download:
            page.get_by_role("button", name="Save my words").click()
        text = Path(download.value.path()).read_text()
        assert all(f"words about {step.number}" in text for step in content.steps)
        page.get_by_role("button", name="Start again").click()
        page.reload()
        page.wait_for_selector("h1")
        assert page.get_by_role("button", name="Start").is_visible()


def test_without_storage_a_lesson_works(browser, lesson):
    out, _ = lesson
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no') } })"
    )
    with open_page(context, out / "learners" / "lesson.html") as (page, problems):
        page.get_by_role("button", name="Start").click()
        page.locator(".guess-area").click()
        page.get_by_role("button", name="Show where").click()
        page.wait_for_selector(".reveal")
        assert problems == []
    context.close()


@pytest.mark.parametrize("name", ["learners/handout.html", "teacher/notes.html"])
def test_papers_obey_the_rules_and_fit(browser, lesson, name):
    for size, scheme in ((WIDE, "dark"), (NARROW, "light")):
        with page_of(browser, lesson[0] / name, size, color_scheme=scheme) as page:
            assert violations(page) == []
            assert page.evaluate(OUTSIDE) == []


def test_the_handout_prints_one_question_per_sheet(browser, lesson, tmp_path):
    from pypdfium2 import PdfDocument

    out, content = lesson
    with page_of(browser, out / "learners" / "handout.html") as page:
        page.pdf(path=str(tmp_path / "handout.pdf"), format="A4")
    with PdfDocument(tmp_path / "handout.pdf") as document:
        assert len(document) == len(content.steps)
