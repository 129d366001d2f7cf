"""The docs site builds without a warning, and its pages load nothing from a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]* src=[\"']?([^\"' >]+)|<link[^>]* href=[\"']?([^\"' >]+)"
)


@pytest.mark.medium
def test_the_site_builds_and_loads_nothing_from_a_network(tmp_path):
    pytest.importorskip("zensical")
    for name in ("docs", "src/pixel_reasoner"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        if page.name != "404.html":
            urls = ["".join(found) for found in LOADED.findall(page.read_text(encoding="utf-8"))]
            assert [url for url in urls if re.match(r"(https?:)?//", url)] == [], page.name
