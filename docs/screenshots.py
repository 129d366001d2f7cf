"""Write the screenshots of the docs from a run.

pixel-reasoner eval pixelworld --family all --count 40 --compare --out runs/all
python docs/screenshots.py runs/all        # writes docs/report*.webp
python docs/screenshots.py runs/all compare=compare.html leaderboard=runs.html data=data.html training=rl.html

Each NAME=PAGE also gives docs/report-NAME.webp and docs/report-NAME-dark.webp.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from pixel_reasoner import api

DOCS = Path(__file__).parent
LOADING_MS = 800
QUALITY = 80

sys.path.insert(0, str(DOCS.parent))

from attacks.browser import open_browser  # noqa: E402 - a folder of this repository


class Shot(NamedTuple):
    """One screenshot."""

    name: str
    address: str
    """part of the address after the `#`"""
    keys: str = ""
    """pressed one after the other"""
    size: tuple[int, int] = (1280, 860)
    scheme: str = "light"


SHOTS = (
    Shot("report-overview.webp", "tab=overview"),
    Shot("report-overview-dark.webp", "tab=overview", scheme="dark"),
    Shot("report.webp", "outcome=wrong", "k"),
    Shot("report-dark.webp", "outcome=wrong", "k", scheme="dark"),
    Shot("report-picture.webp", "outcome=right&calls=executed&evidence=shown", "k z n m"),
    Shot("report-phone.webp", "outcome=right&calls=executed", "j", size=(400, 860)),
    Shot("report-phone-dark.webp", "tab=traces", size=(400, 860), scheme="dark"),
)


def main() -> None:
    """Write all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of an evaluation with --compare")
    parser.add_argument("pages", nargs="*", help="NAME=PAGE of further reports")
    options = parser.parse_args()
    run = options.run
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        page = api.report([run], Path(folder) / "run.html").out
        for shot in SHOTS:
            write(browser, page, shot)
        for name, path in (one.split("=", 1) for one in options.pages):
            write(browser, Path(path), Shot(f"report-{name}.webp", "tab=overview"))
            write(
                browser, Path(path), Shot(f"report-{name}-dark.webp", "tab=overview", scheme="dark")
            )


def new_page(browser: Any, size: tuple[int, int], scheme: str) -> Any:
    """Return a page of a size in a colour scheme, without animations."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    return context.new_page()


def save(page: Any, name: str) -> None:
    """Write what a page shows, and close it."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(DOCS / name, quality=QUALITY, method=6)
    page.context.close()


def write(browser: Any, page_path: Path, shot: Shot) -> None:
    """Write one screenshot."""
    page = new_page(browser, shot.size, shot.scheme)
    page.goto(f"{page_path.absolute().as_uri()}#{shot.address}")
    page.wait_for_timeout(LOADING_MS)
    for key in shot.keys.split():
        page.keyboard.press(key)
        page.wait_for_timeout(LOADING_MS // 4)
    page.wait_for_timeout(LOADING_MS)  # pictures are decoded when they are visible
    save(page, shot.name)


if __name__ == "__main__":
    main()
