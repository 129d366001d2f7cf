"""Building and opening reports: traces per second, size, time until a page reacts, and the longest task while scrolling.

    python benchmarks/report_pages.py --traces 2500 10000      # synthesizes PixelWorld traces first

"Interactive" is the time from the start of the navigation until the list and the first trace are shown and the key `j`
has opened the next trace. Long tasks are those that Chromium reports (50 ms and more). The file server of the standard
library serves folders, as any static file server can.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from attacks.browser import open_browser

from pixel_reasoner import api
from pixel_reasoner.reports import write_report
from pixel_reasoner.runs.folder import load_run

OBSERVE = """
window.longTasks = [];
new PerformanceObserver(list => list.getEntries().forEach(one => window.longTasks.push(one.duration)))
  .observe({ type: "longtask", buffered: true });
"""
SCROLL = """async () => {
  window.longTasks.length = 0;
  const rows = document.querySelector(".rows");
  const frames = [];
  let last = performance.now();
  for (let step = 0; step < 120; step += 1) {
    rows.scrollTop += rows.clientHeight * 0.7;
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return { tasks: [...window.longTasks], frames: frames.sort((a, b) => a - b) };
}"""


def main() -> None:
    """Print one line per number of traces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, nargs="+", default=[500, 2500, 10000])
    parser.add_argument("--run", type=Path, help="folder of traces [default: synthesized]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        run = options.run or synthesize(Path(folder) / "run", max(options.traces))
        for count in options.traces:
            measure(browser, run, count, Path(folder) / f"{count}.html")


def synthesize(out: Path, count: int) -> Path:
    """Write PixelWorld traces."""
    api.synthesize(api.SynthSpec(source="pixelworld", out=out, count=count))
    return out


def measure(browser: Any, run: Path, count: int, out: Path) -> None:
    """Write a report of the first traces, open it, and print the numbers."""
    started = time.perf_counter()
    traces = itertools.islice(load_run(run), count)
    written = write_report(traces, out, title=f"{count} traces", root=run)
    seconds = time.perf_counter() - started
    page = Path(written.out)
    files = [page] if page.name != "index.html" else [*page.parent.rglob("*.*")]
    size = sum(one.stat().st_size for one in files) / 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count} traces: {count / seconds:.0f} traces/s, {size:.1f} MB in {len(files)} files "
        f"(page {page.stat().st_size / 1e6:.1f} MB), {memory:.0f} MB memory"
    )
    print(f"  file:// {opened(browser, page.as_uri())}")
    with serve(page.parent) as address:
        print(f"  http:// {opened(browser, f'{address}/{page.name}')}")


def opened(browser: Any, address: str) -> str:
    """Open a page and return its numbers."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.add_init_script(OBSERVE)
    started = time.perf_counter()
    page.goto(f"{address}#tab=traces", wait_until="commit")
    page.wait_for_selector(".rows [role=option]")
    page.wait_for_selector(".detail .item h2")
    first = page.inner_text(".detail .meta")
    page.keyboard.press("j")
    while page.inner_text(".detail .meta") == first:
        page.wait_for_timeout(5)
    interactive = time.perf_counter() - started
    page.wait_for_load_state("load")
    scrolled = page.evaluate(SCROLL)
    frames = scrolled["frames"]
    tasks = scrolled["tasks"]
    context.close()
    return (
        f"interactive {interactive:.2f} s; scrolling: {len(tasks)} tasks of 50 ms or more"
        f"{f' (longest {max(tasks):.0f} ms)' if tasks else ''}, frame median {frames[len(frames) // 2]:.0f} ms, "
        f"longest {frames[-1]:.0f} ms"
    )


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


if __name__ == "__main__":
    main()
