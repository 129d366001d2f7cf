"""Write the screenshots of the docs: the head of a run report, and one trace of it.

pixel-reasoner eval pixelworld --family all --count 500 --compare --out runs/all
python docs/screenshots.py runs/all        # writes docs/evaluation.webp and docs/report.webp
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from pixel_reasoner import api

DOCS = Path(__file__).parent
WIDTH_PX, HEIGHT_PX = 1080, 1400
LOADING_MS = 1000
TRACE = "attribute-2000000-read-red-triangle"
QUALITY = 85

sys.path.insert(0, str(DOCS.parent))

from attacks.browser import open_browser  # noqa: E402 - a folder of this repository


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of an evaluation")
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        page = Path(folder) / "run.html"
        api.report([run], page)
        _write(
            browser, page, "header.page", DOCS / "evaluation.webp", "header.page > h2:last-of-type"
        )
        _write(browser, page, f"article:has-text('{TRACE}')", DOCS / "report.webp")


def _write(
    browser: Any, page_path: Path, selector: str, out: Path, until: str | None = None
) -> None:
    """Write a picture of an element, up to the top of another one inside of it."""
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
    page.goto(page_path.absolute().as_uri())
    # The filters would cover the top of a trace.
    page.evaluate("document.getElementById('filters').remove()")
    element = page.locator(selector).first
    element.evaluate("element => element.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(LOADING_MS)  # pictures are loaded when they are visible
    box = element.bounding_box()
    bottom = box["y"] + box["height"]
    if until is not None:
        bottom = page.locator(until).first.bounding_box()["y"]
    clip = {"x": 0, "y": box["y"], "width": WIDTH_PX, "height": bottom - box["y"]}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    picture.save(out, quality=QUALITY, method=6)
    page.close()


if __name__ == "__main__":
    main()
