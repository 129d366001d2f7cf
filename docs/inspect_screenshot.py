"""Write the screenshot of an inspection report.

make demo
python docs/inspect_screenshot.py runs/demo/inspect/report.html        # writes docs/inspect.webp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SIZE = (1280, 860)

sys.path.insert(0, str(Path(__file__).parents[1]))

from attacks.browser import open_browser  # noqa: E402 - a folder of this repository
from screenshots import new_page, save  # noqa: E402 - the file next to this one


def main() -> None:
    """Show the first photo with a defect."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="page that `pixel-reasoner inspect` wrote")
    report = parser.parse_args().report
    with open_browser() as browser:
        page = new_page(browser, SIZE, "light")
        page.goto(report.absolute().as_uri())
        page.get_by_role("button", name="photos").first.click()
        page.get_by_text("✓ defect").first.click()
        page.wait_for_selector("text=finding 1")
        save(page, "inspect.webp")


if __name__ == "__main__":
    main()
