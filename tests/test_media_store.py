"""Media store: content is stored once, found by hash, and the least recently used is removed first."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.media.store import MediaRef, MediaStore


@settings(deadline=None, max_examples=25)
@given(st.lists(st.binary(max_size=64), max_size=8))
def test_stored_content_is_returned_and_equal_content_is_stored_once(tmp_path_factory, contents):
    store = MediaStore(tmp_path_factory.mktemp("store"))
    refs = [store.put(content) for content in contents]
    assert [store.get(ref) for ref in refs] == contents
    assert [ref.sha256 for ref in refs] == [hashlib.sha256(c).hexdigest() for c in contents]
    assert len(store) == len(set(contents)) == len(set(refs))
    assert store.num_bytes == sum(map(len, set(contents)))


def test_a_file_keeps_its_suffix_and_its_reference_survives_json(tmp_path):
    (tmp_path / "Photo.PNG").write_bytes(b"pixels")
    store = MediaStore(tmp_path / "store")
    ref = store.put(tmp_path / "Photo.PNG")
    assert store.path(ref).suffix == ".png"
    again = MediaRef.model_validate_json(ref.model_dump_json())
    assert MediaStore(tmp_path / "store").get(again) == b"pixels"


def test_the_least_recently_used_content_is_removed_first(tmp_path):
    store = MediaStore(tmp_path, max_bytes=30)
    first, second, third = (store.put(letter * 10) for letter in (b"a", b"b", b"c"))
    for age, ref in [(1, second), (2, third), (3, first)]:
        os.utime(store.path(ref), (age, age))
    fourth = store.put(b"d" * 10)
    assert [ref in store for ref in (first, second, third, fourth)] == [True, False, True, True]
    assert store.num_bytes == 30
    with pytest.raises(InputError, match="store the file again"):
        store.get(second)


def test_reading_marks_as_used(tmp_path):
    store = MediaStore(tmp_path, max_bytes=20)
    first, second = store.put(b"a" * 10), store.put(b"b" * 10)
    for ref in (first, second):
        os.utime(store.path(ref), (1, 1))
    store.get(first)
    store.put(b"c" * 10)
    assert first in store
    assert second not in store


def test_pinned_content_is_not_removed(tmp_path):
    store = MediaStore(tmp_path, max_bytes=20)
    first = store.put(b"a" * 10)
    with store.pin(first) as path:
        os.utime(path, (1, 1))
        store.put(b"b" * 10), store.put(b"c" * 10)
        assert path.read_bytes() == b"a" * 10
    assert store.num_bytes <= 20


def test_content_larger_than_the_store_is_refused_and_leaves_nothing(tmp_path):
    store = MediaStore(tmp_path / "store", max_bytes=10)
    (tmp_path / "large").write_bytes(b"a" * 11)
    with pytest.raises(InputError, match="at most 10 bytes"):
        store.put(tmp_path / "large")
    with pytest.raises(InputError, match="No such file"):
        store.put(tmp_path / "missing")
    assert list((tmp_path / "store").iterdir()) == []


def test_an_unwritable_store_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        MediaStore(tmp_path / "file")


def test_several_threads_store_the_same_content_once(tmp_path):
    store = MediaStore(tmp_path)
    contents = [bytes([n % 5]) * 1000 for n in range(100)]
    with ThreadPoolExecutor(8) as threads:
        refs = list(threads.map(store.put, contents))
    assert len(set(refs)) == len(store) == 5
    assert store.num_bytes == 5000
    assert all(store.get(ref) == content for ref, content in zip(refs, contents, strict=True))


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    for name, age in [("old.part", 1), ("new.part", None)]:
        (tmp_path / name).touch()
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    MediaStore(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new.part"]
