"""H5P packages of a lesson in a real player: h5p-standalone in Chromium, with the libraries of H5P.

`make h5p-player` fetches both. The test is skipped without them.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
from attacks.browser import chromium, open_browser

from pixel_reasoner.workflows.lessons import LessonSpec, make_lesson

CACHE = Path(__file__).parents[1] / ".cache" / "h5p"
PLAYER, LIBRARIES = CACHE / "node_modules" / "h5p-standalone" / "dist", CACHE / "libraries"
PAGE = """<!doctype html><meta charset="utf-8"><title>lesson</title><div id="h5p"></div>
<script src="/player/main.bundle.js"></script><script>
new H5PStandalone.H5P(document.getElementById("h5p"), {
  h5pJsonPath: "/PACKAGE", frameJs: "/player/frame.bundle.js", frameCss: "/player/styles/h5p.css", librariesPath: "/libraries",
});</script>"""

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(
        chromium() is None or not PLAYER.is_dir() or not LIBRARIES.is_dir(),
        reason="no Chromium or no H5P player: make h5p-player",
    ),
]


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page for each package of a lesson of one question, and the address of their server."""
    folder = tmp_path_factory.mktemp("site")
    lesson = make_lesson(LessonSpec(out=folder / "lesson", level=2, count=1, formats=("h5p",)))
    (folder / "player").symlink_to(PLAYER)
    (folder / "libraries").symlink_to(LIBRARIES)
    for name in ("find-1", "explain-1"):
        with zipfile.ZipFile(lesson.out / "teacher" / "h5p" / f"{name}.h5p") as package:
            package.extractall(folder / name)
        (folder / f"{name}.html").write_text(PAGE.replace("PACKAGE", name))
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    shutil.rmtree(folder / "find-1")


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


def played(browser, address):
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("iframe.h5p-iframe")
    return page, page.frame_locator("iframe.h5p-iframe"), errors


def content_of(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "content" / "content.json").read_text())


def test_places_of_an_explanation_open_by_keyboard(site, browser):
    folder, address = site
    page, frame, errors = played(browser, f"{address}/explain-1.html")
    spots = content_of(folder, "explain-1")["hotspots"]
    buttons = frame.locator("button.h5p-image-hotspot")
    buttons.first.wait_for()
    assert buttons.count() == len(spots)
    buttons.first.focus()
    page.keyboard.press("Enter")
    popup = frame.locator(".h5p-image-hotspot-popup")
    popup.wait_for()
    assert spots[0]["header"] in popup.inner_text()
    frame.locator(".h5p-image-hotspot-close-popup-button").focus()
    page.keyboard.press("Enter")
    popup.wait_for(state="detached")
    assert errors == []


@pytest.mark.parametrize("is_right", [True, False])
def test_only_the_place_of_the_evidence_is_right(site, browser, is_right):
    folder, address = site
    question = content_of(folder, "find-1")["imageHotspotQuestion"]["hotspotSettings"]
    [spot] = question["hotspot"]
    box = spot["computedSettings"]
    page, frame, errors = played(browser, f"{address}/find-1.html")
    picture = frame.locator(".h5p-image-hotspot-question img").first
    picture.wait_for()
    size = picture.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    if not is_right:
        x, y = (3, 3) if box["x"] > 10 or box["y"] > 10 else (97, 97)
    page.mouse.click(size["x"] + size["width"] * x / 100, size["y"] + size["height"] * y / 100)
    frame.locator(".h5p-question-feedback.h5p-question-visible").first.wait_for()
    if is_right:
        frame.get_by_text("You got 1 out of 1 points").first.wait_for(state="attached")
    text = frame.locator("body").inner_text()
    assert (spot["userSettings"]["feedbackText"] in text) == is_right
    assert errors == []
