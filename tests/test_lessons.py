"""Lessons: from traces, own rows and PixelWorld; every export opened again; no answer before the reveal; bad input."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

import pixel_reasoner as pr
from conftest import full_disk
from lesson_fixture import lesson_traces, write_rows, write_run
from pixel_reasoner.cli.choices import LESSON_FORMATS
from pixel_reasoner.cli.interrupt import Stopped
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.lessons import LessonSpec, load_lesson, make_lesson
from pixel_reasoner.workflows.lessons.build import NoStep, build_step
from pixel_reasoner.workflows.lessons.h5p import NEEDS, _percent_box
from pixel_reasoner.workflows.lessons.images import boxes_on_sheet
from pixel_reasoner.workflows.lessons.lesson import Look, seal, unseal
from pixel_reasoner.workflows.lessons.levels import (
    BUDGETS,
    FIRST_VIEW_PX,
    LEVELS,
    level_of,
    level_traces,
)
from pixel_reasoner.workflows.lessons.write import FORMATS
from pixel_reasoner.world import overview_detail_px

ROOT = Path(__file__).parents[1]
H5P_MODULES = ROOT / ".cache" / "h5p" / "node_modules"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A lesson of level 2 in all formats; its third question is an example of a mistake."""
    out = tmp_path_factory.mktemp("lesson") / "out"
    return make_lesson(LessonSpec(out=out, level=2, count=3))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def from_run(run_folder, tmp_path_factory):
    lines: list[str] = []
    out = tmp_path_factory.mktemp("lesson") / "out"
    spec = LessonSpec(
        out=out, traces=(run_folder,), formats=("html", "pptx", "h5p", "notes", "handout")
    )
    return make_lesson(spec, on_skipped=lambda line, reason: lines.append(line)), lines


# --- steps ---


def test_a_step_contains_every_look_with_its_verdict(from_run):
    steps = from_run[0].lesson.steps
    verdicts = [[look.verdict.value for look in step.reveal.looks] for step in steps]
    assert verdicts == [["right"], ["wrong", "right"], ["right"], ["wrong", "right"], ["right"]]
    assert [step.has_mistake for step in steps] == [False, True, True, True, True]
    assert steps[3].reveal.looks[0].problem.startswith("box is inverted")
    assert steps[4].is_clip
    assert steps[4].reveal.target_frames == (4, 5)


def test_a_wrong_answer_is_shown_with_the_correct_one(from_run):
    reveal = from_run[0].lesson.steps[2].reveal
    assert (reveal.answer, reveal.is_right, reveal.expected) == ("8", False, "6")


def test_the_answer_without_operations_is_read_from_the_run(from_run):
    reveals = [step.reveal for step in from_run[0].lesson.steps]
    assert [one.answer_without for one in reveals] == ["3", "", "", "", ""]
    assert reveals[0].is_right_without is False


def test_without_and_with_looking_show_the_same_place_at_the_same_size(written):
    for step in written.lesson.steps:
        assert step.reveal.before.px == step.reveal.after.px


@pytest.mark.parametrize("name", ["no operation", "missing media"])
def test_a_trace_that_gives_no_step_names_its_reason(tmp_path, name):
    with pytest.raises(NoStep) as error:
        build_step(lesson_traces(tmp_path)[name], 1)
    assert error.value.reason == name.replace(" ", "_")


# --- levels ---


def test_details_get_smaller_and_places_more_from_level_to_level():
    shown = []
    for number in LEVELS:
        level = level_of(number)
        shown.append(overview_detail_px("attribute", BUDGETS, level.params("attribute")))
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > 2 * shown[-1]


@pytest.mark.parametrize("number", LEVELS)
def test_the_detail_can_be_read_in_the_first_view_of_level_1_alone(number):
    level = level_of(number)
    heights = [
        overview_detail_px(family, BUDGETS, level.params(family)) for family in level.families
    ]
    assert min(heights) >= 4 if number == 1 else max(heights) < 2


def test_the_first_view_of_a_lesson_has_the_pixels_of_the_model(written):
    content = load_lesson(written.out / "learners" / "lesson.html")
    for step in written.lesson.steps:
        (picture,) = step.pictures
        with Image.open(io.BytesIO(content.pictures[picture.ref])) as shown:
            assert shown.size == picture.px == (FIRST_VIEW_PX, FIRST_VIEW_PX)


def test_the_same_level_and_seed_give_the_same_lesson(tmp_path, written):
    again = make_lesson(LessonSpec(out=tmp_path / "a", level=2, count=3, formats=("html", "h5p")))
    other = make_lesson(LessonSpec(out=tmp_path / "b", level=2, count=3, seed=1, formats=("html",)))
    assert again.lesson == written.lesson
    for name in ("learners/lesson.html", "teacher/h5p/find-1.h5p"):
        assert (again.out / name).read_bytes() == (written.out / name).read_bytes()
    assert other.lesson != written.lesson


@pytest.mark.parametrize("number", LEVELS)
def test_every_level_gives_exercises_of_its_families(tmp_path, number):
    level = level_of(number)
    traces = level_traces(number, 3, tmp_path)
    found = [next(traces).question.id.partition("-")[0] for _ in range(len(level.families))]
    assert found == list(level.families)
    assert str(level.detail_px) in level.describe(number)


# --- no answer before the reveal ---


class _Text(HTMLParser):
    """Text and attributes of a page, without scripts, styles and addresses of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._is_data = False

    def handle_starttag(self, tag, attrs):
        self._is_data = tag in ("script", "style")
        self.parts += [value for name, value in attrs if value and name not in ("src", "content")]

    def handle_endtag(self, tag):
        self._is_data = False

    def handle_data(self, data):
        if not self._is_data:
            self.parts.append(data)


def shown_text(page: str) -> str:
    parser = _Text()
    parser.feed(page)
    return " ".join(parser.parts)


def test_files_for_learners_contain_no_answer_in_plain_text(written):
    lesson = written.lesson
    payload = json.loads(
        re.search(
            r'id="lesson">(.*?)</script>', (written.out / "learners" / "lesson.html").read_text()
        )[1]
    )
    del payload["pictures"]
    for step in payload["steps"]:
        unseal(step.pop("reveal"))
    notebook = json.loads((written.out / "learners" / "lesson.ipynb").read_text())
    sources = [cell["source"] for cell in notebook["cells"] if "tags" not in cell["metadata"]]
    texts = {
        "page": json.dumps(payload),
        "handout": shown_text((written.out / "learners" / "handout.html").read_text()),
        "notebook": "\n".join(sources),
    }
    for where, text in texts.items():
        for step in lesson.steps:
            assert not re.search(rf"\b{step.reveal.answer}\b", text.replace(step.question, "")), (
                where
            )
            for look in step.reveal.looks:
                assert look.place not in text, where
            for finding in step.reveal.findings:
                assert finding not in text, where


def test_names_of_files_and_pictures_are_neutral(written):
    ids = [path.name for path in written.out.rglob("*") if path.is_file()]
    assert all(
        re.fullmatch(r"(question|find|explain)-\d\.\w+|(lesson|handout|notes|slides)\.\w+", one)
        for one in ids
    )
    page = (written.out / "learners" / "lesson.html").read_text()
    assert "diamond-" not in page
    assert not re.search(r"(attribute|relation|count)-\d", page)


def test_the_slide_with_the_question_has_no_answer(written):
    from pptx import Presentation

    slides = list(Presentation(str(written.out / "teacher" / "slides.pptx")).slides)
    for step in written.lesson.steps:
        slide = slides[1 + 3 * (step.number - 1)]
        text = "\n".join(shape.text_frame.text for shape in slide.shapes if shape.has_text_frame)
        text += "\n".join(alt_texts(slide)) + slide.notes_slide.notes_text_frame.text
        assert slide.shapes.title.text_frame.text == f"Question {step.number}: {step.question}"
        assert not re.search(rf"\b{step.reveal.answer}\b", text.replace(step.question, ""))
        assert ("mistake" in text) == step.has_mistake


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.lists(st.text())))
def test_any_value_survives_the_seal(value):
    assert unseal(seal(value)) == value


# --- exports, opened again ---


def test_all_formats_are_written(written):
    assert set(written.files) == set(FORMATS) == set(LESSON_FORMATS)
    assert written.missing == {}


@pytest.mark.parametrize("kind", ["written", "from_run"])
def test_a_page_gives_the_same_lesson_when_it_is_read(kind, request):
    value = request.getfixturevalue(kind)
    one = value if kind == "written" else value[0]
    found = load_lesson(one.out / "learners" / "lesson.html")
    assert found.lesson == one.lesson
    for step in found.lesson.steps:
        for picture in step.pictures:
            assert Image.open(io.BytesIO(found.pictures[picture.ref])).size == picture.px


def alt_texts(slide) -> list[str]:
    return [
        shape._element._nvXxPr.cNvPr.get("descr")
        for shape in slide.shapes
        if shape.shape_type == 13
    ]


@pytest.mark.parametrize("kind", ["written", "from_run"])
def test_slides_have_titles_alt_texts_and_answers_in_the_notes(kind, request):
    from pptx import Presentation

    value = request.getfixturevalue(kind)
    one = value if kind == "written" else value[0]
    deck = Presentation(str(one.out / "teacher" / "slides.pptx"))
    titles = [slide.shapes.title.text_frame.text for slide in deck.slides]
    assert len(set(titles)) == len(titles) == 2 + 3 * len(one.lesson.steps)
    for slide in deck.slides:
        assert all(alt and not alt.endswith((".png", ".jpg")) for alt in alt_texts(slide))
        for shape in slide.shapes:
            assert shape.left >= 0
            assert shape.top >= 0
            assert shape.left + shape.width <= deck.slide_width
            assert shape.top + shape.height <= deck.slide_height
    notes = [slide.notes_slide.notes_text_frame.text for slide in deck.slides]
    for step in one.lesson.steps:
        correct = step.reveal.expected or step.reveal.answer
        assert all(f"Answer: {correct}" in notes[3 * step.number + at] for at in (-1, 0))


def test_a_notebook_is_valid_and_runs(written):
    import nbformat

    path = written.out / "learners" / "lesson.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    names: dict = {}
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("reveal("):
            shown.append(eval(cell.source, names))
        elif cell.cell_type == "code":
            exec(cell.source, names)
    for step, one in zip(written.lesson.steps, shown, strict=True):
        assert f"The model's answer: {step.reveal.answer}" in repr(one)
        assert one._repr_html_().count("<img") == 3
        assert ("✗ Remember" in repr(one)) == step.has_mistake
        box = tuple(step.reveal.targets[0])
        assert "a place that matters" in repr(names["reveal"](step.number, box))


def test_packages_name_their_libraries_and_contain_png_and_jpeg_only(written):
    for path in sorted((written.out / "teacher" / "h5p").iterdir()):
        with zipfile.ZipFile(path) as package:
            head = json.loads(package.read("h5p.json"))
            content = json.loads(package.read("content/content.json"))
            [picture] = [name for name in package.namelist() if "images/" in name]
            image = Image.open(io.BytesIO(package.read(picture)))
        assert [one["machineName"] for one in head["preloadedDependencies"]] == [
            name for name, _, _ in NEEDS[head["mainLibrary"]]
        ]
        assert image.format in ("PNG", "JPEG")
        fields = content.get("image") or content["imageHotspotQuestion"]["backgroundImageSettings"]
        assert f"content/{fields['path']}" == picture
        assert (fields["width"], fields["height"]) == image.size


def test_the_place_to_press_in_a_package_is_the_evidence(written):
    for step in written.lesson.steps:
        with zipfile.ZipFile(
            written.out / "teacher" / "h5p" / f"find-{step.number}.h5p"
        ) as package:
            content = json.loads(package.read("content/content.json"))
        [spot] = content["imageHotspotQuestion"]["hotspotSettings"]["hotspot"]
        box = spot["computedSettings"]
        [target] = step.reveal.targets
        assert box["x"] <= 100 * target.x1
        assert box["x"] + box["width"] >= 100 * target.x2 - 0.02
        assert box["width"] < 100 * (target.x2 - target.x1) + 5


@pytest.mark.skipif(
    not H5P_MODULES.is_dir() or not shutil.which("node"), reason="no H5P server: make h5p"
)
def test_packages_are_valid_for_the_h5p_server(written, from_run, tmp_path):
    folders = []
    for out in (written.out, from_run[0].out):
        for path in (out / "teacher" / "h5p").iterdir():
            folders.append(tmp_path / f"{len(folders)}")
            zipfile.ZipFile(path).extractall(folders[-1])
    broken = shutil.copytree(folders[0], tmp_path / "broken")
    (broken / "content" / "images" / "a.webp").touch()
    command = ["node", str(ROOT / "tests" / "h5p" / "validate.cjs"), str(H5P_MODULES)]
    done = subprocess.run(
        [*command, *map(str, folders), str(broken)], capture_output=True, text=True, check=True
    )
    assert set(json.loads(done.stdout.splitlines()[-1])) == {str(broken)}


def test_strips_and_animations_open(written):
    for number in (1, 2, 3):
        strip = Image.open(written.out / "teacher" / "strips" / f"question-{number}.png")
        animation = Image.open(written.out / "teacher" / "animations" / f"question-{number}.gif")
        assert strip.width == 1920
        assert animation.n_frames > 3


def test_notes_contain_the_answer_key(from_run):
    text = shown_text((from_run[0].out / "teacher" / "notes.html").read_text())
    assert text.count("✗ Worked example of a mistake") == 4
    assert "Answer: 6" in text
    assert "rejected: box is inverted" in text


@given(
    x=st.floats(0, 0.9), y=st.floats(0, 0.9), width=st.floats(1e-3, 1), height=st.floats(1e-3, 1)
)
def test_a_place_to_press_contains_the_place_and_is_inside_of_the_picture(x, y, width, height):
    box = Box(x, y, min(1.0, x + width), min(1.0, y + height))
    shown = _percent_box(box)
    assert 0 <= shown["x"] <= 100 * box.x1 + 0.01
    assert 100 * box.x2 - 0.02 <= shown["x"] + shown["width"] <= 100.01
    assert 0 <= shown["y"] <= 100 * box.y1 + 0.01
    assert 100 * box.y2 - 0.02 <= shown["y"] + shown["height"] <= 100.01


def test_a_look_at_frames_is_marked_at_their_cells():
    cells = [Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)]
    assert boxes_on_sheet(Look(number=1, action="look", frames=(2, 9)), cells) == [cells[1]]


# --- bad input ---


def test_whatever_gives_no_question_is_named_and_counted(from_run):
    written, lines = from_run
    assert written.skipped == {"no_operation": 1, "missing_media": 1, "unreadable_line": 1}
    assert len(lines) == 3
    assert any("gone.png" in line for line in lines)
    assert any("no_such_key" in line for line in lines)


def test_own_rows_give_questions_and_others_are_skipped(tmp_path):
    rows = write_rows(tmp_path)
    lines: list[str] = []
    written = make_lesson(
        LessonSpec(out=tmp_path / "out", data=rows, formats=("html",)),
        on_skipped=lambda line, reason: lines.append(line),
    )
    assert [step.reveal.answer for step in written.lesson.steps] == ["Exit", "Exit"]
    assert written.lesson.steps[0].reveal.targets == (Box(0.125, 1 / 6, 0.225, 0.25),)
    assert sum(written.skipped.values()) == len(lines) == 4
    assert any("no boxes" in line for line in lines)
    assert any("colour" in line for line in lines)


def test_an_unreadable_file_is_skipped_and_the_rest_goes_on(run_folder, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe not text")
    spec = LessonSpec(
        out=tmp_path / "out",
        traces=(tmp_path / "bad.jsonl", tmp_path / "none", run_folder),
        formats=("html",),
    )
    written = make_lesson(spec)
    assert len(written.lesson.steps) == 5
    assert written.skipped["unreadable_file"] == 2


def test_an_existing_folder_is_never_changed(tmp_path):
    (tmp_path / "mine.txt").write_text("slides that a teacher has edited")
    with pytest.raises(OutputError, match="exists already"):
        make_lesson(LessonSpec(out=tmp_path, level=1, count=1))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_no_lesson(tmp_path):
    with full_disk(50_000), pytest.raises(OutputError):
        make_lesson(
            LessonSpec(out=tmp_path / "out", level=1, count=1, formats=("handout", "notes"))
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "one source"),
        ({"level": 1, "data": Path("a.jsonl")}, "several"),
        ({"level": 0}, "level from 1 to 5"),
        ({"level": 6}, "level from 1 to 5"),
        ({"level": 1, "seed": -1}, "seed"),
        ({"level": 1, "count": 0}, "1 to 100 questions"),
        ({"level": 1, "formats": ("docx",)}, "formats: html"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_errors_before_anything_is_written(tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        make_lesson(LessonSpec(out=tmp_path / "out", **fields))
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_any_trace_is_an_error(tmp_path):
    (tmp_path / "traces.jsonl").write_text("")
    with pytest.raises(InputError, match="there are no traces"):
        make_lesson(LessonSpec(out=tmp_path / "out", traces=(tmp_path,)))


@pytest.mark.parametrize(
    "text", ["", "<html></html>", '<script type="application/json" id="lesson">{}</script>']
)
def test_a_page_that_is_no_lesson_is_an_error(tmp_path, text):
    (tmp_path / "page.html").write_text(text)
    with pytest.raises(InputError, match=r"a lesson.html"):
        load_lesson(tmp_path / "page.html")


def test_a_missing_package_leaves_out_its_format(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pptx", None)
    written = make_lesson(LessonSpec(out=tmp_path / "a", level=1, count=1, formats=()))
    assert set(written.files) == set(FORMATS) - {"pptx"}
    assert "workflows" in written.missing["pptx"]
    with pytest.raises(UsageError, match="workflows"):
        make_lesson(LessonSpec(out=tmp_path / "b", level=1, count=1, formats=("pptx",)))


# --- command line and Python ---


def test_the_command_prints_what_it_wrote_and_what_it_skipped(run, run_folder, tmp_path):
    out = tmp_path / "lesson"
    code, text, err = run("teach", str(run_folder), "--out", str(out), "--format", "html")
    assert code == 0
    assert text.count("question") == 1
    assert "5 questions, 4 with a mistake and its correction" in text
    assert "1 no_operation" in err
    assert [path.name for path in out.rglob("*.*")] == ["lesson.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--level", "2"), "without --pixelworld"),
        (("--pixelworld", "--level", "9"), "level from 1 to 5"),
        ((), "one source"),
        (("no-such-run",), "No such file"),
        (("--data", "no.jsonl"), "a file, or a folder with *.jsonl"),
    ],
    ids=str,
)
def test_misuse_is_one_line_and_exit_code_2(run, tmp_path, arguments, message):
    code, _, err = run("teach", *arguments, "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_lesson_is_made_and_read_from_python(tmp_path):
    written = pr.make_lesson(pr.LessonSpec(out=tmp_path / "a", level=1, count=1, formats=("html",)))
    assert pr.load_lesson(written.out / "learners" / "lesson.html").lesson == written.lesson


class _Interrupting:
    """Progress display during which the user presses Ctrl-C."""

    def start(self, title, total):
        def update(completed, note=""):
            if completed == 2:
                raise KeyboardInterrupt

        return update


def test_an_interrupted_lesson_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_lesson(LessonSpec(out=tmp_path / "out", level=1), _Interrupting())
    assert list(tmp_path.iterdir()) == []
    assert "only when it is complete" in str(Stopped(130, "teach"))
