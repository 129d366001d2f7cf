"""Files: atomic writes, and errors that name the path."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from conftest import full_disk
from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.files import atomic_writer, file_name, numbered_lines, write_bytes, write_json


def write_text(content, path):
    with atomic_writer(path) as file:
        file.write(str(content))


WRITERS = {
    "text": write_text,
    "json": write_json,
    "bytes": lambda content, path: write_bytes(str(content).encode(), path),
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


# --- reading ---


def test_numbered_lines_keep_the_line_numbers_of_the_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("one\n\n  \nfour é\nfive", encoding="utf-8")
    assert list(numbered_lines(path, "it")) == [(1, "one\n"), (4, "four é\n"), (5, "five")]


def test_an_unreadable_file_is_an_input_error_with_its_name(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9\n")
    for name in ("missing.jsonl", "latin.jsonl", "."):
        with pytest.raises(InputError, match="give a questions file") as error:
            list(numbered_lines(tmp_path / name, "a questions file"))
        assert str(tmp_path / name) in str(error.value)


# --- writing ---


@every_writer
def test_a_write_creates_the_folder_and_leaves_no_temporary_file(write, tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    write(12, path)
    assert path.read_text().strip() == "12"
    assert list(path.parent.iterdir()) == [path]


@every_writer
def test_a_file_is_replaced_atomically(write, tmp_path):
    for content in (11111, 2):
        write(content, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text().strip() == "2"


@every_writer
def test_a_full_disk_is_an_output_error_that_keeps_the_old_file(write, tmp_path):
    path = tmp_path / "a.json"
    write("old", path)
    before = path.read_bytes()
    with full_disk(1000), pytest.raises(OutputError, match=r"a\.json"):
        write("new " * 100_000, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@every_writer
def test_an_unwritable_path_is_an_output_error(write, tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    for name in ("file/a.json", "folder"):
        with pytest.raises(OutputError, match=name):
            write(1, tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_while_writing_is_raised_and_leaves_no_file(error, tmp_path):
    def failing_content():
        yield "half"
        raise error

    with pytest.raises(type(error)), atomic_writer(tmp_path / "a.json") as file:
        file.writelines(failing_content())
    assert list(tmp_path.iterdir()) == []


def test_an_os_error_while_writing_becomes_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="gone"), atomic_writer(tmp_path / "a.json"):
        raise OSError(5, "gone")
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_with_line_breaks_and_unicode(tmp_path):
    value = {"name": "é", "list": [1, None, True]}
    write_json(value, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "é" in text
    assert text.endswith("}\n")


# --- untrusted names ---

NAMES = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=300),
    st.text("./\\~-aA é\x00", max_size=12),
    st.sampled_from(["..", ".", "", "CON", "nul.txt", "/etc/passwd", "a" * 400, "C:\\x", "-rf"]),
)


@given(NAMES)
def test_every_name_becomes_a_file_inside_the_folder(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names")
    made = file_name(name)
    (folder / made).write_text("x")
    assert [path.name for path in folder.iterdir()] == [made]
    assert file_name(made) == made or "~" in made
    assert not made.startswith(".")


@given(NAMES, NAMES)
def test_different_names_have_different_files(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)


def test_a_valid_file_name_is_not_changed():
    for name in ("attribute-1000000-letter-1", "7", "sa_1.b", "Größe", "图一"):
        assert file_name(name) == name


def test_a_name_cannot_collide_with_the_file_of_another_name():
    assert file_name(file_name("../a")) != file_name("../a")
