"""Write the screenshots of lessons.

pixel-reasoner teach --pixelworld --level 2 --out lesson
python docs/lesson_screenshots.py lesson        # writes docs/lesson*.webp; slides need LibreOffice
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

DOCS = Path(__file__).parent
SIZE = (1280, 860)
GUESS = (0.42, 0.3)
"""tap on the picture, in fractions"""
SHOWN_SLIDES = (1, 3)
"""numbers of slides, from 0"""
SLIDE_DPI, GAP_PX = 72, 16

sys.path.insert(0, str(Path(__file__).parents[1]))

from attacks.browser import open_browser  # noqa: E402 - a folder of this repository
from screenshots import new_page, save  # noqa: E402 - the file next to this one


def main() -> None:
    """Write all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", type=Path, help="folder that `pixel-reasoner teach` wrote")
    folder = parser.parse_args().lesson
    with open_browser() as browser:
        write_pages(browser, folder / "learners" / "lesson.html")
    if shutil.which("soffice"):
        write_slides(folder / "teacher" / "slides.pptx")


def write_pages(browser: Any, path: Path) -> None:
    """Write a guess, and the reveal after it."""
    for name, size in (("lesson-guess.webp", SIZE), ("lesson-reveal.webp", (SIZE[0], 1500))):
        page = new_page(browser, size, "light")
        page.goto(path.absolute().as_uri())
        page.get_by_role("button", name="Start").click()
        box = page.locator(".guess-area").bounding_box()
        at = {"x": GUESS[0] * box["width"], "y": GUESS[1] * box["height"]}
        page.locator(".guess-area").click(position=at)
        if "reveal" in name:
            page.get_by_role("button", name="Show where").click()
            page.wait_for_selector(".reveal")
            page.evaluate("scrollTo(0, 0)")
        save(page, name)


def write_slides(path: Path) -> None:
    """Write two slides next to each other."""
    from pypdfium2 import PdfDocument

    with tempfile.TemporaryDirectory() as work:
        command = ["soffice", "--headless", "--convert-to", "pdf", "--outdir", work, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        with PdfDocument(Path(work) / "slides.pdf") as document:
            slides = [document[n].render(scale=SLIDE_DPI / 72).to_pil() for n in SHOWN_SLIDES]
    width = sum(one.width for one in slides) + GAP_PX * (len(slides) + 1)
    sheet = Image.new("RGB", (width, slides[0].height + 2 * GAP_PX), "#8a8f96")
    left = GAP_PX
    for one in slides:
        sheet.paste(one, (left, GAP_PX))
        left += one.width + GAP_PX
    sheet.save(DOCS / "lesson-slides.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
