"""Curves of training runs: the page contains the logged metrics and loads nothing else."""

from __future__ import annotations

import json
from math import nan

import pytest

from pixel_reasoner.errors import InputError
from pixel_reasoner.reports.curves import LOG, PANELS, read_log, write_curves


@pytest.fixture
def runs(tmp_path):
    for name, start in (("with curiosity", 0.2), ("<without>", 0.1)):
        (tmp_path / name).mkdir()
        rows = [{"step": n, "rapr": start + n / 100, "loss": -n, "epoch": n} for n in range(1, 41)]
        rows[3]["rapr"] = None  # no rollouts in this step
        (tmp_path / name / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: tmp_path / name for name in ("with curiosity", "<without>")}


def test_a_page_has_a_panel_for_each_logged_metric(runs, tmp_path):
    page = tmp_path / "curves.html"
    assert write_curves(runs, page) == 2
    text = page.read_text()
    titles = [panel.title for panel in PANELS if f"<h2>{panel.title}</h2>" in text]
    assert titles == ["RaPR: share of rollouts with an operation", "loss"]
    assert text.count('<img src="data:image/svg+xml;base64,') == 2
    assert "with curiosity" in text
    assert "&lt;without&gt;" in text
    assert "<script" not in text
    assert 'src="http' not in text


def test_equal_logs_give_equal_pages(runs, tmp_path):
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    for page in pages:
        write_curves(runs, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_the_error_of_a_missing_or_broken_log_names_it(tmp_path):
    with pytest.raises(InputError, match="with its log"):
        read_log(tmp_path)
    (tmp_path / LOG).write_text('{"step": 1}\nbroken\n')
    with pytest.raises(InputError, match="line 2"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"loss": 1}', "step is not a number"),
        ('{"step": "<script>"}', "step is not a number"),
        ('{"step": 1, "loss": [1]}', "loss is not a number"),
        ('{"step": 1, "loss": {"value": 1}}', "loss is not a number"),
        ('{"step": 1, "rapr": true}', "rapr is not a number"),
        ('{"step": NaN}', "step is not a whole number"),
        ("[1, 2]", "a JSON list"),
        ("[" * 10_000, "nested more than 64 levels"),
        ('{"step": 1, "note": "\\ud800"}', "surrogate"),
    ],
)
def test_an_invalid_log_value_is_one_error_with_its_line(tmp_path, row, problem):
    (tmp_path / LOG).write_text('{"step": 1}\n' + row + "\n")
    with pytest.raises(InputError, match=f"line 2: .*{problem}"):
        write_curves({"run": tmp_path}, tmp_path / "curves.html")
    assert not (tmp_path / "curves.html").exists()


def test_non_finite_metrics_are_a_gap_in_the_curve(tmp_path):
    values = ("1", "NaN", "-Infinity", "1e999", "1" + "0" * 400, "1e308", "2")
    lines = [f'{{"step": {n}, "loss": {value}}}\n' for n, value in enumerate(values)]
    (tmp_path / LOG).write_text("".join(lines))
    assert [row["loss"] for row in read_log(tmp_path)] == [
        1,
        *[pytest.approx(nan, nan_ok=True)] * 5,
        2,
    ]
    assert write_curves({"run": tmp_path}, tmp_path / "curves.html") == 1


def test_the_page_policy_allows_only_its_style_and_pictures(runs, tmp_path):
    write_curves(runs, tmp_path / "curves.html")
    text = (tmp_path / "curves.html").read_text()
    assert "content=\"default-src 'none'; img-src data:; style-src 'sha256-" in text
    assert "script-src" not in text
    assert " style=" not in text
