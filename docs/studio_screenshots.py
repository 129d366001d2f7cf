"""Write the screenshots of Studio from a running server with the bundled model.

pixel-reasoner serve --port 8008
pixel-reasoner serve --port 8009 --allow-endpoint 127.0.0.1:8008
python docs/studio_screenshots.py http://127.0.0.1:8009        # writes docs/studio*.webp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

WAIT_MS = 600
NUM_COUNT_SAMPLE, NUM_COMPARE_SAMPLE, NUM_CLIP_SAMPLE = 3, 1, 5

sys.path.insert(0, str(Path(__file__).parents[1]))

from attacks.browser import open_browser  # noqa: E402 - a folder of this repository
from screenshots import new_page, save  # noqa: E402 - the file next to this one


class Shot(NamedTuple):
    """One screenshot."""

    name: str
    sample: int | None = None
    """number of the sample that is asked about; None for the first view"""
    is_guess: bool = False
    size: tuple[int, int] = (1280, 860)
    scheme: str = "light"
    endpoint: str = ""
    """address of a server whose model is connected first"""


SHOTS = (
    Shot("studio-start.webp"),
    Shot("studio.webp", NUM_COUNT_SAMPLE),
    Shot("studio-dark.webp", NUM_COUNT_SAMPLE, scheme="dark"),
    Shot("studio-clip-dark.webp", NUM_CLIP_SAMPLE, scheme="dark"),
    Shot("studio-guess.webp", NUM_COMPARE_SAMPLE, is_guess=True),
    Shot("studio-connect.webp", endpoint="http://127.0.0.1:8008/v1"),
    Shot("studio-phone.webp", NUM_COMPARE_SAMPLE, size=(400, 860)),
    Shot("studio-phone-dark.webp", size=(400, 860), scheme="dark"),
)


def main() -> None:
    """Write all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="address of a running server")
    url = parser.parse_args().url
    with open_browser() as browser:
        for shot in SHOTS:
            write(browser, url, shot)


def write(browser: Any, url: str, shot: Shot) -> None:
    """Write one screenshot."""
    page = new_page(browser, shot.size, shot.scheme)
    page.add_init_script("localStorage.setItem('pixel-reasoner-tour', '1')")
    page.goto(url)
    page.wait_for_selector(".samples button")
    if shot.endpoint:
        page.get_by_role("button", name="connect a model").first.click()
        page.get_by_label("Address").fill(shot.endpoint)
        page.get_by_role("button", name="Test and connect").click()
        page.wait_for_selector(".connected")
    if shot.sample is not None:
        ask(page, shot.sample, is_guess=shot.is_guess)
    page.wait_for_timeout(WAIT_MS)
    save(page, shot.name)


def ask(page: Any, sample: int, *, is_guess: bool) -> None:
    """Ask about a sample and wait for the answer."""
    page.locator(".samples button").nth(sample).click()
    page.wait_for_selector(".previews img, .previews video")
    if is_guess:
        page.get_by_text("Settings").click()
        page.get_by_label("Guess first").check()
    page.get_by_label("Question", exact=True).press("Enter")
    if is_guess:
        place = page.locator(".guess .picker").bounding_box()
        x, y, width, height = (place[name] for name in ("x", "y", "width", "height"))
        page.mouse.move(x + 0.42 * width, y + 0.5 * height)
        page.mouse.down()
        page.mouse.move(x + 0.66 * width, y + 0.82 * height, steps=4)
        page.mouse.up()
        page.get_by_role("button", name="Show where the model looks").click()
    page.wait_for_selector(".files")


if __name__ == "__main__":
    main()
