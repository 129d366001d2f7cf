"""Studio in a real browser: camera, drop and paste, a connected model, follow-up questions, and guessing first."""

from __future__ import annotations

import base64

import pytest
from attacks.browser import chromium, open_browser

from chat_server import served
from pixel_reasoner.models.scripted import ScriptedModel
from server_fixture import serving, wait_until
from test_scheduler import CLOSER, RED
from test_server_connections import SECRET, Seeing, place
from test_studio import NARROW, OUTSIDE, answered, ask, choose, parts, studio, violations

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.medium,
]
FAKE_CAMERA = "--use-fake-device-for-media-stream"
RARE = r"It is vermilion. \boxed{vermilion}"
RECORD_STREAMS = """() => {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  window.streams = [];
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    await new Promise((resolve) => setTimeout(resolve, window.allowAfterMs ?? 0));
    const stream = await open(wanted);
    window.streams.push(stream);
    return stream;
  };
}"""
NUM_LIVE = "() => window.streams.flatMap((one) => one.getTracks()).filter((one) => one.readyState === 'live').length"
SEND_FILE = """([kind, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "scene.png", { type: "image/png" }));
  if (kind === "paste") dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
  else for (const type of ["dragover", "drop"]) dispatchEvent(new DragEvent(type, { dataTransfer: data, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser():
    with open_browser(FAKE_CAMERA) as browser:
        yield browser


@pytest.fixture(scope="module")
def server():
    with serving(ScriptedModel([CLOSER, RARE]), parts=parts(), decode_workers=1) as one:
        yield one


# --- pictures ---


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(browser, server, photo, kind):
    with studio(browser, server) as page:
        page.wait_for_selector(".model-status.ready")
        page.evaluate(SEND_FILE, [kind, base64.b64encode(photo.read_bytes()).decode()])
        page.wait_for_selector(".previews img")
        assert page.evaluate("document.querySelector('.previews img').naturalWidth") == 640
        assert page.locator(".over").count() == 0


def test_a_photo_of_the_camera_is_asked_about_and_the_camera_is_released(browser, server):
    with studio(browser, server, permissions=["camera"]) as page:
        page.evaluate(RECORD_STREAMS)
        page.wait_for_selector(".model-status.ready")
        page.get_by_role("button", name="camera").click()
        take = page.get_by_role("button", name="take the photo")
        take.click(trial=True)  # until the first frame is shown
        assert violations(page) == []
        take.click()
        page.wait_for_selector(".previews img")
        assert page.evaluate("document.querySelector('.previews img').naturalWidth") >= 320
        assert page.evaluate(NUM_LIVE) == 0
        page.get_by_label("Question", exact=True).fill("Which colour?")
        page.keyboard.press("Enter")
        answered(page)
        assert page.locator(".turn.end b").inner_text() == "vermilion"

        page.evaluate("window.allowAfterMs = 400")  # closed before the user allows it
        page.get_by_role("button", name="camera").click()
        page.get_by_role("button", name="cancel").click()
        wait_until(lambda: page.evaluate("window.streams.length") == 2)
        wait_until(lambda: page.evaluate(NUM_LIVE) == 0)


def test_a_camera_that_may_not_be_used_is_explained(browser, server):
    with studio(browser, server) as page:
        page.wait_for_selector(".model-status.ready")
        page.get_by_role("button", name="camera").click()
        page.locator("dialog [role=alert]").wait_for()
        assert page.get_by_role("button", name="take the photo").is_disabled()
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")


# --- guess first ---


def test_nothing_on_the_page_shows_the_answer_before_the_guess(browser, server, photo):
    with studio(browser, server) as page:
        page.wait_for_selector(".model-status.ready")
        choose(page, photo)
        page.get_by_text("Settings").click()
        page.get_by_label("Guess first").check()
        page.get_by_label("Question", exact=True).fill("Which colour is it?")
        before = len(server.get("/v1/traces").json()["data"])
        page.keyboard.press("Enter")
        page.wait_for_selector(".guess .picker")
        wait_until(lambda: len(server.get("/v1/traces").json()["data"]) > before)
        wait_until(lambda: server.get("/v1/traces").json()["data"][0]["state"] == "finished")
        page.wait_for_selector(".history [aria-current]")
        page.wait_for_timeout(500)
        for shown in (page.content(), page.locator("body").aria_snapshot(), page.title()):
            assert "vermilion" not in shown
        assert page.locator(".history img").count() == 0
        assert page.locator("svg.boxes").count() == 0
        assert violations(page) == []
        page.locator(".guess .picker").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_role("button", name="Show where the model looks").click()
        answered(page)
        assert "vermilion" in page.locator(".history [aria-current]").inner_text()


# --- the open trace ---


def test_a_follow_up_shows_earlier_crops_small_and_the_answer_without_latex(browser, server, photo):
    with studio(browser, server) as page:
        ask(page, photo)
        answered(page)
        assert "boxed" not in page.locator(".turns").inner_text()
        assert page.locator(".turn .thought").last.inner_text() == "It is vermilion."
        page.get_by_label("Ask further about the same picture").fill("Are you sure?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".item h2:has-text('Are you sure?')")
        answered(page)
        assert page.locator(".pair").count() == 1
        assert page.locator(".earlier .result").count() == 1
        assert page.locator(".earlier figure").bounding_box()["width"] <= 130
        assert violations(page) == []


def test_the_header_of_a_phone_is_one_row(browser, server, photo):
    with studio(browser, server, NARROW) as page:
        ask(page, photo)
        answered(page)
        assert page.locator(".top").bounding_box()["height"] <= 56
        assert page.get_by_role("button", name="new question").is_visible()
        assert page.evaluate(OUTSIDE) == []
        heading = page.locator(".stage-area h2").first.bounding_box()
        height = page.locator(".top").bounding_box()["height"]
        assert height <= heading["y"] <= 200
        page.get_by_label("Ask further about the same picture").fill("Are you sure?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".item h2:has-text('Are you sure?')")
        answered(page)
        heading = page.locator(".item h2").bounding_box()
        assert height <= heading["y"] <= 250  # below the link to the question before


# --- a connected model ---


def test_a_model_is_connected_and_its_key_is_in_memory_only(browser, photo):
    own = ScriptedModel([r"\boxed{own}"])
    with (
        served(Seeing([CLOSER, RED])) as upstream,
        serving(own, parts=parts(), endpoint_hosts=(place(upstream),), decode_workers=1) as server,
        studio(browser, server, NARROW, errors=("403", "404"), color_scheme="dark") as page,
    ):
        page.wait_for_selector(".model-status.ready")
        page.get_by_role("button", name="connect a model").first.click()
        page.get_by_label("Address").fill("http://192.168.0.9:8000/v1")
        page.keyboard.press("Enter")
        problem = page.locator("dialog [role=alert]")
        assert "--allow-endpoint 192.168.0.9:8000" in problem.inner_text()
        assert violations(page) == []
        page.get_by_label("Address").fill(upstream.url)
        page.get_by_label("Key").fill(SECRET)
        page.get_by_role("button", name="Test and connect").click()
        page.get_by_text("Questions on this page now go to served.").wait_for()
        assert "It receives pictures." in page.locator(".findings").inner_text()
        assert violations(page) == []
        assert page.evaluate(OUTSIDE) == []
        page.get_by_role("button", name="close", exact=True).click()
        ask(page, photo)
        answered(page)
        assert page.locator(".turn.end b").inner_text() == "red"
        assert page.get_by_text("Answered by served.").is_visible()
        assert upstream.headers[-1]["Authorization"] == f"Bearer {SECRET}"
        stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, history.state])"
        values = "[...document.querySelectorAll('input')].map(one => one.value).join()"
        for text in (page.evaluate(stored), page.evaluate(values), page.content()):
            assert SECRET not in text

        server.services.connections.close()  # as after a restart of the server
        page.get_by_label("Question", exact=True).press("Enter")
        alert = page.get_by_role("alert")
        alert.wait_for()
        assert "connect it again" in alert.inner_text()
        page.get_by_label("Question", exact=True).press("Enter")
        page.wait_for_selector(".turn.end b:has-text('own')")
