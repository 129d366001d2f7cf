"""Curves of training runs: what is in the logs is on the page, and nothing else is needed to see it."""

from __future__ import annotations

import json

import pytest

from pixel_reasoner.errors import InputError
from pixel_reasoner.report.curves import LOG, PANELS, read_log, write_curves


@pytest.fixture
def runs(tmp_path):
    for name, start in (("with curiosity", 0.2), ("<without>", 0.1)):
        (tmp_path / name).mkdir()
        rows = [{"step": n, "rapr": start + n / 100, "loss": -n, "epoch": n} for n in range(1, 41)]
        rows[3]["rapr"] = None  # nothing was rolled out in this step
        (tmp_path / name / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: tmp_path / name for name in ("with curiosity", "<without>")}


def test_a_page_has_a_panel_for_each_figure_that_was_logged(runs, tmp_path):
    page = tmp_path / "curves.html"
    assert write_curves(runs, page) == 2
    text = page.read_text()
    shown = [panel.title for panel in PANELS if f"<h2>{panel.title}</h2>" in text]
    assert shown == ["RaPR: share of rollouts that looked", "loss"]
    assert text.count("<svg") == 2
    assert "with curiosity" in text
    assert "&lt;without&gt;" in text
    assert "<script" not in text
    assert 'src="http' not in text


def test_the_same_logs_make_the_same_page(runs, tmp_path):
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    for page in pages:
        write_curves(runs, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_missing_or_broken_log_is_named(tmp_path):
    with pytest.raises(InputError, match="with its log"):
        read_log(tmp_path)
    (tmp_path / LOG).write_text('{"step": 1}\nbroken\n')
    with pytest.raises(InputError, match="line 2"):
        read_log(tmp_path)
