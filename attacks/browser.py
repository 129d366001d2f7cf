"""Open reports and docs pages in headless Chromium and record dialogs, errors, console messages and requests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 20_000


def chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def open_browser(*flags: str) -> Iterator[Any]:
    """Provide a browser without network.

    Args:
        flags: further arguments of Chromium.
    """
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not work for root. A proxy that does not exist blocks the network.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    arguments += ["--proxy-server=127.0.0.1:9", "--disable-dev-shm-usage", *flags]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Any, path: Path, address: str = "", files: Path | None = None
) -> Iterator[tuple[Any, list[str]]]:
    """Open a page. Provide it and a list that collects its dialogs, errors, console messages and requests.

    Args:
        browser: a browser, or a context with its own settings.
        path: of the page.
        address: part of the address after the `#`.
        files: folder whose files the page may load.
    """
    found: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    own = path.absolute().as_uri()

    def on_request(request: Any) -> None:
        is_own = request.url.partition("#")[0] == own
        is_file = files is not None and request.url.startswith(files.absolute().as_uri())
        if is_own or is_file or request.url.startswith(("data:image/", "blob:")):
            return
        if request.failure != "csp":  # the console reports blocked requests too
            found.append(f"request: {request.url[:100]}")

    def on_dialog(dialog: Any) -> None:
        found.append(f"dialog: {dialog.message[:100]}")
        dialog.dismiss()

    page.on("requestfinished", on_request)
    page.on("requestfailed", on_request)
    page.on("dialog", on_dialog)
    page.on("console", lambda message: found.append(f"console: {message.text[:200]}"))
    page.on("pageerror", lambda error: found.append(f"error: {str(error)[:200]}"))
    page.on("popup", lambda other: found.append(f"popup: {other.url[:100]}"))
    page.goto(f"{own}#{address}" if address else own)
    try:
        yield page, found
    finally:
        page.close()
