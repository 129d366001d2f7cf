"""What was read from a file is kept until the file changes or others need the room."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from pixel_reasoner.media.file_cache import FileCache


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    return path


def test_an_unchanged_file_is_read_once_for_each_setting(path):
    cache, reads = FileCache[bytes](100, len), []

    def read():
        reads.append(1)
        return path.read_bytes()

    assert [cache.get(path, setting, read) for setting in (1, 1, 2, 1)] == [b"1"] * 4
    assert len(reads) == 2
    path.write_bytes(b"22")
    assert cache.get(path, 1, read) == b"22"
    cache.clear()
    assert cache.get(path, 1, read) == b"22"
    assert len(reads) == 4


def test_threads_wait_for_the_first_reader(path):
    cache, reads, barrier = FileCache[bytes](100, len), [], Barrier(8)

    def get(_):
        barrier.wait()
        return cache.get(path, None, lambda: reads.append(1) or path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(get, range(8))) == [b"1"] * 8
    assert len(reads) == 1


def test_an_error_is_not_kept(path):
    cache = FileCache[bytes](100, len)
    with pytest.raises(ValueError, match="damaged"):
        cache.get(path, None, _damaged)
    assert cache.get(path, None, path.read_bytes) == b"1"


def _damaged():
    raise ValueError("damaged")


def test_the_oldest_results_make_room(tmp_path):
    cache, reads = FileCache[bytes](10, len), []

    def get(name, size):
        path = tmp_path / name
        if not path.exists():
            path.write_bytes(bytes(size))
        return cache.get(path, None, lambda: reads.append(name) or path.read_bytes())

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name, 4)
    assert reads == ["a", "b", "c", "b"], "c replaces b, which was used before a"
    get("large", 11)
    get("large", 11)
    assert reads[-2:] == ["large", "large"]
