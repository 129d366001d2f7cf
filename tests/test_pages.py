"""Reports in a real browser: every control works, and no page runs or loads anything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from attacks.browser import chromium, open_browser, open_page
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from pixel_reasoner.display import notebook_html
from pixel_reasoner.reports import write_report
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.page import ITEMS_PER_PART, Row, write_rows
from pixel_reasoner.reports.schema import Report, TextSection, Word
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import Trace, load_traces, save_traces
from report_fixture import HOSTILE, all_traces, answer, draw_scene, picture_trace, zoom

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium")
MANY = 3 * ITEMS_PER_PART + 7
WIDE, NARROW = (1400, 900), (400, 850)
LOOKS = [
    (WIDE, "light"),
    (NARROW, "dark"),
    pytest.param(WIDE, "dark", marks=pytest.mark.slow),
    pytest.param(NARROW, "light", marks=pytest.mark.slow),
]
SETTLE_MS = 150
"""after which a key has its effect on a busy machine"""
VISIBLE_IDS = "[...document.querySelectorAll('.rows [role=option]')].map(one => one.id)"
DECODE_ALL = "Promise.all([...document.images].map(one => (one.loading = 'eager', one.decode())))"
LINES_OUTSIDE = """() => [...document.querySelectorAll(".detail *, .overview *")].filter(one =>
  one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".wide, pre, svg, .rows")).map(one => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a page of all kinds of traces, and one of many traces as a page and as a folder."""
    folder = tmp_path_factory.mktemp("pages")
    write_report(all_traces(folder).values(), folder / "traces.html", title=HOSTILE, root=folder)
    save_traces(many_traces(folder / "scene.png"), folder / "many.jsonl")
    write_report(load_traces(folder / "many.jsonl"), folder / "many.html")
    write_report(load_traces(folder / "many.jsonl"), folder / "many")
    return folder


def many_traces(scene: Path) -> Iterator[Trace]:
    """Yield traces of which every third is wrong; those with an odd number zoom."""
    for number in range(MANY):
        found = "6" if number % 3 else "5"
        turns = [zoom(2, Box(0.125, 0.15, 0.375, 0.45))] if number % 2 else []
        yield picture_trace(
            scene,
            *turns,
            answer(found),
            answer=found,
            seconds=float(number),
            about={"id": f"q{number:03}", "text": f"Which digit has number {number}?"},
        )


@contextmanager
def page_of(
    browser: Any, path: Path, address: str = "", size: tuple[int, int] = WIDE, **options: Any
) -> Iterator[Any]:
    """Open a page and check at the end that it ran, loaded and reported nothing unexpected."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **options
    )
    with open_page(
        context, path, address, files=path.parent if path.name == "index.html" else None
    ) as (
        page,
        problems,
    ):
        page.wait_for_selector(".item h2, .overview, .rows", state="attached")
        yield page
        assert problems == []
    context.close()


def wait_until(page: Any, expression: str, arg: Any = None) -> None:
    """Wait until an expression of the page is true. Playwright's own wait evaluates texts, which the policy forbids."""
    for _ in range(200):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def shown_count(page: Any) -> int:
    return int(page.inner_text(".count").split(" of ")[0].replace(",", ""))


def open_id(page: Any) -> str:
    """Return the id of the open trace."""
    return page.locator(".detail .meta span:not(.number)").first.inner_text()


def selected(page: Any) -> str:
    return page.get_attribute(".rows [aria-selected=true]", "id")


# --- pages ---


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_trace_is_shown_without_errors_and_nothing_is_requested(
    browser, folder, size, scheme
):
    names = [trace.question.id for trace in all_traces(folder).values()]
    with page_of(browser, folder / "traces.html", size=size, color_scheme=scheme) as page:
        for name in names:
            page.evaluate("id => { location.hash = new URLSearchParams({ trace: id }) }", name)
            wait_until(
                page,
                "id => document.querySelector('.detail .meta')?.textContent.includes(id)",
                arg=name,
            )
            page.evaluate(DECODE_ALL)
            assert page.evaluate(LINES_OUTSIDE) == [], name


@pytest.mark.parametrize("name", ["many.html", "many/index.html"])
def test_a_page_and_a_folder_show_the_same(browser, folder, name):
    with page_of(browser, folder / name) as page:
        assert shown_count(page) == MANY
        page.evaluate(DECODE_ALL)
        for number in (0, ITEMS_PER_PART, MANY - 1):
            page.evaluate(f"location.hash = 'trace=q{number:03}'")
            wait_until(
                page,
                f"document.querySelector('.item h2')?.textContent.includes('number {number}?')",
            )
            page.evaluate(DECODE_ALL)
        assert page.locator(".pair img").count() == 2


def test_an_address_is_not_overwritten_by_the_one_before(browser, folder):
    """Effects of a framework run some milliseconds after a change: a newer address may be set in between."""
    with page_of(browser, folder / "many.html") as page:
        lost = page.evaluate(
            """async () => {
              const lost = [];
              for (let ms = 0; ms < 40; ms += 1) {
                location.hash = `trace=q${String(ms).padStart(3, "0")}`;
                await new Promise((resolve) => setTimeout(resolve, ms));
                location.hash = "trace=q050";
                await new Promise((resolve) => setTimeout(resolve, 60));
                if (location.hash !== "#trace=q050") lost.push(ms);
              }
              return lost;
            }"""
        )
        assert lost == []


def test_only_visible_rows_exist(browser, folder):
    with page_of(browser, folder / "many.html") as page:
        first = page.evaluate(VISIBLE_IDS)
        page.evaluate("document.querySelector('.rows').scrollTop = 1e6")
        page.wait_for_selector(f"#row-{MANY - 1}")
        last = page.evaluate(VISIBLE_IDS)
        assert max(len(first), len(last)) < 30
        assert set(first) & set(last) == set()


def test_a_missing_picture_is_named_relative_to_the_run(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=gone-1") as page:
        texts = page.locator(".missing").all_inner_texts()
        assert texts
        assert all("gone.png" in one and str(folder) not in one for one in texts)


def test_a_missing_part_of_a_folder_is_named(browser, folder, tmp_path):
    copy = shutil.copytree(folder / "many", tmp_path / "copy")
    (copy / "parts" / "1.js").unlink()
    context = browser.new_context()
    with open_page(context, copy / "index.html", f"trace=q{ITEMS_PER_PART:03}", files=copy) as (
        page,
        _,
    ):
        page.wait_for_selector(".detail .error")
        assert f"q{ITEMS_PER_PART:03}" in page.inner_text(".detail .error")
    context.close()


def test_an_injected_script_does_not_run(browser, folder, tmp_path):
    text = (folder / "traces.html").read_text()
    hostile = (
        "<script>alert(1)</script><img src=x onerror=alert(2)><img src=http://127.0.0.1:9/a.png>"
    )
    (tmp_path / "page.html").write_text(text.replace("<body>", f"<body>{hostile}"))
    with open_page(browser, tmp_path / "page.html") as (page, problems):
        page.wait_for_load_state()
        assert problems != []
        assert all("Content Security Policy" in one for one in problems)


# --- the list ---


def test_filters_show_the_number_that_they_state(browser, folder):
    with page_of(browser, folder / "traces.html", "tab=traces") as page:
        page.locator(".more summary").click()
        for group in page.locator(".filters fieldset").all():
            for label in group.locator("label").all():
                count = int(label.locator("b").inner_text())
                label.locator("input").check()
                wait_until(
                    page, f"document.querySelector('.count').textContent.startsWith('{count} of')"
                )
                label.locator("input").uncheck()


def test_filters_and_search_combine_and_are_removed_together(browser, folder):
    with page_of(browser, folder / "many.html") as page:
        page.get_by_role("button", name="wrong", exact=False).last.click()
        wrong = shown_count(page)
        assert wrong == len(range(0, MANY, 3))
        page.locator(".more summary").click()
        page.locator("fieldset", has_text="operations").locator("label", has_text="1").last.locator(
            "input"
        ).check()
        both = shown_count(page)
        assert both == len([n for n in range(0, MANY, 3) if n % 2])
        page.get_by_role("searchbox").fill("NUMBER 3?")
        wait_until(page, "document.querySelector('.count').textContent.startsWith('1 of')")
        page.get_by_role("button", name="show all").click()
        wait_until(page, f"document.querySelector('.count').textContent.startsWith('{MANY} of')")


def test_search_finds_reasoning_in_all_parts_of_a_folder(browser, folder):
    with page_of(browser, folder / "many" / "index.html") as page:
        page.keyboard.press("/")
        wait_until(page, "document.activeElement.type === 'search'")
        page.keyboard.type("so i zoom in")
        wait_until(
            page, f"document.querySelector('.count').textContent === '{MANY // 2} of {MANY}'"
        )


def test_traces_are_sorted_by_a_number(browser, folder):
    with page_of(browser, folder / "many.html") as page:
        page.get_by_label("sort by").select_option("-seconds")
        page.wait_for_selector(f".rows [role=option]:has-text('number {MANY - 1}?')")
        assert page.evaluate(VISIBLE_IDS)[0] == f"row-{MANY - 1}"


def test_the_grid_shows_the_same_traces(browser, folder):
    with page_of(browser, folder / "many.html") as page:
        page.keyboard.press("g")
        page.wait_for_selector(".rows.grid .cell")
        assert page.evaluate(VISIBLE_IDS)[:3] == ["row-0", "row-1", "row-2"]
        page.locator("#row-2").click()
        assert open_id(page) == "q002"


def test_the_address_contains_filters_search_and_the_open_trace(browser, folder):
    with page_of(browser, folder / "many.html") as page:
        page.get_by_role("button", name="wrong", exact=False).last.click()
        page.get_by_role("searchbox").fill("number")
        page.locator(".rows [role=option]").nth(2).click()
        before = open_id(page), shown_count(page)
        page.reload()
        page.wait_for_selector(".item h2")
        wait_until(
            page, f"document.querySelector('.count').textContent.startsWith('{before[1]} of')"
        )
        assert open_id(page) == before[0] == "q006"
        assert page.get_by_role("searchbox").input_value() == "number"


def test_j_and_k_open_the_next_and_the_previous_trace(browser, folder):
    with page_of(browser, folder / "many.html", "trace=q000&outcome=wrong") as page:
        visited = []
        for key in "jjkkk":
            page.keyboard.press(key)
            page.wait_for_timeout(SETTLE_MS)
            visited.append(open_id(page))
        assert visited == ["q003", "q006", "q003", "q000", "q000"]
        for _ in range(40):
            page.keyboard.press("j")
        page.wait_for_timeout(2 * SETTLE_MS)
        box = page.locator(".rows [aria-selected=true]").bounding_box()
        assert box["y"] + box["height"] <= WIDE[1] + 1


def test_on_a_phone_a_trace_opens_over_the_list_and_closes_again(browser, folder):
    with page_of(browser, folder / "many.html", size=NARROW) as page:
        assert not page.locator(".detail").is_visible()
        page.locator("#row-1").click()
        page.wait_for_selector(".item h2")
        assert not page.locator(".rows").is_visible()
        page.get_by_role("button", name="all traces").click()
        assert page.locator("#row-1").is_visible()


# --- a trace ---


def test_a_box_and_its_step_are_highlighted_together(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.locator(".pair g.box.turn-2 .line").first.dispatch_event("pointerenter")
        page.locator(".pair g.box.turn-2").first.hover(force=True)
        page.wait_for_selector(".turn.hot[data-turn='2']")
        assert page.locator("g.box.hot").count() >= 1
        page.locator(".pair g.box.turn-2").first.dispatch_event("click")
        wait_until(
            page,
            "(r => r.top >= 0 && r.bottom <= innerHeight)(document.querySelector('[data-turn=\"2\"] .dot').getBoundingClientRect())",
        )


def test_boxes_are_drawn_at_the_cropped_regions(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        picture = page.locator(".pair img").nth(1).bounding_box()
        box = page.locator(".pair g.box.turn-1 .line").bounding_box()
        left, top = (
            (box["x"] - picture["x"]) / picture["width"],
            (box["y"] - picture["y"]) / picture["height"],
        )
        assert (left, top) == pytest.approx((0.125, 0.15), abs=0.01)
        assert box["width"] / picture["width"] == pytest.approx(0.25, abs=0.01)


def test_selected_and_evidence_frames_are_marked_and_a_click_seeks(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=video-1") as page:
        frames = page.locator(".timeline .frame")
        kinds = [frames.nth(n).get_attribute("class") for n in range(8)]
        assert [n + 1 for n, kind in enumerate(kinds) if "selected" in kind] == [4, 7]
        assert [n + 1 for n, kind in enumerate(kinds) if "evidence" in kind] == [4, 5]
        wait_until(page, "document.querySelector('video').readyState >= 1")
        frames.nth(6).locator("button").click()
        wait_until(page, "Math.abs(document.querySelector('video').currentTime - 3) < 0.3")
        page.get_by_role("button", name="play from here").click()
        wait_until(page, "document.querySelector('video').currentTime > 3.05")


def test_a_trace_is_copied_as_json(browser, folder):
    with page_of(
        browser,
        folder / "traces.html",
        "trace=attribute-2",
        permissions=["clipboard-read", "clipboard-write"],
    ) as page:
        page.get_by_role("button", name="copy as JSON").click()
        page.wait_for_selector("text=copied")
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert copied["question"]["id"] == "attribute-2"


# --- the picture view ---


def test_the_picture_view_zooms_moves_and_closes_with_keys(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.keyboard.press("z")
        page.wait_for_selector("dialog.zoom[open]")
        image = page.locator(".zoom .movable").last
        before = image.bounding_box()
        page.keyboard.press("+")
        page.wait_for_timeout(SETTLE_MS)
        larger = image.bounding_box()
        assert larger["width"] > 1.3 * before["width"]
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(SETTLE_MS)
        assert image.bounding_box()["x"] == pytest.approx(larger["x"] - 60, abs=2)
        page.keyboard.press("0")
        page.wait_for_timeout(SETTLE_MS)
        assert image.bounding_box()["width"] == pytest.approx(before["width"], abs=1)
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog.zoom", state="detached")


def test_boxes_stay_in_place_under_zoom(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.keyboard.press("z")

        def place() -> tuple[float, float]:
            picture = page.locator(".zoom .movable img").last.bounding_box()
            box = page.locator(".zoom g.box.turn-1 .line").last.bounding_box()
            return (box["x"] - picture["x"]) / picture["width"], (
                box["y"] - picture["y"]
            ) / picture["height"]

        first = place()
        for _ in range(4):
            page.keyboard.press("+")
            page.wait_for_timeout(SETTLE_MS)
        assert place() == pytest.approx(first, abs=0.01)


def test_the_picture_view_centres_on_each_box_in_turn(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.keyboard.press("z")
        page.wait_for_selector("dialog.zoom[open]")
        page.wait_for_timeout(SETTLE_MS)
        for turn in (1, 2):
            page.keyboard.press("n")
            wait_until(
                page, f"document.querySelector('.zoom .status').textContent.includes('turn {turn}')"
            )
            page.wait_for_timeout(SETTLE_MS)
            box = page.locator(f".zoom g.box.turn-{turn} .line").last.bounding_box()
            stage = page.locator(".zoom .stage").bounding_box()
            middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            assert middle == pytest.approx(
                (stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2), abs=5
            )
        page.keyboard.press("m")
        wait_until(page, "document.querySelectorAll('.zoom .layer').length === 2")
        page.wait_for_timeout(SETTLE_MS)
        one, other = (
            page.locator(".zoom g.box.turn-2 .line").nth(n).bounding_box() for n in (0, 1)
        )
        assert one["width"] == pytest.approx(other["width"], abs=1)


def test_layers_are_toggled(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.keyboard.press("z")
        page.get_by_label("crops").uncheck()
        assert page.locator(".zoom g.box.crop").count() == 0
        assert page.locator(".zoom g.box.evidence").count() == 1
        page.keyboard.press("b")
        assert page.locator(".zoom g.box").count() == 0
        page.keyboard.press("b")
        assert page.locator(".zoom g.box").count() == 3


def test_a_crop_opens_in_its_source_at_its_box(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.locator(".results .open").nth(1).click()
        page.wait_for_timeout(2 * SETTLE_MS)
        box = page.locator(".zoom g.box.turn-2 .line").last.bounding_box()
        assert box["x"] + box["width"] / 2 == pytest.approx(WIDE[0] / 2, abs=5)
        assert page.locator(".minimap").is_visible()


# --- accessibility and odd input ---


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_no_page_and_no_dialog_violates_an_accessibility_rule(browser, folder, size, scheme):
    states = [
        ("trace=attribute-2", ""),
        ("trace=video-1", ""),
        ("view=grid", ""),
        ("trace=gone-1", ""),
    ]
    states += [("trace=attribute-2", "z"), ("trace=attribute-2", "?")]
    for address, key in states:
        with page_of(browser, folder / "traces.html", address, size, color_scheme=scheme) as page:
            if key:
                page.keyboard.press(key)
                page.wait_for_selector("dialog[open]")
            if size == WIDE and not key:
                page.locator(".more summary").click()
            found = Axe().run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], (address, key)


def test_a_very_large_picture_is_shown_as_a_smaller_copy(browser, tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (20_000, 3_000), 200).save(path)
    pictures = picture_trace(path).pictures
    large = (pictures[0].model_copy(update={"source_px": (20_000, 3_000), "seen_px": (512, 96)}),)
    write_report(
        [picture_trace(path, answer("6"), answer="6", pictures=large)], tmp_path / "page.html"
    )
    with page_of(browser, tmp_path / "page.html") as page:
        page.evaluate(DECODE_ALL)
        assert page.locator(".pair img").nth(1).get_attribute("width") == "16383"
        assert "20000 × 3000" in page.inner_text(".pair")


def test_a_trace_with_ten_thousand_steps_opens(browser, tmp_path):
    scene = draw_scene(tmp_path / "scene.png")
    turns = [zoom(n + 2, Box(0.1, 0.1, 0.5, 0.5), thought=f"Step {n}.") for n in range(10_000)]
    write_report([picture_trace(scene, *turns, answer("6"), answer="6")], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 3e6
    with page_of(browser, tmp_path / "page.html") as page:
        assert "9,801 turns are not shown" in page.inner_text(".turn.omitted")
        assert page.locator(".turn[data-turn]").count() == 200
        assert "Step 9999." in page.inner_text(".turns")


def test_printing_shows_the_open_trace_without_controls(browser, folder):
    with page_of(browser, folder / "traces.html", "trace=attribute-2") as page:
        page.emulate_media(media="print")
        assert page.locator(".item h2").is_visible()
        assert not page.locator(".side").is_visible()
        assert not page.locator(".open").first.is_visible()


@pytest.mark.parametrize("sandbox", ["", "allow-scripts"])
def test_a_trace_works_in_the_frame_of_a_notebook(browser, folder, tmp_path, sandbox):
    traces = all_traces(folder)
    inner = notebook_html(traces["zoom into zoom"])
    if sandbox:  # as Colab shows outputs
        inner = inner.replace("<iframe ", f'<iframe sandbox="{sandbox}" ')
    (tmp_path / "page.html").write_text(f"<!doctype html><title>notebook</title>{inner}")
    with open_page(browser, tmp_path / "page.html") as (page, problems):
        frame = page.frame_locator("iframe")
        frame.locator(".item h2").wait_for()
        assert frame.locator(".pair img").count() == 2
        frame.locator(".open").first.click()
        frame.locator("dialog.zoom").wait_for()
        page.keyboard.press("n")
        page.keyboard.press("Escape")
        frame.locator("dialog.zoom").wait_for(state="detached")
        assert problems == []


def test_a_report_replaces_words_of_the_viewer(browser, tmp_path):
    trace = picture_trace(draw_scene(tmp_path / "scene.png"), answer("2"))
    words = {name: f"word {number}" for number, name in enumerate(get_args(Word))}
    rows = [Row([Asked(trace, "unparsed")], {"operations": ()})] * 2
    sections = (TextSection(title="About", text="Photos."),)
    report = Report(title="Photos", sections=sections, words=words)
    write_rows(rows, tmp_path / "page.html", report)
    with open_page(browser, tmp_path / "page.html", "trace=attribute-1") as (page, problems):
        page.wait_for_selector(".pair")
        assert "operation" not in page.inner_text(".rows")
        page.click(".pair .open >> nth=1")
        text = page.inner_text("body")
        assert problems == []
    assert not [name for name in words if name in text]
    assert not [word for word in words.values() if word not in text]
