"""Open every page of the built docs site in Chromium without a network, and report requests, errors and overflow.

make docs
python -m attacks.site                          # one line per page with a problem
python -m attacks.site --shots /tmp/shots       # also screenshots: light and dark, wide and narrow
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attacks.browser import TIMEOUT_MS, open_browser

SITE = Path(__file__).parents[1] / "site"
SHOWN = (
    "index",
    "tutorials/first-answer",
    "reference/python",
    "train",
    "evaluate",
    "reference/command-line",
)
WIDTHS_PX = (1400, 400)
HEIGHT_PX = 1000


def main() -> int:
    """Check all pages. Exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    shots = parser.parse_args().shots
    pages = sorted(path for path in SITE.rglob("*.html") if path.name != "404.html")
    if not pages:
        sys.exit(f"no pages in {SITE}: run `make docs` first")
    num_problems = 0
    with open_browser() as browser:
        for path in pages:
            for problem in problems(browser, path):
                num_problems += 1
                print(f"{path.relative_to(SITE)}: {problem}")
        if shots:
            shoot(browser, shots)
    print(f"{len(pages)} pages, {num_problems} problems")
    return num_problems > 0


def problems(browser: Any, path: Path) -> Iterator[str]:
    """Yield the problems of a page, at both widths."""
    found: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)

    def on_request(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            found.append(f"request: {request.url[:100]}")

    page.on("request", on_request)
    page.on("pageerror", lambda error: found.append(f"error: {str(error)[:200]}"))
    page.goto(path.absolute().as_uri())
    for width in WIDTHS_PX:
        page.set_viewport_size({"width": width, "height": HEIGHT_PX})
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if overflow > 0:
            found.append(f"{overflow} px wider than a window of {width} px")
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
    found += [f"image not shown: {source[-80:]}" for source in broken]
    page.close()
    yield from dict.fromkeys(found)


def shoot(browser: Any, folder: Path) -> None:
    """Write screenshots of some pages: light and dark, wide and narrow."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for width in WIDTHS_PX:
            page = browser.new_page(
                color_scheme=scheme, viewport={"width": width, "height": HEIGHT_PX}
            )
            for name in SHOWN:
                page.goto((SITE / f"{name}.html").absolute().as_uri())
                page.screenshot(path=folder / f"{name.replace('/', '-')}-{scheme}-{width}.png")
            page.close()


if __name__ == "__main__":
    sys.exit(main())
