"""Media access: an external file cannot make a command read media outside its folder. Output of own commands needs no option."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import draw_photo
from pixel_reasoner.data.check import check_traces
from pixel_reasoner.data.encode import conversation
from pixel_reasoner.data.formats import export_message_list, import_message_list
from pixel_reasoner.dialects import PIXEL_REASONER
from pixel_reasoner.errors import InputError
from pixel_reasoner.evals.benchmark import select_questions
from pixel_reasoner.evals.benchmarks import get_benchmark
from pixel_reasoner.evals.run import Evaluation, evaluate, load_run
from pixel_reasoner.media.access import check_access
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.build import write_run_report
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.runs.media_folders import noted_media_folders
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace, save_traces
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize
from report_reader import WrittenPage

MODEL = ScriptedModel([r"\boxed{red}"], dialect=PIXEL_REASONER.name)


@pytest.fixture
def places(tmp_path) -> dict[str, Path]:
    """External folder with a picture inside, and a secret picture outside."""
    folder, outside = tmp_path / "received", tmp_path / "home"
    folder.mkdir()
    outside.mkdir()
    draw_photo(outside / "secret.png")
    draw_photo(folder / "inside.png")
    (folder / "frames").mkdir()
    shutil.copy(folder / "inside.png", folder / "frames" / "1.png")
    return {"folder": folder, "outside": outside}


def hostile_media(places: dict[str, Path]) -> dict[str, MediaItem]:
    """Return all kinds of references to a picture outside the folder, by name."""
    folder, secret = places["folder"], places["outside"] / "secret.png"
    (folder / "link.png").symlink_to(secret)
    (folder / "folder").symlink_to(places["outside"])
    (folder / "frames" / "2.png").symlink_to(secret)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    paths = {
        "absolute": str(secret),
        "parent": "../home/secret.png",
        "inside and out": "frames/../../home/secret.png",
        "link": "link.png",
        "linked folder": "folder/secret.png",
    }
    media = {name: MediaItem(kind="image", path=path) for name, path in paths.items()}
    return media | {
        "frame": MediaItem(kind="frames", path="frames"),
        "frames": MediaItem(kind="frames", path=str(places["outside"])),
    }


def trace_about(item: MediaItem, real: Path) -> Trace:
    """Return a trace with the media item `item` and the recorded data of the picture `real`."""
    question = Question(
        id="q",
        text="Which colour?",
        media=(MediaItem(kind="image", path=str(real)),),
        answer=("red",),
    )
    trace = ask(question, MODEL)
    return trace.model_copy(update={"question": question.model_copy(update={"media": (item,)})})


def test_no_command_shows_or_reads_media_outside_of_the_folder(places):
    folder, secret = places["folder"], places["outside"] / "secret.png"
    for name, item in hostile_media(places).items():
        save_traces([trace_about(item, secret)], folder / "traces.jsonl")
        written = write_run_report([folder], folder.parent / "page.html")
        assert len(written.unshown) == 1, name
        assert WrittenPage(folder.parent / "page.html").files == set(), name
        (trace,) = load_run(folder)
        assert "outside of these folders" in check_traces([trace]).named[0].detail, name
        with pytest.raises(InputError, match="--allow-media"):
            conversation(trace)
        with pytest.raises(InputError, match="--allow-media"):
            export_message_list(folder, folder.parent / "out")


def test_media_in_allowed_folders_are_read(places):
    folder, outside = places["folder"], places["outside"]
    hostile = hostile_media(places)
    for name in ("absolute", "parent", "link", "linked folder"):
        save_traces([trace_about(hostile[name], outside / "secret.png")], folder / "traces.jsonl")
        page = folder.parent / "page.html"
        assert not write_run_report([folder], page, allow_media=[outside]).unshown
        assert WrittenPage(page).files != set()


def test_links_and_parents_within_the_folder_are_read(places):
    folder = places["folder"]
    (folder / "also.png").symlink_to(folder / "inside.png")
    for path in ("inside.png", "also.png", "frames/../inside.png", str(folder / "inside.png")):
        item = MediaItem(kind="image", path=str(folder / path))
        check_access(item.restricted([folder]))


def test_impossible_paths_are_errors_of_the_decoder(places):
    (places["folder"] / "loop.png").symlink_to(places["folder"] / "loop.png")
    for path in ("a\0b", "loop.png", "x" * 5000):
        item = MediaItem(kind="image", path=str(places["folder"] / path))
        save_traces(
            [trace_about(item, places["folder"] / "inside.png")], places["folder"] / "traces.jsonl"
        )
        written = write_run_report([places["folder"]], places["folder"].parent / "page.html")
        assert len(written.unshown) == 1


def test_an_import_drops_and_names_rows_with_pictures_elsewhere(places):
    folder = places["folder"]
    rows = []
    for item in hostile_media(places).values():
        part = {"image": item.path} if item.kind == "image" else {"video": [f"{item.path}/2.png"]}
        user = {"role": "user", "content": [part, {"text": "Which colour?"}]}
        reply = {"role": "assistant", "content": [{"text": r"\boxed{red}"}]}
        rows.append({"message_list": [user, reply]})
    (folder / "data.json").write_text(json.dumps(rows))
    found = list(import_message_list(folder / "data.json"))
    assert all(isinstance(row, SkippedRow) for row in found)
    allowed = list(import_message_list(folder / "data.json", [places["outside"]]))
    assert sum(isinstance(row, Trace) for row in allowed) == 5


def rows_file(places: dict[str, Path]) -> Path:
    hostile = hostile_media(places)
    hostile["fine"] = MediaItem(kind="image", path="inside.png")
    rows = [
        {
            "id": name,
            "media": [{"type": one.kind, "path": one.path}],
            "question": "?",
            "answer": "red",
        }
        for name, one in hostile.items()
    ]
    path = places["folder"] / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_evaluation_drops_and_counts_rows_with_media_elsewhere(places, tmp_path):
    data = rows_file(places).parent
    found = select_questions(get_benchmark("jsonl"), data, tmp_path / "media")
    assert [question.id for question in found.questions] == ["fine"]
    assert {row.reason for row in found.dropped} == {"outside_media"}
    allowed = select_questions(
        get_benchmark("jsonl"), data, tmp_path / "media", allow_media=[places["outside"]]
    )
    assert len(allowed.questions) == 8


def test_an_impossible_file_name_is_a_missing_file(places, tmp_path):
    path = places["folder"] / "rows.jsonl"
    media = [[{"path": "x" * 5000}], [{"path": "a\0b"}], [{"path": "inside.png"}]]
    rows = [
        {"id": str(n), "media": one, "question": "?", "answer": "red"}
        for n, one in enumerate(media)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = select_questions(get_benchmark("jsonl"), path.parent, tmp_path / "media")
    assert [question.id for question in found.questions] == ["2"]
    assert {row.reason for row in found.dropped} == {"missing_file"}


def test_an_imported_row_without_a_picture_is_dropped(tmp_path):
    row = {
        "message_list": [
            {"role": "user", "content": [{"text": "?"}]},
            {"role": "assistant", "content": []},
        ]
    }
    (tmp_path / "data.json").write_text(json.dumps([row]))
    (dropped,) = import_message_list(tmp_path / "data.json")
    assert "no picture" in dropped.detail


def test_synth_drops_and_counts_rows_with_media_elsewhere(places, tmp_path):
    spec = SynthSpec(source="jsonl", data=rows_file(places), out=tmp_path / "run", count=20)
    with pytest.raises(InputError, match=r"dropped: 7 outside_media.*--allow-media"):
        synthesize(spec)
    rows = (tmp_path / "run" / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(row)["reason"] for row in rows].count("outside_media") == 7


def test_output_of_own_commands_is_shown_without_an_option(places, tmp_path):
    secret = places["outside"] / "secret.png"
    question = Question(
        id="q", text="?", media=(MediaItem(kind="image", path=str(secret)),), answer=("red",)
    )
    run = tmp_path / "runs" / "mine"
    evaluate(Evaluation([question], MODEL, RolloutConfig(), {"name": "by hand"}), run)
    assert noted_media_folders(run) == {places["outside"]}
    assert not write_run_report([run], tmp_path / "page.html").unshown
    moved = shutil.copytree(run, tmp_path / "received copy")
    assert len(write_run_report([moved], tmp_path / "page.html").unshown) == 1


def test_no_file_in_a_folder_extends_its_allowed_folders(places):
    folder, outside = places["folder"], places["outside"]
    note = {"run": str(folder), "media_folders": ["/"], "allow_media": ["/"]}
    for name in ("settings.json", "run.json", ".run/manifest.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(note))
    line = trace_about(
        MediaItem(kind="image", path=str(outside / "secret.png")), outside / "secret.png"
    ).to_line()
    (folder / "traces.jsonl").write_text(line + "\n")
    (trace,) = load_run(folder)
    with pytest.raises(InputError, match="outside of these folders"):
        check_access(trace.question.media[0])
    (folder / "traces.jsonl").write_text(
        line.replace('"kind"', '"_allowed_folders":null,"kind"') + "\n"
    )
    with pytest.raises(InputError, match="unknown field"):
        list(load_run(folder))
