"""GCS, Azure and the hub by their local stand-ins: one contract, that S3 keeps too (`test_media_cloud`)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from object_stores import STORES, LocalStore, missing
from pixel_reasoner.errors import InputError, StorageError
from pixel_reasoner.media import object_cache
from pixel_reasoner.media.object_store import ObjectStore
from pixel_reasoner.media.pixels import OpenMedia, SourceKey
from pixel_reasoner.schema.media_url import allow_media_urls
from pixel_reasoner.schema.question import MediaItem

pytest.importorskip("fsspec", reason="needs fsspec")


@pytest.fixture(params=STORES)
def store(request, monkeypatch, tmp_path) -> Iterator[LocalStore]:
    if why := missing(request.param):
        pytest.skip(why)
    if request.param == "hf":
        from huggingface_hub import constants
    one = STORES[request.param]()
    for name, value in one.environment.items():
        monkeypatch.setenv(name, value)
    if request.param == "hf":  # the package reads its variables when it is imported
        monkeypatch.setattr(constants, "ENDPOINT", one.environment["HF_ENDPOINT"])
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(
            "https://huggingface.co", one.environment["HF_ENDPOINT"]
        )
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv(object_cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    import fsspec

    fsspec.filesystem(request.param).clear_instance_cache()
    yield one
    one.kill()


@pytest.fixture
def reader(monkeypatch) -> ObjectStore:
    from pixel_reasoner.media import object_store

    one = ObjectStore()
    for module in (object_store, object_cache):
        if hasattr(module, "OBJECTS"):
            monkeypatch.setattr(module, "OBJECTS", one)
    return one


def test_ranges_are_read_without_the_bytes_around_them(store, reader):
    content = bytes(range(256)) * 4000
    store.put("videos/a.bin", content)
    found = reader.find(f"{store.root}videos/a.bin")
    assert found.num_bytes == len(content)
    assert b"".join(reader.parts(found, 500_000, 500_100)) == content[500_000:500_100]
    assert reader.num_bytes_read == 100
    assert b"".join(reader.parts(found)) == content


def test_a_changed_object_has_another_version_also_after_it_was_listed(store, reader):
    store.put("images/a.bin", b"0123456789")
    url = f"{store.root}images/a.bin"
    before = reader.find(url)
    assert reader.check_version(before)
    assert reader.names(f"{store.root}images/") == [url]
    store.put("images/a.bin", b"abcdefghij")
    assert not reader.check_version(before)
    assert b"".join(reader.parts(reader.find(url))) == b"abcdefghij"


def test_a_missing_object_and_a_missing_bucket_are_told_apart(store, reader):
    store.put("images/a.bin", b"0")
    with pytest.raises(InputError, match=r"images/none\.png: no such object"):
        reader.find(f"{store.root}images/none.png")
    with pytest.raises(StorageError, match="no such bucket"):
        reader.find(f"{store.missing_bucket}a.png")
    assert reader.find(f"{store.root}images/a.bin").num_bytes == 1, "other buckets are still read"


def test_a_picture_is_that_of_its_file(store, reader, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    store.put("images/a.png", path.read_bytes())
    url = f"{store.root}images/a.png"
    with allow_media_urls(store.root):
        one = OpenMedia([MediaItem(kind="image", path=url)]).image(SourceKey(0))
    assert (np.asarray(one) == pixels).all()


@pytest.mark.medium
def test_a_store_that_does_not_answer_is_an_error_within_30_s(store, reader):
    store.put("images/a.bin", b"0")
    url = f"{store.root}images/a.bin"
    reader.find(url)
    store.kill()
    started = time.monotonic()
    with pytest.raises(StorageError, match="no answer"):
        reader.find(url)
    assert time.monotonic() - started < 30
