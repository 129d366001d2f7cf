"""Write the screenshots of the docs: the head of a run report, and one trace of it.

    pixel-reasoner eval pixelworld --family all --count 500 --compare --out runs/all
    python docs/screenshots.py runs/all        # writes docs/evaluation.png and docs/report.png
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from pixel_reasoner import api

DOCS = Path(__file__).parent
WIDTH_PX = 1080
TRACE = "attribute-2000000-read-red-triangle"
NUM_COLOURS = 64

sys.path.insert(0, str(DOCS.parent))

from attacks.browser import open_browser  # noqa: E402 - a folder of this repository, not a package


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of an evaluation")
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        whole, one = Path(folder) / "all.html", Path(folder) / "one.html"
        api.report([run], whole)
        _write(browser, whole, "header.page", DOCS / "evaluation.png", "dl.metrics")
        traces = [trace for trace in api.load_run(run) if trace.question.id == TRACE]
        api.write_page(traces, one, title="trace")
        _write(browser, one, "article", DOCS / "report.png")


def _write(browser, page_path: Path, selector: str, out: Path, until: str | None = None) -> None:
    """Write a picture of an element, up to the top of another one inside of it."""
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": 1200})
    page.goto(page_path.absolute().as_uri())
    box = page.locator(selector).first.bounding_box()
    bottom = box["y"] + box["height"]
    if until is not None:
        bottom = page.locator(until).first.bounding_box()["y"]
    clip = {"x": 0, "y": max(0, box["y"]), "width": WIDTH_PX, "height": bottom - box["y"]}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True)))
    picture.convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    page.close()


if __name__ == "__main__":
    main()
