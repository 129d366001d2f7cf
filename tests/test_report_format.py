"""The data format of reports: every page is valid, and its parts cannot change the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.reports import html, write_report
from pixel_reasoner.reports.page import ITEMS_PER_PART
from pixel_reasoner.reports.schema import Item, Report
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Text, Thought, Trace, Turn
from report_fixture import HOSTILE, all_traces, answer, draw_scene, picture_trace
from report_reader import PageElements

VIEWER = Path(html.__file__).parent / "viewer"


def scripts_of(page: Path) -> dict[str, str]:
    return PageElements(page.read_text(encoding="utf-8")).scripts


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("format")
    write_report(all_traces(folder).values(), folder / "traces.html", title=HOSTILE)
    return folder / "traces.html"


def test_a_page_contains_a_valid_report_an_item_per_entry_and_every_picture(page):
    scripts = scripts_of(page)
    report = Report.model_validate_json(scripts["report"])
    items = [Item.model_validate_json(scripts[f"item-{n}"]) for n in range(len(report.entries))]
    assert [item.question.id for item in items] == [entry.id for entry in report.entries]
    refs = {
        image.ref
        for item in items
        for trace in item.traces
        for image in (*(s.image for s in trace.sources), *(p.view for p in trace.pictures))
    }
    refs |= {media.clip for item in items for trace in item.traces for media in trace.media}
    assert refs - {""} == {name[5:] for name in scripts if name.startswith("file-")}
    assert all(
        base64.b64decode(scripts[f"file-{ref}"])[:4] == b"RIFF" for ref in refs if "webp" in ref
    )


def test_a_folder_contains_the_same_items_as_a_page(tmp_path):
    scene = draw_scene(tmp_path / "scene.png")
    traces = [
        picture_trace(scene, answer("6"), answer="6", about={"id": f"q{n}"})
        for n in range(ITEMS_PER_PART + 3)
    ]
    write_report(traces, tmp_path / "page.html")
    written = write_report(traces, tmp_path / "folder")
    assert written.out == tmp_path / "folder" / "index.html"
    scripts = scripts_of(tmp_path / "page.html")
    found = []
    for number in range(2):
        text = (tmp_path / "folder" / "parts" / f"{number}.js").read_text(encoding="utf-8")
        prefix = f"pixelReasonerPart({number}, "
        assert text.startswith(prefix)
        found += json.loads(text.removeprefix(prefix).removesuffix(");\n"))
    assert found == [json.loads(scripts[f"item-{n}"]) for n in range(len(traces))]
    assert {one.name for one in (tmp_path / "folder" / "pictures").iterdir()} == {
        name[5:] for name in scripts if name.startswith("file-")
    }


def test_a_large_report_becomes_a_folder_and_replaces_only_reports(tmp_path, monkeypatch):
    from pixel_reasoner.errors import OutputError
    from pixel_reasoner.reports.page import PageLimits

    scene = draw_scene(tmp_path / "scene.png")
    traces = [picture_trace(scene, answer("6"), answer="6")]
    limits = PageLimits(max_page_bytes=10)
    (tmp_path / "run.html").write_text("an earlier report")
    for _ in range(2):  # the second replaces the first
        written = write_report(traces, tmp_path / "run.html", limits=limits)
        assert written.out == tmp_path / "run" / "index.html"
        assert not (tmp_path / "run.html").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="choose another --out"):
        write_report(traces, tmp_path / "mine.html", limits=limits)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "run", "scene.png"]


def test_equal_pictures_are_written_once(tmp_path):
    scene = draw_scene(tmp_path / "scene.png")
    one, many = (
        write_report(
            [picture_trace(scene, answer("6"), about={"id": str(n)}) for n in range(count)],
            tmp_path / f"{count}",
        ).out.parent
        for count in (1, 20)
    )
    assert len(list((one / "pictures").iterdir())) == len(list((many / "pictures").iterdir())) == 2


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(
        st.text(max_size=60)
        | st.sampled_from(
            ["</script>", "<!--<script>", HOSTILE, "\u2028", "\ud800", "]]>", "\\u003c"]
        ),
        min_size=4,
        max_size=4,
    )
)
def test_no_text_of_a_trace_ends_its_element_or_creates_another(tmp_path_factory, texts):
    title, question_text, thought, text = texts
    folder = tmp_path_factory.mktemp("hostile")
    question = Question(id=title or "1", text=question_text, media=(), category=text)
    turn = Turn(text=text, parts=(Thought(thought=thought), Text(text=text)))
    trace = Trace(question=question, turns=(turn,), stop=StopReason.ANSWERED, answer=thought)
    write_report([trace], folder / "page.html", title=title)
    elements = PageElements((folder / "page.html").read_text(encoding="utf-8"))
    assert set(elements.scripts) == {"report", "", "item-0"}
    assert [tag for tag, _ in elements.tags] == [
        "html",
        "head",
        *["meta"] * 4,
        "title",
        "style",
        "body",
        "div",
        "p",
        "noscript",
        "p",
    ]
    item = Item.model_validate_json(elements.scripts["item-0"])
    report = Report.model_validate_json(elements.scripts["report"])
    assert item.question.text == Item.model_validate(item.model_dump()).question.text
    assert report.entries[0].id == item.question.id


def test_only_the_style_and_script_of_the_page_may_run(page):
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'content="(default-src[^"]*)"', text)[1].replace("&#39;", "'")
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_vendored_scripts_are_unchanged_and_have_a_licence():
    table = (VIEWER / "vendor" / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\S+)` \|.*`([0-9a-f]{64})` \|$", table, re.M))
    files = {one.name for one in (VIEWER / "vendor").iterdir()} - {"README.md", "LICENSES.txt"}
    assert set(listed) == files
    for name, digest in listed.items():
        assert hashlib.sha256((VIEWER / "vendor" / name).read_bytes()).hexdigest() == digest


def test_every_script_of_the_viewer_is_part_of_the_page():
    assert {one.name for one in VIEWER.glob("*.js")} == set(html.SCRIPTS)
    library = (VIEWER / "vendor" / f"{html.CHART_LIBRARY}.js").read_text(encoding="utf-8")
    assert library in html.script(has_charts=True)
    assert library not in html.script(has_charts=False)


def test_no_name_is_declared_twice_by_the_scripts_which_share_a_scope():
    declared = Counter(
        name
        for script in html.SCRIPTS
        for name in re.findall(
            r"^(?:async )?(?:function|const|let) (\w+)", (VIEWER / script).read_text("utf-8"), re.M
        )
    )
    assert [name for name, count in declared.items() if count > 1] == []
