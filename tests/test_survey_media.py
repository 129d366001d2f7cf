"""Media of a survey: every kind is divided into units with stable ids, and what cannot be used is one unit with an error."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
import zipfile
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from document_files import write_heic, write_locked_pdf, write_pdf
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.workflows.survey.media_tables import table_rows
from pixel_reasoner.workflows.survey.media_units import (
    MediaUnit,
    UnitOptions,
    check_sources,
    read_units,
    unique_units,
)
from pixel_reasoner.workflows.survey.shots import clip_windows
from pixel_reasoner.workflows.survey.watch import watched_units
from pixel_reasoner.world import encode_clip

pytest.importorskip("pypdfium2")
pytest.importorskip("pi_heif")


def picture(path: Path, colour="red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), colour).save(path)
    return path


def units(*sources: object, **options) -> list[MediaUnit]:
    return list(read_units(map(str, sources), UnitOptions(**options)))


def ids(folder: Path, found: list[MediaUnit]) -> list[str]:
    return [unit.id.removeprefix(f"{folder}/") for unit in found]


# --- files and folders ---


def test_a_folder_is_read_in_natural_order_without_hidden_and_other_files(tmp_path):
    for name in ("b/2.png", "b/10.jpg", "a.webp", ".hidden/x.png", ".y.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no")
    assert ids(tmp_path, units(tmp_path)) == ["a.webp", "b/2.png", "b/10.jpg"]
    assert ids(tmp_path, units(tmp_path, skip=(tmp_path / "b",))) == ["a.webp"]


def test_a_link_to_the_parent_folder_is_not_followed(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert ids(tmp_path, units(tmp_path)) == ["a.png"]


def test_a_glob_matches_files_in_subfolders(tmp_path):
    picture(tmp_path / "x/1.png")
    picture(tmp_path / "x/y/2.png")
    assert ids(tmp_path, units(tmp_path / "**/*.png")) == ["x/1.png", "x/y/2.png"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    picture(tmp_path / "a[1].png")
    assert ids(tmp_path, units(tmp_path / "a[1].png")) == ["a[1].png"]


def test_what_is_missing_or_empty_is_one_unit_with_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "a.png")
    found = units(tmp_path / "empty", tmp_path / "no.png", tmp_path / "*.gif", tmp_path / "a.png")
    assert [bool(unit.error) for unit in found] == [True, True, True, False]
    assert "expected a folder with pictures" in found[0].error


def test_a_source_that_does_not_exist_is_an_error_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="expected an existing file or folder"):
        check_sources([tmp_path / "no"])
    with pytest.raises(UsageError, match="name at least one"):
        check_sources([])


def test_a_repeated_medium_is_an_error_with_another_id(tmp_path):
    path = picture(tmp_path / "a.png")
    found = units(tmp_path, path, path)
    assert ids(tmp_path, found) == ["a.png", "a.png#duplicate=2", "a.png#duplicate=3"]
    assert [bool(one.error) for one in found] == [False, True, True]


@given(st.lists(st.sampled_from("abc"), max_size=20))
def test_units_have_unique_ids_and_none_is_lost(names):
    found = list(unique_units([MediaUnit(name) for name in names]))
    assert len({unit.id for unit in found}) == len(found) == len(names)
    assert sum(unit.error is None for unit in found) == len(set(names))


# --- pages ---


def test_pages_of_documents_and_tiffs_are_units(tmp_path):
    write_pdf(tmp_path / "a.pdf", 2)
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "c.tif")
    write_heic(tmp_path / "d.heic")
    found = units(tmp_path)
    expected = ["a.pdf#page=1", "a.pdf#page=2", "b.tif#page=1", "b.tif#page=2", "c.tif", "d.heic"]
    assert ids(tmp_path, found) == expected
    assert [one.page for one in found] == [1, 2, 1, 2, None, None]
    assert found[1].items[0].page == 2


def test_a_document_of_ten_thousand_pages_is_read_page_by_page(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", 10_000)
    first = list(islice(read_units([path], UnitOptions(max_pages=10_000)), 3))
    assert [unit.page for unit in first] == [1, 2, 3]
    found = units(path, max_pages=2)
    assert [unit.page for unit in found[:2]] == [1, 2]
    assert found[2].id.endswith("a.pdf#page=3-10000")
    assert "got 10,000 in" in found[2].error
    assert "--max-pages" in found[2].error


def test_a_document_with_a_password_or_damage_is_one_unit_with_an_error(tmp_path):
    write_locked_pdf(tmp_path / "a.pdf")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 cut off")
    (tmp_path / "c.tif").write_bytes(b"II*\0" + b"\0" * 8)
    picture(tmp_path / "d.png")
    found = units(tmp_path)
    assert ids(tmp_path, found) == ["a.pdf", "b.pdf", "c.tif", "d.png"]
    assert [bool(one.error) for one in found] == [True, True, True, False]
    assert "password" in found[0].error


# --- clips ---


def two_shots(path: Path) -> Path:
    """Write a clip of 4 s at 8 frames per second with a cut at 2 s."""
    frames = [Image.new("RGB", (96, 64), "white" if n < 16 else "black") for n in range(32)]
    for number, frame in enumerate(frames):
        frame.paste("red", (number, 10, number + 20, 40))
    path.write_bytes(encode_clip(frames))
    return path


def test_windows_of_a_clip_cover_it_without_gaps(tmp_path):
    path = two_shots(tmp_path / "a.mp4")
    (whole,) = units(path)
    assert (whole.window, whole.items[0].kind) == (None, "video")
    found = units(path, every_s=Fraction(3, 2))
    assert ids(tmp_path, found) == ["a.mp4#t=0,1.5", "a.mp4#t=1.5,3", "a.mp4#t=3,4"]
    assert (found[1].items[0].start_s, found[1].items[0].end_s) == (1.5, 3.0)


@given(st.floats(0.001, 100), st.fractions(min_value=Fraction(1, 4), max_value=50))
def test_windows_of_any_length_cover_the_clip(duration_s, every_s):
    found = list(islice(clip_windows(duration_s, every_s), 20_000))
    assert found[0][0] == 0
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert float(found[-1][1]) == pytest.approx(duration_s, abs=1e-5)


def test_shots_are_found_at_the_cut(tmp_path):
    pytest.importorskip("scenedetect")
    found = units(two_shots(tmp_path / "a.mp4"), shots=True)
    assert [unit.window for unit in found] == [(0, 2), (2, 4)]


def test_a_broken_clip_is_one_unit_with_an_error(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(two_shots(tmp_path / "b.mp4").read_bytes()[:900])
    for options in ({"every_s": Fraction(1)}, {"shots": True}):
        (unit,) = units(path, **options)
        assert unit.error.startswith("expected a whole video file")


@pytest.mark.parametrize(
    "options", [{"every_s": Fraction(0)}, {"every_s": Fraction(1), "shots": True}, {"max_pages": 0}]
)
def test_options_that_do_not_fit_are_errors(options):
    with pytest.raises(UsageError):
        UnitOptions(**options)


# --- zip files ---


def test_media_of_a_zip_file_are_units(tmp_path):
    source = picture(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(source, "x/1.png")
        archive.write(write_pdf(tmp_path / "d.pdf", 2), "d.pdf")
        archive.writestr("__MACOSX/x/._1.png", b"")
        archive.writestr("notes.txt", b"no")
    found = units(tmp_path / "a.zip", store=MediaStore(tmp_path / "store"))
    assert ids(tmp_path, found) == ["a.zip/x/1.png", "a.zip/d.pdf#page=1", "a.zip/d.pdf#page=2"]
    assert Path(found[0].items[0].path).read_bytes() == source.read_bytes()
    assert Path(found[0].items[0].path).is_relative_to(tmp_path / "store")


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "x/../../a.png", "..\\a.png", "C:/a.png"]
)
def test_a_path_out_of_a_zip_file_is_one_error_and_writes_nothing(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, picture(tmp_path / "ok.png").read_bytes())
        archive.write(tmp_path / "ok.png", "ok.png")
    found = units(tmp_path / "a.zip", store=MediaStore(tmp_path / "store"))
    assert [bool(one.error) for one in found] == [True, False]
    assert "leaves it" in found[0].error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "ok.png", "store"]


def test_a_zip_bomb_is_one_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(20_000_000))
        archive.write(picture(tmp_path / "ok.png"), "ok.png")
    found = units(tmp_path / "a.zip", store=MediaStore(tmp_path / "store"))
    assert [bool(one.error) for one in found] == [True, False]
    assert "zip bomb" in found[0].error


def test_a_file_larger_than_the_zip_file_states_is_an_error(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1000))
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + offset
        content[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(content)
    (found,) = units(path, store=MediaStore(tmp_path / "store"))
    assert found.error


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"junk" * 100])
def test_a_broken_zip_file_is_one_unit_with_an_error(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    (found,) = units(tmp_path / "a.zip", store=MediaStore(tmp_path / "store"))
    assert "expected a zip file" in found.error


# --- tables ---


def write_table(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        cell = "\t" if path.suffix == ".tsv" else ","
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join(cell.join(map(str, line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_rows_of_every_kind_of_table_keep_their_columns(tmp_path, suffix):
    picture(tmp_path / "a.png")
    write_pdf(tmp_path / "b.pdf", 2)
    rows = [
        {"id": "part 7", "file": "a.png", "line": "left"},
        {"id": "8", "file": "b.pdf", "line": "right"},
        {"id": "9", "file": "no.png", "line": "left"},
        {"id": "10", "file": "", "line": "left"},
        {"id": "8", "file": "a.png", "line": "again"},
    ]
    found = units(write_table(tmp_path / f"t.{suffix}", rows))
    expected = ["part 7", "8#page=1", "8#page=2", "9", "10", "8"]
    assert [unit.id for unit in found] == expected
    assert [dict(unit.data) for unit in found[:2]] == [{"line": "left"}, {"line": "right"}]
    assert [bool(unit.error) for unit in found] == [False, False, False, True, True, False]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_missing_column_is_one_error_that_lists_the_columns(tmp_path, suffix):
    path = write_table(tmp_path / f"t.{suffix}", [{"where": "a.png", "line": "1"}])
    (found,) = units(path)
    assert "with where, line. Fix: name the column with --column" in found.error
    picture(tmp_path / "a.png")
    (found,) = units(path, column="where")
    assert found.error is None


def test_a_table_names_media_outside_of_its_folder_only_if_they_are_allowed(tmp_path):
    picture(tmp_path / "other/a.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/link.png").symlink_to(tmp_path / "other/a.png")
    names = ("../other/a.png", str(tmp_path / "other/a.png"), "link.png")
    table = write_table(tmp_path / "mine/t.jsonl", [{"path": name} for name in names])
    assert ["outside of these folders" in one.error for one in units(table)] == [True] * 3
    allowed = units(table, allow_media=(tmp_path / "other",))
    assert [one.error for one in allowed] == [None] * 3


def test_broken_lines_of_a_table_are_errors_and_the_rest_goes_on(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,n\na.png,1\na.png\na.png,2\n")
    assert [row.error is None for row in table_rows(tmp_path / "t.csv")] == [True, False, True]
    (tmp_path / "t.jsonl").write_text('{"path": "a.png"}\n{"path"\n[1]\n{"path": "a.png"}\n')
    found = list(table_rows(tmp_path / "t.jsonl"))
    assert [row.error is None for row in found] == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"path\n\xff\xfe\n"),
        ("t.parquet", b"junk"),
        ("t.csv", b""),
        ("t.csv", b'path\n"a'),
    ],
)
def test_a_broken_table_is_one_unit_with_an_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert units(tmp_path / name)[-1].error


@given(st.binary(max_size=300))
def test_any_bytes_as_a_table_give_rows_or_an_input_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("table")
    for name in ("t.csv", "t.jsonl"):
        (folder / name).write_bytes(content)
        found = units(folder / name)
        assert all(unit.error or unit.items for unit in found)


# --- a watched folder ---


def until(stream, wanted: int, timeout_s: float = 30.0) -> list[MediaUnit]:
    """Return the next units of a watched folder."""
    found: list[MediaUnit] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < wanted:
        assert time.monotonic() < deadline, found
        unit = next(stream)
        if unit is None:
            time.sleep(0.005)
        else:
            found.append(unit)
    return found


def watched(folder: Path, messages: list[str] | None = None):
    said = messages if messages is not None else []
    return watched_units(folder, UnitOptions(), said.append, settle_s=0.1, poll_s=0.02)


def test_files_of_a_watched_folder_are_units_once(tmp_path):
    old = picture(tmp_path / "a.png")
    os.utime(old, (1, 1))
    stream = watched(tmp_path)
    assert ids(tmp_path, until(stream, 1)) == ["a.png"]
    picture(tmp_path / "sub/b.png")
    write_pdf(tmp_path / "c.pdf", 2)
    assert ids(tmp_path, until(stream, 3)) == ["c.pdf#page=1", "c.pdf#page=2", "sub/b.png"]
    picture(old, "blue")
    assert [next(stream) for _ in range(3)] == [None] * 3


def test_a_file_that_is_still_written_is_waited_for(tmp_path):
    content = picture(tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").unlink()
    target = tmp_path / "a.png"

    def write_slowly():
        with target.open("wb") as file:
            for byte in content:
                file.write(bytes([byte]))
                file.flush()
                time.sleep(0.004)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    (unit,) = until(watched(tmp_path), 1)
    assert not writer.is_alive()
    assert Path(unit.path).read_bytes() == content
    writer.join()


def test_a_watched_folder_that_disappears_is_waited_for(tmp_path):
    folder, messages = tmp_path / "camera", []
    stream = watched(folder, messages)
    assert next(stream) is None
    assert messages == [f"{folder} is missing: waiting until it is back"]
    picture(folder / "a.png")
    assert ids(folder, until(stream, 1)) == ["a.png"]
    folder.rename(tmp_path / "away")
    while len(messages) < 3:
        assert next(stream) is None
        time.sleep(0.005)
    (tmp_path / "away").rename(folder)
    picture(folder / "b.png")
    assert ids(folder, until(stream, 1)) == ["b.png"]
    assert messages[1:] == [
        f"{folder} is back",
        f"{folder} is missing: waiting until it is back",
        f"{folder} is back",
    ]
