"""HTML pages in a real browser: every control works, and no page runs or loads anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attacks.browser import chromium, open_browser, open_page

from pixel_reasoner.evals.compare import compare_runs
from pixel_reasoner.evals.run import Evaluation, evaluate_compared, load_run
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports import write_report
from pixel_reasoner.reports.build import write_comparison, write_run_report
from pixel_reasoner.reports.run import outcomes
from pixel_reasoner.reports.training import write_training_report
from pixel_reasoner.reports.training_log import LOG
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig
from report_fixture import HOSTILE, all_traces, draw_scene

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium")
PAGES = ("run", "compare", "traces", "curves")
FILTERED = ("run", "compare", "traces")
ZOOM = (
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0.1, 0.1, 0.6, 0.6], "target_image": 1}}\n'
    "</tool_call>"
)

DECODE_ALL = "Promise.all([...document.images].map(one => (one.loading = 'eager', one.decode())))"
TRY_ALL_FILTERS = """() => [...document.querySelectorAll("#filters select")].map(select => {
  const count = value => {
    select.value = value;
    select.dispatchEvent(new Event("input", { bubbles: true }));
    return [document.querySelectorAll("article.trace:not([hidden])").length, document.getElementById("shown").textContent];
  };
  const results = [...select.options].map(option => [option.textContent, ...count(option.value)]);
  count("");
  return results;
})"""
"""for each filter and each of its values: its text, the number of traces shown, and its label on the page"""


def reply(conversation: Any) -> str:
    """Zoom for even questions, and answer correctly depending on the number: all four outcomes occur."""
    text = str(conversation[-1] if len(conversation) < 3 else conversation[1])
    number = next(n for n in range(8) if f"number {n}?" in text)
    has_operations = "zoom_in" in str(conversation[0])
    if (
        has_operations
        and number % 2 == 0
        and not any(m["role"] == "assistant" for m in conversation)
    ):
        return f"I look.\n{ZOOM}"
    is_right = number in ((0, 1, 2, 3) if has_operations else (2, 3, 4, 5))
    return rf"\boxed{{{'yes' if is_right else 'no'}}}"


def evaluation() -> Evaluation:
    questions = [
        Question(
            id=f"q{n}",
            text=f"Is it number {n}?",
            media=(MediaItem(kind="image", path="media/scene.png"),),
            answer=("yes",),
            category=("first", "second\nline", HOSTILE)[n % 3],
            needs_look=(True, False, None)[n % 3],
        )
        for n in range(8)
    ]
    rows = {"read": 9, "dropped": {HOSTILE: {"count": 1, "rows": [HOSTILE]}}, "noted": {}}
    return Evaluation(
        questions, ScriptedModel(reply), RolloutConfig(), {"name": "vstar"}, rows=rows
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with all kinds of pages."""
    folder = tmp_path_factory.mktemp("pages")
    run = folder / "a run"
    (run / "media").mkdir(parents=True)
    draw_scene(run / "media" / "scene.png")
    evaluate_compared(evaluation(), run)
    write_run_report([run], folder / "run.html", references=True)
    found = compare_runs(run, run / "without")
    write_comparison(found, run, run / "without", folder / "compare.html")
    write_report(all_traces(folder).values(), folder / "traces.html", title=HOSTILE)
    rows = [json.dumps({"step": n, "rapr": n / 9, "loss": -n}) for n in range(9)]
    (folder / LOG).write_text("\n".join(rows))
    write_training_report([folder], folder / "curves.html")
    return folder


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


def cards(page: Any) -> list[str]:
    """Return the ids of the visible traces."""
    return page.eval_on_selector_all("article.trace:not([hidden])", "cards => cards.map(c => c.id)")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_errors_and_requests_nothing(browser, folder, name):
    with open_page(browser, folder / f"{name}.html") as (page, problems):
        page.evaluate(DECODE_ALL)
        assert page.locator("img").count() > 0
        assert problems == []


@pytest.mark.parametrize("name", FILTERED)
def test_every_filter_value_shows_its_stated_number_of_traces(browser, folder, name):
    with open_page(browser, folder / f"{name}.html") as (page, problems):
        total = len(cards(page))
        results = page.evaluate(TRY_ALL_FILTERS)
        assert len(results) == (5 if name == "traces" else 6)
        for (title, count, label), *values in results:
            assert (title, count, label) == ("any", total, f"{total} of {total} shown")
            for title, count, label in values:
                assert f"({count})" in title
                assert label == f"{count} of {total} shown"
        assert len(cards(page)) == total
        assert problems == []


def test_the_filter_of_gain_and_harm_shows_those_questions(browser, folder):
    run = folder / "a run"
    expected = outcomes(load_run(run), load_run(run / "without"))
    assert set(expected.values()) == {"gain", "harm", "both", "neither"}
    with open_page(browser, folder / "run.html") as (page, _):
        for outcome in ("gain", "harm"):
            page.get_by_label("effect of operations").select_option(outcome)
            ids = page.eval_on_selector_all(
                "article.trace:not([hidden])",
                "cards => cards.map(c => c.querySelectorAll('.meta span')[1].textContent)",
            )
            assert sorted(ids) == sorted(q for q, one in expected.items() if one == outcome)


def test_filters_and_search_combine_and_the_button_resets_them(browser, folder):
    with open_page(browser, folder / "run.html") as (page, _):
        everything = cards(page)
        page.locator("select[name=operations]").select_option("1")
        filtered = cards(page)
        page.locator("select[name=outcome]").select_option("right")
        both = cards(page)
        page.get_by_role("searchbox").fill("NUMBER 2?")
        (one,) = cards(page)
        assert set(everything) > set(filtered) > set(both) > {one}
        page.get_by_role("searchbox").fill("no trace says this")
        assert cards(page) == []
        page.get_by_role("button", name="show all").click()
        page.wait_for_function("document.getElementById('shown').textContent.startsWith('8 of 8')")
        assert cards(page) == everything


def test_the_address_of_a_page_keeps_its_filters(browser, folder):
    with open_page(browser, folder / "run.html") as (page, problems):
        page.get_by_label("effect of operations").select_option("gain")
        page.get_by_role("searchbox").fill("number")
        before = cards(page)
        page.reload()
        assert cards(page) == before
        assert page.get_by_label("effect of operations").input_value() == "gain"
        assert problems == []


def test_j_and_k_move_between_visible_traces(browser, folder):
    with open_page(browser, folder / "run.html") as (page, _):
        page.get_by_label("effect of operations").select_option("harm")
        shown = cards(page)
        page.evaluate("document.activeElement.blur()")
        visited = []
        for key in ("j", "j", "j", "k"):
            page.keyboard.press(key)
            visited.append(page.evaluate("document.activeElement.id"))
        assert visited == [shown[0], shown[1], shown[1], shown[0]]


def test_a_box_links_to_its_step_and_both_are_highlighted(browser, folder):
    with open_page(browser, folder / "traces.html") as (page, _):
        box = page.locator("#t2 .pair g.box[data-link='t2-2']").first
        box.scroll_into_view_if_needed()
        box.dispatch_event("pointerover")
        hot = page.eval_on_selector_all(".hot", "all => all.map(one => one.dataset.link)")
        assert set(hot) == {"t2-2"}
        assert len(hot) >= 3, "the boxes, the step and its crop"
        page.evaluate("scrollTo(0, 0)")
        box.dispatch_event("click")
        page.wait_for_function(
            "(r => r.top >= 0 && r.bottom <= innerHeight)(document.getElementById('t2-2').querySelector('.dot').getBoundingClientRect())"
        )


@pytest.mark.parametrize("name", FILTERED)
def test_every_folded_part_can_be_opened(browser, folder, name):
    with open_page(browser, folder / f"{name}.html") as (page, _):
        parts = "[...document.querySelectorAll('details')]"
        page.locator("header summary").first.click()
        page.evaluate(f"{parts}.slice(1).forEach(part => part.firstElementChild.click())")
        sizes = page.evaluate(
            f"{parts}.map(part => part.open && part.lastElementChild.clientHeight)"
        )
        assert sizes
        assert min(sizes) > 0


def test_an_injected_script_does_not_run(browser, folder, tmp_path):
    page_text = (folder / "traces.html").read_text()
    hostile = (
        "<script>alert(1)</script><img src=x onerror=alert(2)><img src=http://127.0.0.1:9/a.png>"
    )
    (tmp_path / "page.html").write_text(page_text.replace("<main>", f"<main>{hostile}"))
    with open_page(browser, tmp_path / "page.html") as (page, problems):
        page.wait_for_load_state()
        assert problems != []
        assert all("Content Security Policy" in one for one in problems)
