"""Photos are read as the same pixels, whichever decoder reads them; damaged files are one error."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.images import open_image
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.inspection import reading
from pixel_reasoner.workflows.inspection.reading import read_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif.tobytes()}


def gamma():
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100000))
    return {"pnginfo": info}


FILES = {
    "plain": ("RGB", {}),
    "with text": ("RGB", {"dpi": (300, 300)}),
    "turned": ("RGB", turned()),
    "gamma": ("RGB", gamma()),
    "clear": ("RGBA", {}),
    "grey": ("L", {}),
    "palette": ("P", {}),
    "transparent colour": ("RGB", {"transparency": (1, 2, 3)}),
}


@pytest.mark.parametrize("name", FILES)
def test_both_decoders_give_the_same_pixels(tmp_path, monkeypatch, name):
    mode, options = FILES[name]
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).convert(mode).save(path, **options)
    slow = []
    monkeypatch.setattr(reading, "open_image", lambda *a: slow.append(1) or open_image(*a))
    found = read_rgb(path)
    assert np.array_equal(found, np.asarray(open_image(path, MediaLimits())))
    assert bool(slow) == (name not in ("plain", "with text"))


def damaged(content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[: len(content) // 2]
    if how == "without an end":
        return content[:-12]
    if how == "a changed byte":
        return content[:500] + bytes([content[500] ^ 1]) + content[501:]
    start = content.index(b"IDAT")
    length = struct.unpack_from(">I", content, start - 4)[0]
    half = content[start : start + 4 + length // 2]  # too few pixels, and a right checksum
    chunk = struct.pack(">I", length // 2) + half + struct.pack(">I", zlib.crc32(half))
    return content[: start - 4] + chunk + content[start + 8 + length :]


@pytest.mark.parametrize("how", ["cut", "without an end", "a changed byte", "too few pixels"])
def test_a_damaged_file_is_an_input_error(tmp_path, how):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(damaged(path.read_bytes(), how))
    try:
        expected = np.asarray(open_image(path, MediaLimits()))
    except InputError:
        with pytest.raises(InputError):
            read_rgb(path)
    else:
        assert np.array_equal(read_rgb(path), expected), "Pillow reads it"
        assert how == "without an end"


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(reading, "MediaLimits", lambda: MediaLimits(max_px=100))
    with pytest.raises(InputError, match="pixels"):
        read_rgb(path)
